//! MP3 and ADTS files: frames one after another, found and counted here.
//!
//! Nothing in such a file says which frame stands where. Frames are numbered by counting them from the start; each 64th is
//! remembered, so that what was played, or passed over, is found again at once.
//!
//! ```text
//!   number    0          64         128              n
//!             ├──────────┼──────────┼────── … ───────┼───
//!   index     ●          ●          ●                ▲
//!                                   └── walked ──────┘   or, at a constant bit rate, calculated
//! ```

use std::time::Duration;

use bytes::Bytes;

use super::{
    input::{CHUNK, Input},
    reader::{Next, PacketReader, Placed},
    sniff::SEARCH,
};
use crate::decode::{
    Codec, DecodeError, Trim, TrimRule,
    demux::{
        aac,
        buffer::Buffer,
        frames::{self, Frame, Frames, Kind},
    },
    error::UnsupportedContainerSnafu,
    packet::{CodecParams, Packet, TrackInfo},
    source::time_of,
    trim::{Declared, Lame},
};

/// How many frames apart the remembered ones are.
const EVERY: u64 = 64;

/// Farther ahead than this a place is calculated, if it can be.
const FAR: u64 = 512;

/// Frames behind a calculated place that must be like those at the start.
const CHECKED: usize = 8;

/// Reads the frames of an MP3 or ADTS file.
pub(super) struct FramePackets {
    input: Input,
    info: TrackInfo,
    /// Frames of PCM in each frame.
    length: u64,
    /// The number of all frames, where that is known.
    count: Option<u64>,
    constant: Option<Constant>,
    /// Bytes of the frames seen when the file was opened, and how many they were.
    mean: (u64, u64),
    finder: Finder,
    /// The number of the next frame.
    number: u64,
    /// A frame that was read ahead, with its number.
    held: Option<(u64, Frame)>,
    /// Where each 64th frame begins.
    index: Vec<u64>,
}

/// A constant bit rate: every frame is as long as the others, give or take the byte that rounds.
#[derive(Debug, Clone, Copy)]
struct Constant {
    kbits: u32,
    /// Where frame 0 begins.
    start: u64,
    /// The exact length of a frame is `bytes / per`.
    bytes: u64,
    per: u64,
}

impl Constant {
    fn place(&self, number: u64) -> u64 {
        let offset = u128::from(number) * u128::from(self.bytes) / u128::from(self.per);
        self.start
            .saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// The number of the frame at a place, if one can begin there.
    fn number(&self, place: u64) -> Option<u64> {
        let offset = u128::from(place.checked_sub(self.start)?);
        let number = (offset * u128::from(self.per) + u128::from(self.bytes) / 2) / u128::from(self.bytes);
        let number = u64::try_from(number).ok()?;
        (self.place(number).abs_diff(place) <= 2).then_some(number)
    }
}

/// Frames from a place in the file on.
struct Finder {
    kind: Kind,
    frames: Frames,
    buffer: Buffer,
    /// Where the buffer's first byte was in the file, and the next one to read is.
    base: u64,
    read_to: u64,
    all: bool,
}

impl Finder {
    fn new(kind: Kind, place: u64) -> Self {
        Self {
            kind,
            frames: Frames::new(kind),
            buffer: Buffer::default(),
            base: place,
            read_to: place,
            all: false,
        }
    }

