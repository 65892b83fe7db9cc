//! The one hop between driver and consumer: bounded in chunks and bytes, and cut at every seek.
//!
//! Each envelope carries the epoch it was made in. A seek moves the epoch word on, which makes everything that is
//! queued stale at that instant; handing out the end (or an error) replaces the word by `ENDED`. Both are one
//! compare-and-swap of the same word, so a seek either comes before the end and revokes it, or after and is refused.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Buf;

use super::engine::{Item, discard};
use super::handle::Nudge;
use super::sync::channel::{self, TryRecvError, TrySendError};
use super::sync::{AtomicU64, Gauge, MAX_BYTES, Ordering};
use super::{Message, StreamError, StreamParams};

/// The epoch of a stream whose end the consumer has seen.
const ENDED: u64 = u64::MAX;

/// What driver and consumer share. Both have both ends of the queue, so it is closed by hand; and a seek can empty it.
pub(super) struct Link<C, E: Error + 'static> {
    sender: channel::Sender<Envelope<C, E>>,
    receiver: channel::Receiver<Envelope<C, E>>,
    epoch: AtomicU64,
    gauge: Gauge,
    panic: OnceLock<String>,
}

impl<C: Send, E: Error + Send + 'static> Nudge for Link<C, E> {
    fn nudge(&self) {
        self.gauge.wake_driver();
    }
}

struct Envelope<C, E: Error + 'static> {
    epoch: u64,
    item: Item<C, E>,
}

pub(super) fn bounded<C, E: Error + 'static>(params: &StreamParams) -> (Outlet<C, E>, Intake<C, E>) {
    let (sender, receiver) = channel::bounded(params.chunk_limit().get().into());
    let link = Arc::new(Link {
        sender,
        receiver,
        epoch: AtomicU64::new(0),
        gauge: Gauge::new(),
        panic: OnceLock::new(),
    });
    let intake = Intake {
        link: Arc::clone(&link),
        ended: false,
    };
    let outlet = Outlet {
        link,
        epoch: 0,
        max_chunks: params.chunk_limit().get().into(),
        max_bytes: params
            .byte_limit()
            .get()
            .min(usize::try_from(MAX_BYTES).unwrap_or(usize::MAX)),
    };
    (outlet, intake)
}

/// The driver's end. Dropping it tells the consumer that nothing more comes.
pub(super) struct Outlet<C, E: Error + 'static> {
    link: Arc<Link<C, E>>,
    epoch: u64,
    max_chunks: u64,
    max_bytes: usize,
}

impl<C, E: Error + 'static> Outlet<C, E> {
    /// Whether the consumer has gone, or has been handed the end.
    pub(super) fn is_closed(&self) -> bool {
        self.link.sender.is_closed()
    }

    /// Queues `item`, or as much of it as the limits allow, and returns what is left.
    #[inline]
    pub(super) fn push(&self, mut item: Item<C, E>) -> Option<Item<C, E>> {
        loop {
            if !self.has_room_for(&item) {
                return Some(item);
            }
            match item {
                Item::Data(data) if data.is_empty() => return None,
                Item::Data(mut data) if data.len() > self.max_bytes => {
                    if self.push_one(Item::Data(data.slice(..self.max_bytes))).is_none() {
                        data.advance(self.max_bytes);
                    }
                    item = Item::Data(data);
                }
                whole => return self.push_one(whole),
            }
        }
    }

    #[inline]
    fn push_one(&self, item: Item<C, E>) -> Option<Item<C, E>> {
        let envelope = Envelope {
            epoch: self.epoch,
            item,
        };
        let bytes = envelope.item.bytes();
        match self.link.sender.try_send(envelope) {
            Ok(()) => {
                self.link.gauge.queued(bytes);
                None
            }
            Err(TrySendError::Full(envelope)) => Some(envelope.item),
            // Nobody wants the item, and the driver is about to see that.
            Err(TrySendError::Closed(_)) => None,
        }
    }

    /// Whether [`push`](Self::push) would queue at least the first piece of `item`.
    #[inline]
    pub(super) fn has_room_for(&self, item: &Item<C, E>) -> bool {
        // Only the driver adds, so what fits now still fits at the push; and what is counted as taken has left the queue.
        let (items, bytes) = self.link.gauge.level();
        let max_bytes = self.max_bytes as u64;
        items < self.max_chunks && bytes <= max_bytes - item.bytes().min(max_bytes)
    }

    /// Makes everything queued so far stale. False if the consumer has already been handed the end.
    pub(super) fn advance(&mut self) -> bool {
        let next = self.epoch + 1;
        let word = &self.link.epoch;
        if word
            .compare_exchange(self.epoch, next, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return false;
        }
        self.epoch = next;
        // The consumer would skip these, but it may be stalled, and the new position can be read ahead meanwhile.
        while let Ok(stale) = self.link.receiver.try_recv() {
            self.link.gauge.taken(stale.item.bytes());
            discard(stale);
        }
        true
    }

    /// From now on the driver is woken by a command, by the consumer's leaving, and if it wants so by room in the queue.
    /// Look once more after calling this.
    pub(super) fn sleep(&self, cx: &Context<'_>, wants_room: bool) {
        self.link.gauge.driver_sleeps(cx.waker(), wants_room);
    }

    /// Leaves a panic's text for the consumer, who reads it when the queue is found closed.
    pub(super) fn report_panic(&self, text: String) {
        let _ = self.link.panic.set(text);
    }
}

