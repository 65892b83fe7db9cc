//! Symphonia decodes files while they trickle in at twice real time: the first second of sound is there when a tenth of
//! the file is, and all of it is what the local file gives.
//!
//! Its readers look for tags at the end of whatever is seekable, before they play. So those formats that need no tail are
//! given a source that does not say it can seek, as an application would that wants to start at once; MP4 needs one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use kithara::file::{FileParams, FileReader, FileSource, OpenMode};
use kithara::hls::{HlsParams, HlsSource};
use kithara_test_support::{Content, Rule, Server, expected, media};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;

use kithara::net::Url;
use kithara_interop::{MIB, builder, client, open_cache};

/// The samples, interleaved, after the callback has heard of the first second.
fn decode(source: Box<dyn MediaSource>, extension: &str, mut first_second: impl FnMut()) -> Vec<f32> {
    let stream = MediaSourceStream::new(source, symphonia::core::io::MediaSourceStreamOptions::default());
    let mut hint = Hint::new();
    hint.with_extension(extension);
    let mut format = symphonia::default::get_probe()
        .probe(
            &hint,
            stream,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .unwrap();
    let track = format.default_track(TrackType::Audio).unwrap();
    let (id, params) = (
        track.id,
        track.codec_params.as_ref().unwrap().audio().unwrap().clone(),
    );
    let rate = params.sample_rate.unwrap() as usize;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(&params, &AudioDecoderOptions::default())
        .unwrap();
    let (mut samples, mut told) = (Vec::new(), false);
    while let Some(packet) = format.next_packet().unwrap() {
        if packet.track_id != id {
            continue;
        }
        let sound = decoder.decode(&packet).unwrap();
        let channels = sound.num_planes();
        let mut some: Vec<f32> = Vec::new();
        sound.copy_to_vec_interleaved(&mut some);
        samples.extend(some);
        if !told && samples.len() >= rate * channels {
            told = true;
            first_second();
        }
    }
    assert!(told);
    samples
}

fn boxed(reader: FileReader, seekable: bool) -> Box<dyn MediaSource> {
    if seekable {
        Box::new(reader)
    } else {
        Box::new(ReadOnlySource::new(reader))
    }
}

/// A WAV file of thirty seconds: the bundled three, ten times.
fn long_wav(short: &[u8]) -> Vec<u8> {
    let data = short.windows(4).position(|window| window == b"data").unwrap() + 8;
    let mut long = short[..data].to_vec();
    for _ in 0..10 {
        long.extend_from_slice(&short[data..]);
    }
    let (all, sound) = (long.len() as u32 - 8, (long.len() - data) as u32);
    long[4..8].copy_from_slice(&all.to_le_bytes());
    long[data - 4..data].copy_from_slice(&sound.to_le_bytes());
    long
}

/// Reads at most half a KiB at a time and counts.
struct Small(std::io::Cursor<Vec<u8>>, Arc<AtomicU64>);

impl Read for Small {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(512);
        let count = self.0.read(&mut buffer[..most])?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Plays `bytes` at twice real time. Of the first request only a tenth is sent before the first second is heard, or what
/// the decoder needs for it if that is more (files of a few seconds, large pages); jumps are answered. Gives the number of
/// requests.
fn play(file: &str, bytes: &[u8], seconds: f64, seekable: bool) -> usize {
    let extension = file.rsplit('.').next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let local = dir.path().join(file);
    std::fs::write(&local, bytes).unwrap();
    let reader = block_on(FileSource::new(local, FileParams::local()).open_reader(OpenMode::Online)).unwrap();
    let from_disk = decode(boxed(reader, seekable), extension, || {});
    let mut due = bytes.len() as u64 / 10;
    // MP4 cannot be measured so where its index is at the end.
    if !seekable || extension != "m4a" {
        let read = Arc::new(AtomicU64::new(0));
        let small = Small(std::io::Cursor::new(bytes.to_vec()), Arc::clone(&read));
        let small = Box::new(ReadOnlySource::new(small));
        decode(small, extension, || due = due.max(read.load(Ordering::Relaxed)));
    }

    let server = Server::empty().unwrap();
    let path = format!("/{file}");
    server.serve(path.clone(), Content::bytes(bytes));
    let pace = (2.0 * bytes.len() as f64 / seconds) as u64;
    let gate = server.gate();
    server.rule(
        path.clone(),
        Rule::new().first(1).trickle(pace).gate_after(due, &gate),
    );
    server.rule(path.clone(), Rule::new().trickle(pace));
    let cache = open_cache(&dir.path().join("cache"), 64 * MIB);
    let url = Url::parse(&server.url(&path)).unwrap();
    // The gate's silence is none to give up on.
    let patient = builder().idle_timeout(Duration::from_secs(60)).build().unwrap();
    let source = FileSource::new(url, FileParams::new(patient, cache));
    let reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    let (heard, late) = (AtomicBool::new(false), AtomicBool::new(false));
    let from_net = std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while !heard.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(5));
            }
            late.store(!heard.load(Ordering::Relaxed), Ordering::Relaxed);
            gate.open();
        });
        decode(boxed(reader, seekable), extension, || {
            heard.store(true, Ordering::Relaxed);
        })
    });
    assert!(
        !late.into_inner(),
        "no second of {file} from its first {due} bytes"
    );
    assert!(from_disk == from_net, "{file}: other sound than from the disk");
    server.requests().len()
}

fn bundled(file: &str) -> (Vec<u8>, f64) {
    let bytes = std::fs::read(media().join("files").join(file)).unwrap();
    let seconds = &expected()["files"][file]["ffprobe_duration"];
    let seconds = seconds
        .as_f64()
        .or_else(|| seconds.as_str()?.parse().ok())
        .unwrap();
    (bytes, seconds)
}

