//! The parser beside others (H18): what both python's `m3u8` and ffmpeg play of a playlist, this crate plays too, with the same
//! URLs, byte ranges, durations, keys and sections. Where it does not, a rule says why.
//!
//! ```text
//!   corpus ─┬─▶ parse                          ours
//!           ├─▶ peers/read.py                  what the package names
//!           └─▶ server ─▶ ffprobe ─▶ its log   what ffmpeg asks for
//! ```

mod corpus;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use kithara::net::Url;
use kithara_test_support::{Content, Rule, Server, media as test_media};

use crate::playlist::{BodyEnd, Locator, Playlist, PlaylistError, References, parse};
use crate::rig::{KEY, encrypt};

/// A playlist as a peer understands it.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Understood {
    /// Segments with all that is said of them, or Variant Streams.
    items: Vec<String>,
    /// Renditions.
    renditions: Vec<String>,
    /// The URL and byte range of each segment, or the URL of each Variant Stream: what a server sees.
    asked: Vec<String>,
    keys: BTreeSet<String>,
    sections: BTreeSet<String>,
}

fn path(url: &Url) -> String {
    url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()
}

fn shown(locator: &Locator) -> (String, String) {
    let range = locator.range.as_ref();
    let range = range.map_or_else(String::new, |range| format!("{}-{}", range.start, range.end));
    (locator.url.to_string(), range)
}

fn ours(text: &str, url: &Url) -> Result<Understood, PlaylistError> {
    let references = References {
        url,
        base: url,
        imports: None,
    };
    let mut found = Understood::default();
    match parse(text.as_bytes(), &references, BodyEnd::Proven)? {
        Playlist::Media(playlist) => {
            for segment in playlist.segments {
                let (uri, range) = shown(&segment.locator);
                let (seconds, micros) = (segment.duration.as_secs(), segment.duration.subsec_micros());
                if let Some(key) = &segment.encryption {
                    found.keys.insert(path(&key.key.url));
                }
                if let Some(map) = &segment.map {
                    let (_, range) = shown(&map.locator);
                    found
                        .sections
                        .insert(format!("{} {range}", path(&map.locator.url)));
                }
                let key = segment.encryption.map_or_else(
                    || "\t\t".to_owned(),
                    |key| format!("AES-128\t{}\t{}", key.key.url, u128::from_be_bytes(key.iv)),
                );
                let section = segment
                    .map
                    .as_ref()
                    .map(|map| shown(&map.locator))
                    .unwrap_or_default();
                if !segment.gap {
                    found
                        .asked
                        .push(format!("{} {range}", path(&segment.locator.url)));
                }
                found.items.push(format!(
                    "{uri}\t{range}\t{seconds}.{micros:06}\t{key}\t{}\t{}",
                    section.0, section.1
                ));
            }
        }
        Playlist::Multivariant(playlist) => {
            for variant in playlist.variants {
                let texts = [&variant.codecs, &variant.audio].map(|text| text.as_deref().unwrap_or_default());
                found.asked.push(path(&variant.locator.url));
                found.items.push(format!(
                    "{}\t{}\t{}\t{}",
                    variant.locator.url, variant.bandwidth, texts[0], texts[1]
                ));
            }
            for rendition in playlist.renditions {
                let uri = rendition.locator.as_ref().map(|locator| locator.url.to_string());
                found.renditions.push(format!(
                    "{}\t{}\t{}\t{}\t{}",
                    uri.unwrap_or_default(),
                    rendition.group,
                    rendition.name,
                    rendition.language.unwrap_or_default(),
                    if rendition.default { "YES" } else { "NO" },
                ));
            }
        }
    }
    found.asked.dedup();
    Ok(found)
}

