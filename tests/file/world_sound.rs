//! The rows of `world` and `world_errors` against a fourth consumer, the decoder: a track that is decoded to its last frame,
//! or an error whose top line is the cause.

use std::sync::Arc;

use futures_lite::future::block_on;
use kithara::decode::{DecodeError, DecodeParams, Decoder};
use kithara::file::{FileError, FileSource, OpenMode};
use kithara_test_support::Content;

use crate::world::{self, LEN, Row};
use crate::world_errors;
use crate::*;

/// A WAV file as long as the files of the rows: mono, 16 bits. Behind its header are the bytes of the pattern, so that each
/// frame tells where it stands.
fn track() -> Arc<[u8]> {
    const HEADER: usize = 44;
    let data = u32::try_from(LEN).unwrap() - HEADER as u32;
    let mut wav = Vec::new();
    wav.extend(b"RIFF");
    wav.extend((data + 36).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    for (value, width) in [(1_u32, 2), (1, 2), (48_000, 4), (96_000, 4), (2, 2), (16, 2)] {
        wav.extend(&value.to_le_bytes()[..width]);
    }
    wav.extend(b"data");
    wav.extend(data.to_le_bytes());
    assert_eq!(wav.len(), HEADER);
    wav.extend(pattern().range(HEADER as u64, data as usize));
    Arc::from(wav)
}

/// The row's server, with the track in the place of each file that it has.
fn stage(row: &Row, track: &Arc<[u8]>) -> Stage {
    let stage = row.stage();
    for path in ["/a.bin", "/one", "/two"] {
        stage.server.serve(path, Content::bytes(Arc::clone(track)));
    }
    stage
}

/// Decodes to the end and compares each frame.
fn decode(source: &FileSource, track: &[u8], mode: OpenMode) -> Result<(), DecodeError> {
    let mut decoder = block_on(Decoder::from_file(source, &DecodeParams::new(), mode))?;
    let mut samples = track[44..].chunks_exact(2);
    while let Some(block) = decoder.next_block()? {
        for sample in block.samples() {
            let bytes = samples.next().expect("no more frames than the file has");
            let expected = i16::from_le_bytes([bytes[0], bytes[1]]);
            // To the bit: 16 bits and a division by a power of two lose nothing.
            assert_eq!(sample.to_bits(), (f32::from(expected) / 32_768.0).to_bits());
        }
    }
    assert_eq!(samples.len(), 0, "a false end");
    Ok(())
}

/// The file's error that ended the decoding.
fn cause(error: &DecodeError) -> FileError {
    match error {
        DecodeError::File { source } => FileError::clone(source),
        DecodeError::Io { source } => FileError::of(source).expect("the file's error").clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_row_is_heard_to_its_last_frame() {
    let track = track();
    for row in &world::ROWS {
        let uncached = decode(&row.source(&stage(row, &track), false), &track, OpenMode::Online);
        uncached.unwrap_or_else(|error| panic!("{}: {error:?}", row.what));
        let mut stage = stage(row, &track);
        let cached = decode(&row.source(&stage, true), &track, OpenMode::Online);
        cached.unwrap_or_else(|error| panic!("{}, cached: {error:?}", row.what));
        // To the end of the driver: what is whole then is kept.
        let source = row.source(&stage, true);
        let mut parts = block_on(source.open_parts(OpenMode::Online)).unwrap();
        let driving = std::thread::spawn(move || block_on(parts.driver));
        let read = std::io::copy(&mut parts.reader, &mut std::io::sink()).unwrap();
        assert_eq!(read, LEN);
        driving.join().unwrap();
        drop((parts.reader, source));
        stage.restart();
        let decoded = decode(&row.source(&stage, true), &track, OpenMode::Offline);
        decoded.unwrap_or_else(|error| panic!("{}, offline: {error:?}", row.what));
    }
}

#[test]
fn each_row_that_ends_with_an_error_tells_its_cause_first() {
    let track = track();
    for (row, is_right) in &world_errors::ROWS {
        for is_cached in [true, false] {
            let stage = stage(row, &track);
            let what = format!("{}, cached: {is_cached}", row.what);
            let decoded = decode(&row.source(&stage, is_cached), &track, OpenMode::Online);
            let Err(error) = decoded else {
                // The header says how long the track is. What is wrong behind its last frame is not heard.
                assert!(row.what.starts_with("W40"), "{what}");
                continue;
            };
            let cause = cause(&error);
            assert!(is_right(&cause), "{what}: {cause:?}");
            assert_eq!(error.to_string(), cause.to_string(), "{what}");
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{what}: {error:?}"
            );
        }
    }
}
