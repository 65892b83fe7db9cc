//! R2 and R4: what is there, who is woken.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use futures_lite::future::block_on;
use kithara::storage::{Condition, Found, StreamingError, WaitError, Waited, Writer};

use crate::stage::{LONG, Reset, Resource, Stage, Wakes, content, poll, within};

/// R2: short reads up to the first hole; a hole is missing, never zeros and never the end.
#[test]
fn a_read_returns_what_is_there_and_never_waits() {
    let stage = Stage::new();
    let track = stage.open();
    let bytes = content(100);
    let mut writer = track.writer().unwrap();
    writer.write_at(40, &bytes[40..60]).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(track.read_at(0, &mut buffer).unwrap(), Found::Missing);
    assert_eq!(track.read_at(45, &mut buffer).unwrap(), Found::Bytes(15));
    assert_eq!(buffer[..15], bytes[45..60]);
    assert_eq!(
        track.read_at(60, &mut buffer).unwrap(),
        Found::Missing,
        "the end is not known"
    );
    assert_eq!(track.read_at(60, &mut []).unwrap(), Found::Bytes(0));
    writer.set_len(100).unwrap();
    assert_eq!(track.read_at(99, &mut buffer).unwrap(), Found::Missing);
    assert_eq!(track.read_at(100, &mut buffer).unwrap(), Found::End);
    assert_eq!(track.read_at(u64::MAX, &mut buffer).unwrap(), Found::End);
    assert_eq!(track.available(), [40..60]);
    assert_eq!(track.missing(0..1000), [0..40, 60..100]);
    assert_eq!(track.stored_bytes(), 20);
}

/// R2, fault B4: others were woken by "writer position ≥ wanted".
#[test]
fn b4_only_the_range_itself_wakes_its_waiter() {
    let stage = Stage::new();
    let track = stage.open();
    let bytes = content(1000);
    let mut writer = track.writer().unwrap();
    let (rings, waker) = Wakes::new();
    let mut wait = Box::pin(track.wait_range(100..200));
    assert!(poll(&mut wait, &waker).is_none());
    // Far beyond it, before it, half of it, the other half but one byte; a writer's going and coming.
    for range in [500..1000, 0..100, 100..150, 151..200] {
        writer
            .write_at(range.start as u64, &bytes[range.clone()])
            .unwrap();
        assert_eq!(rings.count(), 0, "{range:?} is not the range waited for");
    }
    drop(writer);
    let mut writer = track.writer().unwrap();
    writer.set_len(1000).unwrap();
    assert_eq!(rings.count(), 0);
    assert!(poll(&mut wait, &waker).is_none());
    writer.write_at(150, &bytes[150..151]).unwrap();
    assert_eq!(rings.count(), 1);
    assert_eq!(
        poll(&mut wait, &waker).unwrap().unwrap(),
        Waited::Present(100..200)
    );
}

/// R2: the end ends a wait once it is proven, wherever the wait began.
#[test]
fn a_wait_is_cut_at_the_proven_end() {
    let stage = Stage::new();
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    let (rings, waker) = Wakes::new();
    let mut beyond = Box::pin(track.wait_range(20..30));
    let mut across = Box::pin(track.wait_range(5..30));
    assert!(poll(&mut beyond, &waker).is_none() && poll(&mut across, &waker).is_none());
    writer.write_at(0, &content(10)).unwrap();
    assert_eq!(rings.count(), 0);
    writer.set_len(10).unwrap();
    assert_eq!(rings.count(), 2);
    assert_eq!(
        poll(&mut beyond, &waker).unwrap().unwrap(),
        Waited::End { len: 10 }
    );
    assert_eq!(
        poll(&mut across, &waker).unwrap().unwrap(),
        Waited::Present(5..10)
    );
    assert_eq!(
        block_on(track.wait_range(10..10)).unwrap(),
        Waited::End { len: 10 }
    );
    assert_eq!(block_on(track.wait_range(3..3)).unwrap(), Waited::Present(3..3));
}

