//! Several sources of one file in one process: one download.

use std::future::{Future, poll_fn};
use std::io::{Read, Seek, SeekFrom};
use std::task::Poll;

use futures_lite::StreamExt;
use futures_lite::future::{block_on, poll_once};
use kithara::file::{
    Bypass, FileControl, FileError, FileParams, FileParts, FileSource, LookAhead, OpenMode, Origin,
};
use kithara::stream::{Stream, StreamParams};
use kithara_test_support::{Content, Pattern, Rule};

use crate::*;

/// Two players of the same URL.
#[test]
fn a_second_source_reads_what_the_first_fetches() {
    let stage = Stage::new(4 * MIB);
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate_after(MIB, &gate));
    let mut first = stage.reader();
    let mut second = stage.reader();
    assert_eq!(second.len(), Some(stage.len));
    assert_at(&mut second, 1000, 4096);
    assert_at(&mut first, 0, 4096);
    gate.open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            first.seek(SeekFrom::Start(0)).unwrap();
            assert_rest(&mut first, 0, stage.len);
        });
        second.seek(SeekFrom::Start(0)).unwrap();
        assert_rest(&mut second, 0, stage.len);
    });
    assert_eq!(stage.requests(), 1);
}

/// A jump of the second does not stop the first.
#[test]
fn each_reads_where_it_likes() {
    let stage = Stage::new(24 * MIB);
    stage.server.rule("/a.bin", Rule::new().trickle(8 * MIB));
    let mut first = stage.reader();
    let mut second = stage.reader();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_rest(&mut first, 0, 24 * MIB));
        second.seek(SeekFrom::Start(16 * MIB)).unwrap();
        assert_rest(&mut second, 16 * MIB, 24 * MIB);
    });
    assert!(
        stage.server.bytes_sent() < 26 * MIB,
        "{}",
        stage.server.bytes_sent()
    );
    assert!(stage.requests() < 40, "{}", stage.requests());
}

/// Each cache has the file that its sources fetch.
#[test]
fn sources_of_two_caches_do_not_meet() {
    let stage = Stage::new(MIB);
    let other = Stage::new(0);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().gate_after(64 * KIB, &gate));
    let mut first = stage.reader();
    let params = FileParams::new(client(), other.cache.clone());
    let mut second = block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap();
    let mut third = stage.reader();
    gate.open();
    assert_rest(&mut first, 0, stage.len);
    assert_rest(&mut second, 0, stage.len);
    assert_rest(&mut third, 0, stage.len);
    assert_eq!(stage.requests(), 2, "the third shares the first one's");
}

/// The download goes on until the last of them is gone.
#[test]
fn the_first_may_leave() {
    let stage = Stage::new(8 * MIB);
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate_after(MIB, &gate));
    let first = stage.reader();
    let mut second = stage.reader();
    drop(first);
    gate.open();
    assert_rest(&mut second, 0, stage.len);
    assert_eq!(stage.requests(), 1);
    drop(second);
    stage.server.wait_until(|log| log.open_connections() == 0);
}

/// All at once: none fetches beside another.
#[test]
fn many_that_open_at_once_make_one_download() {
    let stage = Stage::new(4 * MIB);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_rest(&mut stage.reader(), 0, stage.len));
        }
    });
    assert_eq!(stage.requests(), 1);
    assert_eq!(stage.server.bytes_sent(), stage.len);
}

#[test]
fn a_stream_shares_the_download_of_a_reader() {
    let stage = Stage::new(4 * MIB);
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate_after(MIB, &gate));
    let mut reader = stage.reader();
    let mut stream = Stream::new(stage.source(), StreamParams::default());
    let first = block_on(stream.next()).unwrap().unwrap();
    assert_eq!(pattern().first_difference(0, &first), None);
    gate.open();
    let mut at = first.len() as u64;
    while let Some(bytes) = block_on(stream.next()) {
        let bytes = bytes.unwrap();
        assert_eq!(pattern().first_difference(at, &bytes), None);
        at += bytes.len() as u64;
    }
    assert_eq!(at, stage.len);
    assert_rest(&mut reader, 0, stage.len);
    assert_eq!(stage.requests(), 1);
}

/// A source that wants more of the file than the first one gets it, and is told when it is complete.
#[test]
fn the_wider_look_ahead_counts() {
    let stage = Stage::new(8 * MIB);
    let sparing = stage.params().look_ahead(LookAhead::Bytes(64 * KIB));
    let mut first = block_on(FileSource::new(stage.url(), sparing).open_reader(OpenMode::Online)).unwrap();
    assert_at(&mut first, 0, 1000);
    // Keeps the whole file without reading it.
    let FileParts {
        reader,
        driver,
        mut events,
        ..
    } = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    block_on(driver);
    assert!(matches!(
        events.try_next(),
        Some(FileControl::Opened {
            origin: Origin::Network,
            len: Some(_)
        })
    ));
    assert!(matches!(events.try_next(), Some(FileControl::Cached)));
    assert_eq!(reader.resource().available(), vec![0..stage.len]);
    assert_eq!(stage.requests(), 1);
}

