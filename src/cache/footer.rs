//! The format of an entry's file.
//!
//! ```text
//! payload … │ crc32 of each block … │ path │ asset key │ fixed part
//!
//! fixed part, 32 bytes, little-endian:
//!   payload length u64 │ blocks u32 │ crc32 of checksums and names u32
//!   path length u16 │ key length u16 │ crc32 of the above u32 │ magic
//! ```
//!
//! The rule: the fixed part and the file's length together tell a whole entry from a cut, emptied or foreign file, without
//! any index. And no byte of the payload need be believed without its block's checksum.

use std::io;
use std::mem;
use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::id::AssetId;
use super::path::CachePath;
pub(super) use crate::storage::BLOCK;
use crate::storage::durable::{DiskFile, read_range};

/// Changes with the format. A file that does not end in it is no entry.
const MAGIC: [u8; 8] = *b"kithara2";
const FIXED: usize = 32;
const SUM: usize = 4;
/// Bytes read first of a footer. That is all of it, unless the names or the payload are long.
const FIRST_READ: u64 = 512;
/// Bytes of the longest file that is read whole before it is known to be an entry.
const AT_ONCE: u64 = 8 << 20;

/// The checksums of a payload's blocks, made while the payload is written.
#[derive(Debug, Default)]
pub(super) struct Sums {
    payload: u64,
    /// Of the blocks before the last.
    ended: Vec<u32>,
    last: crc32fast::Hasher,
    /// Bytes of the last block so far.
    filled: usize,
}

impl Sums {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == BLOCK {
                self.ended.push(mem::take(&mut self.last).finalize());
                self.filled = 0;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.last.update(part);
            self.filled += part.len();
            self.payload += part.len() as u64;
            bytes = rest;
        }
    }

    /// Bytes so far.
    pub(super) fn payload(&self) -> u64 {
        self.payload
    }

    /// The checksum of each block.
    pub(super) fn blocks(mut self) -> Vec<u32> {
        // Also of an empty last block: every payload has one block at least, and so one checksum.
        self.ended.push(self.last.finalize());
        self.ended
    }
}

/// Bytes that the footer of this entry takes, with a payload of so many bytes.
pub(super) fn len(asset: &AssetId, path: &CachePath, payload: u64) -> u64 {
    let names = path.as_str().len() + asset.key().unwrap_or_default().len();
    blocks(payload) * SUM as u64 + (names + FIXED) as u64
}

/// How many blocks a payload has. An empty payload has one empty block.
fn blocks(payload: u64) -> u64 {
    payload.div_ceil(BLOCK as u64).max(1)
}

/// The footer of a payload with these checksums, one for each of its blocks.
pub(super) fn encode(asset: &AssetId, path: &CachePath, payload: u64, sums: &[u32]) -> Bytes {
    let (path, key) = (
        path.as_str().as_bytes(),
        asset.key().unwrap_or_default().as_bytes(),
    );
    // A file of 2^32 blocks is a petabyte.
    let blocks = u32::try_from(sums.len()).unwrap_or(u32::MAX);
    let mut out = BytesMut::with_capacity(sums.len() * SUM + path.len() + key.len() + FIXED);
    for sum in sums {
        out.put_u32_le(*sum);
    }
    out.put_slice(path);
    out.put_slice(key);
    // Two checksums: this one covers checksums and names, which may be long. The other covers the fixed part alone, so that
    // a file is told to be an entry by its last bytes.
    let crc = crc32fast::hash(&out);
    let fixed = out.len();
    out.put_u64_le(payload);
    out.put_u32_le(blocks);
    out.put_u32_le(crc);
    // Both are bounded where they are parsed: 1024 and 2048 bytes.
    out.put_u16_le(u16::try_from(path.len()).unwrap_or(u16::MAX));
    out.put_u16_le(u16::try_from(key.len()).unwrap_or(u16::MAX));
    let crc = crc32fast::hash(out.get(fixed..).unwrap_or_default());
    out.put_u32_le(crc);
    out.put_slice(&MAGIC);
    out.freeze()
}

/// The footer of a whole entry, as it was read.
#[derive(Clone, Debug)]
pub(super) struct Footer {
    pub(super) payload: u64,
    blocks: u32,
    path_len: u16,
    /// Checksums and names.
    body: Bytes,
}

impl Footer {
    /// The footer of an open file, or `None` if the file is not one whole entry.
    pub(super) fn read(file: &dyn DiskFile) -> io::Result<Option<Self>> {
        let len = file.len()?;
        let first = len.min(FIRST_READ);
        let tail = read_range(file, len - first, first)?;
        let Some(fixed) = Fixed::decode(&tail, len) else {
            return Ok(None);
        };
        let body = fixed.body(len);
        let body = match body.start.checked_sub(len - first).map(usize::try_from) {
            Some(Ok(start)) => tail.slice(start.min(tail.len())..tail.len().saturating_sub(FIXED)),
            _ => read_range(file, body.start, body.end - body.start)?,
        };
        Ok(fixed.with(body))
    }

