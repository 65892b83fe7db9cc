//! O2, O4: processes that are really killed, at any moment of ten downloads.
//!
//! `KITHARA_KILLS=100` kills more of them.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use kithara::file::OpenMode;
use kithara::offline::{DownloadId, DownloadRequest, Downloads, Kind, State};
use kithara_test_support::{Recorded, Rule};

use crate::queue::run_all;
use crate::*;

const ROOT: &str = "KITHARA_KILLED_ROOT";
const BASE: &str = "KITHARA_KILLED_BASE";
/// Long enough that more than what a kill may cost has come of it: 2 s or 1 MiB.
const FILE: u64 = 2 * MIB + 11;
const RATE: u64 = 500 * KIB;
const AT_ONCE: usize = 4;

fn requests(url: impl Fn(&str) -> Url) -> Vec<DownloadRequest> {
    let files = (0..6).map(|number| DownloadRequest::file(url(&format!("/f{number}"))));
    let tracks = [
        TRACK,
        ENCRYPTED,
        "/hls/ts/playlist.m3u8",
        "/hls/byterange/playlist.m3u8",
    ];
    // By turns, so that a kill finds some of both under way.
    let mut all: Vec<_> = files.collect();
    for (number, path) in tracks.iter().enumerate() {
        all.insert(2 * number, DownloadRequest::hls(url(path)));
    }
    all
}

async fn open(root: &Path) -> Downloads {
    let access = Access::new(client(), open_cache(root, 256 * MIB));
    Downloads::builder(access).parallel(AT_ONCE).open().await.unwrap()
}

/// Downloads ten, and says with each change how many bytes have come.
#[test]
#[ignore = "the test below starts it as a process of its own"]
fn child() {
    let (Ok(root), Ok(base)) = (std::env::var(ROOT), std::env::var(BASE)) else {
        return;
    };
    let downloads = block_on(open(Path::new(&root)));
    block_on(async {
        for request in requests(|path| Url::parse(&format!("{base}{path}")).unwrap()) {
            downloads.add(request).await.unwrap();
        }
        let mut watch = downloads.watch();
        let tell = async {
            while watch.next().await.is_some() {
                println!("changed");
            }
        };
        let run = async { downloads.run().await.unwrap() };
        futures_lite::future::or(run, futures_lite::future::or(tell, downloads.idle())).await;
    });
}

fn start(stage: &Stage) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::child", "--ignored", "--nocapture", "-q"])
        .env(ROOT, stage.root.path())
        .env(BASE, stage.server.url(""))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn is_right(downloads: &Downloads, id: &DownloadId, kind: Kind) {
    let stored = block_on(downloads.verify(id, |_, _| ())).unwrap();
    assert!(stored.is_complete(), "{:?}", stored.holes);
    if kind == Kind::File {
        let mut bytes = Vec::new();
        let mut reader = block_on(downloads.file(id).unwrap().open_reader(OpenMode::Offline)).unwrap();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, FILE);
        assert_eq!(pattern().first_difference(0, &bytes), None);
        return;
    }
    // The bytes that a stream without a cache gives.
    let mut kept = Vec::new();
    let mut reader = block_on(async {
        downloads
            .track(id)
            .await
            .unwrap()
            .open_reader(OpenMode::Offline)
            .await
    });
    reader.as_mut().unwrap().read_to_end(&mut kept).unwrap();
    let path = block_on(downloads.get(id)).unwrap().request.url().clone();
    let params = HlsParams::with_access(Access::default().client(client()));
    let mut fetched = Vec::new();
    let mut reader = block_on(HlsSource::new(path, params).open_reader(OpenMode::Online)).unwrap();
    reader.read_to_end(&mut fetched).unwrap();
    assert!(kept == fetched, "{} bytes and {}", kept.len(), fetched.len());
}

/// Bytes of bodies that the server has sent, of files and of media of tracks, in some of the requests; and the longest of a track.
fn sent(requests: &[Recorded]) -> ([u64; 6], u64, u64) {
    let (mut files, mut tracks, mut longest) = ([0; 6], 0, 0);
    for request in requests {
        let path = request.path_only();
        if let Some(number) = path.strip_prefix("/f") {
            files[number.parse::<usize>().unwrap()] += request.body_sent;
        } else if !path.ends_with(".m3u8") && !path.ends_with("key") {
            tracks += request.body_sent;
            longest = longest.max(request.body_sent);
        }
    }
    (files, tracks, longest)
}

/// O2, O4: killed at any moment, every byte is right in the end, no state lies at the start, and little is fetched twice.
#[test]
fn o2_killed_at_any_moment_every_byte_is_right_and_little_is_fetched_twice() {
    let kills = std::env::var("KITHARA_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let mut random = u64::from(seed);
    for kill in 0..kills {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let changes = (random >> 33) as usize % 320;
        let mut stage = Stage::new();
        for number in 0..6 {
            stage
                .server
                .serve(format!("/f{number}"), Content::pattern(&pattern(), FILE));
        }
        let slow = stage.server.rule("/*", Rule::new().trickle(RATE));
        // The cache is the child's.
        block_on(std::mem::replace(&mut stage.cache, AssetCache::memory(1)).closed());
        let mut child = start(&stage);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines
            .map_while(Result::ok)
            .filter(|line| line.contains("changed"));
        let told = told.take(changes + 1).count();
        child.kill().unwrap();
        child.wait().unwrap();
        slow.remove();
        stage.server.wait_until(|log| log.open_connections() == 0);
        let before = stage.server.requests();
        let downloads = block_on(open(stage.root.path()));
        let infos = block_on(downloads.list()).unwrap();
        for info in &infos {
            assert!(matches!(info.state, State::Queued | State::Completed), "{info:?}");
            if info.state == State::Completed {
                is_right(&downloads, &info.id, info.request.kind());
            }
        }
        let is_all_known = infos.len() == 10;
        // What the test itself has read of tracks, for comparison.
        let begun = stage.server.requests().len();
        for request in requests(|path| stage.url(path)) {
            block_on(downloads.add(request)).unwrap();
        }
        run_all(&downloads);
        let fetched = stage.server.requests().split_off(begun);
        let infos = block_on(downloads.list()).unwrap();
        assert_eq!(infos.len(), 10);
        for info in &infos {
            assert_eq!(info.state, State::Completed, "seed {seed}, kill {kill}: {info:?}");
            is_right(&downloads, &info.id, info.request.kind());
        }
        let (first, second) = (sent(&before), sent(&fetched));
        let twice = |number: usize| (first.0[number] + second.0[number]).saturating_sub(FILE);
        let files: Vec<_> = (0..6).map(|number| twice(number) / KIB).collect();
        // Two seconds, and what a busy machine takes to write it down.
        let limit = MIB.max(2 * RATE) + 256 * KIB;
        assert!(
            files.iter().all(|twice| twice * KIB <= limit),
            "seed {seed}, kill {kill}: {files:?} KiB twice"
        );
        let tracks = infos.iter().filter(|info| info.request.kind() == Kind::Hls);
        let tracks: u64 = tracks.map(|info| info.progress.bytes).sum();
        let twice = (first.1 + second.1).saturating_sub(tracks);
        // As many segments as may be under way, of as many tracks; and the start of each first one, by which editions are told.
        let limit = (AT_ONCE * 4) as u64 * first.2.max(second.2) + 16 * KIB;
        assert!(
            twice <= limit,
            "seed {seed}, kill {kill}: {twice} of tracks twice, of {limit}"
        );
        println!(
            "killed after {told} changes, all known: {is_all_known}; twice: files {files:?} KiB, tracks {} KiB",
            twice / KIB
        );
    }
}
