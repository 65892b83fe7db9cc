//! The format of the index on disk. The only file that names `bincode` (RUSTSEC-2025-0141), so that another codec replaces
//! this file and nothing else.
//!
//! ```text
//! snapshot   magic, version, crc of the rest │ generation, sealed │ row …
//! journal    magic, version, crc of the next │ generation │ record …
//! record     length, crc of the change │ change
//! ```
//!
//! Nothing is decoded before its checksum was found right, and nothing is allocated from a length that was read. What does
//! not decode is no index: the caller rebuilds it.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};

use super::id::AssetId;
use super::timestamp::Timestamp;

const SNAPSHOT: [u8; 8] = *b"kithsnap";
const JOURNAL: [u8; 8] = *b"kithjrnl";
/// Grows with each change of the format. A file with another version is not read.
const VERSION: u8 = 1;
const HEAD: usize = 8 + 1 + 4;
/// A change is never longer than this, in bytes.
const MAX_CHANGE: usize = 1 << 20;
/// Bytes of a snapshot without rows, and of a journal without changes.
pub(super) const EMPTY: usize = HEAD + 9;
/// Bytes of a row.
pub(super) const ROW: usize = 32 + 4 * 8 + 1;
/// Touched assets in one change.
const TOUCHES: usize = 1000;

type Config = Configuration<LittleEndian, Fixint, Limit<MAX_CHANGE>>;
const CONFIG: Config = bincode::config::standard()
    .with_fixed_int_encoding()
    .with_limit::<MAX_CHANGE>();

/// The figures of one asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Row {
    id: [u8; 32],
    pub(super) bytes: u64,
    pub(super) files: u64,
    last_access: u64,
    modified: u64,
    flags: u8,
}

const PINNED: u8 = 1;
const SURE: u8 = 2;

impl Row {
    pub(super) fn new(
        id: &AssetId,
        bytes: u64,
        files: u64,
        last_access: Timestamp,
        modified: Option<Timestamp>,
    ) -> Self {
        Self {
            id: *id.hash(),
            bytes,
            files,
            last_access: last_access.0,
            modified: modified.map_or(0, |at| at.0),
            flags: 0,
        }
    }

    pub(super) fn with_pinned(self, pinned: bool) -> Self {
        Self {
            flags: self.flags & !PINNED | if pinned { PINNED } else { 0 },
            ..self
        }
    }

    /// The modification time is old enough to show every later change.
    pub(super) fn with_sure(self, sure: bool) -> Self {
        Self {
            flags: self.flags & !SURE | if sure { SURE } else { 0 },
            ..self
        }
    }

    pub(super) fn id(&self) -> AssetId {
        AssetId::from_hash(self.id)
    }

    pub(super) fn last_access(&self) -> Timestamp {
        Timestamp(self.last_access)
    }

    pub(super) fn modified(&self) -> Option<Timestamp> {
        Some(Timestamp(self.modified)).filter(|at| at.0 != 0)
    }

    pub(super) fn pinned(&self) -> bool {
        self.flags & PINNED != 0
    }

    pub(super) fn sure(&self) -> bool {
        self.flags & SURE != 0
    }
}

/// A change since the snapshot. It says how things are, not how they differ, so that replaying it twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Change {
    Set(Row),
    Removed([u8; 32]),
    Touched(Vec<([u8; 32], u64)>),
}

/// A snapshot as it is read and written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) generation: u64,
    /// Written at a clean end. Without a journal of the same generation it says everything.
    pub(super) sealed: bool,
    pub(super) rows: Vec<Row>,
}

fn encode<T: Encode>(value: T, out: &mut Vec<u8>) {
    // Encoding fails only if the writer fails, and a vector does not.
    let _ = bincode::encode_into_std_write(value, out, CONFIG);
}

fn take<T: Decode<()>>(bytes: &mut &[u8]) -> Option<T> {
    let (value, read) = bincode::decode_from_slice(bytes, CONFIG).ok()?;
    *bytes = bytes.get(read..)?;
    Some(value)
}

fn head(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + body.len());
    out.extend_from_slice(&magic);
    out.push(VERSION);
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// The body behind a head and its checksum.
fn body(magic: [u8; 8], bytes: &[u8]) -> Option<(u32, &[u8])> {
    let rest = bytes.strip_prefix(&magic)?.strip_prefix(&[VERSION])?;
    let (crc, rest) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*crc), rest))
}

