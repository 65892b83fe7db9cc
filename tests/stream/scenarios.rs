//! What must hold however a stream is run. Each scenario is handed a way to make one; `executors.rs`, here and in
//! `tests/interop`, runs them all in every way on every executor.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::{Stream as _, StreamExt, future, pin};
use kithara::stream::{Driver, Handle, Message, Position, Stream, StreamError, StreamParams};

use crate::tape::{self, Act, Deck, Seeks, Tape, Torn};

pub type Make<'a> = &'a (dyn Fn(Tape, StreamParams) -> Stream<Tape> + Sync);

pub fn small() -> StreamParams {
    StreamParams::default()
        .max_chunks(4.try_into().unwrap())
        .max_bytes(1024.try_into().unwrap())
}

pub async fn read(stream: &mut Stream<Tape>) -> Result<Vec<u8>, tape::Error> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

/// All scenarios in the three ways to run a driver.
pub async fn suite(spawn: impl Fn(Driver<Tape>) + Sync) {
    all(&Stream::new).await;
    all(&Stream::inline).await;
    all(&|source: Tape, params: StreamParams| {
        let (stream, driver) = Stream::with_driver(source, params);
        spawn(driver);
        stream
    })
    .await;
}

/// Every scenario, one after the other.
pub async fn all(make: Make<'_>) {
    stops_when_dropped(make).await;
    flows_without_handles(make).await;
    a_panic_is_an_error(make).await;
    the_end_stays(make).await;
    seeks(make).await;
    a_refusal_changes_nothing(make).await;
    scrubs(make).await;
    nothing_to_command_after_the_end(make).await;
    errors_arrive_unboxed(make).await;
    messages_keep_their_order(make).await;
    unread_control_stalls_nothing(make).await;
    offline_reaches_every_open(make).await;
}

/// S1, with a source that is idle for ever and a handle that lives on.
pub async fn stops_when_dropped(make: Make<'_>) {
    for acts in [
        &[Act::Wait][..],
        &[Act::Play(8)],
        &[Act::Data(8), Act::Wait],
        &[Act::Data(8)],
    ] {
        let (source, deck) = tape::scripted(1 << 20, acts);
        let mut stream = make(source, small());
        let handle = stream.handle();
        let _ = future::poll_once(stream.next()).await;
        drop(stream);
        assert!(deck.gone.recv().await.is_err());
        assert_eq!(deck.live(), 0);
        assert!(handle.seek_bytes(0).await.unwrap_err().is_closed());
    }
}

/// S2.
pub async fn flows_without_handles(make: Make<'_>) {
    let (source, _) = tape::playing(100_000, 777);
    let mut stream = make(source, small());
    drop(stream.handle());
    assert_eq!(read(&mut stream).await.unwrap(), tape::bytes(0, 100_000));
}

/// S3.
pub async fn a_panic_is_an_error(make: Make<'_>) {
    let (source, deck) = tape::scripted(1 << 20, &[Act::Data(8), Act::Panic]);
    let mut stream = make(source, small());
    assert_eq!(stream.next().await.unwrap().unwrap(), tape::bytes(0, 8));
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, StreamError::DriverGone { panic: Some(text) } if text == "the tape snapped"));
    assert!(stream.next().await.is_none());
    assert!(!deck.is_source_alive());
}

/// S3: after `None`, and after an error.
pub async fn the_end_stays(make: Make<'_>) {
    for acts in [&[Act::Data(8)][..], &[Act::Data(8), Act::Fail(3), Act::Data(8)]] {
        let (source, deck) = tape::scripted(1 << 20, acts);
        let mut stream = make(source, small());
        assert!(stream.next().await.unwrap().is_ok());
        assert_eq!(stream.next().await.is_none(), acts.len() == 1);
        assert!(stream.next().await.is_none());
        assert!(stream.next().await.is_none());
        assert!(deck.gone.recv().await.is_err());
    }
}

/// S5, from the middle, backwards, to the end and beyond it, and after the end was made but before it was read.
pub async fn seeks(make: Make<'_>) {
    let (source, _) = tape::playing(100_000, 777);
    let mut stream = make(source, small());
    let handle = stream.handle();
    for target in [50_000, 10, 99_000, 0, 64_123] {
        stream.next().await.unwrap().unwrap();
        handle.seek_bytes(target).await.unwrap();
        let chunk = stream.next().await.unwrap().unwrap();
        assert_eq!(chunk, tape::bytes(target, target + chunk.len() as u64));
        handle.seek_time(Duration::from_millis(target / 2)).await.unwrap();
        let chunk = stream.next().await.unwrap().unwrap();
        assert_eq!(chunk, tape::bytes(target / 2, target / 2 + chunk.len() as u64));
    }
    handle.seek_bytes(100_000).await.unwrap();
    handle.seek_bytes(99_990).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap(), tape::bytes(99_990, 100_000));
}

