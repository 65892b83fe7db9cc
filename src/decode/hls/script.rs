//! Tracks made by hand, for tests: messages as a source gives them, and what is heard of them.

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
pub(super) struct Piece {
    /// The initialization section in force, by number.
    pub(super) init: Option<usize>,
    pub(super) bytes: Vec<u8>,
    pub(super) duration: Duration,
    pub(super) variant: usize,
    pub(super) discontinuity: u64,
    /// EXT-X-GAP.
    pub(super) gap: bool,
    /// When it starts, if not where the segment before it ends.
    pub(super) time: Option<Duration>,
}

/// A track made by hand. Messages come as from `HlsSource`.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    pub(super) inits: Vec<Bytes>,
    pub(super) pieces: Vec<Piece>,
    pub(super) chunk: usize,
    queue: VecDeque<Message<HlsControl>>,
    pub(super) seeks: Vec<Duration>,
}

impl Script {
    pub(super) fn play(mut self) -> HlsPcm {
        // Smaller chunks than a network gives, so that headers are cut by them.
        self.chunk = self.chunk.max(1000);
        self.fill(0);
        HlsPcm::with_feed(Box::new(self))
    }

    /// When a piece starts; the last one's end is that of the track.
    pub(super) fn time(&self, piece: usize) -> Duration {
        let before = || self.pieces[..piece].iter().map(|piece| piece.duration).sum();
        self.pieces
            .get(piece)
            .and_then(|piece| piece.time)
            .unwrap_or_else(before)
    }

    fn fill(&mut self, from: usize) {
        self.queue.clear();
        let (mut variant, mut init) = (None, None);
        for (at, piece) in self.pieces.iter().enumerate().skip(from) {
            // As the source does: the Variant Stream first, then what separates, then the section, then the segment.
            if variant != Some(piece.variant) {
                self.queue.push_back(Message::Control(HlsControl::VariantApplied {
                    variant: piece.variant,
                    bandwidth: 0,
                    codecs: None,
                    rendition: None,
                    duration: self.time(self.pieces.len()),
                    start: None,
                }));
                // Another Variant Stream has its own section, be its bytes the same.
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
        // The segment that holds the time, from its start: a source cannot cut one.
        let from = (0..self.pieces.len()).find(|at| self.time(at + 1) > time);
        self.fill(from.unwrap_or(self.pieces.len()));
        Ok(())
    }

    fn interrupt(&self) -> Interrupt {
        Arc::new(|| {})
    }
}

pub(super) fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(media().join(name)).unwrap()).unwrap()
}

/// A bundled tree, one of its Variant Streams.
pub(super) fn tree(name: &str, variant: usize) -> Script {
    script_of(&json("expected.json")["trees"][name]["variants"][variant])
}

pub(super) fn script_of(row: &Value) -> Script {
    let read = |part: &Value| {
        let bytes = fs::read(media().join(part.as_str().or(part["path"].as_str()).unwrap())).unwrap();
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
        time: None,
    });
    Script {
        pieces: pieces.collect(),
        inits: has_init.then(|| read(&row["init"]).into()).into_iter().collect(),
        ..Script::default()
    }
}

/// What was heard, from a place on.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) from: u64,
    pub(super) samples: Vec<f32>,
    pub(super) channels: usize,
    pub(super) events: Vec<DecodeEvent>,
    pub(super) error: Option<DecodeError>,
}

impl Heard {
    pub(super) fn frames(&self) -> usize {
        self.samples.len() / self.channels.max(1)
    }

    pub(super) fn damage(&self) -> Vec<(u64, u64)> {
        let damage = |event: &DecodeEvent| match event {
            DecodeEvent::Damaged { at, frames } => Some((*at, *frames)),
            _ => None,
        };
        self.events.iter().filter_map(damage).collect()
    }
}

/// Hears `frames` frames, or all there are. Blocks follow each other: that is checked.
pub(super) fn hear(track: &mut HlsPcm, frames: usize) -> Heard {
    let (mut heard, mut block) = (Heard::default(), Block::empty());
    let mut next = None;
    // A block at least, as asking for nothing would check nothing.
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

pub(super) fn all(script: Script) -> Heard {
    let heard = hear(&mut script.play(), usize::MAX);
    assert!(heard.error.is_none(), "{:?}", heard.error);
    heard
}

/// The largest difference between two sounds of the same length.
pub(super) fn difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter()
        .zip(other)
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f32::max)
}

/// A tree of `segments.json`.
pub(super) fn segments(name: &str) -> Script {
    script_of(&json("segments.json")[name])
}

/// How far the samples of a row of the table are from what was heard.
pub(super) fn off_table(row: &Value, heard: &Heard) -> f64 {
    let stride = usize::try_from(row["stride"].as_u64().unwrap()).unwrap();
    let mut worst = 0.0_f64;
    for (at, want) in row["samples"].as_array().unwrap().iter().enumerate() {
        // In turn from each channel, so that exchanged ones are seen.
        let place = at * stride * heard.channels + at % heard.channels;
        if let Some(sample) = heard.samples.get(place) {
            worst = worst.max((f64::from(*sample) - want.as_f64().unwrap()).abs());
        }
    }
    worst
}
