//! What is heard when: places and events by the sample at which they are heard.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::decode::{
    DecodeError, DecodeEvent, Decoder, Format, Spec, Tags, decoder::Arrived, source::time_of,
};

/// What is known of a track.
#[derive(Clone)]
pub(super) struct Playing {
    pub(super) format: Format,
    pub(super) duration: Option<Duration>,
    pub(super) seekable: bool,
    pub(super) tags: Arc<Tags>,
    /// A handle must not keep a track's file open: this ends with the decoder.
    pub(super) arrived: Option<Weak<Arrived>>,
}

impl fmt::Debug for Playing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Playing")
            .field("format", &self.format)
            .field("duration", &self.duration)
            .finish_non_exhaustive()
    }
}

impl Playing {
    /// The track whose frames the decoder gives out.
    pub(super) fn of(decoder: &Decoder) -> Self {
        Self {
            format: decoder.format().clone(),
            duration: decoder.duration(),
            seekable: decoder.is_seekable(),
            tags: Arc::clone(decoder.tags()),
            arrived: decoder.arrived(),
        }
    }
}

/// From ring position `at` on, sound of this track from this place on is heard.
#[derive(Debug, Clone)]
struct Anchor {
    at: u64,
    playing: Arc<Playing>,
    spec: Spec,
    position: u64,
}

/// Written by the decode thread ahead of what is heard, read by handles.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    anchors: VecDeque<Anchor>,
    events: VecDeque<(u64, Result<DecodeEvent, DecodeError>)>,
}

/// The most events kept for an app that does not ask for them.
const EVENTS: usize = 1024;

impl Timeline {
    /// What is heard at `at` and behind it is of this track, from `position` on.
    pub(super) fn anchor(&mut self, at: u64, playing: Arc<Playing>, spec: Spec, position: u64) {
        // Nothing was written since: the place that was told last never comes.
        while self.anchors.back().is_some_and(|last| last.at >= at) {
            self.anchors.pop_back();
        }
        self.anchors.push_back(Anchor {
            at,
            playing,
            spec,
            position,
        });
    }

    pub(super) fn event(&mut self, at: u64, event: Result<DecodeEvent, DecodeError>) {
        // The oldest goes: an app that never asks must not cost memory for as long as it plays.
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back((at, event));
    }

    /// The tracks go on at `at`, which was to be their end.
    pub(super) fn take_back_end(&mut self, at: u64) {
        self.events
            .retain(|(told_at, event)| *told_at != at || !matches!(event, Ok(DecodeEvent::Ended)));
    }

    /// What is behind `heard` was made before a seek, and is never heard.
    pub(super) fn cut(&mut self, heard: u64) {
        self.events.retain(|(at, _)| *at <= heard);
        self.forget(heard);
        // The one that holds at `heard` stays, so that there is a place until the new one is set.
        self.anchors.truncate(1);
    }

    /// The next event that is heard by now.
    pub(super) fn due(&mut self, heard: u64) -> Option<Result<DecodeEvent, DecodeError>> {
        let (at, _) = self.events.front()?;
        if *at > heard {
            return None;
        }
        self.events.pop_front().map(|(_, event)| event)
    }

    /// Where the next event is told.
    pub(super) fn next_event(&self) -> Option<u64> {
        self.events.front().map(|(at, _)| *at)
    }

    /// What is heard, and where in it.
    pub(super) fn now(&mut self, heard: u64) -> Option<(Arc<Playing>, Spec, Duration)> {
        // Here, as handles ask now and then: what is past is never asked for again.
        self.forget(heard);
        let anchor = self.anchors.front()?;
        let channels = u64::from(anchor.spec.channels.count()).max(1);
        // Counted on from the last place that was told: places are told where they do not follow.
        let position = anchor.position + heard.saturating_sub(anchor.at) / channels;
        let time = time_of(position, anchor.spec.sample_rate);
        Some((Arc::clone(&anchor.playing), anchor.spec, time))
    }

    /// Drops the anchors before the one that holds at `heard`.
    pub(super) fn forget(&mut self, heard: u64) {
        while self.anchors.get(1).is_some_and(|next| next.at <= heard) {
            self.anchors.pop_front();
        }
    }
}
