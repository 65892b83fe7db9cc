//! Entries that the disk damages (C3, faults C20 and C21): the read that would return the damage finds it and reports it, and
//! the entry is removed from the cache.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use futures_lite::future::block_on;
use kithara::cache::{AssetCache, AssetId, BlockingCache, CachePath};
use kithara::storage::{BLOCK, Found, StreamingError, StreamingResource};
use proptest::prelude::*;

use crate::dir_of;

type Resource = StreamingResource<io::Error>;

const LEN: usize = 3 * BLOCK + 100;

struct Scene {
    root: tempfile::TempDir,
    cache: AssetCache,
    asset: AssetId,
    path: CachePath,
    bytes: Vec<u8>,
}

/// A cache with one entry that came piece by piece, the last piece first.
fn scene() -> Scene {
    let root = tempfile::tempdir().unwrap();
    let cache = AssetCache::builder(root.path()).open_blocking().unwrap();
    let scene = Scene {
        root,
        cache,
        asset: AssetId::from_key("a").unwrap(),
        path: CachePath::parse("track.mp3").unwrap(),
        bytes: (0..LEN).map(|at| u8::try_from(at % 251).unwrap()).collect(),
    };
    scene.fill();
    scene
}

impl Scene {
    fn blocking(&self) -> &BlockingCache {
        self.cache.blocking()
    }

    fn fill(&self) {
        let partial = self.blocking().partial(&self.asset, &self.path).unwrap().unwrap();
        let resource: Resource = partial.open().unwrap();
        let mut writer = resource.writer().unwrap();
        for start in (0..LEN).step_by(100_000).collect::<Vec<_>>().into_iter().rev() {
            let end = LEN.min(start + 100_000);
            writer.write_at(start as u64, &self.bytes[start..end]).unwrap();
        }
        partial.commit(&mut writer, LEN as u64).unwrap();
    }

    fn file(&self) -> PathBuf {
        dir_of(self.root.path(), &self.asset).join("track.mp3")
    }

    fn resource(&self) -> Resource {
        self.blocking()
            .resource(&self.asset, &self.path)
            .unwrap()
            .unwrap()
    }

    fn contains(&self) -> bool {
        let found = self.blocking().contains(&self.asset, &self.path).unwrap();
        assert_eq!(
            block_on(self.cache.contains(&self.asset, &self.path)).unwrap(),
            found
        );
        found
    }

    /// C3: gone, and the accounts know.
    fn assert_gone(&self) {
        assert!(!self.contains());
        assert!(!self.file().exists());
        assert!(self.blocking().asset(&self.asset).unwrap().is_none());
        assert_eq!(self.blocking().stats().unwrap().asset_bytes, 0);
        // And it can be had again.
        self.fill();
        assert_eq!(
            self.blocking().get(&self.asset, &self.path).unwrap().unwrap(),
            self.bytes
        );
    }
}

fn flip_a_bit(file: &Path, at: u64) {
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 2]).unwrap();
}

/// C3: `contains` reads the footer and not the bytes. The first read of them finds the damage.
#[test]
fn the_read_that_finds_damage_removes_the_entry() {
    type Find = fn(&Scene);
    let finds: [(&str, Find); 7] = [
        ("get", |it| {
            assert!(it.blocking().get(&it.asset, &it.path).unwrap().is_none());
        }),
        ("async get", |it| {
            assert!(block_on(it.cache.get(&it.asset, &it.path)).unwrap().is_none());
        }),
        ("entry", |it| {
            let entry = it.blocking().open(&it.asset, &it.path).unwrap().unwrap();
            assert!(entry.read().unwrap_err().is_damaged());
        }),
        ("verify", |it| {
            let entry = it.blocking().open(&it.asset, &it.path).unwrap().unwrap();
            assert!(!entry.verify(&it.asset, &it.path).unwrap());
        }),
        ("reader", |it| {
            block_on(async {
                let mut reader = it.cache.open(&it.asset, &it.path).await.unwrap().unwrap();
                while let Ok(chunk) = reader.next_chunk().await {
                    assert!(chunk.is_some(), "no end");
                }
            });
        }),
        ("resource", |it| {
            let resource = it.resource();
            let error = resource.read_at(BLOCK as u64 + 7, &mut [0; 10]).unwrap_err();
            assert!(error.is_damaged(), "{error}");
        }),
        ("get_or_fetch", |it| {
            let bytes = it.bytes.clone();
            let fetched = block_on(it.cache.get_or_fetch(&it.asset, &it.path, || async {
                it.assert_gone();
                it.blocking().remove(&it.asset).unwrap();
                Ok::<_, io::Error>(bytes.into())
            }));
            assert_eq!(fetched.unwrap(), it.bytes);
            it.blocking().remove(&it.asset).unwrap();
        }),
    ];
    for (what, find) in finds {
        let scene = scene();
        flip_a_bit(&scene.file(), BLOCK as u64 + 10);
        assert!(scene.contains(), "{what}: nobody has looked at its bytes");
        find(&scene);
        scene.assert_gone();
    }
}

