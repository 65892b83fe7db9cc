//! WAVE's tags: the `INFO` list.

use super::fields::{Tags, number_of, set};

/// The body of a `LIST` chunk, from its type on.
pub(crate) fn from_info(list: &[u8], tags: &mut Tags) {
    let Some(mut rest) = list.strip_prefix(b"INFO") else {
        return;
    };
    while let Some((head, body)) = rest.split_at_checked(8) {
        let Some(length) = head.get(4..8).and_then(|length| length.try_into().ok()) else {
            return;
        };
        let length = u32::from_le_bytes(length) as usize;
        let text = body.get(..length.min(body.len())).unwrap_or_default();
        let text = String::from_utf8_lossy(text)
            .trim_end_matches('\0')
            .trim()
            .to_owned();
        let value = Some(text).filter(|text| !text.is_empty());
        match head.get(..4) {
            Some(b"INAM") => set(&mut tags.title, value),
            Some(b"IART") => set(&mut tags.artist, value),
            Some(b"IPRD") => set(&mut tags.album, value),
            Some(b"IGNR") => set(&mut tags.genre, value),
            Some(b"ICRD") => set(&mut tags.date, value),
            Some(b"ICMT") => set(&mut tags.comment, value),
            Some(b"ITRK" | b"IPRT") => {
                let (number, total) = number_of(&value.unwrap_or_default());
                set(&mut tags.track_number, number);
                set(&mut tags.track_total, total);
            }
            _ => {}
        }
        rest = body.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
}
