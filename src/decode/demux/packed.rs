//! Packed audio: ADTS or MPEG audio frames without a container, each Media Segment behind an ID3 tag with its time
//! (RFC 8216, 3.4).

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    buffer::Buffer,
    clock::{self, Clock},
    frames::{self, Frames, Header, Kind},
    id3,
};
use crate::decode::{
    DecodeError, Trim,
    packet::{Demux, Packet, TimedTag, TrackInfo},
};

/// Tags are kept whole up to this length. A longer one is passed over: it holds a picture, and its time is lost.
const MAX_TAG: usize = 1 << 20;

/// Reads the Media Segments of one encoder run.
#[derive(Debug)]
pub(crate) struct Packed {
    kind: Kind,
    buffer: Buffer,
    frames: Frames,
    /// Bytes of a long tag that are still to be passed over.
    skipping: u64,
    segment_ended: bool,
    clock: Clock,
    tags: VecDeque<TimedTag>,
    header: Option<Header>,
    track: Option<TrackInfo>,
}

impl Packed {
    /// Packed AAC.
    pub(crate) fn adts() -> Self {
        Self::new(Kind::Adts)
    }

    /// Packed MPEG audio.
    pub(crate) fn mpeg() -> Self {
        Self::new(Kind::Mpeg)
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            buffer: Buffer::default(),
            frames: Frames::new(kind),
            skipping: 0,
            segment_ended: false,
            clock: Clock::default(),
            tags: VecDeque::new(),
            header: None,
            track: None,
        }
    }

    /// Takes the tags at the front; whether it is decided that what is there now is none.
    fn take_tags(&mut self) -> bool {
        loop {
            self.skipping -= self.buffer.skip(self.skipping);
            if self.skipping > 0 {
                return false;
            }
            let wanted = id3::HEADER.min(self.buffer.len());
            let Some(head) = self.buffer.peek(wanted) else {
                return false;
            };
            // One or two bytes may be the start of a tag: more are awaited.
            if !b"ID3".starts_with(head.get(..3).unwrap_or(head)) {
                return true;
            }
            let Some(length) = id3::length(head) else {
                return wanted == id3::HEADER || self.segment_ended;
            };
            // Passed over as it comes. To hold it would let a length that a server announced decide what is allocated.
            if length > MAX_TAG {
                self.skipping = length as u64;
                continue;
            }
            let Some(tag) = self.buffer.take(length) else {
                return self.segment_ended;
            };
            // Before the tag is queued: a title in the same tag holds from the time it names, and not from the last frame's.
            if let Some(timestamp) = id3::timestamp(&tag) {
                self.clock.set(timestamp);
            }
            // Of the next frame, which this tag stands before.
            let pts = self.clock.now();
            self.tags.push_back(TimedTag { pts, id3: tag });
        }
    }

    fn learn(&mut self, header: Header) -> Result<(), DecodeError> {
        if self.header.is_none_or(|known| !known.agrees(&header)) {
            self.track = Some(TrackInfo {
                container: self.kind.container(),
                codec: header.params()?,
                time_scale: clock::RATE,
                wraps: true,
                first_pts: None,
                trim: Trim::default(),
                roll: 0,
            });
            self.header = Some(header);
        }
        Ok(())
    }
}

impl Demux for Packed {
    fn start_segment(&mut self, time: Duration) {
        self.segment_ended = false;
        // Each segment begins with a frame, wherever the last one ended.
        self.buffer.clear();
        self.frames.restart();
        self.skipping = 0;
        self.clock.start_segment(time);
    }

    fn push(&mut self, bytes: Bytes) {
        self.buffer.push(bytes);
    }

    fn end_segment(&mut self) {
        self.segment_ended = true;
    }

    fn next_packet(&mut self) -> Result<Option<Packet>, DecodeError> {
        loop {
            if !self.take_tags() {
                return Ok(None);
            }
            let Some(frame) = self.frames.next(&mut self.buffer, self.segment_ended) else {
                return Ok(None);
            };
            // An encoder writes one at the start of a file, a packager one into each segment: it is no sound.
            if self.kind == Kind::Mpeg && frames::is_info(&frame.data) {
                continue;
            }
            self.learn(frame.header)?;
            let pts = self.clock.advance(frame.header, frame.lost);
            return Ok(Some(Packet {
                data: frame.data,
                pts,
                frames: frame.header.frames,
            }));
        }
    }

    fn next_tag(&mut self) -> Option<TimedTag> {
        self.tags.pop_front()
    }

    fn track(&self) -> Option<&TrackInfo> {
        self.track.as_ref()
    }
}
