//! Entries opened for reading.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::{CacheError, Trying as _};
use super::footer::{BLOCK, Footer};
use super::id::AssetId;
use super::path::CachePath;
use crate::storage::DamageCallback;
use crate::storage::durable::{DiskFile, read_range};

/// Bytes read at once where the caller does not ask for all of them.
const CHUNK: u64 = 2 * BLOCK_LEN;
const BLOCK_LEN: u64 = BLOCK as u64;

/// An entry opened for reading. It stays whole and readable after it is replaced, evicted or removed.
///
/// Every byte is checked against its checksum before it is returned. An entry that is found damaged is removed from the cache
/// it was opened from. Each checksum covers 128 KiB, so reading a part of such a block reads all of it.
pub struct Entry {
    content: Content,
}

enum Content {
    Memory(Bytes),
    File(EntryFile),
    /// Of a store of the app's own: its length, and what reads it.
    Reads(u64, Box<Read>),
}

type Read = dyn Fn(u64, u64) -> Result<Bytes, CacheError> + Send + Sync;

pub(super) struct EntryFile {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) path: PathBuf,
    pub(super) footer: Footer,
    /// Lets the cache it was opened from remove it.
    pub(super) on_damage: DamageCallback,
}

impl Entry {
    /// An entry of a store that has its bytes in memory.
    pub fn new(bytes: Bytes) -> Self {
        Self {
            content: Content::Memory(bytes),
        }
    }

