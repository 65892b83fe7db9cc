//! How an entry stands in its file, and an entry opened for reading.
//!
//! ```text
//! payload … | path | asset key | payload length, crc of payload, crc of names, lengths of names, crc, magic
//!                              └──────────────────── 32 bytes, little-endian ─────────────────────────────┘
//! ```
//!
//! The last 32 bytes and the file's length together tell a whole entry from a truncated, emptied or foreign one
//! without any index, so a get costs one small read more than reading the bytes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytes::{BufMut as _, Bytes, BytesMut};
use snafu::ResultExt as _;

use super::error::{CacheError, IoSnafu};
use super::id::AssetId;
use super::path::CachePath;
use crate::storage::durable::{DiskFile, Kind, read_range};

const MAGIC: [u8; 8] = *b"kithara1";
const FIXED: usize = 32;
/// How much is read at once where the whole is not asked for, in bytes.
pub(crate) const CHUNK: usize = 256 * 1024;

/// The end of an entry's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) payload: u64,
    crc: u32,
    names_crc: u32,
    path_len: u16,
    key_len: u16,
}

impl Footer {
    /// Bytes the footer of this entry takes.
    pub(crate) fn len(asset: &AssetId, path: &CachePath) -> u64 {
        (path.as_str().len() + asset.key().unwrap_or_default().len() + FIXED) as u64
    }

    /// The footer of a payload of `payload` bytes with checksum `crc`.
    pub(crate) fn encode(asset: &AssetId, path: &CachePath, payload: u64, crc: u32) -> Bytes {
        let (path, key) = (
            path.as_str().as_bytes(),
            asset.key().unwrap_or_default().as_bytes(),
        );
        let mut out = BytesMut::with_capacity(path.len() + key.len() + FIXED);
        out.put_slice(path);
        out.put_slice(key);
        let names_crc = crc32fast::hash(&out);
        let mut fixed = BytesMut::with_capacity(FIXED);
        fixed.put_u64_le(payload);
        fixed.put_u32_le(crc);
        fixed.put_u32_le(names_crc);
        // Both are bounded where they are parsed: 1024 and 2048 bytes.
        fixed.put_u16_le(u16::try_from(path.len()).unwrap_or(u16::MAX));
        fixed.put_u16_le(u16::try_from(key.len()).unwrap_or(u16::MAX));
        let fixed_crc = crc32fast::hash(&fixed);
        fixed.put_u32_le(fixed_crc);
        fixed.put_slice(&MAGIC);
        out.unsplit(fixed);
        out.freeze()
    }

    /// The footer of an open file, or `None` if the file is not one whole entry.
    pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Option<Self>> {
        let meta = file.metadata()?;
        let Some(start) = meta
            .len
            .checked_sub(FIXED as u64)
            .filter(|_| meta.kind == Kind::File)
        else {
            return Ok(None);
        };
        let tail = read_range(file, start, FIXED as u64)?;
        Ok(Self::decode(&tail).filter(|footer| {
            let names = u64::from(footer.path_len) + u64::from(footer.key_len);
            footer.payload.checked_add(names) == Some(start)
        }))
    }

    fn decode(tail: &[u8]) -> Option<Self> {
        let (checked, rest) = tail.split_at_checked(20)?;
        let (crc, magic) = rest.split_first_chunk::<4>()?;
        if magic != MAGIC || crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (payload, rest) = checked.split_first_chunk()?;
        let (crc, rest) = rest.split_first_chunk()?;
        let (names_crc, rest) = rest.split_first_chunk()?;
        let (path_len, rest) = rest.split_first_chunk()?;
        let (key_len, _) = rest.split_first_chunk()?;
        Some(Self {
            payload: u64::from_le_bytes(*payload),
            crc: u32::from_le_bytes(*crc),
            names_crc: u32::from_le_bytes(*names_crc),
            path_len: u16::from_le_bytes(*path_len),
            key_len: u16::from_le_bytes(*key_len),
        })
    }

