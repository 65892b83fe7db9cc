//! MPEG-2 Transport Streams (ISO/IEC 13818-1; RFC 8216, 3.2): AAC in ADTS, MPEG audio, and timed ID3 tags beside them.
//!
//! ```text
//!   188 bytes ─┬─ PAT ── PMT: which packets hold what
//!              ├─ sound: PES headers with times ── frames, which end where they like
//!              └─ ID3: a tag in each PES packet
//! ```

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};

use super::{
    bits::Fields,
    buffer::Buffer,
    clock::{self, Clock},
    frames::{self, Frame, Frames, Header, Kind},
    psi::{self, ProgramMap, Section},
};
use crate::decode::{
    Container, DecodeError, Trim,
    packet::{Demux, Packet, TimedTag, TrackInfo},
};

/// Bytes of a packet.
const PACKET: usize = 188;
/// Each packet's first byte.
const SYNC: u8 = 0x47;
/// The longest header of a PES packet.
const MAX_PES_HEADER: usize = 9 + 255;
/// The longest tag that is kept.
const MAX_TAG: usize = 1 << 20;
/// How many frames may wait to be told their time.
const MAX_UNPLACED: usize = 64;

/// Reads the Media Segments of one encoder run.
#[derive(Debug, Default)]
pub(crate) struct TransportStream {
    buffer: Buffer,
    segment_ended: bool,
    finished: bool,
    tables: Tables,
    sound: Option<Sound>,
    id3: Pes,
    tags: VecDeque<TimedTag>,
}

/// The two tables, and what they said last.
#[derive(Debug, Default)]
struct Tables {
    pat: Section,
    pmt: Section,
    pmt_pid: Option<u16>,
    map: Option<ProgramMap>,
}

/// One packet's header and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TsPacket {
    pid: u16,
    /// A PES packet or a section begins in it.
    starts: bool,
    counter: u8,
    /// The counter begins anew.
    restarts: bool,
    payload: Bytes,
}

impl TsPacket {
    /// `None` if there is no payload, or it is known to be wrong.
    fn read(packet: &Bytes) -> Option<Self> {
        let mut fields = Fields(packet);
        fields.u8()?;
        let (word, control) = (fields.u16()?, fields.u8()?);
        // Damaged on its way, or scrambled.
        if word & 0x8000 != 0 || control & 0xc0 != 0 || control & 0x10 == 0 {
            return None;
        }
        let mut restarts = false;
        if control & 0x20 != 0 {
            let length = fields.u8()?;
            let adaptation = fields.bytes(length.into())?;
            restarts = adaptation.first().is_some_and(|flags| flags & 0x80 != 0);
        }
        Some(Self {
            pid: word & 0x1fff,
            starts: word & 0x4000 != 0,
            counter: control & 15,
            restarts,
            payload: packet.slice_ref(fields.0),
        })
    }
}

/// Takes PES headers off a stream's payloads.
#[derive(Debug, Default)]
struct Pes {
    counter: Option<u8>,
    /// A header that goes on in the next packet.
    header: BytesMut,
    in_header: bool,
    /// Payload of a PES packet is being read.
    open: bool,
    /// What is left of a tag's bytes, for streams of tags.
    tag: BytesMut,
    tag_pts: i64,
}

/// What a packet brought.
#[derive(Debug, Default)]
struct Payload {
    /// Packets before it are missing: so many bytes.
    missing: u64,
    /// A PES packet began.
    started: bool,
    /// Its time.
    pts: Option<i64>,
    bytes: Bytes,
}

