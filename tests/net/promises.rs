//! N1 to N7, where table D does not prove them already.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_lite::future;
use kithara::net::{Body, ByteRange, HttpClient, NetError, Phase, Request, Response, RetryPolicy, Url};
use kithara_test_support::{Content, Rule, Server};

use crate::{builder, client, fetch, one_try, pattern, server_with, url};

const MIB: usize = 1 << 20;

/// N1.
#[test]
fn n1_each_status_that_is_no_success_is_an_error_with_its_code() {
    let server = server_with(10);
    for status in [300, 304, 400, 401, 403, 404, 410, 416, 418, 500, 503, 599] {
        let rule = server.rule("/a.bin", Rule::new().answer(status, "<html>"));
        let error = fetch(&one_try(), Request::get(url(&server, "/a.bin"))).unwrap_err();
        assert!(
            matches!(error, NetError::Status { status: s, .. } if s == status),
            "{error}"
        );
        assert_eq!(error.is_not_found(), status == 404 || status == 410);
        rule.remove();
    }
}

/// N2: nobody takes the connection from the listener's queue, and there is no room in it for one more.
#[cfg(target_os = "linux")]
#[test]
fn n2_connecting_has_a_limit() {
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let _fills_the_queue = std::net::TcpStream::connect(addr).unwrap();
    let limit = Duration::from_millis(30);
    let client = builder()
        .connect_timeout(limit)
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let url = Url::parse(&format!("http://{addr}/")).unwrap();
    let error = fetch(&client, Request::get(url)).unwrap_err();
    assert!(
        matches!(error, NetError::Timeout { phase: Phase::Connect, limit: l, .. } if l == limit),
        "{error}"
    );
    assert!(error.is_transient());
}

/// N2: from the announced length as from the body itself.
#[test]
fn n2_a_body_read_whole_is_limited_after_decompression_too() {
    let server = Server::empty().unwrap();
    let gzip = |plain: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    server.serve_bytes("/bomb", gzip(&vec![0; 10 << 20]));
    server.serve_bytes("/list", gzip(b"#EXTM3U"));
    server.rule("/*", Rule::new().header("content-encoding", "gzip"));
    future::block_on(async {
        async fn read(client: HttpClient, url: Url) -> Result<bytes::Bytes, NetError> {
            client
                .send(Request::get(url).compressed())
                .await?
                .bytes(64 << 10)
                .await
        }
        assert_eq!(read(client(), url(&server, "/list")).await.unwrap(), "#EXTM3U");
        let error = read(client(), url(&server, "/bomb")).await.unwrap_err();
        assert!(
            matches!(error, NetError::TooLarge { limit: 65_536, .. }),
            "{error}"
        );
    });
}

/// N2: a length is no reason to allocate. This one is of a petabyte; fault B12 aborted on it.
#[test]
fn n2_an_announced_length_allocates_nothing() {
    let server = server_with(1000);
    server.rule("/a.bin", Rule::new().content_length(1 << 50).without_validators());
    future::block_on(async {
        let response = one_try()
            .send(Request::get(url(&server, "/a.bin")))
            .await
            .unwrap();
        assert_eq!(response.content_length(), Some(1 << 50));
        let error = response.bytes(usize::MAX).await.unwrap_err();
        assert!(
            matches!(error, NetError::Interrupted { received: 1000, .. }),
            "{error}"
        );
    });
}

/// N3: 429 is waited out as long as the server asks, in seconds, unless that is too long.
#[test]
fn n3_retry_after_is_kept_to() {
    let server = server_with(1000);
    server.rule(
        "/a.bin",
        Rule::new().first(1).answer(429, "").header("retry-after", "1"),
    );
    let started = Instant::now();
    assert_eq!(
        fetch(&client(), Request::get(url(&server, "/a.bin")))
            .unwrap()
            .len(),
        1000
    );
    assert!(started.elapsed() >= Duration::from_secs(1));
    let too_long = server.rule(
        "/a.bin",
        Rule::new().answer(429, "").header("retry-after", "3600"),
    );
    let error = fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap_err();
    assert_eq!(
        (error.retry_after(), too_long.hits()),
        (Some(Duration::from_secs(3600)), 1)
    );
}

/// N3: what is not going to pass is not tried again; what may is, as often as the policy says.
#[test]
fn n3_only_what_may_pass_is_tried_again() {
    let server = server_with(10);
    for (status, tries) in [
        (400, 1),
        (401, 1),
        (403, 1),
        (404, 1),
        (408, 6),
        (429, 6),
        (500, 6),
        (502, 6),
        (503, 6),
    ] {
        let rule = server.rule("/a.bin", Rule::new().answer(status, ""));
        fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap_err();
        assert_eq!(rule.hits(), tries, "{status}");
        rule.remove();
    }
    let nobody = server_with(0);
    nobody.stop();
    let error = fetch(&client(), Request::get(url(&nobody, "/"))).unwrap_err();
    assert!(
        matches!(error, NetError::Connect { .. }) && error.is_transient(),
        "{error}"
    );
}

