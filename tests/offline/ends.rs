//! When a download may not be played any more (O8).

use std::time::SystemTime;

use futures_lite::future;
use kithara::cache::AssetId;
use kithara::offline::{Change, OfflineError, State};

use crate::queue::{file, open, open_with, run_all, state};
use crate::*;

/// O8: told a while before; then unpinned, typed where it would be played, and not removed.
#[test]
fn o8_what_ends_is_told_before_and_is_typed_after() {
    let stage = Stage::new();
    let downloads = open_with(&stage, |builder| builder.notice(Duration::from_secs(3600)));
    let end = SystemTime::now() + Duration::from_millis(2500);
    let id = block_on(downloads.add(file(&stage, "/a.bin").valid_until(end))).unwrap();
    let mut watch = downloads.watch();
    let told = async {
        let mut told = Vec::new();
        while let Some(change) = watch.next().await {
            match change {
                Change::Expiring { at, .. } => {
                    assert!(at > SystemTime::now());
                    told.push("expiring");
                }
                Change::Expired(_) => {
                    told.push("expired");
                    break;
                }
                _ => {}
            }
        }
        told
    };
    let run = async {
        downloads.run().await.unwrap();
        Vec::new()
    };
    assert_eq!(block_on(future::or(run, told)), ["expiring", "expired"]);
    assert!(matches!(downloads.file(&id), Err(OfflineError::Expired { .. })));
    let info = block_on(downloads.get(&id)).unwrap();
    assert!(info.is_expired && info.state == State::Completed);
    let asset = block_on(stage.cache.asset(&stage.file("/a.bin").asset().unwrap()))
        .unwrap()
        .unwrap();
    assert!(!asset.pinned && asset.bytes > 3 * MIB);
    // Extended, it plays again, and nothing is fetched.
    let before = stage.server.requests().len();
    block_on(downloads.add(file(&stage, "/a.bin"))).unwrap();
    run_all(&downloads);
    assert!(downloads.file(&id).is_ok());
    assert_eq!(stage.server.requests().len(), before);
}

/// O8: what the app's own check refuses is unpinned, unless another download needs it; allowed again, it is pinned again.
#[test]
fn o8_an_end_that_is_taken_back_is_one_no_more() {
    use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering::SeqCst};
    let stage = Stage::new();
    stage.server.serve("/b.bin", Content::pattern(&pattern(), 1000));
    let is_refused = Arc::new(AtomicBool::new(false));
    let check = is_refused.clone();
    let downloads = open_with(&stage, |builder| {
        builder.validity(move |info| info.request.url().path() != "/a.bin" || !check.load(SeqCst))
    });
    let asset = AssetId::from_key("album").unwrap();
    let add = |name| block_on(downloads.add(file(&stage, name).asset(asset.clone()))).unwrap();
    let is_pinned = || {
        let asset = block_on(stage.cache.asset(&asset)).unwrap();
        asset.is_some_and(|asset| asset.pinned)
    };
    let (id, other) = (add("/a.bin"), add("/b.bin"));
    run_all(&downloads);
    is_refused.store(true, SeqCst);
    let expired = async {
        let mut watch = downloads.watch();
        while let Some(change) = watch.next().await {
            if matches!(change, Change::Expired(_)) {
                return;
            }
        }
    };
    block_on(future::or(async { downloads.run().await.unwrap() }, expired));
    assert!(block_on(downloads.get(&id)).unwrap().is_expired);
    assert!(is_pinned(), "the other one needs it");
    block_on(downloads.remove(&other)).unwrap();
    assert!(!is_pinned());
    is_refused.store(false, SeqCst);
    // Until it is kept, which comes after the change is told.
    let run = async { downloads.run().await.unwrap() };
    let pinned = async {
        while !is_pinned() {
            future::yield_now().await;
        }
    };
    block_on(future::or(run, pinned));
    assert!(!block_on(downloads.get(&id)).unwrap().is_expired);
    assert!(downloads.file(&id).is_ok());
}

/// O8: asked for with a time that is over, it is told at once, and nothing is fetched.
#[test]
fn o8_what_has_ended_when_it_is_asked_for_is_told_at_once() {
    let stage = Stage::new();
    let downloads = open(&stage);
    let mut watch = downloads.watch();
    let past = SystemTime::now() - Duration::from_secs(1);
    let id = block_on(downloads.add(file(&stage, "/a.bin").valid_until(past))).unwrap();
    assert!(block_on(downloads.get(&id)).unwrap().is_expired);
    let told = block_on(watch.next());
    assert!(
        matches!(&told, Some(Change::Expired(told)) if *told == id),
        "{told:?}"
    );
    run_all(&downloads);
    assert_eq!(stage.server.requests().len(), 0);
    assert_eq!(state(&downloads, &id), State::Queued);
    // And one that has ended meanwhile: a later session tells it as ended, and not once more.
    drop(downloads);
    let downloads = open(&stage);
    let mut watch = downloads.watch();
    run_all(&downloads);
    let first = block_on(watch.next());
    assert!(matches!(first, Some(Change::Changed(info)) if info.is_expired));
    assert!(block_on(future::poll_once(watch.next())).is_none());
}

/// O8: the app's own check holds where a download is played, whether or not anything runs.
#[test]
fn o8_the_check_of_the_app_is_asked_when_a_download_is_played() {
    use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering::SeqCst};
    let stage = Stage::new();
    let is_refused = Arc::new(AtomicBool::new(false));
    let check = is_refused.clone();
    let downloads = open_with(&stage, |builder| builder.validity(move |_| !check.load(SeqCst)));
    let id = block_on(downloads.add(file(&stage, "/a.bin"))).unwrap();
    let track = block_on(downloads.add(crate::queue::hls(&stage, TRACK))).unwrap();
    run_all(&downloads);
    assert!(downloads.file(&id).is_ok() && block_on(downloads.track(&track)).is_ok());
    is_refused.store(true, SeqCst);
    assert!(matches!(downloads.file(&id), Err(OfflineError::Expired { .. })));
    let refused = block_on(downloads.track(&track));
    assert!(matches!(refused, Err(OfflineError::Expired { .. })));
    assert!(
        block_on(downloads.state(&id)).unwrap().is_complete(),
        "the bytes stay"
    );
}
