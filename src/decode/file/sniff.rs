//! What a file is, by its first bytes.

use bytes::Bytes;

use super::input::Input;
use crate::decode::{DecodeError, error::UnsupportedContainerSnafu};

/// How far a frame of MPEG audio or ADTS is looked for.
pub(super) const SEARCH: usize = 64 * 1024;

/// What a playlist is called: HLS, if it came by a URL.
pub(crate) const PLAYLIST: &str = "a playlist";

/// The longest `ID3v2` tag that is read: its cover is held in memory. A longer one is passed over.
const LONGEST_TAG: u64 = 16 << 20;

/// What a file is, and where that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sniffed {
    pub(super) kind: FileKind,
    /// Behind tags.
    pub(super) start: u64,
    /// The first `ID3v2` tag, header and all, if there is one.
    pub(super) id3: Option<Bytes>,
}

/// The reader that is to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Mp4,
    Flac,
    Ogg,
    Wave,
    Aiff,
    Ts,
    /// MPEG audio or ADTS: which of them, its frames tell.
    Frames,
}

/// Reads the first bytes, passing over `ID3v2` tags.
///
/// # Errors
///
/// `UnsupportedContainer`, named; `Io`, `Interrupted`.
pub(super) fn sniff(input: &Input) -> Result<Sniffed, DecodeError> {
    let (mut start, mut id3) = (0, None);
    loop {
        // Enough for three packets of MPEG-TS, and more than any other mark takes.
        let head = input.bytes_at(start, 400)?;
        if let Some(length) = id3_length(&head) {
            // Read now, on the way: behind it a stream does not come back to it.
            // The first tag counts. What is behind it was put there by a tool that did not look.
            if id3.is_none() && length <= LONGEST_TAG {
                id3 = Some(input.bytes_at(start, usize::try_from(length).unwrap_or(0))?);
            }
            start += length;
            input.keep_from(start);
            continue;
        }
        if head.is_empty() {
            let container = if start == 0 {
                "an empty file"
            } else {
                "a file of tags alone"
            };
            return UnsupportedContainerSnafu { container }.fail();
        }
        if let Some(container) = foreign(&head) {
            return UnsupportedContainerSnafu { container }.fail();
        }
        let kind = known(&head).unwrap_or(FileKind::Frames);
        return Ok(Sniffed { kind, start, id3 });
    }
}

/// The length of the `ID3v2` tag at the start of `head`, footer and all.
fn id3_length(head: &[u8]) -> Option<u64> {
    let tag = head.strip_prefix(b"ID3")?;
    let (flags, size) = (*tag.get(2)?, tag.get(3..7)?);
    // Seven bits of each byte.
    // The highest bits are 0, so that no tag holds what looks like a frame of MPEG audio.
    if size.iter().any(|byte| byte & 0x80 != 0) {
        return None;
    }
    let size = size.iter().fold(0, |size, byte| size << 7 | u64::from(*byte));
    Some(10 + size + if flags & 0x10 == 0 { 0 } else { 10 })
}

fn known(head: &[u8]) -> Option<FileKind> {
    let at = |offset: usize| head.get(offset..offset + 4);
    match (at(0)?, at(8)) {
        (b"fLaC", _) => return Some(FileKind::Flac),
        (b"OggS", _) => return Some(FileKind::Ogg),
        (b"RIFF" | b"RF64" | b"BW64", Some(b"WAVE")) => return Some(FileKind::Wave),
        (b"FORM", Some(b"AIFF" | b"AIFC")) => return Some(FileKind::Aiff),
        _ => {}
    }
    match at(4)? {
        b"ftyp" | b"styp" | b"moov" | b"moof" | b"mdat" | b"free" | b"skip" | b"wide" | b"pnot" | b"sidx" => {
            return Some(FileKind::Mp4);
        }
        _ => {}
    }
    // Three in a row: one byte of 0x47 begins many a file.
    let packets = head.iter().step_by(188).take(3);
    (head.len() > 376 && packets.clone().count() == 3 && packets.into_iter().all(|byte| *byte == 0x47))
        .then_some(FileKind::Ts)
}

/// The name of what is none of ours, so that an app can say it.
fn foreign(head: &[u8]) -> Option<&'static str> {
    const NAMES: [(&[u8], &str); 18] = [
        (b"#EXTM3U", PLAYLIST),
        (b"[playlist]", "a list of stations"),
        (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
        (b"caff", "Core Audio Format"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
        (b"wvpk", "WavPack"),
        (b"MAC ", "Monkey's Audio"),
        (b"TTA1", "True Audio"),
        (b"DSD ", "DSD"),
        (b"FRM8", "DSD"),
        (b"MPCK", "Musepack"),
        (b"MP+", "Musepack"),
        (b"ADIF", "AAC in ADIF"),
        (b"MThd", "MIDI"),
        (b"#!AMR", "AMR"),
        (b"FLV", "Flash Video"),
        (b"\x0b\x77", "AC-3"),
        (b"\x56\xe0", "AAC in LATM"),
    ];
    if let Some((_, name)) = NAMES.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(name);
    }
    // Servers answer with pages of their own where a file is gone: told as that, and not as damage.
    let text = head.trim_ascii_start();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let is_page = [&b"<!doctype"[..], b"<html", b"<?xml", b"<head", b"<body"]
        .iter()
        .any(|mark| {
            text.get(..mark.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(mark))
        });
    is_page.then_some("a web page")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Cursor;

    use super::*;

    fn sniffed(bytes: &[u8]) -> Result<Sniffed, String> {
        let input = Input::from_reader(Cursor::new(bytes.to_vec())).unwrap();
        sniff(&input).map_err(|error| error.to_string())
    }

    #[test]
    fn tags_are_passed_over() {
        let mut file = b"ID3\x04\0\0\0\0\x01\0".to_vec();
        file.extend([0; 128]);
        let tag = file.clone();
        file.extend(b"ID3\x04\0\x10\0\0\0\x02..3DI.......");
        let start = file.len() as u64;
        file.extend(b"fLaC");
        file.extend([0; 400]);
        assert_eq!(
            sniffed(&file).unwrap(),
            Sniffed {
                kind: FileKind::Flac,
                start,
                id3: Some(tag.into())
            }
        );
    }

    #[test]
    fn what_is_none_of_ours_has_a_name() {
        let page = b"  \n<!DOCTYPE html><html>";
        assert_eq!(sniffed(page).unwrap_err(), "cannot read a web page");
        assert_eq!(
            sniffed(b"\x1a\x45\xdf\xa3....").unwrap_err(),
            "cannot read Matroska or WebM"
        );
        assert_eq!(sniffed(b"").unwrap_err(), "cannot read an empty file");
    }

    #[test]
    fn containers_are_known_by_their_first_bytes() {
        for (head, kind) in [
            (&b"RIFF....WAVE"[..], FileKind::Wave),
            (b"RF64....WAVE", FileKind::Wave),
            (b"FORM....AIFC", FileKind::Aiff),
            (b"OggS........", FileKind::Ogg),
            (b"....ftypM4A ", FileKind::Mp4),
            (b"....moov....", FileKind::Mp4),
            (b"\xff\xfb\x90\x64........", FileKind::Frames),
        ] {
            assert_eq!(sniffed(head).unwrap().kind, kind);
        }
        let mut ts = vec![0; 600];
        for at in [0, 188, 376, 564] {
            ts[at] = 0x47;
        }
        assert_eq!(sniffed(&ts).unwrap().kind, FileKind::Ts);
    }
}
