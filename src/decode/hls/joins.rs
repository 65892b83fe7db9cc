//! Where something is joined to something else: discontinuities, Variant Streams, gaps, damage, clocks that begin anew.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::print_stderr,
    reason = "a test counts frames and compares samples"
)]

use std::time::Duration;

use super::script::{Heard, Piece, Script, all, difference, hear, segments};
use crate::decode::{
    Block, Codec, DecodeEvent,
    source::{PcmSource, Step},
};

/// The sample at a frame.
fn sample(heard: &Heard, frame: usize) -> f32 {
    heard.samples[frame * heard.channels]
}

/// How far two sounds are apart in a range of frames.
fn off(one: &Heard, other: &Heard, frames: std::ops::Range<usize>) -> f32 {
    let range = frames.start * one.channels..frames.end * one.channels;
    difference(&one.samples[range.clone()], &other.samples[range])
}

/// One track behind the other, after a discontinuity.
fn behind(mut one: Script, other: Script) -> Script {
    let inits = one.inits.len();
    let next = one.pieces.last().map_or(0, |piece| piece.discontinuity + 1);
    // Behind the other's, so that numbers go on.
    one.inits.extend(other.inits);
    one.pieces.extend(other.pieces.into_iter().map(|piece| Piece {
        init: piece.init.map(|init| init + inits),
        discontinuity: piece.discontinuity + next,
        ..piece
    }));
    one
}

/// P3: containers, codecs and sample rates change at discontinuities; every frame of each part is heard once.
#[test]
fn parts_behind_discontinuities_are_heard_whole() {
    let parts = [
        "ladder/aac-64",
        "ts-aac",
        "ladder/flac",
        "packed-mp3",
        "alac",
        "ts-mp3",
    ];
    let track = parts.iter().map(|name| segments(name)).reduce(behind).unwrap();
    let heard = all(track.clone());
    let mut from = 0;
    let mut starts = Vec::new();
    for name in parts {
        let alone = all(segments(name));
        let here = &heard.samples[from * 2..(from + alone.frames()) * 2];
        assert!(difference(here, &alone.samples) < 1e-6, "{name}");
        starts.push(from);
        from += alone.frames();
    }
    assert_eq!(heard.frames(), from);
    assert_eq!(heard.damage(), []);
    let codecs: Vec<Codec> = heard.events.iter().filter_map(codec).collect();
    assert_eq!(
        codecs,
        [
            Codec::AacLc,
            Codec::AacLc,
            Codec::Flac,
            Codec::Mp3,
            Codec::Alac,
            Codec::Mp3
        ]
    );
    // P2: played once, every place is known: seeks go there, from either side of a join.
    let mut track = track.play();
    hear(&mut track, usize::MAX);
    for start in starts {
        for target in [
            start,
            start + 1,
            start + 5000,
            (start + 200_000).min(from - 10),
            // Before the join, and played over it.
            start.saturating_sub(3),
        ] {
            track
                .seek(Duration::from_secs_f64(target as f64 / 44_100.0))
                .unwrap();
            let again = hear(&mut track, 2000);
            assert_eq!(again.from, target as u64);
            let same = &heard.samples[target * 2..];
            let length = again.samples.len().min(same.len());
            assert!(
                difference(&again.samples[..length], &same[..length]) < 1e-4,
                "frame {target}"
            );
        }
    }
}

fn codec(event: &DecodeEvent) -> Option<Codec> {
    match event {
        DecodeEvent::FormatChanged(format) => Some(format.codec),
        _ => None,
    }
}

/// Another sample rate behind a discontinuity: the instant stays.
#[test]
#[cfg(feature = "opus")]
fn another_rate_goes_on_at_the_same_instant() {
    let mut track = behind(segments("ts-mp3"), segments("opus")).play();
    let (mut block, mut last) = (crate::decode::Block::empty(), None);
    let mut joins = Vec::new();
    loop {
        use crate::decode::source::Step;
        match track.next(&mut block).unwrap() {
            Step::Block => {
                let rate = block.spec.sample_rate;
                if let Some((old, end)) = last
                    && old != rate
                {
                    joins.push((end, block.position));
                }
                last = Some((rate, block.position + block.frames() as u64));
            }
            Step::Event(_) => {}
            Step::Ended => break,
        }
    }
    // 266 112 frames at 44.1 kHz are 289 645.7 at 48 kHz.
    assert_eq!(joins, [(266_112, 289_646)]);
    assert_eq!(last, Some((48_000, 289_646 + 288_000)));
}

