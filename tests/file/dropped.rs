//! Readers that are dropped while the driver is busy: the server sees it at once, whatever the driver is doing (S1, N5).

use std::sync::{Mutex, PoisonError, mpsc};

use futures_lite::future::{block_on, poll_once};
use kithara::file::{FileControl, OpenMode};
use kithara_test_support::Rule;

use crate::*;

/// Bodies stop after 64 KiB, so that no connection becomes free by itself.
fn stuck() -> Stage {
    let stage = Stage::new(40 * MIB);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().gate_after(64 * KIB, &gate));
    stage
}

#[test]
fn a_driver_that_is_never_polled_keeps_no_connection() {
    let stage = stuck();
    let parts = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    assert_eq!(stage.server.open_connections(), 1);
    drop(parts.reader);
    stage.server.wait_until(|log| log.open_connections() == 0);
    block_on(parts.driver);
}

/// N5, S1: there is a reader still, but no driver.
#[test]
fn a_driver_that_is_dropped_keeps_no_connection() {
    let stage = stuck();
    let mut parts = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    assert!(block_on(poll_once(&mut parts.driver)).is_none());
    assert_eq!(stage.server.open_connections(), 1);
    drop(parts.driver);
    stage.server.wait_until(|log| log.open_connections() == 0);
    drop(parts.reader);
}

#[test]
fn one_reader_of_two_that_goes_leaves_the_connection_to_the_other() {
    let stage = Stage::new(4 * MIB);
    let first = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    let mut second = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    drop(first.reader);
    let mut driver = first.driver;
    assert!(block_on(poll_once(&mut driver)).is_none());
    let driver = std::thread::spawn(|| block_on(driver));
    assert_rest(&mut second.reader, 0, stage.len);
    driver.join().unwrap();
    assert_eq!(stage.requests(), 1);
}

/// A driver without readers does not wait: not before a body without a validator is asked for again either. The next source
/// finds the cache's entry free.
#[test]
fn a_driver_that_waits_to_ask_again_ends_with_its_reader() {
    let stage = Stage::new(4 * MIB);
    let broken = Rule::new().first(1).without_validators().truncate_after(64 * KIB);
    stage.server.rule("/a.bin", broken);
    let parts = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    stage.server.wait_until(|log| log.open_connections() == 0);
    let mut driver = parts.driver;
    while parts.reader.resource().available() != [0..64 * KIB] {
        assert!(block_on(poll_once(&mut driver)).is_none());
    }
    assert!(block_on(poll_once(&mut driver)).is_none());
    drop(parts.reader);
    assert!(block_on(poll_once(&mut driver)).is_some(), "over");
    let mut next = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    block_on(next.driver);
    assert!(matches!(next.events.try_next(), Some(FileControl::Opened { .. })));
    assert!(matches!(next.events.try_next(), Some(FileControl::Cached)));
}

/// N5, S1: the caller is gone before it receives the open file. Nothing is left of it: the cache closes.
#[test]
fn a_source_dropped_just_after_its_file_opened_leaves_no_driver() {
    let mut stage = stuck();
    let source = stage.source();
    let mut opening = Box::pin(source.open_reader(OpenMode::Online));
    poll_until_woken(opening.as_mut());
    drop(opening);
    drop(source);
    stage.server.wait_until(|log| log.open_connections() == 0);
    in_time(move || stage.restart());
}

/// Stops the thread that logs a certain text, in the middle of its work.
struct Trap(Mutex<Option<Set>>);

struct Set {
    text: String,
    caught: mpsc::Sender<()>,
    release: mpsc::Receiver<()>,
}

impl log::Log for Trap {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = lock().take_if(|set| text.contains(&set.text)) {
            set.caught.send(()).unwrap();
            // An error if the test is over.
            let _ = set.release.recv();
        }
    }

    fn flush(&self) {}
}

static TRAP: Trap = Trap(Mutex::new(None));

/// Stops the next driver that has just seen an answer of the stage's server: what it holds is in its hand then. The
/// driver goes on when the returned end is dropped.
fn arm(stage: &Stage) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (caught, is_caught) = mpsc::channel();
    let (go_on, release) = mpsc::channel();
    let _ = log::set_logger(&TRAP);
    log::set_max_level(log::LevelFilter::Debug);
    *TRAP.0.lock().unwrap() = Some(Set {
        text: format!("{} answers 206", stage.url()),
        caught,
        release,
    });
    (is_caught, go_on)
}

/// One test, as a process has one logger.
#[test]
fn what_a_driver_is_busy_with_is_closed_over_its_head() {
    // While the file is opened.
    let stage = stuck();
    let (is_caught, go_on) = arm(&stage);
    let source = stage.source();
    let mut opening = Box::pin(source.open_reader(OpenMode::Online));
    assert!(block_on(poll_once(&mut opening)).is_none());
    is_caught.recv_timeout(LONG).unwrap();
    drop(opening);
    stage.server.wait_until(|log| log.open_connections() == 0);
    drop(go_on);

    // And while it jumps.
    let stage = stuck();
    let mut reader = stage.reader();
    let (is_caught, go_on) = arm(&stage);
    let interrupter = reader.interrupter();
    let reading = std::thread::spawn(move || {
        reader.seek(SeekFrom::Start(10 * MIB)).unwrap();
        reader.read(&mut [0]).unwrap_err();
    });
    is_caught.recv_timeout(LONG).unwrap();
    interrupter.interrupt();
    reading.join().unwrap();
    stage.server.wait_until(|log| log.open_connections() == 0);
    drop(go_on);
}
