//! Partial entries: counted, protected, resumed, and one rename from being an entry.

use std::io;
use std::path::Path;

use kithara::cache::{AssetCache, CacheError, CachePath, Durability};
use kithara::storage::{Found, StreamingResource};

use crate::{asset, open};

type Resource = StreamingResource<io::Error>;

fn name() -> CachePath {
    CachePath::parse("track.mp3").unwrap()
}

/// Bytes that files under `root` take, holes left out.
fn disk(root: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        bytes += if meta.is_dir() {
            disk(&entry.path())
        } else {
            allocated(&meta)
        };
    }
    bytes
}

#[cfg(unix)]
fn allocated(meta: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    meta.len().min(meta.blocks() * 512)
}

#[cfg(not(unix))]
fn allocated(meta: &std::fs::Metadata) -> u64 {
    meta.len()
}

/// R3, C2, fault B13.
#[test]
fn a_partial_entry_is_no_entry_until_its_commit_and_then_is_one() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 1 << 20);
    let (track, path) = (asset("a"), name());
    let partial = cache.partial(&track, &path).unwrap().unwrap();
    let resource: Resource = partial.open().unwrap();
    let mut writer = resource.writer().unwrap();
    writer.write_at(3, b"def").unwrap();
    assert!(!cache.contains(&track, &path).unwrap());
    assert!(cache.get(&track, &path).unwrap().is_none());
    assert!(
        partial
            .commit(&mut writer, 6)
            .unwrap_err()
            .to_string()
            .contains("lacks")
    );
    assert!(!cache.contains(&track, &path).unwrap());

    writer.write_at(0, b"abc").unwrap();
    partial.commit(&mut writer, 6).unwrap();
    assert_eq!(cache.get(&track, &path).unwrap().unwrap(), "abcdef");
    assert!(
        cache
            .open(&track, &path)
            .unwrap()
            .unwrap()
            .verify(&track, &path)
            .unwrap()
    );
    let info = cache.asset(&track).unwrap().unwrap();
    assert_eq!((info.files, info.leased), (1, true));
    drop((writer, resource, partial));
    let info = cache.asset(&track).unwrap().unwrap();
    assert!(!info.leased);
    assert_eq!(info.bytes, cache.stats().unwrap().bytes.min(info.bytes));

    let whole: Resource = cache.resource(&track, &path).unwrap().unwrap();
    assert_eq!(whole.len(), Some(6));
    let mut buffer = [0; 16];
    assert_eq!(whole.read_at(2, &mut buffer).unwrap(), Found::Bytes(4));
    assert!(
        cache.asset(&track).unwrap().unwrap().leased,
        "as long as it is read"
    );
    drop(whole);
    assert!(!cache.asset(&track).unwrap().unwrap().leased);
}

/// C5: the bytes of a partial file count as they come, evict others, and are refused where nothing can go.
#[test]
fn growth_evicts_others_and_is_refused_where_nothing_can_go() {
    const LIMIT: u64 = 400_000;
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), LIMIT);
    let path = name();
    for old in ["old", "older"] {
        cache
            .put_atomic(&asset(old), &path, vec![1; 100_000].into())
            .unwrap();
    }
    let partial = cache.partial(&asset("new"), &path).unwrap().unwrap();
    partial.expect_len(380_000).unwrap();
    let resource: Resource = partial.open().unwrap();
    let mut writer = resource.writer().unwrap();
    let refused = loop {
        // Every second piece, so that the file has holes.
        let at = resource.stored_bytes() * 2;
        match writer.write_at(at, &[7; 16_384]) {
            Ok(_) => assert!(disk(root.path()) <= LIMIT, "at {at}"),
            Err(error) => break error,
        }
    };
    assert!(refused.is_full(), "{refused}");
    assert!(cache.asset(&asset("old")).unwrap().is_none());
    assert!(cache.asset(&asset("older")).unwrap().is_none());
    assert!(resource.stored_bytes() > 350_000, "{}", resource.stored_bytes());
    assert!(matches!(
        cache.put_atomic(&asset("third"), &path, vec![1; 100_000].into()),
        Err(CacheError::CacheFull { .. })
    ));
    assert!(matches!(
        cache.remove(&asset("new")),
        Err(CacheError::InUse { .. })
    ));

    // Without its claim it can be evicted like any other asset.
    drop((writer, resource, partial));
    cache
        .put_atomic(&asset("third"), &path, vec![1; 100_000].into())
        .unwrap();
    assert!(cache.asset(&asset("new")).unwrap().is_none());
    assert!(disk(root.path()) <= LIMIT);
}

