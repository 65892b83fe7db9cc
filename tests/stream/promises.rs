//! S1 to S12, stepped by hand where the order of steps is the point, and as scenarios where it is not.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::{StreamExt, future};
use kithara::stream::{Stream, StreamError, StreamParams};

use crate::scenarios::{self, Make, small};
use crate::step::Step;
use crate::tape::{self, Act, Seeks, Tape};

/// Each scenario spawned and inline. Handed out: by the stepped tests here, and in `executors.rs`.
pub(crate) fn both<F: Future<Output = ()>>(scenario: impl Fn(Make<'static>) -> F) {
    future::block_on(scenario(&Stream::new));
    future::block_on(scenario(&Stream::inline));
}

/// S1: the driver is woken and gone after one poll, whatever the source was doing.
#[test]
fn s1_dropping_the_consumer_drops_the_source_in_every_state() {
    let states: [(&str, &[Act]); 4] = [
        ("idle", &[Act::Wait]),
        ("queue full", &[Act::Play(100)]),
        ("ended, unread", &[]),
        ("failed, unread", &[Act::Data(8), Act::Fail(1)]),
    ];
    for (state, acts) in states {
        let (source, deck) = tape::scripted(1 << 20, acts);
        let (stream, mut driver) = Stream::with_driver(source, small());
        let handle = stream.handle();
        let step = Step::new();
        assert!(step.settle(&mut driver).is_pending(), "{state}");

        drop(stream);
        assert_eq!(step.woken(), 1, "{state}");
        assert!(step.poll(&mut driver).is_ready(), "{state}");
        assert!(!deck.is_source_alive(), "{state}");
        assert_eq!(deck.live(), 0, "{state}");
        assert_eq!(deck.orphans(), 0, "{state}: what it opened goes first");
        drop(handle);
    }
}

/// S1: with a seek on its way, which is answered although the driver never runs again.
#[test]
fn s1_dropping_the_consumer_answers_the_seek_in_flight() {
    let (source, deck) = tape::scripted(1 << 20, &[Act::Wait]);
    let (stream, mut driver) = Stream::with_driver(source, small());
    let handle = stream.handle();
    let step = Step::new();
    assert!(step.settle(&mut driver).is_pending());
    let mut seek = pin!(handle.seek_bytes(8));
    assert!(Step::new().poll(&mut seek).is_pending());
    drop(stream);
    assert!(matches!(
        Step::new().poll(&mut seek),
        Poll::Ready(Err(StreamError::ChannelClosed))
    ));
    assert!(step.poll(&mut driver).is_ready());
    assert!(deck.seeks().is_empty());
    assert!(!deck.is_source_alive());
}

/// S1: before the driver's first poll the source is never opened.
#[test]
fn s1_a_stream_dropped_before_it_ran_is_never_opened() {
    let (source, deck) = tape::playing(1 << 20, 100);
    let (stream, mut driver) = Stream::with_driver(source, small());
    drop(stream);
    assert!(Step::new().poll(&mut driver).is_ready());
    assert!(deck.offline.lock().unwrap().is_empty());
    assert!(!deck.is_source_alive());
}

/// S1.
#[test]
fn s1_stops_when_dropped() {
    both(scenarios::stops_when_dropped);
}

/// S2.
#[test]
fn s2_without_any_handle_the_bytes_flow_to_the_end() {
    both(scenarios::flows_without_handles);
}

/// S3.
#[test]
fn s3_a_panic_is_an_error_with_its_text() {
    both(scenarios::a_panic_is_an_error);
}

/// S3.
#[test]
fn s3_the_end_stays_the_end() {
    both(scenarios::the_end_stays);
}

/// S3: what was queued is still delivered, then the error, then nothing.
#[test]
fn s3_a_driver_that_vanishes_is_an_error_and_not_an_end() {
    let (source, _) = tape::scripted(1 << 20, &[Act::Data(8), Act::Wait]);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let handle = stream.handle();
    assert!(Step::new().settle(&mut driver).is_pending());
    let step = Step::new();
    assert!(step.next(&mut stream).is_ready());
    assert!(step.next(&mut stream).is_pending());
    drop(driver);
    assert_eq!(step.woken(), 1);
    let Poll::Ready(Some(Err(error))) = step.next(&mut stream) else {
        panic!("no error")
    };
    assert!(matches!(error, StreamError::DriverGone { panic: None }));
    assert!(matches!(step.next(&mut stream), Poll::Ready(None)));
    assert!(future::block_on(handle.seek_bytes(0)).unwrap_err().is_closed());
}

/// S3: an end that was already queued is proof enough.
#[test]
fn s3_an_end_that_was_made_outlives_its_driver() {
    let (source, _) = tape::scripted(1 << 20, &[Act::Data(8)]);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    assert!(Step::new().settle(&mut driver).is_pending());
    drop(driver);
    assert!(matches!(Step::new().next(&mut stream), Poll::Ready(Some(Ok(_)))));
    assert!(matches!(Step::new().next(&mut stream), Poll::Ready(None)));
}

/// S3: a panic while seeking reaches the consumer, and the caller is answered.
#[test]
fn s3_a_panic_while_seeking_is_an_error() {
    both(|make| async move {
        let (source, deck) = tape::scripted(1 << 20, &[Act::Wait]);
        deck.answer_seeks(Seeks::Panics);
        let mut stream = make(source, small());
        let handle = stream.handle();
        assert!(handle.seek_bytes(1).await.unwrap_err().is_closed());
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(matches!(error, StreamError::DriverGone { panic: Some(text) } if text.contains("winding")));
    });
}

/// S3: a source that panics when dropped takes neither consumer nor driver with it.
#[test]
fn s3_a_panic_in_the_sources_drop_goes_nowhere() {
    both(|make| async move {
        let (source, deck) = tape::scripted(1 << 20, &[Act::Data(8), Act::Panic]);
        *deck.panic_on_drop.lock().unwrap() = true;
        let mut stream = make(source, small());
        assert!(stream.next().await.unwrap().is_ok());
        assert!(matches!(
            stream.next().await,
            Some(Err(StreamError::DriverGone { panic: Some(_) }))
        ));
        assert!(stream.next().await.is_none());
        assert!(deck.gone.recv().await.is_err());
    });
}

/// S4: the queue is what the consumer can read without the driver's help.
#[test]
fn s4_never_more_is_queued_than_the_limits_and_the_chunk_in_the_drivers_hand() {
    for (max_chunks, max_bytes, chunk) in [
        (4, 1000, 100),
        (16, 1000, 300),
        (3, 10, 100),
        (1, 1, 7),
        (64, 64, 64),
    ] {
        let (source, deck) = tape::playing(2000, chunk);
        let params = StreamParams::default()
            .max_chunks(max_chunks.try_into().unwrap())
            .max_bytes(max_bytes.try_into().unwrap());
        let (mut stream, mut driver) = Stream::with_driver(source, params);
        let step = Step::new();
        let mut all = Vec::new();
        let mut ended = false;
        while !ended {
            let _ = step.settle(&mut driver);
            let made = deck.polls.load(std::sync::atomic::Ordering::SeqCst) * chunk;
            let before = all.len();
            let mut chunks = 0;
            loop {
                match Step::new().next(&mut stream) {
                    Poll::Ready(Some(chunk)) => all.extend_from_slice(&chunk.unwrap()),
                    Poll::Ready(None) => {
                        ended = true;
                        break;
                    }
                    Poll::Pending => break,
                }
                chunks += 1;
            }
            assert!(chunks <= usize::from(max_chunks));
            assert!(all.len() - before <= max_bytes);
            assert!(made.min(2000) - before <= max_bytes + chunk);
        }
        assert_eq!(all, tape::bytes(0, 2000));
    }
}

/// S4: a seek gives back the room that stale bytes took, though the consumer is stalled.
#[test]
fn s4_a_seek_frees_the_queue() {
    let (source, _) = tape::playing(1 << 20, 1024);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let handle = stream.handle();
    let step = Step::new();
    for target in [4096, 8192, 16384] {
        let mut seek = pin!(handle.seek_bytes(target));
        assert!(step.poll(&mut seek).is_pending());
        assert!(step.settle(&mut driver).is_pending());
        assert!(matches!(step.poll(&mut seek), Poll::Ready(Ok(()))));
    }
    // Read ahead from the last position while the consumer slept.
    drop(driver);
    let Poll::Ready(Some(Ok(chunk))) = step.next(&mut stream) else {
        panic!("nothing read ahead")
    };
    assert_eq!(chunk, tape::bytes(16384, 16384 + 1024));
}

/// S7.
#[test]
fn s7_after_the_end_there_is_nothing_to_command() {
    both(scenarios::nothing_to_command_after_the_end);
}

/// S7: though the driver is never polled again.
#[test]
fn s7_after_the_end_nobody_waits_for_the_driver() {
    let (source, _) = tape::scripted(1 << 20, &[]);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let handle = stream.handle();
    assert!(Step::new().settle(&mut driver).is_pending());
    let mut early = pin!(handle.seek_bytes(1));
    assert!(Step::new().poll(&mut early).is_pending());
    assert!(matches!(Step::new().next(&mut stream), Poll::Ready(None)));
    assert!(matches!(
        Step::new().poll(&mut early),
        Poll::Ready(Err(StreamError::ChannelClosed))
    ));
    let late = Step::new().poll(&mut pin!(handle.seek_bytes(2)));
    assert!(matches!(late, Poll::Ready(Err(StreamError::ChannelClosed))));
    assert!(Step::new().poll(&mut driver).is_ready());
}

/// S8.
#[test]
fn s8_the_sources_error_arrives_unboxed() {
    both(scenarios::errors_arrive_unboxed);
}

/// S9.
#[test]
fn s9_messages_come_in_the_sources_own_order() {
    both(scenarios::messages_keep_their_order);
}

/// S9.
#[test]
fn s9_unread_control_stalls_nothing() {
    both(scenarios::unread_control_stalls_nothing);
}

/// S10: nothing runs but what is polled.
#[test]
fn s10_a_driver_handed_out_runs_when_it_is_polled() {
    let (source, deck) = tape::playing(1000, 100);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let (step, consumer) = (Step::new(), Step::new());
    assert!(consumer.next(&mut stream).is_pending());
    assert!(deck.offline.lock().unwrap().is_empty());
    assert!(step.poll(&mut driver).is_pending());
    assert_eq!(consumer.woken(), 1);
    assert_eq!(
        future::block_on(future::zip(scenarios::read(&mut stream), driver))
            .0
            .unwrap()
            .len(),
        1000
    );
}

/// S10: no task, no wake-up, and the source sees the consumer's own waker.
#[test]
fn s10_an_inline_stream_runs_in_its_consumers_poll() {
    let (source, deck) = tape::scripted(1000, &[Act::Data(8), Act::Wait, Act::Data(8)]);
    let mut stream = Stream::inline(source, small());
    let step = Step::new();
    assert!(step.next(&mut stream).is_ready());
    assert!(step.next(&mut stream).is_pending());
    assert_eq!(step.woken(), 0);
    deck.release();
    assert_eq!(step.woken(), 1);
    assert!(step.next(&mut stream).is_ready());
    assert!(matches!(step.next(&mut stream), Poll::Ready(None)));
    assert!(!deck.is_source_alive());
}

/// S10: a source that is always ready shares its thread.
#[test]
fn s10_no_poll_lasts_for_ever() {
    // A queue that never fills, then endless control messages to a consumer of bytes.
    let mut acts = vec![Act::Data(0); 100_000];
    acts.extend(vec![Act::Note(0); 100_000]);
    let polled = |deck: &tape::Deck| deck.polls.load(std::sync::atomic::Ordering::SeqCst);

    let (source, deck) = tape::scripted(1 << 20, &acts);
    let (_stream, mut driver) = Stream::with_driver(source, small());
    let step = Step::new();
    assert!(step.poll(&mut driver).is_pending());
    assert_eq!(step.woken(), 1);
    assert!(polled(&deck) < 1000);

    let (source, deck) = tape::scripted(1 << 20, &acts);
    let mut stream = Stream::inline(source, small());
    assert!(step.next(&mut stream).is_pending());
    assert_eq!(step.woken(), 1);
    assert!(polled(&deck) < 1000);

    let (source, deck) = tape::scripted(1 << 20, &acts[100_000..]);
    let mut stream = Stream::inline(source, small());
    assert!(step.next(&mut stream).is_pending());
    assert_eq!(step.woken(), 1);
    assert!(polled(&deck) < 1000);
}

/// S10: streams are `Send` and `Unpin`, drivers and handles go anywhere.
#[test]
fn s10_everything_can_be_moved_between_threads() {
    fn send<T: Send + 'static>() {}
    fn unpin<T: Unpin>() {}
    send::<Stream<Tape>>();
    send::<kithara::stream::Messages<Tape>>();
    send::<kithara::stream::Driver<Tape>>();
    send::<kithara::stream::Handle<tape::Torn>>();
    unpin::<Stream<Tape>>();
    unpin::<kithara::stream::Messages<Tape>>();
    unpin::<kithara::stream::Driver<Tape>>();
    let (source, _) = tape::playing(10, 1);
    let handle: Arc<dyn Send + Sync> = Arc::new(Stream::inline(source, small()).handle());
    drop(handle);
}

/// S11.
#[test]
fn s11_offline_mode_reaches_every_open() {
    both(scenarios::offline_reaches_every_open);
}
