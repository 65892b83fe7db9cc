//! S1 to S11, one test or more each, stepped by hand where the order of steps is the point.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::{StreamExt, future};
use kithara::stream::{Message, Stream, StreamError, StreamParams};

use crate::step::Step;
use crate::tape::{self, Act, Seeks, Torn};

fn small() -> StreamParams {
    StreamParams::default()
        .with_max_chunks(4.try_into().unwrap())
        .with_max_bytes(1024.try_into().unwrap())
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
        assert_eq!(Arc::strong_count(&deck), 1, "{state}");
        drop(handle);
    }
}

/// S2.
#[test]
fn s2_without_any_handle_the_bytes_flow_to_the_end() {
    future::block_on(async {
        let (source, _) = tape::playing(100_000, 777);
        let mut stream = Stream::new(source, small());
        drop(stream.handle());
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(all, tape::bytes(0, 100_000));
    });
}

/// S5, with the queue full and the consumer stalled.
#[test]
fn s5_an_accepted_seek_delivers_nothing_older() {
    let (source, deck) = tape::playing(1 << 20, 100);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let handle = stream.handle();
    let (step, ours) = (Step::new(), Step::new());
    assert!(step.settle(&mut driver).is_pending());

    let mut seek = pin!(handle.seek_bytes(4096));
    assert!(ours.poll(&mut seek).is_pending());
    assert_eq!(step.woken(), 1);
    assert!(step.settle(&mut driver).is_pending());
    assert!(matches!(ours.poll(&mut seek), Poll::Ready(Ok(()))));
    assert_eq!(deck.live(), 1);
    let Poll::Ready(Some(Ok(chunk))) = ours.next(&mut stream) else {
        panic!("no chunk")
    };
    assert_eq!(chunk, tape::bytes(4096, 4196));
}

/// S5: refused, in each of the ways to refuse.
#[test]
fn s5_a_refused_seek_leaves_the_data_untouched() {
    for how in [Seeks::Unsupported, Seeks::Refused, Seeks::OpenFails] {
        future::block_on(async {
            let (source, deck) = tape::playing(100_000, 100);
            deck.answer_seeks(how);
            let mut stream = Stream::new(source, small());
            let handle = stream.handle();
            let mut all = stream.next().await.unwrap().unwrap().to_vec();
            let refusal = handle.seek_bytes(5).await.unwrap_err();
            match how {
                Seeks::Unsupported => assert!(matches!(refusal, StreamError::SeekNotSupported)),
                Seeks::Refused => assert_eq!(refusal.source_error(), Some(&Torn { code: 416 })),
                _ => assert_eq!(refusal.source_error(), Some(&Torn { code: 404 })),
            }
            while let Some(chunk) = stream.next().await {
                all.extend_from_slice(&chunk.unwrap());
            }
            assert_eq!(all, tape::bytes(0, 100_000), "{how:?}");
        });
    }
}

/// S9.
#[test]
fn s9_messages_come_in_the_sources_own_order() {
    let acts = [
        Act::Note(1),
        Act::Data(8),
        Act::Note(2),
        Act::Note(3),
        Act::Data(8),
        Act::Note(4),
    ];
    for run in [Stream::new, Stream::inline] {
        let (source, _) = tape::scripted(16, &acts);
        let messages = run(source, small()).into_messages().try_collect::<_, _, Vec<_>>();
        let expected = vec![
            Message::Control(1),
            Message::Data(tape::bytes(0, 8)),
            Message::Control(2),
            Message::Control(3),
            Message::Data(tape::bytes(8, 16)),
            Message::Control(4),
        ];
        assert_eq!(future::block_on(messages).unwrap(), expected);
    }
}
