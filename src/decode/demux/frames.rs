//! Frames that lie one after another: AAC behind ADTS headers, and MPEG audio. TS and packed audio both carry them.

use bytes::Bytes;

pub(crate) use super::header::{Header, Kind, kbits_of};
use super::{
    buffer::Buffer,
    header::{LONGEST_HEADER, SHORTEST_HEADER},
};
use crate::decode::trim::Lame;

/// How far the next frame is looked for: the longest ADTS frame and one more.
const SEARCHED: usize = 2 * 8192;

/// One frame of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    /// Where it began in the buffer.
    pub(crate) position: u64,
    /// How many frames before it could not be found, judged by the bytes in their place.
    pub(crate) lost: u64,
    /// Without what is stripped.
    pub(crate) data: Bytes,
}

/// What stands behind a frame.
enum Behind {
    /// Another frame, or the end.
    Frame,
    /// Neither; the next frame begins this many bytes behind this one's start.
    Elsewhere(usize),
    /// No frame that could be found.
    Nothing,
    /// More bytes are needed.
    Unknown,
}

/// Finds frames in a buffer, also behind garbage.
#[derive(Debug)]
pub(crate) struct Frames {
    kind: Kind,
    /// The last frame's header, if that frame ended where the buffer begins.
    last: Option<Header>,
    /// Bytes passed over since the last frame.
    skipped: u64,
    /// Bytes and number of the frames found, for their mean length.
    bytes: u64,
    found: u64,
}

impl Frames {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            last: None,
            skipped: 0,
            bytes: 0,
            found: 0,
        }
    }

    /// The bytes from here on do not follow those before.
    pub(crate) fn restart(&mut self) {
        (self.last, self.skipped) = (None, 0);
    }

    /// Bytes are missing here.
    pub(crate) fn miss(&mut self, bytes: u64) {
        (self.last, self.skipped) = (None, self.skipped + bytes);
    }

    /// Whether the buffer holds the beginning of the frame that is due, and no more will be pushed: a segment that was cut
    /// there.
    pub(super) fn is_cut(&self, buffer: &mut Buffer) -> bool {
        let len = buffer.len();
        let Some(last) = self.last else {
            return false;
        };
        let head = buffer.peek(LONGEST_HEADER.min(len)).unwrap_or_default();
        match Header::read(self.kind, head) {
            // A length that is damaged has other frames within it.
            Some(header) => {
                last.agrees(&header)
                    && header.length > len
                    && matches!(self.behind(buffer, header, true), Behind::Nothing)
            }
            None => len < LONGEST_HEADER && head.first() == Some(&0xff),
        }
    }

    /// Whether the buffer goes on where the frame that begins with `cut` was cut: then another frame stands at that one's end.
    /// `None` if more bytes are needed. With `all` no more will follow.
    pub(super) fn goes_on(&self, cut: &[u8], buffer: &mut Buffer, all: bool) -> Option<bool> {
        let Some(last) = self.last else {
            return Some(false);
        };
        let here = buffer.peek(buffer.len().min(SEARCHED)).unwrap_or_default();
        let joined = [cut, here].concat();
        if joined.len() < LONGEST_HEADER && !all {
            return None;
        }
        let header = Header::read(self.kind, &joined).filter(|header| last.agrees(header));
        let Some(header) = header.filter(|header| header.length > cut.len()) else {
            return Some(false);
        };
        let behind = joined.get(header.length..);
        if !all && behind.is_none_or(|behind| behind.len() < LONGEST_HEADER) {
            return None;
        }
        Some(behind.is_some_and(|behind| {
            behind.is_empty() || Header::read(self.kind, behind).is_some_and(|next| next.agrees(&header))
        }))
    }

    /// The next whole frame. With `all` no more bytes will follow those in the buffer.
    pub(crate) fn next(&mut self, buffer: &mut Buffer, all: bool) -> Option<Frame> {
        loop {
            let head = buffer.peek(LONGEST_HEADER.min(buffer.len()))?;
            if head.len() < if all { SHORTEST_HEADER } else { LONGEST_HEADER } {
                return None;
            }
            let header = Header::read(self.kind, head);
            // Where a frame begins is known from the one before it. Elsewhere two bytes of ones turn up in any data: a
            // frame is believed only if another one stands at its end.
            let expected = self
                .last
                .is_some_and(|last| header.is_some_and(|header| last.agrees(&header)));
            let mut padding = 0;
            let length = match header.map(|header| (header, self.behind(buffer, header, all))) {
                Some((_, Behind::Unknown)) => return None,
                Some((header, Behind::Frame)) => Some(header.length),
                // Its length is damaged, or the next frame's header: whichever makes this frame more like the others.
                Some((header, Behind::Elsewhere(next))) if expected => {
                    if next < header.length {
                        Some(next)
                    } else {
                        padding = next - header.length;
                        Some(header.length)
                    }
                }
                Some((header, Behind::Nothing)) if expected && header.length <= buffer.len() => {
                    Some(header.length)
                }
                _ => None,
            };
            if let (Some(header), Some(length)) = (header, length) {
                let frame = self.take(buffer, header, length);
                if (length + padding) as u64 <= self.mean() * 3 / 2 {
                    buffer.skip(padding as u64);
                }
                return frame;
            }
            self.last = None;
            self.skip_to_sync(buffer);
        }
    }

    fn take(&mut self, buffer: &mut Buffer, header: Header, length: usize) -> Option<Frame> {
        let position = buffer.position();
        let mut data = buffer.take(length)?;
        // Decoders take packets without the header of ADTS; that of MPEG audio is part of the frame.
        drop(data.split_to(header.strip.min(data.len())));
        let lost = self.lost();
        // The mean over all frames so far, and not the last one's length: a variable bit rate changes by a factor of ten.
        self.bytes += length as u64;
        self.found += 1;
        (self.last, self.skipped) = (Some(header), 0);
        Some(Frame {
            header,
            position,
            lost,
            data,
        })
    }

    /// Looks for the frame after one with this header at the buffer's start.
    fn behind(&self, buffer: &mut Buffer, header: Header, all: bool) -> Behind {
        let follows = |bytes: &[u8], at: usize| {
            let next = bytes.get(at..).and_then(|rest| Header::read(self.kind, rest));
            next.is_some_and(|next| next.agrees(&header))
        };
        let wanted = header.length + LONGEST_HEADER;
        if buffer.len() < wanted && !all {
            return Behind::Unknown;
        }
        // The last one of all has no other behind it.
        if all && buffer.len() == header.length {
            return Behind::Frame;
        }
        match buffer.peek(wanted.min(buffer.len())) {
            Some(bytes) if follows(bytes, header.length) => return Behind::Frame,
            _ if self.last.is_none() => return Behind::Nothing,
            _ => {}
        }
        // Two headers in a row are no accident.
        let here = buffer.len().min(SEARCHED);
        if here < SEARCHED && !all {
            return Behind::Unknown;
        }
        let bytes = buffer.peek(here).unwrap_or_default();
        let found = (SHORTEST_HEADER..here).find(|at| {
            let next = bytes.get(*at..).and_then(|rest| Header::read(self.kind, rest));
            next.is_some_and(|next| {
                let end = at + next.length;
                next.agrees(&header) && (follows(bytes, end) || (all && end == bytes.len()))
            })
        });
        found.map_or(Behind::Nothing, Behind::Elsewhere)
    }

    fn mean(&self) -> u64 {
        self.bytes / self.found.max(1)
    }

    /// How many frames the bytes passed over were. Before the first frame there was nothing to lose.
    fn lost(&self) -> u64 {
        let mean = self.mean();
        if self.skipped == 0 || mean == 0 {
            return 0;
        }
        ((self.skipped + mean / 2) / mean).max(1)
    }

    /// Drops at least one byte, and more up to where a header may begin.
    fn skip_to_sync(&mut self, buffer: &mut Buffer) {
        // One byte at least: what stands here was refused, and looked at again it would be refused again.
        let mut skipped = buffer.skip(1);
        // Within the first chunk only: what is behind it is looked at in the next round.
        let garbage = buffer.front().iter().take_while(|byte| **byte != 0xff).count();
        skipped += buffer.skip(garbage as u64);
        self.skipped += skipped;
    }
}

