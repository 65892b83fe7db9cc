//! The tables of an MP4 track that say how long each packet is, and where it is (ISO/IEC 14496-12, 8.6 and 8.7).
//!
//! ```text
//!   stsz   length of each packet            stsc   packets of each chunk, in runs
//!   stts   duration of each, in runs        stco   place of each chunk
//! ```
//!
//! The long tables stay as they are in the file. The runs are summed up once, so that any packet is found by bisection.

use bytes::Bytes;

use crate::decode::demux::{
    bits::Fields,
    boxes::{child, full},
};

/// Packets of one duration: the first packet, when it begins, and the duration.
type TimeRun = (u32, u64, u32);

/// Chunks of one number of packets: the first packet, the first chunk, and the number.
type ChunkRun = (u32, u32, u32);

/// The packets of one track.
#[derive(Debug)]
pub(super) struct Samples {
    count: u32,
    lengths: Lengths,
    times: Vec<TimeRun>,
    chunks: Vec<ChunkRun>,
    places: Places,
    duration: u64,
    /// The packet behind the last one asked for, its chunk, and its place if it is in that chunk: a chunk may have any number
    /// of packets, and they are mostly asked for one after another.
    cursor: (u32, u32, u64),
}

#[derive(Debug)]
enum Lengths {
    All(u32),
    Each(Bytes),
}

#[derive(Debug)]
enum Places {
    Short(Bytes),
    Long(Bytes),
}

impl Places {
    fn get(&self, chunk: u32) -> Option<u64> {
        let chunk = usize::try_from(chunk).ok()?;
        match self {
            Self::Short(table) => {
                let four = table.get(chunk.checked_mul(4)?..)?.get(..4)?;
                Some(u64::from(u32::from_be_bytes(four.try_into().ok()?)))
            }
            Self::Long(table) => {
                let eight = table.get(chunk.checked_mul(8)?..)?.get(..8)?;
                Some(u64::from_be_bytes(eight.try_into().ok()?))
            }
        }
    }

    fn len(&self) -> u32 {
        let chunks = match self {
            Self::Short(table) => table.len() / 4,
            Self::Long(table) => table.len() / 8,
        };
        u32::try_from(chunks).unwrap_or(u32::MAX)
    }
}

impl Samples {
    /// Reads `stbl`; `None` if a table is missing or contradicts itself.
    pub(super) fn read(tables: &Bytes) -> Option<Self> {
        let sizes = child(tables, *b"stsz")?;
        let (_, _, mut fields) = full(&sizes)?;
        let (all, count) = (fields.u32()?, fields.u32()?);
        // The table that is there says how many packets there are; the number before it may be any.
        let (count, lengths) = if all == 0 {
            let there = u32::try_from(fields.0.len() / 4).unwrap_or(u32::MAX);
            (count.min(there), Lengths::Each(sizes.slice_ref(fields.0)))
        } else {
            (count, Lengths::All(all))
        };
        let offsets = match (child(tables, *b"stco"), child(tables, *b"co64")) {
            (Some(table), _) => Places::Short(table.get(8..).map(|rest| table.slice_ref(rest))?),
            (_, Some(table)) => Places::Long(table.get(8..).map(|rest| table.slice_ref(rest))?),
            _ => return None,
        };
        let (chunks, placed) = chunk_runs(&child(tables, *b"stsc")?, offsets.len())?;
        // A packet without a place in a chunk cannot be read.
        let count = count.min(placed);
        let (times, duration) = time_runs(&child(tables, *b"stts")?, count)?;
        Some(Self {
            count,
            lengths,
            times,
            chunks,
            places: offsets,
            duration,
            cursor: (u32::MAX, 0, 0),
        })
    }

    /// How many packets there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// How long all packets are together, in units of the track.
    pub(super) fn duration(&self) -> u64 {
        self.duration
    }

    /// How many bytes all packets have.
    pub(super) fn bytes(&self) -> u64 {
        match &self.lengths {
            Lengths::All(length) => u64::from(*length) * u64::from(self.count),
            Lengths::Each(table) => {
                let (lengths, _) = table.as_chunks::<4>();
                let there = lengths.iter().take(self.count as usize);
                there.map(|length| u64::from(u32::from_be_bytes(*length))).sum()
            }
        }
    }

    fn length(&self, number: u32) -> Option<u32> {
        match &self.lengths {
            Lengths::All(length) => Some(*length),
            Lengths::Each(table) => {
                let at = usize::try_from(number).ok()?.checked_mul(4)?;
                Fields(table.get(at..)?).u32()
            }
        }
    }

    /// Where a packet is in the file, and how long; `None` behind the last one.
    pub(super) fn place(&mut self, number: u32) -> Option<(u64, u32)> {
        if number >= self.count {
            return None;
        }
        // Bisection over runs, and no table by packet: a file of a day has ten million packets, and a dozen runs.
        let run = self
            .chunks
            .partition_point(|(first, ..)| *first <= number)
            .checked_sub(1)?;
        let (first, chunk, each) = *self.chunks.get(run)?;
        let within = (number - first) / each;
        let chunk = chunk.checked_add(within)?;
        // Without the cursor, the lengths of all packets before it in the chunk would be added up for each one.
        let at = if self.cursor.0 == number && self.cursor.1 == chunk {
            self.cursor.2
        } else {
            let begins = first + within * each;
            self.places.get(chunk)?.checked_add(self.span(begins, number)?)?
        };
        let length = self.length(number)?;
        self.cursor = (number + 1, chunk, at.saturating_add(length.into()));
        Some((at, length))
    }

