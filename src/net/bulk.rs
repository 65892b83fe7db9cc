//! The bulk reader: reads the rest of a long body of known length from the socket itself, without hyper.
//!
//! hyper reads into a buffer of its own, and allocates a new one while a chunk of the old one is alive. A consumer that
//! keeps chunks for a moment, to write several at once, makes hyper read into memory that is new, cold and zeroed each
//! time. The bulk reader's buffers belong to the body and are reused.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_lite::io::AsyncRead;

use self::buffers::Buffers;

mod buffers;

/// Bodies with at least so many bytes to come are read in bulk. For fewer, the hand-over costs more than it saves.
pub(super) const MIN_LEN: u64 = 1024 * 1024;

/// The largest chunk.
const MAX_CHUNK: usize = 512 * 1024;

/// The first chunk. Each full chunk doubles the next one, so that a consumer of a few bytes does not wait for many.
const FIRST_CHUNK: usize = 32 * 1024;

/// The rest of a body, and the socket it comes from. No byte behind the body's end is read from the socket.
pub(super) struct BulkReader<S> {
    socket: S,
    /// What hyper had read already: bytes of this body, and perhaps bytes behind its end.
    front: Bytes,
    buffers: Arc<Buffers>,
    /// The buffer that is filled next.
    buffer: Option<Box<[u8]>>,
    chunk_len: usize,
    /// The failure that ended the last read, behind bytes that are given out first.
    failure: Option<io::Error>,
}

impl<S: AsyncRead + Unpin> BulkReader<S> {
    pub(super) fn new(socket: S, front: Bytes) -> Self {
        Self {
            socket,
            front,
            buffers: Buffers::new(MAX_CHUNK),
            buffer: None,
            chunk_len: FIRST_CHUNK,
            failure: None,
        }
    }

