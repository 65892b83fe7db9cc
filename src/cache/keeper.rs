//! The thread that does what nobody should wait for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_channel::Receiver;
use snafu::ResultExt as _;

use super::bin::{Bin, Wake};
use super::error::{CacheError, IoSnafu};
use super::evict::EvictingStore;
use super::fs::{Closing, FsStore};
use super::index::IndexStore;
use super::policy::EvictionPolicy;
use super::store::Store;

/// How much recency a crash can cost.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Looks at the disk after opening, empties the trash, writes checkpoints, and closes the cache when this is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    root: PathBuf,
    bin: Arc<Bin>,
    closing: Arc<Mutex<Option<Closing>>>,
    /// Closed when the root's lock is free.
    closed: Receiver<()>,
}

impl Keeper {
    /// Starts the thread. It keeps `store`, and with it the root's lock, until the keeper is dropped.
    pub(super) fn start<S: Store, P: EvictionPolicy>(
        root: &Path,
        index: IndexStore<FsStore>,
        store: Arc<EvictingStore<S, P>>,
        bin: &Arc<Bin>,
    ) -> Result<Self, CacheError> {
        let (alive, closed) = async_channel::bounded(1);
        let keeper = Self {
            root: root.to_owned(),
            bin: Arc::clone(bin),
            closing: Arc::default(),
            closed,
        };
        let (bin, closing) = (Arc::clone(bin), Arc::clone(&keeper.closing));
        let work = move || {
            keep(&index, &*store, &bin);
            index.seal();
            let policy = store.retire();
            drop((store, index));
            // The lock is free: whoever waits to open the root may go on.
            drop(lock(&closing).take());
            // The caller's value goes last: its drop may open the root.
            drop(policy);
            drop(alive);
        };
        thread::Builder::new()
            .name("kithara-cache".into())
            .spawn(work)
            .context(IoSnafu {
                action: "start a thread for",
                path: root,
            })?;
        Ok(keeper)
    }

    /// Closed when the cache is: after this keeper was dropped.
    pub(super) fn closed(&self) -> Receiver<()> {
        self.closed.clone()
    }
}

fn lock(closing: &Mutex<Option<Closing>>) -> MutexGuard<'_, Option<Closing>> {
    // It is there or it is not, whatever panics.
    closing.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(index: &IndexStore<FsStore>, store: &dyn Store, bin: &Bin) {
    // What fails here is tried again by the first write.
    if let Err(error) = index.look().and_then(|()| store.settle()) {
        log::warn!("cannot look through the cache: {error}");
    }
    loop {
        match bin.wait(CHECKPOINT_EVERY) {
            Wake::Trash => {
                bin.empty_one();
            }
            Wake::Timeout => {
                if let Err(error) = store.checkpoint() {
                    log::warn!("cannot write a checkpoint: {error}");
                }
            }
            Wake::Closed => return,
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *lock(&self.closing) = Some(Closing::new(&self.root));
        self.bin.close();
    }
}
