//! Sizes and recency without scanning; only an optimisation.

mod partial;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use bytes::Bytes;

use self::partial::IndexPartial;
use super::codec::{self, Change, Row};
use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::index_files::{IndexFiles, most_bytes};
use super::partial::Partial;
use super::path::CachePath;
use super::policy::IdHasher;
use super::progress::Progress;
use super::store::{AssetInfo, Committed, EntryInfo, Staged, Stamp, Store, Trash};

/// How far a directory's time must lie back to show every later change: file systems round it, some to two seconds.
const SURE_AFTER: Duration = Duration::from_secs(2);

/// Remembers what each asset of `inner` takes and when it was last used, in memory and, over an
/// [`FsStore`](super::FsStore), in `<root>/index`.
///
/// Its rule: the inner store is the truth. What is remembered never decides whether an entry is there, and where the
/// two are seen to differ the inner store is asked again: after opening, on a miss, and after a failed write.
pub struct IndexStore<S> {
    pub(super) shared: Arc<Shared<S>>,
}

impl<S> Clone for IndexStore<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Looks at the disk, to find what is there.
type Look<S> = fn(&Shared<S>) -> Result<(), CacheError>;

pub(super) struct Shared<S> {
    pub(super) inner: S,
    pub(super) table: Mutex<Table>,
    /// `None`: nothing is kept on disk.
    pub(super) files: Option<Mutex<IndexFiles>>,
    /// The files say that something has changed.
    begun: AtomicBool,
    /// The figures are known to be right.
    pub(super) settled: AtomicBool,
    /// Held while the disk is looked at.
    pub(super) looking: Mutex<()>,
    /// How to look at the disk.
    look: Option<Look<S>>,
    pub(super) progress: Progress,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) assets: HashMap<AssetId, Record, IdHasher>,
    /// Sum of the bytes of all assets.
    bytes: u64,
    /// Bytes of removed assets whose trash is not emptied yet.
    trash: u64,
    /// Assets the layers above have not been told of.
    news: Vec<AssetId>,
    /// Whether an index is kept on disk.
    persist: bool,
    /// Whether changes are collected for the journal.
    journaling: bool,
    /// Something differs from the snapshot.
    changed: bool,
    /// Changes on their way to the journal, encoded.
    pending: Vec<u8>,
    /// Assets used since the last checkpoint.
    touched: Vec<AssetId>,
    /// Assets whose figures could not be read anew.
    unread: Vec<AssetId>,
    /// Bytes the index takes on disk beyond what its number of assets allows for.
    excess: u64,
    /// Tells looks at the disk apart.
    pub(super) round: u32,
}

/// What is remembered of one asset.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts, a million times in memory"
)]
pub(super) struct Record {
    bytes: u64,
    files: u64,
    last_access: Stamp,
    /// [`Store::modified`] when the figures above were right.
    pub(super) modified: Option<Stamp>,
    /// Grows with each change, so that a look at the inner store that a change overtook is not believed.
    version: u32,
    /// Changes under way.
    busy: u32,
    /// The look at the disk that has seen it last.
    pub(super) round: u32,
    pinned: bool,
    /// `modified` is old enough to show every later change.
    pub(super) sure: bool,
    /// The figures are to be read anew when no change is under way.
    stale: bool,
    /// Noted among the touched.
    touched: bool,
}

impl Record {
    fn info(&self, id: &AssetId) -> Option<AssetInfo> {
        (self.files > 0 || self.bytes > 0 || self.pinned).then(|| AssetInfo {
            id: id.clone(),
            bytes: self.bytes,
            files: self.files,
            last_access: self.last_access,
            leased: false,
            pinned: self.pinned,
            modified: self.modified,
        })
    }

    fn row(&self, id: &AssetId) -> Row {
        let row = Row::new(id, self.bytes, self.files, self.last_access, self.modified);
        row.with_pinned(self.pinned).with_sure(self.sure)
    }
}

impl<S: Store> IndexStore<S> {
    /// Remembers what `inner` holds, in memory only, after one walk over it.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if `inner` cannot be listed.
    pub fn scanned(inner: S) -> Result<Self, CacheError> {
        let mut table = Table::default();
        for info in inner.assets()? {
            let id = info.id.clone();
            table.put(&id, Some(info));
        }
        let progress = Progress::new();
        progress.end();
        Ok(Self::with(inner, table, None, true, None, progress))
    }
}

