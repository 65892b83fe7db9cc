//! Why a download fails, as far as an app can act on it (O3); and what does not hold up the others (O4).

use std::net::TcpListener;

use futures_lite::future;
#[cfg(feature = "test-util")]
use kithara::offline::Change;
use kithara::offline::{Cause, DownloadId, DownloadRequest, Downloads, Failure, State};
use kithara_test_support::{Rule, Server};

use crate::queue::{file, hls, open, open_with, run_all, run_until, state};
use crate::*;

fn failure(downloads: &Downloads, request: DownloadRequest) -> Failure {
    let id = block_on(downloads.add(request)).unwrap();
    run_all(downloads);
    let info = block_on(downloads.get(&id)).unwrap();
    assert_eq!(info.state, State::Failed, "{info:?}");
    info.failure.unwrap()
}

/// O3: another file with each answer.
#[test]
fn o3_a_file_that_changes_again_and_again_is_told_as_changed() {
    let stage = Stage::new();
    for version in 0..40 {
        let content = Content::pattern(&kithara_test_support::Pattern::new(version), MIB);
        let rule = Rule::new().content(content).truncate_after(200 * KIB).first(1);
        stage.server.rule("/a.bin", rule);
    }
    let failure = failure(&open(&stage), file(&stage, "/a.bin"));
    assert_eq!(failure.cause, Cause::Changed, "{failure}");
}

/// O3: a key that the server refuses, and one that is none.
#[test]
fn o3_a_key_that_is_refused_is_told_as_that() {
    for rule in [
        Rule::new().answer(403, "no"),
        Rule::new().answer(200, "too short"),
    ] {
        let stage = Stage::new();
        stage.server.rule("/locked/key", rule);
        let failure = failure(&open(&stage), hls(&stage, ENCRYPTED));
        assert_eq!(failure.cause, Cause::KeyRefused, "{failure}");
        assert!(
            stage
                .server
                .requests()
                .iter()
                .any(|request| request.path.contains("key"))
        );
    }
}

/// O3: the login page of a network, for a file and for a track.
#[test]
fn o3_a_login_page_is_told_as_no_media() {
    let stage = Stage::new();
    let page = Rule::new()
        .answer(200, "<!DOCTYPE html><html><body>Log in</body></html>")
        .header("Content-Type", "text/html");
    stage.server.rule("*", page);
    let downloads = open(&stage);
    let failure = failure(&downloads, file(&stage, "/a.bin"));
    assert_eq!(failure.cause, Cause::NotMedia, "{failure}");
    let id = block_on(downloads.add(hls(&stage, TRACK))).unwrap();
    run_all(&downloads);
    let failure = block_on(downloads.get(&id)).unwrap().failure.unwrap();
    assert_eq!(failure.cause, Cause::NotMedia, "{failure}");
}

/// O3: what the server asks not to store, where the app has it so.
#[test]
fn o3_what_may_not_be_kept_is_told_as_that() {
    let stage = Stage::new();
    let rule = stage
        .server
        .rule("/a.bin", Rule::new().header("Cache-Control", "no-store"));
    let downloads = open_with(&stage, |builder| {
        builder.file_params(|_, params| params.respect_no_store(true))
    });
    let refused = failure(&downloads, file(&stage, "/a.bin"));
    assert_eq!(refused.cause, Cause::NotKept, "{refused}");
    rule.remove();
    // Allowed again, it is kept.
    block_on(downloads.resume_all()).unwrap();
    block_on(downloads.add(file(&stage, "/a.bin"))).unwrap();
    run_all(&downloads);
    assert!(block_on(downloads.list()).unwrap()[0].progress.is_complete);
}

/// Runs until `id` is completed, with `other` not being so.
fn completes_beside(downloads: &Downloads, id: &DownloadId, other: &DownloadId) {
    let info = run_until(downloads, id, |info| info.state == State::Completed);
    assert!(info.progress.is_complete);
    assert_ne!(state(downloads, other), State::Completed);
}

/// O4: a host that does not answer, one that is not there and one that breaks down in the middle hold up none of another host.
#[test]
fn o4_a_dead_host_holds_up_no_other() {
    let stage = Stage::new();
    let silent = Server::empty().unwrap();
    silent.serve("/a.bin", Content::pattern(&pattern(), MIB));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = Url::parse(&format!("http://{nobody}/a.bin")).unwrap();
    let silent_url = Url::parse(&silent.url("/a.bin")).unwrap();
    let rules = [
        Rule::new().never_answer(),
        Rule::new().stall_after(300 * KIB),
        Rule::new().answer(503, "busy"),
    ];
    let dead = [
        (silent_url.clone(), Some(0)),
        (silent_url.clone(), Some(1)),
        (silent_url, Some(2)),
        (nobody, None),
    ];
    for (url, rule) in dead {
        let rule = rule.map(|number: usize| silent.rule("*", rules[number].clone()));
        let downloads = open_with(&stage, |builder| {
            builder.parallel(1).stall_limit(Duration::from_millis(300))
        });
        let slow = block_on(downloads.add(DownloadRequest::file(url).priority(1))).unwrap();
        let id = block_on(downloads.add(file(&stage, "/a.bin"))).unwrap();
        completes_beside(&downloads, &id, &slow);
        if let Some(rule) = rule {
            // And it goes on by itself when it is back.
            rule.remove();
            silent.cut();
            let run = async { downloads.run().await.unwrap() };
            block_on(future::or(run, downloads.idle()));
            assert_eq!(state(&downloads, &slow), State::Completed);
        }
        for id in [slow, id] {
            block_on(downloads.remove(&id)).unwrap();
        }
    }
}

/// O4: nothing waits for the end of a removal that fails, and the app is told why.
#[cfg(feature = "test-util")]
#[test]
fn o4_a_removal_that_fails_is_told_and_not_waited_for() {
    let stage = Stage::new();
    let disk = kithara::storage::testing::FakeDisk::default();
    let (_cache, downloads) = crate::power::downloads_on(&disk);
    let id = block_on(downloads.add(file(&stage, "/a.bin"))).unwrap();
    run_all(&downloads);
    let asset = stage.file("/a.bin").asset().unwrap().name();
    let folder = format!("/assets/{}/{asset}", &asset[..2]);
    disk.refuse("rename", folder, 1);
    assert!(block_on(downloads.remove(&id)).is_err());
    // It would not end.
    run_all(&downloads);
    let info = block_on(downloads.get(&id)).unwrap();
    assert_eq!(info.state, State::Removing);
    assert!(info.failure.is_some());
    let mut watch = downloads.watch();
    disk.refuse_nothing();
    block_on(downloads.remove(&id)).unwrap();
    let told = block_on(async {
        loop {
            if let Change::Removed(removed) = watch.next().await.unwrap() {
                return removed;
            }
        }
    });
    assert_eq!(told, id);
}
