//! Files that come as streams, which are read once and in order; and headers that announce too much.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;
use std::sync::Arc;

use super::{
    input::{Input, tests::Dripping},
    open,
};
use crate::decode::source::{Block, PcmSource, Step};

/// Three seconds of frames, more than are kept for sniffing.
fn mp3() -> Vec<u8> {
    let mut frame = vec![0; 417];
    frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x64]);
    frame.repeat(400)
}

/// A tag with a title, and padding up to its length.
fn tag(length: u32) -> Vec<u8> {
    let mut tag = b"ID3\x04\0\0".to_vec();
    let size = length - 10;
    tag.extend([21, 14, 7, 0].map(|shift| (size >> shift & 0x7f) as u8));
    tag.extend(b"TIT2\0\0\0\x02\0\0\x03A");
    tag.resize(length as usize, 0);
    tag
}

/// The title, and how many frames are heard.
fn heard(input: &Input) -> (Option<String>, u64) {
    let mut track = open(input).unwrap();
    let (mut block, mut frames) = (Block::empty(), 0);
    loop {
        match track.next(&mut block).unwrap() {
            Step::Block => frames += block.frames() as u64,
            Step::Event(_) => {}
            Step::Ended => break (track.tags().title.clone(), frames),
        }
    }
}

#[test]
fn a_stream_with_a_tag_plays_as_the_file_does() {
    for length in [22, 1400, 65_000, 200_000] {
        let bytes = [tag(length), mp3()].concat();
        let stream = Input::new(Dripping(bytes.clone()), Arc::new(|| {}));
        let file = Input::from_reader(Cursor::new(bytes)).unwrap();
        let whole = (Some("A".to_owned()), 400 * 1152);
        assert_eq!(heard(&file), whole, "a file, a tag of {length}");
        assert_eq!(heard(&stream), whole, "a stream, a tag of {length}");
    }
}

#[test]
fn a_tag_too_long_to_be_held_is_passed_over() {
    let bytes = [tag(17 << 20), mp3()].concat();
    let file = Input::from_reader(Cursor::new(bytes)).unwrap();
    assert_eq!(heard(&file), (None, 400 * 1152));
}

/// Why a WAVE file of a few samples is refused, if it is.
fn refused(rate: u32, channels: u16) -> Option<String> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x03\0".to_vec();
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend(b"\0\0\0\0\0\0\x40\0data\0\x01\0\0");
    file.extend([0; 256]);
    let refused = open(&Input::from_reader(Cursor::new(file)).unwrap());
    refused.err().map(|error| error.to_string())
}

#[test]
fn rates_and_channels_that_no_track_has_are_refused_by_name() {
    for (rate, channels) in [(1_000, 1), (44_100, 2), (96_000, 64), (768_000, 8)] {
        assert_eq!(refused(rate, channels), None);
    }
    for (rate, channels) in [
        (1, 2),
        (4_294_967_291, 2),
        (44_100, 65),
        (44_100, u16::MAX),
        (768_000, 64),
    ] {
        let name = format!("cannot decode {channels} channels of {rate} Hz");
        assert_eq!(refused(rate, channels), Some(name));
    }
}
