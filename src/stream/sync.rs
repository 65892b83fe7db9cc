//! The primitives this module synchronises with, and the one it adds: [`Gauge`].
//!
//! With `--cfg kithara_loom` loom's primitives stand in for all of them, see `loom_tests.rs`.

#[cfg(all(test, kithara_loom))]
mod stand_in;

#[cfg(not(all(test, kithara_loom)))]
pub(super) use {
    async_channel as channel,
    atomic_waker::AtomicWaker,
    std::sync::Mutex,
    std::sync::atomic::{AtomicU64, Ordering},
};
#[cfg(all(test, kithara_loom))]
pub(super) use {
    loom::sync::Mutex,
    loom::sync::atomic::{AtomicU64, Ordering},
    stand_in::{AtomicWaker, channel},
};

use std::task::Waker;

/// How many items and bytes are queued, and who sleeps until that changes.
///
/// All these facts share one word, which both sides modify for every item anyway. Its modifications have one order, so
/// whoever goes to sleep either comes before the other side's next step, which then sees the flag and wakes, or after
/// it, and then sees what that step did. That is why the sleeper looks once more after raising its flag, why nothing
/// else needs a fence, and why a flow in which nobody sleeps pays for no wake-up.
pub(super) struct Gauge {
    word: AtomicU64,
    driver: AtomicWaker,
    consumer: AtomicWaker,
}

const CONSUMER_SLEEPS: u64 = 1;
const DRIVER_SLEEPS: u64 = 2;
/// Not when it waits for its source: reading on would wake it in vain.
const DRIVER_WANTS_ROOM: u64 = 4;
/// Items take the next 17 bits, one more than the largest queue needs; bytes the rest.
const ITEM: u64 = 8;
const BYTE: u64 = ITEM << 17;

/// The most bytes the word can count.
pub(super) const MAX_BYTES: u64 = u64::MAX / BYTE;

impl Gauge {
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            driver: AtomicWaker::new(),
            consumer: AtomicWaker::new(),
        }
    }

    /// The items and the bytes that are queued. Exact or too much for the driver, whose additions are all made; for others
    /// it may be mid-step.
    #[inline]
    pub(super) fn level(&self) -> (u64, u64) {
        let word = self.word.load(Ordering::Acquire);
        (word % BYTE / ITEM, word / BYTE)
    }

    /// Called by the driver after it has queued an item. The consumer may have subtracted it already: the word wraps.
    #[inline]
    pub(super) fn queued(&self, bytes: u64) {
        let before = self.word.fetch_add(bytes * BYTE + ITEM, Ordering::AcqRel);
        if before & CONSUMER_SLEEPS != 0 {
            self.wake_consumer();
        }
    }

    /// Called by whoever has taken an item out of the queue.
    #[inline]
    pub(super) fn taken(&self, bytes: u64) {
        let before = self.word.fetch_sub(bytes * BYTE + ITEM, Ordering::AcqRel);
        if before & DRIVER_WANTS_ROOM != 0 {
            self.wake_driver();
        }
    }

    /// From here on the driver is woken by a command, by the consumer's leaving, and if it wants so by room.
    pub(super) fn driver_sleeps(&self, waker: &Waker, wants_room: bool) {
        self.driver.register(waker);
        let flags = if wants_room {
            DRIVER_SLEEPS | DRIVER_WANTS_ROOM
        } else {
            DRIVER_SLEEPS
        };
        self.word.fetch_or(flags, Ordering::AcqRel);
    }

    /// From here on the consumer is woken by an item, or the driver's leaving.
    pub(super) fn consumer_sleeps(&self, waker: &Waker) {
        self.consumer.register(waker);
        self.word.fetch_or(CONSUMER_SLEEPS, Ordering::AcqRel);
    }

    // Lower the flag, then wake: who goes to sleep in between is woken once too often, never once too seldom.

    pub(super) fn wake_driver(&self) {
        if self
            .word
            .fetch_and(!(DRIVER_SLEEPS | DRIVER_WANTS_ROOM), Ordering::AcqRel)
            & DRIVER_SLEEPS
            != 0
        {
            self.driver.wake();
        }
    }

    pub(super) fn wake_consumer(&self) {
        if self.word.fetch_and(!CONSUMER_SLEEPS, Ordering::AcqRel) & CONSUMER_SLEEPS != 0 {
            self.consumer.wake();
        }
    }
}
