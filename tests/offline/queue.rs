//! The queue: what is asked for, in which order, over restarts, and what becomes of it (O2 to O5).

use std::io::Read as _;

use futures_lite::future;
use kithara::cache::{AssetId, CachePath};
use kithara::file::OpenMode;
use kithara::media::{Hole, Total};
use kithara::offline::{
    Cause, Change, DownloadId, DownloadInfo, DownloadRequest, Downloads, DownloadsBuilder, OfflineError,
    Renditions, Selection, State, Variants,
};
use kithara::stream::{Stream, StreamParams};
use kithara_test_support::Rule;

use crate::*;

pub fn open(stage: &Stage) -> Downloads {
    open_with(stage, |builder| builder)
}

pub fn open_with(stage: &Stage, settings: impl FnOnce(DownloadsBuilder) -> DownloadsBuilder) -> Downloads {
    block_on(settings(Downloads::builder(stage.access())).open()).unwrap()
}

pub fn file(stage: &Stage, path: &str) -> DownloadRequest {
    DownloadRequest::file(stage.url(path))
}

pub fn hls(stage: &Stage, path: &str) -> DownloadRequest {
    DownloadRequest::hls(stage.url(path))
}

/// Runs until there is nothing to do.
pub fn run_all(downloads: &Downloads) {
    let run = async { downloads.run().await.unwrap() };
    block_on(future::or(run, downloads.idle()));
}

/// Runs until a download is as `wanted` says.
pub fn run_until(
    downloads: &Downloads,
    id: &DownloadId,
    wanted: impl Fn(&DownloadInfo) -> bool,
) -> DownloadInfo {
    let mut watch = downloads.watch();
    let found = async {
        loop {
            match watch.next().await {
                Some(Change::Changed(info)) if info.id == *id && wanted(&info) => return *info,
                Some(_) => {}
                None => panic!("the watch ended"),
            }
        }
    };
    let run = async {
        downloads.run().await.unwrap();
        unreachable!("it does not end by itself")
    };
    block_on(future::or(run, found))
}

pub fn state(downloads: &Downloads, id: &DownloadId) -> State {
    block_on(downloads.get(id)).unwrap().state
}

fn is_send<T: Send>(value: T) -> T {
    value
}

/// O3, O4: files and tracks come in their turn, and each is complete by its files.
#[test]
fn o4_files_and_tracks_are_fetched_and_complete_by_their_files() {
    let stage = Stage::new();
    let downloads = open(&stage);
    let ids: Vec<_> = [file(&stage, "/a.bin"), hls(&stage, TRACK), hls(&stage, ENCRYPTED)]
        .into_iter()
        .map(|request| block_on(downloads.add(request)).unwrap())
        .collect();
    assert!(
        block_on(downloads.list())
            .unwrap()
            .iter()
            .all(|info| info.state == State::Queued)
    );
    let run = is_send(async { downloads.run().await.unwrap() });
    block_on(future::or(run, downloads.idle()));
    for id in &ids {
        let info = block_on(downloads.get(id)).unwrap();
        assert_eq!(info.state, State::Completed, "{info:?}");
        assert!(info.progress.is_complete && info.progress.total.is_exact());
        assert!(block_on(downloads.verify(id, |_, _| ())).unwrap().is_complete());
    }
    stage.server.stop();
    let mut reader = block_on(downloads.file(&ids[0]).unwrap().open_reader(OpenMode::Offline)).unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(pattern().first_difference(0, &bytes), None);
    for id in &ids[1..] {
        let track = block_on(downloads.track(id)).unwrap();
        let mut stream = Stream::new(track, StreamParams::default().offline_mode(true));
        block_on(async {
            while let Some(chunk) = stream.next().await {
                chunk.unwrap();
            }
        });
    }
    assert!(matches!(
        downloads.file(&ids[1]),
        Err(OfflineError::Unknown { .. })
    ));
}

