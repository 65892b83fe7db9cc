//! What one stream reads: Variant Streams one behind the other.
//!
//! ```text
//!   128 kbit/s   [s0][s1][s2]
//!    64 kbit/s               [s3][s4]             a window each
//!   128 kbit/s                       [s5][s6] …
//!                   ▲                     ▲
//!                 reader              head: the Variant Stream of the next segment is chosen here
//! ```
//!
//! The driver decides at the head, where what comes next has not been asked for. The stream follows: where a segment begins it
//! asks whether another window goes on there.

mod improving;

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

pub(super) use self::improving::Held;
use self::improving::{Improving, QuestionPlace};
use super::{
    super::{
        editions::Question,
        params::Reach,
        track::{Part, Track},
    },
    ladder::Ladder,
    transfer::Transfer,
    window::{At, Window},
};

/// Whether the Variant Stream may change, and among which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hls) enum Choosing {
    /// It stays: positions in bytes are looked for, or the app has chosen one.
    No,
    /// The server is asked for what the cache lacks.
    Online,
    /// Only what the cache has is played.
    Offline,
}

/// What the stream does where a segment begins.
pub(in crate::hls) enum Follow {
    /// It goes on in its list.
    Stay,
    /// It goes over to this one, of which the server is to be asked something.
    Change(Arc<Track>, Option<Question>),
}

pub(super) struct Plan {
    pub(super) id: u64,
    /// When what plays is not fetched ahead any more.
    until: Duration,
    /// In the order in which they are read; the stream is in the first one. Never empty.
    windows: VecDeque<Window>,
    /// On their way to the disk, of lists that the stream has left: neither there to be fetched nor kept.
    leaving: Vec<Arc<Transfer>>,
    pub(super) choosing: Choosing,
    /// A Variant Stream that is chosen for the part at the head, and whose list is being loaded.
    pub(super) awaited: Option<(usize, Head)>,
    /// A held segment that is fetched again.
    improving: Improving,
    /// Where stream and head were when the selector was asked about that.
    asked_to_improve: Option<QuestionPlace>,
    /// Until then none is, as the last one was in vain.
    improves_from: Option<Instant>,
    /// The share of the part at the position that the stream has read, in bytes.
    read: u64,
    /// The stream, while it waits for a decision.
    waiting: Option<Waker>,
}

/// The place at which a Variant Stream is to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) plan: u64,
    pub(super) number: usize,
    pub(super) time: Duration,
}

/// What falls out of a plan. It is dropped without the lock: with a transfer what its readers left goes.
pub(super) type Gone = (VecDeque<Window>, Vec<Arc<Transfer>>);

/// A segment that is being fetched.
pub(super) struct UnderWay {
    pub(super) plan: u64,
    number: usize,
    pub(super) time: Duration,
    pub(super) track: Arc<Track>,
    pub(super) transfer: Arc<Transfer>,
    /// The Variant Stream of the segment before it.
    pub(super) before: Option<usize>,
}

impl UnderWay {
    /// How long it plays.
    pub(super) fn duration(&self) -> Duration {
        self.track
            .part(self.number)
            .map(Part::duration)
            .unwrap_or_default()
    }

    /// Its size in bytes, where that is known.
    pub(super) fn size(&self) -> Option<u64> {
        self.transfer
            .announced()
            .or_else(|| self.track.part_len(self.number))
    }
}

impl Plan {
    pub(super) fn new(id: u64, track: Arc<Track>, until: Duration) -> Self {
        Self {
            id,
            until,
            windows: VecDeque::from([Window::new(track, until)]),
            leaving: Vec::new(),
            choosing: Choosing::No,
            awaited: None,
            improving: Improving::Nothing,
            asked_to_improve: None,
            improves_from: None,
            read: 0,
            waiting: None,
        }
    }

