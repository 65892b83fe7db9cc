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
//!
//! Files of several sample rates that were put together are parts, each with numbers of its own:
//!
//! ```text
//!   [ 44.1 kHz ……………… │ 22.05 kHz …… │ 48 kHz …………… ]
//!     ▲ begins: 0 s     ▲ 61.2 s       ▲ found where the part before was walked to its end
//! ```

mod constant;
mod finder;
#[cfg(test)]
mod tests;

use std::mem;
use std::time::Duration;

use bytes::Bytes;

use self::{
    constant::{Constant, constant},
    finder::Finder,
};
use super::{
    input::Input,
    reader::{Next, PacketReader, Placed},
    sniff::SEARCH,
    track::rescaled,
};
use crate::decode::{
    Codec, DecodeError, Trim, TrimRule,
    demux::{
        aac,
        buffer::Buffer,
        frames::{self, Frame, Frames, Header, Kind},
    },
    error::UnsupportedContainerSnafu,
    packet::{CodecParams, Packet, TrackInfo},
    source::{frames_at, time_of},
    trim::{Declared, Lame},
};

/// How many frames apart the remembered ones are.
const EVERY: u64 = 64;

/// Farther ahead than this a place is calculated, if it can be.
const FAR: u64 = 512;

/// Frames behind a calculated place that must be like those at the start.
const CHECKED: usize = 8;

/// How much is read at once before the first sound: some frames.
const STEP: usize = 2048;

/// Bit rates below this are those of silence, in thousands of bits per second.
const SILENT: u32 = 48;

/// Reads the frames of an MP3 or ADTS file.
pub(super) struct FramePackets {
    input: Input,
    /// The part that is read, the known ones before it, and those behind it: the next one is the last.
    part: Part,
    before: Vec<Part>,
    after: Vec<Part>,
    /// Bytes of the frames seen when the file was opened, and how many they were.
    mean: (u64, u64),
    /// More frames than those were looked at for whether the bit rate is constant.
    confirmed: bool,
    finder: Finder,
    /// The number of the next frame.
    number: u64,
    /// What was read ahead.
    held: Option<Found>,
}

/// Frames of one sample rate.
struct Part {
    info: TrackInfo,
    /// When it begins.
    begins: Duration,
    /// Frames of PCM in each frame.
    length: u64,
    /// The number of all frames, where that is known.
    count: Option<u64>,
    constant: Option<Constant>,
    /// Where each 64th frame begins, and so the part.
    index: Vec<u64>,
}

/// What stands next in the file.
enum Found {
    /// A frame with sound, and its number.
    Frame(u64, Frame),
    /// The first frame of another part.
    Another(Frame),
    End,
}

impl Part {
    /// Whether a frame may belong to it.
    fn is_like(&self, header: &Header) -> bool {
        if self.info.codec.codec == Codec::Mp3 {
            // The lower rates have half as many frames of PCM: what plays as long may have another rate.
            return header.sample_rate == self.info.codec.sample_rate;
        }
        // Compared by duration, as HE-AAC's headers have half the rate and half the frames of what is heard.
        u64::from(header.frames) * u64::from(self.info.codec.sample_rate)
            == u64::from(header.sample_rate) * self.length
    }

    fn place(&self) -> u64 {
        self.index.first().copied().unwrap_or(0)
    }
}

