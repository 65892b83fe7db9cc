//! The queue between driver and consumer: bounded in chunks and bytes, and cut at every seek.
//!
//! Each envelope carries the generation it was made in: the number of seeks accepted before it.
//!
//! - An accepted seek adds one to the shared generation. At that instant everything queued is stale.
//! - Handing out the end, or an error, replaces the shared generation by `ENDED`.
//!
//! Both are one compare-and-swap of the same word. So a seek comes either before the end and revokes it, or after the end
//! and is refused. There is no third case, in which the seeker hears Ok and the consumer has been handed the end.

use std::error::Error;
use std::sync::{Arc, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Buf;

use super::cursor::{Cursor, Seek};
use super::engine::{Item, discard};
use super::handle::Nudge;
use super::sync::channel::{self, TryRecvError, TrySendError};
use super::sync::{AtomicU64, Gauge, MAX_BYTES, Mutex, Ordering};
use super::{Message, StreamError, StreamParams};

/// The generation of a stream whose end the consumer has seen.
const ENDED: u64 = u64::MAX;

/// What driver and consumer share.
pub(super) struct Link<C, E: Error + 'static> {
    // Driver and consumer each reach both ends: the driver empties the queue at a seek. So no end is ever dropped alone,
    // and each side closes the channel by hand when it leaves.
    sender: channel::Sender<Envelope<C, E>>,
    receiver: channel::Receiver<Envelope<C, E>>,
    generation: AtomicU64,
    /// The seek that the newest generation began with. Locked at seeks, never for a chunk.
    seek: Mutex<Seek>,
    gauge: Gauge,
    panic: OnceLock<String>,
}

impl<C: Send, E: Error + Send + 'static> Nudge for Link<C, E> {
    fn nudge(&self) {
        self.gauge.wake_driver();
    }
}

struct Envelope<C, E: Error + 'static> {
    generation: u64,
    item: Item<C, E>,
}

pub(super) fn bounded<C, E: Error + 'static>(params: &StreamParams) -> (Outlet<C, E>, Intake<C, E>) {
    let (sender, receiver) = channel::bounded(params.chunk_limit().get().into());
    let link = Arc::new(Link {
        sender,
        receiver,
        generation: AtomicU64::new(0),
        seek: Mutex::new(Seek::NONE),
        gauge: Gauge::new(),
        panic: OnceLock::new(),
    });
    let intake = Intake {
        link: Arc::clone(&link),
        cursor: Cursor::new(),
        ended: false,
    };
    let outlet = Outlet {
        link,
        generation: 0,
        max_chunks: params.chunk_limit().get().into(),
        // No queue can hold more than the gauge can count.
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
    generation: u64,
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
                // The source may yield it, but it tells the consumer nothing, and would cost a place in the queue.
                Item::Data(data) if data.is_empty() => return None,
                // In pieces, or a chunk above the limit would never fit. The pieces share the chunk's memory.
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
            generation: self.generation,
            item,
        };
        let bytes = envelope.item.bytes();
        match self.link.sender.try_send(envelope) {
            // Counted after it is in the queue. The consumer may be faster and subtract first; the gauge allows for that.
            Ok(()) => {
                self.link.gauge.queued(bytes);
                None
            }
            Err(TrySendError::Full(envelope)) => Some(envelope.item),
            // The consumer has left. The driver sees that at its next check and stops.
            Err(TrySendError::Closed(_)) => None,
        }
    }

    /// Whether [`push`](Self::push) would queue at least the first piece of `item`.
    #[inline]
    pub(super) fn has_room_for(&self, item: &Item<C, E>) -> bool {
        // Only the driver adds, so what fits now still fits at the push. Items are subtracted after they have left the
        // channel, so the level is never below what is queued.
        let (items, bytes) = self.link.gauge.level();
        let max_bytes = self.max_bytes as u64;
        items < self.max_chunks && bytes <= max_bytes - item.bytes().min(max_bytes)
    }

    /// Makes everything queued so far stale. False if the consumer has already been handed the end.
    pub(super) fn advance(&mut self, seek: Seek) -> bool {
        let next = seek.generation;
        let word = &self.link.generation;
        if word
            .compare_exchange(self.generation, next, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return false;
        }
        self.generation = next;
        // After the swap, because a seek that was refused leaves no trace; before the first push of this generation, so
        // that the consumer finds its seek here, or a newer one.
        *self.link.seek.lock().unwrap_or_else(PoisonError::into_inner) = seek;
        // The consumer would skip the stale items. But a stalled consumer would leave no room for reading ahead from the
        // new position.
        while let Ok(stale) = self.link.receiver.try_recv() {
            self.link.gauge.taken(stale.item.bytes());
            discard(stale);
        }
        true
    }

    /// From now on the driver is woken by a command, by the consumer's leaving and, if it wants that, by room in the queue.
    /// The caller must check all three once more after this call.
    pub(super) fn sleep(&self, cx: &Context<'_>, wants_room: bool) {
        self.link.gauge.driver_sleeps(cx.waker(), wants_room);
    }

    /// Leaves a panic's text for the consumer, which reads it when it finds the queue closed.
    pub(super) fn report_panic(&self, text: String) {
        let _ = self.link.panic.set(text);
    }
}

