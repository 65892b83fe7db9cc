//! Many open files share a bounded number of threads.

use futures_lite::future::block_on;
use kithara::file::{FileParams, FileReader, FileSource, OpenMode};
use kithara_test_support::{Content, Rule, Server};

use crate::*;

/// Threads of the pool that all blocking work shares.
#[cfg(target_os = "linux")]
fn pool_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("blocking")).count()
}

/// Fault W66: a hundred files that all stand still. Each goes on when its bytes come, and the cache answers meanwhile.
#[test]
fn w66_open_files_share_their_threads() {
    const FILES: usize = 100;
    const LEN: u64 = 256 * KIB;
    let server = Server::empty().unwrap();
    let gate = server.gate();
    let root = tempfile::tempdir().unwrap();
    let cache = open_cache(root.path(), 256 * MIB);
    let client = builder().max_connections_per_host(FILES + 2).build().unwrap();
    let mut readers: Vec<FileReader> = (0..FILES)
        .map(|file| {
            let path = format!("/{file}");
            server.serve(&path, Content::pattern(pattern(), LEN));
            server.rule(&path, Rule::new().gate_after(64 * KIB, &gate));
            let params = FileParams::new(client.clone(), cache.clone());
            let url = Url::parse(&server.url(&path)).unwrap();
            block_on(FileSource::new(url, params).open_reader(OpenMode::Online)).unwrap()
        })
        .collect();
    // Other tests of this process have threads there, too.
    #[cfg(target_os = "linux")]
    assert!(pool_threads() < FILES - 10, "{}", pool_threads());
    let asset = kithara::cache::AssetId::from_key("another").unwrap();
    let path = kithara::cache::CachePath::parse("entry").unwrap();
    block_on(cache.put_atomic(&asset, &path, "bytes".into())).unwrap();
    gate.open();
    for reader in &mut readers {
        assert_rest(reader, 0, LEN);
    }
    drop(readers);
    in_time(move || block_on(cache.closed()));
}