/// C16: a subscriber is told that the cache has no room, also if it comes when that is known already.
#[test]
fn each_source_is_told_that_the_file_is_not_kept() {
    let stage = Stage::with_cache(8 * MIB, 2 * MIB);
    let (early, late) = (stage.server.gate(), stage.server.gate());
    let rule = Rule::new().gate_after(MIB, &early).gate_after(3 * MIB, &late);
    stage.server.rule("/a.bin", rule);
    let mut first = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    let driver = std::thread::spawn(move || block_on(first.driver));
    let mut second = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    early.open();
    // The first one is told last, so no read below waits for an event that does not come.
    let mut next = || block_on(first.events.next()).unwrap();
    assert_opened_and_bypassed(&[next(), next()]);
    let mut third = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    for events in [&mut second.events, &mut third.events] {
        assert_opened_and_bypassed(&[events.try_next().unwrap(), events.try_next().unwrap()]);
    }
    late.open();
    drop(first.reader);
    assert_rest(&mut second.reader, 0, stage.len);
    assert_eq!(stage.requests(), 1);
    drop((second.reader, third.reader));
    driver.join().unwrap();
    // Their events end with them.
    drop((second.driver, third.driver));
    for events in [&mut second.events, &mut third.events] {
        assert!(matches!(block_on(poll_once(events.next())), Some(None)));
    }
}

#[track_caller]
fn assert_opened_and_bypassed(told: &[FileControl; 2]) {
    let full = |reason: &Bypass| matches!(reason, Bypass::Refused(error) if error.is_full());
    assert!(
        matches!(told, [FileControl::Opened { .. }, FileControl::CacheBypassed { reason }] if full(reason)),
        "{told:?}"
    );
}

/// The second takes over what a first one, whose server failed, has left.
#[test]
fn after_a_failure_the_next_one_goes_on() {
    let stage = Stage::new(4 * MIB);
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).truncate_after(MIB));
    let gone = stage.server.rule("/a.bin", Rule::new().answer(404, "gone"));
    let mut first = stage.reader();
    let mut bytes = Vec::new();
    let error = first.read_to_end(&mut bytes).unwrap_err();
    assert!(FileError::of(&error).unwrap().is_not_found(), "{error:?}");
    gone.remove();
    let before = stage.requests();
    assert_rest(&mut stage.reader(), 0, stage.len);
    let requests = stage.server.requests().split_off(before);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].range_start(), Some(MIB));
    // And the first one has it all now.
    assert_at(&mut first, MIB - 1000, 4096);
}

/// Fault C14: a caller that gives up while its request runs does not fail the second one, which makes its own.
#[test]
fn a_first_that_is_dropped_while_it_opens_leaves_the_file_to_the_second() {
    let stage = Stage::new(MIB);
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().first(1).gate(&gate));
    let source = stage.source();
    let mut first = Box::pin(source.open_reader(OpenMode::Online));
    block_on(async {
        // Polled until its request is there.
        while gate.arrived() == 0 {
            assert!(poll_once(first.as_mut()).await.is_none());
        }
    });
    std::thread::scope(|scope| {
        let second = scope.spawn(|| assert_rest(&mut stage.reader(), 0, stage.len));
        drop(first);
        second.join().unwrap();
    });
}

/// Fault C14: a caller that gives up when the file has opened, before it received it, leaves the download to the others.
#[test]
fn a_first_that_is_dropped_when_the_file_has_opened_leaves_the_download_to_the_second() {
    let stage = Stage::new(4 * MIB);
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate_after(MIB, &gate));
    let source = stage.source();
    let mut first = Box::pin(source.open_reader(OpenMode::Online));
    poll_until_woken(first.as_mut());
    let mut second = stage.reader();
    drop(first);
    gate.open();
    let len = stage.len;
    in_time(move || assert_rest(&mut second, 0, len));
    assert_eq!(stage.requests(), 1);
}