impl<S> IndexStore<S> {
    pub(super) fn with(
        inner: S,
        table: Table,
        files: Option<IndexFiles>,
        settled: bool,
        look: Option<Look<S>>,
        progress: Progress,
    ) -> Self {
        let shared = Shared {
            inner,
            table: Mutex::new(table),
            files: files.map(Mutex::new),
            begun: AtomicBool::new(false),
            settled: AtomicBool::new(settled),
            looking: Mutex::new(()),
            look,
            progress,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.shared.inner
    }

    /// How far the look at the disk after opening has come.
    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }
}

impl Table {
    /// A table of what the index files say; `None` if that cannot be.
    pub(super) fn loaded(rows: Vec<Row>, changes: Vec<Change>) -> Option<Self> {
        let mut table = Self {
            persist: true,
            changed: !changes.is_empty(),
            ..Self::default()
        };
        table.assets.reserve(rows.len());
        table.news.reserve(rows.len());
        for row in rows {
            table.set(&row);
        }
        for change in changes {
            match change {
                Change::Set(row) => table.set(&row.with_sure(false)),
                Change::Removed(id) => drop(table.assets.remove(&AssetId::from_hash(id))),
                Change::Touched(touches) => {
                    for (id, at) in touches {
                        if let Some(record) = table.assets.get_mut(&AssetId::from_hash(id)) {
                            record.last_access = Stamp(at);
                        }
                    }
                }
            }
        }
        table.bytes = table
            .assets
            .values()
            .try_fold(0_u64, |sum, record| sum.checked_add(record.bytes))?;
        Some(table)
    }

    /// A table that knows nothing yet.
    pub(super) fn empty(persist: bool) -> Self {
        Self {
            persist,
            changed: true,
            ..Self::default()
        }
    }

    fn set(&mut self, row: &Row) {
        let record = Record {
            bytes: row.bytes,
            files: row.files,
            last_access: row.last_access(),
            modified: row.modified(),
            pinned: row.pinned(),
            sure: row.sure(),
            ..Record::default()
        };
        let id = row.id();
        if self.assets.insert(id.clone(), record).is_none() {
            self.news.push(id);
        }
    }

    /// Takes over what the inner store says of an asset.
    fn put(&mut self, id: &AssetId, info: Option<AssetInfo>) {
        let old = self.assets.get(id).copied();
        self.bytes = self.bytes.saturating_sub(old.map_or(0, |old| old.bytes));
        let Some(info) = info else {
            if self.assets.remove(id).is_some() {
                self.note_removed(id);
            }
            return;
        };
        self.bytes = self.bytes.saturating_add(info.bytes);
        let record = self.assets.entry(id.bare()).or_default();
        record.bytes = info.bytes;
        record.files = info.files;
        record.pinned = info.pinned;
        record.modified = info.modified;
        record.sure = info.modified.is_some_and(|at| at.age(Stamp::now()) > SURE_AFTER);
        record.stale = false;
        if old.is_none() {
            record.last_access = info.last_access;
            self.news.push(id.bare());
        }
        self.note(id);
    }

    /// Collects how an asset stands now for the journal.
    fn note(&mut self, id: &AssetId) {
        self.changed = true;
        if let Some(record) = self.assets.get(id).filter(|_| self.journaling) {
            codec::encode_change(&Change::Set(record.row(id)), &mut self.pending);
        }
    }

    fn note_removed(&mut self, id: &AssetId) {
        self.changed = true;
        if self.journaling {
            codec::encode_change(&Change::Removed(*id.hash()), &mut self.pending);
        }
    }

    /// Bytes the index may take on disk.
    fn index_bytes(&self) -> u64 {
        if self.persist {
            most_bytes(self.assets.len() as u64).saturating_add(self.excess)
        } else {
            0
        }
    }

    /// Collects the uses since the last checkpoint for the journal.
    fn note_touches(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        let mut uses = Vec::with_capacity(touched.len());
        for id in touched {
            if let Some(record) = self.assets.get_mut(&id) {
                record.touched = false;
                uses.push((id, record.last_access));
            }
        }
        codec::encode_touches(uses, &mut self.pending);
    }
}