/// R3, C5: what was recorded is resumed by the next session, and counts there.
#[test]
fn a_partial_entry_survives_a_restart_and_counts() {
    let root = tempfile::tempdir().unwrap();
    let (track, path) = (asset("a"), name());
    {
        let cache = open(root.path(), 1 << 20);
        let partial = cache.partial(&track, &path).unwrap().unwrap();
        let resource: Resource = partial.open().unwrap();
        let mut writer = resource.writer().unwrap();
        writer.set_len(500_000).unwrap();
        writer.write_at(0, &vec![1; 40_000]).unwrap();
        writer.write_at(450_000, &vec![2; 50_000]).unwrap();
        let checkpoint = writer.checkpoint();
        partial.reserve_record(&checkpoint).unwrap();
        checkpoint.run().unwrap();
        drop((writer, resource, partial));
        let bytes = cache.stats().unwrap().bytes;
        assert!((90_000..140_000).contains(&bytes), "{bytes}");
    }
    let cache = open(root.path(), 1 << 20);
    let bytes = cache.stats().unwrap().bytes;
    assert!((90_000..140_000).contains(&bytes), "{bytes}");
    let partial = cache.partial(&track, &path).unwrap().unwrap();
    let reopened = cache.stats().unwrap().bytes;
    assert!((90_000..140_000).contains(&reopened), "counted once: {reopened}");
    let resource: Resource = partial.open().unwrap();
    assert_eq!(resource.available(), [0..40_000, 450_000..500_000]);
    drop((resource, partial));
    assert!(cache.remove(&track).unwrap());
    cache.checkpoint().unwrap();
    assert!(disk(root.path()) < 10_000);
}

/// C10: bytes that no record vouches for are of no use to anybody.
#[test]
fn a_partial_file_without_a_record_is_swept() {
    let root = tempfile::tempdir().unwrap();
    let (track, path) = (asset("a"), name());
    {
        let cache = open(root.path(), 1 << 20);
        let partial = cache.partial(&track, &path).unwrap().unwrap();
        let resource: Resource = partial.open().unwrap();
        resource.writer().unwrap().write_at(0, &vec![1; 40_000]).unwrap();
    }
    let cache = open(root.path(), 1 << 20);
    assert!(cache.stats().unwrap().bytes < 30_000, "the index alone");
    assert!(disk(root.path()) < 10_000);
}

/// Fault C12, C26: one claim at a time; the next one is granted when it has ended.
#[test]
fn one_at_a_time_has_a_partial_entry() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 1 << 20);
    let (track, path) = (asset("a"), name());
    let first = cache.partial(&track, &path).unwrap().unwrap();
    assert!(cache.partial(&track, &path).unwrap().is_none());
    let other = CachePath::parse("other.mp3").unwrap();
    assert!(cache.partial(&track, &other).unwrap().is_some());
    let resource: Resource = first.open().unwrap();
    first.closing();
    std::thread::scope(|scope| {
        let next = scope.spawn(|| cache.partial(&track, &path).unwrap());
        drop((first, resource));
        assert!(next.join().unwrap().is_some());
    });
}

/// A cache in memory keeps no files.
#[test]
fn a_cache_in_memory_says_that_it_has_no_files() {
    let cache = AssetCache::memory(1 << 20);
    let refused = cache.blocking().partial(&asset("a"), &name());
    assert!(matches!(refused, Err(CacheError::NotSupported { .. })));
}

