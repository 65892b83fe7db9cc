//! One download for all sources of a file in the process.
//!
//! The source that claims the cache's partial entry registers its download. A later source of the same entry finds the
//! registration and becomes a *subscriber*: one more reader of the same resource. The first one's driver serves both, and
//! runs until the last reader is dropped.
//!
//! ```text
//!   source A ── claims the entry ──▶ registration ◀── finds it ── source B
//!       │                             (weak refs)                    │
//!       │ opens, under the open lock                                 │ waits for the open lock,
//!       ▼                                                            ▼ then reads along
//!   Download ──────── writes ──────▶ StreamingResource ◀──── reads ──┘
//! ```
//!
//! Until A has its first response, its download ends with A's caller. B waits for the open lock until then: it shares
//! the download if A succeeded, and becomes the downloading source if A gave up.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use async_channel::{Sender, WeakSender};
use async_lock::Mutex as AsyncMutex;

use super::{Bypass, FileControl, FileError, LookAhead, ServerInfo};
use crate::cache::{
    AssetId, BlockingCache, CachePath, EntryGuard, EntryLocks, PartialEntry, WeakPartialEntry,
};
use crate::net::Priority;
use crate::storage::{Condition, StatusWatch, StreamingResource, WeakResource};

/// One for the process, as a cache root can be open only once in it.
static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);

#[derive(Default)]
struct Registry {
    locks: EntryLocks,
    registrations: Mutex<HashMap<(usize, AssetId, CachePath), Arc<Registration>>>,
}

/// A download that can be shared. All that would keep it alive is weak: the entry's claim and the resource end with their
/// download and its readers, not with the registry.
struct Registration {
    entry: WeakPartialEntry,
    resource: WeakResource<FileError>,
    settings: Arc<DownloadSettings>,
    open_lock: OpenLock,
    subscribers: Arc<Subscribers>,
}

/// Held by the source that opens the file, until it has its first response or has given up.
pub(super) type OpenLock = Arc<AsyncMutex<()>>;

/// The download of another source.
pub(super) struct SharedDownload {
    pub(super) resource: StreamingResource<FileError>,
    pub(super) entry: PartialEntry,
    pub(super) settings: Arc<DownloadSettings>,
    pub(super) open_lock: OpenLock,
    pub(super) subscribers: Arc<Subscribers>,
}

impl Registry {
    fn registrations(&self) -> MutexGuard<'_, HashMap<(usize, AssetId, CachePath), Arc<Registration>>> {
        // Each change is one call on the map, which a panic elsewhere cannot leave half done.
        self.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held from the search for a download to share until the own one is registered. Blocks.
pub(super) fn lock_entry(asset: &AssetId, path: &CachePath) -> EntryGuard<'static> {
    REGISTRY.locks.take(asset, path)
}

/// Lets other sources share the download, as long as `entry` is claimed.
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
    // A registration outlives its download unnoticed. So each new one removes those whose claim has ended: the map is never
    // larger than the number of downloads.
    registrations.retain(|_, registration| registration.entry.is_held());
    entry.beside(|cache, asset, path| {
        registrations.insert((cache.id(), asset.bare(), path.clone()), Arc::new(registration));
    });
    open_lock
}

