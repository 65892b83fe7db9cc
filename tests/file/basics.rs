//! Opening, reading, seeking, ending.

use std::io::{Read, Seek, SeekFrom};

use futures_lite::StreamExt;
use futures_lite::future::{block_on, poll_once};
use kithara::file::{
    FileControl, FileError, FileParams, FileParts, FileSource, LookAhead, NotMediaReason, OpenMode, Origin,
};
use kithara::stream::{Message, Source, Stream, StreamError, StreamParams};
use kithara_test_support::{Content, Ended, Pattern, Rule};

use crate::*;

#[test]
fn a_file_is_read_from_its_first_byte_to_its_last_with_one_request() {
    let stage = Stage::new(3 * MIB + 17);
    let mut reader = stage.reader();
    assert_eq!(reader.len(), Some(stage.len));
    assert_rest(&mut reader, 0, stage.len);
    assert_eq!(stage.requests(), 1);
}

/// B1, B9, B10.
#[test]
fn b1_skipping_forward_and_back_gives_the_bytes_of_the_file() {
    let stage = Stage::new(20 * MIB);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).gate_after(MIB, &gate));
    let mut reader = stage.reader();
    assert_at(&mut reader, 0, 4096);
    assert_at(&mut reader, 12 * MIB, 4096);
    assert_at(&mut reader, 4096, 4096);
    assert_at(&mut reader, 5 * MIB, 100_000);
    let before = stage.requests();
    assert_eq!(reader.read(&mut []).unwrap(), 0);
    assert_eq!(reader.stream_position().unwrap(), 5 * MIB + 100_000);
    assert_eq!(
        reader.seek(SeekFrom::Current(-100_000_000)).unwrap_err().kind(),
        std::io::ErrorKind::InvalidInput
    );
    assert_eq!(stage.requests(), before);
    gate.open();
    reader.seek(SeekFrom::Start(0)).unwrap();
    assert_rest(&mut reader, 0, stage.len);
    // Past the end is no error and no byte.
    reader.seek(SeekFrom::End(10)).unwrap();
    assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0);
}

/// B3: the tail is one small request, and the download goes on where it was.
#[test]
fn b3_the_tail_costs_one_small_request() {
    let stage = Stage::new(20 * MIB);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).gate_after(64 * KIB, &gate));
    let mut reader = stage.reader();
    assert_at(&mut reader, 0, 1000);
    assert_at(&mut reader, 20 * MIB - 8192, 8192);
    let tail = stage.server.requests().last().unwrap().clone();
    assert_eq!(
        tail.header("range").unwrap(),
        format!("bytes={}-{}", 20 * MIB - 8192, 20 * MIB - 1)
    );
    gate.open();
    reader.seek(SeekFrom::Start(1000)).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(pattern().first_difference(1000, &rest), None);
    assert_eq!(stage.requests(), 2, "main was parked, not dropped");
}

/// A long jump is one request, and what it skipped comes afterwards, in order, with one more.
#[test]
fn a_jump_is_one_request_and_its_hole_is_filled_afterwards() {
    let stage = Stage::new(20 * MIB);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).gate_after(64 * KIB, &gate));
    let mut reader = stage.reader();
    assert_at(&mut reader, 0, 1000);
    assert_at(&mut reader, 10 * MIB, 1000);
    stage
        .server
        .wait_until(|log| log.requests.len() == 3 && log.requests[2].ended == Ended::Complete);
    let requests = stage.server.requests();
    assert_eq!(requests[1].range_start(), Some(10 * MIB));
    let hole = requests[2].header("range").unwrap();
    assert!(hole.ends_with(&format!("-{}", 10 * MIB - 1)), "{hole}");
    assert_rest(&mut reader, 10 * MIB + 1000, stage.len);
}

#[test]
fn look_ahead_is_bounded_and_moves_with_the_reader() {
    let stage = Stage::new(64 * MIB);
    let params = stage.params().look_ahead(LookAhead::Bytes(256 * KIB));
    let mut reader = block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap();
    let mut buffer = vec![0; 4096];
    for at in (0..4 * MIB).step_by(4096) {
        reader.read_exact(&mut buffer).unwrap();
        assert_eq!(pattern().first_difference(at, &buffer), None);
        let reached = reader.resource().available().last().unwrap().end;
        assert!(reached <= at + 4096 + 256 * KIB + MIB, "{reached} at {at}");
    }
    assert_eq!(stage.requests(), 1);
}