/// R3: what is claimed and never written leaves no trace, and the first write makes what is needed, also for the next
/// process.
#[test]
fn a_claim_makes_nothing_before_the_first_write() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 1 << 20);
    let (track, path) = (asset("a"), name());
    let made = || {
        let assets = std::fs::read_dir(root.path().join("assets")).unwrap();
        assets.flatten().count()
    };
    let partial = cache.partial(&track, &path).unwrap().unwrap();
    let resource: Resource = partial.open().unwrap();
    assert_eq!(resource.available(), []);
    assert_eq!(made(), 0);
    assert!(
        cache.partial(&track, &path).unwrap().is_none(),
        "claimed all the same"
    );
    let mut writer = resource.writer().unwrap();
    writer.write_at(3, b"def").unwrap();
    assert_eq!(made(), 1);
    let mut buffer = [0; 8];
    assert_eq!(resource.read_at(3, &mut buffer).unwrap(), Found::Bytes(3));
    assert_eq!(&buffer[..3], b"def");
    writer.checkpoint().run().unwrap();
    drop((writer, resource, partial));
    cache.close();

    let cache = open(root.path(), 1 << 20);
    let partial = cache.partial(&track, &path).unwrap().unwrap();
    let resource: Resource = partial.open().unwrap();
    assert_eq!(resource.stored_bytes(), 3);
    let mut writer = resource.writer().unwrap();
    writer.write_at(0, b"abc").unwrap();
    partial.commit(&mut writer, 6).unwrap();
    assert_eq!(cache.get(&track, &path).unwrap().unwrap(), "abcdef");
}

