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

/// How many items and bytes are queued, and which side sleeps until that changes.
///
/// All of it is in one word, which both sides modify for every item anyway:
///
/// ```text
///  63 … 20   19 … 3   2            1        0
/// ┌────────┬────────┬────────────┬────────┬──────────┐
/// │ bytes  │ items  │ driver     │ driver │ consumer │
/// │ queued │ queued │ wants room │ sleeps │ sleeps   │
/// └────────┴────────┴────────────┴────────┴──────────┘
/// ```
///
/// The word's modifications have one order. A side that goes to sleep raises its flag and then checks once more. Either
/// the flag comes before the other side's next step, and that step sees it and wakes; or it comes after, and the check
/// sees what the step did. Without the check a step between the last look and the flag would be missed, and both sides
/// could sleep. Nothing else needs a fence, and while no side sleeps an item costs no wake-up.
pub(super) struct Gauge {
    word: AtomicU64,
    driver: AtomicWaker,
    consumer: AtomicWaker,
}

const CONSUMER_SLEEPS: u64 = 1;
const DRIVER_SLEEPS: u64 = 2;
/// Not raised when the driver waits for its source: each item taken would wake it in vain.
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

    /// The items and the bytes that are queued. To the driver, which made all additions, it is exact or too much. To
    /// another thread it may be too little: an item can be in the queue before it is counted.
    #[inline]
    pub(super) fn level(&self) -> (u64, u64) {
        let word = self.word.load(Ordering::Acquire);
        (word % BYTE / ITEM, word / BYTE)
    }

    /// Called by the driver after it has queued an item. The consumer may have subtracted the item already. The word wraps
    /// then, and this addition wraps it back.
    #[inline]
    pub(super) fn queued(&self, bytes: u64) {
        let before = self.word.fetch_add(bytes * BYTE + ITEM, Ordering::AcqRel);
        if before & CONSUMER_SLEEPS != 0 {
            self.wake_consumer();
        }
    }

    /// Called by the side that has taken an item out of the queue.
    #[inline]
    pub(super) fn taken(&self, bytes: u64) {
        let before = self.word.fetch_sub(bytes * BYTE + ITEM, Ordering::AcqRel);
        if before & DRIVER_WANTS_ROOM != 0 {
            self.wake_driver();
        }
    }

    /// From here on the driver is woken by a command, by the consumer's leaving and, if it wants that, by room.
    pub(super) fn driver_sleeps(&self, waker: &Waker, wants_room: bool) {
        // The waker before the flag: the other side wakes as soon as it sees the flag.
        self.driver.register(waker);
        let flags = if wants_room {
            DRIVER_SLEEPS | DRIVER_WANTS_ROOM
        } else {
            DRIVER_SLEEPS
        };
        self.word.fetch_or(flags, Ordering::AcqRel);
    }

    /// From here on the consumer is woken by an item, or by the driver's leaving.
    pub(super) fn consumer_sleeps(&self, waker: &Waker) {
        self.consumer.register(waker);
        self.word.fetch_or(CONSUMER_SLEEPS, Ordering::AcqRel);
    }

    // Lower the flag, then wake. A side that goes to sleep in between is woken once too often. In the other order its new
    // flag would be lowered without a wake-up, and it could sleep for ever.

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