impl<C, E: Error + 'static> Drop for Outlet<C, E> {
    fn drop(&mut self) {
        // Closed first, woken second: a consumer that is woken before it would find the queue empty, and sleep again.
        self.link.sender.close();
        self.link.gauge.wake_consumer();
    }
}

/// The consumer's end. Dropping it makes the driver drop the source.
pub(super) struct Intake<C, E: Error + 'static> {
    link: Arc<Link<C, E>>,
    cursor: Cursor,
    ended: bool,
}

impl<C, E: Error + 'static> Intake<C, E> {
    pub(super) fn link(&self) -> &Arc<Link<C, E>> {
        &self.link
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn cursor(&self) -> &Cursor {
        &self.cursor
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
                // A driver that ends in order leaves an end or an error in the queue, which `finish` has taken. So this one
                // has vanished.
                Err(TryRecvError::Closed) => {
                    self.close();
                    let panic = self.link.panic.get().cloned();
                    return Poll::Ready(Some(Err(StreamError::DriverGone { panic })));
                }
                // Empty twice, with the flag raised in between: whatever comes from now on wakes the consumer.
                Err(TryRecvError::Empty) if asleep => return Poll::Pending,
                Err(TryRecvError::Empty) => {
                    self.link.gauge.consumer_sleeps(cx.waker());
                    asleep = true;
                }
            }
        }
    }

    /// What the consumer is handed for `envelope`. Nothing if a seek has made it stale.
    #[expect(clippy::option_option, reason = "stale is not the end")]
    #[inline]
    fn accept(&mut self, envelope: Envelope<C, E>) -> Option<Option<Result<Message<C>, StreamError<E>>>> {
        let bytes = envelope.item.bytes();
        self.link.gauge.taken(bytes);
        let Envelope { generation, item } = envelope;
        let is_last = matches!(item, Item::Failed(_) | Item::End);
        let is_current = if is_last {
            self.finish(generation)
        } else {
            self.link.generation.load(Ordering::Acquire) == generation
        };
        if !is_current || !self.follow(generation) {
            discard(item);
            return None;
        }
        self.cursor.advance(bytes);
        Some(match item {
            Item::Data(data) => Some(Ok(Message::Data(data))),
            Item::Control(control) => Some(Ok(Message::Control(control))),
            Item::Failed(error) => Some(Err(*error)),
            Item::End => None,
        })
    }

    /// Takes the cursor to the seek that `generation` began with. False if another seek has been accepted since, so that
    /// an item of `generation` is stale.
    #[inline]
    fn follow(&mut self, generation: u64) -> bool {
        if self.cursor.generation() == generation {
            return true;
        }
        let seek = *self.link.seek.lock().unwrap_or_else(PoisonError::into_inner);
        // The driver may have moved on since the generation was compared. Never after `finish`, which refuses it.
        if seek.generation != generation {
            return false;
        }
        self.cursor.jump(seek);
        true
    }

    /// Ends the stream, unless a seek came first.
    fn finish(&mut self, generation: u64) -> bool {
        let first = self
            .link
            .generation
            .compare_exchange(generation, ENDED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if first {
            self.close();
        }
        first
    }

    fn close(&mut self) {
        self.ended = true;
        // As above: the driver, once awake, must find the queue closed. It drops the source then.
        self.link.sender.close();
        self.link.gauge.wake_driver();
    }
}

impl<C, E: Error + 'static> Drop for Intake<C, E> {
    fn drop(&mut self) {
        self.close();
    }
}