impl FramePackets {
    /// The file whose sound begins at `start`, or some bytes behind it.
    ///
    /// # Errors
    ///
    /// `UnsupportedContainer` if there is no frame, `UnsupportedCodec`, `Io`, `Interrupted`.
    pub(super) fn open(input: Input, start: u64) -> Result<Self, DecodeError> {
        let (kind, seen) = probe(&input, start)?;
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
        let mut constant = constant(kind, begins, &sound, codec.sample_rate, length);
        // Two files in one: the first one's header counts the first one's frames. The second one's header has the place of a
        // frame: calculated, all frames behind it would be one too late.
        if let Some(bytes) = lame.and_then(|lame| lame.bytes).filter(|bytes| *bytes > 0)
            && goes_on(&input, kind, start + first.position + u64::from(bytes))?
        {
            (count, trim.end, constant) = (None, None, None);
        }
        if count.is_none() {
            trim.end = None;
        }
        if trim.start == 0 && trim.end.is_none() {
            trim.rule = TrimRule::None;
        }
        // Exact where all frames are alike: a few of them have the byte that rounds, or have it not.
        let mean = constant.map_or_else(
            || {
                let bytes = sound.iter().map(|frame| frame.data.len() as u64).sum();
                (bytes, sound.len() as u64)
            },
            Constant::mean,
        );
        Ok(Self {
            mean,
            confirmed: false,
            part: Part {
                info: TrackInfo {
                    container: kind.container(),
                    time_scale: codec.sample_rate,
                    wraps: false,
                    first_pts: None,
                    trim,
                    roll: 0,
                    codec,
                },
                begins: Duration::ZERO,
                length,
                count,
                constant,
                index: vec![begins],
            },
            before: Vec::new(),
            after: Vec::new(),
            finder: Finder::new(kind, begins),
            number: 0,
            held: None,
            input,
        })
    }

    fn frame(&mut self) -> Result<Found, DecodeError> {
        if let Some(held) = self.held.take() {
            return Ok(held);
        }
        loop {
            let Some(frame) = self.finder.next(&self.input)? else {
                // All were counted: now their number is known.
                self.part.count = Some(self.number);
                return Ok(Found::End);
            };
            let is_info = self.finder.kind == Kind::Mpeg && frames::is_info(&frame.data);
            if !self.part.is_like(&frame.header) {
                if is_info {
                    continue;
                }
                return Ok(Found::Another(frame));
            }
            self.number += frame.lost;
            if is_info {
                continue;
            }
            let number = self.number;
            // Without a hole only: a number behind one that is not remembered was calculated, and the index has no place for
            // it.
            if number == EVERY * self.part.index.len() as u64 {
                self.part.index.push(frame.position);
            }
            self.number += 1;
            return Ok(Found::Frame(number, frame));
        }
    }

    /// Another part begins, with this frame.
    fn enter(&mut self, frame: Frame) -> Result<(), DecodeError> {
        let params = frame.header.params()?;
        let known = self.after.pop().filter(|part| part.place() == frame.position);
        let part = known.unwrap_or_else(|| Part {
            begins: self.ends(params.sample_rate),
            length: u64::from(params.frames_per_packet).max(1),
            count: None,
            constant: None,
            index: vec![frame.position],
            info: TrackInfo {
                time_scale: params.sample_rate,
                trim: Trim::default(),
                codec: params,
                ..self.part.info.clone()
            },
        });
        self.before.push(mem::replace(&mut self.part, part));
        self.number = 1;
        self.held = Some(Found::Frame(0, frame));
        Ok(())
    }

    /// When the part ends, all of whose frames have been read, and another of this rate begins.
    fn ends(&self, next_rate: u32) -> Duration {
        let rate = self.part.info.codec.sample_rate;
        let frames = self.number.saturating_mul(self.part.length);
        let heard = frames.saturating_sub(self.part.info.trim.start);
        // Rounded as where parts are played one after another: the sum of exact times would be a frame off that.
        let end = frames_at(self.part.begins, rate).saturating_add(heard);
        let begins = rescaled(end, rate, next_rate);
        // Up to the next nanosecond, so that the frame at this time is that one.
        time_of(begins, next_rate).saturating_add(Duration::from_nanos(1))
    }

    /// Goes to the last known part that begins by `time`.
    fn select(&mut self, time: Duration) {
        let mut moved = false;
        while self.part.begins > time
            && let Some(part) = self.before.pop()
        {
            self.after.push(mem::replace(&mut self.part, part));
            moved = true;
        }
        while let Some(part) = self.after.pop_if(|part| part.begins <= time) {
            self.before.push(mem::replace(&mut self.part, part));
            moved = true;
        }
        if moved {
            self.go_to(self.part.place(), 0);
        }
    }

    fn go_to(&mut self, place: u64, number: u64) {
        self.finder = Finder::new(self.finder.kind, place);
        self.number = number;
        self.held = None;
    }