impl<C, E: Error + 'static> Drop for Outlet<C, E> {
    fn drop(&mut self) {
        self.link.sender.close();
        self.link.gauge.wake_consumer();
    }
}

/// The consumer's end. Dropping it makes the driver drop the source.
pub(super) struct Intake<C, E: Error + 'static> {
    link: Arc<Link<C, E>>,
    ended: bool,
}

impl<C, E: Error + 'static> Intake<C, E> {
    pub(super) fn link(&self) -> &Arc<Link<C, E>> {
        &self.link
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message<C>, StreamError<E>>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut asleep = false;
        loop {
            match self.link.receiver.try_recv() {
                Ok(envelope) => {
                    if let Some(item) = self.accept(envelope) {
                        return Poll::Ready(item);
                    }
                }
                Err(TryRecvError::Closed) => {
                    self.close();
                    let panic = self.link.panic.get().cloned();
                    return Poll::Ready(Some(Err(StreamError::DriverGone { panic })));
                }
                Err(TryRecvError::Empty) if asleep => return Poll::Pending,
                Err(TryRecvError::Empty) => {
                    self.link.gauge.consumer_sleeps(cx.waker());
                    asleep = true;
                }
            }
        }
    }

    /// What the consumer is handed for `envelope`; nothing if a seek has made it stale.
    #[expect(clippy::option_option, reason = "stale is not the end")]
    #[inline]
    fn accept(&mut self, envelope: Envelope<C, E>) -> Option<Option<Result<Message<C>, StreamError<E>>>> {
        self.link.gauge.taken(envelope.item.bytes());
        let Envelope { epoch, item } = envelope;
        if self.link.epoch.load(Ordering::Acquire) != epoch {
            discard(item);
            return None;
        }
        match item {
            Item::Data(data) => Some(Some(Ok(Message::Data(data)))),
            Item::Control(control) => Some(Some(Ok(Message::Control(control)))),
            Item::Failed(error) => self.finish(epoch).then(|| Some(Err(*error))),
            Item::End => self.finish(epoch).then_some(None),
        }
    }

    /// Ends the stream, unless a seek was faster.
    fn finish(&mut self, epoch: u64) -> bool {
        let first = self
            .link
            .epoch
            .compare_exchange(epoch, ENDED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if first {
            self.close();
        }
        first
    }

    fn close(&mut self) {
        self.ended = true;
        self.link.sender.close();
        self.link.gauge.wake_driver();
    }
}

impl<C, E: Error + 'static> Drop for Intake<C, E> {
    fn drop(&mut self) {
        self.close();
    }
}