/// Whether a file of `len` bytes that begins so can be a snapshot. Asked before the rest is read: a file of another kind, or of
/// half a row, is not worth the memory.
pub(super) fn may_be_snapshot(head: &[u8], len: u64) -> bool {
    let rows = len.checked_sub(EMPTY as u64);
    body(SNAPSHOT, head).is_some() && rows.is_some_and(|rows| rows.is_multiple_of(ROW as u64))
}

/// Whether a file that begins so is a journal that continues the snapshot of this generation.
pub(super) fn is_journal(head: &[u8], generation: u64) -> bool {
    decode_journal(head, generation).is_some()
}

pub(super) fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    let mut body = Vec::with_capacity(16 + snapshot.rows.len() * ROW);
    encode((snapshot.generation, snapshot.sealed), &mut body);
    for row in &snapshot.rows {
        encode(row, &mut body);
    }
    head(SNAPSHOT, &body)
}

pub(super) fn decode_snapshot(bytes: &[u8]) -> Option<Snapshot> {
    let (crc, mut rest) = body(SNAPSHOT, bytes)?;
    if crc32fast::hash(rest) != crc {
        return None;
    }
    let (generation, sealed) = take(&mut rest)?;
    let mut rows = Vec::with_capacity(rest.len() / ROW);
    for mut row in rest.chunks(ROW) {
        rows.push(take(&mut row)?);
    }
    Some(Snapshot {
        generation,
        sealed,
        rows,
    })
}

/// The beginning of a journal that continues the snapshot of this generation.
pub(super) fn encode_journal(generation: u64) -> Vec<u8> {
    let mut body = Vec::new();
    encode((generation, false), &mut body);
    head(JOURNAL, &body)
}

pub(super) fn encode_change(change: &Change, out: &mut Vec<u8>) {
    let start = out.len();
    // Room for length and checksum, which are known when the change is encoded.
    out.extend_from_slice(&[0; 8]);
    encode(change, out);
    let Some((head, body)) = out
        .get_mut(start..)
        .and_then(|record| record.split_at_mut_checked(8))
    else {
        return;
    };
    let (len, crc) = (
        u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes(),
        crc32fast::hash(body).to_le_bytes(),
    );
    for (to, from) in head.iter_mut().zip(len.into_iter().chain(crc)) {
        *to = from;
    }
}

/// Encodes accesses, in as many changes as it takes.
pub(super) fn encode_touches(touches: impl IntoIterator<Item = (AssetId, Timestamp)>, out: &mut Vec<u8>) {
    let touches: Vec<_> = touches.into_iter().map(|(id, at)| (*id.hash(), at.0)).collect();
    for some in touches.chunks(TOUCHES) {
        encode_change(&Change::Touched(some.to_vec()), out);
    }
}

/// The changes of a journal, up to the first one that is not whole; `None` if the journal is of another generation.
pub(super) fn decode_journal(bytes: &[u8], generation: u64) -> Option<Vec<Change>> {
    let (crc, rest) = body(JOURNAL, bytes)?;
    let (head, mut rest) = rest.split_at_checked(9)?;
    if crc32fast::hash(head) != crc || take::<(u64, bool)>(&mut &*head)?.0 != generation {
        return None;
    }
    let mut changes = Vec::new();
    while let Some(change) = next_change(&mut rest) {
        changes.push(change);
    }
    Some(changes)
}

