//! Two sources of one file in one process: the second reads what the first fetches.
//!
//! Whoever claims the cache's partial entry invites others. Who comes later finds the invitation and becomes one more
//! reader of the same resource; the fetcher goes on until the last of them is gone.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use async_channel::{Sender, WeakSender};
use async_lock::Mutex as AsyncMutex;

use super::{Bypass, FileControl, FileError, LookAhead};
use crate::cache::{
    AssetId, BlockingCache, CachePath, EntryGuard, EntryLocks, PartialEntry, WeakPartialEntry,
};
use crate::storage::{Condition, StatusWatch, StreamingResource, WeakResource};

/// Of the process, as caches are: a root is open once.
static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);

#[derive(Default)]
struct Registry {
    locks: EntryLocks,
    registrations: Mutex<HashMap<(usize, AssetId, CachePath), Arc<Registration>>>,
}

/// Keeps neither the entry, which would then never end, nor the resource.
struct Registration {
    entry: WeakPartialEntry,
    resource: WeakResource<FileError>,
    settings: Arc<DownloadSettings>,
    open_lock: OpenLock,
    subscribers: Arc<Subscribers>,
}

/// Held by the one who opens the file. As long as it is not open its fetcher ends with whoever asked for it; then the
/// next in line opens it.
pub(super) type OpenLock = Arc<AsyncMutex<()>>;

/// A file that somebody else has open.
pub(super) struct SharedDownload {
    pub(super) resource: StreamingResource<FileError>,
    pub(super) entry: PartialEntry,
    /// Those of the one who opened it.
    pub(super) settings: Arc<DownloadSettings>,
    pub(super) open_lock: OpenLock,
    pub(super) subscribers: Arc<Subscribers>,
}

impl Registry {
    fn registrations(&self) -> MutexGuard<'_, HashMap<(usize, AssetId, CachePath), Arc<Registration>>> {
        // Each change is one call on the map, which a panic elsewhere does not break.
        self.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One at a time looks for somebody to join and, where there is nobody, claims the entry and invites.
pub(super) fn lock_entry(asset: &AssetId, path: &CachePath) -> EntryGuard<'static> {
    REGISTRY.locks.take(asset, path)
}

/// Lets others join, as long as `entry` is held.
pub(super) fn register(
    entry: &PartialEntry,
    resource: &StreamingResource<FileError>,
    settings: &Arc<DownloadSettings>,
    subscribers: &Arc<Subscribers>,
) -> OpenLock {
    let open_lock = OpenLock::default();
    let registration = Registration {
        entry: entry.downgrade(),
        resource: resource.downgrade(),
        settings: Arc::clone(settings),
        open_lock: Arc::clone(&open_lock),
        subscribers: Arc::clone(subscribers),
    };
    let mut registrations = REGISTRY.registrations();
    registrations.retain(|_, registration| registration.entry.is_held());
    entry.beside(|cache, asset, path| {
        registrations.insert((cache.id(), asset.bare(), path.clone()), Arc::new(registration));
    });
    open_lock
}

