//! What one stream wants to be fetched: the part that it reads, and those that it reads next.
//!
//! ```text
//!   parts   0    1    2    3    4    5    6    7
//!          read read  ▲    kept  on   on   ▲
//!                     │         their way  │
//!                 position                head: the first one that was not looked at
//! ```

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::{
        HlsError, local,
        params::Reach,
        pending_commits::Bypassed,
        track::{Part, Track},
    },
    transfer::{Ended, Left, Transfer},
};

/// How long a part that has failed waits before it is tried again, at first and at most. Its reader does not wait: when its
/// turn has come it is fetched at once.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// Why nothing is fetched ahead.
enum Pause {
    Until(Instant),
    /// Until the stream wants the part itself: only it can tell what to do.
    Reader(usize),
}

pub(super) struct Window {
    pub(super) id: u64,
    track: Arc<Track>,
    /// When what plays is not fetched ahead any more.
    until: Duration,
    /// The part that the stream reads, or is about to.
    position: usize,
    head: usize,
    /// A section from further back that the stream reads first.
    section: Option<usize>,
    /// On their way, or held.
    parts: BTreeMap<usize, Arc<Transfer>>,
    /// Fetched for this stream, kept, and not read yet, with their bytes.
    ahead: BTreeMap<usize, u64>,
    /// The parts that the network gave, as the stream will tell.
    fetched: HashSet<usize>,
    pause: Option<Pause>,
    failures: u32,
    /// What is not kept, and was not told.
    pub(super) bypassed: Option<Bypassed>,
}

impl Window {
    pub(super) fn new(id: u64, track: Arc<Track>, until: Duration) -> Self {
        Self {
            id,
            track,
            until,
            position: 0,
            head: 0,
            section: None,
            parts: BTreeMap::new(),
            ahead: BTreeMap::new(),
            fetched: HashSet::new(),
            pause: None,
            failures: 0,
            bypassed: None,
        }
    }

    pub(super) fn track(&self) -> &Arc<Track> {
        &self.track
    }

