//! Files whose packets are told in order: fragmented MP4 and MPEG-TS, through the demuxers that HLS has.
//!
//! ```text
//!   fragmented MP4   [ moov │ moof mdat │ moof mdat │ … ]     a seek begins at a fragment
//!   MPEG-TS          [ 188 │ 188 │ 188 │ … ]                  a seek backward begins at the start
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use super::{
    frames::reveal_replication,
    input::{CHUNK, Input},
    reader::{Next, PacketReader, Placed},
};
use crate::decode::{
    Container, DecodeError,
    demux::{
        FragmentTimes,
        boxes::{self, Header, boxes, child, descendant},
    },
    error::MalformedSnafu,
    packet::{Demux, Packet, TrackInfo},
    source::time_of,
    trim,
};

/// Packets that are looked at before the first one is decoded.
const PROBED: usize = 8;

/// More seconds than these are not missing: the clock was set anew, as where two recordings were joined.
const MOST_MISSING: i64 = 10;

/// Boxes before the first fragment that are looked at, and the longest index that is read.
const MOST_BOXES: usize = 64;
const LONGEST_INDEX: u64 = 1 << 20;

/// MPEG's clock begins anew after so many units.
const CLOCK: i64 = 1 << 33;

/// Reads the packets that a demuxer finds in a file.
pub(super) struct PushedPackets {
    input: Input,
    make: fn() -> Box<dyn Demux>,
    demux: Box<dyn Demux>,
    start: u64,
    read_to: u64,
    all: bool,
    info: TrackInfo,
    /// The timestamp of raw frame 0 at the start of the file, and by the clock that holds here.
    origin: i64,
    zero: i64,
    /// The last timestamp, counted on where the clock begins anew, and when its packet ends.
    last: i64,
    ends: Option<i64>,
    /// Where the next packet begins, if it follows the last one.
    expected: Option<u64>,
    waiting: VecDeque<Placed>,
    /// Fragments found so far that can be sought to.
    fragments: Vec<Fragment>,
    /// What the file says of how long it plays.
    plays: Option<Announced>,
    /// What tells fragments' times; `None` for MPEG-TS.
    times: Option<FragmentTimes>,
    /// Where the next fragment is looked for; `None` when all are found.
    unsearched: Option<u64>,
    /// The clock there, and when the fragment before ends.
    clock: (i64, Option<i64>),
}

/// A place to seek to.
#[derive(Debug, Clone, Copy)]
struct Fragment {
    place: u64,
    /// Its first frame.
    first: u64,
    /// The timestamp of raw frame 0 by its clock.
    zero: i64,
}

impl PushedPackets {
    /// The file that begins at `start`; with `times` a fragmented one.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec`, `UnsupportedContainer`, `Malformed`, `Io`, `Interrupted`.
    pub(super) fn open(
        input: Input,
        start: u64,
        make: fn() -> Box<dyn Demux>,
        times: Option<FragmentTimes>,
    ) -> Result<Self, DecodeError> {
        let mut demux = make();
        demux.start_segment(Duration::ZERO);
        let (mut packets, mut read_to, mut all) = (Vec::new(), start, false);
        while packets.len() < PROBED {
            match take(&input, demux.as_mut(), &mut read_to, &mut all)? {
                Some(packet) => packets.push(packet),
                None => break,
            }
        }
        let (Some(first), Some(info)) = (packets.first(), demux.track()) else {
            return MalformedSnafu {
                what: "file without packets",
            }
            .fail();
        };
        let mut info = info.clone();
        reveal_replication(&mut info.codec, packets.iter().map(|packet| &packet.data));
        let zero = first.pts;
        let mut new = Self {
            make,
            demux,
            start,
            read_to,
            all,
            info,
            origin: zero,
            zero,
            last: zero,
            ends: None,
            expected: Some(0),
            waiting: VecDeque::new(),
            fragments: Vec::new(),
            plays: None,
            unsearched: (times.is_some() && input.is_seekable()).then_some(start),
            times,
            clock: (zero, None),
            input,
        };
        let placed: Vec<Placed> = packets.into_iter().map(|packet| new.place(packet)).collect();
        new.waiting.extend(placed);
        Ok(new)
    }

    /// The same, of which the file says how long it plays.
    pub(super) fn announced(self, plays: Option<Announced>) -> Self {
        Self { plays, ..self }
    }