/// O4: request, pause, failure and completion survive a restart; what was being fetched is queued.
#[test]
fn o4_downloads_survive_a_restart() {
    let mut stage = Stage::new();
    stage.server.rule("/gone.bin", Rule::new().answer(404, "no"));
    stage
        .server
        .serve("/paused.bin", Content::pattern(&pattern(), MIB));
    stage
        .server
        .serve("/slow.bin", Content::pattern(&pattern(), 4 * MIB));
    let slow = stage.server.rule("/slow.bin", Rule::new().trickle(256 * KIB));
    let downloads = open(&stage);
    let add = |path| block_on(downloads.add(file(&stage, path))).unwrap();
    let (done, gone, paused) = (add("/a.bin"), add("/gone.bin"), add("/paused.bin"));
    block_on(downloads.pause(&paused)).unwrap();
    run_all(&downloads);
    let failure = block_on(downloads.get(&gone)).unwrap().failure.unwrap();
    assert_eq!(failure.cause, Cause::Gone, "{failure}");
    let running = add("/slow.bin");
    run_until(&downloads, &running, |info| {
        info.progress.bytes > 0 && info.state == State::Downloading
    });
    assert_eq!(state(&downloads, &running), State::Queued, "dropped is stopped");
    drop(downloads);
    stage.restart();
    slow.remove();
    let downloads = open(&stage);
    let states = [&done, &gone, &paused, &running].map(|id| state(&downloads, id));
    assert_eq!(
        states,
        [State::Completed, State::Failed, State::Paused, State::Queued]
    );
    assert_eq!(block_on(downloads.get(&gone)).unwrap().failure, Some(failure));
    block_on(downloads.resume_all()).unwrap();
    run_all(&downloads);
    assert_eq!(state(&downloads, &paused), State::Completed);
    assert_eq!(state(&downloads, &running), State::Completed);
    assert_eq!(block_on(downloads.list()).unwrap().len(), 4);
}

/// O4: as many at once as were allowed, the urgent ones first; a gate holds back what needs it.
#[test]
fn o4_priority_gates_and_the_number_at_once_are_kept() {
    let stage = Stage::new();
    let downloads = open_with(&stage, |builder| builder.parallel(1));
    let gate = stage.server.gate();
    for name in ["/0", "/1", "/2", "/3"] {
        stage.server.serve(name, Content::pattern(&pattern(), 1000));
        stage.server.rule(name, Rule::new().gate(&gate));
    }
    let plain = block_on(downloads.add(file(&stage, "/0"))).unwrap();
    let urgent = block_on(downloads.add(file(&stage, "/1").priority(3))).unwrap();
    let gated = block_on(downloads.add(file(&stage, "/2").priority(9).needs("unmetered"))).unwrap();
    let info = run_until(&downloads, &urgent, |info| info.state == State::Downloading);
    assert_eq!(info.closed_gates, Vec::<String>::new());
    assert_eq!(state(&downloads, &plain), State::Queued);
    assert_eq!(
        block_on(downloads.get(&gated)).unwrap().closed_gates,
        ["unmetered"]
    );
    gate.open();
    run_all(&downloads);
    let asked: Vec<_> = stage
        .server
        .requests()
        .iter()
        .map(|request| request.path.clone())
        .collect();
    assert_eq!(asked.last().unwrap(), "/0");
    assert_eq!(state(&downloads, &gated), State::Queued, "its gate is closed");
    downloads.set_gate("unmetered", true);
    run_all(&downloads);
    assert_eq!(state(&downloads, &gated), State::Completed);
}

