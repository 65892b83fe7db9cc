//! A segment that is held is fetched again, from a better Variant Stream, and is read in the place of the first one.
//!
//! ```text
//!   asked ─▶ list awaited ─▶ fetching ─┬─ kept: the windows are spliced
//!              │                       └─ the stream is there, it failed, or nothing keeps it: dropped
//!              └─ not to be had: dropped
//! ```
//!
//! The first one stays in its place until the better one is in the cache, with its initialization section. So nothing is lost if
//! it never comes.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::{
        super::{local, params::Reach, track::Track},
        transfer::{Ended, Left, Transfer},
        window::Window,
    },
    Choosing, Plan,
};

/// A better one that is silent for so long is dropped: what comes next waits for it.
const SILENCE_LIMIT: Duration = Duration::from_secs(3);
/// For so long nothing is fetched again where a better one was in vain.
const PAUSE: Duration = Duration::from_secs(16);

/// A segment that is in the cache, and that the stream has not come to.
#[derive(Clone)]
pub(in crate::hls::look_ahead) struct Held {
    track: Arc<Track>,
    number: usize,
    pub(in crate::hls::look_ahead) time: Duration,
    pub(in crate::hls::look_ahead) duration: Duration,
}

impl Held {
    pub(in crate::hls::look_ahead) fn track(&self) -> &Arc<Track> {
        &self.track
    }

    pub(in crate::hls::look_ahead) fn variant(&self) -> usize {
        self.track.facts().number
    }

    /// The part of `list` that plays exactly when this one does, and before it the section to fetch with it. `None` where the
    /// two lists are not cut alike.
    pub(in crate::hls::look_ahead) fn in_list(&self, list: &Track) -> Option<(Option<usize>, usize)> {
        let (section, first) = list.part_at(self.time);
        let (section, number) = if list.part(first)?.is_section() {
            (Some(first), first + 1)
        } else {
            (section, first)
        };
        let part = list.part(number).filter(|part| !part.is_section())?;
        let is_aligned = part.time() == self.time && part.duration() == self.duration;
        // Where a list ends the stream ends.
        let goes_on = list.part(number + 1).is_some() || self.track.part(self.number + 1).is_none();
        (is_aligned && goes_on && is_remote(list, number))
            .then(|| (section.filter(|section| is_remote(list, *section)), number))
    }
}

/// The better one.
pub(in crate::hls::look_ahead) struct Better {
    held: Held,
    list: Arc<Track>,
    number: usize,
    /// Its section, where that is fetched, and itself.
    transfers: Vec<Arc<Transfer>>,
}

/// Where the stream and the head are when the selector is asked.
#[derive(PartialEq, Eq)]
pub(super) struct QuestionPlace {
    stream: Duration,
    /// The list that the head is in.
    variant: usize,
    head: usize,
    on_their_way: usize,
}

#[derive(Default)]
pub(in crate::hls::look_ahead) enum Improving {
    #[default]
    Nothing,
    /// The list of a Variant Stream is being loaded.
    Awaited(Held, usize),
    Fetching(Better),
}

/// Whether a part is fetched, and is no gap.
fn is_remote(list: &Track, part: usize) -> bool {
    let media = list.part(part).and_then(|part| part.media.as_ref());
    media.is_some_and(|media| !local::is_local(&media.locator.url))
}

/// How a better segment ended.
enum End {
    /// This many bytes were fetched of it.
    Kept(Option<u64>),
    Failed,
    Dropped,
}

impl Better {
    fn end(&self, now: Instant) -> Option<End> {
        let mut bytes = None;
        for transfer in &self.transfers {
            match transfer.ended() {
                Some(Ended::Kept(len)) => {
                    if !transfer.media.is_section() {
                        bytes = Some(len);
                    }
                }
                Some(Ended::Left(Left::Cached)) => {}
                Some(Ended::Left(Left::Failed(error))) if !error.is_transient() => {
                    return Some(End::Failed);
                }
                Some(Ended::Left(_) | Ended::Held) => return Some(End::Dropped),
                None if !transfer.is_kept() => return Some(End::Dropped),
                None if transfer.is_under_way() && transfer.last() + SILENCE_LIMIT <= now => {
                    return Some(End::Dropped);
                }
                None => return None,
            }
        }
        Some(End::Kept(bytes))
    }
}

impl Improving {
    pub(super) fn transfers(&self) -> &[Arc<Transfer>] {
        match self {
            Self::Fetching(better) => &better.transfers,
            _ => &[],
        }
    }
}

impl Plan {
    /// Whether something may be fetched again, and the selector was not asked about it yet.
    pub(in crate::hls::look_ahead) fn may_improve(&self, reach: Reach, now: Instant) -> bool {
        self.choosing == Choosing::Online
            && self.awaited.is_none()
            && matches!(self.improving, Improving::Nothing)
            && self.improves_from.is_none_or(|from| from <= now)
            && !self.windows.iter().any(Window::is_paused)
            && self.windows.iter().map(Window::bytes_ahead).sum::<u64>() < reach.bytes
            && self.asked_to_improve != self.place_of_question()
    }

    /// The selector is being asked.
    pub(in crate::hls::look_ahead) fn set_asked_to_improve(&mut self) {
        self.asked_to_improve = self.place_of_question();
    }