    /// The payload and the footer of an open file, in one read unless it is long; `None` if the file is not one whole entry.
    pub(super) fn read_with_payload(file: &dyn DiskFile) -> io::Result<Option<(Bytes, Self)>> {
        let len = file.len()?;
        if len > AT_ONCE {
            // A long file is read whole only after its end says that it is an entry: its length alone allocates nothing.
            let Some(footer) = Self::read(file)? else {
                return Ok(None);
            };
            let payload = read_range(file, 0, footer.payload)?;
            return Ok(
                Some((payload, footer)).filter(|(payload, footer)| payload.len() as u64 == footer.payload)
            );
        }
        let mut payload = read_range(file, 0, len)?;
        let Some(fixed) = Fixed::decode(&payload, len) else {
            return Ok(None);
        };
        let Ok(start) = usize::try_from(fixed.payload) else {
            return Ok(None);
        };
        // The read may have returned less than the length said, if the file was cut short in between.
        if start > payload.len() {
            return Ok(None);
        }
        let mut body = payload.split_off(start);
        body.truncate(body.len().saturating_sub(FIXED));
        Ok(fixed.with(body).map(|footer| (payload, footer)))
    }

    /// The path and the asset's key that the file holds, or `None` if they are not valid.
    pub(super) fn names(&self) -> Option<(CachePath, Option<String>)> {
        let (path, key) = self.raw_names()?;
        let path = CachePath::parse(std::str::from_utf8(path).ok()?).ok()?;
        let key = String::from_utf8(key.to_vec()).ok()?;
        Some((path, Some(key).filter(|key| !key.is_empty())))
    }

    /// Whether the entry was written under these names.
    pub(super) fn is_of(&self, asset: &AssetId, path: &CachePath) -> bool {
        self.raw_names().is_some_and(|(its_path, its_key)| {
            let key = asset.key().unwrap_or_default().as_bytes();
            // An id that was made from a name on disk has no key.
            its_path == path.as_str().as_bytes() && (key.is_empty() || its_key.is_empty() || its_key == key)
        })
    }

    fn raw_names(&self) -> Option<(&[u8], &[u8])> {
        let names = self.body.get(self.blocks as usize * SUM..)?;
        names.split_at_checked(self.path_len.into())
    }

    /// The checksum of a block; `None` past the last.
    pub(super) fn sum(&self, block: usize) -> Option<u32> {
        let sums = self.body.get(..self.blocks as usize * SUM)?;
        let sum = sums.get(block.checked_mul(SUM)?..)?.first_chunk()?;
        Some(u32::from_le_bytes(*sum))
    }

    /// The checksum of each block.
    pub(super) fn sums(&self) -> Vec<u32> {
        (0..self.blocks as usize)
            .filter_map(|block| self.sum(block))
            .collect()
    }

    /// Whether `bytes` match the checksums of the blocks from `first` on. They are whole blocks, or reach to the end.
    pub(super) fn are_blocks(&self, first: usize, bytes: &[u8]) -> bool {
        let mut blocks = bytes.chunks(BLOCK).enumerate();
        blocks.all(|(n, block)| self.sum(first + n) == Some(crc32fast::hash(block)))
    }
}

/// The fixed part at the end of the file.
struct Fixed {
    payload: u64,
    blocks: u32,
    crc: u32,
    path_len: u16,
}

impl Fixed {
    /// Decodes the fixed part at the end of `tail`; `None` if it is not that of a whole entry in a file of `len` bytes.
    fn decode(tail: &[u8], len: u64) -> Option<Self> {
        let (_, fixed) = tail.split_at_checked(tail.len().checked_sub(FIXED)?)?;
        let (checked, rest) = fixed.split_at_checked(20)?;
        let (crc, magic) = rest.split_first_chunk::<4>()?;
        if magic != MAGIC || crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (payload, rest) = checked.split_first_chunk()?;
        let (blocks_found, rest) = rest.split_first_chunk()?;
        let (crc, rest) = rest.split_first_chunk()?;
        let (path_len, rest) = rest.split_first_chunk()?;
        let (key_len, _) = rest.split_first_chunk()?;
        let found = Self {
            payload: u64::from_le_bytes(*payload),
            blocks: u32::from_le_bytes(*blocks_found),
            crc: u32::from_le_bytes(*crc),
            path_len: u16::from_le_bytes(*path_len),
        };
        let names = u64::from(found.path_len) + u64::from(u16::from_le_bytes(*key_len));
        let body = u64::from(found.blocks) * SUM as u64 + names;
        // All lengths together must be the file's. So none of them is used that the file does not bear out, and nothing is
        // allocated from a length that was made up.
        let whole = found.payload.checked_add(body + FIXED as u64) == Some(len);
        // An older version wrote one checksum for all of an entry that came piece by piece. No reader can check that block
        // by block, so such an entry is a miss and is fetched anew.
        let summed = u64::from(found.blocks) == blocks(found.payload);
        (whole && summed).then_some(found)
    }

