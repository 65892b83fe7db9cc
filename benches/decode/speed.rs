//! A whole track out of memory, beside Symphonia's own reader and decoder over the same bytes.

use std::io::Cursor;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use kithara::decode::{DecodeParams, Decoder};
use symphonia::core::{
    codecs::audio::AudioDecoderOptions,
    formats::{FormatOptions, TrackType, probe::Hint},
    io::{MediaSourceStream, MediaSourceStreamOptions},
    meta::MetadataOptions,
};

use crate::made;
use crate::report::{Report, median};

const ROUNDS: usize = 11;

pub(crate) fn run(report: &mut Report) {
    for (format, path) in made::tracks() {
        let bytes = made::bytes(&path);
        let (mut bare, mut ratios) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let timed = |decode: &dyn Fn(Arc<[u8]>) -> f64| {
                let before = processor_time();
                decode(Arc::clone(&bytes)) / (processor_time() - before)
            };
            // In turns the first.
            let (alone, ours) = if round % 2 == 0 {
                (timed(&symphonia), timed(&kithara))
            } else {
                let ours = timed(&kithara);
                (timed(&symphonia), ours)
            };
            bare.push(alone);
            ratios.push(ours / alone);
        }
        println!("figure symphonia_{format} {:.0} times real time", median(bare));
        report.at_least(&format!("speed_{format}_vs_symphonia"), median(ratios), 0.9, "x");
    }
}

/// Seconds for which this thread has run, whatever else the machine does; by the clock where the system does not tell.
fn processor_time() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next()?.parse::<f64>().ok());
    nanos.map_or_else(|| START.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

/// Seconds of sound.
fn kithara(bytes: Arc<[u8]>) -> f64 {
    let mut decoder = Decoder::from_reader(Cursor::new(bytes), &DecodeParams::new()).unwrap();
    let mut frames = 0;
    while let Some(block) = decoder.next_block().unwrap() {
        frames += block.frames();
    }
    frames as f64 / f64::from(decoder.spec().sample_rate)
}

/// Seconds of sound, each packet's samples interleaved in one buffer, as its examples do.
fn symphonia(bytes: Arc<[u8]>) -> f64 {
    let source = MediaSourceStream::new(Box::new(Cursor::new(bytes)), MediaSourceStreamOptions::default());
    let mut format = symphonia::default::get_probe()
        .probe(
            &Hint::new(),
            source,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .unwrap();
    let track = format.default_track(TrackType::Audio).unwrap();
    let params = track.codec_params.as_ref().unwrap().audio().unwrap();
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(params, &AudioDecoderOptions::default())
        .unwrap();
    let (mut samples, mut frames, mut rate) = (Vec::<f32>::new(), 0, 1);
    // Some of its readers report the end of a track as an error.
    while let Ok(Some(packet)) = format.next_packet() {
        let Ok(buffer) = decoder.decode(&packet) else {
            continue;
        };
        samples.resize(buffer.samples_interleaved(), 0.0);
        buffer.copy_to_slice_interleaved(&mut samples);
        frames += buffer.frames();
        rate = buffer.spec().rate();
    }
    frames as f64 / f64::from(rate)
}