    /// How many bytes the packets from `first` to before `end` have.
    fn span(&self, first: u32, end: u32) -> Option<u64> {
        match &self.lengths {
            Lengths::All(length) => Some(u64::from(*length) * u64::from(end - first)),
            Lengths::Each(_) => (first..end)
                .map(|number| self.length(number).map(u64::from))
                .sum(),
        }
    }

    /// When a packet begins, and how long it plays, in units of the track.
    pub(super) fn time(&self, number: u32) -> (u64, u32) {
        let run = self.times.partition_point(|(first, ..)| *first <= number);
        let (first, start, each) = run
            .checked_sub(1)
            .and_then(|run| self.times.get(run))
            .copied()
            .unwrap_or_default();
        (
            start + u64::from(number.saturating_sub(first)) * u64::from(each),
            each,
        )
    }
}

/// `stsc`, and how many packets all chunks have.
fn chunk_runs(table: &Bytes, chunks: u32) -> Option<(Vec<ChunkRun>, u32)> {
    let (_, _, mut fields) = full(table)?;
    fields.u32()?;
    let mut entries = Vec::new();
    while let (Some(first), Some(each), Some(_)) = (fields.u32(), fields.u32(), fields.u32()) {
        // Chunks are numbered from 1.
        entries.push((first.checked_sub(1)?, each));
    }
    let mut runs = Vec::new();
    let mut packet = 0_u32;
    for (at, &(chunk, each)) in entries.iter().enumerate() {
        let end = entries.get(at + 1).map_or(chunks, |(next, _)| *next).min(chunks);
        // Runs that do not ascend contradict each other: those before stand.
        let Some(number) = end.checked_sub(chunk) else {
            break;
        };
        // A run of empty chunks would be divided by.
        if each > 0 {
            runs.push((packet, chunk, each));
        }
        packet = packet.saturating_add(number.saturating_mul(each));
    }
    Some((runs, packet))
}

/// `stts`, for as many packets as there are, and how long they are together.
fn time_runs(table: &Bytes, count: u32) -> Option<(Vec<TimeRun>, u64)> {
    let (_, _, mut fields) = full(table)?;
    fields.u32()?;
    let mut runs = Vec::new();
    let (mut packet, mut time) = (0_u32, 0_u64);
    while let (Some(number), Some(each)) = (fields.u32(), fields.u32()) {
        let number = number.min(count - packet);
        if number > 0 {
            runs.push((packet, time, each));
        }
        packet += number;
        time += u64::from(number) * u64::from(each);
    }
    // What the table leaves out lasts as long as the packet before.
    let last = runs.last().map_or(0, |(.., each)| *each);
    time += u64::from(count - packet) * u64::from(last);
    Some((runs, time))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use super::*;

    fn atom(kind: &[u8; 4], words: &[u32]) -> Vec<u8> {
        let mut bytes = ((words.len() as u32 + 3) * 4).to_be_bytes().to_vec();
        bytes.extend(kind);
        bytes.extend([0; 4]);
        bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        bytes
    }

    fn tables() -> Bytes {
        [
            atom(b"stsz", &[0, 7, 10, 11, 12, 13, 14, 15, 16]),
            // Two chunks of two packets, then chunks of one.
            atom(b"stsc", &[2, 1, 2, 1, 3, 1, 1]),
            atom(b"stco", &[5, 100, 200, 300, 400, 500]),
            atom(b"stts", &[2, 6, 1024, 1, 700]),
        ]
        .concat()
        .into()
    }

    #[test]
    fn packets_are_where_the_tables_say() {
        let mut samples = Samples::read(&tables()).unwrap();
        let places: Vec<_> = (0..8).map(|number| samples.place(number)).collect();
        assert_eq!(
            places,
            [
                Some((100, 10)),
                Some((110, 11)),
                Some((200, 12)),
                Some((212, 13)),
                Some((300, 14)),
                Some((400, 15)),
                Some((500, 16)),
                None
            ]
        );
        // In any order too.
        for number in [3, 0, 6, 1, 1, 2] {
            assert_eq!(samples.place(number), places[number as usize]);
        }
        assert_eq!((samples.bytes(), samples.duration()), (91, 6 * 1024 + 700));
        assert_eq!(samples.time(3), (3 * 1024, 1024));
        assert_eq!(samples.time(6), (6 * 1024, 700));
    }

    #[test]
    fn tables_that_were_cut_off_say_what_is_left() {
        let whole = tables();
        for end in 0..whole.len() {
            if let Some(mut samples) = Samples::read(&whole.slice(..end)) {
                for number in 0..9 {
                    let _ = samples.place(number);
                }
            }
        }
        let short = atom(b"stsz", &[0, u32::MAX, 10, 11]);
        let rest = &whole[whole.windows(4).position(|kind| kind == b"stsc").unwrap() - 4..];
        let samples = Samples::read(&[&short, rest].concat().into()).unwrap();
        assert_eq!(samples.count(), 2, "a number that is announced is not believed");
    }
}
