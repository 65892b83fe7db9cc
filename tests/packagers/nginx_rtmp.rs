//! nginx's RTMP module: what a live encoder pushes, cut into MPEG-TS by a muxer of its own, in clear and encrypted.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use kithara_test_support::{Running, free_port, skipped};

use crate::served::{alone, program};
use crate::tool::{ffmpeg, has_ffmpeg, music, run, wait_until};
use crate::tree::{Play, assert_plays};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// How many seconds a Media Playlist has so far.
fn seconds(list: &Path) -> f64 {
    let text = fs::read_to_string(list).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
    lines
        .filter_map(|line| line.trim_end_matches(',').parse::<f64>().ok())
        .sum()
}

/// The broadcast is over, and the recording is complete once its last segment is written.
fn end(list: &Path) {
    wait_until("all of the broadcast is listed", || seconds(list) > 19.5);
    let mut list = OpenOptions::new().append(true).open(list).unwrap();
    list.write_all(b"#EXT-X-ENDLIST\n").unwrap();
}

#[test]
fn trees_of_nginx_rtmp_play() {
    if !has_ffmpeg() {
        return;
    }
    if !Path::new(MODULE).exists() {
        return skipped(&format!("no {MODULE}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let addr = free_port();
    let common =
        "live on;\nhls on;\nhls_fragment 2s;\nhls_playlist_length 1h;\nhls_type event;\nhls_cleanup off;\n";
    let config = format!(
        "load_module {MODULE};\n{alone}rtmp {{\nserver {{\nlisten {addr};\n\
         application clear {{\n{common}hls_path {at}/clear;\n\
         hls_variant _low BANDWIDTH=70000,CODECS=\"mp4a.40.2\";\n\
         hls_variant _high BANDWIDTH=140000,CODECS=\"mp4a.40.2\";\n}}\n\
         application keys {{\n{common}hls_path {at}/keys;\nhls_keys on;\nhls_key_path {at}/keys;\n\
         hls_fragments_per_key 3;\n}}\n\
         application nested {{\n{common}hls_path {at}/nested;\nhls_nested on;\n}}\n}}\n}}\n",
        alone = alone(folder.path()),
    );
    let path = folder.path().join("nginx.conf");
    fs::write(&path, config).unwrap();
    let Some(server) = Running::start(Command::new(program()).arg("-c").arg(&path), addr) else {
        return;
    };
    let streams = [
        ("clear", "music_low", "64k", "clear/music_low.m3u8"),
        ("clear", "music_high", "128k", "clear/music_high.m3u8"),
        ("keys", "music", "96k", "keys/music.m3u8"),
        ("nested", "music", "96k", "nested/music/index.m3u8"),
    ];
    for (application, name, rate, list) in streams {
        let mut command = ffmpeg();
        command
            .arg("-i")
            .arg(music())
            .args(["-vn", "-c:a", "aac", "-b:a", rate, "-f", "flv"]);
        run(command.arg(format!("rtmp://{addr}/{application}/{name}")));
        end(&folder.path().join(list));
    }
    drop(server);
    assert_plays(
        folder.path(),
        &[
            Play::variant("clear/music.m3u8", 0, "clear/music_low.m3u8"),
            Play::variant("clear/music.m3u8", 1, "clear/music_high.m3u8"),
            Play::media("keys/music.m3u8"),
            Play::media("nested/music/index.m3u8"),
        ],
    );
}
