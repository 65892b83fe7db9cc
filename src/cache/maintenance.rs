//! Background maintenance: the initial scan, trash, checkpoints.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_channel::Receiver;

use super::error::{CacheError, Trying as _};
use super::evict::Evictor;
use super::fs::Closing;
use super::store::Store;
use super::trash_queue::{TrashQueue, Wake};

/// How much recency a crash can cost, at most.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Handle of the maintenance thread. The thread scans the disk after opening, empties trash and writes checkpoints.
/// Dropping the handle closes the cache in the background.
#[derive(Debug)]
pub(super) struct Maintenance {
    /// `None` for a store without a root.
    root: Option<PathBuf>,
    trash_queue: Arc<TrashQueue>,
    closing: Arc<Mutex<Option<Closing>>>,
    /// Closed once the root's lock is free.
    closed: Receiver<()>,
}

impl Maintenance {
    /// Starts the thread. It keeps `store`, and with it the root's lock, until the handle is dropped.
    pub(super) fn start(
        root: Option<&Path>,
        store: Arc<dyn Store>,
        evictor: &Arc<Evictor>,
    ) -> Result<Self, CacheError> {
        let (alive, closed) = async_channel::bounded(1);
        let maintenance = Self {
            root: root.map(Path::to_owned),
            trash_queue: Arc::clone(&evictor.trash_queue),
            closing: Arc::default(),
            closed,
        };
        let (evictor, closing) = (Arc::clone(evictor), Arc::clone(&maintenance.closing));
        let work = move || {
            run(&evictor, CHECKPOINT_EVERY);
            // Sealed when nothing can change any more: a change after it would not be in the index, and the next session
            // would trust the index without a scan.
            evictor.accounts.seal();
            let policy = evictor.accounts.retire();
            // The last references to the store. Dropping them frees the root's lock.
            drop((store, evictor));
            // The root's lock is free: a thread that waits to open the root may go on.
            drop(lock(&closing).take());
            // The policy is the app's value, and its drop may open this root again. Before the line above it would wait
            // for itself.
            drop(policy);
            drop(alive);
        };
        thread::Builder::new()
            .name("kithara-cache".into())
            .spawn(work)
            .trying("start a thread for", root.unwrap_or(Path::new("the cache")))?;
        Ok(maintenance)
    }

    /// Closed when the cache is closed, after this handle was dropped.
    pub(super) fn closed(&self) -> Receiver<()> {
        self.closed.clone()
    }
}

fn lock(closing: &Mutex<Option<Closing>>) -> MutexGuard<'_, Option<Closing>> {
    // The value is there or not, whatever panics.
    closing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works until the trash queue is closed. A checkpoint is written `every` so often, however much trash there is.
fn run(evictor: &Evictor, every: Duration) {
    let (trash_queue, progress) = (&evictor.trash_queue, &evictor.accounts.progress);
    scan(evictor);
    evictor.accounts.introduce();
    let mut last = Instant::now();
    loop {
        // Never sleeps past the next checkpoint, however much trash comes (C8).
        match trash_queue.wait(every.saturating_sub(last.elapsed())) {
            // One piece, then the clock is asked again: a large asset takes long to unlink.
            Wake::Trash => {
                trash_queue.empty_one();
            }
            Wake::Timeout => {}
            Wake::Closed => break,
        }
        if last.elapsed() >= every {
            if !progress.is_finished() {
                scan(evictor);
            }
            if let Err(error) = evictor.checkpoint() {
                log::warn!("cannot write a checkpoint: {error}");
            }
            last = Instant::now();
        }
    }
    // If the scan failed every time, the wait for it ends here.
    progress.end();
}

