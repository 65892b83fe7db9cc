//! How much of a URL is shown. The setting is the process's, so this test has a process of its own.

#![cfg(feature = "net")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::sync::Mutex;

use futures_lite::future::block_on;
use kithara::net::{HttpClient, Request, RetryPolicy, Url, UrlDisplay, set_url_display};
use kithara_test_support::{Rule, Server};

static LOGGED: Mutex<String> = Mutex::new(String::new());

struct Keep;

impl log::Log for Keep {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("kithara") {
            LOGGED.lock().unwrap().push_str(&record.args().to_string());
        }
    }
    fn flush(&self) {}
}

/// W18: a token in the path, at each place where a URL is shown.
#[test]
fn w18_host_and_file_name_alone_are_shown_where_the_app_says_so() {
    log::set_logger(&Keep).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    set_url_display(UrlDisplay::HostAndFileName);
    let server = Server::empty().unwrap();
    server.serve_bytes("/secret/a.mp3", *b"sound");
    let client = HttpClient::builder().retry(RetryPolicy::none()).build().unwrap();
    let mut told = String::new();
    for rule in [
        Rule::new().answer(404, ""),
        Rule::new().redirect(302, "/secret/other/b.mp3"),
        Rule::new().reset(),
        Rule::new().serve_range(1, 2),
        Rule::new().truncate_after(2),
        Rule::new(),
    ] {
        let rule = server.rule("/secret/a.mp3", rule.first(1));
        let request = Request::get(Url::parse(&server.url("/secret/a.mp3")).unwrap());
        told.extend([format!("{request:?}")]);
        match block_on(client.send(request)) {
            Ok(response) => {
                told.extend([format!("{response:?}")]);
                if let Err(error) = block_on(response.bytes(5)) {
                    told.extend([format!("{error} {error:?}")]);
                }
            }
            Err(error) => told.extend([format!("{error} {error:?}")]),
        }
        assert_eq!(rule.hits(), 1);
    }
    told.push_str(&LOGGED.lock().unwrap());
    assert!(!told.contains("secret"), "{told}");
    assert!(told.contains("/…/a.mp3") && told.contains("/…/b.mp3"), "{told}");
}
