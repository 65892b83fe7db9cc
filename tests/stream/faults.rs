//! Faults A1 to A12: what streams elsewhere got wrong.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::{StreamExt, future};
use kithara::stream::{Stream, StreamError};

use crate::scenarios::{self, read, small};
use crate::step::Step;
use crate::tape::{self, Act, Seeks};

/// Fault A1: the task lived on until the next item.
#[test]
fn a1_an_idle_source_is_dropped_with_its_consumer() {
    future::block_on(async {
        let (source, deck) = tape::scripted(1 << 20, &[Act::Wait]);
        let stream = Stream::new(source, small());
        drop(stream);
        assert!(deck.gone.recv().await.is_err());
    });
}

/// Fault A2: the task never ended with its buffer full.
#[test]
fn a2_a_full_queue_keeps_no_source_alive() {
    let (source, deck) = tape::playing(1 << 20, 1024);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let step = Step::new();
    assert!(step.settle(&mut driver).is_pending());
    // Cancelled in the middle of a wait, then dropped.
    assert!(step.next(&mut stream).is_ready());
    assert!(step.next(&mut stream).is_pending());
    assert!(step.settle(&mut driver).is_pending());
    drop(stream);
    assert!(step.poll(&mut driver).is_ready());
    assert!(!deck.is_source_alive());
}

/// Fault A3: old chunks arrived after the seek had been answered.
#[test]
fn a3_no_old_chunk_arrives_after_the_answer() {
    future::block_on(async {
        for make in [Stream::new, Stream::inline] {
            let (source, _) = tape::playing(1 << 20, 10);
            let mut stream = make(source, small());
            let handle = stream.handle();
            for round in 0..50 {
                stream.next().await.unwrap().unwrap();
                let target = round * 800;
                handle.seek_bytes(target).await.unwrap();
                let mut chunk = stream.next().await.unwrap().unwrap();
                assert_eq!(chunk.split_to(10), tape::bytes(target, target + 10));
            }
        }
    });
}

/// Fault A4: an unsupported seek was answered Ok, and the error came in the data.
#[test]
fn a4_the_caller_hears_that_a_source_cannot_seek() {
    future::block_on(async {
        let (source, deck) = tape::playing(10_000, 100);
        deck.answer_seeks(Seeks::Unsupported);
        let mut stream = Stream::new(source, small());
        assert!(matches!(
            stream.handle().seek_bytes(8).await,
            Err(StreamError::SeekNotSupported)
        ));
        assert_eq!(read(&mut stream).await.unwrap(), tape::bytes(0, 10_000));
    });
}

/// Fault A5: a seek hung on a full buffer, and the 17th blocked its caller for ever.
#[test]
fn a5_seeks_are_answered_though_nobody_reads() {
    future::block_on(async {
        let (source, _) = tape::playing(1 << 20, 1024);
        let mut stream = Stream::new(source, small());
        let handle = stream.handle();
        for n in 0..100 {
            handle.seek_bytes(n).await.unwrap();
        }
        assert_eq!(stream.next().await.unwrap().unwrap(), tape::bytes(99, 99 + 1024));
    });
}

/// Fault A6: a seek failed once the end was queued, although nobody had read it.
#[test]
fn a6_a_seek_revokes_an_unread_end() {
    let (source, _) = tape::scripted(1 << 20, &[Act::Data(8)]);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let handle = stream.handle();
    let step = Step::new();
    assert!(step.settle(&mut driver).is_pending());
    let mut seek = pin!(handle.seek_bytes(80));
    assert!(step.poll(&mut seek).is_pending());
    assert!(step.settle(&mut driver).is_pending());
    assert!(matches!(step.poll(&mut seek), Poll::Ready(Ok(()))));
    assert!(matches!(step.next(&mut stream), Poll::Ready(Some(Ok(chunk))) if chunk == tape::bytes(80, 144)));
}

/// Fault A7: an error made before a seek arrived after it and ended the stream.
#[test]
fn a7_a_seek_revokes_an_unread_error() {
    let (source, _) = tape::scripted(1 << 20, &[Act::Data(8), Act::Fail(9)]);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let handle = stream.handle();
    let step = Step::new();
    assert!(step.settle(&mut driver).is_pending());
    let mut seek = pin!(handle.seek_bytes(80));
    assert!(step.poll(&mut seek).is_pending());
    assert!(step.settle(&mut driver).is_pending());
    for at in [80, 144, 208] {
        assert!(
            matches!(step.next(&mut stream), Poll::Ready(Some(Ok(chunk))) if chunk == tape::bytes(at, at + 64))
        );
        assert!(step.settle(&mut driver).is_pending());
    }
}