    /// The next frame and where it begins in the file.
    fn next(&mut self, input: &Input) -> Result<Option<Frame>, DecodeError> {
        loop {
            if let Some(mut frame) = self.frames.next(&mut self.buffer, self.all) {
                frame.position += self.base;
                return Ok(Some(frame));
            }
            if self.all {
                return Ok(None);
            }
            let more = input.some_at(self.read_to, CHUNK)?;
            self.read_to += more.len() as u64;
            self.all = more.is_empty();
            self.buffer.push(more);
        }
    }
}

impl FramePackets {
    /// The file whose sound begins at `start`, or some bytes behind it.
    ///
    /// # Errors
    ///
    /// `UnsupportedContainer` if there is no frame, `UnsupportedCodec`, `Io`, `Interrupted`.
    pub(super) fn open(input: Input, start: u64) -> Result<Self, DecodeError> {
        let head = input.bytes_at(start, SEARCH)?;
        let all = head.len() < SEARCH;
        let seen = |kind| {
            let (mut frames, mut buffer) = (Frames::new(kind), Buffer::default());
            buffer.push(head.clone());
            std::iter::from_fn(|| frames.next(&mut buffer, all)).collect::<Vec<_>>()
        };
        // Either kind may turn up in the other's data, by accident; not as often, and not as early.
        let (mpeg, adts) = (seen(Kind::Mpeg), seen(Kind::Adts));
        let (kind, seen) = if mpeg.len() >= adts.len() {
            (Kind::Mpeg, mpeg)
        } else {
            (Kind::Adts, adts)
        };
        let mut sound = seen.iter();
        let Some(first) = seen.first() else {
            let container = "a file that is none of audio";
            return UnsupportedContainerSnafu { container }.fail();
        };
        let (mut lame, mut begins) = (None, first.position);
        if kind == Kind::Mpeg && frames::is_info(&first.data) {
            lame = Lame::read(&first.data);
            sound.next();
            begins = first.position + first.data.len() as u64;
        }
        let mut codec = first.header.params()?;
        let sound: Vec<&Frame> = sound.collect();
        reveal_replication(&mut codec, sound.iter().map(|frame| &frame.data));
        let length = u64::from(codec.frames_per_packet).max(1);
        let begins = start + begins;
        let mut count = lame.and_then(|lame| lame.packets).map(u64::from);
        let mut trim = Declared {
            lame: lame.and_then(Lame::trim),
            ..Declared::default()
        }
        .choose();
        // Two files in one: the first one's header counts the first one's frames.
        if let Some(bytes) = lame.and_then(|lame| lame.bytes).filter(|bytes| *bytes > 0)
            && goes_on(&input, kind, start + first.position + u64::from(bytes))?
        {
            (count, trim.end) = (None, None);
        }
        if count.is_none() {
            trim.end = None;
        }
        if trim.start == 0 && trim.end.is_none() {
            trim.rule = TrimRule::None;
        }
        let bytes = sound.iter().map(|frame| frame.data.len() as u64).sum();
        Ok(Self {
            constant: constant(kind, begins, &sound, codec.sample_rate, length),
            mean: (bytes, sound.len() as u64),
            info: TrackInfo {
                container: kind.container(),
                time_scale: codec.sample_rate,
                wraps: false,
                first_pts: None,
                trim,
                roll: 0,
                codec,
            },
            length,
            count,
            finder: Finder::new(kind, begins),
            number: 0,
            held: None,
            index: Vec::new(),
            input,
        })
    }

    /// The next frame with sound, and its number.
    fn frame(&mut self) -> Result<Option<(u64, Frame)>, DecodeError> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        loop {
            let Some(frame) = self.finder.next(&self.input)? else {
                // All were counted: now their number is known.
                self.count = Some(self.number);
                return Ok(None);
            };
            self.number += frame.lost;
            if self.finder.kind == Kind::Mpeg && frames::is_info(&frame.data) {
                continue;
            }
            let number = self.number;
            // Without a hole only: a number behind one that is not remembered was calculated, and the index has no place for
            // it.
            if number == EVERY * self.index.len() as u64 {
                self.index.push(frame.position);
            }
            self.number += 1;
            return Ok(Some((number, frame)));
        }
    }

    fn go_to(&mut self, place: u64, number: u64) {
        self.finder = Finder::new(self.finder.kind, place);
        self.number = number;
        self.held = None;
    }

    /// Goes to a calculated place; whether frames stand there as they should.
    fn calculate(&mut self, number: u64) -> Result<bool, DecodeError> {
        // Only a constant rate tells a place exactly. Xing's table of contents has a hundred places, each rounded to a 256th
        // of the file: a frame found by it has no number, and what is heard would be some seconds off its time.
        let Some(constant) = self.constant else {
            return Ok(false);
        };
        let mut finder = Finder::new(self.finder.kind, constant.place(number).saturating_sub(2));
        let mut first = None;
        // A place that was calculated is believed if the frames behind it stand where they should too: a file may be put
        // together from several, or have lost some bytes in between.
        for ahead in 0..CHECKED {
            let Some(frame) = finder.next(&self.input)? else {
                break;
            };
            let found = constant.number(frame.position);
            let like = frames::kbits_of(&frame.data) == Some(constant.kbits);
            match (found, first) {
                (Some(found), None) if like && found >= number.saturating_sub(1) && found <= number => {
                    first = Some((found, frame.position));
                }
                (Some(found), Some((before, _))) if like && found == before + ahead as u64 => {}
                _ => return Ok(false),
            }
        }
        let Some((number, place)) = first else {
            return Ok(false);
        };
        self.go_to(place, number);
        Ok(true)
    }
}

impl PacketReader for FramePackets {
    fn info(&self) -> &TrackInfo {
        &self.info
    }

    fn next(&mut self) -> Result<Next, DecodeError> {
        let Some((number, frame)) = self.frame()? else {
            return Ok(Next::End);
        };
        // Compared by duration, as HE-AAC's headers have half the rate and half the frames of what is heard.
        let same = u64::from(frame.header.frames) * u64::from(self.info.codec.sample_rate)
            == u64::from(frame.header.sample_rate) * self.length;
        if !same {
            // Another file follows in this one, with another sample rate.
            let params = frame.header.params()?;
            self.length = u64::from(params.frames_per_packet).max(1);
            self.info.time_scale = params.sample_rate;
            self.info.codec = params;
            self.info.trim = Trim::default();
            (self.count, self.constant) = (None, None);
            self.index = vec![frame.position];
            self.number = 1;
            self.held = Some((0, frame));
            return Ok(Next::Chained);
        }
        let start = number.saturating_mul(self.length);
        Ok(Next::Packet(Placed {
            start,
            skip_start: 0,
            skip_end: 0,
            packet: Packet {
                data: frame.data,
                pts: i64::try_from(start).unwrap_or(i64::MAX),
                frames: u32::try_from(self.length).unwrap_or(0),
            },
        }))
    }