/// Which kind of frame is found in bytes that begin in the middle of one: three headers in a row are no accident.
pub(super) fn kind_within(bytes: &[u8]) -> Option<Kind> {
    let is_run = |kind, start: usize| {
        let (mut at, mut first) = (start, None::<Header>);
        for _ in 0..3 {
            let header = bytes.get(at..).and_then(|rest| Header::read(kind, rest));
            let Some(header) = header.filter(|header| first.is_none_or(|first| first.agrees(header))) else {
                return false;
            };
            at += header.length;
            first = Some(header);
        }
        true
    };
    let starts = 1..bytes.len().min(SEARCHED);
    starts.into_iter().find_map(|start| {
        let kinds = [Kind::Adts, Kind::Mpeg];
        kinds.into_iter().find(|kind| is_run(*kind, start))
    })
}

/// Whether an MPEG audio frame holds no sound but a `Xing`, `Info` or `VBRI` header.
pub(crate) fn is_info(frame: &[u8]) -> bool {
    Lame::read(frame).is_some() || frame.get(36..40) == Some(b"VBRI")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of MPEG-1 layer 3, 128 kbit/s, 44.1 kHz: 417 bytes.
    fn mp3(fill: u8) -> Vec<u8> {
        let mut frame = vec![fill; 417];
        frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x64]);
        frame
    }

    fn adts(body: &[u8]) -> Vec<u8> {
        let length = body.len() + 7;
        let mut frame = vec![0xff, 0xf1, 0x50, 0x80, 0, 0x1f, 0xfc];
        let [.., high, low] = length.to_be_bytes();
        let bits = u16::from_be_bytes([high, low]) << 5;
        frame[3] |= u8::try_from(length >> 11).unwrap();
        let [middle, last] = bits.to_be_bytes();
        frame[4] = middle;
        frame[5] |= last;
        frame.extend(body);
        frame
    }

    fn all(kind: Kind, bytes: &[u8], chunk: usize) -> Vec<Bytes> {
        let (mut buffer, mut frames) = (Buffer::default(), Frames::new(kind));
        let mut found = Vec::new();
        for chunk in bytes.chunks(chunk) {
            buffer.push(Bytes::copy_from_slice(chunk));
            found.extend(std::iter::from_fn(|| frames.next(&mut buffer, false)).map(|frame| frame.data));
        }
        found.extend(std::iter::from_fn(|| frames.next(&mut buffer, true)).map(|frame| frame.data));
        found
    }

    #[test]
    fn headers_say_what_they_say() {
        let header = Header::read(Kind::Mpeg, &mp3(0)).unwrap();
        assert_eq!(
            (header.length, header.frames, header.sample_rate),
            (417, 1152, 44_100)
        );
        assert_eq!(header.params().unwrap().channels, 2);
        let header = Header::read(Kind::Adts, &adts(&[1; 93])).unwrap();
        assert_eq!(
            (header.length, header.frames, header.sample_rate),
            (100, 1024, 44_100)
        );
        assert_eq!(
            header.params().unwrap().extra_data,
            Bytes::from_static(&[0x12, 0x10])
        );
        // Layer 2 is known, and refused by name.
        let layer2 = Header::read(Kind::Mpeg, &[0xff, 0xfd, 0x80, 0x04]).unwrap();
        assert_eq!(
            layer2.params().unwrap_err().to_string(),
            "cannot decode MPEG audio layer 2"
        );
    }

    #[test]
    fn frames_come_whole_whatever_the_chunks() {
        let adts: Vec<u8> = (1..20).flat_map(|n| adts(&vec![n; usize::from(n) * 9])).collect();
        let mp3: Vec<u8> = (1..5).flat_map(mp3).collect();
        for (kind, bytes, count) in [(Kind::Adts, adts, 19), (Kind::Mpeg, mp3, 4)] {
            let whole = all(kind, &bytes, usize::MAX);
            assert_eq!(whole.len(), count);
            for chunk in [1, 2, 7, 188, 416, 417, 1000] {
                assert_eq!(all(kind, &bytes, chunk), whole);
            }
        }
    }

    #[test]
    fn garbage_before_between_and_behind_is_passed_over() {
        let garbage = [0xff, 0xff, 0xfb, 0x90, 0x64, 0xff, 0xf1, 1, 2, 3];
        let bytes = [
            &garbage[..],
            &mp3(1),
            &mp3(2),
            &garbage,
            &mp3(3),
            &mp3(4),
            &garbage,
        ]
        .concat();
        assert_eq!(all(Kind::Mpeg, &bytes, 100), [mp3(1), mp3(2), mp3(3), mp3(4)]);
        let bytes = [
            &garbage[..],
            &adts(&[1; 50]),
            &adts(&[2; 60]),
            &[0; 1000],
            &adts(&[3; 20]),
        ]
        .concat();
        assert_eq!(
            all(Kind::Adts, &bytes, 64),
            [vec![1; 50], vec![2; 60], vec![3; 20]]
        );
    }

    /// P6: a damaged header costs its frame and no other, and the next frame keeps its number.
    #[test]
    fn a_turned_header_costs_one_frame() {
        let good: Vec<Vec<u8>> = (0..9).map(|n| adts(&vec![n + 1; 90 + usize::from(n)])).collect();
        // The sync word; a length too long, and too short.
        for (byte, bits) in [(0, 0x10), (4, 0x02), (4, 0x08), (5, 0x80)] {
            let mut bad = good.clone();
            bad[4][byte] ^= bits;
            let mut buffer = Buffer::default();
            buffer.push(bad.concat().into());
            let mut frames = Frames::new(Kind::Adts);
            let mut number = 0;
            while let Some(frame) = frames.next(&mut buffer, true) {
                number += frame.lost;
                if number != 4 {
                    let number = usize::try_from(number).unwrap();
                    assert_eq!(frame.data, good[number][7..], "byte {byte}, frame {number}");
                }
                number += 1;
            }
            assert_eq!(number, 9);
        }
    }

    #[test]
    fn a_cut_frame_at_the_end_is_left_out() {
        let bytes = [&mp3(1)[..], &mp3(2), &mp3(3)[..400]].concat();
        assert_eq!(all(Kind::Mpeg, &bytes, 300), [mp3(1), mp3(2)]);
    }

    #[test]
    fn an_info_frame_is_known() {
        let mut frame = mp3(0);
        assert!(!is_info(&frame));
        frame[36..40].copy_from_slice(b"Info");
        assert!(is_info(&frame));
    }
}
