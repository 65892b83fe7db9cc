// README, from here
use kithara::decode::{DecodeParams, Decoder};
use kithara::media::{Access, OpenMode};
use kithara::{cache::AssetCache, net::HttpClient};

async fn play(url: &str, mut speaker: impl FnMut(&[f32])) -> Result<(), Box<dyn std::error::Error>> {
    let cache = AssetCache::builder("music").max_bytes(1 << 30).open().await?;
    let params = DecodeParams::new().access(Access::new(HttpClient::new()?, cache));
    let mut track = Decoder::open(url, &params, OpenMode::Online).await?; // Offline: no connection at all
    while let Some(block) = track.next_block()? {
        speaker(block.samples()); // interleaved; block.spec() has rate and channels
    }
    Ok(()) // only here has the track ended
}
// to here

/// Run where the current directory is the folder of the cache.
#[test]
fn the_first_code_plays_a_track() {
    let server = kithara_test_support::Server::start(kithara_test_support::media()).unwrap();
    let url = server.url("/files/piece.flac");
    let folder = tempfile::tempdir().unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    let mut samples = 0;
    futures_lite::future::block_on(play(&url, |block| samples += block.len())).unwrap();
    assert_eq!(samples, 2 * 132_300);
}