    /// The stream reads this part now. What falls out of the plan is given back: it is dropped without the lock.
    pub(super) fn place(&mut self, track: &Arc<Track>, at: At, choosing: Choosing) -> Gone {
        let (mut gone, mut parts) = (VecDeque::new(), Vec::new());
        if let Some(place) = self.windows.iter().position(|window| window.is_of(track)) {
            let rest = self.windows.split_off(place);
            gone = mem::replace(&mut self.windows, rest);
        } else {
            let window = Window::new(track.clone(), self.until);
            gone.append(&mut mem::replace(&mut self.windows, VecDeque::from([window])));
            self.awaited = None;
        }
        self.leaving.retain(|transfer| transfer.is_committing());
        let left = gone.iter().flat_map(Window::parts);
        let left = left.filter(|(_, transfer)| transfer.is_committing());
        self.leaving.extend(left.map(|(_, transfer)| transfer.clone()));
        let Some(first) = self.windows.front_mut() else {
            return (gone, parts);
        };
        // Where the stream did not follow, the plan is one about another way.
        let has_left = first.end().is_some_and(|end| at.position > end);
        if has_left || choosing == Choosing::No {
            first.set_end(None);
            gone.append(&mut self.windows.split_off(1));
            self.awaited = None;
        }
        if choosing != self.choosing {
            self.awaited = None;
            parts = self.drop_better();
        }
        if let Some(first) = self.windows.front_mut() {
            first.place(track, at);
            if choosing == Choosing::Online {
                first.set_answered();
            }
            // What was fetched without a choice is in the cache, or is chosen once more.
            if choosing != Choosing::No && self.choosing == Choosing::No {
                parts.extend(first.go_back(at.position).into_values());
            }
        }
        (self.choosing, self.read) = (choosing, 0);
        (gone, parts)
    }

    pub(super) fn windows(&self) -> impl Iterator<Item = &Window> {
        self.windows.iter()
    }

    pub(super) fn windows_mut(&mut self) -> impl Iterator<Item = &mut Window> {
        self.windows.iter_mut()
    }

    /// The window in which the stream is.
    pub(super) fn first(&mut self) -> Option<&mut Window> {
        self.windows.front_mut()
    }

    pub(super) fn transfers(&self) -> impl Iterator<Item = &Arc<Transfer>> {
        let parts = self.windows.iter().flat_map(Window::parts);
        parts
            .map(|(_, transfer)| transfer)
            .chain(&self.leaving)
            .chain(self.improving.transfers())
    }

    /// The stream has read so many bytes of the part that it is at.
    pub(super) fn set_read(&mut self, bytes: u64) {
        self.read = bytes;
    }

    /// What the stream does in front of this part.
    pub(super) fn follow(&mut self, number: usize, task: &Context<'_>) -> Poll<Follow> {
        let Some(first) = self.windows.front() else {
            return Poll::Ready(Follow::Stay);
        };
        if first.end() == Some(number)
            && let Some(next) = self.windows.get(1)
        {
            return Poll::Ready(Follow::Change(next.track().clone(), next.question()));
        }
        // Else nobody would decide it.
        let is_head =
            self.windows.len() == 1 && first.head() == number && first.track().is_start_of_segment(number);
        if self.choosing == Choosing::No || first.is_decided(number) || !is_head {
            return Poll::Ready(Follow::Stay);
        }
        self.waiting = Some(task.waker().clone());
        Poll::Pending
    }

    /// The stream, if it waits for a decision. It is woken without the lock.
    pub(super) fn take_waiting(&mut self) -> Option<Waker> {
        self.waiting.take()
    }

    /// The window that is to be filled next.
    fn open_place(&self) -> usize {
        let open = self.windows.iter().position(|window| !window.is_complete());
        open.unwrap_or(self.windows.len().saturating_sub(1))
    }

    pub(super) fn open(&mut self) -> Option<&mut Window> {
        let place = self.open_place();
        self.windows.get_mut(place)
    }

