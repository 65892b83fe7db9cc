//! P1, P8: files as encoders write them, one of each kind, against what `table.json` knows of them.

use std::convert::Infallible;
use std::fs;
use std::io::Cursor;

use bytes::Bytes;
use futures_lite::stream;
use kithara::decode::{DecodeError, DecodeParams, Decoder};
use kithara::stream::{Message, Source, SourceStream, Stream, StreamError, StreamParams};
use kithara_test_support::media;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::pcm::{hex, open, rest};
use crate::seeks::{How, seeks, sought};

/// The rows whose decoders are built in, by name.
fn rows() -> Vec<(String, Value)> {
    let table: Value = serde_json::from_slice(&fs::read(media().join("table.json")).unwrap()).unwrap();
    let rows = table.as_object().unwrap();
    assert!(rows.len() >= 70, "{}", rows.len());
    let features = [
        ("opus", cfg!(feature = "opus")),
        ("he-aac", cfg!(feature = "he-aac")),
    ];
    let built = |row: &Value| {
        let is_of = |name| row["feature"].as_str() == Some(name);
        features.iter().all(|(name, built)| *built || !is_of(*name))
    };
    let rows = rows.iter().filter(|(_, row)| built(row));
    rows.map(|(name, row)| (name.clone(), row.clone())).collect()
}

/// What differs between samples and a row, and how far they do.
fn off(row: &Value, samples: &[f32], channels: usize) -> Result<f64, String> {
    let frames = samples.len() / channels;
    if frames as u64 != row["frames"].as_u64().unwrap() {
        return Err(format!("{frames} frames for {}", row["frames"]));
    }
    if let Some(sum) = row["pcm"].as_str() {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let same = hex(&Sha256::digest(&bytes)) == sum;
        return if same {
            Ok(0.0)
        } else {
            Err("other samples".to_owned())
        };
    }
    let stride = row["stride"].as_u64().unwrap() as usize;
    let known = row["samples"].as_array().unwrap().iter().enumerate();
    let worst = known
        .map(|(number, known)| {
            let sample = samples[number * stride * channels + number % channels];
            (f64::from(sample) - known.as_f64().unwrap()).abs()
        })
        .fold(0.0, f64::max);
    // The table has six decimals.
    if worst <= 1e-4 + 1e-6 {
        Ok(worst)
    } else {
        Err(format!("{worst} off"))
    }
}

#[test]
fn p1_each_kind_of_file_is_what_its_encoder_was_given() {
    let mut wrong = Vec::new();
    for (name, row) in rows() {
        let mut decoder = open(&media().join("table").join(&name), &DecodeParams::new());
        let format = decoder.format().clone();
        let duration = decoder.duration();
        let samples = rest(&mut decoder);
        let channels = usize::from(format.spec.channels.count());
        let told = [
            ("codec", format!("{:?}", format.codec)),
            ("container", format!("{:?}", format.container)),
            ("rule", format!("{:?}", format.trim.rule)),
            ("sample_rate", format.spec.sample_rate.to_string()),
            ("channels", channels.to_string()),
        ];
        for (field, told) in told {
            let known = row[field]
                .as_str()
                .map_or_else(|| row[field].to_string(), str::to_owned);
            if known != told && known != "Any" {
                wrong.push(format!("{name}: {field} {told} for {known}"));
            }
        }
        match off(&row, &samples, channels) {
            Ok(worst) => println!("{name}: {worst:.1e}"),
            Err(what) => wrong.push(format!("{name}: {what}")),
        }
        let frames = (samples.len() / channels) as f64;
        let seconds = duration.map_or(0.0, |duration| duration.as_secs_f64());
        let estimated = ["aac", "ts"].iter().any(|suffix| name.ends_with(suffix))
            || name.starts_with("tagless")
            || name == "fragmented.mp4";
        if (seconds * f64::from(format.spec.sample_rate) - frames).abs() > 1.0 && !estimated {
            wrong.push(format!("{name}: {seconds} s of {frames} frames"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn p2_each_kind_of_file_can_be_sought_in() {
    for (name, row) in rows() {
        let how = if row["pcm"].is_string() {
            How::Equal
        } else if row["codec"] == "HeAac" {
            How::Aligned
        } else {
            How::Within(1e-4)
        };
        let file = media().join("table").join(&name);
        let all = rest(&mut open(&file, &DecodeParams::new()));
        sought(&name, &mut open(&file, &DecodeParams::new()), &all, seeks(8), how);
    }
}

/// Bytes that come in order, a few at a time, and that nobody knows the end of.
struct Dripping(Bytes);

impl Source for Dripping {
    type Error = Infallible;
    type Control = ();

    fn open(&mut self, _: &StreamParams) -> Result<SourceStream<(), Infallible>, StreamError<Infallible>> {
        let chunks: Vec<Bytes> = self.0.chunks(1777).map(Bytes::copy_from_slice).collect();
        Ok(Box::pin(stream::iter(
            chunks.into_iter().map(|chunk| Ok(Message::Data(chunk))),
        )))
    }
}

/// As `cat` makes a chain of one file: the serial numbers are the same, and a station sends no end beforehand.
#[test]
fn p1_a_stream_of_parts_with_one_serial_number_is_heard_whole() {
    for name in ["vorbis.ogg", "flac.oga"] {
        let part = fs::read(media().join("table").join(name)).unwrap();
        let once = rest(&mut Decoder::from_reader(Cursor::new(part.clone()), &DecodeParams::new()).unwrap());
        let chain = Bytes::from([&part[..], &part, &part].concat());
        let stream = Stream::inline(Dripping(chain.clone()), StreamParams::default());
        let mut station = Decoder::from_stream(stream, &DecodeParams::new()).unwrap();
        assert!(rest(&mut station) == once.repeat(3), "{name}");

        // Found while it plays, the parts behind can be gone back to.
        let mut file = Decoder::from_reader(Cursor::new(chain), &DecodeParams::new()).unwrap();
        assert!(rest(&mut file) == once.repeat(3), "{name}");
        let plays = file.duration().unwrap();
        file.seek(plays * 2 / 3).unwrap();
        let samples = rest(&mut file);
        assert!(samples == once, "{name}: {} of {}", samples.len(), once.len());
    }
}

/// A file whose end is not known, as while it grows: what can be read in order is heard whole.
#[test]
fn p1_files_are_heard_in_order_of_their_bytes() {
    let mut refused = Vec::new();
    for (name, row) in rows() {
        let bytes = fs::read(media().join("table").join(&name)).unwrap();
        let stream = Stream::inline(Dripping(bytes.into()), StreamParams::default());
        let mut decoder = match Decoder::from_stream(stream, &DecodeParams::new()) {
            Ok(decoder) => decoder,
            Err(error) => {
                refused.push((name, error));
                continue;
            }
        };
        assert!(!decoder.is_seekable(), "{name}");
        let channels = usize::from(decoder.spec().channels.count());
        let samples = rest(&mut decoder);
        let off = off(&row, &samples, channels);
        assert!(off.is_ok(), "{name}: {off:?}");
    }
    // What stands at the end of a file is not there when it is needed.
    for (name, error) in refused {
        assert!(name.ends_with("m4a") || name.ends_with("mp4"), "{name}: {error}");
        assert!(!matches!(error, DecodeError::Malformed { .. }), "{name}: {error}");
    }
}
