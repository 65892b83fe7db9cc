//! A transport as hyper reads and writes it.
//!
//! hyper hands out memory that was never written, in steps that grow with what comes. To read into it without `unsafe`, it
//! would have to be zeroed first: all of it at each poll, also where nothing has come. So a read goes to a buffer of the
//! thread's own, which stays in the processor's cache, and what has come is copied.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_lite::io::{AsyncRead, AsyncWrite};
use hyper::rt::{Read, ReadBufCursor, Write};

/// The most of one read. hyper reads again while more is there.
const READ_AT_ONCE: usize = 64 * 1024;

thread_local! {
    /// Taken out while it is read into: a transport may come back here through another connection. Empty before the first read.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

pub(super) struct HyperIo<T>(T);

impl<T> HyperIo<T> {
    pub(super) fn new(transport: T) -> Self {
        Self(transport)
    }

    pub(super) fn into_inner(self) -> T {
        self.0
    }
}

impl<T: AsyncRead + Unpin> Read for HyperIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = BUFFER.take();
        buffer.resize(READ_AT_ONCE, 0);
        let room = buffer.len().min(to.remaining());
        let read = Pin::new(&mut self.0).poll_read(cx, buffer.get_mut(..room).unwrap_or_default());
        if let Poll::Ready(Ok(count)) = &read {
            to.put_slice(buffer.get(..*count).unwrap_or_default());
        }
        BUFFER.set(buffer);
        Poll::Ready(ready!(read).map(drop))
    }
}

impl<T: AsyncWrite + Unpin> Write for HyperIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