/// To byte `target`, which plays at that many milliseconds.
async fn seek(handle: &Handle<Torn>, target: u64, by_time: bool) -> Result<(), tape::Error> {
    if by_time {
        handle.seek_time(Duration::from_millis(target)).await
    } else {
        handle.seek_bytes(target).await
    }
}

/// S5, in each of the ways to refuse.
pub async fn a_refusal_changes_nothing(make: Make<'_>) {
    for how in [Seeks::Unsupported, Seeks::Refused, Seeks::OpenFails] {
        let (source, deck) = tape::playing(20_000, 100);
        deck.answer_seeks(how);
        let mut stream = make(source, small());
        let handle = stream.handle();
        let mut all = stream.next().await.unwrap().unwrap().to_vec();
        for by_time in [false, true] {
            let refusal = seek(&handle, 5, by_time).await.unwrap_err();
            match how {
                Seeks::Unsupported => assert!(matches!(refusal, StreamError::SeekNotSupported)),
                Seeks::Refused => assert_eq!(refusal.source_error(), Some(&Torn { code: 416 })),
                _ => assert_eq!(refusal.source_error(), Some(&Torn { code: 404 })),
            }
        }
        all.extend(read(&mut stream).await.unwrap());
        assert_eq!(all, tape::bytes(0, 20_000), "{how:?}");
    }
}

/// S6: everybody is answered, and the last one decides, whether it asked for a byte or for a time.
pub async fn scrubs(make: Make<'_>) {
    let (source, _) = tape::playing(1 << 20, 100);
    let mut stream = make(source, small());
    let handle = stream.handle();
    for round in 0..8 {
        let mut asked: Vec<_> = (1..=20)
            .map(|n| (round * 1000 + n * 8, n % 3 == round % 3))
            .map(|(target, by_time)| Box::pin(seek(&handle, target, by_time)))
            .collect();
        let mut answers = Vec::new();
        future::poll_fn(|cx| {
            asked.retain_mut(|seek| match seek.as_mut().poll(cx) {
                Poll::Ready(answer) => {
                    answers.push(answer);
                    false
                }
                Poll::Pending => true,
            });
            if asked.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        assert_eq!(answers.len(), 20);
        assert!(
            answers
                .iter()
                .all(|answer| answer.as_ref().err().is_none_or(StreamError::is_superseded))
        );
        assert!(answers.iter().any(Result::is_ok));
        let chunk = stream.next().await.unwrap().unwrap();
        assert_eq!(chunk[..8], tape::bytes(round * 1000 + 160, round * 1000 + 168));
    }
}

/// S7: after the end and after an error, and both were handed over.
pub async fn nothing_to_command_after_the_end(make: Make<'_>) {
    for acts in [&[][..], &[Act::Fail(1)], &[Act::Panic]] {
        let (source, deck) = tape::scripted(1 << 20, acts);
        let mut stream = make(source, small());
        let handle = stream.handle();
        while stream.next().await.is_some() {}
        assert!(handle.seek_bytes(0).await.unwrap_err().is_closed());
        assert!(deck.seeks().is_empty());
    }
}

/// S8: from the first open too.
pub async fn errors_arrive_unboxed(make: Make<'_>) {
    for (before, code) in [(0, 0), (0, 7), (3, 7)] {
        let mut acts = vec![Act::Data(8); before];
        acts.push(Act::Fail(code));
        let (source, _) = tape::scripted(1 << 20, &acts);
        let mut stream = make(source, small());
        for _ in 0..before {
            stream.next().await.unwrap().unwrap();
        }
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(matches!(error, StreamError::Source { source: Torn { code: it } } if it == code));
    }
}

/// S9: control before, between and after the bytes, and across a seek.
pub async fn messages_keep_their_order(make: Make<'_>) {
    let acts = |at: u64| {
        let note = u32::try_from(at).unwrap();
        vec![
            Act::Note(note),
            Act::Data(8),
            Act::Note(note + 1),
            Act::Note(note + 2),
            Act::Data(8),
            Act::Note(note + 3),
        ]
    };
    let expected = |at: u64| {
        let note = u32::try_from(at).unwrap();
        vec![
            Message::Control(note),
            Message::Data(tape::bytes(at, at + 8)),
            Message::Control(note + 1),
            Message::Control(note + 2),
            Message::Data(tape::bytes(at + 8, at + 16)),
            Message::Control(note + 3),
        ]
    };
    for taken in 0..=6 {
        let (source, _) = tape::tape(1 << 20, acts);
        let messages = make(source, small()).into_messages();
        let handle = messages.handle();
        pin!(messages);
        for message in expected(0).into_iter().take(taken) {
            assert_eq!(messages.next().await.unwrap().unwrap(), message);
        }
        handle.seek_bytes(800).await.unwrap();
        for message in expected(800) {
            assert_eq!(messages.next().await.unwrap().unwrap(), message);
        }
        assert!(messages.next().await.is_none());
        assert!(messages.size_hint().0 == 0);
    }
}

/// S9: nobody reads the control messages, and there are more of them than the queue holds.
pub async fn unread_control_stalls_nothing(make: Make<'_>) {
    let mut acts = vec![Act::Note(0); 1000];
    acts.push(Act::Data(8));
    acts.extend([Act::Note(1); 1000]);
    let (source, _) = tape::scripted(1 << 20, &acts);
    let mut stream = make(source, small());
    assert_eq!(read(&mut stream).await.unwrap(), tape::bytes(0, 8));
}

/// S11: the first open and those after seeks.
pub async fn offline_reaches_every_open(make: Make<'_>) {
    for offline in [false, true] {
        let (source, deck) = tape::playing(1000, 100);
        let mut stream = make(source, small().offline_mode(offline));
        let handle = stream.handle();
        handle.seek_bytes(10).await.unwrap();
        handle.seek_bytes(20).await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), tape::bytes(20, 1000));
        assert_eq!(*deck.offline.lock().unwrap(), [offline; 3]);
    }
}

