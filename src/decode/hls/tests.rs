//! HLS as one sound, from messages made by hand: what is joined, trimmed and sought is known to the frame.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::print_stderr,
    reason = "a test counts frames and compares samples"
)]

use std::time::Duration;

use super::script::{all, difference, hear, json, off_table, segments, tree};
use crate::decode::{Codec, DecodeEvent, TrimRule, source::PcmSource};

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
        let off = off_table(row, &heard);
        let frames = packets[playlist]["declared"]
            .as_u64()
            .unwrap_or(row["frames"].as_u64().unwrap());
        assert_eq!((heard.from, heard.frames() as u64), (0, frames), "{playlist}");
        // The last rung of that ladder is FLAC: nothing but its scale is rounded.
        let lossless = name == "plain" && variant == 3;
        assert!(off < if lossless { 1e-6 } else { 1e-4 }, "{playlist}: {off}");
        assert!(
            matches!(heard.events[0], DecodeEvent::FormatChanged(_)),
            "{:?}",
            heard.events
        );
        assert_eq!(heard.damage(), []);
    }
}

/// Whether this build has the tree's decoder.
fn is_decoded(name: &str) -> bool {
    let features = [
        ("opus", cfg!(feature = "opus")),
        ("he-aac", cfg!(feature = "he-aac")),
    ];
    features
        .iter()
        .all(|(codec, built)| *built || !name.starts_with(codec))
}

/// P6: HE-AAC that nothing announces has the rate that is heard, or is refused by name before the first frame.
#[test]
fn he_aac_is_never_half_its_rate() {
    for name in ["he-aac-1/ts", "he-aac-1/packed", "he-aac-2/ts", "he-aac-2/packed"] {
        let mut track = segments(name).play();
        let heard = hear(&mut track, 1);
        match track.format.as_ref() {
            Some(format) if cfg!(feature = "he-aac") => {
                let spec = format.spec;
                assert_eq!(
                    (format.codec, spec.sample_rate, spec.channels.count()),
                    (Codec::HeAac, 44_100, 2)
                );
            }
            _ => {
                assert_eq!(
                    heard.error.as_ref().unwrap().to_string(),
                    "cannot decode HE-AAC",
                    "{name}"
                );
                assert_eq!(heard.frames(), 0, "{name}");
            }
        }
    }
}

/// P1, P3: codecs and containers without noise substitution; what an edit list calls priming or padding is not heard.
#[test]
fn small_trees_sound_as_ffmpeg_says() {
    for (name, row) in json("segments.json").as_object().unwrap() {
        if !is_decoded(name) {
            continue;
        }
        let mut track = segments(name).play();
        let heard = hear(&mut track, usize::MAX);
        assert!(heard.error.is_none(), "{name}: {:?}", heard.error);
        assert_eq!(
            (heard.from, heard.frames() as u64),
            (0, row["frames"].as_u64().unwrap()),
            "{name}"
        );
        let off = off_table(row, &heard);
        let lossless = track.format.as_ref().unwrap().codec.is_lossless();
        assert!(off < if lossless { 1e-6 } else { 1e-4 }, "{name}: {off}");
        let trim = track.format.as_ref().unwrap().trim;
        assert_eq!(trim.start, row["trim"].as_u64().unwrap(), "{name}");
        let rule = if row["container"] == "fmp4" {
            TrimRule::EditList
        } else {
            TrimRule::None
        };
        assert_eq!(trim.rule, rule, "{name}");
        assert_eq!(heard.damage(), [], "{name}");
    }
}

/// P2: random places, in random order, back from the end too; equal to the uninterrupted decode from the first frame on.
#[test]
fn a_seek_gives_the_frames_of_an_uninterrupted_decode() {
    let mut trees: Vec<_> = json("segments.json")
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    // What is replicated depends on what was decoded before.
    trees.retain(|name| is_decoded(name) && !name.starts_with("he-aac"));
    for name in trees {
        let script = segments(&name);
        let whole = all(script.clone());
        let mut track = script.play();
        hear(&mut track, 1);
        let format = track.format.as_ref().unwrap().clone();
        let rate = f64::from(format.spec.sample_rate);
        let mut random = 7_u64;
        for round in 0..40 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let mut target = usize::try_from(random >> 33).unwrap() % whole.frames();
            // The source has ended then, and a seek has to open it anew.
            if round % 10 == 9 {
                // At the end, and then back from it.
                hear(&mut track, usize::MAX);
                target = whole.frames() - 1 - round;
            }
            track.seek(Duration::from_secs_f64(target as f64 / rate)).unwrap();
            let heard = hear(&mut track, 3000);
            assert_eq!(heard.from, target as u64, "{name}");
            // The end of the track may be nearer than what was asked for.
            let same = &whole.samples[target * whole.channels..];
            let length = heard.samples.len().min(same.len());
            let off = difference(&heard.samples[..length], &same[..length]);
            let bearable = if format.codec.is_lossless() { 0.0 } else { 1e-4 };
            assert!(off <= bearable, "{name}, frame {target}: {off}");
        }
        // Beyond the end is the end, and no error.
        track.seek(Duration::from_secs(3600)).unwrap();
        assert_eq!(hear(&mut track, 1).frames(), 0, "{name}");
    }
}

/// P2: where noise depends on what was decoded before, the place is right all the same: the sounds fit at no shift but 0.
#[test]
fn a_seek_in_noise_is_aligned_to_the_frame() {
    let noisy = [("plain", 1), ("ts", 0), ("packed", 0)].map(|(name, variant)| (name, tree(name, variant)));
    let replicated = ["he-aac-1/ts", "he-aac-2/packed"]
        .into_iter()
        .filter(|name| is_decoded(name));
    let replicated = replicated.map(|name| (name, segments(name)));
    for (name, script) in noisy.into_iter().chain(replicated) {
        let whole = all(script.clone());
        let mut track = script.play();
        for target in [100_000_usize, 63_000, 160_123] {
            track
                .seek(Duration::from_secs_f64(target as f64 / 44_100.0))
                .unwrap();
            let heard = hear(&mut track, 8000);
            assert_eq!(heard.from, target as u64, "{name}");
            let fit = |shift: isize| {
                let start = target.checked_add_signed(shift).unwrap() * whole.channels;
                let same = &whole.samples[start..start + 8000];
                heard.samples[..8000]
                    .iter()
                    .zip(same)
                    .map(|(one, other)| f64::from(one * other))
                    .sum::<f64>()
            };
            // A place that is wrong is wrong by a packet or by the priming; one that is a frame off is seen as well.
            let best = (-50..=50).max_by(|one, other| fit(*one).total_cmp(&fit(*other)));
            assert_eq!(best, Some(0), "{name}, frame {target}");
        }
    }
}