/// Segments of two Variant Streams of one ladder: up to `switch` of one, from there on of the other, which goes on with the
/// segment that holds the next instant.
fn switched(one: &str, other: &str, switch: usize) -> (Script, usize) {
    let (mut script, other) = (segments(one), segments(other));
    let instant = script.time(switch);
    script.pieces.truncate(switch);
    // Playlists round: a segment that ends within that of the instant is over.
    let next = (0..other.pieces.len())
        .find(|at| other.time(at + 1) > instant + Duration::from_micros(2))
        .unwrap();
    let inits = script.inits.len();
    let mut time = other.time(next);
    script.inits.extend(other.inits);
    for piece in other.pieces.into_iter().skip(next) {
        let duration = piece.duration;
        script.pieces.push(Piece {
            init: piece.init.map(|init| init + inits),
            variant: 1,
            time: Some(time),
            ..piece
        });
        time += duration;
    }
    (script, (instant.as_secs_f64() * 44_100.0).round() as usize)
}

/// P3: the ladder's rungs are one sound. Where segments are aligned the two encodings overlap in one transform; elsewhere the
/// second is decoded from before the join, and faded in over 20 ms.
#[test]
fn another_variant_goes_on_at_the_next_frame() {
    const FADE: usize = 882;
    for (one, other) in [
        ("ladder/aac-64", "ladder/aac-128"),
        ("ladder/aac-128", "ladder/aac-64"),
        ("ladder/aac-64", "ladder/flac"),
        ("ladder/flac", "ladder/aac-128"),
    ] {
        for switch in 1..4 {
            let (script, join) = switched(one, other, switch);
            let heard = all(script);
            let (first, second) = (all(segments(one)), all(segments(other)));
            let name = format!("{one}, {other}, segment {switch}");
            assert_eq!((heard.frames(), heard.damage()), (264_600, vec![]), "{name}");
            assert_eq!(off(&heard, &first, 0..join - FADE), 0.0, "{name}");
            assert!(off(&heard, &second, join + 1024..264_600) < 1e-6, "{name}");
            // Around the join it is a mixture of the two, and no further from them than they are from each other.
            // How much the two encodings differ by themselves is the measure of how much a mixture may.
            let apart = off(&first, &second, join - 4000..join + 4000);
            let around = join - FADE..join + 1024;
            let near = off(&heard, &first, around.clone()).min(off(&heard, &second, around));
            assert!(
                near <= apart,
                "{name}: {near} at the join, {apart} between the two"
            );
            let variants = heard
                .events
                .iter()
                .filter(|event| matches!(event, DecodeEvent::VariantChanged { .. }));
            assert_eq!(variants.count(), 2, "{name}");
        }
    }
}

/// The same codec and Variant Stream with another initialization section, without a discontinuity.
#[test]
fn another_codec_without_a_word_goes_on_at_the_next_frame() {
    let (mut script, join) = switched("ladder/aac-64", "ladder/flac", 2);
    for piece in &mut script.pieces {
        piece.variant = 0;
    }
    let heard = all(script);
    assert_eq!((heard.frames(), heard.damage()), (264_600, vec![]));
    let flac = all(segments("ladder/flac"));
    assert_eq!(off(&heard, &flac, join..264_600), 0.0);
}