#[test]
fn mp3_plays_while_it_trickles_in() {
    let (bytes, seconds) = bundled("piece.mp3");
    assert_eq!(play("piece.mp3", &bytes, seconds, false), 1);
}

#[test]
fn ogg_plays_while_it_trickles_in() {
    let (bytes, seconds) = bundled("piece.ogg");
    assert_eq!(play("piece.ogg", &bytes, seconds, false), 1);
}

#[test]
fn flac_plays_while_it_trickles_in() {
    let (bytes, seconds) = bundled("piece.flac");
    assert_eq!(play("piece.flac", &bytes, seconds, false), 1);
}

#[test]
fn wav_plays_while_it_trickles_in() {
    let (bytes, seconds) = bundled("piece.wav");
    assert_eq!(play("piece.wav", &long_wav(&bytes), seconds * 10.0, false), 1);
}

#[test]
fn mp4_with_its_index_in_front_plays_while_it_trickles_in() {
    let (bytes, seconds) = bundled("piece-moov-at-start.m4a");
    assert_eq!(play("piece-moov-at-start.m4a", &bytes, seconds, false), 1);
}

/// Fault B16: and a tail. Symphonia looks for an `ID3v1` tag in the last 128 bytes before it opens the file, which is one request,
/// and then reads the index, which is another.
#[test]
fn mp4_with_its_index_at_the_end_plays_while_it_trickles_in() {
    let (bytes, seconds) = bundled("piece-moov-at-end.m4a");
    assert_eq!(play("piece-moov-at-end.m4a", &bytes, seconds, true), 3);
}

/// What a seekable source costs the formats that need none: requests for the tail. The sound is the same.
#[test]
fn seekable_mp3_and_ogg_sound_the_same() {
    for file in ["piece.mp3", "piece.ogg"] {
        let (bytes, seconds) = bundled(file);
        let requests = play(file, &bytes, seconds / 8.0, true);
        assert!(requests <= 3, "{file}: {requests}");
    }
}

/// rodio takes the reader as it is, and hears from the network what it hears from the disk.
#[test]
fn rodio_decodes_the_reader_as_it_is() {
    for file in ["piece.mp3", "piece.ogg"] {
        let (bytes, seconds) = bundled(file);
        let heard = |reader: FileReader| {
            let decoder = rodio::Decoder::new(reader).unwrap();
            decoder.collect::<Vec<_>>()
        };
        let server = Server::empty().unwrap();
        let path = format!("/{file}");
        server.serve(path.clone(), Content::bytes(bytes.as_slice()));
        let pace = (8.0 * bytes.len() as f64 / seconds) as u64;
        server.rule(path.clone(), Rule::new().trickle(pace));
        let dir = tempfile::tempdir().unwrap();
        let cache = open_cache(dir.path(), 64 * MIB);
        let url = Url::parse(&server.url(&path)).unwrap();
        let net = FileSource::new(url, FileParams::new(client(), cache));
        let disk = FileSource::new(media().join("files").join(file), FileParams::local());
        let from_net = heard(block_on(net.open_reader(OpenMode::Online)).unwrap());
        assert!(
            from_net.len() as f64 > 8_000.0 * seconds,
            "{file}: {}",
            from_net.len()
        );
        assert!(
            from_net == heard(block_on(disk.open_reader(OpenMode::Online)).unwrap()),
            "{file}"
        );
    }
}

/// H19: HLS tracks, read as one file: what Symphonia decodes of the segments put together. While they arrive, and from the cache,
/// where they can be sought.
#[test]
fn symphonia_and_rodio_play_hls_tracks_as_files() {
    let server = Server::start(media()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cache = open_cache(&dir.path().join("cache"), 64 * MIB);
    for (tree, extension) in [
        ("ladder/aac-128", "m4s"),
        ("ladder/flac", "m4s"),
        ("packed-mp3", "mp3"),
    ] {
        let folder = media().join("segments").join(tree);
        let mut bytes = std::fs::read(folder.join("init.mp4")).unwrap_or_default();
        let segment = |number| std::fs::read(folder.join(format!("seg-{number}.{extension}"))).ok();
        bytes.extend((0..).map_while(segment).flatten());
        let hint = if extension == "m4s" { "m4a" } else { extension };
        let local = std::io::Cursor::new(bytes);
        let expected = decode(Box::new(ReadOnlySource::new(local.clone())), hint, || {});
        let url = Url::parse(&server.url(&format!("/segments/{tree}/playlist.m3u8"))).unwrap();
        let params = HlsParams::new(client(), cache.clone());
        let source = HlsSource::new(url, params);
        for mode in [OpenMode::Online, OpenMode::Offline] {
            let reader = block_on(source.open_reader(mode)).unwrap();
            let heard = decode(Box::new(ReadOnlySource::new(reader)), hint, || {});
            assert!(heard == expected, "{tree}: {} samples", heard.len());
        }
        let seekable = block_on(source.open_reader(OpenMode::Offline)).unwrap();
        assert!(seekable.is_seekable());
        let heard = decode(Box::new(seekable), hint, || {});
        assert!(
            heard == decode(Box::new(local.clone()), hint, || {}),
            "{tree}, sought"
        );
        if extension == "mp3" {
            let reader = block_on(source.open_reader(OpenMode::Offline)).unwrap();
            let heard = rodio::Decoder::new(reader).unwrap().count();
            assert_eq!(heard, rodio::Decoder::new(local).unwrap().count(), "{tree}");
        }
    }
}
