//! What the source says beside the bytes, and what it means for what is decoded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{HlsPcm, append, frames, sniff, timeline::Timeline};
use crate::{
    decode::{DecodeError, DecodeEvent, error::MalformedSnafu},
    hls::HlsControl,
    stream::Message,
};

/// A Media Segment, as the playlist has it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Segment {
    pub(super) time: Duration,
    pub(super) duration: Duration,
    /// Its Discontinuity Sequence Number.
    pub(super) discontinuity: u64,
}

impl Segment {
    /// Whether a place can belong to this segment. Durations in playlists are rounded, and the errors add up.
    pub(super) fn is_near(&self, place: i64, rate: u32) -> bool {
        let slack = frames(self.duration.max(Duration::from_secs(2)), rate);
        let start = frames(self.time, rate);
        let end = start.saturating_add(frames(self.duration, rate));
        (start - slack..=end + slack).contains(&place)
    }
}

/// A Variant Stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) index: usize,
    pub(super) bandwidth: u64,
    pub(super) codecs: Option<String>,
    pub(super) rendition: Option<String>,
}

impl Variant {
    pub(super) fn event(self) -> DecodeEvent {
        DecodeEvent::VariantChanged {
            variant: self.index,
            bandwidth: self.bandwidth,
            codecs: self.codecs,
            rendition: self.rendition,
        }
    }
}

/// What comes next, once all packets before it are taken.
#[derive(Debug)]
pub(super) enum Upcoming {
    Control(HlsControl),
    End,
}

impl HlsPcm {
    /// Takes one message of the source.
    pub(super) fn receive(&mut self) -> Result<(), DecodeError> {
        let upcoming = match self.feed.next()? {
            Some(Message::Data(bytes)) => return self.data(bytes),
            // They may stand in the middle of a segment, and say nothing of its bytes.
            Some(Message::Control(HlsControl::CacheBypassed { resource, .. })) => {
                log::debug!("{resource} is decoded but not kept");
                return Ok(());
            }
            Some(Message::Control(
                HlsControl::Buffered { .. } | HlsControl::Stalled | HlsControl::Resumed,
            )) => return Ok(()),
            Some(Message::Control(control)) => Upcoming::Control(control),
            None => Upcoming::End,
        };
        // A segment that is shorter than what tells a container is judged by all there is of it.
        self.recognise(&Bytes::new(), true)?;
        let ends_run = self.ends_run(&upcoming);
        if let Some(demux) = &mut self.demux {
            match &upcoming {
                // What was held back, in case it went on, is all there is.
                _ if ends_run => demux.finish(),
                _ => demux.end_segment(),
            }
        }
        self.upcoming = Some(upcoming);
        Ok(())
    }

    /// Whether no packet after this belongs to the run at hand.
    pub(super) fn ends_run(&self, upcoming: &Upcoming) -> bool {
        match upcoming {
            Upcoming::End
            | Upcoming::Control(HlsControl::Discontinuity { .. } | HlsControl::EditionChanged { .. }) => true,
            Upcoming::Control(HlsControl::VariantApplied { .. }) => self.goes_over(upcoming),
            Upcoming::Control(HlsControl::SegmentStart {
                discontinuity_sequence,
                ..
            }) => self.is_other_line(*discontinuity_sequence),
            Upcoming::Control(_) => false,
        }
    }

    /// Whether another Variant Stream goes on behind this.
    pub(super) fn goes_over(&self, upcoming: &Upcoming) -> bool {
        matches!(upcoming, Upcoming::Control(HlsControl::VariantApplied { variant, .. }) if self.is_other(*variant))
    }

    /// A segment's timestamps are on another line than the last one's. The tag itself may not have been played, where
    /// another Variant Stream goes on behind it.
    fn is_other_line(&self, discontinuity: u64) -> bool {
        !self.discontinuity
            && self
                .segment
                .is_some_and(|last| last.discontinuity != discontinuity)
    }

    fn is_same_line(&self, discontinuity: u64) -> bool {
        let last = self.segment.as_ref();
        last.is_some_and(|last| last.discontinuity == discontinuity)
    }