    /// Where checksums and names stand in a file of `len` bytes.
    fn body(&self, len: u64) -> Range<u64> {
        self.payload..len - FIXED as u64
    }

    fn with(self, body: Bytes) -> Option<Footer> {
        (crc32fast::hash(&body) == self.crc).then_some(Footer {
            payload: self.payload,
            blocks: self.blocks,
            path_len: self.path_len,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer(payload: &[u8], parts: usize) -> (AssetId, CachePath, Vec<u8>) {
        let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
        let mut sums = Sums::default();
        for part in payload.chunks(parts) {
            sums.update(part);
        }
        let footer = encode(&asset, &path, payload.len() as u64, &sums.blocks());
        assert_eq!(footer.len() as u64, len(&asset, &path, payload.len() as u64));
        (asset, path, [payload, &footer].concat())
    }

    fn read(file: &[u8]) -> Option<(Bytes, Footer)> {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("entry");
        std::fs::write(&name, file).unwrap();
        let file = fs_err::File::open(name).unwrap();
        let both = Footer::read_with_payload(&file).unwrap();
        let alone = Footer::read(&file).unwrap();
        assert_eq!(both.is_some(), alone.is_some());
        assert_eq!(
            both.as_ref().map(|(_, footer)| &footer.body),
            alone.as_ref().map(|footer| &footer.body)
        );
        both
    }

    #[test]
    fn what_is_summed_in_parts_reads_as_blocks() {
        for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 40 * BLOCK + 7] {
            let payload: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let (asset, path, file) = footer(&payload, 100_003);
            let (found, footer) = read(&file).unwrap();
            assert_eq!(found, payload);
            assert!(
                footer.are_blocks(0, &found) && footer.is_of(&asset, &path),
                "{size}"
            );
            assert_eq!(footer.sum(usize::try_from(blocks(size as u64)).unwrap()), None);
            assert_eq!(footer.names(), Some((path, Some("a".to_owned()))));
            if size > BLOCK {
                assert!(footer.are_blocks(1, &found[BLOCK..]));
                assert!(!footer.are_blocks(0, &found[BLOCK..]));
            }
        }
    }

    /// C3: an older version wrote one checksum for a whole entry that came piece by piece. That is no entry, unless all of it
    /// is one block.
    #[test]
    fn a_payload_of_one_checksum_for_many_blocks_is_none() {
        let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
        for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let payload = vec![7; size];
            let end = encode(&asset, &path, size as u64, &[crc32fast::hash(&payload)]);
            let found = read(&[&payload, &end[..]].concat());
            assert_eq!(found.is_some(), size <= BLOCK, "{size}");
            if let Some((found, footer)) = found {
                assert!(footer.are_blocks(0, &found));
            }
        }
    }

    /// C3: a footer of the format before this one, or of one after it, is no footer.
    #[test]
    fn a_footer_of_another_format_is_none() {
        let (_, _, mut file) = footer(b"payload", 3);
        *file.last_mut().unwrap() += 1;
        assert!(read(&file).is_none());
    }

    /// C3: lengths that the file does not bear out.
    #[test]
    fn absurd_lengths_behind_a_right_checksum_are_refused() {
        let (_, _, file) = footer(b"payload", 3);
        let at = file.len() - FIXED;
        for lie in [0, 8, u64::MAX, 1 << 60] {
            let mut lies = file.clone();
            lies[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            reseal(&mut lies);
            assert!(read(&lies).is_none(), "{lie}");
        }
        for lie in [0, 2, u32::MAX] {
            let mut lies = file.clone();
            lies[at + 8..at + 12].copy_from_slice(&lie.to_le_bytes());
            reseal(&mut lies);
            assert!(read(&lies).is_none(), "{lie}");
        }
        // One checksum too many, taken from the payload, and all else right.
        let mut lies = file;
        lies[at..at + 8].copy_from_slice(&3_u64.to_le_bytes());
        lies[at + 8..at + 12].copy_from_slice(&2_u32.to_le_bytes());
        let crc = crc32fast::hash(&lies[3..at]);
        lies[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
        reseal(&mut lies);
        assert!(read(&lies).is_none());
    }

    /// Makes the checksum of the last bytes right.
    fn reseal(file: &mut [u8]) {
        let at = file.len() - FIXED;
        let crc = crc32fast::hash(&file[at..at + 20]);
        file[at + 20..at + 24].copy_from_slice(&crc.to_le_bytes());
    }
}
