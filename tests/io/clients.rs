//! What decoders ask of a source, as bounds.

use std::io::{Read, Seek};

use kithara::io::Reader;

use crate::stage::Reset;

/// rodio's `Decoder::new` asks for exactly this; `tests/interop/tests/decoders.rs` calls it.
fn rodio_takes<R: Read + Seek + Send + Sync + 'static>() {}

#[test]
fn a_reader_is_what_rodio_takes() {
    rodio_takes::<Reader<Reset>>();
}

/// Symphonia must not take a source of unknown length for seekable: it seeks to the end while it probes.
#[cfg(feature = "symphonia")]
#[test]
fn symphonia_sees_a_seekable_source_once_the_length_is_known() {
    use symphonia_core::io::MediaSource;

    let stage = crate::stage::Stage::new();
    let track = stage.open();
    let source: Box<dyn MediaSource> = Box::new(Reader::new(&track));
    assert!(!source.is_seekable());
    assert_eq!(source.byte_len(), None);
    track.writer().unwrap().set_len(12).unwrap();
    assert!(source.is_seekable());
    assert_eq!(source.byte_len(), Some(12));
}
