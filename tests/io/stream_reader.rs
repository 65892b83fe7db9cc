//! `StreamReader`: a stream's promises (S1, S3, S8) as a blocking reader sees them.

use std::error::Error as _;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::thread;

use futures_lite::future;
use kithara::io::{SeekError, StreamReadError, StreamReader};
use kithara::stream::{Stream, StreamError, StreamParams};

use crate::stage::{LONG, within};
use crate::tape::{Act, Deck, Tape, Torn, bytes, playing, scripted};

fn params() -> StreamParams {
    StreamParams::default()
}

fn read_error(error: &io::Error) -> &StreamReadError<Torn> {
    error.get_ref().unwrap().downcast_ref().unwrap()
}

/// Waits until the tape was polled while it had nothing.
fn until_polled(deck: &Deck) {
    while deck.polls.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
}

/// Waits until the source is gone.
fn until_gone(deck: &Deck) {
    while deck.is_source_alive() {
        thread::yield_now();
    }
}

#[test]
fn every_way_to_run_a_stream_gives_all_bytes_and_the_end() {
    within(LONG, || {
        let whole = bytes(0, 100_000);
        let read = |mut reader: StreamReader<Tape>| {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            assert!(all == whole);
            assert_eq!(reader.position(), 100_000);
            assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0, "the end stays the end");
        };
        read(StreamReader::new(Stream::new(playing(100_000, 777).0, params())));
        read(StreamReader::new(Stream::inline(
            playing(100_000, 777).0,
            params(),
        )));
        let (stream, driver) = Stream::with_driver(playing(100_000, 777).0, params());
        let run = thread::spawn(move || future::block_on(driver));
        read(StreamReader::new(stream));
        run.join().unwrap();
    });
}

#[test]
fn a_read_is_short_rather_than_late() {
    within(LONG, || {
        let (tape, deck) = scripted(0, &[Act::Data(10), Act::Wait, Act::Data(6)]);
        let mut reader = StreamReader::new(Stream::inline(tape, params()));
        let mut buffer = [0; 64];
        assert_eq!(reader.read(&mut []).unwrap(), 0, "an empty buffer is no end");
        assert_eq!(deck.polls.load(std::sync::atomic::Ordering::SeqCst), 0);
        assert_eq!(reader.read(&mut buffer[..4]).unwrap(), 4);
        assert_eq!(
            reader.read(&mut buffer[4..]).unwrap(),
            6,
            "and does not wait for more"
        );
        deck.release();
        assert_eq!(reader.read(&mut buffer[10..]).unwrap(), 6);
        assert_eq!(buffer[..16], bytes(0, 16));
        assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    });
}

/// S8: the source's own error, typed, at its place, and at each later read.
#[test]
fn the_sources_error_is_kept() {
    within(LONG, || {
        let (tape, _deck) = scripted(0, &[Act::Data(10), Act::Fail(7)]);
        let mut reader = StreamReader::new(Stream::new(tape, params()));
        let mut all = Vec::new();
        let error = reader.read_to_end(&mut all).unwrap_err();
        assert_eq!(all, bytes(0, 10), "what came before is read");
        assert_eq!(read_error(&error).source_error(), Some(&Torn { code: 7 }));
        assert_ne!(error.kind(), ErrorKind::Interrupted);
        for _ in 0..2 {
            let again = reader.read(&mut [0; 8]).unwrap_err();
            assert_eq!(read_error(&again).source_error(), Some(&Torn { code: 7 }));
            assert!(!read_error(&again).is_interrupted());
        }
        let stream = StreamError::source(Torn { code: 7 });
        assert_eq!(
            error.to_string(),
            stream.to_string(),
            "it adds nothing to the text"
        );
        assert_eq!(
            read_error(&error).source().map(ToString::to_string),
            stream.source().map(ToString::to_string)
        );
    });
}

/// S3: a driver that vanishes is never an end.
#[test]
fn a_driver_that_vanishes_is_an_error() {
    within(LONG, || {
        let (tape, _deck) = scripted(0, &[Act::Data(10), Act::Wait]);
        let (stream, mut driver) = Stream::with_driver(tape, params());
        future::block_on(future::poll_once(&mut driver));
        let mut reader = StreamReader::new(stream);
        assert_eq!(reader.read(&mut [0; 64]).unwrap(), 10);
        let blocked = thread::spawn(move || {
            let error = reader.read(&mut [0; 64]).unwrap_err();
            (reader, error)
        });
        drop(driver);
        let (mut reader, error) = blocked.join().unwrap();
        let gone = |error: &io::Error| {
            matches!(
                read_error(error).stream_error(),
                Some(StreamError::DriverGone { panic: None })
            )
        };
        assert!(gone(&error));
        assert!(gone(&reader.read(&mut [0; 64]).unwrap_err()), "and stays one");

        let (tape, _deck) = scripted(0, &[Act::Data(10), Act::Panic]);
        let error = io::read_to_string(StreamReader::new(Stream::inline(tape, params()))).unwrap_err();
        assert!(matches!(
            read_error(&error).stream_error(),
            Some(StreamError::DriverGone { panic: Some(_) })
        ));
    });
}

