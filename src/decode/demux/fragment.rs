//! Movie fragments: when their packets are presented, and how long they are (ISO/IEC 14496-12, 8.8).

use bytes::{Buf, Bytes};

use super::{
    bits::Fields,
    boxes::{self, boxes, child, full},
    fmp4::{Movie, movie},
};
use crate::decode::DecodeError;

/// What a packet is where its fragment leaves it out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Defaults {
    pub(super) duration: u32,
    pub(super) size: u32,
}

/// A `trun` that is being read: nothing is unpacked before its turn, as it may announce any number of packets.
#[derive(Debug)]
pub(super) struct Run {
    flags: u32,
    pub(super) entries: Bytes,
    pub(super) left: u32,
    defaults: Defaults,
    /// Where the next packet's bytes begin, counted from the first byte pushed; `None` if they follow the run before.
    pub(super) at: Option<u64>,
    pub(super) pts: i64,
}

impl Run {
    /// The next packet's duration and size.
    pub(super) fn next(&mut self) -> Option<(u32, u32)> {
        self.left = self.left.checked_sub(1)?;
        let flag = |bit: u32| self.flags & bit != 0;
        let widths = [flag(0x100), flag(0x200), flag(0x400), flag(0x800)];
        let mut entry = [None; 4];
        for (value, present) in entry.iter_mut().zip(widths) {
            // A field that is there for one packet is there for all of the run.
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

    /// The bytes of one packet's entry.
    pub(super) fn width(&self) -> usize {
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

/// `trex`.
pub(super) fn track_defaults(body: &[u8], track_id: u32) -> Option<Defaults> {
    let (_, _, mut fields) = full(body)?;
    if fields.u32()? != track_id {
        return None;
    }
    fields.u32()?;
    let (duration, size) = (fields.u32()?, fields.u32()?);
    Some(Defaults { duration, size })
}

/// `tfhd`.
pub(super) struct FragmentHeader {
    pub(super) track_id: u32,
    defaults: Defaults,
}

impl FragmentHeader {
    pub(super) fn read(body: &[u8], movie: &Movie) -> Option<Self> {
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
        // The fragment's own default, or else the movie's.
        let duration = field(8, movie.defaults.duration)?;
        let size = field(0x10, movie.defaults.size)?;
        Some(Self {
            track_id,
            defaults: Defaults { duration, size },
        })
    }
}

/// `traf`: the runs of packets in it.
pub(super) fn runs(
    fragment: &Bytes,
    header: &FragmentHeader,
    movie: &mut Movie,
    start: u64,
) -> Option<Vec<Run>> {
    // Without `tfdt` a fragment follows the one before. That is right within a segment, and after a seek the best there is.
    let mut pts = begins(fragment).unwrap_or(movie.next_pts);
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

/// `tfdt`: when the first packet is presented.
fn begins(fragment: &Bytes) -> Option<i64> {
    let time = child(fragment, *b"tfdt")?;
    let (version, _, mut fields) = full(&time)?;
    i64::try_from(fields.u32_or_u64(version == 1)?).ok()
}

/// When the sound of a file's fragments is presented, by their headers alone.
pub(crate) struct FragmentTimes {
    movie: Movie,
}

impl FragmentTimes {
    /// For the fragments behind this `moov`.
    ///
    /// # Errors
    ///
    /// As [`movie`].
    pub(crate) fn new(header: &Bytes) -> Result<Self, DecodeError> {
        let movie = movie(header)?;
        Ok(Self { movie })
    }

    /// When the sound of the next `moof` begins, if it says so, and when it ends, in units of the track's time scale; `None`
    /// if there is no sound in it.
    pub(crate) fn next(&mut self, body: &Bytes) -> Option<(Option<i64>, i64)> {
        let mut times = None;
        for (_, fragment) in boxes(body).filter(|(kind, _)| kind == b"traf") {
            let header = FragmentHeader::read(&child(&fragment, *b"tfhd")?, &self.movie)?;
            // Pictures have a time scale of their own, and often stand first.
            if header.track_id == self.movie.track_id {
                runs(&fragment, &header, &mut self.movie, 0)?;
                let first = times.map_or_else(|| begins(&fragment), |(first, _)| first);
                times = Some((first, self.movie.next_pts));
            }
        }
        times
    }
}
