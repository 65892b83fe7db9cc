//! `HlsSource` keeps the contract of `Source`, as every source does. Needs the feature `test-util`.

use std::sync::Arc;

use futures_lite::future;
use kithara::cache::AssetCache;
use kithara::hls::{HlsParams, HlsSource};
use kithara::stream::contract::{Contract, Offline};
use kithara_test_support::Rule;

use crate::rig::{Cache, Track, builder, online, play, url};

/// Sources that have everything to fetch, sources that have it all, and sources whose server breaks.
fn keeps_the_contract(track: Track) {
    let full = Cache::new();
    play(&track.list(), full.params(), online()).whole();
    track.server.rule("/t/1.ts?broken", Rule::new().reset());
    let broken = "#EXTM3U\n#EXTINF:6,\n0.ts\n#EXTINF:6,\n1.ts?broken\n#EXT-X-ENDLIST";
    track.server.serve_bytes("/t/broken.m3u8", broken.as_bytes());
    let (list, broken) = (url(&track.list()), url(&track.server.url("/t/broken.m3u8")));
    let (fetched, kept) = (list.clone(), list);
    let empty = || HlsParams::new(builder().build().unwrap(), AssetCache::memory(1 << 20));
    let params = full.params();
    let bytes = track.bytes();
    let track = Arc::new(track);
    let contract = Contract::new(move || HlsSource::new(fetched.clone(), empty()), bytes)
        .failing(move || HlsSource::new(broken.clone(), empty()))
        .offline(
            move || HlsSource::new(kept.clone(), params.clone()),
            Offline::Plays,
        )
        .connections(move || track.server.connections());
    future::block_on(contract.check()).unwrap();
}

#[test]
fn a_plain_track_keeps_the_contract() {
    keeps_the_contract(Track::plain(&[5000, 1, 2, 40_000]));
}

#[test]
fn a_track_without_its_segments_fails_offline_as_the_contract_says() {
    let track = Track::encrypted(&[5000, 40_000]);
    let list = url(&track.list());
    let empty = || HlsParams::new(builder().build().unwrap(), AssetCache::memory(1 << 20));
    let (online, offline) = (list.clone(), list);
    let bytes = track.bytes();
    let track = Arc::new(track);
    let contract = Contract::new(move || HlsSource::new(online.clone(), empty()), bytes)
        .offline(move || HlsSource::new(offline.clone(), empty()), Offline::Fails)
        .connections(move || track.server.connections());
    future::block_on(contract.check()).unwrap();
}
