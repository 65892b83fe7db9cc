//! What a client has cost the network so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a client and its clones have asked of the network since it was made.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// How often a connection was tried, with or without success. A host's several addresses count as one.
    pub connections: u64,
    /// Bytes received, everything above TCP counted: heads, bodies, and TLS where there is any.
    pub received_bytes: u64,
}

/// Sums that say nothing about an order, so relaxed ones will do.
#[derive(Debug, Default)]
pub(super) struct Meter {
    connections: AtomicU64,
    received_bytes: AtomicU64,
}

impl Meter {
    pub(super) fn connection(&self) {
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
