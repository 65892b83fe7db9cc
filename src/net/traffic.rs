//! Counts a client's network traffic.

use std::sync::atomic::{AtomicU64, Ordering};

/// The network traffic of a client and its clones since it was made.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Connections tried, with or without success. Several addresses of one host count as one.
    pub connections: u64,
    /// Bytes received above TCP: heads, bodies, and TLS.
    pub received_bytes: u64,
}

/// The counters. Relaxed, as no decision depends on the order of two of them.
#[derive(Debug, Default)]
pub(super) struct Meter {
    connections: AtomicU64,
    received_bytes: AtomicU64,
}

impl Meter {
    pub(super) fn connection(&self) {
        // Relaxed: the figures are read for themselves, and order nothing else.
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Traffic {
        Traffic {
            connections: self.connections.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
        }
    }
}
