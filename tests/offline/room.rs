//! Room is asked for before bytes come, and no limit is broken (O6).

use std::fmt::Write as _;

use kithara::offline::{Cause, DownloadRequest, Failure, Selection, State, Variants};
use kithara_test_support::Rule;

use crate::queue::{file, hls, open, open_with, run_all};
use crate::*;

/// O6: no room is told with figures, before the bytes come; and nothing else is evicted for it.
#[test]
fn o6_no_room_is_told_with_figures() {
    let stage = Stage::new();
    stage
        .server
        .serve("/big.bin", Content::pattern(&pattern(), 200 * MIB));
    let downloads = open_with(&stage, |builder| builder.max_bytes(100 * MIB));
    let own = file(&stage, "/a.bin").max_bytes(MIB);
    for (request, have) in [(file(&stage, "/big.bin"), 50 * MIB), (own, MIB)] {
        let id = block_on(downloads.add(request)).unwrap();
        run_all(&downloads);
        let failure = block_on(downloads.get(&id)).unwrap().failure.unwrap();
        let Cause::StorageFull { need, have: there } = failure.cause else {
            panic!("{failure}")
        };
        assert!(need > 2 * MIB && there >= have && there < need, "{failure}");
    }
    assert!(stage.server.bytes_sent() < 60 * MIB);
}

/// O6: of several that are begun at once as many are fetched as have room together.
#[test]
fn o6_two_that_begin_at_once_share_the_room() {
    let stage = Stage::new();
    let downloads = open_with(&stage, |builder| builder.max_bytes(2800 * KIB).parallel(8));
    for number in 0..8 {
        let path = format!("/{number}");
        stage.server.serve(&path, Content::pattern(&pattern(), MIB));
        // Slow, so that all have begun before one is done.
        stage.server.rule(&path, Rule::new().trickle(MIB));
        block_on(downloads.add(file(&stage, &path))).unwrap();
    }
    run_all(&downloads);
    let infos = block_on(downloads.list()).unwrap();
    let count = |wanted| infos.iter().filter(|info| info.state == wanted).count();
    assert_eq!(
        (count(State::Completed), count(State::Failed)),
        (2, 6),
        "{infos:?}"
    );
}

const SEGMENT: u64 = 100 * KIB;

/// Serves a track of so many segments, of which no playlist says how long they are in bytes.
fn serve_track(stage: &Stage, name: &str, segments: u64, bandwidth: u64) {
    let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
    for number in 0..segments {
        writeln!(list, "#EXTINF:6,\n{number}.ts").unwrap();
        let body = [
            b"ID3".as_slice(),
            &pattern().range(number * SEGMENT, SEGMENT as usize - 3),
        ]
        .concat();
        stage.server.serve_bytes(format!("/{name}/{number}.ts"), body);
    }
    list += "#EXT-X-ENDLIST\n";
    stage
        .server
        .serve_bytes(format!("/{name}/list.m3u8"), list.into_bytes());
    let master = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}\nlist.m3u8\n");
    stage
        .server
        .serve_bytes(format!("/{name}/master.m3u8"), master.into_bytes());
}

fn full(failure: Option<&Failure>) -> (u64, u64) {
    match failure.map(|failure| failure.cause) {
        Some(Cause::StorageFull { need, have }) => (need, have),
        other => panic!("{other:?} {failure:?}"),
    }
}

/// Bytes of all assets but the downloads' own entries.
fn kept(stage: &Stage) -> u64 {
    let files = files_below(&stage.root.path().join("assets"));
    let media = files.iter().filter(|file| file.to_str().unwrap().contains(".ts"));
    media.map(|file| file.metadata().unwrap().len()).sum()
}

