//! What `Access` says is kept: names of entries (H10), headers by origin (N10), and what goes without client or cache.

use futures_lite::future;
use kithara::cache::AssetId;
use kithara::hls::{
    Access, Bypass, EntryNames, HlsControl, HlsError, HlsParams, ResourceKind, VariantChoice,
};
use kithara_test_support::{Rule, Server};

use crate::rig::{Cache, KEY, Track, builder, encrypt, media_requests, offline, online, play, url};

/// A tree whose every URL carries the token of the day: a Multivariant Playlist at `/master.m3u8`, a Media Playlist with
/// two keys, told apart by `id`, and an initialization section. Plays `i0s0s1`.
fn signed(server: &Server, token: &str) -> String {
    let playlists = [
        (
            "/master.m3u8",
            format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8?token={token}\n"),
        ),
        (
            "/list.m3u8",
            format!(
                "#EXTM3U\n#EXT-X-MAP:URI=\"i0?token={token}\"\n\
                 #EXT-X-KEY:METHOD=AES-128,URI=\"key?id=0&token={token}\"\n#EXTINF:6,\ns0?token={token}\n\
                 #EXT-X-KEY:METHOD=AES-128,URI=\"key?token={token}&id=1\"\n#EXTINF:6,\ns1?token={token}\n#EXT-X-ENDLIST"
            ),
        ),
    ];
    for (path, text) in playlists {
        server.serve_bytes(path, text.into_bytes());
    }
    server.serve_bytes("/i0", *b"i0");
    for (index, key) in [KEY, [7; 16]].into_iter().enumerate() {
        server.serve_bytes(
            format!("/s{index}"),
            encrypt(format!("s{index}").as_bytes(), key, index as u128),
        );
        for query in [
            format!("id={index}&token={token}"),
            format!("token={token}&id={index}"),
        ] {
            server.rule(format!("/key?{query}"), Rule::new().answer(200, key));
        }
    }
    format!("{}?token={token}", server.url("/master.m3u8"))
}

/// Fault W6, H10: kept under yesterday's token, played under today's: playlists, section, keys and segments.
#[test]
fn a_track_kept_under_one_token_plays_under_another() {
    for names in [
        EntryNames::parameters(["id"]),
        EntryNames::from_fn(|url| {
            let id = url.query_pairs().find(|(name, _)| name == "id");
            format!(
                "{}#{}",
                url.path(),
                id.map(|(_, id)| id.into_owned()).unwrap_or_default()
            )
        }),
    ] {
        let server = Server::empty().unwrap();
        let cache = Cache::new();
        let params = || cache.word_params().entry_names(names.clone());
        let yesterday = signed(&server, "old");
        assert_eq!(play(&yesterday, params(), online()).whole().bytes, b"i0s0s1");
        let requests = media_requests(&server);
        let today = signed(&server, "new");
        // Online nothing is fetched a second time, offline nothing is missing.
        assert_eq!(play(&today, params(), online()).whole().bytes, b"i0s0s1");
        assert_eq!(media_requests(&server), requests, "{names:?}");
        // Also where the playlists come anew, with the tokens of today in every line.
        let asset = AssetId::from_url(&url(&today));
        for path in ["/master.m3u8", "/list.m3u8"] {
            let entry = names.entry(&url(&server.url(path)), None);
            assert!(future::block_on(cache.cache.contains(&asset, &entry)).unwrap());
            future::block_on(cache.cache.remove_entry(&asset, &entry)).unwrap();
        }
        assert_eq!(play(&today, params(), online()).whole().bytes, b"i0s0s1");
        assert_eq!(media_requests(&server), requests, "{names:?}");
        server.stop();
        assert_eq!(play(&today, params(), offline()).whole().bytes, b"i0s0s1");
        // The whole URL, which is the default, is another name each day.
        let tape = play(&today, cache.word_params(), offline());
        assert!(tape.failed().is_offline_miss());
    }
}