impl Pes {
    fn push(&mut self, packet: &TsPacket) -> Option<Payload> {
        let mut payload = Payload::default();
        let last = self.counter.replace(packet.counter).filter(|_| !packet.restarts);
        if let Some(last) = last {
            // A packet may be sent twice.
            // Exactly the same packet again, as 2.4.3.3 allows; its payload would be heard twice.
            if last == packet.counter {
                return None;
            }
            let missing = packet.counter.wrapping_sub(last).wrapping_sub(1) & 15;
            // The counter has four bits: sixteen lost packets look like none. The next time stamp tells.
            payload.missing = u64::from(missing) * (PACKET as u64 - 4);
            if missing > 0 {
                (self.in_header, self.open) = (false, self.open && !packet.starts);
            }
        }
        // A header that was begun and never completed is given up here: the new one would be appended to it.
        if packet.starts {
            self.header.clear();
            (self.in_header, self.open) = (true, false);
        }
        if !self.in_header {
            payload.bytes = if self.open {
                packet.payload.clone()
            } else {
                Bytes::new()
            };
            return Some(payload);
        }
        // What came before of this header: its bytes are no part of this packet's payload.
        let had = self.header.len();
        let room = MAX_PES_HEADER.saturating_sub(had).min(packet.payload.len());
        self.header
            .extend_from_slice(packet.payload.get(..room).unwrap_or_default());
        match pes_header(&self.header) {
            PesHeader::Short => {}
            PesHeader::None => self.in_header = false,
            PesHeader::Whole { length, pts } => {
                (self.in_header, self.open) = (false, true);
                (payload.started, payload.pts) = (true, pts);
                payload.bytes = packet
                    .payload
                    .slice(length.saturating_sub(had).min(packet.payload.len())..);
            }
        }
        Some(payload)
    }
}

enum PesHeader {
    /// More bytes are needed.
    Short,
    /// There is none, or one of a stream without sound.
    None,
    Whole {
        length: usize,
        pts: Option<i64>,
    },
}

/// ISO/IEC 13818-1, 2.4.3.6.
fn pes_header(bytes: &[u8]) -> PesHeader {
    let Some(&[0, 0, 1, stream, _, _, marker, flags, length]) = bytes.get(..9) else {
        let start = bytes.get(..3).is_none_or(|start| start == [0, 0, 1]);
        return if bytes.len() < 9 && start {
            PesHeader::Short
        } else {
            PesHeader::None
        };
    };
    // These have no such header.
    if matches!(stream, 0xbc | 0xbe | 0xbf | 0xf0..=0xf2 | 0xf8 | 0xff) || marker & 0xc0 != 0x80 {
        return PesHeader::None;
    }
    let length = 9 + usize::from(length);
    if bytes.len() < length {
        return PesHeader::Short;
    }
    let pts = bytes
        .get(9..14)
        .filter(|_| flags & 0x80 != 0 && length >= 14)
        .map(|field| {
            let bits = field
                .iter()
                .fold(0_i64, |bits, byte| bits << 8 | i64::from(*byte));
            (bits >> 33 & 7) << 30 | (bits >> 17 & 0x7fff) << 15 | (bits >> 1 & 0x7fff)
        });
    PesHeader::Whole { length, pts }
}

/// The stream of sound: frames, and their times.
#[derive(Debug)]
struct Sound {
    pid: u16,
    kind: Kind,
    pes: Pes,
    buffer: Buffer,
    frames: Frames,
    /// Where in the buffer's bytes a PES packet began, and its time.
    marks: VecDeque<(u64, i64)>,
    clock: Clock,
    /// Frames behind a loss, whose number is not known: the next mark tells their times, counted back from it.
    unplaced: VecDeque<Frame>,
    ready: VecDeque<Packet>,
    header: Option<Header>,
    track: Option<TrackInfo>,
}

impl Sound {
    fn new(pid: u16, kind: Kind) -> Self {
        Self {
            pid,
            kind,
            pes: Pes::default(),
            buffer: Buffer::default(),
            frames: Frames::new(kind),
            marks: VecDeque::new(),
            clock: Clock::default(),
            unplaced: VecDeque::new(),
            ready: VecDeque::new(),
            header: None,
            track: None,
        }
    }

    fn push(&mut self, packet: &TsPacket) -> Result<(), DecodeError> {
        let Some(payload) = self.pes.push(packet) else {
            return Ok(());
        };
        if payload.missing > 0 {
            // A frame that is whole stands before the gap. What was begun cannot be completed, and what comes cannot be its
            // end.
            self.frame(true)?;
            self.frames.miss(payload.missing + self.buffer.len() as u64);
            self.buffer.clear();
        }
        // Where the PES packet begins in the bytes. Frames may begin before that, and go on behind it.
        if let Some(pts) = payload.pts {
            self.marks
                .push_back((self.buffer.position() + self.buffer.len() as u64, pts));
        }
        self.buffer.push(payload.bytes);
        self.frame(false)
    }