/// What there is to join: somebody reads it, and it goes to the disk.
pub(super) fn find(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Option<SharedDownload> {
    let registration = REGISTRY
        .registrations()
        .get(&(cache.id(), asset.bare(), path.clone()))
        .cloned()?;
    let (entry, resource) = (registration.entry.upgrade()?, registration.resource.upgrade()?);
    // Bytes that are let go again are fetched for those who came first.
    if resource.has_let_go() || matches!(resource.status().condition, Condition::Discarded(_)) {
        return None;
    }
    Some(SharedDownload {
        resource,
        entry,
        settings: Arc::clone(&registration.settings),
        open_lock: Arc::clone(&registration.open_lock),
        subscribers: Arc::clone(&registration.subscribers),
    })
}

/// Waits until it is known what the fetcher of a resource has to fetch. `false` if there is no fetcher any more.
pub(super) async fn has_started(resource: &StreamingResource<FileError>) -> bool {
    let mut watch = resource.watch();
    loop {
        let status = watch.changed().await;
        match status.condition {
            Condition::Complete => return true,
            Condition::Writing if status.len.is_some() || !status.available.is_empty() => return true,
            Condition::Writing => {}
            Condition::Idle | Condition::Failed(_) | Condition::Discarded(_) => return false,
        }
    }
}

/// Says when the file is complete, and ends then or when nobody fetches it any more.
pub(super) async fn report_completion(mut watch: StatusWatch<FileError>, control: Sender<FileControl>) {
    loop {
        match watch.changed().await.condition {
            Condition::Writing => {}
            Condition::Complete => {
                // Whoever does not listen is not told.
                let _ = control.try_send(FileControl::Cached);
                return;
            }
            Condition::Idle | Condition::Failed(_) | Condition::Discarded(_) => return,
        }
    }
}

/// All who joined one fetcher.
#[derive(Default)]
pub(super) struct Subscribers(Mutex<Subscribed>);

#[derive(Default)]
struct Subscribed {
    bypass: Option<Bypass>,
    /// Weak: a channel ends with the source it is of.
    subscribers: Vec<WeakSender<FileControl>>,
}

impl Subscribers {
    /// Tells `sender` from now on, and at once if the file is not kept already.
    pub(super) fn subscribe(&self, sender: &Sender<FileControl>) {
        let mut list = self.lock();
        // To let go of the last one of a channel wakes whoever listens, which is foreign code.
        let there: Vec<_> = list.subscribers.iter().filter_map(WeakSender::upgrade).collect();
        list.subscribers = there.iter().chain([sender]).map(Sender::downgrade).collect();
        let bypass = list.bypass.clone();
        drop(list);
        drop(there);
        if let Some(reason) = bypass {
            // Whoever does not listen is not told.
            let _ = sender.try_send(FileControl::CacheBypassed { reason });
        }
    }

    /// What is fetched from here on is not kept.
    pub(super) fn bypass(&self, reason: &Bypass) {
        let mut list = self.lock();
        list.bypass = Some(reason.clone());
        // To send wakes whoever listens, which is foreign code.
        let subscribers = mem::take(&mut list.subscribers);
        drop(list);
        for sender in subscribers.iter().filter_map(WeakSender::upgrade) {
            let reason = reason.clone();
            let _ = sender.try_send(FileControl::CacheBypassed { reason });
        }
    }

    /// Another fetcher goes on, and tries the cache again.
    pub(super) fn reset(&self) {
        let before = mem::take(&mut *self.lock());
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, Subscribed> {
        // Each change is one assignment, which a panic elsewhere does not break.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far ahead of its readers a file is fetched: as far as whoever wants most of it.
#[derive(Debug)]
pub(super) struct DownloadSettings {
    bytes_per_second: AtomicU64,
    bytes: AtomicU64,
    micros: AtomicU64,
}

impl DownloadSettings {
    pub(super) fn new(look_ahead: LookAhead, bytes_per_second: u64) -> Self {
        let settings = Self {
            bytes_per_second: AtomicU64::new(bytes_per_second),
            bytes: AtomicU64::new(0),
            micros: AtomicU64::new(0),
        };
        settings.widen(look_ahead);
        settings
    }

    pub(super) fn set_bytes_per_second(&self, bytes: u64) {
        self.bytes_per_second.store(bytes, Ordering::Relaxed);
    }

    /// From now on at least this.
    pub(super) fn widen(&self, look_ahead: LookAhead) {
        match look_ahead {
            LookAhead::Whole => self.bytes.store(u64::MAX, Ordering::Relaxed),
            LookAhead::Bytes(bytes) => drop(self.bytes.fetch_max(bytes, Ordering::Relaxed)),
            LookAhead::Time(time) => {
                let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                self.micros.fetch_max(micros, Ordering::Relaxed);
            }
        }
    }

    /// As much as `other` says, too.
    pub(super) fn widen_to(&self, other: &Self) {
        self.bytes
            .fetch_max(other.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.micros
            .fetch_max(other.micros.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// In bytes.
    pub(super) fn ahead(&self) -> u64 {
        let rate = u128::from(self.bytes_per_second.load(Ordering::Relaxed));
        let time = u128::from(self.micros.load(Ordering::Relaxed)) * rate / 1_000_000;
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        time.max(self.bytes.load(Ordering::Relaxed))
    }

    /// Whether all of the file is wanted.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_is_forgotten_when_the_next_one_joins() {
        let subscribers = Subscribers::default();
        let (stays, events) = async_channel::unbounded();
        subscribers.subscribe(&stays);
        for _ in 0..1000 {
            subscribers.subscribe(&async_channel::unbounded().0);
        }
        assert!(subscribers.lock().subscribers.len() <= 2);
        subscribers.bypass(&Bypass::UnknownLength);
        let events = events.try_recv();
        assert!(matches!(events, Ok(FileControl::CacheBypassed { .. })));
    }
}

#[cfg(test)]
mod settings_tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_widest_wish_counts_at_the_rate_of_the_moment() {
        let settings = DownloadSettings::new(LookAhead::Time(Duration::from_millis(1500)), 1000);
        assert_eq!(settings.ahead(), 1500);
        settings.set_bytes_per_second(2000);
        assert_eq!(settings.ahead(), 3000);
        settings.widen(LookAhead::Bytes(2999));
        assert_eq!(settings.ahead(), 3000);
        settings.widen_to(&DownloadSettings::new(LookAhead::Bytes(4000), 1));
        assert_eq!((settings.ahead(), settings.is_whole()), (4000, false));
        settings.widen(LookAhead::Whole);
        assert!(settings.is_whole() && settings.ahead() == u64::MAX);
        let long = DownloadSettings::new(LookAhead::Time(Duration::MAX), u64::MAX);
        assert_eq!(long.ahead(), u64::MAX);
    }
}
