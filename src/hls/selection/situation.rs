//! What a selector is told when it is asked.

use std::time::Duration;

/// One Variant Stream that may be chosen.
///
/// ```
/// use kithara::hls::selection::Rung;
///
/// let rung = Rung::new(132_000).average_bandwidth(128_000).codecs("mp4a.40.2");
/// assert_eq!(rung.bit_rate(), 128_000);
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rung {
    /// Peak bits per second (BANDWIDTH); 0 where nothing says.
    pub bandwidth: u64,
    /// Average bits per second (AVERAGE-BANDWIDTH).
    pub average_bandwidth: Option<u64>,
    /// Formats (CODECS; RFC 6381), as the playlist has them.
    pub codecs: Option<String>,
    /// Size in bytes of its next segment, where that is known.
    pub next_bytes: Option<u64>,
    /// How long what the cache has of it plays, from its next segment on without a hole. Zero if the cache does not have all
    /// of the next segment.
    pub cached: Duration,
}

impl Rung {
    /// A Variant Stream of this BANDWIDTH: peak bits per second.
    pub fn new(bandwidth: u64) -> Self {
        Self {
            bandwidth,
            ..Self::default()
        }
    }

    /// Average bits per second (AVERAGE-BANDWIDTH).
    #[must_use]
    pub fn average_bandwidth(mut self, bits_per_second: u64) -> Self {
        self.average_bandwidth = Some(bits_per_second);
        self
    }

    /// Formats (CODECS; RFC 6381).
    #[must_use]
    pub fn codecs(mut self, codecs: impl Into<String>) -> Self {
        self.codecs = Some(codecs.into());
        self
    }

    /// Size in bytes of its next segment.
    #[must_use]
    pub fn next_bytes(mut self, bytes: u64) -> Self {
        self.next_bytes = Some(bytes);
        self
    }

    /// How long what the cache has of it plays, from its next segment on.
    #[must_use]
    pub fn cached(mut self, time: Duration) -> Self {
        self.cached = time;
        self
    }

    /// Bits per second to reckon with over many segments: the average where it is known, else the peak.
    pub fn bit_rate(&self) -> u64 {
        self.average_bandwidth.unwrap_or(self.bandwidth)
    }
}

/// Where a stream stands when its selector is asked.
///
/// ```
/// use std::time::Duration;
/// use kithara::hls::selection::{Rung, Situation};
///
/// let ladder = [Rung::new(64_000), Rung::new(128_000)];
/// let situation = Situation::new(Duration::ZERO, &ladder)
///     .segment(Duration::from_secs(6))
///     .look_ahead(Duration::from_secs(300));
/// assert_eq!(situation.current, None);
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The time, counted from any moment that stays the same for this selector. It does not go back.
    pub now: Duration,
    /// The Variant Streams to choose from, in any order. Answers are places in it.
    pub ladder: &'a [Rung],
    /// The one that the segment before the next one is of. `None` before the first.
    pub current: Option<usize>,
    /// How long what has arrived plays, from where the listener is.
    pub buffered: Duration,
    /// The most that is fetched ahead of the listener.
    pub look_ahead: Duration,
    /// How long the next segment plays.
    pub segment: Duration,
    /// How long the track plays from the start of the next segment on, where that is known.
    pub remaining: Option<Duration>,
    /// The app's limit in bits per second, held against [`Rung::bandwidth`].
    pub max_bit_rate: Option<u64>,
}

impl<'a> Situation<'a> {
    /// The start of a track at this time: nothing is buffered, and nothing was chosen.
    pub fn new(now: Duration, ladder: &'a [Rung]) -> Self {
        Self {
            now,
            ladder,
            current: None,
            buffered: Duration::ZERO,
            look_ahead: Duration::from_secs(300),
            segment: Duration::from_secs(6),
            remaining: None,
            max_bit_rate: None,
        }
    }

    /// The Variant Stream of the segment before the next one.
    #[must_use]
    pub fn current(mut self, rung: Option<usize>) -> Self {
        self.current = rung;
        self
    }

