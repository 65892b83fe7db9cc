//! What is found, awaited and told of a resource: plain data.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What [`StreamingResource::read_at`](super::StreamingResource::read_at) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The number of bytes read: at least one, or none into an empty buffer.
    Bytes(usize),
    /// The byte at the offset is not present yet.
    Missing,
    /// The offset is at or behind the proven end.
    End,
}

/// How a wait ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// These bytes are present: the range that was asked for, cut at the proven end if that lies within.
    Present(Range<u64>),
    /// The range begins at or behind the proven end.
    End {
        /// The end, in bytes.
        len: u64,
    },
}

/// What readers need at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Demand {
    /// The missing bytes that readers wait for, the longest wait first. Half-open ranges, cut at the known end. Each
    /// reaches as far as the waiting read asked, although its first byte is enough to end the wait.
    pub waiting: Vec<Range<u64>>,
    /// The position of each reader, in no order. Exact when a reader jumps or waits, otherwise up to 64 KiB behind.
    pub positions: Vec<u64>,
}

/// How the writing of a resource stands.
#[non_exhaustive]
pub enum Condition<E> {
    /// There is no writer. The next [`Writer`](super::Writer) goes on from the bytes present.
    Idle,
    /// There is a writer.
    Writing,
    /// All bytes are present, under the final name.
    Complete,
    /// A writer gave up with this cause. The next writer clears it.
    Failed(Arc<E>),
    /// A writer gave up for good with this cause, and the files are removed.
    Discarded(Arc<E>),
}

// By hand here and below: derived ones would ask that the app's `E` is `Clone`, although only the `Arc` is cloned.
impl<E> Clone for Condition<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Idle => Self::Idle,
            Self::Writing => Self::Writing,
            Self::Complete => Self::Complete,
            Self::Failed(cause) => Self::Failed(cause.clone()),
            Self::Discarded(cause) => Self::Discarded(cause.clone()),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Condition<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("Idle"),
            Self::Writing => f.write_str("Writing"),
            Self::Complete => f.write_str("Complete"),
            Self::Failed(cause) => f.debug_tuple("Failed").field(cause).finish(),
            Self::Discarded(cause) => f.debug_tuple("Discarded").field(cause).finish(),
        }
    }
}

/// A resource at one moment: what a progress bar shows.
#[non_exhaustive]
pub struct Status<E> {
    /// The bytes present: half-open ranges, ascending, none touching the next.
    pub available: Vec<Range<u64>>,
    /// The end in bytes, if it is known.
    pub len: Option<u64>,
    /// How the writing stands.
    pub condition: Condition<E>,
    /// The positions at which readers wait for bytes now.
    pub stalled_at: Vec<u64>,
    /// How many times a reader had to wait so far. It counts stalls that began and ended between two looks.
    pub stalls: u64,
}

impl<E> Clone for Status<E> {
    fn clone(&self) -> Self {
        Self {
            available: self.available.clone(),
            len: self.len,
            condition: self.condition.clone(),
            stalled_at: self.stalled_at.clone(),
            stalls: self.stalls,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Status<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("available", &self.available)
            .field("len", &self.len)
            .field("condition", &self.condition)
            .field("stalled_at", &self.stalled_at)
            .field("stalls", &self.stalls)
            .finish()
    }
}
