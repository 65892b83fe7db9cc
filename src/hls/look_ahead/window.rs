//! What one stream wants to be fetched of one list: the part that it reads, and those that it reads next.
//!
//! ```text
//!   parts   0    1    2    3    4    5    6    7
//!          read read  ▲    kept  on   on   ▲
//!                     │         their way  │
//!                 position                head: the first one that was not looked at
//! ```

mod splice;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::{
        HlsError,
        editions::Question,
        local,
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

/// Where a stream is in its list.
#[derive(Debug, Clone, Copy)]
pub(in crate::hls) struct At {
    /// The section from further back that is read now.
    pub(in crate::hls) section: Option<usize>,
    /// The part that plays.
    pub(in crate::hls) position: usize,
    /// The instant that comes next: the start of that part, or where the list was joined.
    pub(in crate::hls) instant: Duration,
}

pub(super) struct Window {
    track: Arc<Track>,
    /// What the server is to be asked before anything of the list is fetched.
    question: Option<Question>,
    /// When what plays is not fetched ahead any more.
    until: Duration,
    /// The part behind the last one, where another list goes on.
    end: Option<usize>,
    /// The part that the stream reads, or is about to.
    position: usize,
    /// Whether the stream has come to this list.
    is_entered: bool,
    /// The first part that was read of it, or will be.
    start: usize,
    /// The instant at which the list is joined, in that part.
    joined: Duration,
    head: usize,
    /// What is before this part is read from this list for sure.
    decided: usize,
    /// A section from further back that the stream reads first.
    section: Option<usize>,
    /// On their way, or held.
    parts: BTreeMap<usize, Arc<Transfer>>,
    /// Fetched for this stream, kept, and not read yet, with their bytes.
    ahead: BTreeMap<usize, u64>,
    /// The parts that the network gave, as the stream will tell.
    fetched: HashSet<usize>,
    /// Those of them that were kept since this was last taken.
    kept: Vec<usize>,
    pause: Option<Pause>,
    failures: u32,
    /// What is not kept, and was not told.
    pub(super) bypassed: Option<Bypassed>,
}

impl Window {
    pub(super) fn new(track: Arc<Track>, until: Duration) -> Self {
        Self {
            track,
            question: None,
            until,
            end: None,
            position: 0,
            is_entered: false,
            start: 0,
            joined: Duration::ZERO,
            head: 0,
            decided: 0,
            section: None,
            parts: BTreeMap::new(),
            ahead: BTreeMap::new(),
            fetched: HashSet::new(),
            kept: Vec::new(),
            pause: None,
            failures: 0,
            bypassed: None,
        }
    }

    pub(super) fn track(&self) -> &Arc<Track> {
        &self.track
    }

    /// What a stream will read from `time` on, when it has come to the end of another list.
    pub(super) fn from(
        track: Arc<Track>,
        question: Option<Question>,
        time: Duration,
        until: Duration,
    ) -> Self {
        let (section, first) = track.part_at(time);
        Self {
            question,
            position: first,
            start: first,
            joined: time,
            head: first,
            // Chosen by who makes this.
            decided: first + 1,
            section,
            ..Self::new(track, until)
        }
    }

    /// Whether this is its list, maybe under other URLs.
    pub(super) fn is_of(&self, track: &Arc<Track>) -> bool {
        Arc::ptr_eq(&self.track, track) || self.track.is_same_list(track)
    }

    /// The stream reads this part now, of this list, and before it `section`.
    pub(super) fn place(&mut self, track: &Arc<Track>, at: At) {
        let At {
            section,
            position,
            instant,
        } = at;
        if !Arc::ptr_eq(&self.track, track) {
            // The same list, under other URLs: what failed may be there now. The part that failed the stream asks for itself.
            self.track = track.clone();
            if !matches!(self.pause, Some(Pause::Reader(part)) if part == position) {
                self.pause = None;
            }
        }
        let is_jump = position < self.position || position > self.head;
        if is_jump || !self.is_entered && self.head == 0 {
            (self.start, self.head) = (position, position);
        }
        if position == self.start {
            self.joined = instant;
        }
        (self.is_entered, self.section, self.position) = (true, section, position);
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

    /// Whether a part lies in front of the one that the stream reads.
    fn is_ahead(&self, number: usize) -> bool {
        number > self.position || !self.is_entered && number == self.position
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The instant that this part goes on at: its start, or where the list is joined.
    pub(super) fn instant(&self, number: usize) -> Option<Duration> {
        self.time(number).map(|time| time.max(self.joined))
    }

    /// Whether nothing before this part was read of it, or will be.
    pub(super) fn is_start(&self, number: usize) -> bool {
        number <= self.start
    }

    pub(super) fn head(&self) -> usize {
        self.head
    }

    pub(super) fn end(&self) -> Option<usize> {
        self.end
    }

    /// Another list goes on in the place of this part; or none does.
    pub(super) fn set_end(&mut self, end: Option<usize>) {
        self.end = end;
    }

    /// Whether all up to its end was looked at.
    pub(super) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.head >= end) && self.section.is_none()
    }

