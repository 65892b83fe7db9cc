//! S5, S6 and S12: what a seek does, and what the consumer sees of it.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures_lite::{StreamExt, future};
use kithara::stream::{Message, Position, Source, SourceStream, Stream, StreamError, StreamParams};

use crate::promises::both;
use crate::scenarios::{self, small};
use crate::step::Step;
use crate::tape::{self, Act, Seeks};

/// S5, with the queue full, the source idle, the end or an error unread, nothing opened, and the consumer stalled.
#[test]
fn s5_an_accepted_seek_delivers_nothing_older() {
    let states: [&[Act]; 5] = [
        &[Act::Play(100)],
        &[Act::Data(8), Act::Wait],
        &[Act::Data(8)],
        &[Act::Fail(1)],
        &[Act::Note(1), Act::Note(2)],
    ];
    for acts in states {
        for started in [false, true] {
            let (source, deck) = tape::scripted(1 << 20, acts);
            let (stream, mut driver) = Stream::with_driver(source, small());
            let handle = stream.handle();
            let mut messages = stream.into_messages();
            let (step, ours) = (Step::new(), Step::new());
            if started {
                assert!(step.settle(&mut driver).is_pending());
            }
            let mut seek = pin!(handle.seek_bytes(4096));
            assert!(ours.poll(&mut seek).is_pending());
            assert_eq!(step.woken(), usize::from(started));
            assert!(step.settle(&mut driver).is_pending());
            assert!(matches!(ours.poll(&mut seek), Poll::Ready(Ok(()))));
            assert_eq!(deck.live(), 1);
            let Poll::Ready(Some(Ok(message))) = ours.next(&mut messages) else {
                panic!("no message")
            };
            assert_eq!(message, Message::Data(tape::bytes(4096, 4160)));
        }
    }
}

/// S5, inline: the seek runs in the handle's own call, the consumer being stalled, and wakes the consumer.
#[test]
fn s5_an_inline_seek_needs_nobody_else() {
    let (source, deck) = tape::scripted(1 << 20, &[Act::Data(8), Act::Wait]);
    let mut stream = Stream::inline(source, small());
    let handle = stream.handle();
    let (consumer, seeker) = (Step::new(), Step::new());
    assert!(consumer.next(&mut stream).is_ready());
    assert!(consumer.next(&mut stream).is_pending());
    assert!(matches!(
        seeker.poll(&mut pin!(handle.seek_bytes(80))),
        Poll::Ready(Ok(()))
    ));
    assert_eq!(deck.seeks(), [80]);
    assert_eq!(consumer.woken(), 1);
    let Poll::Ready(Some(Ok(chunk))) = consumer.next(&mut stream) else {
        panic!("no chunk")
    };
    assert_eq!(chunk, tape::bytes(80, 144));
}

/// S5.
#[test]
fn s5_seeks_anywhere() {
    both(scenarios::seeks);
}

/// S5.
#[test]
fn s5_a_refused_seek_leaves_the_data_untouched() {
    both(scenarios::a_refusal_changes_nothing);
}

/// S5: refused before the source was first opened, it still opens at its start.
#[test]
fn s5_a_seek_whose_open_failed_does_not_move_the_start() {
    let (source, deck) = tape::playing(1 << 20, 100);
    deck.answer_seeks(Seeks::OpenFails);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let handle = stream.handle();
    let step = Step::new();
    let mut seek = pin!(handle.seek_bytes(4096));
    assert!(step.poll(&mut seek).is_pending());
    assert!(step.settle(&mut driver).is_pending());
    assert!(matches!(
        step.poll(&mut seek),
        Poll::Ready(Err(StreamError::Source { .. }))
    ));
    let Poll::Ready(Some(Ok(chunk))) = step.next(&mut stream) else {
        panic!("no chunk")
    };
    assert_eq!(chunk, tape::bytes(0, 100));
}

/// S6.
#[test]
fn s6_waiting_seeks_collapse_to_the_last() {
    let (source, deck) = tape::playing(1 << 20, 100);
    let (mut stream, mut driver) = Stream::with_driver(source, small());
    let handle = stream.handle();
    let step = Step::new();
    let mut asked: Vec<_> = (1..=100).map(|n| Box::pin(handle.seek_bytes(n * 8))).collect();
    for seek in &mut asked {
        assert!(step.poll(seek).is_pending());
    }
    // All but the last are answered before the driver has seen any of them.
    let mut last = asked.pop().unwrap();
    for seek in &mut asked {
        assert!(matches!(
            step.poll(seek),
            Poll::Ready(Err(StreamError::SeekSuperseded))
        ));
    }
    assert!(step.settle(&mut driver).is_pending());
    assert!(matches!(step.poll(&mut last), Poll::Ready(Ok(()))));
    assert_eq!(deck.seeks(), [800]);
    let Poll::Ready(Some(Ok(chunk))) = step.next(&mut stream) else {
        panic!("no chunk")
    };
    assert_eq!(chunk, tape::bytes(800, 900));
}

