//! Where a stream is in its track: the part that comes next.
//!
//! ```text
//!   playlist ─▶ Track ─▶ Timeline ─▶ player
//!                          │  Part   the next one
//!                          │  Wait   what comes next is being asked for
//!                          └─ End    the track is over
//! ```
//!
//! The player knows no list. What follows a part is decided here, so that a list may be replaced while it plays: by the same
//! one under other URLs, or by another one of which only times are comparable.

use std::{sync::Arc, time::Duration};

use super::{
    source_state::Start,
    track::{Part, Track},
};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The part of this number in the track.
    Part(usize),
    /// Nothing before the playlists have been asked for again.
    Wait,
    /// Nothing any more.
    End,
}

pub(super) struct Timeline {
    track: Arc<Track>,
    /// The part being read, or to be opened.
    next: usize,
    /// The instant at which the list was joined, and the part that holds it. What of the part lies before it was heard.
    joined: Option<(usize, Duration)>,
    /// The part to go on with, while `next` is the initialization section that it needs and that lies further back.
    after_section: Option<usize>,
    is_held: bool,
}

impl Timeline {
    pub(super) fn new(track: Arc<Track>, start: Start) -> Self {
        let mut timeline = Self {
            track,
            next: 0,
            joined: None,
            after_section: None,
            is_held: false,
        };
        if let Start::Time(time) = start {
            timeline.seek(time);
        }
        timeline
    }

    pub(super) fn track(&self) -> &Arc<Track> {
        &self.track
    }

    pub(super) fn next(&self) -> Next {
        match self.track.part(self.next) {
            _ if self.is_held => Next::Wait,
            Some(_) => Next::Part(self.next),
            None => Next::End,
        }
    }

    /// The number of the part being read.
    pub(super) fn number(&self) -> usize {
        self.next
    }

    /// The number of the part that plays: the one being read, or behind the section from further back.
    pub(super) fn playing(&self) -> usize {
        self.after_section.unwrap_or(self.next)
    }

    /// Whether the part is an initialization section from further back, in front of the part that plays.
    pub(super) fn is_section_of_later_part(&self) -> bool {
        self.after_section.is_some()
    }

    /// The number of the part after the one being read.
    pub(super) fn following(&self) -> usize {
        self.after_section.unwrap_or(self.next + 1)
    }

    pub(super) fn go_on(&mut self) {
        self.next = self.following();
        self.after_section = None;
    }

    /// What comes next waits until [`release`](Self::release).
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    pub(super) fn release(&mut self) {
        self.is_held = false;
    }

    /// Goes on in the same list, whose URLs are new.
    pub(super) fn renew(&mut self, track: Arc<Track>) {
        self.track = track;
    }

    /// The instant that comes next: the start of the part that plays, or where it was joined.
    pub(super) fn instant(&self) -> Option<Duration> {
        let playing = self.playing();
        let joined = self.joined.filter(|(part, _)| *part == playing);
        let start = self.track.part(playing).map(Part::time)?;
        Some(joined.map_or(start, |(_, instant)| instant.max(start)))
    }

    /// Goes on in another list: at the segment that holds the instant that was to come, its initialization section first. Or at
    /// its beginning.
    pub(super) fn change(&mut self, track: Arc<Track>, from_start: bool) {
        let instant = self.instant();
        self.track = track;
        (self.next, self.after_section, self.joined) = (0, None, None);
        if !from_start && let Some(instant) = instant {
            self.seek(instant);
            self.joined = Some((self.playing(), instant));
        }
    }

    fn seek(&mut self, time: Duration) {
        let (section, first) = self.track.part_at(time);
        self.next = section.unwrap_or(first);
        self.after_section = section.map(|_| first);
    }
}
