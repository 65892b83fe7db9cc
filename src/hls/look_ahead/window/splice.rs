//! A segment of a window is read from another list.
//!
//! ```text
//!   before   [a0][a1][a2][a3][a4] …              one window
//!   after    [a0][a1]                 ends at a2
//!                    [b2]             the better one, and no more
//!                        [a3][a4] …   what is behind it
//! ```

use std::{sync::Arc, time::Duration};

use super::{super::super::track::Track, Pause, Window};

impl Window {
    /// Whether a part is a segment that it will read, and that is neither on its way nor read: the cache has it.
    pub(in crate::hls::look_ahead) fn is_held(&self, number: usize) -> bool {
        let is_looked_at = (self.start..self.behind()).contains(&number);
        let part = self.track.part(number).filter(|part| !part.is_section());
        is_looked_at && self.is_ahead(number) && part.is_some() && self.is_fetched(number)
    }

    /// The parts that are held, in the order in which they play.
    pub(in crate::hls::look_ahead) fn held(&self) -> impl Iterator<Item = usize> {
        (self.position..self.behind()).filter(|number| self.is_held(*number))
    }

    /// The part behind the last one that was looked at.
    fn behind(&self) -> usize {
        self.end.map_or(self.head, |end| end.min(self.head))
    }

    /// Whether no part is read of it.
    pub(in crate::hls::look_ahead) fn is_empty(&self) -> bool {
        !self.is_entered && self.end.is_some_and(|end| end <= self.start)
    }

    /// Takes the segment `number` from `list`, where it is `better` and begins at `time`; `bytes` of it were fetched. What comes
    /// behind: that segment, and the rest of this window.
    pub(in crate::hls::look_ahead) fn splice(
        &mut self,
        number: usize,
        list: Arc<Track>,
        (better, time): (usize, Duration),
        bytes: Option<u64>,
    ) -> (Self, Option<Self>) {
        let behind = number + 1;
        let mut rest = Self {
            end: self.end,
            position: behind,
            start: behind,
            joined: self.time(behind).unwrap_or_default(),
            head: self.head,
            decided: self.decided,
            parts: self.parts.split_off(&behind),
            ahead: self.ahead.split_off(&behind),
            fetched: self.fetched.clone(),
            // A part that is left to the stream stays in the window that the stream is in.
            pause: self.pause.take_if(|pause| matches!(pause, Pause::Until(_))),
            failures: self.failures,
            ..Self::new(self.track.clone(), self.until)
        };
        let start = self.track.start_of_segment(number);
        self.end = Some(start);
        self.head = self.head.min(start);
        self.decided = self.decided.min(start);
        self.ahead.remove(&number);
        let mut instead = Self::from(list, None, time, self.until);
        // Its section is in the cache with it.
        let section = instead.section.take();
        instead.kept = section.into_iter().chain(instead.start..=better).collect();
        (instead.head, instead.end) = (better + 1, Some(better + 1));
        instead.ahead.extend(bytes.map(|bytes| (better, bytes)));
        instead.fetched.extend(bytes.map(|_| better));
        // What is at the head is chosen anew, behind the better one.
        if rest.end.is_none() && rest.head == behind && rest.parts.is_empty() {
            (instead.end, instead.pause, instead.failures) = (None, rest.pause.take(), rest.failures);
            return (instead, None);
        }
        (instead, Some(rest))
    }

    /// Goes on with what `next` reads, if that is the rest of this list. Else `next` is left.
    pub(in crate::hls::look_ahead) fn join(&mut self, next: Self) -> Option<Self> {
        if !self.is_of(&next.track) || self.end != Some(next.start) {
            return Some(next);
        }
        // A section that `next` needs from further back is in the cache with what is here.
        (self.end, self.head, self.decided) = (next.end, next.head, next.decided);
        self.parts.extend(next.parts);
        self.ahead.extend(next.ahead);
        self.fetched.extend(next.fetched);
        self.kept.extend(next.kept);
        (self.pause, self.failures) = (next.pause.or(self.pause.take()), next.failures);
        None
    }
}