/// C2: an entry that was put anew meanwhile is not taken away for the damage of the one before.
#[test]
fn damage_to_the_version_before_takes_nothing_away() {
    let scene = scene();
    let resource = scene.resource();
    let hold = std::fs::OpenOptions::new()
        .write(true)
        .open(scene.file())
        .unwrap();
    scene.fill();
    (&hold).seek(SeekFrom::Start(5)).unwrap();
    (&hold).write_all(&[0xFF]).unwrap();
    assert!(resource.read_at(0, &mut [0; 10]).unwrap_err().is_damaged());
    assert!(scene.contains());
    assert_eq!(
        scene.blocking().get(&scene.asset, &scene.path).unwrap().unwrap(),
        scene.bytes
    );
}

/// C3: an open resource outlives its cache, which can then remove nothing.
#[test]
fn damage_found_after_the_cache_is_closed_is_an_error_all_the_same() {
    let scene = scene();
    let resource = scene.resource();
    flip_a_bit(&scene.file(), 0);
    block_on(scene.cache.close());
    assert!(resource.read_at(0, &mut [0; 10]).unwrap_err().is_damaged());
}

/// A file cut short is no end either.
#[test]
fn an_entry_that_is_cut_while_it_is_open_has_no_false_end() {
    let scene = scene();
    let resource = scene.resource();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(scene.file())
        .unwrap();
    file.set_len(BLOCK as u64 + 50).unwrap();
    let mut buffer = vec![0; LEN];
    assert_eq!(resource.read_at(0, &mut buffer).unwrap(), Found::Bytes(BLOCK));
    for at in [BLOCK as u64, BLOCK as u64 + 60, LEN as u64 - 1] {
        assert!(resource.read_at(at, &mut buffer).unwrap_err().is_damaged());
    }
    assert_eq!(resource.read_at(LEN as u64, &mut buffer).unwrap(), Found::End);
    scene.assert_gone();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// C3: what a resource gives out is what was stored, whatever turned before it was opened and however it is read.
    #[test]
    fn no_turned_bit_is_given_out(
        turned in proptest::collection::btree_set(0..LEN, 0..4),
        borders in proptest::collection::btree_set((1_usize..4, 0_usize..3), 0..2),
        reads in proptest::collection::vec((0..LEN, prop_oneof![1_usize..6000, 1..LEN]), 1..12),
    ) {
        let scene = scene();
        let mut turned = turned;
        turned.extend(borders.into_iter().map(|(block, about)| block * BLOCK + about - 1));
        for at in &turned {
            flip_a_bit(&scene.file(), *at as u64);
        }
        let resource = scene.resource();
        for (at, len) in reads {
            let mut buffer = vec![0; len];
            let block = at / BLOCK;
            let bad = turned.iter().any(|turned| turned / BLOCK == block);
            match resource.read_at(at as u64, &mut buffer) {
                Ok(Found::Bytes(count)) => {
                    prop_assert!(!bad && count > 0);
                    prop_assert_eq!(&buffer[..count], &scene.bytes[at..at + count]);
                }
                Err(StreamingError::Damaged { range, .. }) => {
                    prop_assert!(bad);
                    let start = (block * BLOCK) as u64;
                    prop_assert_eq!(range, start..(start + BLOCK as u64).min(LEN as u64));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