/// In seconds, at the rate that the parameters say and then the decoder, which knows better. The driver is stepped by
/// hand, so it is known when it rests.
#[test]
fn look_ahead_in_time_follows_the_rate() {
    const CHUNK: u64 = 256 * KIB;
    const STEP: u64 = 64 * KIB;
    let stage = Stage::new(64 * MIB);
    let time = LookAhead::Time(Duration::from_secs(4));
    let params = stage.params().look_ahead(time).bytes_per_second(100_000);
    let source = FileSource::new(stage.url(), params);
    let FileParts {
        mut reader,
        mut driver,
        ..
    } = block_on(source.open_parts(OpenMode::Online)).unwrap();
    let resource = reader.resource().clone();
    let reached = || resource.available().last().map_or(0, |last| last.end);
    // Until it takes nothing, again and again, of what the server has sent beyond.
    let mut settle = || {
        let mut rests = 0;
        while rests < 100 {
            let before = reached();
            assert!(block_on(poll_once(&mut driver)).is_none());
            let has_more = stage.server.requests()[0].body_sent > before;
            rests = if has_more && reached() == before {
                rests + 1
            } else {
                0
            };
        }
    };
    settle();
    // A reader's advance is told in steps, and a quarter of the look-ahead is to be gone before more is taken. What has
    // come through the connection at once is kept, so a chunk more than asked for may be there.
    for at in (0..MIB).step_by(1000) {
        assert_at(&mut reader, at, 1000);
        settle();
        assert!(
            (at + 300_000 - STEP..=at + 1000 + 400_000 + 2 * CHUNK).contains(&reached()),
            "{} at {at}",
            reached()
        );
    }
    source.set_bytes_per_second(1_000_000);
    assert_at(&mut reader, MIB, 64 * 1024 + 1000);
    settle();
    let wanted = MIB + 66_536 + 4_000_000;
    assert!(
        (wanted - STEP..=wanted + 2 * CHUNK).contains(&reached()),
        "{}",
        reached()
    );
    assert_eq!(stage.requests(), 1);
}

#[test]
fn a_local_file_is_read_without_client_or_cache() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.bin");
    std::fs::write(&path, pattern().range(0, 100_000)).unwrap();
    let source = FileSource::new(path.as_path(), FileParams::local());
    let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    assert_eq!(reader.len(), Some(100_000));
    assert_at(&mut reader, 50_000, 1000);
    reader.seek(SeekFrom::Start(0)).unwrap();
    assert_rest(&mut reader, 0, 100_000);
    #[cfg(unix)]
    {
        let link = dir.path().join("link.bin");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut reader =
            block_on(FileSource::new(link.as_path(), FileParams::local()).open_reader(OpenMode::Online))
                .unwrap();
        assert_rest(&mut reader, 0, 100_000);
    }
    let absent = FileSource::new(dir.path().join("b.bin"), FileParams::local());
    assert!(
        block_on(absent.open_reader(OpenMode::Online))
            .unwrap_err()
            .is_not_found()
    );
    let folder = FileSource::new(dir.path(), FileParams::local());
    assert!(matches!(
        block_on(folder.open_reader(OpenMode::Online)).unwrap_err(),
        FileError::Local { .. }
    ));
}

#[test]
fn what_is_not_there_is_said_at_open() {
    let stage = Stage::new(1000);
    let url = Url::parse(&stage.server.url("/b.bin?secret=1")).unwrap();
    let error = block_on(FileSource::new(url, stage.params()).open_reader(OpenMode::Online)).unwrap_err();
    assert!(error.is_not_found() && !error.is_transient());
    assert!(!format!("{error} {error:?}").contains("secret"));
}

/// F1: an empty body is no file, whatever the status says.
#[test]
fn an_empty_file_is_refused_at_open() {
    let stage = Stage::new(0);
    let error = block_on(stage.source().open_reader(OpenMode::Online)).unwrap_err();
    assert_eq!(error.not_media().unwrap().reason, NotMediaReason::Empty);
}

/// S1, N5: the connection is closed when the last reader goes, whatever the driver does.
#[test]
fn dropping_the_reader_closes_the_connection() {
    let stage = Stage::new(512 * MIB);
    let reader = stage.reader();
    drop(reader);
    stage.server.wait_until(|log| log.open_connections() == 0);

    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate_after(1000, &gate));
    let reader = stage.reader();
    drop(reader);
    stage.server.wait_until(|log| log.open_connections() == 0);
}

/// N5: by the thread that drops it, although the driver does not get to run.
#[test]
fn the_thread_that_drops_the_reader_closes_the_connection() {
    let stage = Stage::new(512 * MIB);
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate_after(MIB, &gate));
    let FileParts {
        reader, mut driver, ..
    } = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    assert!(block_on(poll_once(&mut driver)).is_none());
    assert_eq!(stage.server.open_connections(), 1);
    drop(reader);
    stage.server.wait_until(|log| log.open_connections() == 0);
    block_on(driver);
}