/// Fault W6: the case as it was met, segments alone signed, without the query at all.
#[test]
fn signed_segments_are_found_without_their_query() {
    let track = Track::plain(&[1000, 2000]);
    let list = |token: u32| {
        let text =
            format!("#EXTM3U\n#EXTINF:6,\n0.ts?sig={token}\n#EXTINF:6,\n1.ts?sig={token}\n#EXT-X-ENDLIST");
        track.server.serve_bytes("/t/signed.m3u8", text.into_bytes());
        format!("{}?sig={token}", track.server.url("/t/signed.m3u8"))
    };
    let cache = Cache::new();
    let params = || cache.word_params().entry_names(EntryNames::without_query());
    let first = list(1);
    assert_eq!(play(&first, params(), online()).whole().bytes, track.bytes());
    // The playlist in the cache still has the signatures of the first day.
    let second = list(2);
    track.server.stop();
    assert_eq!(play(&second, params(), offline()).whole().bytes, track.bytes());
}

/// H10: two resources under one name are refused before the first byte, and nothing of them is fetched.
#[test]
fn two_resources_of_a_playlist_under_one_name_are_refused() {
    let segments = "#EXTINF:6,\ns?part=1\n#EXTINF:6,\ns?part=2\n";
    let keys = "#EXT-X-KEY:METHOD=AES-128,URI=\"k?id=1\"\n#EXTINF:6,\na\n\
                #EXT-X-KEY:METHOD=AES-128,URI=\"k?id=2\"\n#EXTINF:6,\nb\n";
    let maps = "#EXT-X-MAP:URI=\"i?v=1\"\n#EXTINF:6,\na\n#EXT-X-MAP:URI=\"i?v=2\"\n#EXTINF:6,\nb\n";
    let itself = "#EXTINF:6,\nlist.m3u8?part=1\n";
    for (lines, kinds) in [
        (
            segments,
            [
                ResourceKind::Segment { media_sequence: 0 },
                ResourceKind::Segment { media_sequence: 1 },
            ],
        ),
        (keys, [ResourceKind::Key; 2]),
        (maps, [ResourceKind::InitializationSection; 2]),
        (
            itself,
            [
                ResourceKind::Playlist,
                ResourceKind::Segment { media_sequence: 0 },
            ],
        ),
    ] {
        let server = Server::empty().unwrap();
        let text = format!("#EXTM3U\n{lines}#EXT-X-ENDLIST");
        server.serve_bytes("/list.m3u8", text.into_bytes());
        let params = Cache::new()
            .word_params()
            .entry_names(EntryNames::without_query());
        let tape = play(&server.url("/list.m3u8"), params, online());
        let HlsError::SameName { first, second } = tape.failed() else {
            panic!("{lines}: {:?}", tape.error)
        };
        assert_eq!([first.kind(), second.kind()], kinds, "{lines}");
        assert_eq!((tape.bytes.len(), server.requests().len()), (0, 1), "{lines}");
    }
}

/// H10: a Variant Stream that is not played today may be played tomorrow.
#[test]
fn two_playlists_under_one_name_are_refused_whichever_plays() {
    let server = Server::empty().unwrap();
    let master =
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nl.m3u8?q=1\n#EXT-X-STREAM-INF:BANDWIDTH=2\nl.m3u8?q=2\n";
    server.serve_bytes("/m.m3u8", master.as_bytes());
    server.serve_bytes("/l.m3u8", *b"#EXTM3U\n#EXTINF:6,\ns\n#EXT-X-ENDLIST");
    server.serve_bytes("/s", *b"s");
    let play = |names: EntryNames| {
        let params = Cache::new().word_params().entry_names(names);
        play(
            &server.url("/m.m3u8"),
            params.variant(VariantChoice::Lowest),
            online(),
        )
    };
    let tape = play(EntryNames::without_query());
    assert!(
        matches!(tape.failed(), HlsError::SameName { .. }),
        "{:?}",
        tape.error
    );
    assert_eq!(play(EntryNames::parameters(["q"])).whole().bytes, b"s");
}

/// What one playlist names twice is one resource, under one name.
#[test]
fn one_resource_named_twice_is_no_conflict() {
    let server = Server::empty().unwrap();
    let text = "#EXTM3U\n#EXT-X-MAP:URI=\"i?t=1\"\n#EXTINF:6,\ns?t=1\n#EXT-X-DISCONTINUITY\n#EXTINF:6,\ns?t=1#again\n\
        #EXTINF:6,\n#EXT-X-BYTERANGE:1@0\nr?t=1\n#EXTINF:6,\n#EXT-X-BYTERANGE:1@1\nr?t=2\n#EXT-X-ENDLIST";
    server.serve_bytes("/list.m3u8", text.as_bytes());
    for name in ["i", "s"] {
        server.serve_bytes(format!("/{name}"), name.as_bytes());
    }
    server.serve_bytes("/r", *b"12");
    let params = Cache::new()
        .word_params()
        .entry_names(EntryNames::without_query());
    let tape = play(&server.url("/list.m3u8"), params, online()).whole();
    assert_eq!(tape.bytes, b"isis12");
}