fn next_change(rest: &mut &[u8]) -> Option<Change> {
    // The length is read before its checksum, and only compared with what is there: nothing is allocated from it.
    let (len, after) = rest.split_first_chunk()?;
    let (crc, after) = after.split_first_chunk()?;
    let (mut body, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    if body.len() > MAX_CHANGE || crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    *rest = after;
    take(&mut body)
}

/// Files with right checksums and any content.
#[cfg(fuzzing)]
pub(super) mod fuzzing {
    use super::{SNAPSHOT, encode_journal, head};

    pub(in crate::cache) fn snapshot(body: &[u8]) -> Vec<u8> {
        head(SNAPSHOT, body)
    }

    /// A journal of records that begin with their lengths in two bytes.
    pub(in crate::cache) fn journal(generation: u64, mut records: &[u8]) -> Vec<u8> {
        let mut out = encode_journal(generation);
        while let Some((len, rest)) = records.split_first_chunk() {
            let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
            let (record, rest) = rest.split_at(len);
            out.extend_from_slice(&u32::try_from(len).unwrap_or(0).to_le_bytes());
            out.extend_from_slice(&crc32fast::hash(record).to_le_bytes());
            out.extend_from_slice(record);
            records = rest;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u8) -> Row {
        let id = AssetId::from_hash([n; 32]);
        Row::new(
            &id,
            1000 + u64::from(n),
            3,
            Timestamp(u64::from(n) * 7),
            Some(Timestamp(99)),
        )
        .with_pinned(n & 1 == 0)
        .with_sure(n > 2)
    }

    fn snapshot(rows: u8) -> Snapshot {
        Snapshot {
            generation: 5,
            sealed: true,
            rows: (0..rows).map(row).collect(),
        }
    }

    fn changes() -> Vec<Change> {
        vec![
            Change::Set(row(1)),
            Change::Removed([7; 32]),
            Change::Touched(vec![([1; 32], 5), ([2; 32], 6)]),
            Change::Set(row(9)),
        ]
    }

    fn journal() -> Vec<u8> {
        let mut out = encode_journal(5);
        for change in changes() {
            encode_change(&change, &mut out);
        }
        out
    }

    #[test]
    fn what_is_encoded_decodes() {
        for rows in [0, 1, 200] {
            let bytes = encode_snapshot(&snapshot(rows));
            assert_eq!(bytes.len(), EMPTY + usize::from(rows) * ROW);
            assert_eq!(decode_snapshot(&bytes), Some(snapshot(rows)));
        }
        assert_eq!(decode_journal(&journal(), 5), Some(changes()));
        assert_eq!(encode_journal(5).len(), EMPTY);
    }

    /// W48, C3: what a head says is believed only as far as reading on.
    #[test]
    fn w48_a_head_tells_what_is_not_worth_reading() {
        let bytes = encode_snapshot(&snapshot(3));
        let len = bytes.len() as u64;
        let head = &bytes[..EMPTY];
        assert!(may_be_snapshot(head, len) && may_be_snapshot(head, EMPTY as u64));
        for len in [0, 1, EMPTY as u64 - 1, len - 1, len + 1] {
            assert!(!may_be_snapshot(head, len), "{len}");
        }
        let journal = journal();
        assert!(!may_be_snapshot(&journal, len) && !may_be_snapshot(&[0; EMPTY], len));
        assert!(is_journal(&journal[..EMPTY], 5) && !is_journal(&journal[..EMPTY], 6));
        assert!(!is_journal(head, 5) && !is_journal(&journal[..EMPTY - 1], 5));
    }

    /// C3: truncated at every byte.
    #[test]
    fn a_truncated_snapshot_is_none_and_a_truncated_journal_is_its_beginning() {
        let bytes = encode_snapshot(&snapshot(3));
        for len in 0..bytes.len() {
            assert_eq!(decode_snapshot(&bytes[..len]), None, "{len}");
        }
        let bytes = journal();
        for len in 0..bytes.len() {
            match decode_journal(&bytes[..len], 5) {
                None => assert!(len < EMPTY),
                Some(some) => assert!(some.len() < 4 && changes().starts_with(&some), "{len}"),
            }
        }
    }

    /// C3: every bit flipped.
    #[test]
    fn a_flipped_bit_is_never_believed() {
        let bytes = encode_snapshot(&snapshot(3));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_snapshot(&bad), None, "{bit}");
        }
        let bytes = journal();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Some(some) = decode_journal(&bad, 5) {
                assert!(some.len() < 4 && changes().starts_with(&some), "{bit}");
            }
        }
    }

    /// C3: another generation, a newer version, lengths of 2^60 behind a right checksum.
    #[test]
    fn another_generation_a_newer_version_and_absurd_lengths_are_refused() {
        assert_eq!(decode_journal(&journal(), 4), None);
        let mut newer = encode_snapshot(&snapshot(1));
        newer[8] = VERSION + 1;
        assert_eq!(decode_snapshot(&newer), None);
        let mut absurd = encode_journal(5);
        let mut body = Vec::new();
        encode((2_u32, 1_u64 << 60), &mut body);
        absurd.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        absurd.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        absurd.extend_from_slice(&body);
        assert_eq!(decode_journal(&absurd, 5), Some(vec![]));
        let mut long = encode_journal(5);
        long.extend_from_slice(&[0xff; 64]);
        assert_eq!(decode_journal(&long, 5), Some(vec![]));
    }
}