/// What the package makes of each playlist; `None` where it refuses it, or finds nothing to play.
fn m3u8(python: &str, folder: &Path, base: &str, count: usize) -> Vec<Option<Understood>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hls/peers/read.py");
    let output = Command::new(python)
        .arg(script)
        .arg(folder)
        .arg(base)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut found = vec![Some(Understood::default()); count];
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let mut fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let number: usize = fields.remove(0).parse().unwrap();
        let kind = fields.remove(0);
        // URLs in the one form that the crate gives them.
        for field in &mut fields {
            if let Some(url) = field
                .starts_with("http")
                .then(|| Url::parse(field).ok())
                .flatten()
            {
                *field = url.to_string();
            }
        }
        let row = fields.join("\t");
        let Some(understood) = &mut found[number] else {
            continue;
        };
        let asked = || Url::parse(&fields[0]).map_or_else(|_| fields[0].clone(), |url| path(&url));
        match kind.as_str() {
            "V" => {
                understood.asked.push(asked());
                understood.items.push(row);
            }
            "R" => understood.renditions.push(row),
            "S" => {
                understood.asked.push(format!("{} {}", asked(), fields[1]));
                understood.items.push(row);
            }
            _ => found[number] = None,
        }
    }
    for understood in &mut found {
        *understood = understood
            .take()
            .filter(|understood| !understood.items.is_empty());
    }
    found
}

