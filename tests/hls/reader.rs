//! H19: one Variant Stream as one file, `Read + Seek`.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::time::Duration;

use futures_lite::future::block_on;
use kithara::hls::{HlsError, HlsParams, HlsReader, HlsSource, OpenMode};
use kithara::io::{SeekError, StreamReadError};
use kithara_test_support::{Rule, Server, media};

use crate::published::{Published, init, whole};
use crate::rig::{Cache, Track, online, play, url};

fn open(list: &str, params: HlsParams, mode: OpenMode) -> HlsReader {
    block_on(HlsSource::new(url(list), params).open_reader(mode)).unwrap()
}

/// The error that a reader carries.
fn cause(error: &io::Error) -> &StreamReadError<HlsError> {
    error.get_ref().unwrap().downcast_ref().unwrap()
}

#[track_caller]
fn assert_at(reader: &mut HlsReader, bytes: &[u8], at: usize, count: usize) {
    reader.seek(SeekFrom::Start(at as u64)).unwrap();
    let mut buffer = vec![0; count.min(bytes.len() - at)];
    reader.read_exact(&mut buffer).unwrap();
    assert!(buffer == bytes[at..][..buffer.len()], "wrong bytes at {at}");
    assert_eq!(reader.stream_position().unwrap(), (at + buffer.len()) as u64);
}

/// B2, H19: the test of files, over a track that trickles in, plain and encrypted; then again offline. `KITHARA_SEEKS` is how many
/// each of the four makes.
#[test]
fn h19_random_seeks_over_a_trickling_track() {
    const LENGTHS: [usize; 7] = [300_000, 10, 160_000, 262_144, 64_000, 400_000, 90_000];
    for track in [Track::plain(&LENGTHS), Track::encrypted(&LENGTHS)] {
        let bytes = track.bytes();
        let cache = Cache::new();
        for index in 0..LENGTHS.len() {
            let trickle = Rule::new().trickle(2 << 20);
            track.server.rule(format!("/t/{index}.ts"), trickle);
        }
        let seeks = std::env::var("KITHARA_SEEKS").ok();
        let seeks = seeks.map_or(500, |seeks| seeks.parse().unwrap());
        let mut chance = 7_u64;
        for mode in [OpenMode::Online, OpenMode::Offline] {
            let mut reader = open(&track.list(), cache.params(), mode);
            let mut buffer = vec![0; 4096];
            for round in 0..seeks {
                chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let at = (chance >> 20) as usize % bytes.len();
                reader.seek(SeekFrom::Start(at as u64)).unwrap();
                let count = reader.read(&mut buffer).unwrap();
                assert!(count > 0, "a false end at {at}, round {round}");
                assert!(buffer[..count] == bytes[at..at + count], "at {at}, round {round}");
            }
            assert_at(&mut reader, &bytes, 0, bytes.len());
            assert_eq!(reader.read(&mut buffer).unwrap(), 0);
            assert_eq!(reader.len(), Some(bytes.len() as u64));
            track.server.stop();
        }
    }
}