/// R4, fault B11: others lost 4 MiB of buffered bytes and the cause.
#[test]
fn b11_after_a_failure_the_bytes_and_the_cause_are_kept() {
    let stage = Stage::new();
    let track = stage.open();
    let bytes = content(4 << 20);
    let mut writer = track.writer().unwrap();
    writer.write_at(0, &bytes).unwrap();
    let (rings, waker) = Wakes::new();
    let mut wait = Box::pin(track.wait_range(0..(4 << 20) + 1));
    assert!(poll(&mut wait, &waker).is_none());
    writer.fail(Reset(7));
    assert_eq!(rings.count(), 1);
    let failed = poll(&mut wait, &waker).unwrap().unwrap_err();
    assert_eq!(failed.cause(), Some(&Reset(7)), "the cause itself, typed");

    let mut read = vec![0; bytes.len()];
    assert_eq!(track.read_at(0, &mut read).unwrap(), Found::Bytes(bytes.len()));
    assert!(read == bytes);
    assert!(
        block_on(track.wait_range(0..4 << 20)).is_ok(),
        "what is present is no matter of the failure"
    );
    assert!(matches!(track.status().condition, Condition::Failed(cause) if cause.0 == 7));
}

/// Fault B15: the failed state was never cleared, the key dead for ever.
#[test]
fn b15_the_next_writer_clears_a_failure_and_goes_on() {
    let stage = Stage::new();
    let track = stage.open();
    let bytes = content(100);
    let mut first = track.writer().unwrap();
    first.write_at(0, &bytes[..50]).unwrap();
    first.fail(Reset(1));
    assert!(block_on(track.wait_range(50..100)).is_err());

    let mut second = track.writer().unwrap();
    let (_, waker) = Wakes::new();
    let mut wait = Box::pin(track.wait_range(50..100));
    assert!(poll(&mut wait, &waker).is_none(), "waits wait again");
    assert_eq!(
        second.write_at(0, &bytes).unwrap(),
        50,
        "only what is missing is written"
    );
    assert_eq!(
        poll(&mut wait, &waker).unwrap().unwrap(),
        Waited::Present(50..100)
    );
    second.commit(100).unwrap();
    assert_eq!(std::fs::read(stage.target()).unwrap(), bytes);
}

/// R2: a cancelled wait is withdrawn from the demand.
#[test]
fn a_dropped_wait_leaves_nothing_behind() {
    let stage = Stage::new();
    let track = stage.open();
    let (_, waker) = Wakes::new();
    let mut wait = Box::pin(track.wait_range(0..10));
    assert!(poll(&mut wait, &waker).is_none());
    assert_eq!(track.demand().waiting, [0..10]);
    drop(wait);
    assert!(track.demand().waiting.is_empty());
    // The wait alone, its waiter kept for the next one.
    let mut waiter = track.waiter();
    let mut wait = Box::pin(waiter.wait(5..10));
    assert!(poll(&mut wait, &waker).is_none());
    assert_eq!(track.demand().waiting, [5..10]);
    drop(wait);
    assert!(track.demand().waiting.is_empty());
}

/// R2: the interrupt stands until it is cleared, and ends only waiting.
#[test]
fn an_interrupted_wait_says_so_until_cleared() {
    let stage = Stage::new();
    let track = stage.open();
    let mut waiter = track.waiter();
    let interrupter = waiter.interrupter();
    let (waiter, answer) = within(LONG, {
        let interrupter = interrupter.clone();
        let track = track.clone();
        move || {
            let blocked = std::thread::spawn(move || {
                let answer = waiter.wait_blocking(0..10);
                (waiter, answer)
            });
            // Once the wait is seen, it is interrupted; before, the interrupt would be as good.
            while track.demand().waiting.is_empty() {
                std::thread::yield_now();
            }
            interrupter.interrupt();
            blocked.join().unwrap()
        }
    });
    assert!(answer.unwrap_err().is_interrupted());
    let mut waiter = waiter;
    assert!(
        waiter.wait_blocking(0..10).unwrap_err().is_interrupted(),
        "it stands"
    );
    track.writer().unwrap().write_at(0, &content(5)).unwrap();
    assert_eq!(waiter.wait_blocking(0..5).unwrap(), Waited::Present(0..5));
    interrupter.clear();
    let (_, waker) = Wakes::new();
    assert!(poll(&mut Box::pin(waiter.wait(5..10)), &waker).is_none());
}