    /// When a part plays; `None` behind the last one.
    pub(super) fn time(&self, number: usize) -> Option<Duration> {
        self.track.part(number).map(Part::time)
    }

    /// What has come of a part that is on its way, in bytes.
    pub(super) fn len_of(&self, number: usize) -> u64 {
        self.parts.get(&number).map_or(0, |transfer| transfer.len())
    }

    /// How long so many bytes of a part play.
    pub(super) fn share_of(&self, number: usize, bytes: u64) -> Duration {
        let Some(part) = self.track.part(number).filter(|part| !part.is_section()) else {
            return Duration::ZERO;
        };
        let playing = part.duration();
        let expected = || u128::from(self.track.facts().bandwidth) * playing.as_millis() / 8_000;
        let size = self.track.part_len(number).map_or_else(expected, u128::from);
        let micros = playing.as_micros().saturating_mul(bytes.into()).checked_div(size);
        let share = micros.and_then(|micros| u64::try_from(micros).ok());
        share.map_or(Duration::ZERO, Duration::from_micros).min(playing)
    }

    /// Whether it is decided that this part is read from this list.
    pub(super) fn is_decided(&self, number: usize) -> bool {
        number < self.decided
    }

    /// The part at the head is read from this list.
    pub(super) fn decide(&mut self) {
        self.decided = self.head + 1;
    }

    /// Nothing from this part on is fetched, and that it is of this list is open again.
    pub(super) fn go_back(&mut self, number: usize) -> BTreeMap<usize, Arc<Transfer>> {
        self.end = None;
        self.head = self.head.min(number);
        self.decided = self.decided.min(number);
        self.ahead.split_off(&number);
        self.parts.split_off(&number)
    }

    /// The parts that were kept since the last call.
    pub(super) fn take_kept(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.kept)
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

    /// The first part ahead that has not arrived whole, or the one behind the last.
    pub(super) fn first_missing(&self) -> usize {
        let first = self.parts.iter().find(|(number, transfer)| {
            self.is_ahead(**number) && !matches!(transfer.ended(), Some(Ended::Held))
        });
        let end = first.map_or(self.head, |(number, _)| (*number).min(self.head));
        end.min(self.end.unwrap_or(usize::MAX))
    }

    /// The bytes that were fetched of the parts ahead, up to this one.
    pub(super) fn bytes_before(&self, number: usize) -> u64 {
        self.ahead.range(..number).map(|(_, bytes)| bytes).sum()
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
                    self.kept.push(number);
                    if self.is_ahead(number) {
                        self.ahead.insert(number, bytes);
                    }
                }
                Ended::Left(left) => {
                    if number < self.position {
                        // A section from further back.
                        self.section = Some(number);
                    } else {
                        self.head = self.head.min(number);
                    }
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
            Left::GivenUp | Left::Switched => return,
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

    /// What the server is to be asked before anything is fetched.
    pub(super) fn question(&self) -> Option<Question> {
        self.question
    }

    /// The server was asked.
    pub(super) fn set_answered(&mut self) {
        self.question = None;
    }

    /// Whether a part was refused of a list that the stream has not come to.
    pub(super) fn is_refused_ahead(&self) -> bool {
        !self.is_entered && matches!(self.pause, Some(Pause::Reader(_)))
    }

    /// Whether nothing may be fetched of it yet.
    pub(super) fn is_unanswered(&self) -> bool {
        !self.is_entered && self.question.is_some()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Whether something in front of the stream's part waits in memory, as nothing keeps it.
    pub(super) fn holds_ahead(&self) -> bool {
        let mut parts = self.parts.iter();
        parts.any(|(number, transfer)| self.is_ahead(*number) && !transfer.is_kept())
    }

    /// The bytes of the parts ahead, on their way and fetched.
    pub(super) fn bytes_ahead(&self) -> u64 {
        let on_their_way = self.parts.iter().filter(|(number, _)| self.is_ahead(**number));
        let on_their_way: u64 = on_their_way.map(|(_, transfer)| transfer.len()).sum();
        on_their_way + self.ahead.values().sum::<u64>()
    }

    /// Whether the part at the head is one that plays too late to be fetched ahead.
    pub(super) fn is_beyond(&self) -> bool {
        self.time(self.head).is_some_and(|time| time >= self.until)
    }

    /// The next part to look at, with its number.
    pub(super) fn next(&mut self) -> Option<usize> {
        if let Some(section) = self.section.take()
            && !self.parts.contains_key(&section)
        {
            return Some(section);
        }
        let number = self.head;
        if self.end.is_some_and(|end| number >= end) {
            return None;
        }
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