/// O2: a pause stops what is being fetched, and what has come stays.
#[test]
fn o2_a_paused_download_stops_and_goes_on() {
    let stage = Stage::new();
    let slow = stage.server.rule("/a.bin", Rule::new().trickle(MIB));
    let downloads = open(&stage);
    let id = block_on(downloads.add(file(&stage, "/a.bin"))).unwrap();
    let mut watch = downloads.watch();
    let pausing = async {
        while let Some(change) = watch.next().await {
            let Change::Changed(info) = change else { continue };
            if info.state == State::Downloading && info.progress.bytes > 600 * KIB {
                downloads.pause(&id).await.unwrap();
            }
            if info.state == State::Paused {
                return;
            }
        }
    };
    let run = async { downloads.run().await.unwrap() };
    block_on(future::or(run, pausing));
    stage.server.wait_until(|log| log.open_connections() == 0);
    let before = stage.server.bytes_sent();
    slow.remove();
    block_on(downloads.resume(&id)).unwrap();
    run_all(&downloads);
    assert_eq!(state(&downloads, &id), State::Completed);
    assert!(stage.server.bytes_sent() - before < 3 * MIB - 300 * KIB);
}

/// O1: a file that is deleted behind the cache's back is noticed with the next look, and fetched again.
#[test]
fn o1_a_hole_is_noticed_at_the_next_look() {
    let stage = Stage::new();
    let downloads = open(&stage);
    let id = block_on(downloads.add(hls(&stage, TRACK))).unwrap();
    run_all(&downloads);
    for _ in 0..2 {
        // At once, and when the verdict is remembered.
        assert!(block_on(downloads.state(&id)).unwrap().is_complete());
        std::fs::remove_file(&stage.entries(".m4s")[3]).unwrap();
        let Stored { holes, .. } = block_on(downloads.state(&id)).unwrap();
        assert!(matches!(&holes[..], [Hole { time: Some(_), .. }]), "{holes:?}");
        assert_eq!(state(&downloads, &id), State::Queued);
        run_all(&downloads);
        assert_eq!(state(&downloads, &id), State::Completed);
        std::thread::sleep(Duration::from_millis(2100));
    }
}

/// O3, O4: removed is gone, with all bytes, also if the process dies between wish and deed.
#[test]
fn o4_a_removed_download_is_gone_with_its_bytes() {
    let mut stage = Stage::new();
    let downloads = open(&stage);
    let id = block_on(downloads.add(hls(&stage, TRACK))).unwrap();
    let other = block_on(downloads.add(file(&stage, "/a.bin"))).unwrap();
    run_all(&downloads);
    let mut watch = downloads.watch();
    block_on(downloads.remove(&id)).unwrap();
    assert!(stage.entries(".m4s").is_empty());
    assert!(matches!(
        block_on(downloads.get(&id)),
        Err(OfflineError::Unknown { .. })
    ));
    let is_told = block_on(async {
        loop {
            match watch.next().await {
                Some(Change::Removed(removed)) => return removed == id,
                Some(_) => {}
                None => return false,
            }
        }
    });
    assert!(is_told);
    // While it plays it is removing.
    let mut reader = block_on(downloads.file(&other).unwrap().open_reader(OpenMode::Offline)).unwrap();
    block_on(downloads.remove(&other)).unwrap();
    assert_eq!(state(&downloads, &other), State::Removing);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(pattern().first_difference(0, &bytes), None);
    drop((reader, downloads));
    stage.restart();
    let downloads = open(&stage);
    assert_eq!(state(&downloads, &other), State::Removing);
    run_all(&downloads);
    assert!(block_on(downloads.list()).unwrap().is_empty() && stage.entries("-a.bin").is_empty());
}

/// O4: asked for again at any moment of its removal, a download is there, in this session and the next one.
#[test]
fn o4_a_download_that_is_asked_for_again_outlives_its_removal() {
    let stage = Stage::new();
    let downloads = open(&stage);
    let request = || file(&stage, "/a.bin");
    let id = block_on(downloads.add(request())).unwrap();
    for polls in 1..100 {
        run_all(&downloads);
        assert_eq!(state(&downloads, &id), State::Completed, "{polls}");
        let mut removal = Box::pin(downloads.remove(&id));
        let mut polled = 0;
        let is_removed = block_on(std::future::poll_fn(|cx| {
            polled += 1;
            let outcome = removal.as_mut().poll(cx).map(Result::unwrap);
            match outcome {
                std::task::Poll::Pending if polled < polls => std::task::Poll::Pending,
                outcome => std::task::Poll::Ready(outcome.is_ready()),
            }
        }));
        if is_removed {
            assert!(polls > 2 && block_on(downloads.list()).unwrap().is_empty());
            return;
        }
        let (added, removed) = block_on(future::zip(downloads.add(request()), removal));
        removed.unwrap();
        assert_eq!(added.unwrap(), id);
        assert_eq!(state(&downloads, &id), State::Queued, "{polls}");
        assert_eq!(state(&open(&stage), &id), State::Queued, "{polls}");
    }
    panic!("the removal does not end");
}