    fn is_other(&self, variant: usize) -> bool {
        self.variant.as_ref().is_some_and(|known| known.index != variant)
    }

    fn data(&mut self, bytes: Bytes) -> Result<(), DecodeError> {
        match &mut self.demux {
            Some(demux) => {
                demux.push(bytes);
                Ok(())
            }
            None => self.recognise(&bytes, false),
        }
    }

    /// Finds the container of bytes that no demuxer has taken yet. With `all` no more of them will come.
    fn recognise(&mut self, bytes: &Bytes, all: bool) -> Result<(), DecodeError> {
        // An empty segment has no container, and is no error: the next one may have bytes.
        if self.demux.is_some() || (bytes.is_empty() && self.unknown.is_empty()) {
            return Ok(());
        }
        let bytes = append(&mut self.unknown, bytes);
        match sniff::demuxer(&bytes, all)? {
            Some(mut demux) => {
                if let Some(segment) = &self.segment {
                    // Announced before the container was known.
                    demux.start_segment(segment.time);
                }
                demux.push(bytes);
                self.demux = Some(demux);
            }
            None => self.unknown = BytesMut::from(bytes),
        }
        Ok(())
    }

    /// Does what a message says; all packets before it have been taken.
    pub(super) fn apply(&mut self) -> Result<(), DecodeError> {
        let Some(upcoming) = self.upcoming.take() else {
            return Ok(());
        };
        // In the source's own order. A Variant Stream is announced before its initialization section, a segment behind it.
        match upcoming {
            Upcoming::End => return self.end(),
            Upcoming::Control(HlsControl::VariantApplied {
                variant: index,
                bandwidth,
                codecs,
                rendition,
                duration,
                ..
            }) => {
                // Each Variant Stream has its own playlist; their lengths differ by less than a segment.
                self.duration = Some(duration);
                let variant = Variant {
                    index,
                    bandwidth,
                    codecs,
                    rendition,
                };
                if self.is_other(index) {
                    // Its end stays pending: the other one may be faded into it.
                    self.end_for_another();
                    self.demux = None;
                }
                if self.variant.as_ref() != Some(&variant) {
                    self.untold = Some(variant.clone());
                    self.variant = Some(variant);
                }
            }
            Upcoming::Control(HlsControl::EditionChanged { .. }) => {
                // As another Variant Stream: its first segment holds the next instant, and may begin before it. What was
                // heard is not heard again.
                self.end_for_another();
                (self.demux, self.segment) = (None, None);
                self.timeline = Timeline::default();
                self.edition = true;
            }
            // The one that an edition begins with. Where the new one lies its playlist says.
            Upcoming::Control(HlsControl::Discontinuity { .. }) if self.edition => {}
            // Another Variant Stream goes on. All timestamps of one number are on one line, whichever it is (RFC 8216, 6.2.4), so
            // what it has of the time before is known to be heard.
            Upcoming::Control(HlsControl::Discontinuity { sequence }) if self.is_same_line(sequence) => {
                if self.old.is_none() {
                    self.end_run();
                    self.demux = None;
                }
            }
            Upcoming::Control(HlsControl::Discontinuity { .. }) => {
                self.end_run();
                self.demux = None;
                self.discontinuity = true;
            }
            Upcoming::Control(HlsControl::SegmentStart {
                time,
                duration,
                discontinuity_sequence: discontinuity,
                ..
            }) => {
                if self.is_other_line(discontinuity) {
                    // The demuxer has this segment's initialization section already.
                    self.end_run();
                    self.discontinuity = true;
                }
                self.segment = Some(Segment {
                    time,
                    duration,
                    discontinuity,
                });
                if let Some(demux) = &mut self.demux {
                    demux.start_segment(time);
                }
            }
            Upcoming::Control(HlsControl::Gap { duration, .. }) => self.gap += duration,
            Upcoming::Control(_) => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), DecodeError> {
        let read = self.segment.is_some();
        self.end_run();
        self.ended = true;
        // A track of which nothing could be made is not a silent one.
        if read && self.format.is_none() {
            return MalformedSnafu {
                what: "HLS track: no segment has sound",
            }
            .fail();
        }
        self.silence_of_gap();
        Ok(())
    }
}
