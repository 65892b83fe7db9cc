//! What the child processes do, and what must hold whatever became of them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use kithara::cache::{AssetCache, AssetId, BlockingCache, CacheError, CachePath};

pub(crate) const MAX_BYTES: u64 = 400_000;

/// What a child does between the marks in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    Put,
    Overwrite,
    /// A body in batches, of a length not known before.
    Stream,
    /// A put for which several assets have to go.
    Evict,
    Remove,
    RemoveEntry,
    /// Another record in the place of the one that was there.
    Record,
    Pin,
    Unpin,
    Checkpoint,
    /// Opens a cache with entries, reads one, and closes it.
    Open,
    /// Opens a root that is not there yet.
    Create,
}

pub(crate) const SCENES: [Scene; 12] = [
    Scene::Put,
    Scene::Overwrite,
    Scene::Stream,
    Scene::Evict,
    Scene::Remove,
    Scene::RemoveEntry,
    Scene::Record,
    Scene::Pin,
    Scene::Unpin,
    Scene::Checkpoint,
    Scene::Open,
    Scene::Create,
];

pub(crate) fn asset(name: &str) -> AssetId {
    AssetId::from_key(name).unwrap()
}

pub(crate) fn path(name: &str) -> CachePath {
    CachePath::parse(name).unwrap()
}

/// The bytes of a version, which differ from every other version's.
pub(crate) fn content(version: u8, len: usize) -> Bytes {
    let mut state = u32::from(version) + 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(len.max(1)).collect();
    bytes[0] = version;
    bytes.into()
}

/// The version that bytes are, whole.
pub(crate) fn version(bytes: &Bytes) -> u8 {
    assert_eq!(*bytes, content(bytes[0], bytes.len()), "mixed or partial");
    bytes[0]
}

pub(crate) fn open(root: &Path) -> Result<AssetCache, CacheError> {
    AssetCache::builder(root).max_bytes(MAX_BYTES).open_blocking()
}

/// What stands before the scene: three assets of two entries each, the first pinned.
pub(crate) fn prepare(cache: &BlockingCache) {
    for (n, name) in ["kept", "old", "new"].into_iter().enumerate() {
        for (m, entry) in ["a", "b"].into_iter().enumerate() {
            let version = u8::try_from(10 * n + m).unwrap();
            cache
                .put_atomic(&asset(name), &path(entry), content(version, 40_000))
                .unwrap();
        }
    }
    cache.set_record(&asset("kept"), content(30, 100)).unwrap();
    cache.pin(&asset("kept")).unwrap();
    cache.get(&asset("new"), &path("a")).unwrap();
}

impl Scene {
    /// Plays the scene on a cache that was prepared.
    pub(crate) fn play(self, cache: &AssetCache) -> Result<(), CacheError> {
        let blocking = cache.blocking();
        match self {
            Self::Put => blocking.put_atomic(&asset("fresh"), &path("a"), content(99, 50_000)),
            Self::Overwrite => blocking.put_atomic(&asset("old"), &path("a"), content(99, 30_000)),
            Self::Stream => futures_lite::future::block_on(async {
                let mut writer = cache.writer(&asset("fresh"), &path("a")).await?;
                for part in 0..5 {
                    writer
                        .write(content(99, 50_000).slice(part * 10_000..(part + 1) * 10_000))
                        .await?;
                }
                writer.commit().await
            }),
            Self::Evict => blocking.put_atomic(&asset("fresh"), &path("a"), content(99, 250_000)),
            // With its trash emptied.
            Self::Remove => blocking.remove(&asset("old")).and_then(|_| blocking.checkpoint()),
            Self::RemoveEntry => blocking.remove_entry(&asset("old"), &path("a")).map(drop),
            Self::Record => blocking.set_record(&asset("kept"), content(31, 200)),
            Self::Pin => blocking.pin(&asset("old")),
            Self::Unpin => blocking.unpin(&asset("kept")),
            Self::Checkpoint => blocking.checkpoint(),
            Self::Open | Self::Create => Ok(()),
        }
    }

    /// What may be found at `name` afterwards: versions, and whether nothing may be.
    fn allowed(self, name: (&str, &str), done: bool) -> (Vec<u8>, bool) {
        let before = match name {
            ("kept", "a") => Some(0),
            ("kept", "b") => Some(1),
            ("old", "a") => Some(10),
            ("old", "b") => Some(11),
            ("new", "a") => Some(20),
            ("new", "b") => Some(21),
            _ => None,
        };
        let written = match self {
            Self::Put | Self::Stream | Self::Evict => name == ("fresh", "a"),
            Self::Overwrite => name == ("old", "a"),
            _ => false,
        };
        let gone = match self {
            Self::Remove => name.0 == "old",
            Self::RemoveEntry => name == ("old", "a"),
            Self::Evict => name.0 == "old" || name.0 == "new",
            Self::Create => true,
            _ => false,
        };
        let mut versions: Vec<u8> = before.into_iter().collect();
        if written {
            if done {
                versions.clear();
            }
            versions.push(99);
        }
        (versions, gone || before.is_none() && !(written && done))
    }