    /// How far the head is in front of the stream, if there is room for the next part.
    fn room(&self, reach: Reach) -> Option<Duration> {
        let place = self.open_place();
        let (first, open) = (self.windows.front()?, self.windows.get(place)?);
        if self.windows.iter().any(Window::is_paused) || open.is_unanswered() {
            return None;
        }
        // The part that is read first, without asking.
        let ahead = open
            .time(open.head())?
            .saturating_sub(first.time(first.position())?);
        if place == 0 && open.head() <= open.position() {
            return Some(ahead);
        }
        // What is not kept fills the memory. One part in front of the stream's is enough to cover a request.
        let is_full = ahead > reach.time
            || open.is_beyond()
            || self.windows.iter().map(Window::bytes_ahead).sum::<u64>() >= reach.bytes
            || self.windows.iter().any(Window::holds_ahead);
        (!is_full).then_some(ahead)
    }

    /// The head, if it is to be chosen there, and there is room.
    pub(super) fn due(&self, reach: Reach) -> Option<Head> {
        let place = self.open_place();
        let open = self.windows.get(place)?;
        let number = open.head();
        let is_undecided = self.choosing != Choosing::No
            && place + 1 == self.windows.len()
            && !open.is_decided(number)
            && open.track().is_start_of_segment(number);
        if !is_undecided {
            return None;
        }
        // The stream waits there, also while nothing is fetched ahead.
        let is_awaited = place == 0 && number <= open.position();
        if self.choosing == Choosing::Online && !is_awaited {
            self.room(reach)?;
        }
        let (plan, time) = (self.id, open.instant(number)?);
        Some(Head { plan, number, time })
    }

    /// Whether the head is where it was when a selector was asked.
    pub(super) fn is_still_at(&self, head: Head) -> bool {
        let last = self.windows.back().filter(|_| self.choosing != Choosing::No);
        last.is_some_and(|last| {
            let is_there = last.head() == head.number && last.instant(head.number) == Some(head.time);
            is_there && !last.is_decided(head.number)
        })
    }

    /// How far the head is in front of the stream, if the next part is to be fetched.
    pub(super) fn wants_more(&self, reach: Reach) -> Option<Duration> {
        if self.choosing == Choosing::Offline || self.due(reach).is_some() {
            return None;
        }
        self.room(reach)
    }

    /// The head's segment is read from this list. What falls out of the plan is given back.
    pub(super) fn choose(&mut self, head: Head, track: &Arc<Track>, question: Option<Question>) {
        self.awaited = None;
        let Some(last) = self.windows.back_mut() else {
            return;
        };
        if last.is_of(track) {
            last.decide();
            return;
        }
        last.set_end(Some(head.number));
        let window = Window::from(track.clone(), question, head.time, self.until);
        self.windows.push_back(window);
    }

    /// The place of the window that a segment under way is in, if it is still wanted.
    pub(super) fn place_of(&self, under_way: &UnderWay) -> Option<usize> {
        let is_it = |transfer: &Arc<Transfer>| Arc::ptr_eq(transfer, &under_way.transfer);
        let mut windows = self.windows.iter();
        windows.position(|window| window.transfer(under_way.number).is_some_and(is_it))
    }

    /// The segment that begins with this part, in the window at this place, is read from another list. What falls out of the
    /// plan is given back.
    pub(super) fn replace(&mut self, place: usize, under_way: &UnderWay, track: &Arc<Track>) -> Gone {
        let mut gone = self.windows.split_off(place + 1);
        self.awaited = None;
        let Some(window) = self.windows.back_mut() else {
            return (gone, Vec::new());
        };
        let parts = window.go_back(under_way.number).into_values().collect();
        let is_empty = place > 0 && window.is_start(window.track().start_of_segment(under_way.number));
        if is_empty {
            gone.extend(self.windows.pop_back());
        } else {
            window.set_end(Some(under_way.number));
        }
        match self.windows.back_mut() {
            Some(before) if is_empty && before.is_of(track) => {
                before.set_end(None);
                before.decide();
            }
            _ => {
                let window = Window::from(track.clone(), None, under_way.time, self.until);
                self.windows.push_back(window);
            }
        }
        (gone, parts)
    }

