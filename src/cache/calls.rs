//! The calls that both faces of the cache have, each written down once: its text, its arguments, and what it does.

use bytes::Bytes;
use snafu::ensure;

use super::asset_cache::AssetCache;
use super::blocking::{BlockingCache, CacheStats};
use super::error::{CacheError, RecordTooLongSnafu};
use super::id::AssetId;
use super::parallel;
use super::partial_entry::PartialEntry;
use super::path::CachePath;
use super::store::{AssetInfo, EntryInfo};
use super::timestamp::Timestamp;

/// Bytes that a record may have.
const MAX_RECORD: usize = 4096;
/// The first byte of a stored record. It grows with the format.
const RECORD_VERSION: u8 = 1;

/// Writes each call as a blocking one, and as an async one that hops to a blocking thread with it. Arguments behind a `&` are
/// cloned for the hop. The text after `cancel` is the async call's alone.
macro_rules! calls {
    ($(
        $(#[doc = $doc:literal])*
        cancel $cancel:literal
        $name:ident($cache:ident $(, &$shared:ident: $Shared:ty)* $(; $owned:ident: $Owned:ty)?) -> $Out:ty $body:block
    )*) => {
        impl BlockingCache {$(
            $(#[doc = $doc])*
            pub fn $name(&self $(, $shared: &$Shared)* $(, $owned: $Owned)?) -> Result<$Out, CacheError> {
                let $cache = self;
                $body
            }
        )*}

        impl AssetCache {$(
            $(#[doc = $doc])*
            ///
            /// # Cancel safety
            ///
            #[doc = $cancel]
            pub async fn $name(&self $(, $shared: &$Shared)* $(, $owned: $Owned)?) -> Result<$Out, CacheError> {
                $(let $shared = $shared.clone();)*
                self.hop(move |cache| cache.$name($(&$shared,)* $($owned)?)).await
            }
        )*}
    };
}

calls! {
    /// The whole entry, or `None` if it is absent or damaged. A damaged entry is removed. Counts as an access.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    cancel "Dropping the future loses nothing."
    get(cache, &asset: AssetId, &path: CachePath) -> Option<Bytes> {
        cache.stack.store.get(asset, path)
    }

    /// Whether the entry is there: a file under its name, with a whole footer and the length that the footer tells. Cheap,
    /// since the payload is not read. A damaged entry is there until [`get`](Self::get), or a read of what
    /// [`open`](Self::open) or [`resource`](Self::resource) returned, finds the damage and removes it. Not an access.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    cancel "Dropping the future loses nothing."
    contains(cache, &asset: AssetId, &path: CachePath) -> bool {
        cache.stack.store.exists(asset, path)
    }

    /// Claims the partial file of an entry, to be filled in any order and resumed after a restart. `None` if the file is
    /// claimed already; a claim that is about to end is waited for. Counts as an access.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] if not even an empty entry fits, [`CacheError::NotSupported`] from a cache in memory,
    /// [`CacheError::Io`].
    cancel "Dropping the future ends the claim."
    partial(cache, &asset: AssetId, &path: CachePath) -> Option<PartialEntry> {
        let partial = cache.stack.store.partial(asset, path)?;
        // An access by itself: a claim without a write leaves nothing that a later call could count as one.
        cache.accounts().touch(asset, Timestamp::default())?;
        Ok(partial.map(|partial| PartialEntry::new(partial, cache, asset, path)))
    }

    /// Stores a whole entry, in the place of an old version if there is one. A reader finds the old version or the new one,
    /// also after a crash.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] if it does not fit, [`CacheError::Io`]. The old version stays.
    cancel "If the future is dropped, either the old version or the new one stays."
    put_atomic(cache, &asset: AssetId, &path: CachePath; bytes: Bytes) -> () {
        cache.stack.store.put(asset, path, bytes)?;
        cache.tidy();
        Ok(())
    }

    /// Removes one entry. `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    cancel "If the future is dropped, the entry may still be removed."
    remove_entry(cache, &asset: AssetId, &path: CachePath) -> bool {
        Ok(cache.stack.store.remove_entry(asset, path)?.is_some())
    }

    /// Removes an asset. `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::InUse`] if it is leased, pinned or being written; [`CacheError::Unremovable`]; [`CacheError::Io`].
    cancel "If the future is dropped, the asset may still be removed."
    remove(cache, &asset: AssetId) -> bool {
        let removed = cache.stack.store.remove(asset)?.is_some();
        cache.tidy();
        Ok(removed)
    }

    /// Removes every asset that is not leased, pinned or being written. Returns how many stay.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. Some assets may be removed by then.
    cancel "If the future is dropped, assets may still be removed."
    clear(cache) -> u64 {
        let mut kept = 0;
        cache.stack.evictor.ready()?;
        for info in cache.stack.store.list()? {
            // Leased or pinned since it was listed, or before: it stays, and the others still go.
            match cache.stack.store.remove(&info.id) {
                Err(CacheError::InUse { .. } | CacheError::Unremovable { .. }) => kept += 1,
                removed => drop(removed?),
            }
        }
        cache.tidy();
        Ok(kept)
    }

    /// Pins an asset, durably: it is not evicted in this session or a later one until it is unpinned. Counts as an access.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] if the pin does not fit, [`CacheError::NotSupported`] from a store without pins,
    /// [`CacheError::Io`].
    cancel "If the future is dropped, the asset may still be pinned."
    pin(cache, &asset: AssetId) -> () {
        cache.stack.store.set_pinned(asset, true)
    }

    /// Removes the pin of an asset.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    cancel "If the future is dropped, the asset may still be unpinned."
    unpin(cache, &asset: AssetId) -> () {
        cache.stack.store.set_pinned(asset, false)
    }

    /// Changes the limit. A lower one takes effect at once: assets are evicted until it is kept. Where what is leased, pinned
    /// or being written needs more than that, all else is evicted, and writes are refused.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] or [`CacheError::Unremovable`] if assets could not be removed and the limit is not kept. It holds
    /// all the same.
    cancel "If the future is dropped, the limit may still change."
    set_max_bytes(cache; bytes: u64) -> () {
// Also after an error: what could be removed is in the trash, and counts until it is emptied.
        let trimmed = cache.stack.evictor.set_max_bytes(bytes);
        cache.tidy();
        trimmed
    }

    /// What is known of one asset; `None` if it has neither entries nor a pin.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    cancel "Dropping the future loses nothing."
    asset(cache, &asset: AssetId) -> Option<AssetInfo> {
        cache.stack.evictor.ready()?;
        let info = cache.stack.store.asset(asset)?;
        Ok(info.map(|info| cache.accounts().keyed(info)))
    }

    /// All assets, the least recently used first. The id of each has its key, read from its files: one small read for an asset
    /// with a [record](Self::record), and one more to list its directory for any other. An asset that has neither an entry nor a
    /// record, but a pin or the beginning of an entry, does not tell its key.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    cancel "Dropping the future loses nothing."
    assets(cache) -> Vec<AssetInfo> {
        cache.stack.evictor.ready()?;
        let assets = cache.stack.store.list()?;
        let mut assets = parallel::map(&assets, |info| Ok(cache.accounts().keyed(info.clone())))?;
        assets.sort_by_key(|info| info.last_access);
        Ok(assets)
    }

    /// The app's own record of an asset, as [`set_record`](Self::set_record) stored it; `None` if there is none, or if it was
    /// damaged on the disk. Not an access.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    cancel "Dropping the future loses nothing."
    record(cache, &asset: AssetId) -> Option<Bytes> {
        // Asked of the layer below the one that counts accesses.
        let found = cache.stack.evictor.inner.get(asset, &CachePath::record())?;
        let version = found.as_ref().and_then(|found| found.first());
        // One of a later version is not this one's to read. It stays until it is replaced.
        let known = version == Some(&RECORD_VERSION);
        Ok(found.filter(|_| known).map(|found| found.slice(1..)))
    }

    /// Stores a record of up to 4096 bytes beside an asset's entries, in the place of the old one: a title, an artist, whatever a
    /// list of assets is to show. An empty one removes it. It is an entry like any other, durable and whole, counts under the
    /// limit and leaves with its asset, but [`entries`](Self::entries) does not list it. Not an access, unless the asset is new.
    ///
    /// # Errors
    ///
    /// [`CacheError::RecordTooLong`]; [`CacheError::CacheFull`] if it does not fit; [`CacheError::Io`]. The old record stays.
    cancel "If the future is dropped, either the old record or the new one stays."
    set_record(cache, &asset: AssetId; record: Bytes) -> () {
        let (len, max_bytes) = (record.len(), MAX_RECORD);
        ensure!(len <= max_bytes, RecordTooLongSnafu { len, max_bytes });
        if record.is_empty() {
            return cache.remove_entry(asset, &CachePath::record()).map(drop);
        }
        cache.put_atomic(asset, &CachePath::record(), [&[RECORD_VERSION], &record[..]].concat().into())
    }

    /// The entries of one asset, in the order of their paths.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    cancel "Dropping the future loses nothing."
    entries(cache, &asset: AssetId) -> Vec<EntryInfo> {
// Not sorted by the stores, which list in whatever order is cheap for them.
        let mut entries = cache.stack.store.entries(asset)?;
        let record = CachePath::record();
        entries.retain(|entry| entry.path != record);
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// The figures of the whole cache.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    cancel "Dropping the future loses nothing."
    stats(cache) -> CacheStats {
        cache.stack.evictor.ready()?;
        // All of them under one lock, so that they belong together.
        let locked = cache.accounts().lock()?;
        let mut stats = CacheStats {
            bytes: locked.used_bytes(),
            max_bytes: locked.max_bytes,
            policy_panicked: locked.policy_panicked(),
            ..CacheStats::default()
        };
        for info in locked.infos() {
            stats.assets += 1;
            stats.asset_bytes += info.bytes;
            stats.entries += info.files;
            stats.leased += u64::from(info.leased);
            stats.pinned += u64::from(info.pinned);
        }
        Ok(stats)
    }

    /// Evicts what the policy lets go, makes recency and sizes durable, and empties the trash.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The entries themselves are safe.
    cancel "If the future is dropped, the checkpoint may still be written."
    checkpoint(cache) -> () {
        cache.stack.evictor.checkpoint()
    }
}
