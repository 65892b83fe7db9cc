//! GStreamer's `hlssink2`: MPEG-TS by a muxer of its own.

use std::fs;
use std::process::{Command, Stdio};

use crate::tool::{has, has_ffmpeg, music, wait_until};
use crate::tree::{Play, assert_plays};

/// The music as a tree, encoded by these elements. No tree, and a line that says so, where an element is not installed.
fn assert_pipeline_plays(encoder: &[&str]) {
    for element in ["hlssink2", encoder[0], "mpg123audiodec"] {
        if !has("gst-inspect-1.0", &["--exists", element]) {
            return;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "filesrc", &format!("location={}", music().display())]);
    command.args([
        "!",
        "mpegaudioparse",
        "!",
        "mpg123audiodec",
        "!",
        "audioconvert",
        "!",
        "audioresample",
        "!",
    ]);
    command.args(encoder).args([
        "!",
        "hlssink2",
        "target-duration=2",
        "max-files=0",
        "playlist-length=0",
    ]);
    command
        .arg(format!("location={at}/%05d.ts"))
        .arg(format!("playlist-location={at}/list.m3u8"));
    let mut packager = command.stdin(Stdio::null()).spawn().unwrap();
    // After the end it may wait for ever for its own threads. By then the list is written, and so is all that it names.
    let list = folder.path().join("list.m3u8");
    let mut is_over = false;
    wait_until("the list is ended", || {
        is_over = packager.try_wait().unwrap().is_some();
        is_over || fs::read_to_string(&list).is_ok_and(|text| text.contains("#EXT-X-ENDLIST"))
    });
    if !is_over {
        packager.kill().unwrap();
        packager.wait().unwrap();
    }
    assert_plays(folder.path(), &[Play::media("list.m3u8")]);
}

#[test]
fn trees_of_gstreamer_play() {
    if !has_ffmpeg() {
        return;
    }
    assert_pipeline_plays(&["avenc_aac", "bitrate=128000", "!", "aacparse"]);
    assert_pipeline_plays(&["voaacenc", "bitrate=64000", "!", "aacparse"]);
    assert_pipeline_plays(&[
        "lamemp3enc",
        "target=bitrate",
        "bitrate=128",
        "!",
        "mpegaudioparse",
    ]);
}
