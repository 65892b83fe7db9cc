//! The waits on ranges (R2, faults B4 and B5).

use std::future::poll_fn;
use std::ops::Range;

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use super::error::WaitError;
use super::presence;
use super::status::Waited;

type Presence = presence::Presence<&'static str>;

fn model(scene: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // Each scene has three threads at most; more switches than this find nothing new and cost minutes.
    builder.preemption_bound = Some(3);
    builder.check(scene);
}

fn empty() -> Arc<Presence> {
    let presence = Presence::new(rangemap::RangeSet::new(), None, false);
    presence.add_handle();
    Arc::new(presence)
}

fn wait(presence: &Presence, range: Range<u64>) -> Result<Waited, WaitError<&'static str>> {
    let waiter = presence.register(None);
    let answer = block_on(poll_fn(|cx| presence.poll_range(waiter, &range, &range, cx)));
    presence.unregister(waiter);
    answer
}

fn waiting(
    presence: &Arc<Presence>,
    range: Range<u64>,
) -> thread::JoinHandle<Result<Waited, WaitError<&'static str>>> {
    let presence = presence.clone();
    thread::spawn(move || wait(&presence, range))
}

/// B5.
#[test]
fn two_waits_for_different_ranges_both_end_when_their_own_comes() {
    model(|| {
        let presence = empty();
        let early = waiting(&presence, 0..10);
        let late = waiting(&presence, 10..30);
        presence.insert(20..30);
        presence.insert(0..10);
        presence.insert(10..20);
        assert_eq!(early.join().unwrap().unwrap(), Waited::Present(0..10));
        assert_eq!(late.join().unwrap().unwrap(), Waited::Present(10..30));
    });
}

/// B5: one change can end many waits.
#[test]
fn one_write_ends_every_wait_that_it_settles() {
    model(|| {
        let presence = empty();
        let one = waiting(&presence, 0..10);
        let other = waiting(&presence, 5..15);
        presence.insert(0..20);
        assert_eq!(one.join().unwrap().unwrap(), Waited::Present(0..10));
        assert_eq!(other.join().unwrap().unwrap(), Waited::Present(5..15));
    });
}

/// B4: what ends the wait is there when it ends.
#[test]
fn a_wait_never_ends_before_its_range_is_there() {
    model(|| {
        let presence = empty();
        let writer = {
            let presence = presence.clone();
            thread::spawn(move || {
                presence.insert(20..40);
                presence.insert(5..10);
                presence.insert(0..5);
            })
        };
        assert_eq!(wait(&presence, 0..10).unwrap(), Waited::Present(0..10));
        assert!(presence.missing(&(0..10)).is_empty());
        writer.join().unwrap();
    });
}

/// B7.
#[test]
fn a_proven_end_ends_the_waits_at_and_beyond_it() {
    model(|| {
        let presence = empty();
        let beyond = waiting(&presence, 10..20);
        let across = waiting(&presence, 5..20);
        presence.insert(0..10);
        presence.set_len(10).unwrap();
        assert_eq!(beyond.join().unwrap().unwrap(), Waited::End { len: 10 });
        assert_eq!(across.join().unwrap().unwrap(), Waited::Present(5..10));
    });
}

/// B11: the next writer does not take the cause from who was waiting.
#[test]
fn a_failure_reaches_who_waits_even_if_the_next_writer_comes_at_once() {
    model(|| {
        let presence = empty();
        presence.take_role().unwrap();
        let waiter = presence.register(None);
        let range = 0..10;
        // Waiting for certain before the failure.
        let waits = block_on(poll_fn(|cx| {
            std::task::Poll::Ready(presence.poll_range(waiter, &range, &range, cx).is_pending())
        }));
        assert!(waits);
        let waiter = {
            let presence = presence.clone();
            thread::spawn(move || block_on(poll_fn(|cx| presence.poll_range(waiter, &(0..10), &(0..10), cx))))
        };
        presence.fail(std::sync::Arc::new("reset"), false);
        presence.take_role().unwrap();
        let failed = waiter.join().unwrap();
        assert!(matches!(failed, Err(WaitError::Failed { source }) if *source == "reset"));
    });
}

#[test]
fn a_failure_ends_a_wait_that_begins_meanwhile() {
    model(|| {
        let presence = empty();
        presence.take_role().unwrap();
        let waiter = waiting(&presence, 0..10);
        presence.insert(20..30);
        presence.fail(std::sync::Arc::new("reset"), false);
        assert!(waiter.join().unwrap().is_err());
    });
}

#[test]
fn an_interrupt_is_not_lost_however_early_it_comes() {
    model(|| {
        let presence = empty();
        let waiter = presence.register(Some(0));
        let interrupter = {
            let presence = presence.clone();
            thread::spawn(move || presence.set_interrupted(waiter, true))
        };
        let range = 0..10;
        let answer = block_on(poll_fn(|cx| presence.poll_range(waiter, &range, &range, cx)));
        assert!(answer.unwrap_err().is_interrupted());
        interrupter.join().unwrap();
    });
}

#[test]
fn a_wait_given_up_takes_no_wake_up_from_another() {
    model(|| {
        let presence = empty();
        let waiter = presence.register(None);
        let range = 0..10;
        block_on(poll_fn(|cx| {
            std::task::Poll::Ready(presence.poll_range(waiter, &range, &range, cx).is_ready())
        }));
        let other = waiting(&presence, 0..10);
        let leaver = {
            let presence = presence.clone();
            thread::spawn(move || presence.unregister(waiter))
        };
        presence.insert(0..10);
        assert!(other.join().unwrap().is_ok());
        leaver.join().unwrap();
    });
}

/// Reader and fetcher meet: the wait makes the demand, the demand brings the bytes, the bytes end the wait; and when
/// the reading side is gone the fetcher hears it.
#[test]
fn a_fetcher_hears_every_wait_and_the_end_of_all_reading() {
    model(|| {
        let presence = empty();
        let fetcher = {
            let presence = presence.clone();
            thread::spawn(move || {
                let id = presence.new_id();
                let mut seen = 0;
                while let Some(demand) = block_on(poll_fn(|cx| presence.poll_demand(id, &mut seen, cx))) {
                    for range in demand.waiting {
                        presence.insert(range);
                    }
                }
            })
        };
        assert_eq!(wait(&presence, 3..7).unwrap(), Waited::Present(3..7));
        presence.drop_handle();
        fetcher.join().unwrap();
    });
}

/// B15, and the role is never held twice.
#[test]
fn the_role_is_handed_on_to_one_at_a_time() {
    model(|| {
        let presence = empty();
        let held = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let write = |presence: &Presence, held: &loom::sync::atomic::AtomicUsize| {
            use loom::sync::atomic::Ordering::SeqCst;
            let id = presence.new_id();
            block_on(poll_fn(|cx| presence.poll_role(id, cx))).unwrap();
            assert_eq!(held.fetch_add(1, SeqCst), 0);
            held.fetch_sub(1, SeqCst);
            presence.leave_role();
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (presence, held) = (presence.clone(), held.clone());
                thread::spawn(move || write(&presence, &held))
            })
            .collect();
        write(&presence, &held);
        for other in others {
            other.join().unwrap();
        }
    });
}