/// The same bytes as a stream, with its control messages, and with seeks in both directions.
#[test]
fn a_stream_has_the_bytes_in_order_and_follows_seeks() {
    let stage = Stage::new(8 * MIB);
    block_on(async {
        let mut messages = Stream::new(stage.source(), StreamParams::default()).into_messages();
        let first = messages.next().await.unwrap().unwrap();
        let Message::Control(FileControl::Opened { origin, len }) = first else {
            panic!("{first:?}")
        };
        assert_eq!((origin, len), (Origin::Network, Some(stage.len)));
        let mut at = 0;
        let mut cached = false;
        while let Some(message) = messages.next().await {
            match message.unwrap() {
                Message::Data(bytes) => {
                    assert_eq!(pattern().first_difference(at, &bytes), None);
                    at += bytes.len() as u64;
                }
                Message::Control(control) => cached |= matches!(control, FileControl::Cached),
            }
        }
        assert_eq!(at, stage.len);
        assert!(cached, "told before the end");
    });
    let stage = Stage::new(40 * MIB);
    block_on(async {
        let mut stream = Stream::new(stage.source(), StreamParams::default());
        let handle = stream.handle();
        for target in [0, 30 * MIB, 1000, 39 * MIB, 20 * MIB, 0] {
            handle.seek_bytes(target).await.unwrap();
            let mut at = target;
            while at < target + MIB {
                let bytes = stream.next().await.unwrap().unwrap();
                assert_eq!(pattern().first_difference(at, &bytes), None);
                at += bytes.len() as u64;
            }
        }
    });
}

/// Fault D4: a seek goes on with the file whose bytes were given out, whatever the stream was doing, or fails because it is no
/// more.
#[test]
fn a_stream_stays_with_its_file_when_it_seeks() {
    let stage = Stage::new(8 * MIB);
    let sources = [
        stage.source(),
        FileSource::new(stage.url(), FileParams::uncached(client())),
    ];
    for source in sources {
        stage
            .server
            .serve("/a.bin", Content::pattern(pattern(), stage.len));
        let gate = stage.server.gate();
        stage
            .server
            .rule("/a.bin", Rule::new().first(1).gate_after(MIB, &gate));
        let before = stage.requests();
        block_on(async {
            let mut stream = Stream::new(source, StreamParams::default());
            let mut at = 0;
            while at < MIB {
                at += stream.next().await.unwrap().unwrap().len() as u64;
            }
            // Nothing more comes: from here on it waits.
            stream.handle().seek_bytes(6 * MIB).await.unwrap();
            let bytes = stream.next().await.unwrap().unwrap();
            assert_eq!(pattern().first_difference(6 * MIB, &bytes), None);
            let requests = stage.server.requests().split_off(before);
            assert_eq!(requests.len(), 2);
            assert!(requests[1].header("If-Range").is_some());

            stage
                .server
                .serve("/a.bin", Content::pattern(&Pattern::new(6), stage.len));
            stream.handle().seek_bytes(3 * MIB).await.unwrap();
            let error = stream.next().await.unwrap().map(|bytes| bytes.len()).unwrap_err();
            assert!(
                matches!(&error, StreamError::Source { source } if source.is_changed()),
                "{error:?}"
            );
        });
        gate.open();
    }
}

/// Fault D4: nor does a seek that comes before the error was read turn one file into another.
#[test]
fn an_unread_failure_is_no_way_to_another_file() {
    // More than the buffers of a connection hold: the cut must come before the last byte is sent.
    let stage = Stage::new(64 * MIB);
    let uncached = || FileSource::new(stage.url(), FileParams::uncached(client()));
    let mut source = uncached();
    let params = StreamParams::default();
    block_on(async {
        let mut first = source.open(&params).unwrap();
        while !matches!(first.next().await.unwrap().unwrap(), Message::Data(_)) {}
        stage
            .server
            .serve("/a.bin", Content::pattern(&Pattern::new(6), stage.len));
        stage.server.cut();
        let error = loop {
            if let Err(error) = first.next().await.unwrap() {
                break error;
            }
        };
        assert!(
            matches!(&error, StreamError::Source { source } if source.is_changed()),
            "{error:?}"
        );
        drop(first);
        source.seek_bytes(MIB).unwrap();
        let mut second = source.open(&params).unwrap();
        let error = second.next().await.unwrap().unwrap_err();
        assert!(
            matches!(&error, StreamError::Source { source } if source.is_changed()),
            "{error:?}"
        );
        // A new source gets the new one.
        let mut anew = uncached().open(&params).unwrap();
        let bytes = loop {
            if let Message::Data(bytes) = anew.next().await.unwrap().unwrap() {
                break bytes;
            }
        };
        assert_eq!(Pattern::new(6).first_difference(0, &bytes), None);
    });
}

/// S1 for the stream.
#[test]
fn dropping_the_stream_closes_the_connection() {
    let stage = Stage::new(512 * MIB);
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate_after(MIB, &gate));
    block_on(async {
        let mut stream = Stream::new(stage.source(), StreamParams::default());
        stream.next().await.unwrap().unwrap();
    });
    stage.server.wait_until(|log| log.open_connections() == 0);
}

/// A driver of one's own, and what waits for it when it is dropped.
#[test]
fn a_dropped_driver_ends_the_waits() {
    let stage = Stage::new(MIB);
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate_after(1000, &gate));
    let mut parts = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    let mut reader = parts.reader;
    drop(parts.driver);
    // What came with the head is there.
    reader.seek(SeekFrom::Start(1000)).unwrap();
    let error = reader.read(&mut [0; 10]).unwrap_err();
    assert!(
        matches!(FileError::of(&error), Some(FileError::Stopped)),
        "{error:?}"
    );
    assert!(parts.events.try_next().is_some());
}
