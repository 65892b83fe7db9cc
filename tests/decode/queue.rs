//! P9: one track follows another without a frame between them.

use std::io::Cursor;
use std::time::Duration;

use kithara::decode::{Block, DecodeEvent, DecodeParams, Decoder};

use crate::pcm::{bundled, open, rest};

/// A WAVE file of some frames of the bundled piece.
fn cut(frames: std::ops::Range<usize>) -> Vec<u8> {
    let file = std::fs::read(bundled("piece.wav")).unwrap();
    let data = file.windows(4).position(|four| four == b"data").unwrap() + 8;
    let mut cut = file[..data].to_vec();
    cut[data - 4..].copy_from_slice(&(frames.len() as u32 * 4).to_le_bytes());
    cut.extend_from_slice(&file[data + frames.start * 4..data + frames.end * 4]);
    cut
}

fn decoder(frames: std::ops::Range<usize>, params: &DecodeParams) -> Decoder {
    Decoder::from_reader(Cursor::new(cut(frames)), params).unwrap()
}

#[test]
fn p9_two_halves_are_the_whole() {
    // At another sample rate the resampler goes on over the join.
    for params in [
        DecodeParams::new(),
        DecodeParams::new().sample_rate(48_000),
        DecodeParams::new().sample_rate(44_100).channels(1),
    ] {
        let whole = rest(&mut open(&bundled("piece.wav"), &params));
        let mut first = decoder(0..30_001, &params);
        first.then(decoder(30_001..66_150, &params));
        assert_eq!(rest(&mut first), whole);
    }
}

#[test]
fn p9_the_change_is_told_before_the_first_frame_of_the_next_track() {
    let params = DecodeParams::new().sample_rate(44_100);
    let mut decoders = decoder(0..10_000, &params);
    decoders.then(decoder(10_000..20_000, &params));
    let mut frames = 0;
    let mut changed_at = None;
    while let Some(block) = decoders.next_block().unwrap() {
        let (count, position) = (block.frames(), block.position());
        while let Some(event) = decoders.next_event() {
            if matches!(event, DecodeEvent::TrackChanged) {
                changed_at = Some((frames, position));
            }
        }
        frames += count;
    }
    assert_eq!(changed_at, Some((20_000, 0)));
    assert_eq!(frames, 40_000);
    assert_eq!(decoders.next_event(), Some(DecodeEvent::Ended));
}

#[test]
fn p9_a_track_queued_after_the_end_plays_on() {
    let params = DecodeParams::new();
    let mut decoders = decoder(0..1000, &params);
    assert_eq!(rest(&mut decoders).len(), 2000);
    decoders.then(decoder(1000..3000, &params));
    assert_eq!(rest(&mut decoders).len(), 4000);
}

#[test]
fn p9_another_format_follows_too() {
    let mut first = open(&bundled("piece.wav"), &DecodeParams::new());
    first.then(open(&bundled("piece.ogg"), &DecodeParams::new()));
    let mut specs = Vec::new();
    while let Some(block) = first.next_block().unwrap() {
        if specs.last() != Some(&block.spec().sample_rate) {
            specs.push(block.spec().sample_rate);
        }
    }
    assert_eq!(specs, [22_050, 44_100]);
}

/// What was decoded of the next track already is decoded again when it is its turn.
#[test]
fn p9_a_seek_stays_in_the_track_that_is_heard() {
    let params = DecodeParams::new().sample_rate(48_000);
    let mut decoders = decoder(0..3000, &params);
    decoders.then(decoder(3000..9000, &params));
    // Some frames before the join: the second track is decoded, and held back by the resampler.
    let mut heard = 0;
    while heard < 4000 {
        heard += decoders.next_block().unwrap().unwrap().frames();
    }
    decoders.seek(Duration::ZERO).unwrap();
    let block = decoders.next_block().unwrap().unwrap();
    assert_eq!(block.position(), 0);
    let frames = block.frames() + rest(&mut decoders).len() / 2;
    assert_eq!(frames, 9000 * 48_000 / 22_050 + 1);
}

#[test]
fn a_skip_goes_to_the_next_track() {
    let params = DecodeParams::new();
    let mut decoders = decoder(0..9000, &params);
    assert!(!decoders.skip().unwrap(), "there is none");
    decoders.then(decoder(0..500, &params));
    decoders.next_block().unwrap();
    assert!(decoders.skip().unwrap());
    assert_eq!(rest(&mut decoders).len(), 1000);
}

/// The place that was sought is in no track: nothing of the next one is dropped for it.
#[test]
fn p9_a_seek_past_the_end_leaves_the_next_track_whole() {
    for params in [DecodeParams::new(), DecodeParams::new().sample_rate(48_000)] {
        for late in [false, true] {
            let mut decoders = decoder(0..20_000, &params);
            let whole = rest(&mut decoder(0..9_000, &params));
            if !late {
                decoders.then(decoder(0..9_000, &params));
            }
            decoders.seek(Duration::from_secs(5)).unwrap();
            if late {
                assert!(decoders.next_block().unwrap().is_none());
                decoders.then(decoder(0..9_000, &params));
            }
            assert_eq!(rest(&mut decoders).len(), whole.len(), "{late}");
        }
    }
}

/// A resampler gives the end of a track when the next one is known already: a skip then is one to that one's channels.
#[test]
fn p9_a_skip_while_the_end_is_given_out_tells_the_next_spec() {
    let params = DecodeParams::new().sample_rate(48_000);
    let mut mono = cut(0..9_000);
    mono[22] = 1;
    mono[32] = 2;
    let open = || Decoder::from_reader(Cursor::new(mono.clone()), &params).unwrap();
    let whole = rest(&mut open());
    let blocks = {
        let mut first = decoder(0..9_000, &params);
        std::iter::from_fn(|| first.next_block().unwrap().map(Block::frames)).count()
    };
    for asked in 0..=blocks {
        let mut decoders = decoder(0..9_000, &params);
        decoders.then(open());
        for _ in 0..asked {
            decoders.next_block().unwrap();
        }
        if decoders.spec().channels.count() == 1 {
            break;
        }
        assert!(decoders.skip().unwrap());
        assert!(rest(&mut decoders) == whole, "after {asked} blocks");
        assert_eq!(decoders.spec().channels.count(), 1, "after {asked} blocks");
    }
}

/// Queued when the end was found and not told yet.
#[test]
fn p9_an_end_that_is_none_any_more_is_not_told() {
    let params = DecodeParams::new().sample_rate(48_000);
    let mut decoders = decoder(0..9_000, &params);
    let mut frames = 0;
    let all = rest(&mut decoder(0..9_000, &params)).len() / 2;
    while frames < all {
        frames += decoders.next_block().unwrap().unwrap().frames();
    }
    decoders.then(decoder(0..9_000, &params));
    rest(&mut decoders);
    let told: Vec<_> = std::iter::from_fn(|| decoders.next_event()).collect();
    let ends = told.iter().filter(|event| **event == DecodeEvent::Ended);
    assert_eq!(ends.count(), 1, "{told:?}");
    assert_eq!(told.last(), Some(&DecodeEvent::Ended));
}
