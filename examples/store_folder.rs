//! A store of the app's own: one plain file for each entry, in one folder for each asset. Other programs can read the files.
//!
//! `cargo run --example store_folder`
//!
//! ```text
//! <root>/assets/<id>/<entry>     whole entries
//! <root>/staged/<number>         entries being written, and removed assets
//! ```
//!
//! A kill at any moment leaves whole entries and leftovers in `staged`, which opening removes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kithara::cache::{
    AssetCache, AssetId, AssetInfo, CacheError, CachePath, Committed, Entry, EntryInfo, Staged, Store,
    Timestamp, Trash,
};

/// One file for each entry.
#[derive(Clone, Debug)]
pub struct FolderStore {
    folders: Arc<Folders>,
}

#[derive(Debug)]
struct Folders {
    root: PathBuf,
    /// Names of staged files.
    next: AtomicU64,
    /// Held while an entry is replaced or removed: what is measured must be what is replaced.
    changing: Mutex<()>,
}

/// The cache's error for one of the file system.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io {
        action,
        path,
        source: Arc::new(source),
    }
}

/// Turns the error for an absent file into `None`.
fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// The file name of an entry. Every byte but a few is written as `%` and two digits, so that no two paths share a file, on
/// systems that do not tell case either.
fn file_name(path: &CachePath) -> String {
    let mut name = String::new();
    for byte in path.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            _ => name.extend(['%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
    name
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or('0')
}

fn path_of(name: &str) -> Option<CachePath> {
    let (mut bytes, mut rest) = (Vec::new(), name);
    while let Some((plain, escaped)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(u8::from_str_radix(escaped.get(..2)?, 16).ok()?);
        rest = escaped.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    CachePath::parse(&String::from_utf8(bytes).ok()?).ok()
}

impl FolderStore {
    /// Opens the store under `root`, for one process at a time. Removes what a killed process left.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        let staged = root.join("staged");
        absent(fs::remove_dir_all(&staged)).map_err(failed("remove", &staged))?;
        for folder in [&staged, &root.join("assets")] {
            fs::create_dir_all(folder).map_err(failed("create", folder))?;
        }
        Ok(Self {
            folders: Arc::new(Folders {
                root: root.to_owned(),
                next: AtomicU64::new(0),
                changing: Mutex::new(()),
            }),
        })
    }

    fn asset(&self, asset: &AssetId) -> PathBuf {
        self.folders.root.join("assets").join(asset.name())
    }

    fn entry(&self, asset: &AssetId, path: &CachePath) -> PathBuf {
        self.asset(asset).join(file_name(path))
    }

    fn staged(&self) -> PathBuf {
        let number = self.folders.next.fetch_add(1, Ordering::Relaxed);
        self.folders.root.join("staged").join(number.to_string())
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.folders
            .changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of a folder with their names and lengths. None if there is no folder.
    fn files(folder: &Path) -> io::Result<Vec<(String, fs::Metadata)>> {
        let mut files = Vec::new();
        for file in absent(fs::read_dir(folder))?.into_iter().flatten() {
            let file = file?;
            // Gone meanwhile, or no file of this store.
            if let (Some(meta), Ok(name)) = (absent(file.metadata())?, file.file_name().into_string()) {
                files.push((name, meta));
            }
        }
        Ok(files)
    }

    fn info(&self, asset: &AssetId) -> io::Result<Option<AssetInfo>> {
        let files = Self::files(&self.asset(asset))?;
        let bytes = files.iter().map(|(_, meta)| meta.len()).sum();
        let written = files.iter().filter_map(|(_, meta)| meta.modified().ok()).max();
        let last = written.map_or(Timestamp::default(), Timestamp::from);
        let info = AssetInfo::new(asset.clone(), bytes, files.len() as u64, last);
        Ok((!files.is_empty()).then_some(info))
    }
}

impl Store for FolderStore {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let file = self.entry(asset, path);
        let opened = absent(File::open(&file)).map_err(failed("open", &file))?;
        let Some(opened) = opened else { return Ok(None) };
        let len = opened.metadata().map_err(failed("look at", &file))?.len();
        // The file stays open: what replaces it has another file, and a removed one is there until it is closed.
        let opened = Mutex::new(opened);
        Ok(Some(Entry::reading(len, move |offset, len| {
            let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = Vec::new();
            opened
                .seek(SeekFrom::Start(offset))
                .and_then(|_| (&mut *opened).take(len).read_to_end(&mut bytes))
                .map_err(failed("read", &file))?;
            Ok(bytes.into())
        })))
    }

    fn exists(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        let file = self.entry(asset, path);
        file.try_exists().map_err(failed("look at", &file))
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        let staged = self.staged();
        let file = File::create(&staged).map_err(failed("create", &staged))?;
        Ok(Box::new(FolderStaged {
            store: self.clone(),
            folder: self.asset(asset),
            target: self.entry(asset, path),
            file,
            staged,
            len: 0,
        }))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        let (file, folder) = (self.entry(asset, path), self.asset(asset));
        let _changing = self.changing();
        let meta = absent(file.metadata()).map_err(failed("look at", &file))?;
        absent(fs::remove_file(&file)).map_err(failed("remove", &file))?;
        // The folder goes with its last entry, and only then.
        let _ = fs::remove_dir(&folder);
        Ok(meta.map(|meta| meta.len()))
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        let (folder, trash) = (self.asset(asset), self.staged());
        let _changing = self.changing();
        // One rename takes the whole asset away from readers. Unlinking takes longer, and is left to the cache.
        let moved = absent(fs::rename(&folder, &trash)).map_err(failed("move", &folder))?;
        Ok(moved.map(|()| Trash::new(move || fs::remove_dir_all(&trash).map_err(failed("remove", &trash)))))
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.info(asset)
            .map_err(failed("list", &FolderStore::asset(self, asset)))
    }

    fn list(&self) -> Result<Vec<AssetInfo>, CacheError> {
        let assets = self.folders.root.join("assets");
        let folders = Self::files(&assets).map_err(failed("list", &assets))?;
        let ids = folders
            .iter()
            .filter_map(|(name, _)| AssetId::from_name(name).ok());
        let infos = ids.map(|id| Store::asset(self, &id));
        infos.filter_map(Result::transpose).collect()
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        let folder = FolderStore::asset(self, asset);
        let files = Self::files(&folder).map_err(failed("list", &folder))?;
        let info =
            |(name, meta): (String, fs::Metadata)| Some(EntryInfo::new(path_of(&name)?, meta.len(), None));
        Ok(files.into_iter().filter_map(info).collect())
    }
}

/// An entry being written to a file that no reader looks for.
#[derive(Debug)]
struct FolderStaged {
    store: FolderStore,
    folder: PathBuf,
    target: PathBuf,
    file: File,
    staged: PathBuf,
    len: u64,
}

impl Staged for FolderStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        for part in parts {
            self.file.write_all(part).map_err(failed("write", &self.staged))?;
            self.len += part.len() as u64;
        }
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        // On the disk before it has its name: a power cut must not leave the name on a file of zeros.
        self.file.sync_all().map_err(failed("sync", &self.staged))?;
        let _changing = self.store.changing();
        let replaced = absent(self.target.metadata()).map_err(failed("look at", &self.target))?;
        fs::create_dir_all(&self.folder).map_err(failed("create", &self.folder))?;
        fs::rename(&self.staged, &self.target).map_err(failed("rename to", &self.target))?;
        Ok(Committed::new(self.len, replaced.map(|meta| meta.len())))
    }
}

impl Drop for FolderStaged {
    fn drop(&mut self) {
        // After a commit there is nothing under this name any more.
        let _ = fs::remove_file(&self.staged);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let (track, segment) = (AssetId::from_key("track")?, CachePath::parse("v1/Segment 1.m4s")?);
    for session in 0..2 {
        let store = FolderStore::open(root.path())?;
        let cache = AssetCache::builder(root.path()).store(store).max_bytes(100_000);
        let cache = cache.open_blocking()?;
        let found = cache.blocking().get(&track, &segment)?;
        println!(
            "session {session}: {} bytes are there",
            found.map_or(0, |bytes| bytes.len())
        );
        cache
            .blocking()
            .put_atomic(&track, &segment, vec![1; 10_000].into())?;
        println!(
            "session {session}: {} is a file of 10000 bytes",
            file_name(&segment)
        );
        futures_lite::future::block_on(cache.close());
    }
    Ok(())
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--help" | "-h") => {
            println!("usage: store_folder     a cache over a folder of plain files; there is nothing to set");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("store_folder: unexpected argument {other:?}; it has none");
            return ExitCode::FAILURE;
        }
    }
    if let Err(failure) = run() {
        eprintln!("store_folder: {failure}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