/// O4: a removal does not wait for a run that is held and not polled.
#[test]
fn o4_a_removal_does_not_wait_for_a_run_that_stands_still() {
    let stage = Stage::new();
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate(&gate));
    let downloads = open(&stage);
    let id = block_on(downloads.add(file(&stage, "/a.bin"))).unwrap();
    let mut run = Box::pin(downloads.run());
    while state(&downloads, &id) != State::Downloading {
        assert!(block_on(future::poll_once(&mut run)).is_none());
    }
    block_on(downloads.remove(&id)).unwrap();
    let idle = async {
        downloads.idle().await;
        Ok(())
    };
    block_on(future::or(run, idle)).unwrap();
    assert!(block_on(downloads.list()).unwrap().is_empty());
}

/// O4: of an asset that has files of two downloads a removal takes what is its own, and all of that.
#[test]
fn o4_a_removal_leaves_what_another_download_has_in_the_asset() {
    let stage = Stage::new();
    let downloads = open(&stage);
    let asset = AssetId::from_key("album").unwrap();
    let track = hls(&stage, TRACK).asset(asset.clone());
    let track = block_on(downloads.add(track)).unwrap();
    let other = block_on(downloads.add(file(&stage, "/a.bin").asset(asset.clone()))).unwrap();
    run_all(&downloads);
    assert!(!stage.entries(".m4s").is_empty());
    block_on(downloads.remove(&track)).unwrap();
    assert!(stage.entries(".m4s").is_empty() && stage.entries(".m3u8").is_empty());
    assert!(block_on(downloads.state(&other)).unwrap().is_complete());
    assert!(block_on(stage.cache.asset(&asset)).unwrap().unwrap().pinned);
}

/// O5: asked for again with another selection, both are there; and offline plays what was selected.
#[test]
fn o5_selections_are_merged() {
    let stage = Stage::new();
    let downloads = open(&stage);
    let these = |indices: &[usize]| Selection::default().variants(Variants::These(indices.to_vec()));
    let id = block_on(downloads.add(hls(&stage, TRACK).selection(these(&[1])))).unwrap();
    run_all(&downloads);
    // Long after the last change: what was found is remembered, and must not answer for what is asked for next.
    stage.age();
    let one = block_on(downloads.state(&id)).unwrap();
    assert!(one.is_complete());
    let again = block_on(downloads.add(hls(&stage, TRACK).selection(these(&[2])))).unwrap();
    assert_eq!(again, id);
    assert!(!block_on(downloads.list()).unwrap()[0].progress.is_complete);
    let both = block_on(downloads.state(&id)).unwrap();
    assert!(!both.is_complete());
    run_all(&downloads);
    let both = block_on(downloads.state(&id)).unwrap();
    assert!(both.is_complete() && both.bytes > one.bytes);
    stage.server.stop();
    let mut sum = 0;
    for variant in [1, 2] {
        let choice = kithara::hls::VariantChoice::Index(variant);
        let params = HlsParams::with_access(stage.access()).variant(choice);
        let stored = block_on(HlsSource::new(stage.url(TRACK), params).stored()).unwrap();
        assert!(stored.is_complete());
        sum += stored.bytes;
    }
    assert_eq!(both.bytes, sum, "one selection, and not the later one alone");
}