    /// The path and the asset's key kept in the file, or `None` if they are damaged.
    pub(crate) fn names(&self, file: &dyn DiskFile) -> io::Result<Option<(CachePath, Option<String>)>> {
        let names = read_range(
            file,
            self.payload,
            u64::from(self.path_len) + u64::from(self.key_len),
        )?;
        if crc32fast::hash(&names) != self.names_crc {
            return Ok(None);
        }
        let parsed = names
            .split_at_checked(self.path_len.into())
            .and_then(|(path, key)| {
                let path = CachePath::parse(std::str::from_utf8(path).ok()?).ok()?;
                let key = String::from_utf8(key.to_vec()).ok()?;
                Some((path, Some(key).filter(|key| !key.is_empty())))
            });
        Ok(parsed)
    }
}

/// An entry opened for reading. It stays whole and readable after the entry is replaced, evicted or removed.
pub struct Entry {
    content: Content,
    len: u64,
}

enum Content {
    Memory(Bytes),
    File {
        file: Box<dyn DiskFile>,
        path: PathBuf,
        footer: Footer,
    },
}

impl Entry {
    pub(crate) fn memory(bytes: Bytes) -> Self {
        Self {
            len: bytes.len() as u64,
            content: Content::Memory(bytes),
        }
    }

    /// The entry in an open file, or `None` if the file is not one whole entry.
    pub(crate) fn file(file: Box<dyn DiskFile>, path: &Path) -> io::Result<Option<Self>> {
        let footer = Footer::read(&*file)?;
        Ok(footer.map(|footer| Self {
            len: footer.payload,
            content: Content::File {
                file,
                path: path.to_owned(),
                footer,
            },
        }))
    }

    /// The entry's file, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.content {
            Content::Memory(_) => None,
            Content::File { path, .. } => Some(path),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the entry has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `len` bytes from `offset`; fewer only where the entry ends.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the file cannot be read, [`CacheError::Damaged`] if it was cut short since it was opened.
    pub fn read_at(&self, offset: u64, len: u64) -> Result<Bytes, CacheError> {
        let len = len.min(self.len.saturating_sub(offset));
        match &self.content {
            Content::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let len = usize::try_from(len)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - start);
                Ok(bytes.slice(start..start + len))
            }
            Content::File { file, path, .. } => {
                let bytes = read_range(&**file, offset, len).context(IoSnafu { action: "read", path })?;
                if bytes.len() as u64 == len {
                    Ok(bytes)
                } else {
                    Err(CacheError::Damaged { path: path.clone() })
                }
            }
        }
    }

    /// All bytes, against the checksum written with them.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at), and [`CacheError::Damaged`] if the disk changed them.
    pub fn read(&self) -> Result<Bytes, CacheError> {
        let bytes = self.read_at(0, self.len)?;
        match &self.content {
            Content::File { path, footer, .. } if crc32fast::hash(&bytes) != footer.crc => {
                Err(CacheError::Damaged { path: path.clone() })
            }
            _ => Ok(bytes),
        }
    }

    /// Reads all bytes against the checksum written with them. `false`: the disk changed them, or another entry's
    /// file was put in this one's place. Needs 256 KiB of memory.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the file cannot be read.
    pub fn verify(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        let Content::File {
            file,
            path: file_path,
            footer,
        } = &self.content
        else {
            return Ok(true);
        };
        let names = footer.names(&**file).context(IoSnafu {
            action: "read",
            path: file_path,
        })?;
        let ours = names.is_some_and(|(found, key)| {
            found == *path && (asset.key().is_none() || key.is_none() || asset.key() == key.as_deref())
        });
        if !ours {
            return Ok(false);
        }
        let mut crc = crc32fast::Hasher::new();
        let mut offset = 0;
        while offset < self.len {
            let chunk = match self.read_at(offset, CHUNK as u64) {
                Err(CacheError::Damaged { .. }) => return Ok(false),
                chunk => chunk?,
            };
            offset += chunk.len() as u64;
            crc.update(&chunk);
        }
        Ok(crc.finalize() == footer.crc)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