/// O6: the budget of all downloads, and a download's own, hold for tracks whose length is a guess; however they share it.
#[test]
fn o6_the_budget_holds_for_tracks_whose_length_is_a_guess() {
    for is_own in [false, true] {
        let stage = Stage::new();
        let budget = 2 * MIB;
        let downloads = open_with(&stage, |builder| {
            if is_own {
                builder
            } else {
                builder.max_bytes(budget)
            }
        });
        // What the playlists say is a tenth of what it is.
        for name in ["one", "two"] {
            serve_track(&stage, name, 60, 14_000);
            let request = hls(&stage, &format!("/{name}/master.m3u8"));
            let request = if is_own {
                request.max_bytes(budget / 2)
            } else {
                request
            };
            block_on(downloads.add(request)).unwrap();
        }
        run_all(&downloads);
        for info in block_on(downloads.list()).unwrap() {
            assert_eq!(info.state, State::Failed, "{info:?}");
            let (need, have) = full(info.failure.as_ref());
            assert!(need > have, "{need} and {have}");
        }
        let kept = kept(&stage);
        // Each of both may exceed it by its last segment.
        assert!(kept <= budget + 2 * (SEGMENT + KIB), "{kept} of {budget}");
        assert!(kept > 4 * SEGMENT, "no room is refused that is there: {kept}");
    }
}

/// O6: a guess that is too high refuses nothing.
#[test]
fn o6_a_track_of_which_too_much_is_said_has_room_where_it_fits() {
    let stage = Stage::new();
    serve_track(&stage, "one", 10, 90_000_000);
    let downloads = open_with(&stage, |builder| builder.max_bytes(2 * MIB));
    let id = block_on(downloads.add(hls(&stage, "/one/master.m3u8"))).unwrap();
    run_all(&downloads);
    let info = block_on(downloads.get(&id)).unwrap();
    assert_eq!(info.state, State::Completed, "{info:?}");
}

/// A small disk of its own, where the system lets this user have one.
#[cfg(target_os = "linux")]
struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn new(size: &str) -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "none"]).arg(root.path());
        let mounted = mount.stderr(std::process::Stdio::null()).status();
        mounted.is_ok_and(|mounted| mounted.success()).then(|| Self(root))
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the cache may close behind the test.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}

/// O6: a full disk is told with what is missing and what is free.
#[cfg(target_os = "linux")]
#[test]
fn o6_a_full_disk_is_told_with_what_is_free() {
    let Some(disk) = SmallDisk::new("size=1m") else {
        return;
    };
    let mut stage = Stage::new();
    stage.cache = open_cache(disk.0.path(), 256 * MIB);
    serve_track(&stage, "one", 20, 100_000);
    let downloads = open(&stage);
    let track = block_on(downloads.add(hls(&stage, "/one/master.m3u8"))).unwrap();
    let told = |id| {
        run_all(&downloads);
        full(block_on(downloads.get(id)).unwrap().failure.as_ref())
    };
    let (need, have) = told(&track);
    // No segment more has room.
    assert!(have > 0 && have < SEGMENT + 8 * KIB, "{have}");
    assert!(need > 10 * SEGMENT && need < 12 * SEGMENT, "{need}");
    block_on(downloads.remove(&track)).unwrap();
    block_on(stage.cache.checkpoint()).unwrap();
    let file = block_on(downloads.add(file(&stage, "/a.bin"))).unwrap();
    let (need, have) = told(&file);
    assert!(need > 2 * MIB && have > 0 && have < MIB, "{need} and {have}");
}

/// O5: two limits that were asked for one after another lead to both Variant Streams.
#[test]
fn o5_two_limits_are_both_kept() {
    let stage = Stage::new();
    let downloads = open(&stage);
    let at_most = |bits| Selection::default().variants(Variants::AtMost(bits));
    let request = |bits| DownloadRequest::hls(stage.url(TRACK)).selection(at_most(bits));
    let id = block_on(downloads.add(request(60_000))).unwrap();
    run_all(&downloads);
    let one = block_on(downloads.state(&id)).unwrap();
    block_on(downloads.add(request(90_000))).unwrap();
    run_all(&downloads);
    let both = block_on(downloads.state(&id)).unwrap();
    assert!(
        both.is_complete() && both.bytes > one.bytes,
        "{} and {}",
        both.bytes,
        one.bytes
    );
    assert!(both.duration > one.duration);
}