impl<S> Shared<S> {
    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // Sums and records change together, with nothing between that can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_files(&self) -> Option<MutexGuard<'_, IndexFiles>> {
        // What is half written on disk does not decode, and is then no index.
        self.files
            .as_ref()
            .map(|files| files.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Store> Shared<S> {
    /// Says on disk that something is about to change, once: a crash is then told from a clean end.
    fn begin(&self) {
        if self.begun.load(Ordering::Acquire) {
            return;
        }
        if let Some(mut files) = self.lock_files() {
            files.begin();
            self.lock().journaling = true;
            self.begun.store(true, Ordering::Release);
        }
    }

    /// Hands collected changes to the journal, unless somebody is writing to it: then they go with the next.
    pub(super) fn flush(&self) {
        let files = match self.files.as_ref().map(Mutex::try_lock) {
            None | Some(Err(TryLockError::WouldBlock)) => return,
            Some(Ok(files)) => files,
            Some(Err(TryLockError::Poisoned(poisoned))) => poisoned.into_inner(),
        };
        if !self.append(files) {
            // The snapshot says it all, and if it cannot be written there is no index.
            let _ = self.compact(false);
        }
    }

    /// `false`: a snapshot has to be written instead.
    fn append(&self, mut files: MutexGuard<'_, IndexFiles>) -> bool {
        let mut table = self.lock();
        let (changes, assets) = (std::mem::take(&mut table.pending), table.assets.len() as u64);
        drop(table);
        let fits = files.append(changes, assets);
        self.measure(&files);
        fits
    }

    fn measure(&self, files: &IndexFiles) {
        let mut table = self.lock();
        table.excess = files.excess_bytes(table.assets.len() as u64);
    }

    /// Writes a snapshot in the place of the old one and its journal; `sealed` if nothing will change after it.
    fn compact(&self, sealed: bool) -> io::Result<()> {
        self.lock_files()
            .map_or(Ok(()), |files| self.compact_locked(files, sealed))
    }

    fn compact_locked(&self, mut files: MutexGuard<'_, IndexFiles>, sealed: bool) -> io::Result<()> {
        self.confirm();
        let mut table = self.lock();
        // The rows below say all that was collected.
        table.pending.clear();
        table.changed = false;
        for id in std::mem::take(&mut table.touched) {
            if let Some(record) = table.assets.get_mut(&id) {
                record.touched = false;
            }
        }
        let mut rows: Vec<Row> = table.assets.iter().map(|(id, record)| record.row(id)).collect();
        drop(table);
        // The coldest first, so that the next open has the order at hand.
        rows.sort_unstable_by_key(Row::last_access);
        let written = files.compact(rows, sealed);
        self.lock().journaling = files.is_begun();
        self.begun.store(files.is_begun(), Ordering::Release);
        self.append(files);
        written
    }

    /// Looks again at the times of the directories that changed lately, so that a snapshot can rely on them.
    fn confirm(&self) {
        let unsure = |(id, record): (&AssetId, &Record)| {
            let at = record
                .modified
                .filter(|at| !record.sure && at.age(Stamp::now()) > SURE_AFTER)?;
            Some((id.clone(), record.version, at))
        };
        let unsure: Vec<_> = self.lock().assets.iter().filter_map(unsure).collect();
        for (id, version, at) in unsure {
            match self.inner.modified(&id) {
                Ok(Some(now)) if now == at => {
                    if let Some(record) = self
                        .lock()
                        .assets
                        .get_mut(&id)
                        .filter(|record| record.version == version)
                    {
                        record.sure = true;
                    }
                }
                _ => self.refresh(&id),
            }
        }
    }

    /// Ends the session's bookkeeping: the next open finds everything as it is now.
    pub(super) fn seal(&self) -> io::Result<()> {
        if self.is_noted() {
            Ok(())
        } else {
            self.compact(true)
        }
    }

    /// Whether the files say everything, and that it is everything.
    fn is_noted(&self) -> bool {
        let table = self.lock();
        !self.begun.load(Ordering::Acquire) && !table.changed && table.touched.is_empty()
    }

    /// Writes down what a look at the disk has found.
    pub(super) fn note_look(&self) -> io::Result<()> {
        let Some(files) = self.lock_files().filter(|_| !self.is_noted()) else {
            return Ok(());
        };
        // While the files are locked no change can begin.
        let sealed = !files.is_begun();
        self.compact_locked(files, sealed)
    }

    /// Runs a change of an asset and takes over what `account` makes of it.
    fn change<T>(
        &self,
        asset: &AssetId,
        change: impl FnOnce() -> Result<T, CacheError>,
        account: impl FnOnce(&mut Record, &T),
    ) -> Result<T, CacheError> {
        self.begin();
        self.lock().assets.entry(asset.bare()).or_default().busy += 1;
        let mut ended = Ended {
            shared: self,
            asset,
            stale: true,
        };
        let done = change();
        if let Ok(done) = &done {
            let mut table = self.lock();
            let record = table.assets.entry(asset.bare()).or_default();
            let before = record.bytes;
            account(record, done);
            let after = record.bytes;
            record.sure = false;
            if record.last_access == Stamp::default() {
                record.last_access = Stamp::now();
            }
            table.bytes = table.bytes.saturating_sub(before).saturating_add(after);
            table.note(asset);
            ended.stale = false;
        }
        drop(ended);
        self.flush();
        done
    }

    /// Runs a commit and takes over what it changed.
    fn committing(
        &self,
        asset: &AssetId,
        commit: impl FnOnce() -> Result<Committed, CacheError>,
    ) -> Result<Committed, CacheError> {
        self.change(asset, commit, |record, committed| {
            record.bytes = record
                .bytes
                .saturating_sub(committed.replaced.unwrap_or(0))
                .saturating_add(committed.bytes);
            record.files += u64::from(committed.replaced.is_none());
            record.modified = committed.modified;
        })
    }

    /// Reads an asset's figures anew from the inner store, unless a change is under way: its end does it then.
    pub(super) fn refresh(&self, asset: &AssetId) {
        if let Err(error) = self.try_refresh(asset) {
            log::warn!("cannot look at asset {asset}: {error}");
            self.lock().unread.push(asset.bare());
        }
    }

    /// Reads again what could not be read.
    fn refresh_unread(&self) {
        let unread = std::mem::take(&mut self.lock().unread);
        for asset in unread {
            self.refresh(&asset);
        }
    }

    /// As [`refresh`](Self::refresh), and tells when that failed.
    pub(super) fn try_refresh(&self, asset: &AssetId) -> Result<(), CacheError> {
        // Changes that overtake the look every time keep the figures right themselves.
        for _ in 0..3 {
            let mut table = self.lock();
            let version = match table.assets.get_mut(asset) {
                Some(record) => {
                    record.stale = true;
                    if record.busy > 0 {
                        return Ok(());
                    }
                    Some(record.version)
                }
                None => None,
            };
            drop(table);
            let info = self.inner.asset(asset)?;
            let mut table = self.lock();
            let now = table
                .assets
                .get(asset)
                .map(|record| (record.version, record.busy));
            if now == version.map(|version| (version, 0)) {
                table.put(asset, info);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Ends a change, also when it panics.
struct Ended<'a, S: Store> {
    shared: &'a Shared<S>,
    asset: &'a AssetId,
    /// What the change did is not known.
    stale: bool,
}

impl<S: Store> Drop for Ended<'_, S> {
    fn drop(&mut self) {
        let mut table = self.shared.lock();
        // Removed meanwhile: whatever the change did is to be found out.
        let record = table.assets.entry(self.asset.bare()).or_insert(Record {
            stale: true,
            busy: 1,
            ..Record::default()
        });
        record.busy = record.busy.saturating_sub(1);
        record.version = record.version.wrapping_add(1);
        record.stale |= self.stale;
        let refresh = record.stale && record.busy == 0;
        if record.busy == 0
            && !refresh
            && record.info(self.asset).is_none()
            && table.assets.remove(self.asset).is_some()
        {
            table.note_removed(self.asset);
        }
        drop(table);
        if refresh {
            self.shared.refresh(self.asset);
        }
    }
}

impl<S: Store> Store for IndexStore<S> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let entry = self.shared.inner.open(asset, path)?;
        if entry.is_none() {
            let known = self.shared.lock().assets.get(asset).map(|record| record.modified);
            // A miss where the directory has changed behind our back: the accounts heal.
            if known.is_some_and(|known| self.shared.inner.modified(asset).is_ok_and(|now| now != known)) {
                self.shared.refresh(asset);
            }
        }
        Ok(entry)
    }

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.shared.inner.contains(asset, path)
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        self.shared.begin();
        let inner = self.shared.inner.stage(asset, path)?;
        Ok(Box::new(IndexStaged {
            inner,
            asset: asset.clone(),
            shared: Arc::clone(&self.shared),
        }))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.shared.begin();
        let inner = self.shared.inner.partial(asset, path)?;
        Ok(inner.map(|inner| Box::new(IndexPartial::new(inner, asset, &self.shared)) as Box<dyn Partial>))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        let shared = &self.shared;
        let change = || {
            Ok((
                shared.inner.remove_entry(asset, path)?,
                shared.inner.modified(asset)?,
            ))
        };
        let (removed, _) = shared.change(asset, change, |record, &(removed, modified)| {
            if let Some(bytes) = removed {
                record.bytes = record.bytes.saturating_sub(bytes);
                record.files = record.files.saturating_sub(1);
            }
            record.modified = modified;
        })?;
        Ok(removed)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        self.shared.begin();
        let trash = self.shared.inner.remove(asset)?;
        let mut table = self.shared.lock();
        let bytes = table.assets.remove(asset).map_or(0, |record| record.bytes);
        table.note_removed(asset);
        table.bytes = table.bytes.saturating_sub(bytes);
        if trash.is_some() {
            table.trash = table.trash.saturating_add(bytes);
        }
        drop(table);
        self.shared.flush();
        let shared = Arc::clone(&self.shared);
        Ok(trash.map(|trash| {
            Trash::new(move || {
                trash.empty()?;
                let mut table = shared.lock();
                table.trash = table.trash.saturating_sub(bytes);
                Ok(())
            })
        }))
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let shared = &self.shared;
        let change = || {
            shared.inner.set_pinned(asset, pinned)?;
            shared.inner.modified(asset)
        };
        let account = |record: &mut Record, &modified: &Option<Stamp>| {
            record.pinned = pinned;
            record.modified = modified;
        };
        shared.change(asset, change, account).map(|_| ())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        Ok(self
            .shared
            .lock()
            .assets
            .get(asset)
            .and_then(|record| record.info(asset)))
    }

    fn modified(&self, asset: &AssetId) -> Result<Option<Stamp>, CacheError> {
        self.shared.inner.modified(asset)
    }

    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        Ok(self
            .shared
            .lock()
            .assets
            .iter()
            .filter_map(|(id, record)| record.info(id))
            .collect())
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.shared.inner.entries(asset)
    }