    /// The stream reads this part now, of this list, and before it `section`.
    pub(super) fn place(&mut self, track: &Arc<Track>, section: Option<usize>, position: usize) {
        if !Arc::ptr_eq(&self.track, track) {
            if !self.track.is_same_list(track) {
                *self = Self::new(self.id, track.clone(), self.until);
                self.head = position;
            }
            // The same list, under other URLs: what failed may be there now.
            self.track = track.clone();
            self.pause = None;
        }
        let is_jump = position < self.position || position > self.head;
        if is_jump || self.position == 0 && self.head == 0 {
            self.head = position;
        }
        (self.section, self.position) = (section, position);
        if let Some(Pause::Reader(part)) = self.pause
            && part < position
        {
            self.pause = None;
        }
        // One on its way to the disk is neither there to be fetched nor kept, for other streams that want it.
        self.parts.retain(|number, transfer| {
            *number >= position || Some(*number) == section || transfer.is_committing()
        });
        self.ahead.retain(|number, _| *number > position);
        self.fetched
            .retain(|number| *number >= position || Some(*number) == section);
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (usize, &Arc<Transfer>)> {
        self.parts.iter().map(|(number, transfer)| (*number, transfer))
    }

    pub(super) fn transfer(&self, number: usize) -> Option<&Arc<Transfer>> {
        self.parts.get(&number)
    }

    pub(super) fn was_fetched(&self, number: usize) -> bool {
        self.fetched.contains(&number)
    }

    /// The stream wants this part itself. What is behind it is tried again too.
    pub(super) fn demand(&mut self, number: usize, transfer: Arc<Transfer>) {
        self.pause = None;
        self.head = self.head.max(number + 1);
        self.add(number, transfer);
    }

    pub(super) fn add(&mut self, number: usize, transfer: Arc<Transfer>) {
        self.parts.insert(number, transfer);
    }

    /// How much is there behind the part that is read, in time and in bytes that were fetched.
    pub(super) fn buffered(&self) -> (Duration, u64) {
        let first_missing = self.parts.iter().find(|(number, transfer)| {
            **number > self.position && !matches!(transfer.ended(), Some(Ended::Held))
        });
        let end = first_missing.map_or(self.head, |(number, _)| (*number).min(self.head));
        let time = |number: usize| self.track.part(number).map_or(self.track.duration(), Part::time);
        let from = time((self.position + 1).min(end));
        let ahead = time(end).saturating_sub(from);
        let bytes = self.ahead.range(..end);
        (ahead, bytes.map(|(_, bytes)| bytes).sum())
    }

    /// Takes notice of what the parts on their way came to.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.resumes_at().is_some_and(|at| at <= now) {
            self.pause = None;
        }
        let mut ended = Vec::new();
        self.parts.retain(|number, transfer| match transfer.ended() {
            None => true,
            Some(Ended::Held) => {
                self.failures = 0;
                true
            }
            Some(end) => {
                ended.push((*number, end, transfer.media.clone()));
                false
            }
        });
        for (number, end, media) in ended {
            match end {
                Ended::Held | Ended::Left(Left::Cached) => self.failures = 0,
                Ended::Kept(bytes) => {
                    self.failures = 0;
                    self.fetched.insert(number);
                    if number > self.position {
                        self.ahead.insert(number, bytes);
                    }
                }
                Ended::Left(left) => {
                    self.head = self.head.min(number);
                    // Under a URL that has expired: the new one has not been tried.
                    let part = self.track.part(number).and_then(|part| part.media.as_ref());
                    if part.is_some_and(|part| part.locator.url == media.locator.url) {
                        self.fail(number, &left, now);
                    }
                }
            }
        }
    }

    fn fail(&mut self, number: usize, left: &Left, now: Instant) {
        let is_transient = match left {
            Left::GivenUp => return,
            // A portal lets through after a while.
            Left::Failed(error) => error.is_transient() || matches!(error, HlsError::NotMedia { .. }),
            _ => false,
        };
        if !is_transient {
            self.pause = Some(Pause::Reader(number));
            // What waits in memory behind it keeps connections, which the stream may need to find out what is wrong.
            self.parts
                .retain(|behind, transfer| *behind <= number || transfer.is_kept() || transfer.is_read());
            return;
        }
        // Several parts may have failed by one cause.
        if self.pause.is_some() {
            return;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.failures.min(8))
            .min(LONGEST_PAUSE);
        self.failures += 1;
        self.pause = Some(Pause::Until(now + pause));
    }

    /// When it goes on, if it pauses for a time.
    pub(super) fn resumes_at(&self) -> Option<Instant> {
        match self.pause {
            Some(Pause::Until(at)) => Some(at),
            _ => None,
        }
    }

    /// How far the head is in front of the stream, if the next part is to be fetched.
    pub(super) fn wants_more(&self, reach: Reach) -> Option<Duration> {
        if self.pause.is_some() {
            return None;
        }
        let time = |number| self.track.part(number).map(Part::time);
        // The part that is read first, without asking.
        let ahead = time(self.head)?.saturating_sub(time(self.position)?);
        if self.head <= self.position {
            return Some(ahead);
        }
        // What is not kept fills the memory. One part in front of the stream's is enough to cover a request.
        let is_held =
            |(number, transfer): (&usize, &Arc<Transfer>)| *number > self.position && !transfer.is_kept();
        let on_their_way = self.parts.iter().filter(|(number, _)| **number > self.position);
        let bytes =
            on_their_way.map(|(_, transfer)| transfer.len()).sum::<u64>() + self.ahead.values().sum::<u64>();
        let is_full = ahead > reach.time
            || time(self.head)? >= self.until
            || bytes >= reach.bytes
            || self.parts.iter().any(is_held);
        (!is_full).then_some(ahead)
    }

    /// The next part to look at, with its number.
    pub(super) fn next(&mut self) -> Option<usize> {
        if let Some(section) = self.section.take()
            && !self.parts.contains_key(&section)
        {
            return Some(section);
        }
        let number = self.head;
        self.track.part(number)?;
        self.head += 1;
        Some(number)
    }

    /// Whether there is something to fetch for a part.
    pub(super) fn is_fetched(&self, number: usize) -> bool {
        let media = self.track.part(number).and_then(|part| part.media.as_ref());
        media.is_some_and(|media| !local::is_local(&media.locator.url) && !self.parts.contains_key(&number))
    }
}