/// Fault C14: the same where an earlier session left enough to be read at once. Each of them in turn is dropped.
#[test]
fn no_source_shares_a_download_that_may_still_be_given_up() {
    let mut stage = Stage::new(4 * MIB);
    let left = stage
        .server
        .rule("/a.bin", Rule::new().first(1).stall_after(2 * MIB));
    assert_at(&mut stage.reader(), 0, MIB as usize);
    stage.restart();
    left.remove();
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate(&gate));
    let sources = [stage.source(), stage.source(), stage.source()];
    let mut waiting = sources
        .iter()
        .map(|source| Box::pin(source.open_parts(OpenMode::Online)));
    let mut first = waiting.next().unwrap();
    for (asked, mut next) in (1..).zip(waiting) {
        block_on(async {
            while gate.arrived() < asked {
                assert!(poll_once(first.as_mut()).await.is_none());
            }
        });
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            assert!(next.as_mut().poll(cx).is_pending(), "the server has not answered");
            polls += 1;
            // Polled again once it has looked into the cache.
            if polls == 2 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        first = next;
    }
    gate.open();
    let mut parts = block_on(first).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| block_on(parts.driver));
        assert_rest(&mut parts.reader, 0, stage.len);
    });
}

/// A driver that the app runs serves the subscribers as long as it runs.
#[test]
fn a_dropped_driver_ends_the_waits_of_subscribers() {
    let stage = Stage::new(4 * MIB);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).gate_after(MIB, &gate));
    let parts = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    let mut second = stage.reader();
    drop(parts.driver);
    second.seek(SeekFrom::Start(2 * MIB)).unwrap();
    let error = second.read(&mut [0; 10]).unwrap_err();
    assert!(
        matches!(FileError::of(&error), Some(FileError::Stopped)),
        "{error:?}"
    );
    // Opened again it is fetched again.
    assert_rest(&mut stage.reader(), 0, stage.len);
}

/// Fault D4: the next source to open a changed file gets the new one, although a reader holds the old one open.
#[test]
fn no_source_shares_a_file_that_is_no_more() {
    let stage = Stage::new(8 * MIB);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).gate_after(MIB, &gate));
    let mut first = stage.reader();
    assert_at(&mut first, 0, 4096);
    let other = Pattern::new(77);
    stage.server.serve("/a.bin", Content::pattern(&other, 8 * MIB));
    first.seek(SeekFrom::Start(5 * MIB)).unwrap();
    assert!(
        FileError::of(&first.read(&mut [0; 10]).unwrap_err())
            .unwrap()
            .is_changed()
    );
    let mut bytes = Vec::new();
    stage.reader().read_to_end(&mut bytes).unwrap();
    assert_eq!(
        (bytes.len() as u64, other.first_difference(0, &bytes)),
        (8 * MIB, None)
    );
    assert_at(&mut first, 0, 4096);
}

/// A source that comes as the last one leaves finds a download, or starts its own.
#[test]
fn a_source_that_comes_as_the_last_one_leaves_is_served() {
    let stage = Stage::new(2 * MIB);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().range_start(0).gate_after(MIB, &gate));
    for _ in 0..50 {
        let first = stage.reader();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| stage.reader());
            drop(first);
            assert_at(&mut second.join().unwrap(), 2 * MIB - 1000, 1000);
        });
    }
}

/// A reader has read the file and left, and the commit is under way. The next source waits for it.
#[test]
fn a_file_that_becomes_whole_is_not_fetched_again() {
    for round in 0..30 {
        let stage = Stage::new(64 * KIB);
        assert_rest(&mut stage.reader(), 0, stage.len);
        assert_rest(&mut stage.reader(), 0, stage.len);
        assert_eq!(stage.requests(), 1, "round {round}");
    }
}

/// F1, W1: sources that open one file at once stand in line behind the first. Its answer is a page, and while that is being
/// given up the next in line must not take the page's length for that of the file.
#[test]
fn the_length_of_a_login_page_reaches_no_source_that_waits_in_line() {
    const SOURCES: usize = 4;
    let stage = Stage::new(MIB);
    for round in 0..40 {
        let path = format!("/{round}.bin");
        stage.server.serve(&path, Content::pattern(pattern(), MIB));
        let page = Rule::new().answer(200, "<!DOCTYPE html><html><body>Log in</body></html>");
        let rule = stage.server.rule(&path, page.first(1));
        let start = std::sync::Barrier::new(SOURCES);
        let open = || {
            let url = Url::parse(&stage.server.url(&path)).unwrap();
            let source = FileSource::new(url, stage.params());
            start.wait();
            block_on(source.open_reader(OpenMode::Online))
        };
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..SOURCES).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(rule.hits(), 1);
        let (readers, refused): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        assert_eq!(refused.len(), 1, "round {round}: {refused:?}");
        for reader in readers {
            assert_eq!(reader.unwrap().len(), Some(MIB), "round {round}");
        }
    }
}