/// S12: bytes and control messages, at the start, after a seek by bytes and after one by time, and at the end.
pub async fn items_tell_where_they_stand(make: Make<'_>) {
    let acts = |_| vec![Act::Note(1), Act::Data(3000), Act::Note(2), Act::Data(8)];
    let (source, _) = tape::tape(1 << 20, acts);
    let stream = make(source, small());
    let handle = stream.handle();
    let mut messages = stream.into_messages();
    let sought = Duration::from_secs(5);
    let targets = [
        Position::Bytes(0),
        Position::Bytes(700),
        Position::Time { sought, bytes: 0 },
    ];
    for (generation, target) in (0..).zip(targets) {
        if generation > 0 {
            let handle = handle.clone();
            let seeker = std::thread::spawn(move || match target {
                Position::Bytes(at) => future::block_on(handle.seek_bytes(at)),
                _ => future::block_on(handle.seek_time(sought)),
            });
            seeker.join().unwrap().unwrap();
        }
        let mut bytes = 0;
        while bytes < 3008 {
            let message = messages.next().await.unwrap().unwrap();
            let due = match target {
                Position::Bytes(at) => Position::Bytes(at + bytes),
                _ => Position::Time { sought, bytes },
            };
            assert_eq!((messages.generation(), messages.position()), (generation, due));
            if let Message::Data(data) = message {
                let at = if generation == 2 { 5000 } else { 700 * generation } + bytes;
                assert_eq!(data, tape::bytes(at, at + data.len() as u64));
                bytes += data.len() as u64;
            }
        }
    }
    assert!(messages.next().await.is_none());
    let end = Position::Time { sought, bytes: 3008 };
    assert_eq!((messages.generation(), messages.position()), (2, end));
}

/// Reads a chunk, then leaves: the executor is shut down behind its back.
pub async fn first_chunk(stream: &mut Stream<Tape>) {
    assert_eq!(stream.next().await.unwrap().unwrap(), tape::bytes(0, 8));
    assert!(future::poll_once(stream.next()).await.is_none());
}

pub fn stalled() -> (Stream<Tape>, Driver<Tape>, Arc<Deck>) {
    let (source, deck) = tape::scripted(1000, &[Act::Data(8), Act::Wait]);
    let (stream, driver) = Stream::with_driver(source, small());
    (stream, driver, deck)
}

/// S3: the error, and the source is gone with its executor.
pub fn assert_gone(mut stream: Stream<Tape>, deck: &Deck) {
    let handle = stream.handle();
    future::block_on(async {
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(matches!(error, StreamError::DriverGone { panic: None }));
        assert!(stream.next().await.is_none());
        assert!(handle.seek_bytes(0).await.unwrap_err().is_closed());
        assert!(deck.gone.recv().await.is_err());
    });
}