/// N10: a header of the source goes to the host of its URL, key and playlist included, and to no other.
#[test]
fn headers_of_a_source_go_to_its_own_host_only() {
    let track = Track::encrypted(&[1000, 2000]);
    let elsewhere = Track::encrypted(&[1000, 2000]);
    let list = format!(
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n#EXTINF:6,\n0.ts\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"{}\"\n#EXTINF:6,\n{}\n#EXT-X-ENDLIST",
        elsewhere.server.url("/t/key"),
        elsewhere.server.url("/t/1.ts"),
    );
    track.server.serve_bytes("/t/two.m3u8", list.into_bytes());
    let cache = Cache::new();
    let params = cache
        .word_params()
        .header("authorization", "s3cret")
        .header("x-license", "of the source")
        .key_header("x-license", "of the key");
    assert!(!format!("{params:?}").contains("s3cret"));
    let tape = play(&track.server.url("/t/two.m3u8"), params, online()).whole();
    assert_eq!(tape.bytes, track.bytes());
    for (server, own) in [(&track.server, true), (&elsewhere.server, false)] {
        assert!(!server.requests().is_empty());
        for request in server.requests() {
            assert_eq!(
                request.header("authorization"),
                own.then_some("s3cret"),
                "{}",
                request.path
            );
            let license = match request.path_only() {
                "/t/key" => Some("of the key"),
                _ => own.then_some("of the source"),
            };
            assert_eq!(request.header("x-license"), license, "{}", request.path);
        }
    }
}

/// N10: nor where a redirect leads.
#[test]
fn headers_of_a_source_do_not_follow_a_redirect() {
    let track = Track::plain(&[1000, 2000]);
    let elsewhere = Track::plain(&[1000, 2000]);
    track.server.rule(
        "/t/1.ts",
        Rule::new().redirect(302, elsewhere.server.url("/t/1.ts")),
    );
    let params = Cache::new().word_params().header("x-token", "s3cret");
    assert_eq!(play(&track.list(), params, online()).whole().bytes, track.bytes());
    let sent = |server: &Server| {
        let requests = server.requests();
        let tokens = requests.iter().map(|request| request.header("x-token").is_some());
        tokens.collect::<Vec<_>>()
    };
    assert_eq!(
        (sent(&track.server), sent(&elsewhere.server)),
        (vec![true; 3], vec![false])
    );
}

/// C16: without a cache the track plays, and one message says that nothing is kept.
#[test]
fn without_a_cache_nothing_is_kept() {
    let track = Track::encrypted(&[1000, 2000]);
    let params = || HlsParams::with_access(Access::default().client(builder().build().unwrap()));
    let tape = play(&track.list(), params(), online()).whole();
    assert_eq!((tape.bytes.clone(), tape.bypasses()), (track.bytes(), 1));
    let reason = tape.controls.iter().find_map(|control| match control {
        HlsControl::CacheBypassed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(matches!(reason, Some(Bypass::NoCache)));
    assert!(
        play(&track.list(), params(), offline())
            .failed()
            .is_offline_miss()
    );
}

/// Without a client what is kept plays; what is not has a name.
#[test]
fn without_a_client_only_what_is_kept_plays() {
    let track = Track::encrypted(&[1000, 2000]);
    let cache = Cache::new();
    play(&track.list(), cache.word_params(), online()).whole();
    let params = || HlsParams::with_access(Access::default().cache(cache.cache.clone()));
    for mode in [online(), offline()] {
        assert_eq!(play(&track.list(), params(), mode).whole().bytes, track.bytes());
    }
    future::block_on(cache.cache.clear()).unwrap();
    let tape = play(&track.list(), params(), online());
    assert!(
        matches!(tape.failed(), HlsError::NoClient { resource } if resource.kind() == ResourceKind::Playlist),
        "{:?}",
        tape.error
    );
    assert!(
        play(&track.list(), params(), offline())
            .failed()
            .is_offline_miss()
    );
}
