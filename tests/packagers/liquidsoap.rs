//! liquidsoap's `output.file.hls`, as radio stations use it: several Variant Streams of one programme.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::Command;

use crate::tool::{has, has_ffmpeg, music, run};
use crate::tree::{Play, assert_plays};

/// The music once, as fast as it goes. What is to go on another day (`persist_at`) is not deleted at the end.
const SCRIPT: &str = r#"
settings.init.allow_root.set(true)
settings.log.file.set(false)
settings.log.stdout.set(false)
settings.frame.audio.samplerate.set(44100)
music = once(single("MUSIC"))
clock.assign_new(sync="none", [music])
packed = %mp3(bitrate=128)
transport = %ffmpeg(format="mpegts", %audio(codec="aac", b="96k"))
fragments = %ffmpeg(format="mp4", movflags="+dash+skip_sidx+skip_trailer+frag_custom", frag_duration=10, %audio(codec="aac", b="64k"))
output.file.hls(
  playlist="live.m3u8", segment_duration=2.0, segments=1000, segments_overhead=1000, persist_at="state",
  fallible=true, on_stop=shutdown, "FOLDER",
  [("packed", packed), ("transport", transport), ("fragments", fragments)], music)
"#;

#[test]
fn trees_of_liquidsoap_play() {
    if !has_ffmpeg() || !has("liquidsoap", &["--version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("tree");
    fs::create_dir(&at).unwrap();
    let script = SCRIPT
        .replace("MUSIC", music().to_str().unwrap())
        .replace("FOLDER", at.to_str().unwrap());
    let file = folder.path().join("radio.liq");
    fs::write(&file, script).unwrap();
    run(Command::new("liquidsoap").arg(&file));
    for name in ["packed", "transport", "fragments"] {
        let list = at.join(format!("{name}.m3u8"));
        // The programme is over. Whoever keeps it for later says so.
        if !fs::read_to_string(&list).unwrap().contains("#EXT-X-ENDLIST") {
            let mut list = OpenOptions::new().append(true).open(list).unwrap();
            list.write_all(b"#EXT-X-ENDLIST\n").unwrap();
        }
    }
    assert_plays(
        &at,
        &[
            // Its segments are cut by bytes, in the middle of a frame, and so is the last one of the list.
            Play {
                made_up: 1152,
                ..Play::variant("live.m3u8", 0, "packed.m3u8")
            },
            Play::variant("live.m3u8", 1, "transport.m3u8"),
            Play::variant("live.m3u8", 2, "fragments.m3u8"),
        ],
    );
}
