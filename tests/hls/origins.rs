//! Who gets which headers: a playlist may name any host (N10).

use kithara::hls::HlsParams;
use kithara::media::{Access, Verdict};
use kithara_test_support::Server;

use crate::rig::{Cache, builder, files_below, is_question, offline, online, play, url};

/// A playlist on one server whose URIs are as given, each with two bytes behind it.
fn track(server: &Server, uris: &[String]) -> String {
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
    for uri in uris {
        text.extend(["#EXTINF:6,\n", uri, "\n"]);
    }
    server.serve_bytes("/list.m3u8", format!("{text}#EXT-X-ENDLIST\n").into_bytes());
    server.url("/list.m3u8")
}

fn authorizations(server: &Server) -> Vec<(String, Option<String>)> {
    let requests = server.requests();
    let of = |request: &kithara_test_support::Recorded| {
        let value = request.header("authorization").map(str::to_owned);
        (request.path_only().to_owned(), value)
    };
    requests.iter().map(of).collect()
}

fn cdn() -> Server {
    let cdn = Server::empty().unwrap();
    cdn.serve_bytes("/c.ts", *b"cc");
    cdn
}

/// W16: a playlist writes its own origin out, and an account's name and password stand in the source's URL alone.
#[test]
fn w16_credentials_of_the_source_hold_for_urls_of_its_origin() {
    let (server, cdn) = (Server::empty().unwrap(), cdn());
    for (path, bytes) in [("/a.ts", *b"aa"), ("/b.ts", *b"bb")] {
        server.serve_bytes(path, bytes);
    }
    let uris = ["a.ts".to_owned(), server.url("/b.ts"), cdn.url("/c.ts")];
    let mut source = url(&track(&server, &uris));
    source.set_username("user").unwrap();
    source.set_password(Some("secret")).unwrap();
    let cache = Cache::new();
    let tape = play(source.as_str(), cache.word_params(), online()).whole();
    assert_eq!(tape.bytes, b"aabbcc");
    let basic = Some("Basic dXNlcjpzZWNyZXQ=".to_owned());
    assert!(
        authorizations(&server).iter().all(|(_, value)| *value == basic),
        "{:?}",
        authorizations(&server)
    );
    assert_eq!(authorizations(&cdn), [("/c.ts".to_owned(), None)]);
}

/// W16, C14: a redirected playlist is kept with the URL that it came from, without the credentials in it.
#[test]
fn w16_credentials_do_not_reach_the_disk() {
    let server = Server::empty().unwrap();
    server.serve_bytes("/a.ts", *b"aa");
    track(&server, &["a.ts".to_owned()]);
    server.rule(
        "/moved.m3u8",
        kithara_test_support::Rule::new().redirect(302, "/list.m3u8"),
    );
    let mut source = url(&server.url("/moved.m3u8"));
    source.set_username("user").unwrap();
    source.set_password(Some("secret-word")).unwrap();
    let cache = Cache::new();
    for _ in 0..2 {
        assert_eq!(
            play(source.as_str(), cache.word_params(), online()).whole().bytes,
            b"aa"
        );
    }
    // The second time everything came from the cache: the names are those of the first.
    // Questions whether they are of the same edition do not count.
    let requests = server.requests();
    let segments = requests
        .iter()
        .filter(|request| request.path == "/a.ts" && !is_question(request));
    assert_eq!(segments.count(), 1);
    assert_eq!(
        play(source.as_str(), cache.word_params(), offline())
            .whole()
            .bytes,
        b"aa"
    );
    let basic = Some("Basic dXNlcjpzZWNyZXQtd29yZA==".to_owned());
    assert!(authorizations(&server).iter().all(|(_, value)| *value == basic));
    for file in files_below(cache.dir.path()) {
        let bytes = std::fs::read(&file).unwrap();
        let has_secret = bytes.windows(11).any(|part| part == b"secret-word");
        assert!(!has_secret, "{}", file.display());
    }
}

/// W17: a header of the source stays with its origin, and an origin's header goes to that one.
#[test]
fn w17_each_host_of_a_playlist_gets_its_own_headers() {
    let (server, cdn) = (Server::empty().unwrap(), cdn());
    server.serve_bytes("/a.ts", *b"aa");
    let source = track(&server, &["a.ts".to_owned(), cdn.url("/c.ts")]);
    let of_client = builder()
        .origin_header(&url(&cdn.url("/")), "authorization", "cdn")
        .build()
        .unwrap();
    let cache = Cache::new();
    let access = Access::new(of_client, cache.cache.clone()).judge(|_| Verdict::Media);
    let params = HlsParams::with_access(access).header("authorization", "source");
    assert_eq!(play(&source, params, online()).whole().bytes, b"aacc");
    let own = Some("source".to_owned());
    assert!(authorizations(&server).iter().all(|(_, value)| *value == own));
    assert_eq!(
        authorizations(&cdn),
        [("/c.ts".to_owned(), Some("cdn".to_owned()))]
    );
}
