//! Fragmented MP4: Media Initialization Sections, and Media Segments of movie fragments (RFC 8216, 3.3).
//!
//! ```text
//!   moov ── trak: what the track is        moof ── traf: times and lengths ─┐
//!        └─ mvex: what fragments leave out                                  ▼
//!                                          mdat: packets, given out one by one as their bytes come
//! ```

use std::{collections::VecDeque, time::Duration};

use bytes::{Buf, Bytes};

use super::{
    bits::Fields,
    boxes::{self, Header, boxes, child, descendant, full},
    buffer::Buffer,
};
use crate::decode::{
    Container, DecodeError, Trim, TrimRule,
    error::{MalformedSnafu, UnsupportedContainerSnafu},
    packet::{Demux, Packet, TimedTag, TrackInfo},
    trim,
};

/// The longest header box that is held. A `moof` has some bytes for each packet, a `moov` of a fragmented track none.
const MAX_HEADER: u64 = 8 << 20;

/// Reads one track: the first one with sound.
#[derive(Debug, Default)]
pub(crate) struct FragmentedMp4 {
    buffer: Buffer,
    /// Bytes of the box at hand that are still to be passed over.
    skipping: u64,
    /// Where the body of the `mdat` at hand ends, while there may be packets in it.
    body_end: Option<u64>,
    movie: Option<Movie>,
    /// Packets of the last fragment that are still to come, in the order of their bytes.
    runs: VecDeque<Run>,
    tags: VecDeque<TimedTag>,
    segment_ended: bool,
}

#[derive(Debug)]
struct Movie {
    track_id: u32,
    defaults: Defaults,
    info: TrackInfo,
    /// When the next packet is presented, for a fragment that does not say.
    next_pts: i64,
}

/// What a packet is where its fragment leaves it out.
#[derive(Debug, Clone, Copy, Default)]
struct Defaults {
    duration: u32,
    size: u32,
}

/// A `trun` that is being read: nothing is unpacked before its turn, as it may announce any number of packets.
#[derive(Debug)]
struct Run {
    flags: u32,
    entries: Bytes,
    left: u32,
    defaults: Defaults,
    /// Where the next packet's bytes begin, counted from the first byte pushed; `None` if they follow the run before.
    at: Option<u64>,
    pts: i64,
}

impl Run {
    /// The next packet's duration and size.
    fn next(&mut self) -> Option<(u32, u32)> {
        self.left = self.left.checked_sub(1)?;
        let flag = |bit: u32| self.flags & bit != 0;
        let widths = [flag(0x100), flag(0x200), flag(0x400), flag(0x800)];
        let mut entry = [None; 4];
        for (value, present) in entry.iter_mut().zip(widths) {
            if present {
                *value = Some(self.entries.try_get_u32().ok()?);
            }
        }
        let [duration, size, ..] = entry;
        Some((
            duration.unwrap_or(self.defaults.duration),
            size.unwrap_or(self.defaults.size),
        ))
    }
}

impl FragmentedMp4 {
    /// Takes what stands before the next packet; whether one can be tried.
    fn advance(&mut self) -> Result<bool, DecodeError> {
        loop {
            self.skipping -= self.buffer.skip(self.skipping);
            if self.skipping > 0 {
                return Ok(false);
            }
            if let Some(end) = self.body_end {
                if !self.runs.is_empty() {
                    return Ok(true);
                }
                self.body_end = None;
                self.skipping = end.saturating_sub(self.buffer.position());
                continue;
            }
            let wanted = Header::LONGEST.min(self.buffer.len());
            let Some(head) = self.buffer.peek(wanted).filter(|head| head.len() >= 8) else {
                return Ok(false);
            };
            let Some(header) = Header::read(head) else {
                if wanted < Header::LONGEST && !self.segment_ended {
                    return Ok(false);
                }
                self.give_up("a box that is shorter than its header");
                return Ok(false);
            };
            if !self.take_box(header)? {
                return Ok(false);
            }
        }
    }

