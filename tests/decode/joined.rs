//! P1 and P2 on files that were put together: of pictures and sound, of several recordings, of several encoder runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kithara::decode::DecodeParams;

use crate::made::made;
use crate::pcm::{open, rest};
use crate::seeks::seek_about;

/// Files one behind the other.
fn joined(name: &str, parts: &[&Path]) -> PathBuf {
    let file = parts[0].with_file_name(name);
    let parts: Vec<Vec<u8>> = parts.iter().map(|part| fs::read(part).unwrap()).collect();
    fs::write(&file, parts.concat()).unwrap();
    file
}

/// Frames of each sample rate, in the order in which they are heard.
fn frames(file: &Path) -> Vec<(u32, usize)> {
    let mut decoder = open(file, &DecodeParams::new());
    let mut heard: Vec<(u32, usize)> = Vec::new();
    while let Some(block) = decoder.next_block().unwrap() {
        let rate = block.spec().sample_rate;
        match heard.last_mut().filter(|(last, _)| *last == rate) {
            Some((_, frames)) => *frames += block.frames(),
            None => heard.push((rate, block.frames())),
        }
    }
    heard
}

const AAC: [&str; 4] = ["-c:a", "aac", "-aac_pns", "0"];

/// The pictures have a time scale of their own, and stand first.
#[test]
fn p2_seeks_in_fragments_with_pictures() {
    let pictures = [
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=64x64:rate=25:duration=12",
        "-map",
        "1:v",
        "-map",
        "0:a",
        "-c:v",
        "mpeg4",
        "-g",
        "25",
        "-movflags",
        "frag_keyframe+empty_moov",
    ];
    let Some(file) = made("pictures.mp4", &[&pictures[..], &AAC].concat()) else {
        return;
    };
    seek_about(&file, 24, 1e-4);
}

/// The second recording's clock is an hour ahead: no hour of silence stands between the two.
#[test]
fn p1_p2_a_clock_that_was_set_anew_is_no_silence() {
    let part = |name: &str, ahead: &str| {
        let cut = ["-t", "3", "-output_ts_offset", ahead];
        made(name, &[&AAC[..], &cut].concat())
    };
    let (Some(first), Some(second)) = (part("now.ts", "0"), part("later.ts", "3600")) else {
        return;
    };
    let ts = joined("both.ts", &[&first, &second]);
    let length = |file: &Path| rest(&mut open(file, &DecodeParams::new())).len();
    let both = length(&first) + length(&second);
    assert!(
        length(&ts).abs_diff(both) <= 2 * 2 * 1024,
        "{} of {both}",
        length(&ts)
    );
    seek_about(&ts, 16, 1e-4);
}

/// A fragment that says it begins an hour later begins where the one before ends.
#[test]
fn p1_p2_a_fragment_cannot_be_an_hour_late() {
    let fragments = [
        "-movflags",
        "frag_keyframe+empty_moov",
        "-frag_duration",
        "700000",
    ];
    let Some(file) = made("late.mp4", &[&AAC[..], &fragments].concat()) else {
        return;
    };
    let whole = rest(&mut open(&file, &DecodeParams::new()));
    let mut bytes = fs::read(&file).unwrap();
    let times: Vec<usize> = (0..bytes.len() - 4)
        .filter(|at| &bytes[*at..at + 4] == b"tfdt")
        .collect();
    assert!(times.len() > 8);
    for at in &times[5..] {
        let time = if bytes[at + 4] == 1 { at + 12 } else { at + 8 };
        let said = u32::from_be_bytes(bytes[time..time + 4].try_into().unwrap());
        bytes[time..time + 4].copy_from_slice(&(said + 3600 * 44_100).to_be_bytes());
    }
    let late = file.with_file_name("later.mp4");
    fs::write(&late, bytes).unwrap();
    assert!(rest(&mut open(&late, &DecodeParams::new())) == whole);
    seek_about(&late, 24, 1e-4);
}

/// Each part keeps its sample rate, and seeks go into each of them.
#[test]
fn p1_p2_mp3_of_several_rates() {
    let part = |name: &str, rate: &str, seconds: &str| {
        let arguments = ["-c:a", "libmp3lame", "-q:a", "4", "-ar", rate, "-t", seconds];
        made(name, &arguments)
    };
    let (Some(high), Some(low)) = (part("high.mp3", "44100", "4"), part("low.mp3", "22050", "3")) else {
        return;
    };
    let file = joined("rates.mp3", &[&high, &low, &high]);
    let rates: Vec<u32> = frames(&file).iter().map(|(rate, _)| *rate).collect();
    assert_eq!(rates, [44_100, 22_050, 44_100]);

    // Each second of the file: the frame that is heard, and what follows it.
    let mut decoder = open(&file, &DecodeParams::new());
    let mut played = Vec::new();
    while let Some(block) = decoder.next_block().unwrap() {
        let spec = block.spec();
        let places = (block.position()..).zip(block.samples().chunks_exact(2));
        played.extend(places.map(|(place, frame)| (spec.sample_rate, place, [frame[0], frame[1]])));
    }
    for decoder in [&mut decoder, &mut open(&file, &DecodeParams::new())] {
        for millis in [10_500, 200, 5_200, 3_900, 4_300, 7_400, 1_000] {
            decoder.seek(Duration::from_millis(millis)).unwrap();
            let block = decoder.next_block().unwrap().unwrap();
            let rate = block.spec().sample_rate;
            assert_eq!(block.position(), millis * u64::from(rate) / 1000, "{millis}");
            let at = played
                .iter()
                .position(|(of, place, _)| (*of, *place) == (rate, block.position()))
                .unwrap();
            for (heard, (_, _, want)) in block.samples().chunks_exact(2).zip(&played[at..]) {
                assert!((heard[0] - want[0]).abs() <= 1e-4, "{millis}");
            }
        }
    }
}
