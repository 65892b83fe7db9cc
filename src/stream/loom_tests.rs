//! Every interleaving of driver, consumer and handles, within loom's bounds.
//!
//! `RUSTFLAGS="--cfg kithara_loom" cargo test --release --no-default-features --features stream --lib loom`
//!
//! `LOOM_MAX_PREEMPTIONS=3` looks further, for many minutes.
//!
//! A lost wake-up shows as a deadlock, which loom reports.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_lite::{StreamExt, future, stream};
use loom::future::block_on;
use loom::thread;

use super::{Message, Position, Source, SourceStream, Stream, StreamError, StreamParams};

type Error = StreamError<Infallible>;

/// Byte `n` is `n`, one a chunk, up to `length`; then the end, or silence.
struct Count {
    position: u64,
    length: u64,
    ends: bool,
    alive: Arc<AtomicUsize>,
}

fn count(length: u64, ends: bool) -> (Count, Arc<AtomicUsize>) {
    let alive = Arc::new(AtomicUsize::new(1));
    (
        Count {
            position: 0,
            length,
            ends,
            alive: Arc::clone(&alive),
        },
        alive,
    )
}

impl Source for Count {
    type Error = Infallible;
    type Control = ();

    fn open(&mut self, _: &StreamParams) -> Result<SourceStream<(), Infallible>, Error> {
        let chunks =
            (self.position..self.length).map(|n| Ok(Message::Data(Bytes::from(vec![n.to_le_bytes()[0]]))));
        let chunks = stream::iter(chunks.collect::<Vec<_>>());
        Ok(if self.ends {
            chunks.boxed()
        } else {
            chunks.chain(stream::pending()).boxed()
        })
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), Error> {
        self.position = position;
        Ok(())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Is something else at first: one byte and the end, or silence.
struct AtFirst {
    byte: Option<u8>,
    then: Count,
    opened: bool,
}

impl AtFirst {
    fn new(byte: Option<u8>, then: Count) -> Self {
        Self {
            byte,
            then,
            opened: false,
        }
    }
}

impl Source for AtFirst {
    type Error = Infallible;
    type Control = ();

    fn open(&mut self, params: &StreamParams) -> Result<SourceStream<(), Infallible>, Error> {
        if std::mem::replace(&mut self.opened, true) {
            return self.then.open(params);
        }
        Ok(match self.byte {
            Some(byte) => stream::once(Ok(Message::Data(Bytes::from(vec![byte])))).boxed(),
            None => stream::pending().boxed(),
        })
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), Error> {
        self.then.seek_bytes(position)
    }
}

fn tight() -> StreamParams {
    StreamParams::default()
        .max_chunks(2.try_into().unwrap())
        .max_bytes(1.try_into().unwrap())
}

/// With a third thread there is an order of magnitude more to explore.
fn model(threads: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(4 - threads));
    builder.check(test);
}

async fn read<S: Source<Error = Infallible>>(stream: &mut Stream<S>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    all
}

/// S12: the item that was received last, as byte `n` is `n`.
fn assert_stands_at<S: Source>(stream: &Stream<S>, item: &[u8]) {
    assert_eq!(stream.position(), Position::Bytes(item[0].into()));
}

/// S2, S4, fault A9: no side sleeps for ever on the byte limit or on the queue.
#[test]
fn the_bytes_flow() {
    model(2, || {
        let (source, alive) = count(2, true);
        let (mut stream, driver) = Stream::with_driver(source, tight());
        let driver = thread::spawn(move || block_on(driver));
        assert_eq!(block_on(read(&mut stream)), [0, 1]);
        driver.join().unwrap();
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

/// S1: whatever the driver is about to do.
#[test]
fn dropping_the_consumer_stops_the_driver() {
    model(2, || {
        let (source, alive) = count(2, false);
        let (mut stream, driver) = Stream::with_driver(source, tight());
        let driver = thread::spawn(move || block_on(driver));
        assert!(block_on(stream.next()).is_some());
        drop(stream);
        driver.join().unwrap();
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

/// S3: a consumer that waits hears of it.
#[test]
fn a_vanishing_driver_is_an_error() {
    model(2, || {
        let (source, _) = count(1, false);
        let (mut stream, mut driver) = Stream::with_driver(source, tight());
        let driver = thread::spawn(move || {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(pin!(&mut driver).poll(&mut cx).is_pending());
            drop(driver);
        });
        assert_eq!(block_on(stream.next()).unwrap().unwrap(), [0].as_slice());
        assert!(matches!(
            block_on(stream.next()),
            Some(Err(StreamError::DriverGone { panic: None }))
        ));
        driver.join().unwrap();
    });
}

/// S5, S7, fault A6: a seek and the end race; the first one decides, and caller and consumer agree on it.
#[test]
fn a_seek_revokes_the_end_or_comes_too_late() {
    model(3, || {
        let (source, alive) = count(6, true);
        let (mut stream, driver) = Stream::with_driver(AtFirst::new(Some(0), source), tight());
        let handle = stream.handle();
        let driver = thread::spawn(move || block_on(driver));
        let seeker = thread::spawn(move || block_on(handle.seek_bytes(5)));
        let all = block_on(read(&mut stream));
        driver.join().unwrap();
        assert_agreed(&seeker.join().unwrap(), &all);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

fn assert_agreed(answer: &Result<(), Error>, all: &[u8]) {
    match answer {
        // Before the first byte was taken, or after.
        Ok(()) => assert!(all == [5] || all == [0, 5], "{all:?}"),
        Err(error) => {
            assert!(error.is_closed());
            assert_eq!(all, [0]);
        }
    }
}

/// S5: an idle driver hears a seek, and the answer comes before what it brings.
#[test]
fn a_seek_wakes_an_idle_driver() {
    model(2, || {
        let (source, _) = count(6, false);
        let (mut stream, driver) = Stream::with_driver(source, tight());
        let driver = thread::spawn(move || block_on(driver));
        block_on(stream.handle().seek_bytes(5)).unwrap();
        assert_eq!(block_on(stream.next()).unwrap().unwrap(), [5].as_slice());
        drop(stream);
        driver.join().unwrap();
    });
}

/// S6, S12: two seekers, both answered, and the stream is where an accepted one went, and says so.
#[test]
fn every_seek_is_answered() {
    model(3, || {
        let (source, _) = count(6, false);
        let (mut stream, driver) = Stream::with_driver(source, tight());
        let (a, b) = (stream.handle(), stream.handle());
        let driver = thread::spawn(move || block_on(driver));
        let seeker = thread::spawn(move || block_on(a.seek_bytes(3)));
        let ours = block_on(b.seek_bytes(5));
        let theirs = seeker.join().unwrap();
        let next = block_on(stream.next()).unwrap().unwrap();
        match (ours.is_ok(), theirs.is_ok()) {
            (true, false) => assert_eq!(next, [5].as_slice()),
            (false, true) => assert_eq!(next, [3].as_slice()),
            (true, true) => assert!(next == [3].as_slice() || next == [5].as_slice()),
            (false, false) => panic!("nobody was accepted"),
        }
        assert_stands_at(&stream, &next);
        assert_eq!(
            stream.generation(),
            u64::from(ours.is_ok()) + u64::from(theirs.is_ok())
        );
        drop(stream);
        driver.join().unwrap();
    });
}

/// S12: the consumer receives the first item after a seek while another thread seeks again. What it receives stands where
/// it says.
#[test]
fn an_item_stands_where_it_says() {
    model(3, || {
        let (source, _) = count(6, false);
        let (mut stream, driver) = Stream::with_driver(AtFirst::new(None, source), tight());
        let handle = stream.handle();
        let driver = thread::spawn(move || block_on(driver));
        block_on(handle.seek_bytes(4)).unwrap();
        let seeker = thread::spawn(move || block_on(handle.seek_bytes(5)));
        while stream.generation() < 2 {
            let item = block_on(stream.next()).unwrap().unwrap();
            assert_stands_at(&stream, &item);
        }
        seeker.join().unwrap().unwrap();
        drop(stream);
        driver.join().unwrap();
    });
}

/// S1, S6: the consumer is dropped while a seek is on its way.
#[test]
fn a_seek_in_flight_outlives_the_consumer() {
    model(3, || {
        let (source, alive) = count(1, false);
        let (stream, driver) = Stream::with_driver(source, tight());
        let handle = stream.handle();
        let driver = thread::spawn(move || block_on(driver));
        let seeker = thread::spawn(move || block_on(handle.seek_bytes(0)));
        drop(stream);
        let answer = seeker.join().unwrap();
        assert!(answer.is_ok() || answer.is_err_and(|error| error.is_closed()));
        driver.join().unwrap();
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

/// S5, S7, inline: the engine is taken out by the consumer and by a handle.
#[test]
fn an_inline_seek_and_its_consumer_share_the_engine() {
    model(2, || {
        let (source, alive) = count(6, true);
        let mut stream = Stream::inline(AtFirst::new(Some(0), source), tight());
        let handle = stream.handle();
        let seeker = thread::spawn(move || block_on(handle.seek_bytes(5)));
        let all = block_on(read(&mut stream));
        assert_agreed(&seeker.join().unwrap(), &all);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

/// S5, inline: a consumer that sleeps on an idle source is woken by the seek.
#[test]
fn an_inline_seek_wakes_its_consumer() {
    model(2, || {
        let (source, _) = count(6, false);
        let mut stream = Stream::inline(AtFirst::new(None, source), tight());
        let handle = stream.handle();
        let seeker = thread::spawn(move || block_on(handle.seek_bytes(5)));
        assert_eq!(block_on(stream.next()).unwrap().unwrap(), [5].as_slice());
        seeker.join().unwrap().unwrap();
    });
}

/// S5, inline: a consumer that finds the engine taken is woken when it is back.
#[test]
fn an_inline_consumer_is_turned_away_and_woken() {
    model(2, || {
        let (source, _) = count(6, false);
        let mut stream = Stream::inline(AtFirst::new(None, source), tight());
        let handle = stream.handle();
        let consumer = thread::spawn(move || block_on(stream.next()).unwrap().unwrap());
        block_on(handle.seek_bytes(5)).unwrap();
        assert_eq!(consumer.join().unwrap(), [5].as_slice());
    });
}

/// S5, inline: a seek that found the engine taken is answered though its consumer polls no more.
#[test]
fn an_inline_seek_outlasts_its_consumers_poll() {
    model(2, || {
        let (source, _) = count(6, false);
        let mut stream = Stream::inline(source, tight());
        let handle = stream.handle();
        let seeker = thread::spawn(move || block_on(handle.seek_bytes(5)));
        assert!(block_on(stream.next()).is_some());
        seeker.join().unwrap().unwrap();
        drop(stream);
    });
}

/// S6, inline: two seekers find each other at the engine, and nobody is forgotten.
#[test]
fn every_inline_seek_is_answered() {
    model(2, || {
        let (source, _) = count(6, false);
        let mut stream = Stream::inline(source, tight());
        let (a, b) = (stream.handle(), stream.handle());
        let seeker = thread::spawn(move || block_on(a.seek_bytes(3)));
        let ours = block_on(b.seek_bytes(5));
        let theirs = seeker.join().unwrap();
        assert!(ours.is_ok() || theirs.is_ok());
        let next = block_on(stream.next()).unwrap().unwrap();
        assert!(next == [3].as_slice() || next == [5].as_slice());
        assert_stands_at(&stream, &next);
    });
}

/// S1, inline: the thread that has the engine when the consumer goes drops it.
#[test]
fn dropping_an_inline_consumer_drops_the_source() {
    model(2, || {
        let (source, alive) = count(1, false);
        let mut stream = Stream::inline(source, tight());
        let handle = stream.handle();
        let seeker = thread::spawn(move || block_on(handle.seek_bytes(0)));
        let polled = block_on(future::poll_fn(|cx| Poll::Ready(pin!(stream.next()).poll(cx))));
        drop(polled);
        drop(stream);
        let answer = seeker.join().unwrap();
        assert!(answer.is_ok() || answer.is_err_and(|error| error.is_closed()));
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}
