//! Power cuts over add, progress, completion and removal: no state lies (O1, O4).

use std::path::Path;
use std::sync::Arc;

use kithara::cache::testing::fs_store;
use kithara::cache::{CacheError, Durability};
use kithara::offline::{DownloadId, Downloads, State};
use kithara::storage::testing::{Dice, FakeDisk};

use crate::queue::{hls, run_all};
use crate::*;

fn open_on(disk: &FakeDisk) -> Result<AssetCache, CacheError> {
    let store = fs_store(Arc::new(disk.clone()), Path::new("/"), Durability::Full)?;
    AssetCache::builder("")
        .store(store)
        .max_bytes(256 * MIB)
        .open_blocking()
}

fn downloads_on(disk: &FakeDisk) -> (AssetCache, Downloads) {
    let cache = open_on(disk).unwrap();
    let access = Access::new(client(), cache.clone());
    (cache, block_on(Downloads::builder(access).open()).unwrap())
}

/// O1, O4: after a cut at any change what is said to be completed verifies, what was answered is known, and what was removed
/// comes back as removing at most.
#[test]
fn o1_no_state_lies_after_a_power_cut() {
    let stage = Stage::new();
    let disk = FakeDisk::default();
    let (cache, downloads) = downloads_on(&disk);
    let add = |path| block_on(downloads.add(hls(&stage, path))).unwrap();
    let locked = add(ENCRYPTED);
    let known = disk.changes();
    let ts = add("/hls/ts/playlist.m3u8");
    run_all(&downloads);
    let completed = disk.changes();
    block_on(downloads.remove(&ts)).unwrap();
    let removed = disk.changes();
    drop((downloads, cache));
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
            assert!(state_of(&locked).is_some(), "cut after {changes}: forgotten");
        }
        if changes == completed {
            assert_eq!(state_of(&ts), Some(State::Completed));
        }
        if changes == removed {
            // The cut may take back that its entry went, and not that it was to go: it is removed again.
            assert!(matches!(state_of(&ts), None | Some(State::Removing)));
        }
        drop((downloads, cache));
    }
    assert!(states.iter().all(|seen| *seen > 10), "{states:?}");
    // And from a cut in the middle it goes on to the end.
    let found = disk.power_cut(completed / 2, &mut dice);
    let (_cache, downloads) = downloads_on(&found);
    run_all(&downloads);
    for info in block_on(downloads.list()).unwrap() {
        assert_eq!(info.state, State::Completed);
        assert!(
            block_on(downloads.verify(&info.id, |_, _| ()))
                .unwrap()
                .is_complete()
        );
    }
}