/// S6.
#[test]
fn s6_scrubbing_answers_everybody() {
    both(scenarios::scrubs);
}

/// S12: with the handle on another thread, the bytes cut into pieces, and control messages between them.
#[test]
fn s12_the_first_item_after_a_seek_is_known_and_so_is_its_place() {
    both(scenarios::items_tell_where_they_stand);
}

/// S12: what is queued or made when the seek is accepted is older than it, and says so if it was received before.
#[test]
fn s12_the_generation_grows_with_the_item_and_not_with_the_seek() {
    let (source, deck) = tape::playing(1 << 20, 100);
    let (stream, mut driver) = Stream::with_driver(source, small());
    let handle = stream.handle();
    let mut messages = stream.into_messages();
    let step = Step::new();
    assert!(step.settle(&mut driver).is_pending());
    assert!(step.next(&mut messages).is_ready());
    for (round, target) in [(1, 8_000), (2, 16_000)] {
        let mut seek = pin!(handle.seek_bytes(target));
        assert!(step.poll(&mut seek).is_pending());
        assert!(step.settle(&mut driver).is_pending());
        assert!(matches!(step.poll(&mut seek), Poll::Ready(Ok(()))));
        let stands = (messages.generation(), messages.position());
        assert_eq!(
            stands,
            (0, Position::Bytes(0)),
            "round {round}: nothing was received since"
        );
    }
    deck.answer_seeks(Seeks::Refused);
    let mut refused = pin!(handle.seek_bytes(0));
    assert!(step.poll(&mut refused).is_pending());
    assert!(step.settle(&mut driver).is_pending());
    assert!(matches!(step.poll(&mut refused), Poll::Ready(Err(_))));
    for place in [16_000, 16_100] {
        let Poll::Ready(Some(Ok(Message::Data(chunk)))) = step.next(&mut messages) else {
            panic!("no chunk")
        };
        assert_eq!(chunk, tape::bytes(place, place + 100));
        let stands = (messages.generation(), messages.position());
        assert_eq!(stands, (2, Position::Bytes(place)), "two accepted, one refused");
    }
}

/// Asks for a seek in the middle of its own poll, as another thread might.
struct Restless {
    position: u64,
    asks: Arc<Mutex<Option<Ask>>>,
}

type Ask = Pin<Box<dyn Future<Output = Result<(), tape::Error>> + Send>>;

impl Source for Restless {
    type Error = tape::Torn;
    type Control = ();

    fn open(&mut self, _: &StreamParams) -> Result<SourceStream<(), tape::Torn>, tape::Error> {
        let (position, asks) = (self.position, Arc::clone(&self.asks));
        Ok(Box::pin(futures_lite::stream::poll_fn(move |_| {
            if let Some(ask) = asks.lock().unwrap().as_mut() {
                let _ = Step::new().poll(ask);
            }
            Poll::Ready(Some(Ok(Message::Data(tape::bytes(position, position + 8)))))
        })))
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), tape::Error> {
        self.position = position;
        Ok(())
    }
}

/// S5, inline: what was made while the seek was asked for is stale too.
#[test]
fn s5_an_inline_seek_counts_from_when_it_was_asked() {
    let asks = Arc::new(Mutex::new(None));
    let source = Restless {
        position: 0,
        asks: Arc::clone(&asks),
    };
    let mut stream = Stream::inline(source, small());
    let handle = stream.handle();
    // Polled once, in the middle of the poll; its answer is of no interest.
    let mut asked = Box::pin(async move { handle.seek_bytes(80).await });
    let mut once = false;
    let ask = future::poll_fn(move |cx| {
        if std::mem::replace(&mut once, true) {
            Poll::Pending
        } else {
            asked.as_mut().poll(cx)
        }
    });
    *asks.lock().unwrap() = Some(Box::pin(ask));
    assert_eq!(
        future::block_on(stream.next()).unwrap().unwrap(),
        tape::bytes(80, 88)
    );
}
