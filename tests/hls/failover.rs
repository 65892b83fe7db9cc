//! W28, H14: one bad segment, list or host does not end a track: a redundant Variant Stream goes on, another one, or a gap.

use std::fmt::Write as _;

use kithara::hls::{HlsError, MissingSegment, VariantChoice};
use kithara_test_support::{Rule, Server};

use crate::published::body;
use crate::rig::{Cache, offline, online, play};

/// Three Variant Streams of four segments, the first and the second redundant, each on a server of its own.
struct Stage {
    servers: Vec<Server>,
}

const NAMES: [&str; 3] = ["main", "copy", "low"];

impl Stage {
    fn new() -> Self {
        let servers: Vec<_> = NAMES.iter().map(|_| Server::empty().unwrap()).collect();
        let mut master = "#EXTM3U\n".to_owned();
        for (server, (name, bandwidth)) in servers.iter().zip(NAMES.iter().zip([128_000, 128_000, 64_000])) {
            writeln!(
                master,
                "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"mp4a.40.2\"\n{}",
                server.url("/list.m3u8")
            )
            .unwrap();
            let mut list = "#EXTM3U\n".to_owned();
            for index in 0..4 {
                write!(list, "#EXTINF:6,\n{index}.ts\n").unwrap();
                server.serve_bytes(format!("/{index}.ts"), body(Self::of(name), index));
            }
            list.push_str("#EXT-X-ENDLIST\n");
            server.serve_bytes("/list.m3u8", list.into_bytes());
        }
        servers[2].serve_bytes("/master.m3u8", master.into_bytes());
        Self { servers }
    }

    /// A redundant Variant Stream has the same bytes.
    fn of(name: &str) -> &str {
        if name == "copy" { "main" } else { name }
    }

    fn url(&self) -> String {
        self.servers[2].url("/master.m3u8")
    }
}

fn bytes(parts: &[(&str, usize)]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|(name, index)| body(name, *index))
        .collect()
}

/// A segment that is refused, a page, too short, or whose host is away: the redundant Variant Stream goes on, and each segment is
/// heard once.
#[test]
fn w28_a_redundant_variant_goes_on() {
    let page = Rule::new().answer(200, "<html>Log in</html>");
    for (index, rule) in [
        (1, Rule::new().answer(404, "")),
        (0, Rule::new().answer(403, "")),
        (3, page),
        (2, Rule::new().answer(500, "")),
        (2, Rule::new().answer(200, "")),
    ] {
        for choice in [VariantChoice::First, VariantChoice::Index(0)] {
            let stage = Stage::new();
            stage.servers[0].rule(format!("/{index}.ts"), rule.clone());
            let cache = Cache::new();
            let tape = play(&stage.url(), cache.params().variant(choice), online()).whole();
            let whole = bytes(&[("main", 0), ("main", 1), ("main", 2), ("main", 3)]);
            assert!(tape.bytes == whole, "{index}: {:?}", tape.story);
            assert!(
                tape.story.iter().any(|line| line.ends_with("variant 1")),
                "{:?}",
                tape.story
            );
            // It stays there: nothing is asked of the other one again.
            let later = stage.servers[0].log().to(&format!("/{}.ts", index + 1)).count();
            assert!(later <= 1, "{later} requests behind segment {index}");
        }
    }
    for stops_list in [true, false] {
        let stage = Stage::new();
        if stops_list {
            stage.servers[0].stop();
        } else {
            // The list is there, and the host goes away behind it.
            stage.servers[0].rule("/0.ts", Rule::new().close());
        }
        let tape = play(&stage.url(), Cache::new().params(), online()).whole();
        assert!(
            tape.bytes == bytes(&[("main", 0), ("main", 1), ("main", 2), ("main", 3)]),
            "{:?}",
            tape.story
        );
    }
}

