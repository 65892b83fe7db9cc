//! Shoutcast's greeting. Old radio servers begin their response with `ICY 200 OK` in place of an HTTP version.
//!
//! What follows is an HTTP/1.0 response whose body ends with the connection. So the parser is given `HTTP/1.0 200 OK`. Only
//! the first line of a connection's first response is changed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_lite::io::{AsyncRead, AsyncWrite};

const THEIRS: &[u8; 4] = b"ICY ";
const OURS: &[u8; 9] = b"HTTP/1.0 ";
const LONGER: usize = OURS.len() - THEIRS.len();

/// A socket whose server may begin with Shoutcast's greeting.
#[derive(Debug)]
pub(super) struct Icy<S> {
    inner: S,
    /// The part of the greeting that has come. `None` once the first four bytes are known.
    greeting: Option<Greeting>,
}

#[derive(Debug, Default)]
struct Greeting {
    bytes: [u8; THEIRS.len()],
    count: usize,
}

impl<S> Icy<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            greeting: Some(Greeting::default()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Icy<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { inner, greeting } = &mut *self;
        // hyper's first read has room for kilobytes. A buffer too small to lengthen the greeting in is left alone.
        let Some(begun) = greeting.as_mut().filter(|_| buf.len() >= 64) else {
            return Pin::new(inner).poll_read(cx, buf);
        };
        loop {
            // The bytes that have come already are put in front. The end of the buffer stays free: the changed line is
            // longer.
            let room = buf.len() - LONGER;
            let count = begun.count;
            if let (Some(front), Some(seen)) = (buf.get_mut(..count), begun.bytes.get(..count)) {
                front.copy_from_slice(seen);
            }
            let part = buf.get_mut(count..room).unwrap_or_default();
            let more = ready!(Pin::new(&mut *inner).poll_read(cx, part))?;
            let total = count + more;
            let seen = buf.get(..total).unwrap_or_default();
            // It may be the greeting still. Its start is kept here: given to the parser it could not be taken back.
            if more > 0 && total < THEIRS.len() && THEIRS.starts_with(seen) {
                if let Some(kept) = begun.bytes.get_mut(..total) {
                    kept.copy_from_slice(seen);
                }
                begun.count = total;
                continue;
            }
            // Decided. From here on the reader is looked at no more, and costs one comparison a read.
            let is_icy = seen.starts_with(THEIRS);
            *greeting = None;
            if !is_icy {
                return Poll::Ready(Ok(total));
            }
            // The rest first: it moves over the place that the longer greeting takes.
            buf.copy_within(THEIRS.len()..total, OURS.len());
            if let Some(front) = buf.get_mut(..OURS.len()) {
                front.copy_from_slice(OURS);
            }
            return Poll::Ready(Ok(total + LONGER));
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Icy<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_lite::AsyncReadExt as _;
    use futures_lite::future::block_on;

    use super::*;

    /// Gives one piece at each read, and none now and then.
    struct Pieces {
        pieces: VecDeque<Vec<u8>>,
        pause: bool,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.pause = !self.pause;
            if self.pause {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(mut piece) = self.pieces.pop_front() else {
                return Poll::Ready(Ok(0));
            };
            let count = piece.len().min(buf.len());
            buf[..count].copy_from_slice(&piece[..count]);
            if count < piece.len() {
                self.pieces.push_front(piece.split_off(count));
            }
            Poll::Ready(Ok(count))
        }
    }

    fn read(text: &str, piece: usize) -> String {
        let pieces = text.as_bytes().chunks(piece).map(<[u8]>::to_vec).collect();
        let mut icy = Icy::new(Pieces { pieces, pause: false });
        let mut all = Vec::new();
        block_on(async {
            let mut buffer = [0; 64];
            loop {
                match icy.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => all.extend_from_slice(&buffer[..count]),
                }
            }
        });
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn the_greeting_becomes_http_however_it_comes() {
        let rest =
            "200 OK\r\nicy-name: a\r\n\r\nICY and more than one buffer holds, to the end of the connection";
        for piece in [1, 2, 3, 4, 5, 7, 59, 60, 64, 1000] {
            assert_eq!(read(&format!("ICY {rest}"), piece), format!("HTTP/1.0 {rest}"));
            for plain in ["HTTP/1.1 200 OK\r\n\r\nICY ", "ICE 200", "IC", "I", "ICYCLE", ""] {
                assert_eq!(read(plain, piece), plain);
            }
        }
    }
}
