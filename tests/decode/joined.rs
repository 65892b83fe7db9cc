//! P1 and P2 on files that were put together: of pictures and sound, of several recordings, of several encoder runs.

use std::fs;
use std::path::{Path, PathBuf};

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