    fn used_bytes(&self) -> Result<u64, CacheError> {
        let table = self.shared.lock();
        Ok(table
            .bytes
            .saturating_add(table.trash)
            .saturating_add(table.index_bytes()))
    }

    fn overhead(&self, asset: &AssetId, path: Option<&CachePath>) -> u64 {
        let table = self.shared.lock();
        let new = table.persist && !table.assets.contains_key(asset);
        drop(table);
        let index = if new { most_bytes(1) - most_bytes(0) } else { 0 };
        self.shared.inner.overhead(asset, path).saturating_add(index)
    }

    fn settle(&self) -> Result<(), CacheError> {
        let shared = &self.shared;
        if shared.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let _looking = shared.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if !shared.settled.load(Ordering::Acquire) {
            shared.inner.settle()?;
            if let Some(look) = shared.look {
                look(shared)?;
            }
            shared.settled.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn touch(&self, asset: &AssetId, at: Stamp) {
        let mut table = self.shared.lock();
        let persist = table.persist;
        let Some(record) = table.assets.get_mut(asset) else {
            return;
        };
        record.last_access = at;
        if persist && !std::mem::replace(&mut record.touched, true) {
            table.touched.push(asset.bare());
        }
    }

    fn is_held(&self, asset: &AssetId) -> Result<bool, CacheError> {
        self.shared.inner.is_held(asset)
    }

    fn news(&self) -> Result<Vec<(AssetId, Stamp)>, CacheError> {
        let mut table = self.shared.lock();
        let news = std::mem::take(&mut table.news);
        Ok(news
            .into_iter()
            .filter_map(|id| {
                let at = table.assets.get(&id)?.last_access;
                Some((id, at))
            })
            .collect())
    }

    fn checkpoint(&self) -> Result<(), CacheError> {
        let shared = &self.shared;
        shared.inner.checkpoint()?;
        shared.refresh_unread();
        if shared.is_noted() {
            return Ok(());
        }
        shared.begin();
        shared.lock().note_touches();
        let Some(files) = shared.lock_files() else {
            return Ok(());
        };
        let fits = shared.append(files);
        let Some(mut files) = shared.lock_files() else {
            return Ok(());
        };
        let compact = !fits || files.wants_compaction(shared.lock().assets.len() as u64);
        let written = if compact {
            drop(files);
            shared.compact(false)
        } else {
            files.sync()
        };
        written.map_err(|source| CacheError::Io {
            action: "write",
            path: "index".into(),
            source,
        })
    }
}

impl<S: fmt::Debug> fmt::Debug for IndexStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexStore")
            .field("inner", &self.shared.inner)
            .field("assets", &self.shared.lock().assets.len())
            .finish()
    }
}

/// An entry being written, whose commit is accounted.
struct IndexStaged<S> {
    inner: Box<dyn Staged>,
    asset: AssetId,
    shared: Arc<Shared<S>>,
}

impl<S: Store> Staged for IndexStaged<S> {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        self.inner.write(parts)
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        let Self { inner, asset, shared } = *self;
        shared.committing(&asset, || inner.commit())
    }
}

impl<S> fmt::Debug for IndexStaged<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexStaged")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
