//! R6, and B6 to B11 as a reader sees them.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::thread;

use kithara::io::{Reader, SeekError, WaitError};
use kithara::storage::StreamingError;

use crate::stage::{LONG, Reset, Resource, Stage, content, within};

fn wait_error(error: &io::Error) -> &WaitError<Reset> {
    error.get_ref().unwrap().downcast_ref().unwrap()
}

/// Blocks in a read at `position`, and answers once the wait is seen by the fetcher's side.
fn blocked_at(track: &Resource, position: u64) -> thread::JoinHandle<io::Result<Vec<u8>>> {
    let mut reader = Reader::new(track);
    let blocked = thread::spawn(move || {
        reader.seek(SeekFrom::Start(position))?;
        let mut buffer = vec![0; 100];
        let count = reader.read(&mut buffer)?;
        buffer.truncate(count);
        Ok(buffer)
    });
    while track.demand().waiting.is_empty() {
        thread::yield_now();
    }
    blocked
}

/// Fault B1: skip forward, skip back gave megabytes of zeros.
#[test]
fn b1_skip_forward_then_back_reads_the_files_own_bytes() {
    within(LONG, || {
        let stage = Stage::new();
        let track = stage.open();
        let bytes = content(1 << 20);
        let mut writer = track.writer().unwrap();
        writer.set_len(1 << 20).unwrap();
        writer.write_at(0, &bytes[..1000]).unwrap();
        let mut reader = Reader::new(&track);
        let mut buffer = vec![0; 1 << 20];
        assert_eq!(reader.read(&mut buffer).unwrap(), 1000);
        writer.write_at(900_000, &bytes[900_000..910_000]).unwrap();
        reader.seek(SeekFrom::Start(900_000)).unwrap();
        assert_eq!(reader.read(&mut buffer).unwrap(), 10_000);
        assert!(buffer[..10_000] == bytes[900_000..910_000]);
        // Back into the hole: the read waits for the true bytes.
        let back = blocked_at(&track, 1000);
        writer.write_at(1000, &bytes[1000..1100]).unwrap();
        assert!(back.join().unwrap().unwrap() == bytes[1000..1100]);
    });
}

/// Fault B6: a seek before the length was known met a false end.
#[test]
fn b6_without_a_proven_end_there_is_no_end() {
    within(LONG, || {
        let stage = Stage::new();
        let track = stage.open();
        let mut writer = track.writer().unwrap();
        writer.write_at(0, b"0123456789").unwrap();
        let past = blocked_at(&track, 5000);
        let at_edge = blocked_at(&track, 10);
        writer.write_at(10, b"more").unwrap();
        assert_eq!(at_edge.join().unwrap().unwrap(), b"more");
        assert!(!past.is_finished());
        writer.set_len(14).unwrap();
        assert_eq!(past.join().unwrap().unwrap(), b"", "now the end is proven");
    });
}

/// Fault B7: at position == length a read was "ready" for ever.
#[test]
fn b7_at_the_length_is_the_end() {
    within(LONG, || {
        let stage = Stage::new();
        let track = stage.open();
        let mut writer = track.writer().unwrap();
        writer.set_len(4).unwrap();
        let mut reader = Reader::new(&track);
        assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), 4);
        for _ in 0..3 {
            assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
        }
        writer.write_at(0, b"abcd").unwrap();
        writer.commit(4).unwrap();
        reader.rewind().unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"abcd");
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    });
}

/// Fault B8: one large read at a slow rate waited for the whole buffer.
#[test]
fn b8_a_large_read_returns_with_the_first_bytes() {
    within(LONG, || {
        let stage = Stage::new();
        let track = stage.open();
        let mut writer = track.writer().unwrap();
        writer.set_len(1 << 20).unwrap();
        let mut reader = Reader::new(&track);
        let read = thread::spawn(move || reader.read(&mut vec![0; 1 << 20]).unwrap());
        while track.demand().waiting.is_empty() {
            thread::yield_now();
        }
        assert_eq!(
            track.demand().waiting,
            [0..1 << 20],
            "the fetcher learns of all that is asked"
        );
        writer.write_at(0, b"x").unwrap();
        assert_eq!(read.join().unwrap(), 1);
    });
}

/// Fault B9: `read(&mut [])` blocked, and `stream_position` sent requests.
#[test]
fn b9_empty_reads_and_asking_for_the_position_do_nothing() {
    within(LONG, || {
        let stage = Stage::new();
        let track = stage.open();
        let mut reader = Reader::new(&track);
        reader.seek(SeekFrom::Start(77)).unwrap();
        let before = track.demand();
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        assert_eq!(reader.stream_position().unwrap(), 77);
        assert_eq!(track.demand(), before, "nobody heard of it");
    });
}