    /// Finds a packet's frame. Timestamps are rounded to units: one that is where it should be, nearly, is there.
    fn place(&mut self, packet: Packet) -> Placed {
        let pts = if self.info.wraps {
            // The nearest turn: forward by less than half of one, or back.
            let ahead = (packet.pts - self.last).rem_euclid(CLOCK);
            self.last + if ahead >= CLOCK / 2 { ahead - CLOCK } else { ahead }
        } else {
            packet.pts
        };
        self.last = pts;
        let jump = jump(self.ends, pts, &self.info);
        if jump > 0 {
            log::debug!("timestamps go on {jump} units later: the clock was set anew");
            self.zero = self.zero.saturating_add(jump);
        }
        let told = trim::to_frames(
            pts.saturating_sub(self.zero),
            self.info.time_scale,
            self.info.codec.sample_rate,
        );
        let fixed = self.info.codec.frames_per_packet;
        let frames = if fixed > 0 { fixed } else { packet.frames };
        let near = u64::from(frames / 2).max(16);
        let start = match self.expected {
            // A packet that seems to come early follows all the same: nothing that was heard is heard again.
            Some(expected) if told.abs_diff(expected) <= near || told < expected => expected,
            _ => told,
        };
        self.expected = Some(start + u64::from(frames));
        self.ends = Some(pts.saturating_add(units(frames, &self.info)));
        // Only fragments declare a length that is not the decoder's, and units coarser than a frame are rounded.
        let unit = self.info.codec.sample_rate.div_ceil(self.info.time_scale.max(1));
        let beyond = frames.saturating_sub(packet.frames);
        let declared = self.info.container == Container::FragmentedMp4 && packet.frames > 0 && beyond >= unit;
        Placed {
            start,
            skip_start: 0,
            skip_end: if declared { beyond.into() } else { 0 },
            packet: Packet { frames, ..packet },
        }
    }

    fn read(&mut self) -> Result<Option<Placed>, DecodeError> {
        if let Some(waiting) = self.waiting.pop_front() {
            return Ok(Some(waiting));
        }
        let packet = take(&self.input, self.demux.as_mut(), &mut self.read_to, &mut self.all)?;
        Ok(packet.map(|packet| self.place(packet)))
    }

    fn go_to(&mut self, fragment: Fragment) {
        if self.times.is_none() {
            // Programs and clocks are learnt anew. A fragmented file's header is not repeated.
            self.demux = (self.make)();
        }
        // Bytes of the place before are no part of what comes.
        self.demux.start_segment(Duration::ZERO);
        (self.read_to, self.all) = (fragment.place, false);
        self.waiting.clear();
        // What comes is placed by its own timestamp: it follows nothing.
        self.zero = fragment.zero;
        (self.last, self.ends, self.expected) = (self.zero, None, None);
    }

    /// Finds fragments up to the one with `frame`.
    fn search(&mut self, frame: u64) -> Result<(), DecodeError> {
        // Fragments are found by their headers alone, from one to the next, and only as far as they are needed: over a
        // network each is a request.
        while let Some(at) = self.unsearched {
            if self.fragments.last().is_some_and(|last| last.first > frame) {
                break;
            }
            let header = Header::read(&self.input.bytes_at(at, Header::LONGEST)?);
            let Some((header, size)) = header.and_then(|header| header.size.map(|size| (header, size)))
            else {
                self.unsearched = None;
                break;
            };
            if &header.kind == b"moof" {
                let body = at + header.length as u64;
                let length = usize::try_from(size).unwrap_or(0).saturating_sub(header.length);
                let body = self.input.bytes_at(body, length)?;
                if let Some((begins, ends)) = self.times.as_mut().and_then(|times| times.next(&body)) {
                    self.found(at, begins, ends);
                }
            }
            self.unsearched = Some(at.saturating_add(size));
        }
        Ok(())
    }

    /// A fragment was found. The clock is followed as packets follow it, so that a seek lands where playing gets to.
    fn found(&mut self, place: u64, begins: Option<i64>, ends: i64) {
        let (zero, before) = &mut self.clock;
        // Fragments without a time are no places to seek to: they are reached from the one before.
        if let Some(begins) = begins {
            *zero = zero.saturating_add(jump(*before, begins, &self.info));
            self.fragments.push(Fragment {
                place,
                first: trim::to_frames(
                    begins.saturating_sub(*zero),
                    self.info.time_scale,
                    self.info.codec.sample_rate,
                ),
                zero: *zero,
            });
        }
        *before = Some(ends);
    }
}

/// How much later than it should a packet is presented, if that cannot be what is missing before it.
fn jump(expected: Option<i64>, told: i64, info: &TrackInfo) -> i64 {
    let most = MOST_MISSING.saturating_mul(info.time_scale.into());
    let late = expected.map_or(0, |expected| told.saturating_sub(expected));
    if late > most { late } else { 0 }
}

/// Frames in units of the track's time scale.
fn units(frames: u32, info: &TrackInfo) -> i64 {
    let rate = i64::from(info.codec.sample_rate.max(1));
    (i64::from(frames) * i64::from(info.time_scale) + rate / 2) / rate
}