/// EXT-X-GAP: silence of its length, told as such, and what follows keeps its time.
#[test]
fn a_gap_is_silent_and_moves_nothing() {
    for name in ["ladder/aac-64", "ladder/flac", "ts-aac"] {
        let whole = all(segments(name));
        let mut script = segments(name);
        script.pieces[1].gap = true;
        let mut track = script.clone().play();
        let heard = hear(&mut track, usize::MAX);
        assert_eq!(heard.frames(), whole.frames(), "{name}");
        let gaps: Vec<_> = heard
            .events
            .iter()
            .filter_map(|event| match event {
                DecodeEvent::Gap { at, frames } => Some((*at as usize, *frames as usize)),
                _ => None,
            })
            .collect();
        let [(at, frames)] = gaps[..] else {
            panic!("{name}: {:?}", heard.events);
        };
        let seconds = script.pieces[1].duration.as_secs_f64();
        assert!(
            (frames as f64 - seconds * 44_100.0).abs() < 1025.0,
            "{name}: {frames} frames"
        );
        assert_eq!(heard.damage(), [], "{name}");
        assert_eq!(off(&heard, &whole, 0..at), 0.0, "{name}");
        assert!(
            (at..at + frames).all(|frame| sample(&heard, frame) == 0.0),
            "{name}"
        );
        // The first packet behind it lacks the half of the one before it.
        assert!(
            off(&heard, &whole, at + frames + 1024..whole.frames()) < 1e-6,
            "{name}"
        );
        // A seek into it begins in the silence.
        let target = at + frames / 2;
        track
            .seek(Duration::from_secs_f64(target as f64 / 44_100.0))
            .unwrap();
        let again = hear(&mut track, frames);
        assert_eq!(again.from, target as u64, "{name}");
        assert!(off_from(&again, &heard, target, frames - 10) < 1e-4, "{name}");
    }
    // At the end too.
    let mut script = segments("ladder/flac");
    script.pieces.last_mut().unwrap().gap = true;
    let heard = all(script);
    assert_eq!(heard.frames(), 264_600);
}

/// How far what is heard from a frame on is from the same place of another sound.
fn off_from(heard: &Heard, whole: &Heard, from: usize, frames: usize) -> f32 {
    let channels = heard.channels;
    difference(
        &heard.samples[..frames * channels],
        &whole.samples[from * channels..(from + frames) * channels],
    )
}

/// P6: what is turned, cut or lost costs its packets and their neighbours' overlap: silence of their length, told; the rest is
/// as it was, at its time.
#[test]
fn damage_costs_what_was_damaged() {
    for name in [
        "ladder/aac-64",
        "ladder/flac",
        "ts-aac",
        "ts-mp3",
        "packed-mp3",
        "alac",
    ] {
        let whole = all(segments(name));
        let mut told_of = 0;
        for round in 0..24_usize {
            let mut script = segments(name);
            let segment = &mut script.pieces[1].bytes;
            // What is damaged in the head of a fragment costs all of it.
            let body = segment.windows(4).position(|kind| kind == b"mdat").unwrap_or(0);
            let at = body + 3000 + (round * 7919) % (segment.len() - body - 4000);
            match round % 4 {
                // Bytes of a packet's body, in the middle of it or not.
                0 => segment[at..at + 30].fill(0xff),
                1 => segment[at] ^= 0x10,
                // A packet of the transport, whole.
                2 if name.starts_with("ts") => drop(segment.drain(at / 188 * 188..(at / 188 + 1) * 188)),
                _ => segment[at..at + 4].fill(0),
            }
            let heard = all(script);
            assert_eq!(
                heard.frames(),
                whole.frames(),
                "{name}, round {round}: {:?}",
                heard.damage()
            );
            told_of += usize::from(!heard.damage().is_empty());
            // Nothing far from the damage is another sound: find where the two differ.
            let differs: Vec<usize> = (0..whole.frames())
                .filter(|frame| (sample(&heard, *frame) - sample(&whole, *frame)).abs() > 1e-4)
                .collect();
            if let (Some(first), Some(last)) = (differs.first(), differs.last()) {
                let packets = if name == "ladder/flac" { 4 * 4608 } else { 9 * 1152 };
                assert!(
                    last - first < packets,
                    "{name}, round {round}: frames {first} to {last}"
                );
            }
        }
        // A body of MP3 has no checksum, and most bits of it make some sound.
        assert!(told_of > 0 || name == "packed-mp3", "{name}");
    }
}

/// P6: a fragment may announce any length for its packets. The silence of a damaged one is made of it, in one piece.
#[test]
fn p6_a_packet_of_any_announced_length_sizes_no_buffer() {
    let mut script = segments("ladder/flac");
    let segment = &mut script.pieces[1].bytes;
    // Flags, the track, and then the default length: no other field stands before it here.
    let tfhd = segment.windows(4).position(|kind| kind == b"tfhd").unwrap();
    assert_eq!(segment[tfhd + 7], 0x38);
    segment[tfhd + 12..tfhd + 16].copy_from_slice(&70_000_u32.to_be_bytes());
    let body = segment.windows(4).position(|kind| kind == b"mdat").unwrap() + 4;
    segment[body..].fill(0xff);
    let (mut pcm, mut block, mut told) = (script.play(), Block::empty(), Vec::new());
    while told.is_empty() {
        match pcm.next(&mut block).unwrap() {
            Step::Event(DecodeEvent::Damaged { frames, .. }) => told.push(frames),
            Step::Ended => break,
            _ => {}
        }
    }
    assert_eq!(told, [65_536]);
}