/// O4: a new URL or limit takes the place of the old one also while that is being fetched.
#[test]
fn o4_a_new_request_is_begun_anew_while_the_old_one_runs() {
    let stage = Stage::new();
    let gate = stage.server.gate();
    stage.server.serve("/b.bin", Content::pattern(&pattern(), 1000));
    stage.server.rule("/a.bin", Rule::new().gate(&gate));
    let asset = AssetId::from_key("one").unwrap();
    let path = CachePath::parse("file").unwrap();
    let request = |name| file(&stage, name).asset(asset.clone()).cache_path(path.clone());
    let downloads = open(&stage);
    let id = block_on(downloads.add(request("/a.bin"))).unwrap();
    let mut watch = downloads.watch();
    let renewing = async {
        let mut is_asked = false;
        while let Some(change) = watch.next().await {
            let Change::Changed(info) = change else { continue };
            if info.state == State::Downloading && !is_asked {
                is_asked = true;
                assert_eq!(downloads.add(request("/b.bin")).await.unwrap(), id);
            }
            if info.state == State::Completed {
                return info.progress.bytes;
            }
        }
        0
    };
    let run = async {
        downloads.run().await.unwrap();
        0
    };
    assert_eq!(block_on(future::or(run, renewing)), 1000);
}

/// O5: a span of time, and a Rendition by its language.
#[test]
fn o5_a_window_and_a_rendition_are_fetched_alone() {
    let stage = Stage::new();
    let downloads = open(&stage);
    let second = Duration::from_secs(1);
    let selection = Selection::default()
        .variants(Variants::These(vec![3]))
        .renditions(Renditions::Languages(vec!["zxx".into()]))
        .window(second..second * 2);
    let id = block_on(downloads.add(hls(&stage, TRACK).selection(selection))).unwrap();
    run_all(&downloads);
    let stored = block_on(downloads.state(&id)).unwrap();
    assert!(
        stored.is_complete() && stored.duration.unwrap() < second * 10,
        "{stored:?}"
    );
    let requests = stage.server.requests();
    let segments = requests.iter().filter(|request| {
        request.path_only().ends_with(".m4s") && request.header("range") != Some("bytes=0-511")
    });
    let segments: Vec<_> = segments.map(|request| request.path.clone()).collect();
    assert!(
        segments.iter().all(|path| path.contains("flac")) && segments.len() < 5,
        "{segments:?}"
    );
}

/// One run at a time.
#[test]
fn o4_a_second_run_is_refused() {
    let stage = Stage::new();
    let downloads = open(&stage);
    let mut first = Box::pin(downloads.run());
    assert!(block_on(future::poll_once(&mut first)).is_none());
    assert!(matches!(
        block_on(downloads.clone().run()),
        Err(OfflineError::Running)
    ));
    drop(first);
    assert!(block_on(future::poll_once(downloads.run())).is_none());
}

/// O3: of several Variant Streams the figures are of all of them, and never go back.
#[test]
fn o3_progress_of_several_variants_is_one() {
    let stage = Stage::new();
    let downloads = open(&stage);
    let all = Selection::default().variants(Variants::All);
    let id = block_on(downloads.add(hls(&stage, TRACK).selection(all))).unwrap();
    let mut watch = downloads.watch();
    let seen = async {
        let (mut last, mut told) = (0, 0);
        while let Some(change) = watch.next().await {
            let Change::Changed(info) = change else { continue };
            assert!(
                info.progress.bytes >= last,
                "{} after {last}",
                info.progress.bytes
            );
            (last, told) = (info.progress.bytes, told + 1);
            if info.state == State::Completed {
                assert_eq!(info.progress.total, Total::Exact(last));
                return told;
            }
        }
        0
    };
    let run = async {
        downloads.run().await.unwrap();
        0
    };
    assert!(block_on(future::or(run, seen)) > 3);
    assert!(block_on(downloads.verify(&id, |_, _| ())).unwrap().is_complete());
}
