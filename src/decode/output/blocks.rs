//! Blocks for async apps.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender, TrySendError};

use super::{
    PlayHandle,
    link::{Link, Stop},
    meter::Meter,
    worker::{Put, Sink, Worker},
};
use crate::decode::{Block, DecodeError, Decoder, Spec};

/// How many blocks are decoded ahead.
const AHEAD: usize = 8;

/// PCM as a stream of blocks, decoded on a thread of its own.
///
/// What happens between blocks is told by the [`events`](PlayHandle::events) of its [`handle`](Self::handle). After an error
/// it has ended, unless a seek goes on.
///
/// Dropping it ends the decode thread, and with it the connections of what is decoded.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_lite::StreamExt;
/// use kithara::decode::{DecodeParams, Decoder};
///
/// # futures_lite::future::block_on(async {
/// # let file = std::fs::File::open("tests/media/files/piece.flac")?;
/// let track = Decoder::from_reader(file, &DecodeParams::new())?;
/// let mut blocks = track.into_blocks()?;
/// let mut frames = 0;
/// while let Some(block) = blocks.try_next().await? {
///     frames += block.frames();
/// }
/// assert_eq!(frames, 132_300);
/// # Ok(())
/// # })
/// # }
/// ```
pub struct Blocks {
    queue: Pin<Box<Receiver<Queued>>>,
    link: Arc<Link>,
    stop: Stop,
    /// Samples received, those dropped by a seek too.
    taken: u64,
}

/// A block, or the end, and how many samples were made before it.
struct Queued {
    at: u64,
    next: Option<Result<Block, DecodeError>>,
}

struct Channel {
    queue: Sender<Queued>,
}

impl Sink for Channel {
    fn put(&mut self, samples: &[f32], spec: Spec, at: u64, position: u64) -> Put {
        // Looked at first: a block that does not fit would be made for nothing.
        if self.queue.is_full() {
            // Woken when one is taken: this side may wake, and no timer runs.
            return Put::Full(Duration::MAX);
        }
        let block = Block {
            samples: samples.to_vec(),
            spec,
            position,
        };
        let next = Some(Ok(block));
        match self.queue.try_send(Queued { at, next }) {
            Ok(()) => Put::Taken(samples.len()),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => Put::Full(Duration::MAX),
        }
    }

    fn end(&mut self, at: u64, error: Option<&DecodeError>) -> bool {
        let next = error.cloned().map(Err);
        // The end takes a place in the queue, so that it comes behind the blocks. Full, it is tried again.
        self.queue.try_send(Queued { at, next }).is_ok()
    }
}

impl Decoder {
    /// Goes on decoding on a thread of its own, some blocks ahead.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Io`] if there can be no more threads.
    pub fn into_blocks(self) -> Result<Blocks, DecodeError> {
        let link = Arc::new(Link::new(self.interrupter(), Arc::new(Meter::default())));
        let (sender, queue) = async_channel::bounded(AHEAD);
        let worker = Worker::new(self, Channel { queue: sender }, Arc::clone(&link));
        let thread = thread::Builder::new()
            .name("kithara-decode".into())
            .spawn(move || worker.run())?;
        // Before anything can ask to be woken: handles come from what is returned here.
        link.set_thread(thread.thread().clone());
        Ok(Blocks {
            queue: Box::pin(queue),
            stop: Stop::new(Arc::clone(&link)),
            link,
            taken: 0,
        })
    }
}

impl Blocks {
    /// A handle that seeks, queues tracks and tells what is heard, from any thread.
    pub fn handle(&self) -> PlayHandle {
        PlayHandle::new(self.stop.link())
    }
}

impl futures_core::Stream for Blocks {
    type Item = Result<Block, DecodeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let polled = self.queue.as_mut().poll_next(cx);
            let Poll::Ready(Some(queued)) = polled else {
                return polled.map(|_| None);
            };
            // There is room for another one. The thread rests without a timer while the queue is full.
            self.link.wake_thread();
            let samples = match &queued.next {
                Some(Ok(block)) => block.samples.len() as u64,
                _ => 0,
            };
            self.taken = queued.at + samples;
            self.link.meter.set_taken(self.taken);
            // This side is none of an audio callback: it may wake.
            self.link.listeners.notify_all();
            // Made before a seek, or the end of what plays on since: dropped here, as nobody can take it out of the queue from
            // the other side.
            let meter = &self.link.meter;
            let holds = match &queued.next {
                Some(Ok(_)) => queued.at >= meter.stale_to(),
                Some(Err(_)) | None => queued.at == meter.end(),
            };
            if holds {
                return Poll::Ready(queued.next);
            }
        }
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::task::Waker;

    use super::super::testing::{FRAMES, tone};
    use super::*;

    /// Blocks whose thread is the test.
    fn stepped() -> (Blocks, Worker<Channel>, Arc<Link>) {
        let decoder = tone(0.1);
        let link = Arc::new(Link::new(decoder.interrupter(), Arc::new(Meter::default())));
        let (sender, queue) = async_channel::bounded(AHEAD);
        let mut worker = Worker::new(decoder, Channel { queue: sender }, Arc::clone(&link));
        // To the end, which waits in the queue behind the block.
        for _ in 0..8 {
            worker.step();
        }
        let blocks = Blocks {
            queue: Box::pin(queue),
            stop: Stop::new(Arc::clone(&link)),
            link: Arc::clone(&link),
            taken: 0,
        };
        (blocks, worker, link)
    }

    /// How many frames come until the stream says that it is over.
    fn frames(blocks: &mut Blocks, worker: &mut Worker<Channel>) -> u64 {
        let mut frames = 0;
        loop {
            let mut cx = Context::from_waker(Waker::noop());
            match futures_core::Stream::poll_next(Pin::new(&mut *blocks), &mut cx) {
                Poll::Pending => drop(worker.step()),
                Poll::Ready(None) => return frames,
                Poll::Ready(Some(block)) => frames += block.unwrap().frames() as u64,
            }
        }
    }

    #[test]
    fn p9_a_track_that_is_queued_before_the_end_is_taken_follows() {
        let (mut blocks, mut worker, link) = stepped();
        link.then(tone(0.2));
        worker.obey(link.next_command().unwrap());
        assert_eq!(frames(&mut blocks, &mut worker), 2 * FRAMES);
    }

    #[test]
    fn a_seek_before_the_end_is_taken_plays_again() {
        for taken in [false, true] {
            let (mut blocks, mut worker, link) = stepped();
            if taken {
                let mut cx = Context::from_waker(Waker::noop());
                assert!(
                    futures_core::Stream::poll_next(Pin::new(&mut blocks), &mut cx).is_ready(),
                    "the block"
                );
            }
            let _answered = link.seek(Duration::ZERO);
            worker.obey(link.next_command().unwrap());
            assert_eq!(frames(&mut blocks, &mut worker), FRAMES, "{taken}");
        }
    }
}