/// P6: a segment that is cut short costs what is cut.
#[test]
fn a_cut_segment_costs_its_end() {
    for name in ["ladder/aac-64", "ts-aac", "packed-mp3"] {
        let whole = all(segments(name));
        let mut script = segments(name);
        let length = script.pieces[1].bytes.len();
        script.pieces[1].bytes.truncate(length * 2 / 3);
        let heard = all(script.clone());
        assert_eq!(heard.frames(), whole.frames(), "{name}");
        let lost: u64 = heard.damage().iter().map(|(_, frames)| frames).sum();
        assert!((15_000..40_000).contains(&lost), "{name}: {lost} frames");
        assert!(off(&heard, &whole, 170_000..whole.frames()) < 1e-4, "{name}");
        // One that is not there at all, though the playlist has it.
        script.pieces[1].bytes.clear();
        assert_eq!(all(script).frames(), whole.frames(), "{name}");
    }
}

/// MPEG's clock has 33 bits: it begins anew in the middle of a track, and nothing is heard of that.
#[test]
fn a_clock_that_begins_anew_is_not_heard() {
    let whole = all(segments("ts-aac"));
    let mut script = segments("ts-aac");
    for piece in &mut script.pieces {
        // Two seconds before the turn.
        shift_clock(&mut piece.bytes, (1 << 33) - 126_000 - 180_000);
    }
    let mut track = script.play();
    let heard = hear(&mut track, usize::MAX);
    assert_eq!((heard.frames(), heard.damage()), (whole.frames(), vec![]));
    assert_eq!(off(&heard, &whole, 0..whole.frames()), 0.0);
    for target in [200_000_u64, 40_000, 260_000, 100_000] {
        track
            .seek(Duration::from_secs_f64(target as f64 / 44_100.0))
            .unwrap();
        let again = hear(&mut track, 2000);
        assert_eq!(again.from, target);
        assert!(off_from(&again, &whole, usize::try_from(target).unwrap(), 2000) < 1e-4);
    }
}

/// Adds to the timestamps of all PES packets.
fn shift_clock(segment: &mut [u8], by: u64) {
    for packet in segment.chunks_exact_mut(188) {
        let pes = packet
            .windows(4)
            .position(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 0xe0 == 0xc0);
        let starts = packet[1] & 0x40 != 0 && packet[1] & 0x1f == 1;
        let Some(field) = pes.filter(|_| starts).map(|at| &mut packet[at + 9..at + 14]) else {
            continue;
        };
        let bits = field
            .iter()
            .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let pts = (bits >> 33 & 7) << 30 | (bits >> 17 & 0x7fff) << 15 | (bits >> 1 & 0x7fff);
        let pts = (pts + by) & ((1 << 33) - 1);
        let bits = bits >> 36 << 36
            | (pts >> 30) << 33
            | 1 << 32
            | (pts >> 15 & 0x7fff) << 17
            | 1 << 16
            | (pts & 0x7fff) << 1
            | 1;
        field.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
}

/// Two tracks in one playlist without a discontinuity between them, as careless packagers write: nothing is lost or doubled.
#[test]
fn timestamps_that_begin_anew_without_a_word_go_on() {
    let mut script = segments("ts-aac");
    let again = segments("ts-aac").pieces;
    script.pieces.extend(again);
    let (heard, whole) = (all(script), all(segments("ts-aac")));
    assert_eq!(heard.frames(), 2 * whole.frames());
    assert_eq!(off(&heard, &whole, 0..whole.frames()), 0.0);
}

/// P6: known before the first frame, by name.
#[test]
fn what_cannot_be_decoded_is_refused_before_the_first_frame() {
    let mut script = segments("ts-aac");
    script.pieces[0].bytes = b"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000".to_vec();
    let heard = hear(&mut script.play(), 1);
    assert_eq!(heard.error.as_ref().unwrap().to_string(), "cannot read WebVTT");
    assert_eq!(heard.frames(), 0);
    assert!(heard.events.is_empty());
}