/// The next packet of `demux`, which is fed as needed; `None` at the end.
fn take(
    input: &Input,
    demux: &mut dyn Demux,
    read_to: &mut u64,
    all: &mut bool,
) -> Result<Option<Packet>, DecodeError> {
    loop {
        if let Some(packet) = demux.next_packet()? {
            return Ok(Some(packet));
        }
        // Tags on the way are an HLS station's: a file has its own at its start.
        while demux.next_tag().is_some() {}
        if *all {
            return Ok(None);
        }
        let more = input.some_at(*read_to, CHUNK)?;
        if more.is_empty() {
            *all = true;
            demux.finish();
            continue;
        }
        *read_to += more.len() as u64;
        demux.push(more);
    }
}

impl PacketReader for PushedPackets {
    fn info(&self) -> &TrackInfo {
        &self.info
    }

    fn next(&mut self) -> Result<Next, DecodeError> {
        let Some(mut placed) = self.read()? else {
            return Ok(Next::End);
        };
        // Padding is what the last packet has beyond its declared length. Which one is the last, the next one tells.
        if placed.skip_end > 0 && self.waiting.is_empty() {
            match self.read() {
                Ok(None) => return Ok(Next::Packet(placed)),
                Ok(Some(next)) => self.waiting.push_front(next),
                Err(error) => {
                    self.waiting.push_front(placed);
                    return Err(error);
                }
            }
        }
        placed.skip_end = 0;
        Ok(Next::Packet(placed))
    }

    fn is_seekable(&self) -> bool {
        self.input.is_seekable()
    }

    fn seek(&mut self, frame: u64) -> Result<(), DecodeError> {
        self.search(frame)?;
        let fragment = self.fragments.iter().rfind(|fragment| fragment.first <= frame);
        self.go_to(fragment.copied().unwrap_or(Fragment {
            place: self.start,
            first: 0,
            zero: self.origin,
        }));
        // From the fragment's start to the packet: inside a fragment packets have no places of their own.
        while let Some(placed) = self.read()? {
            if placed.start + u64::from(placed.packet.frames) > frame {
                self.waiting.push_front(placed);
                break;
            }
        }
        Ok(())
    }

    fn resumes(&self) -> bool {
        true
    }

    fn duration(&self) -> Option<Duration> {
        let trim = time_of(self.info.trim.start, self.info.codec.sample_rate);
        self.plays.map(|plays| match plays {
            Announced::Movie(time) => time,
            Announced::Packets(time) => time.saturating_sub(trim),
        })
    }

    // What a header says of the duration is rounded, and may be wrong: no sound is cut off for it.
    fn total(&self) -> Option<u64> {
        None
    }
}

/// How long a fragmented file says that it plays.
#[derive(Debug, Clone, Copy)]
pub(super) enum Announced {
    /// What is to be heard.
    Movie(Duration),
    /// All packets, priming included.
    Packets(Duration),
}

/// What a fragmented file says of its duration before the first fragment: in the header of its fragments, or in an index of
/// all of them. `None` if it says nothing.
///
/// # Errors
///
/// `Interrupted`, `Io`.
pub(super) fn announced(
    input: &Input,
    start: u64,
    movie: &bytes::Bytes,
) -> Result<Option<Announced>, DecodeError> {
    let scale = child(movie, *b"mvhd").and_then(|header| boxes::time_scale(&header));
    let units = descendant(movie, &[b"mvex", b"mehd"]).and_then(|header| boxes::fragments_duration(&header));
    if let (Some(scale), Some(units)) = (scale, units) {
        return Ok(Some(Announced::Movie(time_of(units, scale))));
    }
    let mut at = start;
    for _ in 0..MOST_BOXES {
        let header = Header::read(&input.bytes_at(at, Header::LONGEST)?);
        let Some((header, size)) = header.and_then(|header| header.size.map(|size| (header, size))) else {
            break;
        };
        let end = at.saturating_add(size);
        match &header.kind {
            b"moof" | b"mdat" => break,
            b"sidx" if size < LONGEST_INDEX => {
                let body = at + header.length as u64;
                let length = usize::try_from(end - body).unwrap_or(0);
                let index = boxes::segment_index(&input.bytes_at(body, length)?);
                // Some files have an index in front of each fragment, which tells of that one alone.
                let whole = index.filter(|index| covers(input, end.saturating_add(index.end)));
                return Ok(whole.map(|index| Announced::Packets(time_of(index.duration, index.time_scale))));
            }
            _ => at = end,
        }
    }
    Ok(None)
}

/// Whether no fragment can follow behind this place.
fn covers(input: &Input, end: u64) -> bool {
    // A table of places for seeks may stand there: 19 bytes for each fragment, and so much less than those.
    input
        .len()
        .is_some_and(|len| len.saturating_sub(end) < (len / 8).max(1))
}

/// Whether the header says that fragments follow.
pub(super) fn is_fragmented(movie: &bytes::Bytes) -> bool {
    boxes(movie).any(|(kind, _)| &kind == b"mvex")
}
