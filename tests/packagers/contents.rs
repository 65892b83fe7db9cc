//! What a packager wrote: the bytes of a Media Playlist's sections and segments, one after another, decrypted by openssl.
//!
//! Reads only what the packagers of these tests write, and shares nothing with the crate's own parser.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::tool::run;

/// A key in force: its file, and the IV that its line gives.
struct Key<'a> {
    uri: &'a str,
    iv: Option<&'a str>,
}

/// The value of an attribute, without its quotes.
fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let marked = format!("{name}=");
    let at = line
        .find(&format!(":{marked}"))
        .or_else(|| line.find(&format!(",{marked}")))?;
    let value = &line[at + 1 + marked.len()..];
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split(',').next(),
    }
}

/// The range that `<length>@<offset>` tells of a file; without the offset it begins where the last one ended.
fn range(text: &str, last_end: usize) -> std::ops::Range<usize> {
    let (len, start) = match text.trim().split_once('@') {
        Some((len, start)) => (len, start.parse().unwrap()),
        None => (text.trim(), last_end),
    };
    start..start + len.parse::<usize>().unwrap()
}

/// A file of the folder, decrypted if it is encrypted.
fn resource(folder: &Path, uri: &str, key: Option<&Key<'_>>, sequence: u64) -> Vec<u8> {
    let file = folder.join(uri);
    let Some(key) = key else {
        return fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    };
    let secret = fs::read(folder.join(key.uri)).unwrap();
    let hexadecimal = secret
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let iv = match key.iv {
        Some(iv) => iv.trim_start_matches("0x").trim_start_matches("0X").to_owned(),
        None => format!("{sequence:032x}"),
    };
    let mut openssl = Command::new("openssl");
    openssl.args(["enc", "-d", "-aes-128-cbc", "-K", &hexadecimal, "-iv", &iv, "-in"]);
    run(openssl.arg(&file))
}

/// The bytes that a player is to give out of a Media Playlist.
pub(crate) fn of(playlist: &Path) -> Vec<u8> {
    let folder = playlist.parent().unwrap();
    let text = fs::read_to_string(playlist).unwrap_or_else(|error| panic!("{}: {error}", playlist.display()));
    assert!(
        text.contains("#EXT-X-ENDLIST"),
        "{}: not ended",
        playlist.display()
    );
    let (mut bytes, mut sequence, mut segments) = (Vec::new(), 0, 0);
    let (mut key, mut map, mut is_due, mut part, mut end) = (None, None, false, None, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(number) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            sequence = number.trim().parse().unwrap();
        } else if line.starts_with("#EXT-X-KEY:") {
            key = attribute(line, "URI").map(|uri| Key {
                uri,
                iv: attribute(line, "IV"),
            });
        } else if line.starts_with("#EXT-X-MAP:") {
            (map, is_due) = (Some(line), true);
        } else if line == "#EXT-X-DISCONTINUITY" {
            // A decoder begins anew: the section comes again.
            is_due = true;
        } else if let Some(text) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            part = Some(range(text, end));
        } else if !line.starts_with('#') {
            if let Some(map) = map.filter(|_| is_due) {
                let section = resource(folder, attribute(map, "URI").unwrap(), None, 0);
                let range = attribute(map, "BYTERANGE").map_or(0..section.len(), |text| range(text, 0));
                bytes.extend_from_slice(&section[range]);
            }
            let segment = resource(folder, line, key.as_ref(), sequence);
            let range = part.take().unwrap_or(0..segment.len());
            end = range.end;
            bytes.extend_from_slice(&segment[range]);
            (sequence, segments, is_due) = (sequence + 1, segments + 1, false);
        }
    }
    // A tree of one segment would prove little.
    assert!(segments > 3, "{}: {segments} segments", playlist.display());
    bytes
}
