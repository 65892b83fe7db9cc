//! What of a file or a track is in the cache, and what is missing.

use std::{fmt, ops::Range, time::Duration};

use super::Total;

/// What of a file or a track is in the cache: found by looking, and not by a note that says so.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Bytes that are there, as they were fetched. Of a track those of keys and playlists do not count.
    pub bytes: u64,
    /// Bytes that there are.
    pub total: Total,
    /// How long that plays which is there. `None` of a file.
    pub time: Option<Duration>,
    /// How long all of it plays.
    pub duration: Option<Duration>,
    /// What is missing, or damaged, in the order in which it plays. Empty if all of it is there.
    pub holes: Vec<Hole>,
}

/// Something that a file or a track needs, and that the cache does not have.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// What it is, with its URL, without query and credentials.
    pub resource: String,
    /// The missing bytes of it. `None` if all of it is missing.
    pub bytes: Option<Range<u64>>,
    /// When it plays. `None` of a file, and of a playlist.
    pub time: Option<Range<Duration>>,
    /// Whether it was there, and its bytes are not those that were written. The cache gives up such an entry.
    pub is_damaged: bool,
}

impl Stored {
    /// Nothing is there, and nothing is known but that this is missing.
    pub(crate) fn nothing(resource: String) -> Self {
        Self {
            bytes: 0,
            total: Total::AtLeast(0),
            time: None,
            duration: None,
            holes: vec![Hole::of(resource)],
        }
    }

    /// Whether all of it is there.
    pub fn is_complete(&self) -> bool {
        self.holes.is_empty()
    }
}

impl Hole {
    pub(crate) fn of(resource: String) -> Self {
        Self {
            resource,
            bytes: None,
            time: None,
            is_damaged: false,
        }
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_damaged { "damaged" } else { "missing" };
        write!(f, "{what}: {}", self.resource)?;
        if let Some(bytes) = &self.bytes {
            write!(f, ", bytes {} to {}", bytes.start, bytes.end)?;
        }
        if let Some(time) = &self.time {
            write!(f, ", from {:.1} s", time.start.as_secs_f64())?;
        }
        Ok(())
    }
}
