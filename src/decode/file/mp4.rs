//! MP4 files: which box holds what, and the packets of a track that is not fragmented.
//!
//! Symphonia's reader is not used: it drops edit lists, reads nothing after its end, cannot seek where another track is
//! shorter, and reads the packets of pictures to get at those of sound.
//!
//! ```text
//!   [ ftyp │ moov: trak ─ stbl: lengths, places, durations │ mdat: packets ]      or moov behind mdat
//! ```

use bytes::Bytes;

use super::{
    frames::reveal_replication,
    input::{Input, Window},
    reader::{Next, PacketReader, Placed},
    samples::Samples,
};
use crate::decode::{
    Container, DecodeError, Tags,
    demux::boxes::{self, Header, boxes, child, descendant},
    error::{MalformedSnafu, UnsupportedContainerSnafu},
    packet::{Packet, TrackInfo},
    tags::from_movie,
    trim::{self, Declared, Edit},
};

/// More boxes than these before the headers, and the file is none of ours.
const BOXES: usize = 4096;

/// The longest packet that is read.
const LONGEST: u32 = 16 << 20;

/// Finds `moov`, before or behind the packets.
///
/// # Errors
///
/// `UnsupportedContainer` if there is none, `Io`, `Interrupted`.
pub(super) fn find_movie(input: &Input, start: u64) -> Result<Bytes, DecodeError> {
    let mut at = start;
    for _ in 0..BOXES {
        let Some(header) = Header::read(&input.bytes_at(at, Header::LONGEST)?) else {
            break;
        };
        if &header.kind == b"moov" {
            // Held whole: its tables are asked for every packet. What is read grows with what is there, not with what it
            // announces.
            let size = header
                .size
                .map_or(usize::MAX, |size| usize::try_from(size).unwrap_or(usize::MAX));
            let mut body = input.bytes_at(at, size)?;
            drop(body.split_to(header.length.min(body.len())));
            return Ok(body);
        }
        let Some(size) = header.size else {
            break;
        };
        at = at.saturating_add(size);
    }
    let container = "MP4 without its header";
    UnsupportedContainerSnafu { container }.fail()
}

/// Reads the packets of the first track with sound.
pub(super) struct Mp4Packets {
    input: Input,
    window: Window,
    info: TrackInfo,
    tags: Tags,
    samples: Samples,
    next: u32,
}

impl Mp4Packets {
    /// The track of `movie`.
    ///
    /// # Errors
    ///
    /// `UnsupportedContainer` without sound, `UnsupportedCodec`, `Malformed`, `Io`, `Interrupted`.
    pub(super) fn open(input: Input, movie: &Bytes) -> Result<Self, DecodeError> {
        let malformed = || MalformedSnafu { what: "MP4 header" }.build();
        // The first track of sound: a file of music has one, and a film's first one is its main language.
        let sound = boxes(movie)
            .filter(|(kind, _)| kind == b"trak")
            .find(|(_, track)| {
                let handler = descendant(track, &[b"mdia", b"hdlr"]);
                handler.is_some_and(|handler| handler.get(8..12) == Some(b"soun"))
            });
        let Some((_, track)) = sound else {
            let container = "MP4 without sound";
            return UnsupportedContainerSnafu { container }.fail();
        };
        let tables = descendant(&track, &[b"mdia", b"minf", b"stbl"]).ok_or_else(malformed)?;
        let mut codec = boxes::sample_entry(&child(&tables, *b"stsd").ok_or_else(malformed)?)?;
        let time_scale = descendant(&track, &[b"mdia", b"mdhd"])
            .and_then(|header| boxes::time_scale(&header))
            .ok_or_else(malformed)?;
        let mut samples = Samples::read(&tables).ok_or_else(malformed)?;
        let mut window = Window::default();
        let mut packets = Vec::new();
        for number in 0..samples.count().min(16) {
            // Only what may be in a header's disguise is looked at.
            if codec.sample_rate > 24_000 {
                break;
            }
            let (at, length) = samples.place(number).ok_or_else(malformed)?;
            packets.push(window.get(&input, at, length.min(LONGEST) as usize)?);
        }
        reveal_replication(&mut codec, packets.iter());
        let sample_rate = codec.sample_rate;
        let frames = |units: u64| {
            let units = i64::try_from(units).unwrap_or(i64::MAX);
            trim::to_frames(units, time_scale, sample_rate)
        };
        // What the decoder makes, and not what the tables say: the last packet is decoded whole.
        let decoded = match codec.frames_per_packet {
            0 => frames(samples.duration()),
            frames => u64::from(samples.count()) * u64::from(frames),
        };
        let edit = descendant(&track, &[b"edts", b"elst"]).and_then(|list| boxes::edit(&list));
        let movie_scale = child(movie, *b"mvhd").and_then(|header| boxes::time_scale(&header));
        let declared = Declared {
            edit_list: edit.map(|(start, duration)| {
                let edit = Edit {
                    start,
                    duration,
                    movie_scale: movie_scale.unwrap_or(time_scale),
                    time_scale,
                    media_duration: samples.duration(),
                };
                trim::edit_list(edit, sample_rate, Some(decoded))
            }),
            itun_smpb: itunes_text(movie, b"iTunSMPB").and_then(|text| trim::itun_smpb(&text, Some(decoded))),
            ..Declared::default()
        };
        let mut tags = Tags::default();
        from_movie(movie, item_list(movie).as_ref(), &mut tags);
        Ok(Self {
            tags,
            info: TrackInfo {
                container: Container::Mp4,
                time_scale,
                wraps: false,
                first_pts: None,
                trim: declared.choose(),
                roll: 0,
                codec,
            },
            input,
            window,
            samples,
            next: 0,
        })
    }

