//! HLS as one sound, from messages made by hand: what is joined, trimmed, sought and damaged is known to the frame.

use std::{collections::VecDeque, fs, sync::Arc, time::Duration};

use bytes::Bytes;
use kithara_test_support::media;
use serde_json::Value;

use super::{HlsPcm, feed::Feed};
use crate::{
    decode::{
        Block, DecodeError, DecodeEvent,
        source::{Interrupt, PcmSource, Step},
    },
    hls::{HlsControl, Origin},
    stream::Message,
};

/// A segment of a track made by hand.
#[derive(Debug, Clone)]
struct Piece {
    /// The initialization section in force, by number.
    init: Option<usize>,
    bytes: Vec<u8>,
    duration: Duration,
    variant: usize,
    discontinuity: u64,
    /// EXT-X-GAP.
    gap: bool,
}

/// A track made by hand. Messages come as from `HlsSource`.
#[derive(Debug, Clone, Default)]
struct Script {
    inits: Vec<Bytes>,
    pieces: Vec<Piece>,
    chunk: usize,
    queue: VecDeque<Message<HlsControl>>,
    seeks: Vec<Duration>,
}

impl Script {
    fn play(mut self) -> HlsPcm {
        self.chunk = self.chunk.max(1000);
        self.fill(0);
        HlsPcm::with_feed(Box::new(self))
    }

    fn time(&self, piece: usize) -> Duration {
        self.pieces[..piece].iter().map(|piece| piece.duration).sum()
    }

    fn fill(&mut self, from: usize) {
        self.queue.clear();
        let (mut variant, mut init) = (None, None);
        for (at, piece) in self.pieces.iter().enumerate().skip(from) {
            if variant != Some(piece.variant) {
                self.queue.push_back(Message::Control(HlsControl::VariantApplied {
                    variant: piece.variant,
                    bandwidth: 0,
                    codecs: None,
                    rendition: None,
                    duration: self.time(self.pieces.len()),
                    start: None,
                }));
                (variant, init) = (Some(piece.variant), None);
            }
            let before = at.checked_sub(1).map_or(0, |at| self.pieces[at].discontinuity);
            if piece.discontinuity != before {
                let sequence = piece.discontinuity;
                self.queue
                    .push_back(Message::Control(HlsControl::Discontinuity { sequence }));
                init = None;
            }
            let (variant, duration, time) = (piece.variant, piece.duration, self.time(at));
            let media_sequence = at as u64;
            if piece.gap {
                self.queue.push_back(Message::Control(HlsControl::Gap {
                    variant,
                    media_sequence,
                    duration,
                    time,
                }));
                continue;
            }
            let origin = Origin::Cache;
            if let Some(section) = piece.init.filter(|section| init != Some(*section)) {
                self.queue
                    .push_back(Message::Control(HlsControl::InitializationSection {
                        variant,
                        origin,
                    }));
                self.queue.push_back(Message::Data(self.inits[section].clone()));
                init = Some(section);
            }
            self.queue.push_back(Message::Control(HlsControl::SegmentStart {
                variant,
                media_sequence,
                discontinuity_sequence: piece.discontinuity,
                duration,
                time,
                origin,
            }));
            let chunks = piece.bytes.chunks(self.chunk).map(Bytes::copy_from_slice);
            self.queue.extend(chunks.map(Message::Data));
        }
    }
}

impl Feed for Script {
    fn next(&mut self) -> Result<Option<Message<HlsControl>>, DecodeError> {
        Ok(self.queue.pop_front())
    }

    fn seek(&mut self, time: Duration) -> Result<(), DecodeError> {
        self.seeks.push(time);
        let from = (0..self.pieces.len()).find(|at| self.time(at + 1) > time);
        self.fill(from.unwrap_or(self.pieces.len()));
        Ok(())
    }

    fn interrupt(&self) -> Interrupt {
        Arc::new(|| {})
    }
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(media().join(name)).unwrap()).unwrap()
}

/// A bundled tree, one of its Variant Streams.
fn tree(name: &str, variant: usize) -> Script {
    let row = &json("expected.json")["trees"][name]["variants"][variant];
    let read = |part: &Value| {
        let bytes = fs::read(media().join(part["path"].as_str().unwrap())).unwrap();
        let end = |at: usize| usize::try_from(part["range"][at].as_u64().unwrap()).unwrap();
        if part["range"].is_null() {
            bytes
        } else {
            bytes[end(0)..end(1)].to_vec()
        }
    };
    let has_init = !row["init"].is_null();
    let pieces = row["segments"].as_array().unwrap().iter().map(|segment| Piece {
        init: has_init.then_some(0),
        bytes: read(segment),
        duration: Duration::from_secs_f64(segment["duration"].as_str().unwrap().parse().unwrap()),
        variant: 0,
        discontinuity: 0,
        gap: false,
    });
    Script {
        pieces: pieces.collect(),
        inits: has_init.then(|| read(&row["init"]).into()).into_iter().collect(),
        ..Script::default()
    }
}