/// Fault B10: `seek(Current(-100))` at 10 gave Ok(len), and seeks past the end were clamped. The same seeks on a file
/// are the model.
#[test]
fn b10_seeks_are_a_files_seeks() {
    let stage = Stage::new();
    let track = stage.open();
    let bytes = content(1000);
    let mut writer = track.writer().unwrap();
    writer.write_at(0, &bytes).unwrap();
    writer.commit(1000).unwrap();
    let mut reader = Reader::new(&track);
    let mut file = std::fs::File::open(stage.target()).unwrap();
    let edge = i64::MAX;
    for to in [
        SeekFrom::Start(10),
        SeekFrom::Current(-100),
        SeekFrom::Current(-10),
        SeekFrom::Current(-1),
        SeekFrom::Start(5000),
        SeekFrom::Current(-4500),
        SeekFrom::End(0),
        SeekFrom::End(1),
        SeekFrom::End(-1000),
        SeekFrom::End(-1001),
        SeekFrom::Start(u64::MAX),
        SeekFrom::Current(1),
        SeekFrom::Current(edge),
        SeekFrom::End(edge),
        SeekFrom::End(i64::MIN),
        SeekFrom::Current(i64::MIN),
        SeekFrom::End(-500),
    ] {
        let (ours, theirs) = (reader.seek(to), file.seek(to));
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{to:?}"),
            (Err(error), Err(_)) => {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{to:?}");
                let inner = error.get_ref().unwrap().downcast_ref::<SeekError>();
                assert_eq!(inner, Some(&SeekError::OutOfRange));
            }
            (ours, theirs) => panic!("{to:?}: {ours:?}, a file says {theirs:?}"),
        }
        assert_eq!(
            reader.stream_position().unwrap(),
            file.stream_position().unwrap(),
            "{to:?}"
        );
        let (mut ours, mut theirs) = ([0; 64], [0; 64]);
        if reader.position() < 1 << 40 {
            assert_eq!(
                reader.read(&mut ours).unwrap(),
                file.read(&mut theirs).unwrap(),
                "{to:?}"
            );
            assert_eq!(ours, theirs);
        }
    }
}

/// R6.
#[test]
fn from_the_end_without_a_length_is_unsupported() {
    let stage = Stage::new();
    let track = stage.open();
    let mut reader = Reader::new(&track);
    reader.seek(SeekFrom::Start(3)).unwrap();
    let error = reader.seek(SeekFrom::End(-1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        error.get_ref().unwrap().downcast_ref(),
        Some(&SeekError::UnknownLength)
    );
    assert_eq!(reader.stream_position().unwrap(), 3);
    track.writer().unwrap().set_len(10).unwrap();
    assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), 9);
}

/// R4, R6, fault B11.
#[test]
fn b11_a_blocked_read_ends_with_the_typed_cause_and_the_rest_is_readable() {
    within(LONG, || {
        let stage = Stage::new();
        let track = stage.open();
        let mut writer = track.writer().unwrap();
        writer.write_at(0, b"kept").unwrap();
        let blocked = blocked_at(&track, 4);
        writer.fail(Reset(5));
        let error = blocked.join().unwrap().unwrap_err();
        assert_eq!(wait_error(&error).cause(), Some(&Reset(5)));
        assert_ne!(
            error.kind(),
            ErrorKind::Interrupted,
            "read_exact would try again for ever"
        );

        let mut reader = Reader::new(&track);
        let mut all = Vec::new();
        let error = reader.read_to_end(&mut all).unwrap_err();
        assert!(matches!(wait_error(&error), WaitError::Failed { .. }));
        assert_eq!(all, b"kept");
    });
}

/// R6.
#[test]
fn an_interrupt_ends_a_blocked_read_and_those_that_would_block() {
    within(LONG, || {
        let stage = Stage::new();
        let track = stage.open();
        let mut reader = Reader::new(&track);
        let interrupter = reader.interrupter();
        let blocked = thread::spawn(move || {
            let error = reader.read_exact(&mut [0; 8]).unwrap_err();
            (reader, error)
        });
        while track.demand().waiting.is_empty() {
            thread::yield_now();
        }
        interrupter.interrupt();
        let (mut reader, error) = blocked.join().unwrap();
        assert!(wait_error(&error).is_interrupted());
        track.writer().unwrap().write_at(0, b"there").unwrap();
        let mut five = [0; 5];
        reader.read_exact(&mut five).unwrap();
        assert_eq!(&five, b"there", "what is there is read all the same");
        assert!(wait_error(&reader.read(&mut [0; 8]).unwrap_err()).is_interrupted());
        drop(reader);
        interrupter.interrupt();
    });
}

/// A file that lost bytes behind our back is an error of its own type, never an end.
#[test]
fn a_cut_file_is_an_error() {
    let stage = Stage::new();
    let track = stage.open();
    track.writer().unwrap().write_at(0, b"0123456789").unwrap();
    let part = stage.dir.path().join("track.flac~part");
    std::fs::OpenOptions::new()
        .write(true)
        .open(part)
        .unwrap()
        .set_len(0)
        .unwrap();
    let error = Reader::new(&track).read(&mut [0; 4]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let inner = error.get_ref().unwrap().downcast_ref::<StreamingError>();
    assert!(matches!(inner, Some(StreamingError::Cut { offset: 0, .. })));
}
