//! Which container a segment is in, by its first bytes.

use crate::decode::{
    DecodeError,
    demux::{FragmentedMp4, Packed, TransportStream, id3_length},
    error::{UnsupportedCodecSnafu, UnsupportedContainerSnafu},
    packet::Demux,
};

/// How many bytes tell, tags before them left out.
const ENOUGH: usize = 2 * 188 + 1;
/// How many bytes tell where no frame stands at the start: three of the longest ones that are common, and the rest of one.
const ENOUGH_FOR_FRAMES: usize = 4 * 1441;
/// Tags longer than this are none.
const MAX_TAGS: usize = 4 << 20;

/// The demuxer for what begins with `bytes`; `None` if more of them are needed. With `all` there are no more.
///
/// # Errors
///
/// `UnsupportedContainer` and `UnsupportedCodec`, named as far as that is known.
pub(super) fn demuxer(bytes: &[u8], all: bool) -> Result<Option<Box<dyn Demux>>, DecodeError> {
    let mut rest = bytes;
    while rest.starts_with(b"ID3") {
        match id3_length(rest).map(|length| rest.get(length..)) {
            Some(Some(behind)) => rest = behind,
            Some(None) if !all && bytes.len() < MAX_TAGS => return Ok(None),
            None if !all && rest.len() < 10 => return Ok(None),
            _ => break,
        }
    }
    if rest.len() < ENOUGH && !all {
        return Ok(None);
    }
    let tagged = rest.len() < bytes.len();
    // One byte of 0x47 proves nothing: two packets on it has to be there again.
    let sync = |at: usize| rest.get(at) == Some(&0x47);
    let container = match rest {
        [0x47, ..] if sync(188) || rest.len() <= 188 => {
            return Ok(Some(Box::new(TransportStream::default())));
        }
        [_, _, _, _, kind @ ..] if is_mp4(kind) => return Ok(Some(Box::new(FragmentedMp4::default()))),
        [0xff, second, ..] if second & 0xf6 == 0xf0 => return Ok(Some(Box::new(Packed::adts()))),
        [0xff, second, ..] if second & 0xe0 == 0xe0 => return Ok(Some(Box::new(Packed::mpeg()))),
        [0x0b, 0x77, ..] => return UnsupportedCodecSnafu { codec: "AC-3" }.fail(),
        _ if rest.starts_with(b"WEBVTT") => "WebVTT",
        _ if rest.starts_with(b"OggS") => "Ogg in HLS",
        _ if rest.starts_with(b"fLaC") => "FLAC in HLS without MP4",
        _ if rest.starts_with(b"RIFF") => "WAV in HLS",
        // A transport stream whose first bytes are damaged, or cut.
        _ if (1..188).any(|at| sync(at) && sync(at + 188)) => {
            return Ok(Some(Box::new(TransportStream::default())));
        }
        // Packed audio that begins in the middle of a frame: its packager cut by bytes.
        _ => match Packed::within(rest) {
            Some(packed) => return Ok(Some(Box::new(packed))),
            None if !all && rest.len() < ENOUGH_FOR_FRAMES => return Ok(None),
            None if tagged => "what follows an ID3 tag",
            None => "a segment of an unknown kind",
        },
    };
    UnsupportedContainerSnafu { container }.fail()
}

fn is_mp4(kind: &[u8]) -> bool {
    const KINDS: [&[u8]; 9] = [
        b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"emsg", b"prft", b"free", b"mdat",
    ];
    KINDS.iter().any(|known| kind.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        demuxer(bytes, true)
            .err()
            .map_or_else(|| "read".to_owned(), |error| error.to_string())
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert_eq!(message(b"WEBVTT\n"), "cannot read WebVTT");
        assert_eq!(message(&[0x0b, 0x77, 1, 2]), "cannot decode AC-3");
        assert_eq!(message(b"<html>"), "cannot read a segment of an unknown kind");
        assert_eq!(message(b"\0\0\0\x18ftypiso5"), "read");
        assert_eq!(message(&[0xff, 0xf1, 0x50]), "read");
        assert_eq!(message(&[0xff, 0xfb, 0x90]), "read");
    }

    /// A seek into a segment that was cut by bytes.
    #[test]
    fn frames_behind_the_rest_of_one_are_found() {
        let mut frame = vec![0x11; 417];
        frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x64]);
        let frames = frame.repeat(4);
        for cut in [1, 3, 100, 416] {
            assert_eq!(message(&frames[cut..]), "read", "{cut}");
            assert!(demuxer(&frames[cut..900], false).unwrap().is_none());
        }
        assert_eq!(message(&frame[100..]), "cannot read a segment of an unknown kind");
    }

    #[test]
    fn more_bytes_are_asked_for_where_a_tag_is_cut() {
        let tag = [&b"ID3\x04\0\0\0\0\x02\0"[..], &[0; 256]].concat();
        for cut in 0..tag.len() {
            assert!(demuxer(&tag[..cut], false).unwrap().is_none(), "{cut}");
        }
        let whole = [&tag[..], &[0xff, 0xf1, 0x50], &[0; ENOUGH]].concat();
        assert!(demuxer(&whole, false).unwrap().is_some());
    }
}