/// What was heard, from a place on.
#[derive(Debug, Default)]
struct Heard {
    from: u64,
    samples: Vec<f32>,
    channels: usize,
    events: Vec<DecodeEvent>,
    error: Option<DecodeError>,
}

impl Heard {
    fn frames(&self) -> usize {
        self.samples.len() / self.channels.max(1)
    }

    fn damage(&self) -> Vec<(u64, u64)> {
        let damage = |event: &DecodeEvent| match event {
            DecodeEvent::Damaged { at, frames } => Some((*at, *frames)),
            _ => None,
        };
        self.events.iter().filter_map(damage).collect()
    }
}

/// Hears `frames` frames, or all there are. Blocks follow each other: that is checked.
fn hear(track: &mut HlsPcm, frames: usize) -> Heard {
    let (mut heard, mut block) = (Heard::default(), Block::empty());
    let mut next = None;
    while heard.frames() < frames || heard.channels == 0 {
        match track.next(&mut block) {
            Ok(Step::Block) => {
                heard.channels = block.spec.channels.count().into();
                if next.is_none() {
                    heard.from = block.position;
                }
                assert_eq!(
                    next.unwrap_or(block.position),
                    block.position,
                    "a block follows the last one"
                );
                assert!(block.frames() > 0);
                next = Some(block.position + block.frames() as u64);
                heard.samples.extend(&block.samples);
            }
            Ok(Step::Event(event)) => heard.events.push(event),
            Ok(Step::Ended) => break,
            Err(error) => {
                heard.error = Some(error);
                break;
            }
        }
    }
    heard
}

fn all(script: Script) -> Heard {
    let heard = hear(&mut script.play(), usize::MAX);
    assert!(heard.error.is_none(), "{:?}", heard.error);
    heard
}

/// The largest difference between two sounds of the same length.
fn difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter()
        .zip(other)
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f32::max)
}

const TREES: [(&str, usize); 7] = [
    ("plain", 0),
    ("plain", 1),
    ("plain", 2),
    ("plain", 3),
    ("ts", 0),
    ("packed", 0),
    ("byterange", 0),
];

/// P1, P3: every tree is what ffmpeg's decoder makes of it, over all its segments, but for the padding that fMP4 declares
/// and ffmpeg gives out.
#[test]
fn the_bundled_trees_sound_as_ffmpeg_says() {
    let (pcm, packets, expected) = (json("pcm.json"), json("packets.json"), json("expected.json"));
    for (name, variant) in TREES {
        let playlist = expected["trees"][name]["variants"][variant]["playlist"]
            .as_str()
            .unwrap();
        let heard = all(tree(name, variant));
        let row = &pcm[playlist];
        let frames = packets[playlist]["declared"]
            .as_u64()
            .unwrap_or(row["frames"].as_u64().unwrap());
        assert_eq!((heard.from, heard.frames() as u64), (0, frames), "{playlist}");
        let stride = usize::try_from(row["stride"].as_u64().unwrap()).unwrap();
        let mut worst = 0.0_f64;
        for (at, want) in row["samples"].as_array().unwrap().iter().enumerate() {
            let place = at * stride * heard.channels + at % heard.channels;
            if let Some(sample) = heard.samples.get(place) {
                worst = worst.max((f64::from(*sample) - want.as_f64().unwrap()).abs());
            }
        }
        let lossless = name == "plain" && variant == 3;
        assert!(worst < if lossless { 1e-6 } else { 1e-4 }, "{playlist}: {worst}");
        assert!(
            matches!(heard.events[0], DecodeEvent::FormatChanged(_)),
            "{:?}",
            heard.events
        );
        assert_eq!(heard.damage(), []);
    }
}

/// P2: random places, in random order, back from the end too; equal to the uninterrupted decode from the first frame on.
#[test]
fn a_seek_gives_the_frames_of_an_uninterrupted_decode() {
    for (name, variant) in [("plain", 1), ("plain", 3), ("ts", 0), ("packed", 0)] {
        let script = tree(name, variant);
        let whole = all(script.clone());
        let mut track = script.play();
        hear(&mut track, 1);
        let rate = f64::from(track.format().unwrap().spec.sample_rate);
        let mut random = 7_u64;
        for round in 0..60 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let mut target = usize::try_from(random >> 33).unwrap() % whole.frames();
            if round % 10 == 9 {
                // At the end, and then back from it.
                hear(&mut track, usize::MAX);
                target = whole.frames() - 1 - round;
            }
            track.seek(Duration::from_secs_f64(target as f64 / rate)).unwrap();
            let heard = hear(&mut track, 3000);
            assert_eq!(heard.from, target as u64, "{name} {variant}");
            let same = &whole.samples[target * whole.channels..];
            let length = heard.samples.len().min(same.len());
            let off = difference(&heard.samples[..length], &same[..length]);
            // ffmpeg's AAC has noise substitution, whose noise depends on what was decoded before.
            let bearable = if variant == 3 { 0.0 } else { 0.2 };
            assert!(off <= bearable, "{name} {variant}, frame {target}: {off}");
        }
        track.seek(Duration::from_secs(3600)).unwrap();
        assert_eq!(hear(&mut track, 1).frames(), 0);
    }
}