/// Where the redundant one lacks it too, another Variant Stream goes on at that segment; a part of it that was heard is heard
/// again.
#[test]
fn w28_another_variant_goes_on() {
    for (rule, heard) in [
        (
            Rule::new().answer(404, ""),
            &[("main", 0), ("low", 1), ("low", 2), ("low", 3)][..],
        ),
        (
            Rule::new().without_validators().truncate_after(700),
            &[("main", 0)],
        ),
    ] {
        let stage = Stage::new();
        for server in &stage.servers[..2] {
            server.rule("/1.ts", rule.clone());
        }
        let cache = Cache::new();
        let tape = play(&stage.url(), cache.params(), online()).whole();
        assert!(tape.bytes.starts_with(&bytes(heard)), "{:?}", tape.story);
        assert!(
            tape.bytes
                .ends_with(&bytes(&[("low", 1), ("low", 2), ("low", 3)])),
            "{:?}",
            tape.story
        );
        assert!(tape.story.iter().any(|line| line.ends_with("variant 2")));
        assert!(tape.story.iter().any(|line| line.contains("discontinuity")));
    }
    // The app has named one: no other is taken.
    let stage = Stage::new();
    stage.servers[0].rule("/1.ts", Rule::new().answer(404, ""));
    stage.servers[1].rule("/1.ts", Rule::new().answer(404, ""));
    let tape = play(
        &stage.url(),
        Cache::new().params().variant(VariantChoice::Index(0)),
        online(),
    );
    assert!(tape.failed().is_not_found());
    assert!(tape.bytes == bytes(&[("main", 0)]));
}

/// Where nobody has a segment the app's choice decides: the first error, or a gap that is told.
#[test]
fn w28_a_segment_that_nobody_has_is_an_error_or_a_gap() {
    for missing in [MissingSegment::Fail, MissingSegment::Gap] {
        let stage = Stage::new();
        for server in &stage.servers {
            server.rule("/1.ts", Rule::new().answer(404, ""));
        }
        let cache = Cache::new();
        let tape = play(&stage.url(), cache.params().missing_segment(missing), online());
        if missing == MissingSegment::Fail {
            let HlsError::Network { source, .. } = tape.failed() else {
                panic!()
            };
            // That of the Variant Stream that was chosen.
            let port = stage.servers[0].addr().port().to_string();
            assert!(source.to_string().contains(&port), "{source}");
            assert!(tape.bytes == bytes(&[("main", 0)]));
            continue;
        }
        let tape = tape.whole();
        assert!(
            tape.story.iter().any(|line| line.contains("gap")),
            "{:?}",
            tape.story
        );
        assert!(
            tape.bytes == bytes(&[("main", 0), ("low", 2), ("low", 3)]),
            "{:?}",
            tape.story
        );
        // Nothing is kept in its place.
        for server in &stage.servers {
            server.clear_rules();
        }
        let tape = play(&stage.url(), cache.params(), online()).whole();
        assert!(tape.bytes == bytes(&[("main", 0), ("main", 1), ("main", 2), ("main", 3)]));
    }
}

/// Offline nothing is tried instead, and where all hosts are away the error comes at once.
#[test]
fn w28_offline_and_without_any_host_nothing_is_tried() {
    let stage = Stage::new();
    let cache = Cache::new();
    let whole = play(&stage.url(), cache.params(), online()).whole();
    assert_eq!(
        whole.bytes.len(),
        bytes(&[("main", 0), ("main", 1), ("main", 2), ("main", 3)]).len()
    );
    for server in &stage.servers {
        server.stop();
    }
    assert!(play(&stage.url(), cache.params(), offline()).whole().bytes == whole.bytes);
    let low = play(
        &stage.url(),
        cache.params().variant(VariantChoice::Index(2)),
        offline(),
    );
    assert!(low.failed().is_offline_miss());
}

/// Playlists of one server, each with tags and segments of its own.
fn one_server(master: &str, lists: &[(&str, &str)]) -> Server {
    let server = Server::empty().unwrap();
    server.serve_bytes("/master.m3u8", format!("#EXTM3U\n{master}").into_bytes());
    for (name, list) in lists {
        server.serve_bytes(
            format!("/{name}.m3u8"),
            format!("#EXTM3U\n{list}#EXT-X-ENDLIST\n").into_bytes(),
        );
        for index in 0..4 {
            server.serve_bytes(format!("/{name}-{index}.ts"), body(name, index));
        }
        server.serve_bytes(format!("/{name}-init"), *b"ID3 section");
    }
    server
}

