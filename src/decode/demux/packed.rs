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
    /// The beginning of the frame in whose middle the last segment ended.
    cut: Option<Bytes>,
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

    /// Packed audio whose first segment begins with these bytes, in the middle of a frame; `None` if no frames are found.
    pub(crate) fn within(bytes: &[u8]) -> Option<Self> {
        frames::kind_within(bytes).map(Self::new)
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            buffer: Buffer::default(),
            frames: Frames::new(kind),
            skipping: 0,
            segment_ended: false,
            cut: None,
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

    /// Puts the frame together in whose middle the last segment ended, if this one begins with the rest of it; whether that is
    /// decided.
    fn join_cut(&mut self) -> bool {
        let Some(cut) = &self.cut else {
            return true;
        };
        let Some(goes_on) = self.frames.goes_on(cut, &mut self.buffer, self.segment_ended) else {
            return false;
        };
        let (cut, rest) = (self.cut.take(), self.buffer.take(self.buffer.len()));
        if goes_on {
            self.buffer.push(cut.unwrap_or_default());
        } else {
            self.frames.restart();
        }
        self.buffer.push(rest.unwrap_or_default());
        true
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
        // A segment is to begin with a frame (RFC 8216, 3.4), wherever the last one ended. Some packagers cut by bytes: then the
        // last frame goes on in this one, and would be lost at each join.
        let is_cut = self.segment_ended && self.frames.is_cut(&mut self.buffer);
        self.cut = is_cut.then(|| self.buffer.take(self.buffer.len())).flatten();
        self.segment_ended = false;
        self.buffer.clear();
        if self.cut.is_none() {
            self.frames.restart();
        }
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
            if !self.take_tags() || !self.join_cut() {
                return Ok(None);
            }
            // Left where it is: what follows may be in the next segment.
            if self.segment_ended && self.frames.is_cut(&mut self.buffer) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::demux::tests::packets;

    /// MPEG-1 layer 3 of 128 kbit/s and 44.1 kHz, or ADTS.
    fn frame(kind: Kind, fill: u8) -> Vec<u8> {
        let mut frame = vec![fill; 417];
        match kind {
            Kind::Mpeg => frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x64]),
            Kind::Adts => frame[..7].copy_from_slice(&[0xff, 0xf1, 0x50, 0x80, 0x34, 0x3f, 0xfc]),
        }
        frame
    }

    fn read(kind: Kind, segments: &[Vec<u8>], chunk: usize) -> Vec<u8> {
        let packets = packets(&mut Packed::new(kind), None, segments, chunk).unwrap();
        packets
            .iter()
            .map(|packet| *packet.data.last().unwrap())
            .collect()
    }

    /// P3: what is cut by bytes, as liquidsoap cuts MP3, with and without a tag at the cut.
    #[test]
    fn a_frame_that_goes_on_in_the_next_segment_is_whole() {
        let tag = b"ID3\x04\0\0\0\0\x00\x04abcd";
        for kind in [Kind::Mpeg, Kind::Adts] {
            let all: Vec<u8> = (1..8).flat_map(|fill| frame(kind, fill)).collect();
            for cut in (417 * 2..=417 * 4).step_by(3) {
                let (before, behind) = all.split_at(cut);
                for head in [&[][..], tag] {
                    let segments = [before.to_vec(), [head, behind].concat()];
                    for chunk in [64, usize::MAX] {
                        assert_eq!(
                            read(kind, &segments, chunk),
                            [1, 2, 3, 4, 5, 6, 7],
                            "{kind:?} cut at {cut}, {} bytes of tags",
                            head.len()
                        );
                    }
                }
            }
        }
    }

    /// Nor is a frame made of two halves that do not belong together.
    #[test]
    fn a_frame_that_does_not_go_on_is_left_out() {
        for kind in [Kind::Mpeg, Kind::Adts] {
            let frames = |of: std::ops::Range<u8>| of.flat_map(|fill| frame(kind, fill)).collect::<Vec<u8>>();
            for cut in [1, 3, 8, 100, 416] {
                let before = frames(1..4);
                let segments = [before[..417 * 2 + cut].to_vec(), frames(4..7)];
                assert_eq!(read(kind, &segments, 64), [1, 2, 4, 5, 6], "{kind:?}, {cut}");
            }
        }
    }
}