fn scan(evictor: &Evictor) {
    // A failed scan is tried again: by the first write if the sizes are not known, and before the next checkpoint.
    if let Err(error) = evictor.accounts.scan().and_then(|()| evictor.ready()) {
        log::warn!("cannot look through the cache: {error}");
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        // Marked as closing before the thread is told to end, so that the mark is there for as long as the lock is held.
        *lock(&self.closing) = self.root.as_deref().map(Closing::new);
        self.trash_queue.close();
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use bytes::Bytes;

    use std::sync::Weak;

    use super::*;
    use crate::cache::accounts::table::Table;
    use crate::cache::accounts::{Accounts, Below};
    use crate::cache::codec::{Change, Row};
    use crate::cache::evict::EvictingStore;
    use crate::cache::fs::FsStore;
    use crate::cache::id::AssetId;
    use crate::cache::index::IndexStore;
    use crate::cache::lease::LeaseStore;
    use crate::cache::path::CachePath;
    use crate::cache::policy::{EvictionPolicy, Lru};
    use crate::cache::progress::Progress;
    use crate::cache::store::Trash;
    use crate::cache::timestamp::Timestamp;
    use crate::storage::Durability;
    use crate::storage::testing::{FakeDisk, Fault, Later};

    type Stack = EvictingStore<LeaseStore<IndexStore<FsStore>>, Lru>;

    fn files(disk: &FakeDisk) -> FsStore {
        FsStore::on(Arc::new(disk.clone()), Path::new("/"), Durability::Ordered).unwrap()
    }

    fn open(disk: &FakeDisk) -> (IndexStore<FsStore>, Stack) {
        let index = IndexStore::open(files(disk), true).unwrap();
        let protected = LeaseStore::new(index.clone(), index.accounts());
        let store = EvictingStore::new(protected, index.accounts(), Lru::new(), 1 << 20);
        (index, store)
    }

    /// Runs the maintenance until one piece of trash is emptied, and `meanwhile` has run in that.
    fn run_once(store: &Stack, every: Duration, meanwhile: impl FnOnce() + Send + 'static) {
        let trash_queue = &store.evictor().trash_queue;
        trash_queue.push(Trash::new(move || {
            meanwhile();
            Ok(())
        }));
        trash_queue.close();
        run(store.evictor(), every);
    }

    fn put(store: &impl Store, name: &str) -> AssetId {
        let (asset, path) = (AssetId::from_key(name).unwrap(), CachePath::parse("x").unwrap());
        store.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
        asset
    }

    /// C8: trash, however much, does not put off a checkpoint that is due.
    #[test]
    fn a_checkpoint_is_written_when_it_is_due_though_there_was_trash() {
        for (every, due) in [(Duration::ZERO, true), (CHECKPOINT_EVERY, false)] {
            let disk = FakeDisk::default();
            let (index, store) = open(&disk);
            let asset = put(&store, "a");
            let (used, accounts) = (asset.clone(), Arc::clone(index.accounts()));
            run_once(&store, every, move || {
                accounts.touch(&used, Timestamp::default()).unwrap();
            });
            let last = |index: &IndexStore<FsStore>| index.asset(&asset).unwrap().unwrap().last_access;
            let (found, _) = open(&disk.settled());
            assert_eq!(last(&found) == last(&index), due);
        }
    }

    /// C3: a scan that failed is tried again, also after a clean end of the last session. When the cache is closed, waiting
    /// for it ends.
    #[test]
    fn a_scan_that_failed_is_tried_again_until_the_cache_is_closed() {
        for (later, succeeds) in [(Later::Work, true), (Later::SameFail, false)] {
            let disk = FakeDisk::default();
            let (index, store) = open(&disk);
            put(&store, "a");
            index.accounts().seal();
            let unknown = put(&files(&disk), "b");
            let twin = disk.settled();
            let (index, _) = open(&twin);
            let opened = twin.calls();
            index.scan().unwrap();
            let mut calls = opened..twin.calls();
            let at = calls.find(|&call| twin.call_name(call) == "read_dir").unwrap();

            let disk = disk.settled();
            let (index, store) = open(&disk);
            let error = libc::EIO;
            disk.set_fault(Some(Fault { at, later, error }));
            run_once(&store, Duration::ZERO, || {});
            assert_eq!(index.asset(&unknown).unwrap().is_some(), succeeds);
            assert!(index.progress().is_finished());
        }
    }

    /// Writes down how it is told what was found.
    #[derive(Debug)]
    struct Told(Arc<Mutex<Vec<Vec<u64>>>>);

    impl EvictionPolicy for Told {
        fn used(&mut self, _asset: &AssetId, _bytes: u64, _at: Timestamp) {}

        fn added(&mut self, _asset: &AssetId, _bytes: u64, _at: Timestamp) {}

        fn restored(&mut self, assets: Vec<(AssetId, u64, Timestamp)>) {
            let times = assets.into_iter().map(|(_, _, at)| at.0);
            self.0.lock().unwrap().push(times.collect());
        }

        fn removed(&mut self, _asset: &AssetId) {}

        fn victim(&mut self, _now: Timestamp) -> Option<AssetId> {
            None
        }
    }

    /// C4: what an index says is told in parts, each under the lock for a moment, where it says it in order; and all at once
    /// where parts would be sorted again and again.
    #[test]
    fn a_policy_is_told_in_parts_what_it_begins_with() {
        for in_order in [true, false] {
            let times = (1..=10_000_u64).map(|n| {
                if in_order {
                    n
                } else {
                    n.wrapping_mul(7919) % 10_007
                }
            });
            let rows = times.map(|at| {
                let asset = AssetId::from_key(&at.to_string()).unwrap();
                Row::new(&asset, 1, 1, Timestamp(at), None)
            });
            // One that the journal removed is not missed, and takes nothing out of its order.
            let gone = AssetId::from_key("7").unwrap();
            let gone = vec![Change::Removed(*gone.hash())];
            let table = Table::loaded(rows.collect(), gone).unwrap();
            let below: Weak<dyn Below> = Weak::<FsStore>::new();
            let accounts = Accounts::new(table, below, None, true, Progress::new());
            let told = Arc::default();
            accounts.govern(Box::new(Told(Arc::clone(&told))), u64::MAX);
            accounts.introduce();
            let told = told.lock().unwrap();
            let parts: Vec<_> = told.iter().map(Vec::len).collect();
            assert_eq!(
                parts,
                if in_order {
                    vec![4096, 4096, 1807]
                } else {
                    vec![9999]
                }
            );
            let coldest = |part: &Vec<u64>| *part.iter().min().unwrap();
            assert!(told.is_sorted_by(|hotter, colder| coldest(hotter) > *colder.iter().max().unwrap()));
        }
    }
}