    /// Takes the box at the front; whether all of it was there that is needed.
    fn take_box(&mut self, header: Header) -> Result<bool, DecodeError> {
        let start = self.buffer.position();
        match &header.kind {
            b"mdat" => {
                self.buffer.skip(header.length as u64);
                let end = header.size.map_or(u64::MAX, |size| start.saturating_add(size));
                self.body_end = Some(end);
            }
            b"moov" | b"moof" | b"emsg" => {
                let size = header.size.unwrap_or(u64::MAX);
                if size > MAX_HEADER {
                    self.give_up("a box that is too long");
                    return Ok(false);
                }
                let Some(mut body) = usize::try_from(size).ok().and_then(|size| self.buffer.take(size))
                else {
                    return Ok(false);
                };
                drop(body.split_to(header.length));
                match &header.kind {
                    b"moov" => self.movie = Some(movie(&body)?),
                    b"moof" if self.movie.is_none() => {
                        let what = "MP4: a segment without its initialization section";
                        return MalformedSnafu { what }.fail();
                    }
                    b"moof" => {
                        if self.fragment(&body, start).is_none() {
                            self.give_up("a fragment that contradicts itself");
                        }
                    }
                    _ => self
                        .tags
                        .extend(self.movie.as_ref().and_then(|movie| message(&body, &movie.info))),
                }
            }
            _ => self.skipping = header.size.unwrap_or(u64::MAX),
        }
        Ok(true)
    }

    /// `moof`: which packets follow.
    fn fragment(&mut self, body: &Bytes, start: u64) -> Option<()> {
        let movie = self.movie.as_mut()?;
        // A fragment whose `mdat` never came leaves runs behind. They point into bytes that are gone.
        self.runs.clear();
        for (_, fragment) in boxes(body).filter(|(kind, _)| kind == b"traf") {
            let header = FragmentHeader::read(&child(&fragment, *b"tfhd")?, movie)?;
            if header.track_id == movie.track_id {
                self.runs.extend(runs(&fragment, &header, movie, start)?);
            }
        }
        Some(())
    }

    /// The rest of the segment cannot be read. The next one's times say how much was lost.
    fn give_up(&mut self, why: &str) {
        // No place behind this box is known. To look for the next one in the bytes of packets would find boxes in sound.
        log::debug!("the rest of an MP4 segment is left out: {why}");
        self.buffer.clear();
        self.runs.clear();
        (self.skipping, self.body_end) = (u64::MAX, None);
    }

    /// The next packet of the `mdat` at hand, or nothing if its bytes are still to come.
    fn packet(&mut self) -> Option<Packet> {
        let (run, movie, end) = (self.runs.front_mut()?, self.movie.as_mut()?, self.body_end?);
        let here = self.buffer.position();
        let at = run.at.unwrap_or(here);
        // What is asked for twice, or lies before this box, cannot be had any more: the run is not what it says.
        let misplaced = at < here || at >= end;
        let (entries, left) = (run.entries.clone(), run.left);
        let (duration, size) = match run.next() {
            // A packet without bytes is no packet: a run of them would be silence without an end.
            Some((duration, size)) if size > 0 && !misplaced && at.saturating_add(size.into()) <= end => {
                (duration, size)
            }
            _ => {
                self.runs.pop_front();
                return None;
            }
        };
        let skip = at - here;
        let needed = skip.saturating_add(size.into());
        let lost = (self.buffer.len() as u64) < needed;
        // Taken back, and not kept half read: the next push tries the same packet again.
        if lost && !self.segment_ended {
            (run.entries, run.left) = (entries, left);
            return None;
        }
        // A cut segment. The packet is told without its bytes, so that its frames are silent and the next ones keep their
        // time.
        let data = if lost {
            self.buffer.clear();
            Bytes::new()
        } else {
            self.buffer.skip(skip);
            self.buffer.take(usize::try_from(size).ok()?)?
        };
        let pts = run.pts;
        run.pts = pts.saturating_add(duration.into());
        run.at = Some(at.saturating_add(size.into()));
        movie.next_pts = run.pts;
        let frames = movie.info.frames(duration);
        // Packets of which nothing came are believed if they have an entry each: a bare number may be any.
        if run.left == 0 || (lost && run.width() == 0) {
            self.runs.pop_front();
        }
        Some(Packet { data, pts, frames })
    }
}

