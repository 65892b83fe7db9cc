//! F1: what opening a file waits for.

use futures_lite::StreamExt as _;
use futures_lite::future::block_on;
use kithara::file::{FileSource, OpenMode, Verdict};
use kithara::stream::{Source as _, Stream, StreamParams};
use kithara_test_support::{Content, Rule};

use crate::not_media::play;
use crate::*;

/// F1: the length in the head of an answer is believed with its bytes. A reader that jumps behind the end of a login page
/// would find a false end otherwise.
#[test]
fn f1_the_length_of_what_is_no_media_is_no_end() {
    let stage = Stage::new(4 * MIB);
    let gate = stage.server.gate();
    let json = Content::bytes(&br#"{"error":"quota"}"#[..]);
    stage.server.rule(
        "/a.bin",
        Rule::new().content(json).ignore_range().gate_after(0, &gate),
    );
    let source = stage.source();
    let opening = std::thread::spawn(move || block_on(source.open_reader(OpenMode::Online)).map(drop));
    gate.wait_arrived(1);
    gate.open();
    let error = opening.join().unwrap().unwrap_err();
    assert!(error.not_media().is_some(), "{error:?}");
}

/// F1: a stream begins in the middle, and the server sends the whole. Its beginning tells what it is.
#[test]
fn f1_a_whole_answer_is_judged_wherever_the_stream_begins() {
    let page = format!(r#"{{"error":"quota"{}}}"#, " ".repeat(5000));
    for answer in [Some(page), None] {
        let stage = Stage::new(4 * MIB);
        let rule = match &answer {
            Some(page) => Rule::new().answer(200, page),
            None => Rule::new().ignore_range(),
        };
        stage.server.rule("/a.bin", rule);
        let mut source = stage.source();
        source.seek_bytes(1000).unwrap();
        let mut stream = Stream::new(source, StreamParams::default());
        let first = block_on(stream.next()).unwrap();
        match (answer, first) {
            (Some(_), Err(error)) => {
                let error = error.source_error().unwrap();
                assert!(error.not_media().is_some(), "{error:?}");
            }
            (None, Ok(bytes)) => assert_eq!(pattern().first_difference(1000, &bytes), None),
            (_, other) => panic!("{other:?}"),
        }
    }
}

/// F1: an answer that broke off before it was judged says nothing of the file, neither its length nor its date.
#[test]
fn f1_what_broke_off_unjudged_is_forgotten() {
    let date = "Sun, 01 Nov 2020 08:49:37 GMT";
    for (what, kind, value) in [
        ("a date", "Last-Modified", date),
        ("a tag", "ETag", "\"page\""),
        ("nothing", "X-None", ""),
    ] {
        let stage = Stage::new(4 * MIB);
        let page = Rule::new().answer(200, "<!DOCTYPE html><html><body>Log in</body></html>");
        let page = page.header(kind, value);
        let breaks = stage.server.rule("/a.bin", page.truncate_after(3).first(1));
        let (bytes, _) = play(&stage.source()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(pattern().first_difference(0, &bytes), None);
        assert_eq!(bytes.len() as u64, stage.len);
        assert_eq!(breaks.hits(), 1);
    }
}

/// F7: what a login page said of itself is not shown for the file.
#[test]
fn f7_the_source_shows_nothing_that_a_page_said() {
    let stage = Stage::new(4 * MIB);
    let page = Rule::new().answer(200, "<!DOCTYPE html><html></html>");
    let page = page.header("Content-Type", "text/html").first(1);
    stage.server.rule("/a.bin", page);
    let source = stage.source();
    assert!(block_on(source.open_reader(OpenMode::Online)).is_err());
    assert!(source.server_info().is_none());
    drop(block_on(source.open_reader(OpenMode::Online)).unwrap());
    let info = source.server_info().unwrap();
    assert_eq!((info.len, info.serves_ranges), (Some(4 * MIB), true));
}

/// F1: a file that is shorter than what the judge wants to see is asked for once.
#[test]
fn f1_a_short_file_is_judged_when_it_is_there() {
    for len in [1, 100, 511] {
        let stage = Stage::new(len);
        stage.server.rule("/a.bin", Rule::new().max_part(60));
        let params = stage.params().judge(|_| Verdict::Media);
        let (bytes, _) = play(&FileSource::new(stage.url(), params)).unwrap();
        assert_eq!(bytes, pattern().range(0, len as usize));
        assert_eq!(stage.requests() as u64, len.div_ceil(60));
    }
}