    /// Another answer may be given where the stream or the head has moved, or what was on its way to the disk is held.
    fn place_of_question(&self) -> Option<QuestionPlace> {
        let on_their_way = self.windows.iter().flat_map(Window::parts).count();
        let (first, last) = (self.windows.front()?, self.windows.back()?);
        Some(QuestionPlace {
            stream: first.time(first.position())?,
            variant: last.track().facts().number,
            head: last.head(),
            on_their_way,
        })
    }

    /// When the part ends that the stream is at. What begins then may be read by it at any moment.
    fn read_up_to(&self) -> Option<Duration> {
        let first = self.windows.front()?;
        let part = first.track().part(first.position())?;
        Some(part.time() + part.duration())
    }

    /// What is held behind the part that the stream is at and the one after it, in the order in which it plays.
    pub(in crate::hls::look_ahead) fn held(&self) -> Vec<Held> {
        let Some(reached) = self.read_up_to() else {
            return Vec::new();
        };
        let of_window = |window: &Window| {
            let track = window.track().clone();
            let held = window.held().collect::<Vec<_>>().into_iter();
            held.filter_map(move |number| {
                let part = track.part(number)?;
                Some(Held {
                    track: track.clone(),
                    number,
                    time: part.time(),
                    duration: part.duration(),
                })
            })
        };
        let held = self.windows.iter().flat_map(of_window);
        held.filter(|held| held.time > reached).collect()
    }

    /// How far the stream is in its list, in time.
    pub(in crate::hls::look_ahead) fn heard(&self) -> Duration {
        let first = self.windows.front();
        first.map_or(Duration::ZERO, |first| {
            let position = first.position();
            first.time(position).unwrap_or_default() + first.share_of(position, self.read)
        })
    }

    /// Waits for the list of a Variant Stream.
    pub(in crate::hls::look_ahead) fn await_better(&mut self, held: Held, variant: usize) {
        self.improving = Improving::Awaited(held, variant);
    }

    /// The held segment for which the list of `variant` was awaited.
    pub(in crate::hls::look_ahead) fn take_awaited_better(&mut self, variant: usize) -> Option<Held> {
        match std::mem::take(&mut self.improving) {
            Improving::Awaited(held, awaited) if awaited == variant => Some(held),
            // Asked again when something has moved.
            Improving::Awaited(..) => None,
            other => {
                self.improving = other;
                None
            }
        }
    }

    /// A held segment is being fetched from `list`, as these parts: its section, where that is fetched, and itself.
    pub(in crate::hls::look_ahead) fn set_better(
        &mut self,
        held: Held,
        list: Arc<Track>,
        number: usize,
        transfers: Vec<Arc<Transfer>>,
    ) {
        self.improving = Improving::Fetching(Better {
            held,
            list,
            number,
            transfers,
        });
    }

    /// Nothing is fetched again. What falls out of the plan is given back.
    pub(super) fn drop_better(&mut self) -> Vec<Arc<Transfer>> {
        let Improving::Fetching(better) = std::mem::take(&mut self.improving) else {
            return Vec::new();
        };
        let committing = better
            .transfers
            .iter()
            .filter(|transfer| transfer.is_committing());
        self.leaving.extend(committing.cloned());
        better.transfers
    }

    /// Takes notice of what the better segment came to. What falls out of the plan is given back, and the Variant Stream that
    /// failed.
    pub(in crate::hls::look_ahead) fn settle_better(
        &mut self,
        now: Instant,
    ) -> (Vec<Arc<Transfer>>, Option<usize>) {
        let Improving::Fetching(better) = &self.improving else {
            return (Vec::new(), None);
        };
        let is_late = self
            .read_up_to()
            .is_none_or(|reached| better.held.time <= reached);
        let place = self
            .windows
            .iter()
            .position(|window| window.is_of(&better.held.track) && window.is_held(better.held.number));
        let end = match (better.end(now), place) {
            (None, Some(_)) if !is_late => return (Vec::new(), None),
            (Some(End::Kept(bytes)), Some(place)) if !is_late => Ok((place, bytes)),
            (Some(End::Failed), _) => Err(Some(better.list.facts().number)),
            _ => Err(None),
        };
        let Improving::Fetching(better) = std::mem::take(&mut self.improving) else {
            return (Vec::new(), None);
        };
        match end {
            Ok((place, bytes)) => {
                self.splice(place, &better, bytes);
                // One more may be worth it.
                self.asked_to_improve = None;
                (better.transfers, None)
            }
            Err(failed) => {
                if !is_late && place.is_some() {
                    self.improves_from = Some(now + PAUSE);
                }
                self.improving = Improving::Fetching(better);
                (self.drop_better(), failed)
            }
        }
    }

    fn splice(&mut self, place: usize, better: &Better, bytes: Option<u64>) {
        let Some(window) = self.windows.get_mut(place) else {
            return;
        };
        let instead = (better.number, better.held.time);
        let (instead, rest) = window.splice(better.held.number, better.list.clone(), instead, bytes);
        let behind = self.windows.split_off(place + 1);
        let before = std::mem::take(&mut self.windows);
        for window in before.into_iter().chain([instead]).chain(rest).chain(behind) {
            push(&mut self.windows, window);
        }
    }
}

/// Appends a window. Two of one list that follow each other are one: the stream looks for its list, and would find the first.
fn push(windows: &mut VecDeque<Window>, window: Window) {
    if window.is_empty() {
        return;
    }
    let left = match windows.back_mut() {
        Some(before) => before.join(window),
        None => Some(window),
    };
    windows.extend(left);
}