impl Demux for FragmentedMp4 {
    fn start_segment(&mut self, _: Duration) {
        // What a cut segment left is no part of the next one.
        self.buffer.clear();
        self.runs.clear();
        (self.skipping, self.body_end, self.segment_ended) = (0, None, false);
    }

    fn push(&mut self, bytes: Bytes) {
        self.buffer.push(bytes);
    }

    fn end_segment(&mut self) {
        self.segment_ended = true;
    }

    fn next_packet(&mut self) -> Result<Option<Packet>, DecodeError> {
        while self.advance()? {
            let before = self.runs.len();
            match self.packet() {
                None if self.runs.len() == before => return Ok(None),
                None => {}
                packet => return Ok(packet),
            }
        }
        Ok(None)
    }

    fn next_tag(&mut self) -> Option<TimedTag> {
        self.tags.pop_front()
    }

    fn track(&self) -> Option<&TrackInfo> {
        self.movie.as_ref().map(|movie| &movie.info)
    }
}

/// `moov`: the first track with sound.
fn movie(body: &Bytes) -> Result<Movie, DecodeError> {
    let what = "MP4 initialization section";
    let sound = boxes(body)
        .filter(|(kind, _)| kind == b"trak")
        .find(|(_, track)| {
            let handler = descendant(track, &[b"mdia", b"hdlr"]);
            handler.is_some_and(|handler| handler.get(8..12) == Some(b"soun"))
        });
    let Some((_, track)) = sound else {
        let container = "MP4 without sound";
        return UnsupportedContainerSnafu { container }.fail();
    };
    let tables = descendant(&track, &[b"mdia", b"minf", b"stbl"]).unwrap_or_default();
    let Some(description) = child(&tables, *b"stsd") else {
        return MalformedSnafu { what }.fail();
    };
    let codec = boxes::sample_entry(&description)?;
    let number = child(&track, *b"tkhd").and_then(|header| boxes::track_id(&header));
    let scale = descendant(&track, &[b"mdia", b"mdhd"]).and_then(|header| boxes::time_scale(&header));
    let (Some(track_id), Some(time_scale)) = (number, scale) else {
        return MalformedSnafu { what }.fail();
    };
    // Its end counts for files. In a fragmented track it was written before the end was known.
    let edit = descendant(&track, &[b"edts", b"elst"]).and_then(|list| boxes::edit(&list));
    let pre_skip = boxes::pre_skip(&codec).map(i64::from);
    let (first_pts, rule) = match (edit, pre_skip) {
        (Some((start, _)), _) => (Some(start), TrimRule::EditList),
        (None, Some(frames)) => {
            let units = frames * i64::from(time_scale) / i64::from(codec.sample_rate.max(1));
            (Some(units), TrimRule::OpusPreSkip)
        }
        (None, None) => (None, TrimRule::None),
    };
    let start = first_pts.map_or(0, |pts| trim::to_frames(pts, time_scale, codec.sample_rate));
    let trim = Trim {
        start,
        end: None,
        rule,
    };
    let roll = boxes(&tables)
        .filter(|(kind, _)| kind == b"sgpd")
        .filter_map(|(_, description)| boxes::roll(&description))
        .max();
    let info = TrackInfo {
        container: Container::FragmentedMp4,
        codec,
        time_scale,
        wraps: false,
        first_pts,
        trim,
        roll: roll.unwrap_or(0),
    };
    let extends = child(body, *b"mvex").unwrap_or_default();
    let defaults = boxes(&extends)
        .filter(|(kind, _)| kind == b"trex")
        .find_map(|(_, defaults)| track_defaults(&defaults, track_id));
    Ok(Movie {
        track_id,
        defaults: defaults.unwrap_or_default(),
        info,
        next_pts: 0,
    })
}

/// `trex`.
fn track_defaults(body: &[u8], track_id: u32) -> Option<Defaults> {
    let (_, _, mut fields) = full(body)?;
    if fields.u32()? != track_id {
        return None;
    }
    fields.u32()?;
    let (duration, size) = (fields.u32()?, fields.u32()?);
    Some(Defaults { duration, size })
}