    /// How long what has arrived plays.
    #[must_use]
    pub fn buffered(mut self, time: Duration) -> Self {
        self.buffered = time;
        self
    }

    /// The most that is fetched ahead; 5 minutes unless set.
    #[must_use]
    pub fn look_ahead(mut self, time: Duration) -> Self {
        self.look_ahead = time;
        self
    }

    /// How long the next segment plays; 6 seconds unless set.
    #[must_use]
    pub fn segment(mut self, time: Duration) -> Self {
        self.segment = time;
        self
    }

    /// How long the track plays from the start of the next segment on.
    #[must_use]
    pub fn remaining(mut self, time: Option<Duration>) -> Self {
        self.remaining = time;
        self
    }

    /// The app's limit in bits per second.
    #[must_use]
    pub fn max_bit_rate(mut self, bits_per_second: Option<u64>) -> Self {
        self.max_bit_rate = bits_per_second;
        self
    }

    /// Whether the app's limit allows a Variant Stream. If it allows none, it allows the lowest.
    pub fn is_allowed(&self, rung: usize) -> bool {
        let Some(asked) = self.ladder.get(rung) else {
            return false;
        };
        let Some(limit) = self.max_bit_rate else {
            return true;
        };
        asked.bandwidth <= limit
            || self.ladder.iter().all(|rung| rung.bandwidth > limit) && lowest(self.ladder) == Some(rung)
    }

    /// The places of the Variant Streams that the app's limit allows, and these, in the ladder's order.
    pub fn allowed(&self) -> impl Iterator<Item = (usize, &'a Rung)> + '_ {
        let all = self.ladder.iter().enumerate();
        all.filter(|(place, _)| self.is_allowed(*place))
    }
}

fn lowest(ladder: &[Rung]) -> Option<usize> {
    let places = ladder.iter().enumerate();
    places
        .min_by_key(|(_, rung)| rung.bandwidth)
        .map(|(place, _)| place)
}

/// A segment that is being fetched.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentTransfer {
    /// The Variant Stream that it is of.
    pub rung: usize,
    /// How long the segment plays.
    pub duration: Duration,
    /// Bytes of it that have arrived.
    pub received: u64,
    /// Its size in bytes, where that is known.
    pub size: Option<u64>,
    /// The time since it was asked for.
    pub elapsed: Duration,
}

impl SegmentTransfer {
    /// A segment of which nothing has arrived.
    pub fn new(rung: usize, duration: Duration) -> Self {
        Self {
            rung,
            duration,
            received: 0,
            size: None,
            elapsed: Duration::ZERO,
        }
    }

    /// Bytes that have arrived.
    #[must_use]
    pub fn received(mut self, bytes: u64) -> Self {
        self.received = bytes;
        self
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(mut self, bytes: Option<u64>) -> Self {
        self.size = bytes;
        self
    }

    /// The time since it was asked for.
    #[must_use]
    pub fn elapsed(mut self, time: Duration) -> Self {
        self.elapsed = time;
        self
    }
}

/// A segment that is there, and that the listener has not reached.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldSegment {
    /// The Variant Stream that it is of.
    pub rung: usize,
    /// How long it plays.
    pub duration: Duration,
    /// When the listener reaches its start, counted from now.
    pub starts_in: Duration,
}

impl HeldSegment {
    /// A segment that plays so long, and that the listener reaches in `starts_in`.
    pub fn new(rung: usize, duration: Duration, starts_in: Duration) -> Self {
        Self {
            rung,
            duration,
            starts_in,
        }
    }
}

/// A segment that is there is to be fetched again from another Variant Stream.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Improvement {
    /// The segment's place among those that are held.
    pub segment: usize,
    /// The Variant Stream to fetch it from.
    pub rung: usize,
}

impl Improvement {
    /// The segment at this place, from this Variant Stream.
    pub fn new(segment: usize, rung: usize) -> Self {
        Self { segment, rung }
    }
}
