//! F5: behind a redirect the URL that answered is asked, and the redirect again only if that fails.

use futures_lite::future::block_on;
use kithara::file::{FileSource, LookAhead, OpenMode};
use kithara_test_support::{Content, Pattern, Rule, Server};

use crate::*;

const LEN: u64 = 40 * MIB;

/// A file at `/file` behind three redirects.
fn chain() -> Stage {
    let stage = Stage::new(LEN);
    stage.server.serve("/file", Content::pattern(pattern(), LEN));
    for (from, to) in [("/a.bin", "/b"), ("/b", "/c"), ("/c", "/file")] {
        stage.server.rule(from, Rule::new().redirect(302, to));
    }
    stage
}

fn short(stage: &Stage) -> FileReader {
    let params = stage.params().look_ahead(LookAhead::Bytes(16 * KIB));
    block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap()
}

/// Fault W21.
#[test]
fn w21_ten_jumps_walk_the_chain_once() {
    let stage = chain();
    let mut reader = short(&stage);
    for jump in 1..=10 {
        assert_at(&mut reader, jump * 3 * MIB, 4096);
    }
    assert!(stage.requests() <= 14, "{}", stage.requests());
}

/// Fault W21: a host that makes up a file for each visitor, here another one for each time the chain is walked.
#[test]
fn w21_a_file_made_for_the_visitor_stays_that_one() {
    let stage = Stage::new(LEN);
    stage.server.serve("/mine", Content::pattern(pattern(), LEN));
    stage
        .server
        .serve("/another", Content::pattern(&Pattern::new(77), LEN + 1));
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).redirect(302, "/mine"));
    stage.server.rule("/a.bin", Rule::new().redirect(302, "/another"));
    let mut reader = short(&stage);
    for jump in [20, 3, 38] {
        assert_at(&mut reader, jump * MIB, 4096);
    }
}

/// F5: a signature has run out, or the file has moved.
#[test]
fn w21_where_the_url_that_answered_refuses_the_chain_is_walked_again() {
    for status in [401, 403, 404, 410] {
        let stage = chain();
        let mut reader = short(&stage);
        assert_at(&mut reader, 0, 4096);
        stage.server.serve("/moved", Content::pattern(pattern(), LEN));
        let again = stage.server.log().to("/c").count();
        stage.server.clear_rules();
        stage.server.rule("/file", Rule::new().answer(status, ""));
        for (from, to) in [("/a.bin", "/b"), ("/b", "/c"), ("/c", "/moved")] {
            stage.server.rule(from, Rule::new().redirect(302, to));
        }
        assert_at(&mut reader, 20 * MIB, 4096);
        assert_eq!(stage.server.log().to("/c").count(), again + 1, "{status}");
        let before = stage.requests();
        assert_at(&mut reader, 30 * MIB, 4096);
        assert_eq!(stage.requests(), before + 1, "{status}");
    }
}

/// F5: the host that the chain led to is gone.
#[test]
fn w21_where_the_host_that_answered_is_gone_the_chain_is_walked_again() {
    let stage = Stage::new(LEN);
    let mirror = Server::empty().unwrap();
    mirror.serve("/file", Content::pattern(pattern(), LEN));
    let to_mirror = stage
        .server
        .rule("/a.bin", Rule::new().redirect(302, mirror.url("/file")));
    let mut reader = short(&stage);
    assert_at(&mut reader, 0, 4096);
    assert_eq!(stage.requests(), 1);
    mirror.stop();
    to_mirror.remove();
    assert_at(&mut reader, 20 * MIB, 4096);
    assert_eq!(stage.requests(), 2);
}