    /// The next chunk: all bytes that are there, up to the chunk length. `left` bytes of the body are to come, at least 1.
    pub(super) fn poll_chunk(&mut self, left: u64, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if !self.front.is_empty() {
            return Poll::Ready(Ok(self.front.split_to(left.min(self.front.len()))));
        }
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Err(failure));
        }
        // Never beyond the body: a byte of the next response could not be put back into the socket.
        let goal = left.min(self.chunk_len);
        let mut buffer = self.buffer.take().unwrap_or_else(|| self.buffers.take());
        let mut filled = 0;
        while filled < goal {
            let room = buffer.get_mut(filled..goal).unwrap_or_default();
            match Pin::new(&mut self.socket).poll_read(cx, room) {
                // The length says that there is more, so a close is no end.
                Poll::Ready(Ok(0)) => {
                    let cut = "end of file before message length reached";
                    self.failure = Some(io::Error::new(io::ErrorKind::UnexpectedEof, cut));
                    break;
                }
                Poll::Ready(Ok(count)) => filled += count,
                Poll::Ready(Err(error)) => {
                    self.failure = Some(error);
                    break;
                }
                // The socket has the waker. If bytes came before, they go out and the next poll registers anew.
                Poll::Pending => break,
            }
        }
        // Bytes that came before a failure are right. They go out first, the failure with the next poll.
        if filled > 0 {
            return Poll::Ready(Ok(self.give_out(buffer, filled)));
        }
        self.buffer = Some(buffer);
        match self.failure.take() {
            Some(failure) => Poll::Ready(Err(failure)),
            None => Poll::Pending,
        }
    }

    fn give_out(&mut self, buffer: Box<[u8]>, filled: usize) -> Bytes {
        // A buffer that was filled at once says that the link is faster than the consumer: longer reads cost fewer calls. A
        // slow link keeps its short ones, so that no byte waits for others.
        if filled == self.chunk_len {
            self.chunk_len = MAX_CHUNK.min(2 * self.chunk_len);
        }
        if filled >= MAX_CHUNK / 2 {
            return self.buffers.give_out(buffer, filled);
        }
        // Few bytes are copied. Otherwise a consumer that keeps them would keep a whole buffer alive.
        let copy = Bytes::copy_from_slice(buffer.get(..filled).unwrap_or_default());
        self.buffer = Some(buffer);
        copy
    }

    /// The socket, for the next request, once the body's last byte was given out. None if hyper had read bytes behind the
    /// body's end: they answer no request.
    pub(super) fn into_socket(self) -> Option<S> {
        self.front.is_empty().then_some(self.socket)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    /// What a read meets; bytes that it has no room for are left for the next one.
    enum Read {
        Bytes(Vec<u8>),
        Nothing,
        Reset,
    }

    /// Ends after the last of them.
    struct Script(VecDeque<Read>);

    impl AsyncRead for Script {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            match self.0.pop_front() {
                None => Poll::Ready(Ok(0)),
                Some(Read::Nothing) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(Read::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Some(Read::Bytes(mut bytes)) => {
                    let count = bytes.len().min(buf.len());
                    buf[..count].copy_from_slice(&bytes[..count]);
                    if count < bytes.len() {
                        self.0.push_front(Read::Bytes(bytes.split_off(count)));
                    }
                    Poll::Ready(Ok(count))
                }
            }
        }
    }

    /// Bytes that differ from their neighbours, whatever the length of a chunk.
    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    fn bulk(front: &[u8], reads: impl IntoIterator<Item = Read>) -> BulkReader<Script> {
        let script = Script(reads.into_iter().collect());
        BulkReader::new(script, Bytes::copy_from_slice(front))
    }

    async fn next(bulk: &mut BulkReader<Script>, left: usize) -> io::Result<Bytes> {
        std::future::poll_fn(|cx| bulk.poll_chunk(left as u64, cx)).await
    }

    /// All of `len` bytes, or those before the error.
    fn read(bulk: &mut BulkReader<Script>, len: usize) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut bytes = Vec::new();
        block_on(async {
            while bytes.len() < len {
                match next(bulk, len - bytes.len()).await {
                    Ok(chunk) => {
                        assert!(!chunk.is_empty());
                        bytes.extend_from_slice(&chunk);
                    }
                    Err(error) => return (bytes, Some(error.kind())),
                }
            }
            (bytes, None)
        })
    }

    /// N1, fault D1: wherever it is cut, what came is given out, and then there is an error.
    #[test]
    fn a_body_cut_anywhere_is_an_error_after_all_that_came() {
        let all = content(40);
        for front in [0, 1, 7] {
            for cut in front..all.len() {
                for reset in [false, true] {
                    let mut reads = vec![Read::Nothing, Read::Bytes(all[front..cut].to_vec())];
                    reads.retain(|read| !matches!(read, Read::Bytes(bytes) if bytes.is_empty()));
                    let kind = if reset {
                        reads.push(Read::Reset);
                        io::ErrorKind::ConnectionReset
                    } else {
                        io::ErrorKind::UnexpectedEof
                    };
                    let outcome = read(&mut bulk(&all[..front], reads), all.len());
                    assert_eq!(outcome, (all[..cut].to_vec(), Some(kind)));
                }
            }
        }
    }

    #[test]
    fn bytes_that_come_one_by_one_are_the_same_bytes() {
        let all = content(3 * FIRST_CHUNK);
        for quiet in [false, true] {
            let reads = all.iter().flat_map(|byte| {
                let pause = quiet.then_some(Read::Nothing);
                pause.into_iter().chain([Read::Bytes(vec![*byte])])
            });
            assert_eq!(read(&mut bulk(&[], reads), all.len()), (all.clone(), None));
        }
    }

    /// N5: what a server sends behind its response belongs to no response.
    #[test]
    fn nothing_is_read_beyond_the_end() {
        let all = content(100);
        let mut ended = bulk(&all[..10], [Read::Bytes(all[10..].to_vec())]);
        assert_eq!(read(&mut ended, 60), (all[..60].to_vec(), None));
        let socket = ended.into_socket().expect("nothing came behind it");
        let Some(Read::Bytes(rest)) = socket.0.front() else {
            panic!("the rest was taken");
        };
        assert_eq!(rest, &all[60..]);
        let mut behind = bulk(&all[..10], []);
        assert_eq!(read(&mut behind, 9), (all[..9].to_vec(), None));
        assert!(behind.into_socket().is_none(), "a byte too many came before");
    }

    #[test]
    fn what_is_there_is_shown_before_more_is_waited_for() {
        let all = content(2 * MAX_CHUNK);
        let reads = [
            Read::Bytes(all[5..9].to_vec()),
            Read::Nothing,
            Read::Bytes(all[9..].to_vec()),
        ];
        let mut bulk = bulk(&all[..5], reads);
        block_on(async {
            for (from, to) in [(0, 5), (5, 9), (9, 9 + FIRST_CHUNK)] {
                let chunk = poll_once(next(&mut bulk, all.len() - from))
                    .await
                    .expect("there")
                    .unwrap();
                assert_eq!(chunk, all[from..to]);
            }
        });
    }

    /// R5: chunks grow to their limit and no further. A buffer that a consumer keeps is replaced, not waited for.
    #[test]
    fn chunks_grow_to_their_limit_and_their_buffers_are_used_again() {
        let all = content(8 * MAX_CHUNK);
        let mut bulk = bulk(&[], [Read::Bytes(all.clone())]);
        let mut at = 0;
        let mut next = |at: &mut usize| {
            let chunk = block_on(next(&mut bulk, all.len() - *at)).unwrap();
            assert_eq!(chunk, all[*at..*at + chunk.len()]);
            *at += chunk.len();
            chunk
        };
        let lengths: Vec<usize> = (0..6).map(|_| next(&mut at).len()).collect();
        assert_eq!(lengths, [32, 64, 128, 256, 512, 512].map(|kib| kib * 1024));
        let warm = next(&mut at).as_ptr();
        let kept = [next(&mut at), next(&mut at)];
        assert_eq!(kept[0].as_ptr(), warm, "let go, it was used again");
        assert_ne!(kept[1].as_ptr(), warm, "not so while it is kept");
    }

    #[test]
    fn a_kept_small_chunk_keeps_no_buffer() {
        let mut bulk = bulk(
            &[],
            [Read::Bytes(vec![1; 10]), Read::Nothing, Read::Bytes(vec![2; 10])],
        );
        let first = block_on(next(&mut bulk, 2 * MAX_CHUNK)).unwrap();
        let buffer = bulk.buffer.as_ref().expect("kept for more").as_ptr();
        assert_ne!(first.as_ptr(), buffer);
        assert_eq!(block_on(next(&mut bulk, 2 * MAX_CHUNK)).unwrap(), vec![2; 10]);
        assert_eq!(first, vec![1; 10]);
        assert_eq!(bulk.buffer.as_ref().expect("kept still").as_ptr(), buffer);
    }
}
