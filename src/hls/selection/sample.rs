//! What a selector is told of the network.

use std::time::Duration;

/// Some bytes of a transfer that came over the network.
///
/// A transfer gives one whenever bytes have come, and about every half second while none come, with 0 bytes. The first one of a
/// transfer that has bytes says how long the transfer waited for them. What is read from the cache gives none.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkSample {
    /// When the last of the bytes came, on the clock of [`Situation::now`](super::Situation::now).
    pub at: Duration,
    /// The bytes since the transfer's last sample.
    pub bytes: u64,
    /// The time since the transfer's last sample; for its first one, since the request was sent.
    pub time: Duration,
    /// How much of `time` went by before the first byte of the transfer. Zero where that byte came earlier; all of `time`
    /// where it has not come.
    pub waited: Duration,
    /// Whether the transfer is over: it is complete, it failed, or it was given up.
    pub is_last: bool,
}

impl NetworkSample {
    /// So many bytes came within `time` until `at`.
    pub fn new(at: Duration, bytes: u64, time: Duration) -> Self {
        Self {
            at,
            bytes,
            time,
            waited: Duration::ZERO,
            is_last: false,
        }
    }

    /// The part of the time before the transfer's first byte.
    #[must_use]
    pub fn waited(mut self, time: Duration) -> Self {
        self.waited = time;
        self
    }

    /// Whether the transfer is over.
    #[must_use]
    pub fn last(mut self, is_last: bool) -> Self {
        self.is_last = is_last;
        self
    }
}

/// What is remembered of a network, from one track and one run of the app to the next.
///
/// An app that knows on which network the device is keeps one for each.
///
/// ```
/// use kithara::hls::selection::{Adaptive, NetworkMemory};
///
/// let stored = NetworkMemory::new(2_000_000).to_bytes();
/// let selector = Adaptive::new().network(NetworkMemory::from_bytes(stored));
/// # let _ = selector;
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkMemory {
    /// Bits per second.
    pub bit_rate: u64,
}

impl NetworkMemory {
    /// A network of so many bits per second.
    pub fn new(bit_rate: u64) -> Self {
        Self { bit_rate }
    }

    /// Eight bytes to store.
    pub fn to_bytes(self) -> [u8; 8] {
        self.bit_rate.to_le_bytes()
    }

    /// What [`to_bytes`](Self::to_bytes) gave.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self::new(u64::from_le_bytes(bytes))
    }
}