#[test]
fn one_writer_at_a_time_and_the_role_is_handed_on() {
    let stage = Stage::new();
    let track = stage.open();
    let first = track.writer().unwrap();
    assert!(matches!(track.writer(), Err(StreamingError::Taken { .. })));
    let (rings, waker) = Wakes::new();
    let mut next = Box::pin(track.next_writer());
    assert!(poll(&mut next, &waker).is_none());
    drop(first);
    assert_eq!(rings.count(), 1);
    let second = poll(&mut next, &waker).unwrap().unwrap();
    assert!(matches!(track.writer(), Err(StreamingError::Taken { .. })));
    second.fail(Reset(2));
    let third = track.writer().unwrap();
    assert!(matches!(track.writer(), Err(StreamingError::Taken { .. })));
    drop(third);
    assert!(matches!(track.status().condition, Condition::Idle));
}

/// Takes the role in the very moment it is told of a failure.
struct Eager(Resource, Mutex<Option<Writer<Reset>>>);

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        *self.1.lock().unwrap() = self.0.writer().ok();
    }
}

/// The one that failed is dropped after its successor came: it must not give away the role a second time. And wakers
/// run with no lock held, or this would hang.
#[test]
fn a_failed_writer_gives_its_role_away_once() {
    within(LONG, || {
        let stage = Stage::new();
        let track = stage.open();
        let first = track.writer().unwrap();
        let eager = Arc::new(Eager(track.clone(), Mutex::new(None)));
        let mut wait = Box::pin(track.wait_range(0..1));
        assert!(poll(&mut wait, &Waker::from(eager.clone())).is_none());
        first.fail(Reset(1));
        assert!(eager.1.lock().unwrap().is_some());
        assert!(matches!(track.writer(), Err(StreamingError::Taken { .. })));
    });
}

#[test]
fn bytes_once_present_never_change() {
    let stage = Stage::new();
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    writer.write_at(2, b"cd").unwrap();
    assert_eq!(writer.write_at(0, b"ABXXEF").unwrap(), 4);
    writer.commit(6).unwrap();
    assert_eq!(std::fs::read(stage.target()).unwrap(), b"ABcdEF");
}

#[test]
fn an_end_that_contradicts_what_is_known_is_refused() {
    let stage = Stage::new();
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    writer.write_at(0, b"abcdef").unwrap();
    assert!(matches!(
        writer.set_len(5),
        Err(StreamingError::EndConflict {
            known: 6,
            stated: 5,
            ..
        })
    ));
    assert_eq!(track.len(), None);
    writer.set_len(8).unwrap();
    writer.set_len(8).unwrap();
    assert!(matches!(
        writer.set_len(9),
        Err(StreamingError::EndConflict {
            known: 8,
            stated: 9,
            ..
        })
    ));
    assert!(matches!(
        writer.write_at(7, b"xy"),
        Err(StreamingError::BeyondEnd { .. })
    ));
    assert_eq!(track.available(), [0..6], "nothing of it was written");
    assert!(matches!(
        writer.commit(6),
        Err(StreamingError::EndConflict { .. })
    ));
}

#[test]
fn wait_errors_can_be_cloned_and_told_apart() {
    let stage = Stage::new();
    let track = stage.open();
    track.writer().unwrap().fail(Reset(3));
    let error = track.wait_range_blocking(0..1).unwrap_err();
    assert!(matches!(error.clone(), WaitError::Failed { source } if source.0 == 3));
    assert!(!error.is_interrupted());
    assert_eq!(error.cause(), Some(&Reset(3)));
    assert_eq!(
        error.to_string(),
        Reset(3).to_string(),
        "the top line is the cause's"
    );
    assert!(error.source().is_none(), "and the chain does not repeat it");
}
