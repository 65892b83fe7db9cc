//! What a large library costs. Run by hand, in release: `cargo test --release … -- --ignored bars --nocapture`.

use std::fmt::Write as _;
use std::time::Instant;

use kithara::cache::{CachePath, Durability};
use kithara::offline::{DownloadRequest, Downloads};

use crate::queue::hls;
use crate::*;

fn fast_cache(root: &Path) -> AssetCache {
    AssetCache::builder(root)
        .max_bytes(8 << 30)
        .durability(Durability::Ordered)
        .open_blocking()
        .unwrap()
}

#[allow(clippy::print_stdout, reason = "what it is for")]
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let value = work();
    println!("{what}: {:?}", started.elapsed());
    value
}

/// A track of 10 000 segments, and the list of 10 000 downloads.
#[test]
#[ignore = "figures, and no promise"]
fn a_large_library() {
    let mut stage = Stage::new();
    let second = tempfile::tempdir().unwrap();
    stage.cache = fast_cache(second.path());
    let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
    for number in 0..10_000 {
        writeln!(list, "#EXTINF:6,\nlong/{number}.ts").unwrap();
    }
    list += "#EXT-X-ENDLIST\n";
    stage.server.serve_bytes("/long.m3u8", list.into_bytes());
    let source = stage.hls("/long.m3u8");
    block_on(source.inspect(kithara::hls::OpenMode::Online)).unwrap();
    let asset = source.asset().clone();
    for number in 0..10_000 {
        let path = CachePath::from_url(&stage.url(&format!("/long/{number}.ts")));
        let bytes = vec![0x47; 188];
        stage
            .cache
            .blocking()
            .put_atomic(&asset, &path, bytes.into())
            .unwrap();
    }
    let downloads = block_on(Downloads::builder(stage.access()).open()).unwrap();
    let id = block_on(downloads.add(hls(&stage, "/long.m3u8"))).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    let stored = timed("state of 10 000 segments, first", || {
        block_on(downloads.state(&id)).unwrap()
    });
    assert!(stored.is_complete());
    for _ in 0..3 {
        timed("then", || block_on(downloads.state(&id)).unwrap());
    }
    timed("removal of 10 000 files", || {
        block_on(downloads.remove(&id)).unwrap();
    });
    for number in 0..10_000 {
        block_on(downloads.add(DownloadRequest::file(stage.url(&format!("/{number}.bin"))))).unwrap();
    }
    timed("list of 10 000", || block_on(downloads.list()).unwrap());
    drop(downloads);
    let downloads = timed("open of 10 000", || {
        block_on(Downloads::builder(stage.access()).open()).unwrap()
    });
    assert_eq!(block_on(downloads.list()).unwrap().len(), 10_000);
}