/// The end is known when each part's length is: read to the end, kept, or said by the playlist.
#[test]
fn the_end_is_known_with_the_lengths() {
    let track = Track::encrypted(&[1000, 2000, 500]);
    let bytes = track.bytes();
    let cache = Cache::new();
    let mut reader = open(&track.list(), cache.params(), OpenMode::Online);
    assert_eq!((reader.len(), reader.is_empty()), (None, false));
    let refused = reader.seek(SeekFrom::End(0)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let refused = refused.get_ref().unwrap().downcast_ref::<SeekError>();
    assert_eq!(refused, Some(&SeekError::UnknownLength));
    assert_eq!(
        reader.seek(SeekFrom::Current(-1)).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        reader.seek_time(Duration::from_secs(7)).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(reader.seek_time(Duration::from_secs(3)).unwrap(), 0);
    assert_eq!(reader.duration(), Duration::from_millis(18_018));

    assert_at(&mut reader, &bytes, 0, 2000);
    // The first one is known by now, and the second one on its way.
    assert_eq!(reader.position_at(Duration::from_secs(7)), Some(1000));
    assert_eq!(reader.time_at(999), Some(Duration::ZERO));
    assert_at(&mut reader, &bytes, 2000, 1500);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    drop(reader);

    // Another source, from the cache.
    track.server.stop();
    for mode in [OpenMode::Offline, OpenMode::Online] {
        let mut reader = open(&track.list(), cache.params(), mode);
        assert_eq!(reader.len(), Some(3500));
        assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), 3499);
        assert_at(&mut reader, &bytes, 3499, 1);
        assert_eq!(reader.seek_time(Duration::from_secs(13)).unwrap(), 3000);
        assert_at(&mut reader, &bytes, 3000, 10);
        for (position, time) in [
            (0, 0),
            (999, 0),
            (1000, 6006),
            (3499, 12_012),
            (3500, 18_018),
            (u64::MAX, 18_018),
        ] {
            assert_eq!(
                reader.time_at(position),
                Some(Duration::from_millis(time)),
                "{position}"
            );
        }
        assert_eq!(reader.position_at(Duration::from_secs(100)), Some(3500));
        reader.seek(SeekFrom::Start(u64::MAX)).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
}

/// What fails is tried again by the next read, and what was interrupted goes on.
#[test]
fn a_read_that_failed_is_tried_again() {
    let track = Track::plain(&[1000, 2000]);
    let bytes = track.bytes();
    let cache = Cache::new();
    let mut reader = open(&track.list(), cache.params(), OpenMode::Online);
    let away = track.server.rule("/t/1.ts", Rule::new().answer(404, ""));
    assert_at(&mut reader, &bytes, 0, 1000);
    let error = reader.read(&mut [0; 10]).unwrap_err();
    let failed = cause(&error).source_error().unwrap();
    assert!(failed.is_not_found(), "{failed}");
    away.remove();
    let interrupter = reader.interrupter();
    let gate = track.server.gate();
    let held = track.server.rule("/t/1.ts", Rule::new().gate(&gate));
    interrupter.interrupt();
    let error = reader.read(&mut [0; 10]).unwrap_err();
    assert!(cause(&error).is_interrupted(), "{error}");
    assert_eq!(reader.position(), 1000);
    interrupter.clear();
    gate.open();
    held.remove();
    assert_at(&mut reader, &bytes, 1000, 2000);
    // Offline the missing is named.
    let other = Track::plain(&[10]);
    let missing = HlsSource::new(url(&other.list()), cache.params());
    let missing = block_on(missing.open_reader(OpenMode::Offline)).unwrap_err();
    assert!(missing.is_offline_miss(), "{missing}");
}

/// H9, W5: positions are of one edition. What is kept of it is read; a byte that the server alone could give is an error, and a
/// reader that is opened then has the new edition, from its first byte to its last.
#[test]
fn w5_a_reader_has_one_edition() {
    for durations in [[6, 6, 6, 6], [6, 7, 6, 6]] {
        let track = Published::new();
        track.publish("first", &[6, 6, 6, 6]);
        let cache = Cache::new();
        track.hear(&cache, 2, 1);
        let old = [init("first"), whole("first", 0..2)].concat();
        let source = HlsSource::new(url(&track.url()), cache.params());
        let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
        track.publish("other", &durations);
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).unwrap_err();
        let is_changed =
            |error: &io::Error| matches!(cause(error).source_error(), Some(HlsError::EditionChanged { .. }));
        assert!(is_changed(&error), "{error}");
        assert!(old.starts_with(&read), "{}", String::from_utf8_lossy(&read));
        // Each seek begins anew: with the old one, or with an error.
        for at in [0, 20, 3000, 4034, 4100, 1] {
            reader.seek(SeekFrom::Start(at)).unwrap();
            let mut byte = [0];
            match reader.read_exact(&mut byte) {
                Ok(()) => assert_eq!(byte[0], old[usize::try_from(at).unwrap()], "{at}"),
                Err(error) => assert!(is_changed(&error), "{at}: {error}"),
            }
        }
        let mut newest = block_on(source.open_reader(OpenMode::Online)).unwrap();
        let mut read = Vec::new();
        newest.read_to_end(&mut read).unwrap();
        assert!(read == [init("other"), whole("other", 0..4)].concat());
    }
}

/// A drop closes what was opened, in the middle of a part too.
#[test]
fn a_dropped_reader_closes_its_connections() {
    let track = Track::plain(&[100_000; 3]);
    let gate = track.server.gate();
    track.server.rule("/t/1.ts", Rule::new().gate_after(10, &gate));
    let mut reader = open(&track.list(), Cache::new().params(), OpenMode::Online);
    assert_at(&mut reader, &track.bytes(), 50_000, 50_000);
    track.server.wait_until(|log| log.to("/t/1.ts").count() == 1);
    drop(reader);
    gate.open();
    track.server.wait_until(|log| log.open_connections() == 0);
}

/// Real trees give the bytes that a stream gives, whatever the reads.
#[test]
fn real_trees_are_what_a_stream_gives() {
    let server = Server::start(media()).unwrap();
    for tree in ["plain", "byterange", "ts", "encrypted"] {
        let expected = &kithara_test_support::expected()["trees"][tree];
        let start = expected["master"]
            .as_str()
            .or(expected["variants"][0]["playlist"].as_str());
        let list = server.url(&format!("/{}", start.unwrap()));
        let stream = play(&list, Cache::new().params(), online()).whole();
        let cache = Cache::new();
        let mut reader = open(&list, cache.params(), OpenMode::Online);
        // A decoder that probes: the start, further on, and back.
        assert_at(&mut reader, &stream.bytes, 0, 12);
        assert_at(&mut reader, &stream.bytes, 5000, 100);
        assert_at(&mut reader, &stream.bytes, 8, 4000);
        let mut bytes = Vec::new();
        reader.rewind().unwrap();
        reader.read_to_end(&mut bytes).unwrap();
        assert!(bytes == stream.bytes, "{tree}");
    }
}