/// What ffmpeg asks a server for when it plays the playlist: each file once in a row.
fn ffprobe(server: &Server, number: usize) -> Understood {
    let status = Command::new("ffprobe")
        .args(["-v", "quiet", "-show_entries", "packet=size", "-of", "csv"])
        .args([
            "-http_persistent",
            "0",
            "-http_multiple",
            "0",
            "-extension_picky",
            "0",
            "-allowed_extensions",
            "ALL",
        ])
        .arg(server.url(&format!("/{number}/list.m3u8")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // Whether it likes the sound does not count: it has asked for what it understood.
    status.unwrap();
    let mut found = Understood::default();
    for request in server.log().to(&format!("/{number}/*")) {
        let name = request.path_only().rsplit('/').next().unwrap_or_default();
        let range = request
            .header("range")
            .unwrap_or("bytes=0-")
            .trim_start_matches("bytes=")
            .to_owned();
        let range = match range.split_once('-') {
            Some((start, end)) if !end.is_empty() => format!("{start}-{}", end.parse::<u64>().unwrap() + 1),
            _ => String::new(),
        };
        let asked = match name.as_bytes().first() {
            Some(b'k') => {
                found.keys.insert(request.path.clone());
                continue;
            }
            Some(b'i' | b'j') => {
                found.sections.insert(format!("{} {range}", request.path));
                continue;
            }
            Some(b'm') => request.path.clone(),
            Some(b'l' | b'r') => continue,
            _ => format!("{} {range}", request.path),
        };
        found.asked.push(asked);
    }
    found.asked.dedup();
    // The segments of the Media Playlists that a Multivariant Playlist names are all the same one.
    if found.asked.iter().any(|asked| !asked.contains(' ')) {
        found.asked.retain(|asked| !asked.contains(' '));
    }
    found
}

/// Why this crate does not do as others do, where both agree; `None` if it should.
fn rule(text: &str, ours: &Result<Understood, PlaylistError>) -> Option<&'static str> {
    match ours {
        Err(PlaylistError::UnsupportedEncryption { .. }) => Some("what cannot be decrypted is no sound"),
        Err(PlaylistError::Malformed { tag, problem, .. }) => RULES
            .iter()
            .find(|rule| (rule.0, rule.1) == (*tag, *problem))
            .map(|rule| rule.2),
        Ok(_) if text.contains("#EXT-X-GAP") => Some("RFC 8216bis, 4.4.4.7: a gap is not fetched"),
        Ok(_) if text.contains("#EXT-X-DEFINE:NAME") => Some("RFC 8216bis, 4.3: variables are substituted"),
        _ => None,
    }
}

/// Tag, problem, reason.
const RULES: &[(&str, &str, &str)] = &[
    (
        "EXTINF",
        "not a duration in seconds",
        "RFC 8216, 4.3.2.1: times would be wrong; hls.js and Media3 refuse it too",
    ),
    (
        "EXTINF",
        "no URI follows",
        "a byte range between two EXTINF tags may be of either segment",
    ),
    (
        "EXT-X-BYTERANGE",
        "no offset, and no range of the same resource before it",
        "RFC 8216, 4.3.2.2 (fault E1): others guess, and not alike",
    ),
    (
        "EXT-X-BYTERANGE",
        "empty or too large",
        "a segment without bytes is a hole",
    ),
    (
        "EXT-X-KEY",
        "URI is missing",
        "ciphertext would be given out as sound",
    ),
    (
        "EXT-X-KEY",
        "an attribute with two values",
        "one of two keys gives noise",
    ),
    (
        "EXT-X-MAP",
        "encrypted by a key without IV",
        "RFC 8216, 4.3.2.5 (fault E3)",
    ),
    (
        "EXT-X-MEDIA-SEQUENCE",
        "not a decimal integer",
        "IVs are made of it (fault E4)",
    ),
    (
        "EXT-X-STREAM-INF",
        "a variant stream among media segments",
        "RFC 8216, 4.1: one of the two would be left out",
    ),
];

/// Serves each playlist in a folder of its own, with what it may name, and writes it down for the package.
fn serve(server: &Server, texts: &[String], folder: &Path) {
    let audio = fs::read(test_media().join("hls/packed/seg-000.aac")).unwrap();
    let (secret, clear) = (Content::bytes(encrypt(&audio, KEY, 0)), Content::bytes(audio));
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n";
    for (number, text) in texts.iter().enumerate() {
        fs::write(folder.join(format!("{number}.m3u8")), text).unwrap();
        for (letters, rule) in [
            ("pix", Rule::new().content(clear.clone())),
            // Of a wrong IV only the first frame is lost.
            ("ej", Rule::new().content(secret.clone())),
            ("mr", Rule::new().answer(200, list)),
            ("k", Rule::new().answer(200, KEY)),
        ] {
            for letter in letters.chars() {
                server.rule(format!("/{number}/{letter}*"), rule.clone());
            }
        }
        server.serve_bytes(format!("/{number}/list.m3u8"), text.as_bytes());
    }
}

/// A python that has the package.
fn python() -> Option<String> {
    let named = std::env::var("KITHARA_PYTHON").ok();
    let places = ["python3", "/usr/bin/python3"].map(str::to_owned);
    named.into_iter().chain(places).find(|python| {
        let mut command = Command::new(python);
        command.args(["-c", "import m3u8"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

/// H18, fault W32.
#[test]
fn what_others_play_this_crate_plays_too() {
    let has_ffprobe = Command::new("ffprobe")
        .arg("-version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    let Some(python) = python().filter(|_| has_ffprobe) else {
        // Past the capture, so that it is seen.
        let needs = "ffprobe and python's m3u8 (KITHARA_PYTHON names the interpreter)";
        writeln!(
            std::io::stderr(),
            "SKIPPED: other parsers of playlists: they need {needs}"
        )
        .unwrap();
        return;
    };
    // One in so many of the generated ones is given to ffprobe, which takes a tenth of a second for each.
    let step = std::env::var("KITHARA_PLAYLIST_STEP").map_or(8, |step| step.parse().unwrap());
    let server = Server::empty().unwrap();
    let texts = corpus::all(&server.url("/"));
    assert!(texts.len() > 400);
    let folder = tempfile::tempdir().unwrap();
    serve(&server, &texts, folder.path());
    let package = m3u8(&python, folder.path(), &server.url("/"), texts.len());
    let (mut compared, mut agreed, mut reasons, mut wrong) = (0, 0, BTreeSet::new(), Vec::new());
    for (number, text) in texts.iter().enumerate() {
        let url = Url::parse(&server.url(&format!("/{number}/list.m3u8"))).unwrap();
        let ours = ours(text, &url);
        let Some(package) = &package[number] else { continue };
        // The package alone: of what it and this crate play, each word is the same.
        if let Ok(ours) = &ours
            && ours.asked == package.asked
            && (&ours.items, &ours.renditions) != (&package.items, &package.renditions)
            && !text.contains(" = ")
        {
            wrong.push(format!("{number} {text:?}\n{ours:#?}\n{package:#?}"));
        }
        if number >= corpus::BY_HAND.len() && number % step != 0 {
            continue;
        }
        compared += 1;
        let ffmpeg = ffprobe(&server, number);
        if ffmpeg.asked != package.asked {
            continue;
        }
        agreed += 1;
        match &ours {
            Ok(ours)
                if ours.asked == ffmpeg.asked
                    && ours.keys == ffmpeg.keys
                    && ours.sections == ffmpeg.sections => {}
            other => match rule(text, other) {
                Some(reason) => {
                    reasons.insert(reason);
                }
                None => wrong.push(format!("{number} {text:?}\n{other:#?}\n{ffmpeg:#?}")),
            },
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    println!("{compared} playlists compared, {agreed} understood alike; differences:\n{reasons:#?}");
    // Else the peers' own troubles would hide ours.
    assert!(agreed * 10 > compared * 7, "{agreed} of {compared}");
}
