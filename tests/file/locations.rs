//! What is a location, and what is none.

use futures_lite::future::block_on;
use kithara::file::{FileError, FileParams, FileSource, Location, OpenMode};

use crate::*;

/// Fault W42: a URL of another scheme is no path.
#[test]
fn w42_another_scheme_is_told() {
    let stage = Stage::new(1);
    for text in [
        "ftp://h/a.mp3",
        "rtsp://h/a",
        "data:audio/mpeg;base64,AAAA",
        "HTTPX://h/a",
    ] {
        for params in [stage.params(), FileParams::local()] {
            for mode in [OpenMode::Online, OpenMode::Offline] {
                let source = FileSource::new(Location::parse(text), params.clone());
                let error = block_on(source.open_reader(mode)).unwrap_err();
                let FileError::UnsupportedUrl { scheme } = &error else {
                    panic!("{text}: {error:?}");
                };
                assert!(text.to_lowercase().starts_with(scheme), "{scheme}");
                assert!(!error.to_string().contains("AAAA"), "{error}");
            }
        }
    }
}

/// Fault W58: a `file` URL is the path it names, however it comes.
#[test]
#[cfg(unix)]
fn w58_a_file_url_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a b.bin");
    std::fs::write(&path, pattern().range(0, 1000)).unwrap();
    let url = Url::from_file_path(&path).unwrap();
    for location in [Location::from(url.clone()), Location::parse(url.as_str())] {
        assert!(
            matches!(&location, Location::Path(found) if *found == path),
            "{location:?}"
        );
        let source = FileSource::new(location, FileParams::local());
        assert_rest(
            &mut block_on(source.open_reader(OpenMode::Online)).unwrap(),
            0,
            1000,
        );
        assert_eq!((source.asset(), source.path()), (None, None));
    }
    // On another machine.
    let elsewhere = FileSource::new(Location::parse("file://host/a.bin"), FileParams::local());
    let error = block_on(elsewhere.open_reader(OpenMode::Online)).unwrap_err();
    assert!(matches!(error, FileError::UnsupportedUrl { .. }), "{error:?}");
}

/// A colon makes no URL.
#[test]
fn a_path_may_hold_a_colon() {
    for text in [
        "C:\\music\\a.mp3",
        "C:/music/a.mp3",
        "mix:tape.mp3",
        "a/b:c",
        "12:30.wav",
    ] {
        assert!(matches!(Location::parse(text), Location::Path(_)), "{text}");
    }
}