#[test]
fn an_interrupt_ends_a_blocked_read_and_loses_nothing() {
    within(LONG, || {
        for inline in [false, true] {
            let (tape, deck) = scripted(0, &[Act::Wait, Act::Data(8)]);
            let make = if inline { Stream::inline } else { Stream::new };
            let mut reader = StreamReader::new(make(tape, params()));
            let interrupter = reader.interrupter();
            let blocked = thread::spawn(move || {
                let error = reader.read(&mut [0; 8]).unwrap_err();
                (reader, error)
            });
            until_polled(&deck);
            interrupter.interrupt();
            let (mut reader, error) = blocked.join().unwrap();
            assert!(read_error(&error).is_interrupted());
            assert_ne!(
                error.kind(),
                ErrorKind::Interrupted,
                "read_exact would try again for ever"
            );
            let again = reader.read(&mut [0; 8]).unwrap_err();
            assert!(read_error(&again).is_interrupted(), "it stays in force");
            interrupter.clear();
            deck.release();
            let mut eight = [0; 8];
            reader.read_exact(&mut eight).unwrap();
            assert_eq!(eight[..], bytes(0, 8));
            assert_eq!(reader.read(&mut eight).unwrap(), 0);
            interrupter.interrupt();
            assert_eq!(
                reader.read(&mut eight).unwrap(),
                0,
                "what is there is read, the end too"
            );
            drop(reader);
            interrupter.interrupt();
        }
    });
}

/// Every order of interrupt and wait ends the wait.
#[test]
fn an_interrupt_at_any_moment_is_seen() {
    within(LONG, || {
        for round in 0..300_u32 {
            let (tape, _deck) = scripted(0, &[Act::Wait]);
            let mut reader = StreamReader::new(Stream::inline(tape, params()));
            let interrupter = reader.interrupter();
            let blocked = thread::spawn(move || reader.read(&mut [0; 8]).unwrap_err());
            for _ in 0..round % 40 * 50 {
                std::hint::spin_loop();
            }
            interrupter.interrupt();
            assert!(read_error(&blocked.join().unwrap()).is_interrupted());
        }
    });
}

/// S1.
#[test]
fn dropping_the_reader_stops_the_source() {
    within(LONG, || {
        for inline in [false, true] {
            let (tape, deck) = scripted(0, &[Act::Data(10), Act::Wait]);
            let make = if inline { Stream::inline } else { Stream::new };
            let mut reader = StreamReader::new(make(tape, params()));
            assert_eq!(reader.read(&mut [0; 4]).unwrap(), 4);
            drop(reader);
            until_gone(&deck);
            assert_eq!(deck.live(), 0);
        }
    });
}

#[test]
fn it_tells_its_position_and_refuses_to_move() {
    within(LONG, || {
        let (tape, _deck) = playing(100, 10);
        let mut reader = StreamReader::new(Stream::inline(tape, params()));
        reader.read_exact(&mut [0; 25]).unwrap();
        assert_eq!(reader.stream_position().unwrap(), 25);
        for to in [SeekFrom::Current(0), SeekFrom::Start(25)] {
            assert_eq!(reader.seek(to).unwrap(), 25);
        }
        for to in [SeekFrom::Start(0), SeekFrom::Current(1), SeekFrom::End(0)] {
            let error = reader.seek(to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert_eq!(
                error.get_ref().unwrap().downcast_ref(),
                Some(&SeekError::Unseekable)
            );
        }
        let mut next = [0; 8];
        reader.read_exact(&mut next).unwrap();
        assert_eq!(next[..], bytes(25, 33));
    });
}

/// A reader may move from thread to thread: the wake finds the thread that waits.
#[test]
fn it_wakes_the_thread_that_reads() {
    within(LONG, || {
        let (tape, deck) = scripted(0, &[Act::Wait, Act::Data(8), Act::Wait, Act::Data(8)]);
        let mut reader = StreamReader::new(Stream::new(tape, params()));
        for part in 0..2 {
            let blocked = thread::spawn(move || {
                let mut eight = [0; 8];
                reader.read_exact(&mut eight).unwrap();
                (reader, eight)
            });
            deck.release();
            let (back, eight) = blocked.join().unwrap();
            assert_eq!(eight[..], bytes(part * 8, part * 8 + 8));
            reader = back;
        }
    });
}

#[cfg(feature = "symphonia")]
#[test]
fn symphonia_sees_a_source_that_cannot_seek() {
    use symphonia_core::io::MediaSource;

    let (tape, _deck) = playing(100, 10);
    let mut source: Box<dyn MediaSource> = Box::new(StreamReader::new(Stream::inline(tape, params())));
    assert!(!source.is_seekable());
    assert_eq!(source.byte_len(), None);
    let mut all = Vec::new();
    source.read_to_end(&mut all).unwrap();
    assert!(all == bytes(0, 100));
    assert_eq!(source.byte_len(), None);
}
