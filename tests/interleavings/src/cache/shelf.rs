//! A store with the rules of the layers above and below the accounts, each in as few steps as those take.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use loom::sync::Mutex;

use super::accounts::table::Table;
use super::accounts::{Accounts, Below};
use super::error::CacheError;
use super::evict::{self, Evictor};
use super::id::AssetId;
use super::policy::EvictionPolicy;
use super::progress::Progress;
use super::store::{AssetInfo, Committed, Store, Trash};
use super::timestamp::Timestamp;

/// What takes room: the bytes of each asset, and of the trash.
#[derive(Default)]
struct Disk {
    assets: HashMap<AssetId, u64>,
    trash: u64,
    most: u64,
    /// How often each asset was removed: a staged file goes with the directory that it was made in.
    removals: HashMap<AssetId, u64>,
}

impl Disk {
    fn changed(&mut self) {
        let bytes = self.assets.values().sum::<u64>() + self.trash;
        self.most = self.most.max(bytes);
    }
}

pub(super) struct Shelf {
    disk: Arc<Mutex<Disk>>,
    accounts: OnceLock<Weak<Accounts>>,
}

/// A cache over a shelf.
pub(super) struct Scene {
    pub(super) accounts: Arc<Accounts>,
    pub(super) evictor: Evictor,
    shelf: Arc<Shelf>,
    // The accounts hold it weakly.
    _below: Arc<dyn Below>,
}

pub(super) fn id(name: &str) -> AssetId {
    AssetId::from_key(name).unwrap().bare()
}

impl Scene {
    pub(super) fn new(policy: Box<dyn EvictionPolicy>, max_bytes: u64, assets: &[(&str, u64)]) -> Arc<Self> {
        let shelf = Arc::new(Shelf {
            disk: Arc::default(),
            accounts: OnceLock::new(),
        });
        let below: Arc<dyn Below> = shelf.clone();
        let weak = Arc::downgrade(&below);
        let accounts = Accounts::new(Table::default(), weak, None, true, Progress::new());
        shelf.accounts.set(Arc::downgrade(&accounts)).unwrap();
        let evictor = evict::evictor(shelf.clone(), &accounts);
        accounts.govern(policy, max_bytes);
        let scene = Self {
            accounts,
            evictor,
            shelf,
            _below: below,
        };
        for (name, bytes) in assets {
            scene.put(name, *bytes).unwrap();
        }
        Arc::new(scene)
    }

    /// As a put of a new entry: claims, reserves, commits, and gives the reservation back.
    pub(super) fn put(&self, name: &str, bytes: u64) -> Result<(), CacheError> {
        let asset = id(name);
        let claim = self.accounts.claim(&asset)?;
        let staged = self.shelf.disk.lock().unwrap().removals.get(&asset).copied();
        evict::reserve(&self.evictor, bytes)?;
        let committed = self.accounts.committing(&asset, || {
            let mut disk = self.shelf.disk.lock().unwrap();
            assert_eq!(disk.removals.get(&asset).copied(), staged, "staged in the trash");
            *disk.assets.entry(asset.clone()).or_default() += bytes;
            disk.changed();
            Ok(Committed {
                bytes,
                replaced: None,
                displaced: false,
            })
        });
        self.accounts.run_or_defer(move |state| state.reserved -= bytes);
        drop(claim);
        committed.map(drop)
    }

    /// As a removal that the app asks for.
    pub(super) fn remove(&self, name: &str) -> Result<(), CacheError> {
        if let Some(trash) = self.shelf.remove(&id(name))? {
            trash.empty()?;
        }
        Ok(())
    }

    /// Whether a reader finds the asset.
    pub(super) fn is_there(&self, name: &str) -> bool {
        let asset = id(name);
        !self.accounts.is_removing(&asset).unwrap()
            && self.shelf.disk.lock().unwrap().assets.contains_key(&asset)
    }

    /// Empties the trash, and checks the accounts against the disk. Returns the bytes that count.
    pub(super) fn settled(&self) -> u64 {
        self.evictor.trash_queue.empty();
        let state = self.accounts.state();
        let disk = self.shelf.disk.lock().unwrap();
        assert_eq!(state.reserved, 0);
        assert_eq!(state.table.trash, disk.trash);
        assert_eq!(disk.trash, 0);
        let sum: u64 = disk.assets.values().sum();
        assert_eq!(state.table.bytes, sum);
        for (asset, account) in &state.table.assets {
            assert_eq!(disk.assets.get(asset).copied().unwrap_or(0), account.bytes);
        }
        sum
    }

    /// The most bytes that were on the disk at once.
    pub(super) fn most(&self) -> u64 {
        self.shelf.disk.lock().unwrap().most
    }
}

impl Store for Shelf {
    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        let accounts = self.accounts.get().unwrap().upgrade().unwrap();
        let removing = accounts.begin_removal(asset)?;
        let change = accounts.update(asset)?;
        let bytes = {
            let mut disk = self.disk.lock().unwrap();
            let bytes = disk.assets.remove(asset);
            disk.trash += bytes.unwrap_or(0);
            *disk.removals.entry(asset.clone()).or_default() += 1;
            bytes
        };
        let counted = change.removed(bytes.is_some());
        drop(removing);
        let (disk, counts) = (Arc::clone(&self.disk), Arc::clone(&accounts));
        Ok(bytes.map(|bytes| {
            Trash(Box::new(move || {
                disk.lock().unwrap().trash -= bytes;
                counts.run_or_defer(move |state| state.table.trash -= counted);
                Ok(())
            }))
        }))
    }
}

impl Below for Shelf {
    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        let bytes = self.disk.lock().unwrap().assets.get(asset).copied();
        Ok(bytes.map(|bytes| AssetInfo {
            id: asset.clone(),
            bytes,
            files: 1,
            last_access: Timestamp::default(),
            leased: false,
            pinned: false,
            modified: None,
        }))
    }

    fn keyed(&self, _asset: &AssetId) -> Result<Option<AssetId>, CacheError> {
        Ok(None)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}