    /// The segment that is needed first among those that have not come whole, and the window it is in.
    pub(super) fn under_way(&self) -> Option<UnderWay> {
        let windows = self.windows.iter().enumerate();
        let mut parts = windows.flat_map(|(place, window)| {
            let parts = window.parts();
            parts.map(move |(number, transfer)| (place, window, number, transfer))
        });
        let (place, window, number, transfer) =
            parts.find(|(_, _, _, transfer)| transfer.is_under_way() && !transfer.media.is_section())?;
        // The section before a segment is no segment.
        let is_start = window.is_start(window.track().start_of_segment(number));
        let before = match place.checked_sub(1) {
            Some(before) if is_start => self.windows.get(before),
            None if is_start => None,
            _ => Some(window),
        };
        Some(UnderWay {
            plan: self.id,
            number,
            time: window.instant(number)?,
            track: window.track().clone(),
            transfer: transfer.clone(),
            before: before.map(|window| window.track().facts().number),
        })
    }

    /// Whether another list goes on in the place of this part.
    pub(super) fn ends_at(&self, number: usize) -> bool {
        let first = self.windows.front();
        self.windows.len() > 1 && first.is_some_and(|first| first.end() == Some(number))
    }

    /// Lets go of a list that the stream has not come to, and of which a part was refused. Which Variant Stream that is.
    pub(super) fn drop_refused(&mut self) -> Option<(usize, VecDeque<Window>)> {
        let place = self.windows.iter().position(Window::is_refused_ahead);
        let gone = self.windows.split_off(place.filter(|place| *place > 0)?);
        self.awaited = None;
        let last = self.windows.back_mut()?;
        if let Some(end) = last.end() {
            // What follows it is chosen anew.
            last.go_back(end);
        }
        let variant = gone.front()?.track().facts().number;
        Some((variant, gone))
    }

    /// How long the track goes on behind the head.
    pub(super) fn remaining(&self) -> Duration {
        let Some(last) = self.windows.back() else {
            return Duration::ZERO;
        };
        let end = last.track().duration();
        end.saturating_sub(last.instant(last.head()).unwrap_or(end))
    }

    /// The list that the head is in.
    pub(super) fn last_track(&self) -> Option<&Arc<Track>> {
        self.windows.back().map(Window::track)
    }

    /// Up to when everything has arrived that the stream reads next. What has come of a segment counts.
    fn arrived(&self) -> Duration {
        let mut arrived = Duration::ZERO;
        for window in &self.windows {
            let missing = window.first_missing();
            arrived = window.time(missing).unwrap_or(window.track().duration());
            if window.end() != Some(missing) {
                return arrived + window.share_of(missing, window.len_of(missing));
            }
        }
        arrived
    }

    /// How much is there behind what the stream has read.
    pub(super) fn buffered(&self) -> Duration {
        let Some(first) = self.windows.front() else {
            return Duration::ZERO;
        };
        let position = first.position();
        let from = first.time(position).unwrap_or_default() + first.share_of(position, self.read);
        self.arrived().saturating_sub(from)
    }

    /// How much is there behind the part that is read, in time and in bytes that were fetched.
    pub(super) fn told(&self) -> (Duration, u64) {
        let Some(first) = self.windows.front() else {
            return (Duration::ZERO, 0);
        };
        let (mut end, mut bytes) = (Duration::ZERO, 0);
        for window in &self.windows {
            let missing = window.first_missing();
            end = window.time(missing).unwrap_or(window.track().duration());
            bytes += window.bytes_before(missing);
            if window.end() != Some(missing) {
                break;
            }
        }
        let behind = first.time(first.position() + 1);
        let from = behind.unwrap_or(first.track().duration()).min(end);
        (end.saturating_sub(from), bytes)
    }

    /// The Variant Stream of the segment before the head.
    pub(super) fn before(&self, head: Head) -> Option<usize> {
        let mut windows = self.windows.iter().rev();
        let last = windows.next()?;
        let before = if last.is_start(head.number) {
            windows.next()?
        } else {
            last
        };
        Some(before.track().facts().number)
    }

    /// The parts that were kept since the last call are noted.
    pub(super) fn note_kept(&mut self, ladder: &mut Ladder) {
        for window in &mut self.windows {
            let variant = window.track().facts().number;
            for number in window.take_kept() {
                ladder.note_kept(variant, number);
            }
        }
    }
}