    /// Takes all frames that are whole. With `all` no more bytes will follow those in the buffer.
    fn frame(&mut self, all: bool) -> Result<(), DecodeError> {
        while let Some(frame) = self.frames.next(&mut self.buffer, all) {
            let mut mark = None;
            while self.marks.front().is_some_and(|(at, _)| *at <= frame.position) {
                mark = self.marks.pop_front();
            }
            // Frames may be lost between the mark and this one: then the mark is not this one's.
            let exact = mark.is_some_and(|(at, _)| at == frame.position || frame.lost == 0);
            if let Some((_, pts)) = mark {
                self.place(exact.then_some(pts));
                self.clock.set(pts);
            }
            if self.kind == Kind::Mpeg && frames::is_info(&frame.data) {
                continue;
            }
            // Another programme's sound, or another rate: the demuxer tells a new track with the packet that begins it.
            if self.header.is_none_or(|header| !header.agrees(&frame.header)) {
                self.place(None);
                self.track = Some(track(frame.header)?);
                self.header = Some(frame.header);
            }
            if exact || (frame.lost == 0 && self.unplaced.is_empty()) {
                let pts = self.clock.advance(frame.header, 0);
                self.ready.push_back(packet(frame, pts));
                continue;
            }
            if self.unplaced.len() >= MAX_UNPLACED {
                self.place(None);
            }
            self.unplaced.push_back(frame);
        }
        // What was passed over needs no marks any more, but for the last one: the next frame may begin behind it.
        while self
            .marks
            .get(1)
            .is_some_and(|(at, _)| *at <= self.buffer.position())
        {
            self.marks.pop_front();
        }
        Ok(())
    }

    /// No more bytes will come.
    fn finish(&mut self) -> Result<(), DecodeError> {
        self.frame(true)?;
        self.place(None);
        Ok(())
    }

    /// Gives the frames behind a loss their times: so that the last one ends at `next`, where the next mark is, or else by
    /// the number of frames that the lost bytes were.
    fn place(&mut self, next: Option<i64>) {
        let first = self.ready.len();
        let mut before = VecDeque::new();
        for frame in self.unplaced.drain(..) {
            let ticks = i64::from(clock::RATE) * i64::from(frame.header.frames);
            let rate = i64::from(frame.header.sample_rate.max(1));
            before.push_back((ticks, rate, i64::try_from(frame.lost).unwrap_or(0)));
            let pts = self.clock.advance(frame.header, frame.lost);
            self.ready.push_back(packet(frame, pts));
        }
        // No mark will come: the number of lost bytes was all there is to go by.
        let Some(next) = next else {
            return;
        };
        let mut count = 0;
        let placed = self.ready.iter_mut().skip(first);
        for (packet, (ticks, rate, lost)) in placed.zip(before).rev() {
            count += 1;
            packet.pts = next - count * ticks / rate;
            count += lost;
        }
    }
}

fn packet(frame: Frame, pts: i64) -> Packet {
    Packet {
        data: frame.data,
        pts,
        frames: frame.header.frames,
    }
}

fn track(header: Header) -> Result<TrackInfo, DecodeError> {
    Ok(TrackInfo {
        container: Container::MpegTs,
        codec: header.params()?,
        time_scale: clock::RATE,
        wraps: true,
        first_pts: None,
        trim: Trim::default(),
        roll: 0,
    })
}

impl TransportStream {
    /// The next packet of 188 bytes. Looks for the next one where none begins.
    fn packet(&mut self) -> Option<Bytes> {
        loop {
            // Two more packets tell whether this one is whole.
            let seen = self.buffer.len().min(2 * PACKET + 1);
            if seen < PACKET || (seen <= 2 * PACKET && !self.segment_ended) {
                return None;
            }
            let bytes = self.buffer.peek(seen)?;
            let sync = |at: usize| bytes.get(at).is_none_or(|byte| *byte == SYNC);
            // A packet that was cut has the next one's first byte within it. Where the next one is not at its place but
            // the one after it is, only a byte was turned.
            let skip = if sync(0) && (sync(PACKET) || sync(2 * PACKET)) {
                0
            } else {
                let next = (1..PACKET).find(|at| sync(*at) && sync(at + PACKET));
                next.unwrap_or(if sync(0) { 0 } else { PACKET })
            };
            if skip == 0 {
                return self.buffer.take(PACKET);
            }
            self.buffer.skip(skip as u64);
        }
    }