    /// Checks the root a child has left. `done`: it said that the scene had succeeded. `full`: its disk was, and so it
    /// may have evicted.
    pub(crate) fn check(self, root: &Path, done: bool, full: bool) {
        let cache = open(root).unwrap();
        let found = view(cache.blocking());
        for name in ["kept", "old", "new", "fresh"]
            .into_iter()
            .flat_map(|asset| [(asset, "a"), (asset, "b")])
        {
            let (versions, none) = self.allowed(name, done);
            match found.get(&name) {
                Some(version) => assert!(
                    versions.contains(version),
                    "{name:?} is {version}, not of {versions:?}"
                ),
                None => assert!(none || full && name.0 != "kept", "{name:?} is gone"),
            }
        }
        for name in ["old", "new"].into_iter().filter(|_| self != Self::RemoveEntry) {
            let [a, b] = ["a", "b"].map(|entry| found.contains_key(&(name, entry)));
            // On a full disk the asset that is written to may have to go first.
            assert!(a == b || full, "half of {name} is gone");
        }
        let pinned = |name| {
            cache
                .blocking()
                .asset(&asset(name))
                .unwrap()
                .is_some_and(|info| info.pinned)
        };
        assert!(
            pinned("kept") || matches!(self, Self::Unpin | Self::Create),
            "the pin is gone"
        );
        assert!(!pinned("old") || self == Self::Pin, "a pin nobody made");
        if done {
            assert_eq!(
                (pinned("kept"), pinned("old")),
                (!matches!(self, Self::Unpin | Self::Create), self == Self::Pin)
            );
        }
        let record = cache
            .blocking()
            .record(&asset("kept"))
            .unwrap()
            .as_ref()
            .map(version);
        let (old, new) = (Some(30), Some(31));
        let may_be_old = self != Self::Record || !done;
        assert!(
            record == old && may_be_old || record == new && self == Self::Record || self == Self::Create,
            "the record is {record:?}"
        );
        // W41: by what is left of them.
        for info in cache.blocking().assets().unwrap() {
            let named = ["kept", "old", "new", "fresh"]
                .map(asset)
                .into_iter()
                .find(|id| *id == info.id);
            assert_eq!(info.id.key(), named.as_ref().and_then(AssetId::key), "{info:?}");
        }
        sound(root, &cache);
    }
}

/// The version under each name.
fn view(cache: &BlockingCache) -> BTreeMap<(&'static str, &'static str), u8> {
    let mut found = BTreeMap::new();
    for name in ["kept", "old", "new", "fresh"] {
        for entry in ["a", "b"] {
            if let Some(bytes) = cache.get(&asset(name), &path(entry)).unwrap() {
                found.insert((name, entry), version(&bytes));
            }
        }
    }
    found
}

/// Nothing of the cache's own is left over, the accounts equal the disk, the limit holds, and the cache works.
pub(crate) fn sound(root: &Path, cache: &AssetCache) {
    futures_lite::future::block_on(cache.progress().finished());
    cache.blocking().checkpoint().unwrap();
    let stats = cache.blocking().stats().unwrap();
    let is_passing = |(file, _): &(String, u64)| {
        file.contains("/.") && !file.ends_with("/.pin") || file.starts_with("trash/")
    };
    let mut files = self::files(root);
    if files.iter().any(is_passing) {
        // The cache may have been writing its index by itself just now. This waits for it.
        cache.blocking().checkpoint().unwrap();
        files = self::files(root);
    }
    assert!(!files.iter().any(is_passing), "left over: {files:?}");
    let on_disk: u64 = files
        .iter()
        .filter(|(file, _)| file.starts_with("assets/"))
        .map(|(_, len)| len)
        .sum();
    assert_eq!(stats.asset_bytes, on_disk, "accounts and disk differ: {files:?}");
    assert!(
        stats.bytes >= files.iter().map(|(_, len)| len).sum(),
        "more on disk than counted: {files:?}"
    );
    cache
        .blocking()
        .put_atomic(&asset("later"), &path("a"), content(50, 1000))
        .unwrap();
    let entry = cache
        .blocking()
        .get(&asset("later"), &path("a"))
        .unwrap()
        .unwrap();
    assert_eq!(version(&entry), 50);
    assert!(du(root) <= MAX_BYTES);
}

/// Closes a cache and waits until its root is free.
pub(crate) fn close(cache: AssetCache) {
    futures_lite::future::block_on(cache.close());
}

/// All files below `root`, with their lengths.
pub(crate) fn files(root: &Path) -> Vec<(String, u64)> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<(String, u64)>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.symlink_metadata() {
                Ok(meta) if meta.is_dir() => walk(root, &path, found),
                Ok(meta) => found.push((path.strip_prefix(root).unwrap().display().to_string(), meta.len())),
                Err(_) => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found
}

pub(crate) fn du(root: &Path) -> u64 {
    files(root).iter().map(|(_, len)| len).sum()
}

/// Says something past the capture of the test harness.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
