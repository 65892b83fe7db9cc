//! What the pull side and the decode thread tell each other: a few numbers, each written by one of them.
//!
//! ```text
//!   ring position   0 ────── stale_to ────── taken ────────── written ──▶
//!                     dropped by the next pull                      end, once it is known
//! ```
//!
//! Positions count samples, from the first one ever written. Each number is stored after what it speaks of and loaded before
//! it (release, acquire): a pull that sees `stale_to` finds all samples before it in the ring.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Meter {
    /// By the pull side: samples taken out of the ring, dropped ones too.
    taken: AtomicU64,
    /// By the pull side: the last pull found fewer frames than it asked for.
    starved: AtomicBool,
    /// By the pull side: how many frames were asked for and not there, in all.
    missing: AtomicU64,
    /// By the decode thread: samples put into the ring.
    written: AtomicU64,
    /// By the decode thread: samples before this were made before a seek.
    stale_to: AtomicU64,
    /// By the decode thread: where the last track ends; `u64::MAX` while more may come.
    end: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            taken: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            missing: AtomicU64::new(0),
            written: AtomicU64::new(0),
            stale_to: AtomicU64::new(0),
            end: AtomicU64::new(u64::MAX),
        }
    }
}

impl Meter {
    pub(super) fn set_taken(&self, position: u64) {
        self.taken.store(position, Ordering::Release);
    }

    pub(super) fn set_starved(&self, frames: u64) {
        // Relaxed: figures for people. No sample is read on the strength of them.
        if frames > 0 {
            self.missing.fetch_add(frames, Ordering::Relaxed);
        }
        // A store only where it changes something: the line stays shared otherwise.
        if self.starved.load(Ordering::Relaxed) != (frames > 0) {
            self.starved.store(frames > 0, Ordering::Relaxed);
        }
    }

    pub(super) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    pub(super) fn missing(&self) -> u64 {
        self.missing.load(Ordering::Relaxed)
    }

    pub(super) fn set_written(&self, position: u64) {
        self.written.store(position, Ordering::Release);
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(super) fn set_stale_to(&self, position: u64) {
        self.stale_to.store(position, Ordering::Release);
    }

    pub(super) fn stale_to(&self) -> u64 {
        self.stale_to.load(Ordering::Acquire)
    }

    pub(super) fn set_end(&self, position: Option<u64>) {
        // In this order behind the samples before it: a pull that finds the end finds those.
        self.end.store(position.unwrap_or(u64::MAX), Ordering::Release);
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The sample that is heard next: what a seek made stale is not heard any more, pulled or not.
    pub(super) fn heard(&self) -> u64 {
        // A pull that has dropped what is stale stands at `stale_to` exactly, or behind it.
        self.taken.load(Ordering::Acquire).max(self.stale_to())
    }
}