    /// An entry of `len` bytes that `read` reads: it is given an offset and a length within them, in bytes, and returns
    /// these bytes. It is called from several threads at once, and goes on working when the entry is replaced or removed.
    pub fn reading(
        len: u64,
        read: impl Fn(u64, u64) -> Result<Bytes, CacheError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            content: Content::Reads(len, Box::new(read)),
        }
    }

    /// The entry in an open file, or `None` if the file is not this entry, whole.
    pub(crate) fn file(
        file: Box<dyn DiskFile>,
        file_path: &Path,
        asset: &AssetId,
        path: &CachePath,
    ) -> io::Result<Option<Self>> {
        let footer = Footer::read(&*file)?.filter(|footer| footer.is_of(asset, path));
        Ok(footer.map(|footer| Self {
            content: Content::File(EntryFile {
                file,
                path: file_path.to_owned(),
                footer,
                on_damage: DamageCallback::default(),
            }),
        }))
    }

    /// Has `callback` called for damage that a read finds.
    pub(super) fn on_damage(mut self, callback: DamageCallback) -> Self {
        if let Content::File(file) = &mut self.content {
            file.on_damage = callback;
        }
        self
    }

    /// The entry's file; `None` for an entry in memory.
    pub(super) fn into_file(self) -> Option<EntryFile> {
        match self.content {
            Content::Memory(_) | Content::Reads(..) => None,
            Content::File(file) => Some(file),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(file) => file.footer.payload,
            Content::Reads(len, _) => *len,
        }
    }

    /// Whether the entry has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` bytes from `offset`, or fewer if the entry ends before.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the file cannot be read; [`CacheError::Damaged`] if its bytes were changed on the disk, or the
    /// file was cut short.
    pub fn read_at(&self, offset: u64, len: u64) -> Result<Bytes, CacheError> {
        let end = self.len().min(offset.saturating_add(len));
        let start = offset.min(end);
        match &self.content {
            Content::Memory(bytes) => Ok(slice(bytes, 0, start, end)),
            // Damage is reported after the read, with no lock held: the cache reads the entry again before it removes it.
            Content::File(file) => file.read(start, end).inspect_err(|error| file.told(error)),
            Content::Reads(_, read) => read(start, end - start),
        }
    }

    /// Up to 256 KiB from `offset`, ending where a checksum block ends.
    pub(super) fn chunk(&self, offset: u64) -> Result<Bytes, CacheError> {
        self.read_at(offset, CHUNK - offset % CHUNK)
    }

    /// All bytes.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    pub fn read(&self) -> Result<Bytes, CacheError> {
        self.read_at(0, self.len())
    }

    /// All bytes; `None` if they are damaged.
    pub(super) fn read_or_miss(&self) -> Result<Option<Bytes>, CacheError> {
        match self.read() {
            Err(CacheError::Damaged { path }) => {
                log::warn!("{} is damaged", path.display());
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// Reads all bytes against the checksums that were written with them. `false` if they were changed on the disk, or if the
    /// entry was written under another name. Takes 256 KiB of memory.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the file cannot be read.
    pub fn verify(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        match &self.content {
            Content::Memory(_) | Content::Reads(..) => Ok(true),
            Content::File(file) if file.footer.is_of(asset, path) => {
                let right = file.is_right()?;
                if !right {
                    file.on_damage.call();
                }
                Ok(right)
            }
            Content::File(_) => Ok(false),
        }
    }
}

impl EntryFile {
    fn told(&self, error: &CacheError) {
        if error.is_damaged() {
            self.on_damage.call();
        }
    }

    fn read(&self, start: u64, end: u64) -> Result<Bytes, CacheError> {
        // Whole blocks, since a checksum covers one.
        let first = start / BLOCK_LEN * BLOCK_LEN;
        let blocks = self.exactly(first, end.next_multiple_of(BLOCK_LEN).min(self.footer.payload))?;
        if self.are_blocks(first, &blocks) {
            Ok(slice(&blocks, first, start, end))
        } else {
            Err(self.damaged())
        }
    }

    /// Whether all bytes match their checksums.
    fn is_right(&self) -> Result<bool, CacheError> {
        let payload = self.footer.payload;
        let mut offset = 0;
        while offset < payload {
            let chunk = match self.exactly(offset, payload.min(offset + CHUNK)) {
                Err(CacheError::Damaged { .. }) => return Ok(false),
                chunk => chunk?,
            };
            if !self.are_blocks(offset, &chunk) {
                return Ok(false);
            }
            offset += chunk.len() as u64;
        }
        Ok(true)
    }

    fn are_blocks(&self, first: u64, bytes: &[u8]) -> bool {
        usize::try_from(first / BLOCK_LEN).is_ok_and(|first| self.footer.are_blocks(first, bytes))
    }

    /// The bytes from `start` to `end`, or [`CacheError::Damaged`] if the file ends before.
    fn exactly(&self, start: u64, end: u64) -> Result<Bytes, CacheError> {
        let bytes = read_range(&*self.file, start, end - start).trying("read", &self.path)?;
        // The file may have been cut short since its footer was read. That must not look like the end of the entry.
        if bytes.len() as u64 == end - start {
            Ok(bytes)
        } else {
            Err(self.damaged())
        }
    }

    fn damaged(&self) -> CacheError {
        CacheError::Damaged {
            path: self.path.clone(),
        }
    }
}

/// The part from `start` to `end` of bytes that begin at `first`.
fn slice(bytes: &Bytes, first: u64, start: u64, end: u64) -> Bytes {
    let within = |at: u64| usize::try_from(at - first).map_or(bytes.len(), |at| at.min(bytes.len()));
    bytes.slice(within(start)..within(end))
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::super::fs::FsStore;
    use super::super::store::Store as _;
    use super::super::{footer, policy::Lru};
    use super::*;
    use crate::cache::{EvictingStore, IndexStore};
    use crate::storage::Durability;

    struct Scene {
        _dir: tempfile::TempDir,
        store: FsStore,
        asset: AssetId,
        path: CachePath,
        file: PathBuf,
        payload: Bytes,
    }

    /// A store with one entry of two blocks and a bit.
    fn scene() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let store = FsStore::open(dir.path().join("root"), Durability::Ordered).unwrap();
        let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
        let payload: Bytes = (0..2 * BLOCK + 1000)
            .map(|n| u8::try_from(n % 249).unwrap())
            .collect();
        store.put(&asset, &path, payload.clone()).unwrap();
        let name = asset.name();
        let file = dir
            .path()
            .join("root/assets")
            .join(&name[..2])
            .join(name)
            .join("x");
        Scene {
            _dir: dir,
            store,
            asset,
            path,
            file,
            payload,
        }
    }

    fn flip_a_bit(file: &Path, at: usize) {
        let mut bytes = fs::read(file).unwrap();
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    }

    fn is_damaged(result: Result<Bytes, CacheError>) -> bool {
        result.is_err_and(|error| matches!(error, CacheError::Damaged { .. }))
    }

    /// C3: a store that cannot be caught lying. The disk changes while the entry is open, too.
    #[test]
    fn a_turned_bit_is_found_by_the_read_that_would_give_it_out() {
        let Scene {
            store,
            asset,
            path,
            file,
            payload,
            _dir,
        } = scene();
        let entry = store.open(&asset, &path).unwrap().unwrap();
        assert_eq!(entry.read().unwrap(), payload);
        flip_a_bit(&file, BLOCK + 5000);
        let block = BLOCK as u64;
        assert_eq!(entry.read_at(0, 10).unwrap(), payload[..10]);
        assert!(is_damaged(entry.chunk(100)));
        assert_eq!(entry.read_at(block - 1, 1).unwrap(), payload[BLOCK - 1..BLOCK]);
        assert!(is_damaged(entry.read_at(block, 1)));
        assert!(is_damaged(entry.read_at(block - 1, 2)));
        assert_eq!(entry.chunk(2 * block).unwrap(), payload[2 * BLOCK..]);
        assert!(is_damaged(entry.read()));
        assert!(!entry.verify(&asset, &path).unwrap());
        flip_a_bit(&file, BLOCK + 5000);
        assert_eq!(store.get(&asset, &path).unwrap().unwrap(), payload);
        flip_a_bit(&file, BLOCK + 5000);
        assert!(
            store.exists(&asset, &path).unwrap(),
            "nobody has looked at its bytes"
        );
        assert_eq!(store.get(&asset, &path).unwrap(), None);
        assert!(!file.exists(), "found out");
    }

    /// C3: an entry that came piece by piece in the days when those had one checksum for all is a miss, and gone.
    #[test]
    fn an_entry_of_one_checksum_for_many_blocks_is_a_miss() {
        let Scene {
            store,
            asset,
            path,
            file,
            payload,
            _dir,
        } = scene();
        let whole = crc32fast::hash(&payload);
        let end = footer::encode(&asset, &path, payload.len() as u64, &[whole]);
        fs::write(&file, [&payload[..], &end].concat()).unwrap();
        assert!(!store.exists(&asset, &path).unwrap());
        assert!(!file.exists());
        assert!(store.open(&asset, &path).unwrap().is_none());
        assert_eq!(store.get(&asset, &path).unwrap(), None);
        store.put(&asset, &path, payload.clone()).unwrap();
        assert_eq!(store.get(&asset, &path).unwrap().unwrap(), payload);
    }

    /// C3: a hostile file.
    #[test]
    fn an_entry_under_anothers_name_is_a_miss() {
        let Scene {
            store,
            asset,
            file,
            _dir,
            ..
        } = scene();
        let other = CachePath::parse("y").unwrap();
        let copy = file.with_file_name("y");
        fs::copy(&file, &copy).unwrap();
        assert!(store.get(&asset, &other).unwrap().is_none());
        assert!(!copy.exists());
        fs::copy(&file, &copy).unwrap();
        assert!(store.open(&asset, &other).unwrap().is_none());
        assert!(!copy.exists());
    }

    /// C3: no memory for what only a length says.
    #[test]
    fn a_terabyte_of_holes_in_an_entrys_place_is_a_miss() {
        let Scene {
            store,
            asset,
            path,
            file,
            payload,
            _dir,
        } = scene();
        for len in [1 << 40, 9 << 20] {
            fs::File::create(&file).unwrap().set_len(len).unwrap();
            assert!(store.get(&asset, &path).unwrap().is_none());
            store.put(&asset, &path, payload.clone()).unwrap();
            assert_eq!(store.get(&asset, &path).unwrap().unwrap(), payload);
        }
    }

    /// C5: a footer grows with its payload, and all of it has been paid for.
    #[test]
    fn a_writer_of_unknown_length_pays_for_its_checksums() {
        let Scene {
            store,
            asset,
            file,
            payload,
            _dir,
            ..
        } = scene();
        store.set_pinned(&asset, true).unwrap();
        let path = CachePath::parse("y").unwrap();
        let used = store.asset(&asset).unwrap().unwrap().bytes;
        let len = payload.len() as u64;
        let fits = used + len + footer::len(&asset, &path, len);
        let root = file.ancestors().nth(4).unwrap().to_owned();
        drop(store);
        let write = |max_bytes| {
            let index = IndexStore::scanned(FsStore::open(&root, Durability::Ordered)?)?;
            let accounts = Arc::clone(index.accounts());
            let store = EvictingStore::new(index, &accounts, Lru::new(), max_bytes);
            let mut staged = store.stage(&asset, &path)?;
            for piece in payload.chunks(100_000) {
                staged.write(&[payload.slice_ref(piece)])?;
            }
            staged.commit()
        };
        assert!(matches!(write(fits - 1), Err(CacheError::CacheFull { .. })));
        let committed = write(fits).unwrap();
        assert_eq!(committed.bytes, len + footer::len(&asset, &path, len));
    }
}