/// Fault A8: the reader hung, or saw a clean end. Executors that are shut down are in `executors.rs`.
#[test]
fn a8_a_panic_is_no_clean_end() {
    for make in [Stream::new, Stream::inline] {
        future::block_on(scenarios::a_panic_is_an_error(&make));
    }
}

/// Fault A9: reading did not wake the prefetcher.
#[test]
fn a9_reading_refills() {
    let (source, _) = tape::playing(1 << 20, 1024);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let (step, consumer) = (Step::new(), Step::new());
    assert!(step.settle(&mut driver).is_pending());
    for at in 0..100 {
        let Poll::Ready(Some(Ok(chunk))) = consumer.next(&mut stream) else {
            panic!("starved at {at}")
        };
        assert_eq!(chunk, tape::bytes(at * 1024, at * 1024 + 1024));
        assert_eq!(step.woken(), 1);
        assert!(step.settle(&mut driver).is_pending());
    }
}

/// Fault A9, the other way round: a driver that waits for its source is left alone.
#[test]
fn a9_reading_wakes_nobody_in_vain() {
    let (source, _) = tape::scripted(1 << 20, &[Act::Data(8), Act::Data(8), Act::Data(8), Act::Wait]);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let step = Step::new();
    assert!(step.settle(&mut driver).is_pending());
    for _ in 0..3 {
        assert!(matches!(Step::new().next(&mut stream), Poll::Ready(Some(Ok(_)))));
    }
    assert_eq!(step.woken(), 0);
}

/// Fault A10: dropping an unused handle cancelled everything.
#[test]
fn a10_a_handle_owns_nothing() {
    future::block_on(async {
        for make in [Stream::new, Stream::inline] {
            let (source, deck) = tape::playing(10_000, 100);
            let mut stream = make(source, small());
            let (unused, kept) = (stream.handle(), stream.handle().clone());
            stream.next().await.unwrap().unwrap();
            drop(unused);
            assert_eq!(read(&mut stream).await.unwrap(), tape::bytes(100, 10_000));
            drop(stream);
            assert!(deck.gone.recv().await.is_err());
            drop(kept);
        }
    });
}

/// Fault A11: a reference cycle leaked each track.
#[test]
fn a11_nothing_is_left_of_a_dropped_stream() {
    future::block_on(async {
        for (make, acts) in [Stream::new, Stream::inline]
            .into_iter()
            .zip([&[Act::Wait][..], &[Act::Play(8)]])
        {
            let (source, deck) = tape::scripted(10_000, acts);
            let mut stream = make(source, small());
            let handle = stream.handle();
            let _ = future::poll_once(stream.next()).await;
            let _ = future::poll_once(handle.seek_bytes(5)).await;
            drop(stream);
            assert!(deck.gone.recv().await.is_err());
            // The channel closes in the source's own drop, a moment before its last field is gone.
            while Arc::strong_count(&deck) > 1 {
                future::yield_now().await;
            }
            drop(handle);
        }
    });
}

/// Fault A12: A and B were asked quickly; B was applied, then A.
#[test]
fn a12_a_superseded_seek_never_fires() {
    let (source, deck) = tape::playing(1 << 20, 100);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let (first, second) = (stream.handle(), stream.handle());
    let step = Step::new();
    assert!(step.settle(&mut driver).is_pending());
    let mut a = pin!(first.seek_bytes(800));
    let mut b = pin!(second.seek_bytes(1600));
    assert!(step.poll(&mut a).is_pending());
    assert!(step.poll(&mut b).is_pending());
    assert!(step.settle(&mut driver).is_pending());
    assert!(matches!(step.poll(&mut b), Poll::Ready(Ok(()))));
    assert!(matches!(
        step.poll(&mut a),
        Poll::Ready(Err(StreamError::SeekSuperseded))
    ));
    assert!(step.settle(&mut driver).is_pending());
    assert_eq!(deck.seeks(), [1600]);
    assert!(
        matches!(step.next(&mut stream), Poll::Ready(Some(Ok(chunk))) if chunk == tape::bytes(1600, 1700))
    );
}