/// The download to share, if there is one that still has a reader and still writes to the disk.
pub(super) fn find(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Option<SharedDownload> {
    let registration = REGISTRY
        .registrations()
        .get(&(cache.id(), asset.bare(), path.clone()))
        .cloned()?;
    let entry = registration.entry.upgrade()?;
    let Some(resource) = registration.resource.upgrade() else {
        // Its last reader is gone, so its download is about to end: by the record of what is there, or by the commit of a
        // complete file, which takes a sync of the disk. A source that asks for the claim next waits for that, instead of being
        // refused a file that is all there.
        entry.closing();
        return None;
    };
    // A download that keeps only a window fetches for the readers that it has: for one more, bytes that have left the
    // window would have to come again and again.
    if resource.has_freed_memory() || matches!(resource.status().condition, Condition::Discarded(_)) {
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

/// Waits until a shared download has its first response. `false` if it has ended.
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

/// What a subscriber's driver does: tells when the file is complete, or that it will not be. Ends then.
pub(super) async fn report_completion(mut watch: StatusWatch<FileError>, events: Sender<FileControl>) {
    loop {
        let status = watch.changed().await;
        match status.condition {
            Condition::Writing => {}
            Condition::Complete => {
                // An error means that the app has dropped the events.
                let _ = events.try_send(FileControl::Cached);
                return;
            }
            Condition::Idle | Condition::Failed(_) | Condition::Discarded(_) => {
                let there = status.available.iter().map(|range| range.end - range.start);
                let missing = status.len.map(|len| len - there.sum::<u64>());
                let _ = events.try_send(FileControl::Incomplete { missing });
                return;
            }
        }
    }
}

/// The sources that share one download, apart from the one that runs it.
#[derive(Default)]
pub(super) struct Subscribers(Mutex<SubscriberList>);

#[derive(Default)]
struct SubscriberList {
    bypass: Option<Bypass>,
    /// Weak, so that the events of a source end with that source.
    senders: Vec<WeakSender<FileControl>>,
}

impl Subscribers {
    /// Tells `sender` from now on; and at once if the file is bypassing the cache already.
    pub(super) fn subscribe(&self, sender: &Sender<FileControl>) {
        let mut list = self.lock();
        // Dropping the last sender of a channel wakes its receiver, and a waker is foreign code: it may come back here. So
        // what was upgraded is dropped after the lock.
        let live = list.live();
        list.senders = live.iter().chain([sender]).map(Sender::downgrade).collect();
        let bypass = list.bypass.clone();
        drop(list);
        drop(live);
        if let Some(reason) = bypass {
            // An error means that the app has dropped the events.
            let _ = sender.try_send(FileControl::CacheBypassed { reason });
        }
    }

    /// Tells all subscribers that what is downloaded from here on is not kept.
    pub(super) fn bypass(&self, reason: &Bypass) {
        let mut list = self.lock();
        list.bypass = Some(reason.clone());
        let live = list.live();
        drop(list);
        // A subscriber that comes in between finds the bypass in the list, and is not among these: each is told once.
        let reason = reason.clone();
        send(live, &FileControl::CacheBypassed { reason });
    }

    /// Tells all subscribers of the moment.
    pub(super) fn tell(&self, event: &FileControl) {
        let live = self.lock().live();
        send(live, event);
    }

    /// Another download takes over, and writes to the cache again.
    pub(super) fn reset(&self) {
        let before = mem::take(&mut *self.lock());
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, SubscriberList> {
        // Each change is one assignment, which a panic elsewhere cannot leave half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SubscriberList {
    fn live(&self) -> Vec<Sender<FileControl>> {
        self.senders.iter().filter_map(WeakSender::upgrade).collect()
    }
}

/// Sending wakes the receiver, and so does dropping its last sender. Both are foreign code: not under the list's lock.
fn send(to: Vec<Sender<FileControl>>, event: &FileControl) {
    for sender in to {
        // An error means that the app has dropped the events.
        let _ = sender.try_send(event.clone());
    }
}

/// What the sources of one download share: what may change while a file is downloaded, by the app or by another source,
/// and what the server said. Of several look-aheads the widest counts.
#[derive(Debug)]
pub(super) struct DownloadSettings {
    /// That of the requests. A download is of the foreground once one of its sources is.
    priority: Priority,
    server_info: Mutex<Option<Arc<ServerInfo>>>,
    bytes_per_second: AtomicU64,
    /// The widest look-ahead in bytes; `u64::MAX` for the whole file.
    bytes: AtomicU64,
    /// The widest look-ahead in microseconds.
    micros: AtomicU64,
}

impl DownloadSettings {
    pub(super) fn new(look_ahead: LookAhead, bytes_per_second: u64) -> Self {
        let settings = Self {
            priority: Priority::default(),
            server_info: Mutex::new(None),
            bytes_per_second: AtomicU64::new(bytes_per_second),
            bytes: AtomicU64::new(0),
            micros: AtomicU64::new(0),
        };
        settings.widen(look_ahead);
        settings
    }

    /// Whether nobody plays what comes.
    pub(super) fn is_background(&self) -> bool {
        self.priority.is_background()
    }

    /// With the priority of the requests that are made with it.
    pub(super) fn with_priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// What the server said in its first answer. Later ones tell of a part, or of another host.
    pub(super) fn set_server_info(&self, info: impl FnOnce() -> ServerInfo) {
        self.lock_info().get_or_insert_with(|| Arc::new(info()));
    }

    /// A later answer showed that the server serves no ranges.
    pub(super) fn lose_ranges(&self) {
        if let Some(info) = &mut *self.lock_info() {
            Arc::make_mut(info).serves_ranges = false;
        }
    }

    pub(super) fn server_info(&self) -> Option<Arc<ServerInfo>> {
        self.lock_info().clone()
    }

    fn lock_info(&self) -> MutexGuard<'_, Option<Arc<ServerInfo>>> {
        // Each change is one assignment, which a panic elsewhere cannot leave half done.
        self.server_info.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_bytes_per_second(&self, bytes: u64) {
        self.bytes_per_second.store(bytes, Ordering::Relaxed);
    }

    /// Looks ahead at least so far from now on.
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

    /// Looks ahead at least as far as `other` from now on, and goes before others if `other` does.
    pub(super) fn widen_to(&self, other: &Self) {
        if !other.priority.is_background() {
            self.priority.raise();
        }
        self.bytes
            .fetch_max(other.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.micros
            .fetch_max(other.micros.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The look-ahead in bytes.
    pub(super) fn ahead(&self) -> u64 {
        let rate = u128::from(self.bytes_per_second.load(Ordering::Relaxed));
        let time = u128::from(self.micros.load(Ordering::Relaxed)) * rate / 1_000_000;
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        time.max(self.bytes.load(Ordering::Relaxed))
    }

    /// Whether the whole file is wanted.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_subscriber_that_is_gone_is_forgotten_with_the_next_one() {
        let subscribers = Subscribers::default();
        let (stays, events) = async_channel::unbounded();
        subscribers.subscribe(&stays);
        for _ in 0..1000 {
            subscribers.subscribe(&async_channel::unbounded().0);
        }
        assert!(subscribers.lock().senders.len() <= 2);
        subscribers.bypass(&Bypass::UnknownLength);
        let event = events.try_recv();
        assert!(matches!(event, Ok(FileControl::CacheBypassed { .. })));
    }

    #[test]
    fn the_widest_look_ahead_counts_at_the_rate_of_the_moment() {
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