    /// Takes one packet to where it belongs.
    fn sort(&mut self, packet: &TsPacket) -> Result<(), DecodeError> {
        let tables = &mut self.tables;
        if packet.pid == 0 {
            tables.pat.push(&packet.payload, packet.starts, |section| {
                if let Some(pid) = psi::program_map_pid(section) {
                    tables.pmt_pid = Some(pid);
                }
            });
            return Ok(());
        }
        if tables.pmt_pid == Some(packet.pid) {
            let mut found = None;
            tables.pmt.push(&packet.payload, packet.starts, |section| {
                found = psi::program_map(section).or(found.take());
            });
            let map = found.transpose()?;
            if let Some(map) = map.filter(|map| tables.map != Some(*map)) {
                tables.map = Some(map);
                let sound = map.audio.map(|(pid, kind)| Sound::new(pid, kind));
                let same = |old: &Sound| {
                    sound
                        .as_ref()
                        .is_some_and(|new| (new.pid, new.kind) == (old.pid, old.kind))
                };
                // Tables are repeated in every segment. To begin anew each time would drop the frame that goes on over the
                // cut.
                if !self.sound.as_ref().is_some_and(same) {
                    self.sound = sound;
                }
            }
            return Ok(());
        }
        match &mut self.sound {
            // Before the map has come nothing is kept: a segment begins with its tables (RFC 8216, 3.2).
            Some(sound) if sound.pid == packet.pid => sound.push(packet)?,
            _ if tables.map.is_some_and(|map| map.id3 == Some(packet.pid)) => self.tag(packet),
            _ => {}
        }
        Ok(())
    }

    /// Collects a tag, which lasts to the next PES packet.
    fn tag(&mut self, packet: &TsPacket) {
        let Some(payload) = self.id3.push(packet) else {
            return;
        };
        // A PES packet of tags says no length that can be relied upon: the next one ends it.
        if payload.started {
            self.end_tag();
            self.id3.tag_pts = payload.pts.unwrap_or(0);
        }
        if self.id3.tag.len() + payload.bytes.len() <= MAX_TAG {
            self.id3.tag.extend_from_slice(&payload.bytes);
        }
    }

    fn end_tag(&mut self) {
        let tag = self.id3.tag.split().freeze();
        // A tag that lost a packet is not told at all: half a title is a wrong one.
        if super::id3::length(&tag).is_some_and(|length| length <= tag.len()) {
            let pts = self.id3.tag_pts;
            self.tags.push_back(TimedTag { pts, id3: tag });
        }
    }
}

impl Demux for TransportStream {
    fn start_segment(&mut self, _: Duration) {
        self.segment_ended = false;
        self.buffer.clear();
        if let Some(sound) = &mut self.sound {
            // Counters begin anew with each segment that was packaged by itself.
            sound.pes.counter = None;
        }
        self.id3.counter = None;
    }

    fn push(&mut self, bytes: Bytes) {
        self.buffer.push(bytes);
    }

    fn end_segment(&mut self) {
        self.segment_ended = true;
    }

    fn finish(&mut self) {
        (self.segment_ended, self.finished) = (true, true);
        self.end_tag();
    }

    fn next_packet(&mut self) -> Result<Option<Packet>, DecodeError> {
        loop {
            let ready = self.sound.as_mut().and_then(|sound| sound.ready.pop_front());
            if ready.is_some() {
                return Ok(ready);
            }
            let Some(bytes) = self.packet() else {
                // A frame may go on in the next segment: only the end of all ends it.
                match &mut self.sound {
                    Some(sound) if std::mem::take(&mut self.finished) => sound.finish()?,
                    _ => return Ok(None),
                }
                continue;
            };
            if let Some(packet) = TsPacket::read(&bytes) {
                self.sort(&packet)?;
            }
        }
    }

    fn next_tag(&mut self) -> Option<TimedTag> {
        self.tags.pop_front()
    }

    fn track(&self) -> Option<&TrackInfo> {
        self.sound.as_ref()?.track.as_ref()
    }
}
