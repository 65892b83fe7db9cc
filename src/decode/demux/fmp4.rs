//! Fragmented MP4: Media Initialization Sections, and Media Segments of movie fragments (RFC 8216, 3.3).
//!
//! ```text
//!   moov ── trak: what the track is        moof ── traf: times and lengths ─┐
//!        └─ mvex: what fragments leave out                                  ▼
//!                                          mdat: packets, given out one by one as their bytes come
//! ```

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    boxes::{self, Header, boxes, child, descendant, full},
    buffer::Buffer,
    fragment::{Defaults, FragmentHeader, Run, runs, track_defaults},
};
use crate::decode::{
    Container, DecodeError, Trim, TrimRule,
    error::{MalformedSnafu, UnsupportedContainerSnafu},
    packet::{Demux, Packet, TimedTag, TrackInfo},
    trim,
};

/// The longest header box that is held. A `moof` has some bytes for each packet, a `moov` of a fragmented track none.
const MAX_HEADER: u64 = 8 << 20;

/// The longest packet: a longer one is no sound, and is not waited for.
const LONGEST: u32 = 16 << 20;

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
pub(super) struct Movie {
    pub(super) track_id: u32,
    pub(super) defaults: Defaults,
    pub(super) info: TrackInfo,
    /// When the next packet is presented, for a fragment that does not say.
    pub(super) next_pts: i64,
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
            // Eight bytes, or sixteen: which of them, the first four tell.
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
            // Pictures and other languages have fragments of their own in the same box.
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
            Some((duration, size))
                if (1..=LONGEST).contains(&size) && !misplaced && at.saturating_add(size.into()) <= end =>
            {
                (duration, size)
            }
            _ => {
                self.runs.pop_front();
                return None;
            }
        };
        // What stands before the packet is another track's: passed over as it comes, as pictures are long.
        let skip = at - here;
        let skipped = self.buffer.skip(skip);
        let lost = skipped < skip || (self.buffer.len() as u64) < u64::from(size);
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
///
/// # Errors
///
/// `UnsupportedContainer` without sound, `UnsupportedCodec`, `Malformed`.
pub(super) fn movie(body: &Bytes) -> Result<Movie, DecodeError> {
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

#[cfg(test)]
mod tests {
    use kithara_test_support::media;

    use super::*;

    fn a_box(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(8 + body.len()).unwrap();
        [&size.to_be_bytes(), &kind[..], body].concat()
    }

    /// The most bytes held while 32 MiB of a fragment come, whose one packet has this length and place.
    fn most_held(size: u32, behind: u32) -> usize {
        let init = std::fs::read(media().join("segments/alac/init.mp4")).unwrap();
        let mut demux = FragmentedMp4::default();
        demux.start_segment(Duration::ZERO);
        demux.push(init.into());
        assert_eq!(demux.next_packet().unwrap(), None);
        let track = demux.movie.as_ref().unwrap().track_id;
        let header = a_box(b"tfhd", &[&[0; 4], &track.to_be_bytes()[..]].concat());
        let moof = |offset: u32| {
            let run = [0x201, 1, offset, size].map(u32::to_be_bytes).concat();
            a_box(
                b"moof",
                &a_box(b"traf", &[&header[..], &a_box(b"trun", &run)].concat()),
            )
        };
        let offset = u32::try_from(moof(0).len()).unwrap() + 16 + behind;
        let body = [&1_u32.to_be_bytes(), &b"mdat"[..], &(1_u64 << 40).to_be_bytes()].concat();
        demux.push([moof(offset), body].concat().into());
        let mut most = 0;
        for _ in 0..32 {
            demux.push(vec![0; 1 << 20].into());
            demux.next_packet().unwrap();
            most = most.max(demux.buffer.len());
        }
        most
    }

    #[test]
    fn a_fragment_is_not_held_for_a_packet_that_is_none() {
        assert!(most_held(u32::MAX, 0) <= 1 << 20, "a length that is none");
        assert!(most_held(100, 31 << 20) <= 1 << 20, "pictures before it");
        assert!(most_held(8 << 20, 0) <= 8 << 20, "a packet");
    }
}
