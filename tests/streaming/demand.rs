//! The demand: how a fetcher learns what is needed (what B3, B16 and A9 stand on), and the display how it goes.

use kithara::storage::testing::{downgrade, when_unused};
use kithara::storage::{Condition, Found, StreamingResource};

use crate::stage::{Reset, Stage, Wakes, content, poll};

/// What is ready must be ready at once; a test does not wait for what may never come.
fn now<F: Future>(future: F) -> F::Output {
    let (_, waker) = Wakes::new();
    poll(&mut Box::pin(future), &waker).expect("a change to see")
}

#[test]
fn a_fetcher_hears_of_waits_jumps_and_steady_reading() {
    let stage = Stage::new();
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    writer.set_len(10_000_000).unwrap();
    writer.write_at(0, &content(1 << 20)).unwrap();
    let mut demand = writer.demand();
    let first = now(demand.changed()).unwrap();
    assert!(first.waiting.is_empty() && first.positions.is_empty());

    let (rings, waker) = Wakes::new();
    let pend = |demand: &mut kithara::storage::DemandWatch<Reset>| {
        assert!(poll(&mut Box::pin(demand.changed()), &waker).is_none());
    };
    pend(&mut demand);
    let mut reader = track.reading(0);
    assert_eq!(rings.count(), 1, "a reader came");
    assert_eq!(now(demand.changed()).unwrap().positions, [0]);

    pend(&mut demand);
    let mut buffer = vec![0; 16 * 1024];
    for step in 0..4 {
        assert_eq!(
            reader.read(step * 16 * 1024, &mut buffer).unwrap(),
            Found::Bytes(16 * 1024)
        );
    }
    assert_eq!(rings.count(), 1, "less than 64 KiB is not worth a wake-up");
    reader.read(64 * 1024, &mut buffer).unwrap();
    assert_eq!(rings.count(), 2);
    assert_eq!(now(demand.changed()).unwrap().positions, [64 * 1024]);

    pend(&mut demand);
    reader.read(900_000, &mut buffer).unwrap();
    assert_eq!(rings.count(), 3, "a jump is told at once, its bytes there or not");
    assert_eq!(now(demand.changed()).unwrap().positions, [900_000]);
    pend(&mut demand);
    reader.read(100, &mut buffer).unwrap();
    assert_eq!(rings.count(), 4, "backwards as well");
    assert_eq!(now(demand.changed()).unwrap().positions, [100]);

    // B3: the tail is wanted, so exactly the tail is asked for.
    assert_eq!(reader.read(9_999_000, &mut buffer).unwrap(), Found::Missing);
    let mut wait = Box::pin(reader.wait_first(9_999_000, 8192));
    assert!(poll(&mut wait, &waker).is_none());
    let tail = now(demand.changed()).unwrap();
    assert_eq!(tail.waiting, [9_999_000..10_000_000], "cut at the known end");
    assert_eq!(tail.positions, [9_999_000]);
    writer.write_at(9_999_000, &[1]).unwrap();
    assert!(
        poll(&mut wait, &waker).unwrap().is_ok(),
        "its first byte is enough"
    );
    assert!(track.demand().waiting.is_empty());
}

/// A fetcher asks only for what is missing of a wait, the longest waiting first.
#[test]
fn the_demand_is_what_is_missing_in_order_of_asking() {
    let stage = Stage::new();
    let track = stage.open();
    let (_, waker) = Wakes::new();
    let mut first = Box::pin(track.wait_range(500..600));
    let mut second = Box::pin(track.wait_range(0..100));
    assert!(poll(&mut first, &waker).is_none() && poll(&mut second, &waker).is_none());
    track.writer().unwrap().write_at(520, &content(20)).unwrap();
    assert_eq!(track.demand().waiting, [500..520, 540..600, 0..100]);
}

