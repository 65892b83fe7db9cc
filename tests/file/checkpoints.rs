//! F3: what a process that is killed at any moment has on the disk.

use std::path::Path;
use std::time::Instant;

use futures_lite::future::{block_on, poll_once};
use kithara::cache::AssetCache;
use kithara::file::{FileError, FileParams, FileParts, FileSource, LookAhead, OpenMode};
use kithara_test_support::Rule;

use crate::*;

/// What a process finds that opens the cache after the one at work was killed now: of `len` bytes, how many are there.
fn found_after_a_kill(stage: &Stage) -> u64 {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(stage.root.path(), copy.path());
    let cache = open_cache(copy.path(), 256 * MIB);
    let source = FileSource::new(stage.url(), FileParams::new(client(), cache));
    match block_on(source.open_reader(OpenMode::Offline)) {
        Ok(_) => stage.len,
        Err(FileError::OfflineMiss { missing, len, .. }) => {
            let gaps = missing.iter().map(|gap| gap.end - gap.start).sum::<u64>();
            len.map_or(0, |len| len - gaps)
        }
        Err(error) => panic!("{error}"),
    }
}

/// A kill leaves what the system has of each file, synced or not. A file that is replaced meanwhile may be seen or not.
fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            drop(std::fs::copy(entry.path(), target));
        }
    }
}

/// Fault W26: half of a file under 8 MiB, whose rest is still to come.
#[test]
fn w26_a_short_file_that_is_killed_on_its_way_is_not_fetched_again() {
    for (len, there) in [(6 * MIB, 3 * MIB), (MIB, 512 * KIB), (300 * KIB, 100 * KIB)] {
        let stage = Stage::new(len);
        let gate = stage.server.gate();
        stage
            .server
            .rule("/a.bin", Rule::new().first(1).gate_after(there, &gate));
        let reader = stage.reader();
        // For less than the client waits for more bytes: a download that fails is recorded in any case.
        let start = Instant::now();
        while found_after_a_kill(&stage) < there {
            assert!(
                start.elapsed() < LONG / 2,
                "{} of {there}",
                found_after_a_kill(&stage)
            );
            std::thread::yield_now();
        }
        drop(reader);
    }
}

/// F3: and bytes that no more follow, as a reader has its look-ahead: they are recorded all the same.
#[test]
fn what_waits_for_its_reader_is_recorded() {
    let stage = Stage::new(64 * MIB);
    let params = stage.params().look_ahead(LookAhead::Bytes(4 * MIB));
    let source = FileSource::new(stage.url(), params);
    let reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    let start = Instant::now();
    while found_after_a_kill(&stage) < 3 * MIB {
        assert!(start.elapsed() < LONG);
        std::thread::yield_now();
    }
    drop(reader);
}

/// F3: what came two seconds ago, or all but 1 MiB of it, is there at any moment of a download that takes a while.
#[test]
fn at_any_moment_little_is_lost() {
    let stage = Stage::new(8 * MIB);
    stage.server.rule("/a.bin", Rule::new().trickle(2 * MIB));
    let reader = stage.reader();
    let came = || {
        let ranges = reader.resource().available();
        ranges.iter().map(|range| range.end - range.start).sum::<u64>()
    };
    let mut history: Vec<(Instant, u64)> = vec![(Instant::now(), 0)];
    let (mut found_most, mut moments) = (0, 0);
    while came() < stage.len {
        let (now, there) = (Instant::now(), came());
        history.push((now, there));
        let found = found_after_a_kill(&stage);
        let long_ago = history
            .iter()
            .rev()
            // A second more than promised for a machine that is busy with other tests.
            .find(|(at, _)| now.duration_since(*at) > Duration::from_secs(3));
        let owed = long_ago
            .map_or(0, |(_, then)| *then)
            .min(there.saturating_sub(MIB));
        assert!(found >= owed, "{found} of {there}, {owed} are owed");
        (found_most, moments) = (found_most.max(found), moments + 1);
    }
    assert!(found_most > 0 && moments > 3, "{found_most}, {moments}");
}

/// Nothing is recorded of a file that a later session could not go on from, and nothing keeps a driver busy that has
/// nothing to record.
#[test]
fn without_a_validator_there_is_nothing_to_record() {
    let stage = Stage::new(4 * MIB);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().without_validators().gate_after(MIB, &gate));
    let FileParts {
        reader, mut driver, ..
    } = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    while !reader.resource().missing(0..MIB).is_empty() {
        assert!(block_on(poll_once(&mut driver)).is_none());
    }
    assert_eq!(found_after_a_kill(&stage), 0);
}

/// The copy of a cache is one, or these tests prove nothing.
#[test]
fn the_copy_of_a_cache_is_one() {
    let stage = Stage::new(MIB);
    assert_rest(&mut stage.reader(), 0, stage.len);
    let cache: &AssetCache = &stage.cache;
    while !block_on(cache.contains(&stage.source().asset().unwrap(), &stage.source().path().unwrap()))
        .unwrap()
    {
        std::thread::yield_now();
    }
    assert_eq!(found_after_a_kill(&stage), stage.len);
}