    /// The constant bit rate, if it holds for more frames than the few that were waited for before the first sound.
    fn confirmed_constant(&mut self) -> Result<Option<Constant>, DecodeError> {
        if let Some(constant) = self.part.constant
            && !mem::replace(&mut self.confirmed, true)
        {
            let kind = self.finder.kind;
            let mut buffer = Buffer::default();
            buffer.push(self.input.bytes_at(self.part.place(), SEARCH)?);
            let mut frames = Frames::new(kind);
            // Once, and only when a seek would save reading: the bytes are asked for over the network otherwise.
            while let Some(frame) = frames.next(&mut buffer, false) {
                if frames::kbits_of(&frame.data) != Some(constant.kbits) {
                    self.part.constant = None;
                }
            }
        }
        Ok(self.part.constant)
    }

    /// Goes to a calculated place; whether frames stand there as they should.
    fn calculate(&mut self, number: u64) -> Result<bool, DecodeError> {
        // Only a constant rate tells a place exactly. Xing's table of contents has a hundred places, each rounded to a 256th
        // of the file: a frame found by it has no number, and what is heard would be some seconds off its time.
        let Some(constant) = self.confirmed_constant()? else {
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
            let like =
                frames::kbits_of(&frame.data) == Some(constant.kbits) && self.part.is_like(&frame.header);
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

    /// Goes to a frame of this part, or to its end; `false` if another part begins there.
    fn reach(&mut self, number: u64) -> Result<bool, DecodeError> {
        let held = match &self.held {
            Some(Found::Frame(number, _)) => *number,
            _ => self.number,
        };
        let remembered = usize::try_from(number / EVERY)
            .unwrap_or(usize::MAX)
            .min(self.part.index.len().saturating_sub(1));
        let near = remembered as u64 * EVERY;
        let known = if held <= number { near.max(held) } else { near };
        // A little way is walked, although a jump would do: the bytes are about to be read anyway.
        if number.saturating_sub(known) > FAR && self.calculate(number)? {
            return Ok(true);
        }
        if (known != held || held > number)
            && let Some(&place) = self.part.index.get(remembered)
        {
            self.go_to(place, near);
        }
        // On to the frame itself, counting.
        loop {
            match self.frame()? {
                Found::Frame(found, _) if found < number => {}
                Found::End => return Ok(true),
                found => {
                    let reached = matches!(found, Found::Frame(..));
                    self.held = Some(found);
                    return Ok(reached);
                }
            }
        }
    }
}

impl PacketReader for FramePackets {
    fn info(&self) -> &TrackInfo {
        &self.part.info
    }

    fn next(&mut self) -> Result<Next, DecodeError> {
        let (number, frame) = match self.frame()? {
            Found::Frame(number, frame) => (number, frame),
            Found::Another(frame) => {
                self.enter(frame)?;
                return Ok(Next::Chained);
            }
            Found::End => return Ok(Next::End),
        };
        let start = number.saturating_mul(self.part.length);
        Ok(Next::Packet(Placed {
            start,
            skip_start: 0,
            skip_end: 0,
            packet: Packet {
                data: frame.data,
                pts: i64::try_from(start).unwrap_or(i64::MAX),
                frames: u32::try_from(self.part.length).unwrap_or(0),
            },
        }))
    }

    fn is_seekable(&self) -> bool {
        self.input.is_seekable()
    }

    fn seek(&mut self, frame: u64) -> Result<(), DecodeError> {
        self.reach(frame / self.part.length).map(drop)
    }

    fn link_at(&mut self, time: Duration) -> Result<Duration, DecodeError> {
        self.select(time);
        // Where the last known part ends nothing says, unless a header counts its frames: it is gone through, up to `time`.
        while self.after.is_empty() && self.part.count.is_none() {
            let info = &self.part.info;
            let behind = frames_at(time.saturating_sub(self.part.begins), info.codec.sample_rate);
            let raw = behind.saturating_add(info.trim.start);
            if self.reach(raw / self.part.length)? {
                break;
            }
            if let Found::Another(frame) = self.frame()? {
                self.enter(frame)?;
            }
        }
        Ok(self.part.begins)
    }

    fn resumes(&self) -> bool {
        true
    }

    fn duration(&self) -> Option<Duration> {
        let last = self.after.first().unwrap_or(&self.part);
        let is_one = self.after.is_empty() && self.before.is_empty();
        let count = match last.count {
            Some(_) if is_one => return None,
            Some(count) => count,
            // An estimate, where nothing says it: as many frames as fit, if all are as long as the first ones.
            None => {
                let bytes = self.input.len()?.saturating_sub(last.place());
                let (length, frames) = self.mean;
                let header = if self.finder.kind == Kind::Adts {
                    7 * frames
                } else {
                    0
                };
                let count = u128::from(bytes) * u128::from(frames) / u128::from(length + header).max(1);
                u64::try_from(count).unwrap_or(0)
            }
        };
        let plays = time_of(count.saturating_mul(last.length), last.info.codec.sample_rate);
        Some(last.begins.saturating_add(plays))
    }

    fn total(&self) -> Option<u64> {
        // Where another part follows it is for the reader to say where this one ends.
        let count = self.part.count.filter(|_| self.after.is_empty());
        count.map(|count| count.saturating_mul(self.part.length))
    }

    fn bit_rate(&self) -> Option<u64> {
        if let Some(constant) = self.part.constant {
            return Some(u64::from(constant.kbits) * 1000);
        }
        let (bytes, frames) = match (self.part.count, self.input.len()) {
            (Some(count), Some(len)) => (len.saturating_sub(self.part.place()), count),
            _ => self.mean,
        };
        let seconds = u128::from(frames) * u128::from(self.part.length);
        let bits = u128::from(bytes) * 8 * u128::from(self.part.info.codec.sample_rate);
        u64::try_from(bits / seconds.max(1)).ok()
    }
}

/// What the frames at the start are, and the first ones of them: as few as tell what there is to know, so that the first sound
/// need not wait for more.
fn probe(input: &Input, start: u64) -> Result<(Kind, Vec<Frame>), DecodeError> {
    let mut found = [Kind::Mpeg, Kind::Adts].map(|kind| (Frames::new(kind), Buffer::default(), Vec::new()));
    let (mut read, mut all) = (0, false);
    loop {
        // Both at once, over the same bytes: a stream cannot be read again for the other one.
        for (frames, buffer, seen) in &mut found {
            seen.extend(std::iter::from_fn(|| frames.next(buffer, all)));
        }
        // Either kind may turn up in the other's data, by accident; not as often, and not as early.
        let [(.., mpeg), (.., adts)] = &found;
        let (kind, seen, other) = if mpeg.len() >= adts.len() {
            (Kind::Mpeg, mpeg, adts)
        } else {
            (Kind::Adts, adts, mpeg)
        };
        // Four to one: frames of the other kind turn up in these by chance, one in some hundred.
        let tells = seen.len() >= 4 * other.len() && seen.len() >= wanted(input, kind, seen);
        if all || tells || read >= SEARCH {
            let [(.., mpeg), (.., adts)] = found;
            return Ok((kind, if kind == Kind::Mpeg { mpeg } else { adts }));
        }
        // What one read gives: less than a step may have arrived, and be enough.
        let more = input.some_at(start + read as u64, STEP.min(SEARCH - read))?;
        read += more.len();
        all = more.is_empty();
        for (_, buffer, _) in &mut found {
            buffer.push(more.clone());
        }
    }
}

/// How many frames tell what there is to know.
fn wanted(input: &Input, kind: Kind, seen: &[Frame]) -> usize {
    let (info, sound) = match seen.split_first() {
        Some((first, rest)) if kind == Kind::Mpeg && frames::is_info(&first.data) => (Some(first), rest),
        _ => (None, seen),
    };
    let counted = info.is_some_and(|info| Lame::read(&info.data).is_some_and(|lame| lame.packets.is_some()));
    // Where nothing counts the frames, the length of the first ones is all that an estimate of the duration has to go by.
    // Frames of silence are short in a variable bit rate: as many in a row as are looked at may well be alike.
    let estimated = input.is_seekable() && input.len().is_some() && !counted;
    let mut rates = sound.iter().map(|frame| frames::kbits_of(&frame.data));
    let first = rates.next().flatten();
    let same = first.is_some_and(|kbits| kbits >= SILENT) && rates.all(|rate| rate == first);
    match kind {
        _ if !estimated => CHECKED + 1,
        Kind::Mpeg if same => CHECKED + 1,
        Kind::Mpeg => usize::MAX,
        Kind::Adts => 4 * CHECKED,
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
