//! Power cuts over add, progress, completion and removal: no state lies (O1, O4).

use std::path::Path;
use std::sync::Arc;

use kithara::cache::testing::fs_store;
use kithara::cache::{CacheError, Durability};
use kithara::offline::{DownloadId, Downloads, State};
use kithara::storage::testing::{Dice, FakeDisk};

use crate::queue::{file, hls, run_all, run_until};
use crate::*;
use kithara_test_support::Rule;

fn open_on(disk: &FakeDisk) -> Result<AssetCache, CacheError> {
    let store = fs_store(Arc::new(disk.clone()), Path::new("/"), Durability::Full)?;
    AssetCache::builder("")
        .store(store)
        .max_bytes(256 * MIB)
        .open_blocking()
}

pub fn downloads_on(disk: &FakeDisk) -> (AssetCache, Downloads) {
    let cache = open_on(disk).unwrap();
    let access = Access::new(client(), cache.clone());
    (cache, block_on(Downloads::builder(access).open()).unwrap())
}

/// O1, O4, O6: after a cut at any change what is said to be completed verifies, what was answered is known, and what was removed
/// comes back as removing at most. Files and tracks, plain and AES, half a file among them.
#[test]
fn o1_no_state_lies_after_a_power_cut() {
    let stage = Stage::new();
    stage
        .server
        .serve("/half.bin", Content::pattern(&pattern(), 3 * MIB));
    let disk = FakeDisk::default();
    let (cache, downloads) = downloads_on(&disk);
    let add = |request| block_on(downloads.add(request)).unwrap();
    let kept = [add(hls(&stage, ENCRYPTED)), add(file(&stage, "/a.bin"))];
    let known = disk.changes();
    let ts = add(hls(&stage, "/hls/ts/playlist.m3u8"));
    run_all(&downloads);
    let completed = disk.changes();
    // More than a MiB, so that some of it is recorded.
    stage.server.rule("/half.bin", Rule::new().stall_after(2 * MIB));
    let half = add(file(&stage, "/half.bin"));
    run_until(&downloads, &half, |info| info.progress.bytes >= 2 * MIB);
    let begun = disk.changes();
    for id in [&ts, &half] {
        block_on(downloads.remove(id)).unwrap();
    }
    let removed = disk.changes();
    drop((downloads, cache));
    assert!(known < completed && completed < begun && begun < removed);
    let seed = 20_261_130;
    let (mut dice, mut states) = (Dice(seed), [0; 2]);
    for changes in 0..=removed {
        let found = disk.power_cut(changes, &mut dice);
        let (cache, downloads) = downloads_on(&found);
        let infos = block_on(downloads.list()).unwrap();
        for info in &infos {
            let is_completed = info.state == State::Completed;
            states[usize::from(is_completed)] += 1;
            if is_completed {
                let stored = block_on(downloads.verify(&info.id, |_, _| ())).unwrap();
                assert!(stored.is_complete(), "cut after {changes}: {:?}", stored.holes);
            }
            assert_ne!(info.state, State::Downloading);
        }
        let state_of = |id: &DownloadId| infos.iter().find(|info| info.id == *id).map(|info| info.state);
        if changes >= known {
            assert!(
                kept.iter().all(|id| state_of(id).is_some()),
                "cut after {changes}: forgotten"
            );
        }
        if changes >= completed {
            assert!(
                kept.iter().all(|id| state_of(id) == Some(State::Completed)),
                "{changes}"
            );
        }
        if changes == removed {
            // The cut may take back that its entry went, and not that it was to go: it is removed again.
            for id in [&ts, &half] {
                assert!(matches!(state_of(id), None | Some(State::Removing)));
            }
        }
        drop((downloads, cache));
    }
    assert!(states.iter().all(|seen| *seen > 10), "{states:?}");
    stage.server.clear_rules();
    // And from a cut in the middle of each step it goes on to the end.
    let steps = [0, known, completed, begun, removed];
    for step in steps.windows(2) {
        let found = disk.power_cut(step[0].midpoint(step[1]), &mut dice);
        let (_cache, downloads) = downloads_on(&found);
        run_all(&downloads);
        for info in block_on(downloads.list()).unwrap() {
            assert_eq!(info.state, State::Completed, "{info:?}");
            assert!(
                block_on(downloads.verify(&info.id, |_, _| ()))
                    .unwrap()
                    .is_complete()
            );
        }
    }
}
