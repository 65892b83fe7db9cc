//! N12: heads as servers send them, and errors that say what came.

use futures_lite::future;
use kithara::net::{NetError, Request};
use kithara_test_support::Rule;

use crate::raw::Raw;
use crate::{client, fetch, one_try, pattern, server_with, url};

fn ok(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsound")
}

/// W24: words in the place of a coding, above bytes that are not coded.
#[test]
fn w24_words_that_are_no_coding_are_taken_as_identity() {
    let server = server_with(1000);
    for coding in [
        "none",
        "binary",
        "UTF-8",
        "utf8",
        "aws-chunked",
        "identity",
        "",
        "identity, none",
        "8bit",
    ] {
        let rule = server.rule("/a.bin", Rule::new().header("content-encoding", coding));
        for request in [
            Request::get(url(&server, "/a.bin")),
            Request::get(url(&server, "/a.bin")).compressed(),
        ] {
            assert_eq!(
                fetch(&client(), request).unwrap(),
                pattern().range(0, 1000),
                "{coding}"
            );
        }
        rule.remove();
    }
}

/// W24: a coding is named, unless it is no name.
#[test]
fn w24_a_coding_that_was_not_asked_for_is_named() {
    let server = server_with(1000);
    for (coding, told) in [
        ("br", "br"),
        ("aws-chunked, gzip", "gzip"),
        ("zstd", "zstd"),
        ("a token", "?"),
    ] {
        let rule = server.rule("/a.bin", Rule::new().header("content-encoding", coding));
        let error = fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        assert!(matches!(error, NetError::UnexpectedEncoding { coding, .. } if coding == told));
        rule.remove();
    }
}

/// W24: what browsers take.
#[test]
fn w24_odd_lines_of_a_head_are_passed_over() {
    let many: String = "Set-Cookie: c=1\r\n".repeat(150);
    for fields in [
        "no colon at all",
        "icy notice: <BR>This stream requires a player",
        "X-A : spaced",
        "X-A: folded\r\n  over two lines",
        "X-A: \u{1}control",
        ": no name",
        "X-\u{fc}ml\u{e4}ut: x",
        many.trim_end(),
    ] {
        let server = Raw::always(ok(fields));
        let response = future::block_on(client().send(Request::get(server.url())));
        let response = response.unwrap_or_else(|error| panic!("{fields:?}: {error}"));
        assert_eq!(response.content_length(), Some(5), "{fields:?}");
        assert_eq!(future::block_on(response.bytes(5)).unwrap(), "sound");
        assert_eq!(server.heads().len(), 1);
    }
    let spaced = Raw::always("HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nsound and more");
    assert_eq!(fetch(&client(), Request::get(spaced.url())).unwrap(), b"sound");
}

/// W24: what nobody can read says which line it is, is not asked for again, and shows no value.
#[test]
fn w24_a_head_that_cannot_be_read_says_where() {
    for (head, told) in [
        ("SSH-2.0-OpenSSH_9.6\r\n", Some("SSH-2.0-OpenSSH_9.6")),
        ("<html><body>\r\n\r\n", Some("<html><body>")),
        ("HTTP/1.1 2000 OK\r\n\r\n", Some("HTTP/1.1 2000 OK")),
        ("HTTP/3 200 OK\r\n\r\n", Some("HTTP/3 200 OK")),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nsecret",
            Some("content-length"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\nsecret",
            Some("content-length"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nsecret",
            Some("content-length"),
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret",
            Some("transfer-encoding"),
        ),
    ] {
        let server = Raw::always(head);
        let error = fetch(&client(), Request::get(server.url())).unwrap_err();
        match &error {
            NetError::InvalidHead { line, .. } => assert_eq!(line.as_deref(), told, "{head:?}"),
            other => panic!("{head:?}: {other:?}"),
        }
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("secret") && shown.contains(told.unwrap_or_default()),
            "{shown}"
        );
        assert!(!error.is_transient());
        assert_eq!(server.heads().len(), 1);
    }
}

/// N12: the top line says what was asked for and what came.
#[test]
fn n12_errors_say_what_came() {
    let server = server_with(1000);
    let told = |rule: Rule, request: Request| {
        let rule = server.rule("/a.bin", rule);
        let error = fetch(&one_try(), request).unwrap_err();
        rule.remove();
        assert_eq!(
            error.to_string().matches("http://").count(),
            1,
            "the URL once: {error}"
        );
        (error.to_string(), error)
    };
    let get = || Request::get(url(&server, "/a.bin"));
    let part = || get().range(kithara::net::ByteRange::new(10, 20));
    let (text, _) = told(Rule::new().answer(418, ""), get());
    assert!(text.ends_with("status 418"), "{text}");
    let (text, _) = told(Rule::new().content_range("bytes 90-99/1000"), part());
    assert!(
        text.contains("10..20") && text.contains("bytes 90-99/1000"),
        "{text}"
    );
    let (text, _) = told(Rule::new().without_header("content-range"), part());
    assert!(text.contains("206 without Content-Range"), "{text}");
    let (text, _) = told(Rule::new(), get().expect_total(2000));
    assert!(text.contains("2000") && text.contains("1000"), "{text}");
}

/// N12: what an app decides by.
#[test]
fn n12_predicates_tell_refused_from_gone_from_passing() {
    let server = server_with(1000);
    for (status, forbidden, gone, not_found, transient) in [
        (401, true, false, false, false),
        (402, true, false, false, false),
        (403, true, false, false, false),
        (404, false, false, true, false),
        (407, true, false, false, false),
        (408, false, false, false, true),
        (410, false, true, true, false),
        (425, false, false, false, true),
        (429, false, false, false, true),
        (451, true, false, false, false),
        (500, false, false, false, true),
        (501, false, false, false, false),
        (503, false, false, false, true),
        (505, false, false, false, false),
        (511, false, false, false, false),
        (522, false, false, false, true),
    ] {
        let rule = server.rule("/a.bin", Rule::new().answer(status, ""));
        let error = fetch(&one_try(), Request::get(url(&server, "/a.bin"))).unwrap_err();
        assert_eq!(
            (
                error.is_forbidden(),
                error.is_gone(),
                error.is_not_found(),
                error.is_transient()
            ),
            (forbidden, gone, not_found, transient),
            "{status}"
        );
        rule.remove();
    }
}