    /// The first frame of a packet, counted as they are decoded, and how many it has.
    fn frames_of(&self, number: u32) -> (u64, u32) {
        // Counted, where all packets have the same length: the durations in the tables are in units that may be coarser than
        // a frame, and the last one is shortened to what is to be heard.
        let fixed = self.info.codec.frames_per_packet;
        if fixed > 0 {
            return (u64::from(number) * u64::from(fixed), fixed);
        }
        let (start, duration) = self.samples.time(number);
        let start = i64::try_from(start).unwrap_or(i64::MAX);
        let first = trim::to_frames(start, self.info.time_scale, self.info.codec.sample_rate);
        (first, self.info.frames(duration))
    }
}

impl PacketReader for Mp4Packets {
    fn info(&self) -> &TrackInfo {
        &self.info
    }

    fn tags(&self) -> Tags {
        self.tags.clone()
    }

    fn next(&mut self) -> Result<Next, DecodeError> {
        let number = self.next;
        let Some((at, length)) = self.samples.place(number) else {
            return Ok(Next::End);
        };
        // A table may say anything, and this is what is allocated.
        let length = length.min(LONGEST) as usize;
        let data = self.window.get(&self.input, at, length)?;
        // Half a packet decodes to noise.
        if data.len() < length {
            // The file was cut off here.
            return Ok(Next::End);
        }
        self.next += 1;
        let (start, frames) = self.frames_of(number);
        Ok(Next::Packet(Placed {
            start,
            skip_start: 0,
            skip_end: 0,
            packet: Packet {
                data,
                pts: i64::try_from(self.samples.time(number).0).unwrap_or(i64::MAX),
                frames,
            },
        }))
    }

    fn is_seekable(&self) -> bool {
        self.input.is_seekable()
    }

    fn seek(&mut self, frame: u64) -> Result<(), DecodeError> {
        // The last packet that begins at or before the frame.
        // By bisection, as durations may differ from packet to packet.
        let (mut low, mut high) = (0, self.samples.count());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.frames_of(middle).0 <= frame {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.next = low;
        Ok(())
    }

    fn resumes(&self) -> bool {
        true
    }

    fn total(&self) -> Option<u64> {
        let last = self.samples.count().checked_sub(1)?;
        let (start, frames) = self.frames_of(last);
        Some(start + u64::from(frames))
    }

    fn bit_rate(&self) -> Option<u64> {
        let bits = u128::from(self.samples.bytes()) * 8 * u128::from(self.info.time_scale);
        u64::try_from(bits / u128::from(self.samples.duration().max(1))).ok()
    }
}

/// The text of one of iTunes' own items (`----`).
pub(super) fn itunes_text(movie: &Bytes, name: &[u8]) -> Option<String> {
    let items = item_list(movie)?;
    boxes(&items)
        .filter(|(kind, _)| kind == b"----")
        .find_map(|(_, item)| {
            let found = child(&item, *b"name")?;
            let data = child(&item, *b"data")?;
            (found.get(4..)? == name)
                .then(|| String::from_utf8_lossy(data.get(8..).unwrap_or_default()).into_owned())
        })
}

/// `ilst`, where the tags are.
pub(super) fn item_list(movie: &Bytes) -> Option<Bytes> {
    let meta = descendant(movie, &[b"udta", b"meta"])?;
    // With a version and flags before its boxes, or, as QuickTime has it, without.
    let versioned = meta.get(4..).map(|rest| meta.slice_ref(rest));
    versioned
        .and_then(|boxes| child(&boxes, *b"ilst"))
        .or_else(|| child(&meta, *b"ilst"))
}