/// N3: a file that `Last-Modified` alone tells apart is resumed by it.
#[test]
fn n3_a_date_resumes_where_there_is_no_tag() {
    let server = server_with(MIB);
    let date = "Wed, 01 Jan 2025 00:00:00 GMT";
    let with_clock = Rule::new().without_header("etag").header("date", date);
    server.rule("/a.bin", with_clock.clone().first(1).truncate_after(1000));
    server.rule("/a.bin", with_clock);
    let bytes = fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap();
    assert_eq!(bytes, pattern().range(0, MIB));
    assert!(server.requests()[1].header("if-range").unwrap().ends_with("GMT"));
}

/// N3: within a range the rest of that range is asked for, and no more.
#[test]
fn n3_a_part_is_resumed_within_its_range() {
    let server = server_with(MIB);
    server.rule("/a.bin", Rule::new().first(1).truncate_after(1000));
    let range = ByteRange::new(5000, 50_000);
    let bytes = fetch(&client(), Request::get(url(&server, "/a.bin")).range(range)).unwrap();
    assert_eq!(bytes, pattern().range(5000, 45_000));
    assert_eq!(server.requests()[1].header("range"), Some("bytes=6000-49999"));
}

/// N3, fault D2: a server that knows the file but no ranges is skipped through when resuming, if that is cheap.
#[test]
fn n3_without_ranges_a_resume_skips_or_gives_up() {
    for (at, resumes) in [(100_000, true), (400_000, false)] {
        let server = server_with(MIB);
        server.rule("/a.bin", Rule::new().ignore_range().first(1).truncate_after(at));
        server.rule("/a.bin", Rule::new().ignore_range());
        let outcome = fetch(&client(), Request::get(url(&server, "/a.bin")));
        match outcome {
            Ok(bytes) => assert!(resumes && bytes == pattern().range(0, MIB)),
            Err(NetError::RangeIgnored { start, .. }) => assert!(!resumes && start == at),
            Err(error) => panic!("{error}"),
        }
    }
}

/// N4.
#[test]
fn n4_redirects_are_followed_as_far_as_allowed() {
    let server = server_with(10);
    for status in [301, 302, 303, 307, 308] {
        let rule = server.rule("/from", Rule::new().redirect(status, "a.bin"));
        assert_eq!(
            fetch(&client(), Request::get(url(&server, "/from")))
                .unwrap()
                .len(),
            10
        );
        future::block_on(client().send(Request::head(url(&server, "/from")))).unwrap();
        assert_eq!(server.requests().last().unwrap().method, "HEAD");
        rule.remove();
    }
    server.rule("/round", Rule::new().redirect(302, "/round"));
    let client = builder().max_redirects(3).build().unwrap();
    let asked = server.requests().len();
    let error = fetch(&client, Request::get(url(&server, "/round"))).unwrap_err();
    assert!(
        matches!(error, NetError::TooManyRedirects { limit: 3, .. }),
        "{error}"
    );
    assert_eq!(server.requests().len() - asked, 4);
    server.rule("/nowhere", Rule::new().answer(302, ""));
    let error = fetch(&client, Request::get(url(&server, "/nowhere"))).unwrap_err();
    assert!(matches!(error, NetError::InvalidRedirect { .. }), "{error}");
}

/// N4: playlists may come compressed, and nothing else.
#[test]
fn n4_only_compressed_requests_say_so() {
    let server = server_with(10);
    fetch(&client(), Request::get(url(&server, "/a.bin")).compressed()).unwrap();
    fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap();
    let encodings: Vec<_> = server
        .requests()
        .iter()
        .map(|r| r.header("accept-encoding").map(str::to_owned))
        .collect();
    assert_eq!(encodings, [Some("gzip".into()), Some("identity".into())]);
}

/// N7: what was meant for one server does not reach another, over any number of hops, and not on the way back either.
#[test]
fn n7_a_redirect_takes_no_credentials_to_another_origin() {
    let (home, away) = (server_with(1000), server_with(1000));
    home.rule("/here", Rule::new().redirect(302, "/out"));
    home.rule("/out", Rule::new().redirect(302, away.url("/there")));
    away.rule("/there", Rule::new().redirect(302, home.url("/a.bin")));
    let client = builder()
        .header("x-client-key", "secret-1")
        .user_agent("demo/1")
        .build()
        .unwrap();
    let mut start = url(&home, "/here");
    start.set_username("user").unwrap();
    start.set_password(Some("secret-2")).unwrap();
    let request = Request::get(start)
        .header("cookie", "secret-3")
        .range(ByteRange::new(0, 10));
    assert_eq!(fetch(&client, request).unwrap(), pattern().range(0, 10));
    let secrets = |server: &Server| -> Vec<usize> {
        let count = |headers: &[(String, String)]| {
            let secret =
                |(name, value): &&(String, String)| value.contains("secret") || name == "authorization";
            headers.iter().filter(secret).count()
        };
        server
            .requests()
            .iter()
            .map(|request| count(&request.headers))
            .collect()
    };
    assert_eq!(secrets(&home), [3, 3, 0], "here, out, and back");
    assert_eq!(secrets(&away), [0]);
    let there = &away.requests()[0];
    assert_eq!(
        (there.header("user-agent"), there.header("range")),
        (Some("demo/1"), Some("bytes=0-9"))
    );
}

