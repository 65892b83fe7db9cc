//! What bytes look like, and which types are no media's.

use super::NotMediaReason;

/// What the first bytes of a body look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signature {
    /// A container or a frame that is known.
    Media,
    /// Something else that is known.
    Foreign(NotMediaReason),
    /// Text so far. What follows may be anything.
    Text,
    /// Neither text nor anything known: junk before a first frame, an unknown container.
    Binary,
}

const MEDIA: [&[u8]; 20] = [
    b"ID3",
    b"fLaC",
    b"OggS",
    b"RF64",
    b"BW64",
    b"FORM",
    b"\x1a\x45\xdf\xa3",
    b"caff",
    b"wvpk",
    b"MAC ",
    b"TTA1",
    b"DSD ",
    b"FRM8",
    b"MPCK",
    b"MP+",
    b"ADIF",
    b"MThd",
    b"#!AMR",
    b"FLV\x01",
    b".snd",
];

const FOREIGN: [(&[u8], NotMediaReason); 10] = [
    (b"#EXTM3U", NotMediaReason::Playlist),
    (b"GIF87a", NotMediaReason::Picture),
    (b"GIF89a", NotMediaReason::Picture),
    (b"\x89PNG\r\n\x1a\n", NotMediaReason::Picture),
    (b"\xff\xd8\xff", NotMediaReason::Picture),
    (b"%PDF-", NotMediaReason::Document),
    (b"PK\x03\x04", NotMediaReason::Document),
    (b"\x1f\x8b\x08", NotMediaReason::Document),
    // A page in UTF-16. The byte order mark alone would be a frame of MPEG audio.
    (b"\xff\xfe<\0", NotMediaReason::Page),
    (b"\xfe\xff\0<", NotMediaReason::Page),
];

const PAGE: [&str; 12] = [
    "<!doctype",
    "<html",
    "<head",
    "<body",
    "<?xml",
    "<!--",
    "<script",
    "<meta",
    "<title",
    "<iframe",
    "<div",
    "<form",
];

/// `is_all`: nothing follows, so that a character that is cut off is none.
pub(super) fn of(start: &[u8], is_all: bool) -> Signature {
    if let Some((_, reason)) = FOREIGN.iter().find(|(mark, _)| start.starts_with(mark)) {
        return Signature::Foreign(*reason);
    }
    if is_media(start) {
        return Signature::Media;
    }
    let text = start
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(start)
        .trim_ascii_start();
    // Before the question whether all of it is text: a page need not be in UTF-8.
    let begins = |mark: &&str| {
        let word = text.get(..mark.len());
        word.is_some_and(|word| word.eq_ignore_ascii_case(mark.as_bytes()))
    };
    if PAGE.iter().any(&begins) {
        return Signature::Foreign(NotMediaReason::Page);
    }
    if begins(&"#EXTM3U") || begins(&"[playlist]") {
        return Signature::Foreign(NotMediaReason::Playlist);
    }
    if is_text(start, is_all) {
        Signature::Text
    } else {
        Signature::Binary
    }
}

fn is_media(start: &[u8]) -> bool {
    // Eleven set bits: the sync word of MPEG audio and of ADTS.
    let is_frame = start.first() == Some(&0xff) && start.get(1).is_some_and(|second| second & 0xe0 == 0xe0);
    is_frame || is_known_format(start)
}

/// Whether the bytes begin as a container or a tag does. A sync word alone does not count: one in two thousand random starts
/// has it.
pub(super) fn is_known_format(start: &[u8]) -> bool {
    if MEDIA.iter().any(|mark| start.starts_with(mark)) {
        return true;
    }
    if start.starts_with(b"RIFF") {
        return start.get(8..12) == Some(b"WAVE");
    }
    let is_box = start.get(4..8).is_some_and(|name| {
        [
            b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"sidx",
        ]
        .iter()
        .any(|known| name == *known)
    });
    let is_ts = start.first() == Some(&0x47) && start.get(188) == Some(&0x47);
    is_box || is_ts
}

/// Printable UTF-8. The last character may be cut off, unless this is all.
fn is_text(bytes: &[u8], is_all: bool) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && !is_all => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(valid).unwrap_or_default()
        }
        Err(_) => return false,
    };
    text.chars()
        .all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0c'))
}

/// Whether a `Content-Type` names something that no media is sent as. `text/plain` and `application/octet-stream` are what
/// servers say of anything.
pub(super) fn is_foreign_type(value: &str) -> bool {
    let kind = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let Some((family, name)) = kind.split_once('/') else {
        return false;
    };
    match family {
        "image" | "multipart" | "font" | "message" => true,
        "text" => matches!(
            name,
            "html" | "xml" | "css" | "csv" | "javascript" | "json" | "markdown" | "vtt"
        ),
        "audio" => matches!(name, "x-mpegurl" | "mpegurl" | "x-scpls" | "scpls"),
        "application" => {
            matches!(
                name,
                "json"
                    | "xml"
                    | "javascript"
                    | "x-javascript"
                    | "pdf"
                    | "vnd.apple.mpegurl"
                    | "x-mpegurl"
                    | "pls+xml"
            ) || name.ends_with("+json")
                || name.ends_with("+xml")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_until_a_byte_says_otherwise() {
        for text in ["hello", "{\"a\": 1}", "zwei Wörter\r\n\t"] {
            assert_eq!(of(text.as_bytes(), true), Signature::Text, "{text}");
        }
        assert_eq!(
            of("ö".as_bytes().get(..1).unwrap_or_default(), false),
            Signature::Text
        );
        assert_eq!(
            of("ö".as_bytes().get(..1).unwrap_or_default(), true),
            Signature::Binary
        );
        assert_eq!(of(b"junk\0", true), Signature::Binary);
    }

    #[test]
    fn a_page_is_one_in_any_case_and_encoding() {
        let pages: [&[u8]; 6] = [
            b"<!DOCTYPE html>",
            b"\xef\xbb\xbf \r\n<HTML>",
            b"<!-- a --><html>",
            b"<?xml version=\"1.0\"?>",
            b"<html>\xe4",
            b"\xff\xfe<\0h\0",
        ];
        for page in pages {
            assert_eq!(
                of(page, true),
                Signature::Foreign(NotMediaReason::Page),
                "{page:?}"
            );
        }
    }

    #[test]
    fn a_type_that_says_nothing_is_not_foreign() {
        for kind in [
            "text/plain",
            "application/octet-stream",
            "binary/octet-stream",
            "video/mp4",
            "audio",
            "",
        ] {
            assert!(!is_foreign_type(kind), "{kind}");
        }
        for kind in [
            "text/html; charset=utf-8",
            "TEXT/HTML",
            "application/problem+json",
            "image/gif",
        ] {
            assert!(is_foreign_type(kind), "{kind}");
        }
    }
}