/// A2, A11 of the fetcher's side: when nobody reads any more it hears it, in every state.
#[test]
fn when_nobody_reads_any_more_the_demand_ends() {
    let stage = Stage::new();
    let track = stage.open();
    let writer = track.writer().unwrap();
    let mut demand = writer.demand();
    now(demand.changed()).unwrap();
    let reader = track.reading(0);
    drop(track);
    now(demand.changed()).unwrap();
    let (rings, waker) = Wakes::new();
    assert!(
        poll(&mut Box::pin(demand.changed()), &waker).is_none(),
        "the reader still counts"
    );
    drop(reader);
    assert!(rings.count() > 0);
    assert!(now(demand.changed()).is_none());
}

/// Buffered ranges, stalls, the end: one status, never a backlog.
#[test]
fn a_display_sees_ranges_stalls_and_the_outcome() {
    let stage = Stage::new();
    let track = stage.open();
    let mut watch = track.watch();
    let (rings, waker) = Wakes::new();
    assert!(matches!(now(watch.changed()).condition, Condition::Idle));
    assert!(poll(&mut Box::pin(watch.changed()), &waker).is_none());

    let mut writer = track.writer().unwrap();
    assert_eq!(rings.count(), 1);
    writer.write_at(10, b"abc").unwrap();
    let status = now(watch.changed());
    assert!(matches!(status.condition, Condition::Writing));
    assert_eq!(
        (status.available, status.len, status.stalls),
        (vec![10..13], None, 0)
    );

    let mut reader = track.reading(0);
    let mut wait = Box::pin(reader.wait_first(0, 4));
    assert!(poll(&mut wait, &waker).is_none());
    let stalled = now(watch.changed());
    assert_eq!((stalled.stalled_at, stalled.stalls), (vec![0], 1));
    writer.write_at(0, b"x").unwrap();
    assert!(poll(&mut wait, &waker).unwrap().is_ok());
    drop(wait);
    let resumed = now(watch.changed());
    assert_eq!((resumed.stalled_at, resumed.stalls), (vec![], 1));

    writer.fail(Reset(4));
    assert!(matches!(now(watch.changed()).condition, Condition::Failed(cause) if cause.0 == 4));
    // A wait by others than readers is no stall.
    drop(track.waiter());
    assert_eq!(track.status().stalls, 1);
}

/// S1, N5: whoever drops the last reader does at once what is to be done then.
#[test]
fn the_hook_runs_with_the_last_handle() {
    let resource: StreamingResource<std::io::Error> = StreamingResource::in_memory("radio");
    let writer = resource.writer().unwrap();
    let by = std::sync::Arc::new(std::sync::Mutex::new(None));
    let told = by.clone();
    when_unused(&writer, move || {
        *told.lock().unwrap() = Some(std::thread::current().id());
    });
    let reader = resource.reading(0);
    drop(resource);
    assert_eq!(*by.lock().unwrap(), None);
    let dropper = std::thread::spawn(move || {
        drop(reader);
        std::thread::current().id()
    });
    let dropper = dropper.join().unwrap();
    assert_eq!(*by.lock().unwrap(), Some(dropper));
    let late = by.clone();
    when_unused(&writer, move || *late.lock().unwrap() = None);
    assert_eq!(*by.lock().unwrap(), None, "nobody reads: at once");
}

/// A handle that keeps nothing wanted finds the resource as long as somebody wants it, and not after the fetcher was told
/// that nobody does, although it is still there.
#[test]
fn a_weak_handle_does_not_bring_back_what_nobody_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let track: StreamingResource<std::io::Error> = StreamingResource::open(dir.path().join("track")).unwrap();
    let writer = track.writer().unwrap();
    let weak = downgrade(&track);
    let other = weak.upgrade().unwrap();
    drop(track);
    let reader = weak.upgrade().unwrap().reading(0);
    drop(other);
    assert!(weak.upgrade().is_some(), "a reader wants it");
    drop(reader);
    assert!(weak.upgrade().is_none());
    drop(writer);
    assert!(weak.upgrade().is_none());
}
