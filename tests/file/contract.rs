//! The contract of `Source`, run by its own suite.

use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::file::{FileParams, FileSource};
use kithara::stream::contract::{Contract, Offline};
use kithara_test_support::Rule;

use crate::{Stage, assert_rest, client, pattern};

const LEN: usize = 300_000;

#[test]
fn a_file_source_keeps_the_contract_of_source() {
    let stage = Stage::new(LEN as u64);
    stage.server.serve_bytes("/broken.bin", pattern().range(0, LEN));
    let broken = Rule::new().range_start(0).truncate_after(100_000);
    stage.server.rule("/broken.bin", broken);
    stage.server.rule("/broken.bin", Rule::new().answer(404, "gone"));
    let (url, cache) = (stage.url(), stage.cache.clone());
    let make = move |path: &'static str| {
        let (mut url, cache) = (url.clone(), cache.clone());
        url.set_path(path);
        move || FileSource::new(url.clone(), FileParams::new(client(), cache.clone()))
    };
    let contract = Contract::new(make("/a.bin"), pattern().range(0, LEN)).failing(make("/broken.bin"));
    block_on(contract.check()).unwrap();
    assert!(stage.server.connections() > 0);
}

#[test]
fn offline_it_plays_what_is_whole_and_fails_for_the_rest() {
    for does in [Offline::Plays, Offline::Fails] {
        let stage = Stage::new(LEN as u64);
        assert_rest(&mut stage.reader(), 0, stage.len);
        // The checks before this one fetch the file, so what must fail has no cache to find it in.
        let cache = match does {
            Offline::Plays => stage.cache.clone(),
            _ => AssetCache::memory(1),
        };
        let (url, server) = (stage.url(), stage.server);
        let make = move || FileSource::new(url.clone(), FileParams::new(client(), cache.clone()));
        let contract = Contract::new(make.clone(), pattern().range(0, LEN))
            .offline(make, does)
            .connections(move || server.connections());
        block_on(contract.check()).unwrap();
    }
}
