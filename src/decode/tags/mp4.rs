//! MP4's tags: Apple's item list (`ilst`), and Nero's chapters (`chpl`).

use std::time::Duration;

use bytes::Bytes;

use super::fields::{Chapter, Picture, Tags, set};
use crate::decode::demux::boxes::{boxes, child, descendant, full};

/// The tags in `moov`.
pub(crate) fn from_movie(movie: &Bytes, items: Option<&Bytes>, tags: &mut Tags) {
    if let Some(items) = items {
        for (kind, item) in boxes(items) {
            add_item(kind, &item, tags);
        }
    }
    if let Some(list) = descendant(movie, &[b"udta", b"chpl"]) {
        tags.chapters = chapters(&list).unwrap_or_default();
    }
}

fn add_item(kind: [u8; 4], item: &Bytes, tags: &mut Tags) {
    let Some(data) = child(item, *b"data") else {
        return;
    };
    // A type, a locale, and then the value.
    let (format, value) = (data.get(..4), data.get(8..).unwrap_or_default());
    let text = || {
        let text = String::from_utf8_lossy(value).into_owned();
        Some(text).filter(|text| !text.is_empty())
    };
    let pair = || {
        let half = |at: usize| {
            // 0 is how these fields say nothing.
            let number = u16::from_be_bytes(value.get(at..at + 2)?.try_into().ok()?);
            (number > 0).then_some(u32::from(number))
        };
        (half(2), half(4))
    };
    match &kind {
        b"\xa9nam" => set(&mut tags.title, text()),
        b"\xa9ART" => set(&mut tags.artist, text()),
        b"\xa9alb" => set(&mut tags.album, text()),
        b"aART" => set(&mut tags.album_artist, text()),
        b"\xa9wrt" => set(&mut tags.composer, text()),
        b"\xa9gen" => set(&mut tags.genre, text()),
        b"\xa9day" => set(&mut tags.date, text()),
        b"\xa9cmt" => set(&mut tags.comment, text()),
        b"trkn" => {
            let (number, total) = pair();
            set(&mut tags.track_number, number);
            set(&mut tags.track_total, total);
        }
        b"disk" => {
            let (number, total) = pair();
            set(&mut tags.disc_number, number);
            set(&mut tags.disc_total, total);
        }
        b"covr" if !value.is_empty() => {
            let media_type = match format {
                Some([0, 0, 0, 14]) => Some("image/png".to_owned()),
                Some([0, 0, 0, 13]) => Some("image/jpeg".to_owned()),
                _ => None,
            };
            // A slice of the header, without a copy: covers are megabytes.
            let data = data.slice_ref(value);
            set(&mut tags.cover, Some(Picture { media_type, data }));
        }
        b"----" => {
            if let Some(name) = child(item, *b"name") {
                let name = String::from_utf8_lossy(name.get(4..).unwrap_or_default()).into_owned();
                tags.add_named(&name, &String::from_utf8_lossy(value));
            }
        }
        _ => {}
    }
}

/// `chpl`: times in units of 100 ns, and titles with their lengths.
fn chapters(list: &[u8]) -> Option<Vec<Chapter>> {
    let (version, _, mut fields) = full(list)?;
    if version == 1 {
        fields.u32()?;
    }
    let count = fields.u8()?;
    let mut chapters: Vec<Chapter> = Vec::new();
    for _ in 0..count {
        let time = fields.u64()?;
        let length = fields.u8()?;
        let title = String::from_utf8_lossy(fields.bytes(length.into())?).into_owned();
        let start = Duration::from_nanos(time.saturating_mul(100));
        if let Some(last) = chapters.last_mut() {
            last.end = Some(start);
        }
        chapters.push(Chapter {
            start,
            end: None,
            title: Some(title).filter(|title| !title.is_empty()),
        });
    }
    Some(chapters)
}