/// `tfhd`.
struct FragmentHeader {
    track_id: u32,
    defaults: Defaults,
}

impl FragmentHeader {
    fn read(body: &[u8], movie: &Movie) -> Option<Self> {
        let (_, flags, mut fields) = full(body)?;
        let track_id = fields.u32()?;
        // Where the data begins is always counted from the fragment here: an offset in a file means nothing in a segment.
        if flags & 1 != 0 {
            fields.u64()?;
        }
        if flags & 2 != 0 {
            fields.u32()?;
        }
        let mut field = |bit: u32, other: u32| {
            if flags & bit == 0 {
                Some(other)
            } else {
                fields.u32()
            }
        };
        let duration = field(8, movie.defaults.duration)?;
        let size = field(0x10, movie.defaults.size)?;
        Some(Self {
            track_id,
            defaults: Defaults { duration, size },
        })
    }
}

/// `traf`: the runs of packets in it.
fn runs(fragment: &Bytes, header: &FragmentHeader, movie: &mut Movie, start: u64) -> Option<Vec<Run>> {
    let time = child(fragment, *b"tfdt").and_then(|time| {
        let (version, _, mut fields) = full(&time)?;
        i64::try_from(fields.u32_or_u64(version == 1)?).ok()
    });
    // Without `tfdt` a fragment follows the one before. That is right within a segment, and after a seek the best there is.
    let mut pts = time.unwrap_or(movie.next_pts);
    let mut runs = Vec::new();
    for (kind, body) in boxes(fragment) {
        match &kind {
            b"sgpd" => movie.info.roll = movie.info.roll.max(boxes::roll(&body).unwrap_or(0)),
            b"trun" => {
                let (_, flags, mut fields) = full(&body)?;
                let count = fields.u32()?;
                let at = if flags & 1 == 0 {
                    None
                } else {
                    let offset = i64::from(fields.u32()?.cast_signed());
                    Some(start.checked_add_signed(offset)?)
                };
                if flags & 4 != 0 {
                    fields.u32()?;
                }
                let run = Run {
                    flags,
                    entries: body.slice_ref(fields.0),
                    left: count,
                    defaults: header.defaults,
                    at,
                    pts,
                };
                pts = pts.saturating_add(run.duration());
                runs.push(run);
            }
            _ => {}
        }
    }
    movie.next_pts = pts;
    Some(runs)
}

impl Run {
    /// The bytes of one packet's entry.
    fn width(&self) -> usize {
        4 * (self.flags >> 8 & 15).count_ones() as usize
    }

    /// The duration of all its packets that are really there.
    fn duration(&self) -> i64 {
        if self.flags & 0x100 == 0 {
            return i64::from(self.left).saturating_mul(self.defaults.duration.into());
        }
        // Only entries that are there: a count alone may announce four billion packets.
        let durations = self.entries.chunks_exact(self.width()).take(self.left as usize);
        durations
            .filter_map(|entry| Fields(entry).u32())
            .map(i64::from)
            .sum()
    }
}

/// `emsg` with an ID3 tag, as the AOM's specification of it says.
fn message(body: &Bytes, info: &TrackInfo) -> Option<TimedTag> {
    let (version, _, mut fields) = full(body)?;
    if version != 1 {
        return None;
    }
    let (scale, time) = (fields.u32()?, fields.u64()?);
    fields.bytes(8)?;
    let mut text = || {
        let length = fields.0.iter().position(|byte| *byte == 0)?;
        let text = fields.bytes(length)?;
        fields.bytes(1)?;
        Some(text)
    };
    let (scheme, _value) = (text()?, text()?);
    if scheme != b"https://aomedia.org/emsg/ID3" {
        return None;
    }
    let pts = u128::from(time) * u128::from(info.time_scale) / u128::from(scale.max(1));
    Some(TimedTag {
        pts: i64::try_from(pts).ok()?,
        id3: body.slice_ref(fields.0),
    })
}