/// What the files of a root take on the disk.
#[cfg(unix)]
fn blocks(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let taken = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => blocks(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    std::fs::read_dir(dir).unwrap().flatten().map(taken).sum()
}

/// W46, C33: single bytes far apart count by the units they take: while they are written, when the claim has ended, and in the next
/// session.
#[cfg(unix)]
#[test]
fn w46_bytes_far_apart_count_by_their_units_in_memory_and_at_open() {
    const EACH: u64 = 300;
    let root = tempfile::tempdir().unwrap();
    let (track, path) = (asset("a"), name());
    let cache = open(root.path(), 8 << 20);
    let partial = cache.partial(&track, &path).unwrap().unwrap();
    let resource: Resource = partial.open().unwrap();
    let mut writer = resource.writer().unwrap();
    let before = cache.stats().unwrap().bytes;
    for n in 0..EACH {
        writer.write_at(n * 8192 + 5000, b"x").unwrap();
    }
    // A second byte in each unit takes nothing.
    for n in 0..EACH {
        writer.write_at(n * 8192 + 8191, b"x").unwrap();
    }
    // And the list of so many pieces.
    assert_eq!(cache.stats().unwrap().bytes - before, (EACH + 2) * 4096);
    let checkpoint = writer.checkpoint();
    partial.reserve_record(&checkpoint).unwrap();
    checkpoint.run().unwrap();
    drop((writer, resource, partial));
    let record = (600 * 20_u64 + 100).next_multiple_of(4096);
    let taken = cache.stats().unwrap().asset_bytes;
    let on_disk = blocks(&root.path().join("assets"));
    assert!(
        on_disk <= taken && taken <= on_disk + 2 * 4096,
        "{on_disk}, {taken}"
    );
    if cfg!(target_os = "linux") {
        assert_eq!(taken, (EACH + 2) * 4096 + record);
    }
    cache.close();
    let cache = open(root.path(), 8 << 20);
    assert_eq!(cache.stats().unwrap().asset_bytes, taken);
    // Claimed again it counts the same, and what is there already takes nothing.
    let partial = cache.partial(&track, &path).unwrap().unwrap();
    let resource: Resource = partial.open().unwrap();
    let before = cache.stats().unwrap().bytes;
    let mut writer = resource.writer().unwrap();
    writer.write_at(4096, &[b'y'; 904]).unwrap();
    // The scan after opening may change the index by a row meanwhile.
    let about = |bytes: u64| cache.stats().unwrap().bytes.abs_diff(bytes) < 200;
    assert!(about(before));
    writer.write_at(0, b"y").unwrap();
    assert!(about(before + 4096));
}

/// W46, C5: jumping about in a file ends at the limit, and the disk is not over it.
#[cfg(unix)]
#[test]
fn w46_jumping_about_in_a_file_ends_at_the_limit() {
    const LIMIT: u64 = 1 << 20;
    let root = tempfile::tempdir().unwrap();
    let (track, path) = (asset("a"), name());
    let cache = open(root.path(), LIMIT);
    let partial = cache.partial(&track, &path).unwrap().unwrap();
    let resource: Resource = partial.open().unwrap();
    let mut writer = resource.writer().unwrap();
    let written = (0..20_000_u64)
        .take_while(|n| writer.write_at(n * 8192, b"x").is_ok())
        .count();
    assert!((200..256).contains(&written), "{written}");
    assert!(blocks(root.path()) <= LIMIT, "{}", blocks(root.path()));
    // A refused write takes nothing.
    let before = cache.stats().unwrap().bytes;
    let error = writer.write_at(1 << 30, &vec![0; 1 << 20]).unwrap_err();
    assert!(error.is_full(), "{error}");
    assert_eq!(cache.stats().unwrap().bytes, before);
}

/// W46, C5: thousands of small entries count by what they take, not by their lengths.
#[cfg(unix)]
#[test]
fn w46_small_entries_count_by_their_units() {
    const LIMIT: u64 = 2 << 20;
    let root = tempfile::tempdir().unwrap();
    let builder = AssetCache::builder(root.path())
        .max_bytes(LIMIT)
        .durability(Durability::Ordered);
    let opened = builder.open_blocking().unwrap();
    let cache = opened.blocking();
    for n in 0..800 {
        cache
            .put_atomic(&asset(&n.to_string()), &name(), vec![1; 200].into())
            .unwrap();
    }
    cache.checkpoint().unwrap();
    let assets = cache.stats().unwrap().assets;
    assert!((300..512).contains(&assets), "{assets}");
    assert!(blocks(root.path()) <= LIMIT, "{}", blocks(root.path()));
}

/// W11, C33: a partial file evicts no more than its share until its length is known, and nothing at all if that can never fit.
#[test]
fn w11_a_partial_file_that_can_never_fit_evicts_nothing() {
    let root = tempfile::tempdir().unwrap();
    let cache = crate::ordered(root.path(), 1_000_000);
    for n in 0..9 {
        cache
            .put_atomic(
                &asset(&n.to_string()),
                &crate::path("x"),
                crate::bytes(100_000, 1),
            )
            .unwrap();
    }
    let left = || {
        (0..9)
            .filter(|n| cache.contains(&asset(&n.to_string()), &crate::path("x")).unwrap())
            .count()
    };
    let huge = cache.partial(&asset("huge"), &crate::path("x")).unwrap().unwrap();
    assert!(huge.expect_len(1_000_000).unwrap_err().is_full());
    assert_eq!(left(), 9);
    let resource = huge.open::<io::Error>().unwrap();
    let mut writer = resource.writer().unwrap();
    let mut at = 0;
    let refused = loop {
        match writer.write_at(at, &crate::bytes(50_000, 2)) {
            Ok(new) => at += new,
            Err(error) => break error,
        }
    };
    assert!(refused.is_full(), "{refused}");
    assert!((6..9).contains(&left()), "{}", left());
    // Its length is known, and it fits.
    huge.expect_len(700_000).unwrap();
    while at < 700_000 {
        at += writer.write_at(at, &crate::bytes(50_000, 2)).unwrap();
    }
    huge.commit(&mut writer, 700_000).unwrap();
    assert!(left() <= 2);
    drop((writer, resource, huge));
    crate::check(&cache, root.path());
}