    fn is_seekable(&self) -> bool {
        self.input.is_seekable()
    }

    fn seek(&mut self, frame: u64) -> Result<(), DecodeError> {
        let number = frame / self.length;
        let held = self.held.as_ref().map_or(self.number, |(number, _)| *number);
        let remembered = usize::try_from(number / EVERY)
            .unwrap_or(usize::MAX)
            .min(self.index.len().saturating_sub(1));
        let near = remembered as u64 * EVERY;
        let known = if held <= number { near.max(held) } else { near };
        // A little way is walked, although a jump would do: the bytes are about to be read anyway.
        if number.saturating_sub(known) > FAR && self.calculate(number)? {
            return Ok(());
        }
        if (known != held || held > number)
            && let Some(&place) = self.index.get(remembered)
        {
            self.go_to(place, near);
        }
        // On to the frame itself, counting.
        while let Some((found, frame)) = self.frame()? {
            if found >= number {
                self.held = Some((found, frame));
                break;
            }
        }
        Ok(())
    }

    fn resumes(&self) -> bool {
        true
    }

    fn duration(&self) -> Option<Duration> {
        if self.count.is_some() {
            return None;
        }
        // An estimate, where nothing says it: as many frames as fit, if all are as long as the first ones.
        let first = self.index.first().copied().unwrap_or(self.finder.base);
        let bytes = self.input.len()?.saturating_sub(first);
        let (length, frames) = self.mean;
        let header = if self.finder.kind == Kind::Adts {
            7 * frames
        } else {
            0
        };
        let frames = u128::from(bytes) * u128::from(frames) / u128::from(length + header).max(1);
        let frames = u64::try_from(frames).unwrap_or(0).saturating_mul(self.length);
        Some(time_of(frames, self.info.codec.sample_rate))
    }

    fn total(&self) -> Option<u64> {
        self.count.map(|count| count.saturating_mul(self.length))
    }

    fn bit_rate(&self) -> Option<u64> {
        if let Some(constant) = self.constant {
            return Some(u64::from(constant.kbits) * 1000);
        }
        let (bytes, frames) = match (self.count, self.input.len()) {
            (Some(count), Some(len)) => (len.saturating_sub(self.finder.base), count),
            _ => self.mean,
        };
        let seconds = u128::from(frames) * u128::from(self.length);
        let bits = u128::from(bytes) * 8 * u128::from(self.info.codec.sample_rate);
        u64::try_from(bits / seconds.max(1)).ok()
    }
}

/// Whether frames of sound begin at a place.
fn goes_on(input: &Input, kind: Kind, place: u64) -> Result<bool, DecodeError> {
    // A tag at the end, a picture in it, is no second file; and where the end is not known, neither is that.
    let rest = input.len().map_or(0, |len| len.saturating_sub(place));
    if rest < 8192 || !input.is_seekable() {
        return Ok(false);
    }
    let mut buffer = Buffer::default();
    buffer.push(input.bytes_at(place.saturating_sub(2), 8192)?);
    let mut frames = Frames::new(kind);
    let first = frames.next(&mut buffer, false);
    Ok(first.is_some_and(|frame| frame.position < 4096) && frames.next(&mut buffer, false).is_some())
}

/// A constant bit rate, if all frames seen have it.
fn constant(kind: Kind, start: u64, seen: &[&Frame], sample_rate: u32, length: u64) -> Option<Constant> {
    let kbits = frames::kbits_of(&seen.first()?.data)?;
    let same = seen.len() >= CHECKED
        && seen
            .iter()
            .all(|frame| frames::kbits_of(&frame.data) == Some(kbits));
    (kind == Kind::Mpeg && same).then_some(Constant {
        kbits,
        start,
        bytes: length / 8 * 1000 * u64::from(kbits),
        per: u64::from(sample_rate).max(1),
    })
}

/// AAC may hold spectral band replication that no header announces; a decoder that does not know it plays at half the rate.
/// One of many packets looks like it by accident, and all packets that have it do.
pub(super) fn reveal_replication<'a>(codec: &mut CodecParams, packets: impl Iterator<Item = &'a Bytes>) {
    // It doubles the rate, and never beyond 48 kHz in practice.
    if codec.codec != Codec::AacLc || codec.sample_rate > 24_000 {
        return;
    }
    let (mut seen, mut with) = (0, 0);
    for packet in packets.take(16) {
        seen += 1;
        with += usize::from(aac::ends_with_sbr(packet));
    }
    if seen >= 3 && with * 4 >= seen * 3 {
        codec.codec = Codec::HeAac;
        codec.sample_rate *= 2;
        codec.frames_per_packet *= 2;
        // One channel may be two, by parametric stereo that begins with any packet: the decoder gives two from the first one on.
        codec.channels = codec.channels.max(2);
    }
}
