//! What fills a decoder's output: steps of the track that is decoded become frames and marks.

use std::mem;
use std::sync::Arc;

use super::{Decoder, EVENTS, Mark};
use crate::decode::{DecodeError, DecodeEvent, Spec, convert::Converter, resample::scaled, source::Step};

impl Decoder {
    /// Passes the marks before the next output frame.
    pub(super) fn pass_marks(&mut self) {
        while self.marks.front().is_some_and(|(at, _)| *at <= self.emitted) {
            let Some((_, mark)) = self.marks.pop_front() else {
                return;
            };
            match mark {
                Mark::Event(event) => {
                    if let DecodeEvent::FormatChanged(format) = &event {
                        self.format = format.clone();
                    }
                    if let DecodeEvent::TagsChanged(tags) = &event {
                        self.tags = Arc::clone(tags);
                    }
                    self.tell(event);
                }
                Mark::Spec(spec) => self.spec = spec,
                Mark::Position(position) => self.anchor = (self.emitted, position),
                Mark::Track => {
                    self.heard += 1;
                    // An output's ring may hold the end of the last track still, and a seek go back into it.
                    if !self.keeps_tracks {
                        self.leave_track();
                    }
                    self.anchor = (self.emitted, 0);
                    // A seek past the end: its place is in no track.
                    self.skip_to = None;
                    self.tags = Arc::default();
                    self.tell(DecodeEvent::TrackChanged);
                }
                Mark::End => {
                    self.skip_to = None;
                    self.tell(DecodeEvent::Ended);
                }
            }
        }
    }

    fn tell(&mut self, event: DecodeEvent) {
        // The oldest: what is now matters more than what was.
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// One step of the track that is decoded.
    pub(super) fn pull(&mut self) -> Result<(), DecodeError> {
        // Only when all of it is given out: what is left is in front of what comes.
        if self.given_out == self.out.len() {
            self.out.clear();
            self.given_out = 0;
        }
        let Some(track) = self.tracks.get_mut(self.decoding) else {
            self.ended = true;
            return Ok(());
        };
        // Before the source is asked: the request may have gone to the source that was left meanwhile.
        self.interrupter.check()?;
        let step = track.next(&mut self.raw);
        if matches!(step, Err(DecodeError::Interrupted)) {
            // The flag is that of the same request: left standing, it would end one more call.
            self.interrupter.answered();
        }
        // Marks are placed where the converter stands: what it holds back belongs before them.
        match step? {
            Step::Event(DecodeEvent::FormatChanged(format)) => {
                track.format = format.clone();
                // First, as it takes what the old converter still holds: the mark's place is behind that.
                self.take_spec(format.spec)?;
                self.mark(Mark::Event(DecodeEvent::FormatChanged(format)));
            }
            Step::Event(event) => self.mark(Mark::Event(event)),
            Step::Block => self.take_block(),
            Step::Ended if self.decoding + 1 < self.tracks.len() => self.begin_next(),
            Step::Ended => {
                self.finish();
                self.mark(Mark::End);
                self.ended = true;
            }
        }
        Ok(())
    }

    /// The track that is decoded is over. The converter goes on: a resampler that joins two tracks adds nothing between them.
    pub(super) fn begin_next(&mut self) {
        self.mark(Mark::Track);
        self.expected = None;
        self.enter(self.decoding + 1);
    }

    /// From now on this track is decoded.
    pub(super) fn enter(&mut self, track: usize) {
        self.decoding = track;
        if let Some(track) = self.tracks.get(track) {
            self.interrupter.follow(track.source.interrupt());
        }
    }

    fn take_block(&mut self) {
        // After a seek, a gap that was told, or a change of rate. Elsewhere positions count on, so that what a resampler rounds
        // does not add up.
        if self.expected != Some(self.raw.position) {
            let rates = (
                u64::from(self.raw.spec.sample_rate),
                u64::from(self.converter.spec().sample_rate),
            );
            self.mark(Mark::Position(scaled(self.raw.position, rates.0, rates.1)));
        }
        self.expected = Some(self.raw.position + self.raw.frames() as u64);
        // A track in its own rate and channels is not copied: the buffers change places.
        if self.converter.is_identity() && self.out.is_empty() {
            self.converter.count(self.raw.frames() as u64);
            mem::swap(&mut self.out, &mut self.raw.samples);
        } else {
            self.converter.push(&self.raw.samples, &mut self.out);
        }
        self.made = self.started + self.converter.given();
    }

    /// From the next block on the track's frames are like this.
    fn take_spec(&mut self, spec: Spec) -> Result<(), DecodeError> {
        let from = self.converter.from();
        if spec == from {
            return Ok(());
        }
        let before = self.converter.spec();
        // What is inside was made of frames of the old spec, and is heard before the change.
        self.finish();
        self.converter = Converter::new(self.target, spec)?;
        if self.converter.spec() != before {
            self.mark(Mark::Spec(self.converter.spec()));
        }
        self.expected = None;
        Ok(())
    }

    /// Takes what is left in the converter.
    fn finish(&mut self) {
        self.started += self.converter.due();
        self.converter.finish(&mut self.out);
        self.made = self.started;
    }

    fn mark(&mut self, mark: Mark) {
        self.marks.push_back((self.started + self.converter.due(), mark));
    }
}