/// N7.
#[test]
fn n7_a_requests_header_goes_before_the_clients() {
    let server = server_with(10);
    let client = builder()
        .header("X-A", "client")
        .header("X-B", "client")
        .build()
        .unwrap();
    fetch(
        &client,
        Request::get(url(&server, "/a.bin")).header("x-a", "request"),
    )
    .unwrap();
    let sent = &server.requests()[0];
    assert_eq!(
        (sent.header("x-a"), sent.header("x-b")),
        (Some("request"), Some("client"))
    );
    assert!(
        matches!(builder().header("a", "b\n").build(), Err(NetError::InvalidHeader { name }) if name == "a")
    );
}

/// C14: no error shows a query, a password or a header's value, however it is printed.
#[test]
fn c14_errors_show_no_secret() {
    let server = server_with(1000);
    let limit = Duration::from_millis(20);
    let client = builder()
        .header("x-key", "secret")
        .head_timeout(limit)
        .idle_timeout(limit)
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let faults = [
        Rule::new().answer(404, "secret"),
        Rule::new().never_answer(),
        Rule::new().stall_after(10),
        Rule::new().reset(),
        Rule::new().reset_after(10),
        Rule::new().truncate_after(10),
        Rule::new().redirect(302, "ftp://secret/secret"),
        Rule::new().redirect(302, "?secret"),
        Rule::new().header("content-encoding", "secret token"),
        Rule::new().serve_range(5, 6),
        Rule::new().header("content-length", "secret"),
    ];
    let mut start = url(&server, "/a.bin?token=secret#secret");
    start.set_username("secret").unwrap();
    start.set_password(Some("secret")).unwrap();
    let request = Request::get(start).header("cookie", "secret");
    for fault in faults {
        let fault = server.rule("/a.bin", fault);
        let error = fetch(&client, request.clone()).unwrap_err();
        let mut told = format!("{error:?} {error} {error:#?}");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            told.extend([error.to_string(), format!("{error:?}")]);
            cause = error.source();
        }
        assert!(!told.contains("secret"), "{told}");
        assert!(told.contains("/a.bin"), "{told}");
        fault.remove();
    }
    let told = format!("{client:?} {request:?} {:?}", builder().header("x-key", "secret"));
    assert!(!told.contains("secret"), "{told}");
    let response = future::block_on(crate::client().send(request)).unwrap();
    let told = format!("{response:?}") + &format!("{:?}", response.into_body());
    assert!(!told.contains("secret"), "{told}");
}

/// C14: nor does the log, at its most talkative.
#[test]
fn c14_the_log_shows_no_secret() {
    static TOLD: Mutex<String> = Mutex::new(String::new());
    struct Keep;
    impl log::Log for Keep {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            if record.target().starts_with("kithara") {
                TOLD.lock()
                    .unwrap()
                    .extend([record.args().to_string(), "\n".into()]);
            }
        }
        fn flush(&self) {}
    }
    log::set_logger(&Keep).expect("one process a test, or one such test in a process");
    log::set_max_level(log::LevelFilter::Trace);
    let server = server_with(1000);
    server.rule("/a.bin", Rule::new().first(1).answer(503, "secret"));
    server.rule(
        "/a.bin",
        Rule::new().first(1).redirect(302, "/b.bin?secret#secret"),
    );
    server.rule(
        "/b.bin",
        Rule::new()
            .first(1)
            .content(Content::bytes(*b"secret"))
            .truncate_after(3),
    );
    server.rule("/b.bin", Rule::new().first(1).answer(404, "secret"));
    let request = Request::get(url(&server, "/a.bin?secret")).header("x-key", "secret");
    fetch(&client(), request).unwrap_err();
    let told = TOLD.lock().unwrap();
    assert!(
        told.contains("503") && told.contains("/b.bin") && !told.contains("secret"),
        "{told}"
    );
}

/// What apps do with them across threads and executors.
#[test]
fn the_types_go_where_apps_take_them() {
    fn goes_anywhere<T: Send + 'static>() {}
    fn shared<T: Send + Sync + Clone + 'static>() {}
    goes_anywhere::<Body>();
    goes_anywhere::<Response>();
    goes_anywhere::<NetError>();
    shared::<HttpClient>();
    shared::<Request>();
}