/// Both lack a segment, and each has an initialization section: it is tried once in each, and then the app's choice decides.
#[test]
fn w28_sections_in_front_do_not_have_it_tried_for_ever() {
    let master = "#EXT-X-STREAM-INF:BANDWIDTH=2\na.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb.m3u8\n";
    let list = |name: &str| {
        format!(
            "#EXT-X-MAP:URI=\"{name}-init\"\n#EXTINF:6,\n{name}-0.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:6,\n{name}-1.ts\n\
             #EXTINF:6,\n{name}-2.ts\n"
        )
    };
    for missing in [MissingSegment::Fail, MissingSegment::Gap] {
        let server = one_server(master, &[("a", &list("a")), ("b", &list("b"))]);
        for name in ["a", "b"] {
            server.rule(format!("/{name}-1.ts"), Rule::new().answer(404, ""));
        }
        let params = Cache::new().params().missing_segment(missing);
        let tape = play(&server.url("/master.m3u8"), params, online());
        assert!(server.log().to("/a-1.ts").count() <= 3, "{:?}", tape.story);
        if missing == MissingSegment::Fail {
            assert!(tape.failed().is_not_found());
            continue;
        }
        let tape = tape.whole();
        assert!(tape.bytes.ends_with(&body("b", 2)), "{:?}", tape.story);
        assert_eq!(tape.story.iter().filter(|line| line.contains("gap")).count(), 1);
    }
    // A section that nobody has cannot be left out.
    let server = one_server(master, &[("a", &list("a")), ("b", &list("b"))]);
    for name in ["a", "b"] {
        server.rule(format!("/{name}-init"), Rule::new().answer(404, ""));
    }
    let params = Cache::new().params().missing_segment(MissingSegment::Gap);
    assert!(
        play(&server.url("/master.m3u8"), params, online())
            .failed()
            .is_not_found()
    );
}

/// What is no alternative: a list that ends before, the same list under another Variant Stream, and video without sound.
#[test]
fn w28_what_cannot_go_on_is_not_tried() {
    let two = "#EXTINF:6,\na-0.ts\n#EXTINF:6,\na-1.ts\n";
    for (master, short) in [
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=2\na.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb.m3u8\n",
            "#EXTINF:6,\nb-0.ts\n",
        ),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=2\na.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n",
            "",
        ),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=2\na.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1.1\"\nb.m3u8\n",
            "#EXTINF:6,\nb-0.ts\n#EXTINF:6,\nb-1.ts\n",
        ),
    ] {
        let server = one_server(master, &[("a", two), ("b", short)]);
        server.rule("/a-1.ts", Rule::new().answer(404, ""));
        let tape = play(&server.url("/master.m3u8"), Cache::new().params(), online());
        assert!(tape.failed().is_not_found(), "{master}");
        assert!(tape.bytes == body("a", 0), "{master}: {:?}", tape.story);
    }
}

/// A track whose list is gone while another Variant Stream is there has no new edition: its copy plays, and what it lacks is heard
/// from the other one.
#[test]
fn w28_a_list_that_is_gone_is_no_new_edition() {
    let stage = Stage::new();
    let cache = Cache::new();
    let low = &stage.servers[2];
    stage.servers[0].rule("/2.ts", Rule::new().answer(404, ""));
    stage.servers[1].stop();
    play(&stage.url(), cache.params(), online()).whole();
    stage.servers[0].rule("/list.m3u8", Rule::new().answer(503, ""));
    let tape = play(&stage.url(), cache.params(), online());
    assert!(
        !tape.story.iter().any(|line| line.contains("edition")),
        "{:?}",
        tape.story
    );
    assert!(low.log().to("/list.m3u8").count() > 0);
}
