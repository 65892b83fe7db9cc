//! Fault W33, H18: `data:` URIs of keys, sections, segments and playlists, and playlists that the app brings itself.

use futures_lite::future;
use kithara::hls::{Access, EntryNames, HlsError, HlsParams, HlsSource, PlaylistError, VariantChoice};
use kithara::media::Verdict;
use kithara_test_support::Server;

use crate::rig::{Cache, KEY, Tape, drain, encrypt, files, files_below, offline, online, open_at, play, url};

/// `bytes` as a `data:` URI, percent-encoded.
fn data(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("%{byte:02x}"));
    format!("data:application/octet-stream,{}", digits.collect::<String>())
}

fn serve(server: &Server, path: &str, text: &str) -> String {
    server.serve_bytes(path, text.as_bytes());
    server.url(path)
}

fn played(tape: Tape) -> (String, usize) {
    let tape = tape.whole();
    let bypasses = tape.bypasses();
    (String::from_utf8(tape.bytes).unwrap(), bypasses)
}

/// A playlist with everything in it plays with neither network nor cache, and nothing of it is kept.
#[test]
fn what_stands_in_the_playlist_needs_neither_network_nor_cache() {
    let secret = encrypt(b"secret", KEY, 9);
    for (lines, bytes) in [
        // 02-key-in-data-uri.m3u8
        (
            format!(
                "#EXT-X-KEY:METHOD=AES-128,URI=\"data:text/plain;base64,c2l4dGVlbiAgbGV0dGVycw==\",IV=0x9\n#EXTINF:6,\n{}",
                data(&secret)
            ),
            "secret",
        ),
        // 03-map-and-segment-in-data-uri.m3u8
        (
            "#EXT-X-MAP:URI=\"data:video/mp4;base64,c2VjdGlvbg==\"\n#EXTINF:6,\ndata:video/mp2t;base64,c2VnbWVudA==".into(),
            "sectionsegment",
        ),
        // Ranges of one URI, with a fragment.
        (
            "#EXT-X-MAP:URI=\"data:;x=y,abcdef\",BYTERANGE=\"2@0\"\n#EXTINF:6,\ndata:,s0\n\
             #EXTINF:6,\n#EXT-X-BYTERANGE:2@1\ndata:,0123#f\n#EXTINF:6,\n#EXT-X-BYTERANGE:1\ndata:,0123#f"
                .into(),
            "abs0123",
        ),
        // A section that is encrypted, and a segment that is not.
        (
            format!(
                "#EXT-X-KEY:METHOD=AES-128,URI=\"{}\",IV=0x9\n#EXT-X-MAP:URI=\"{}\"\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:6,\ndata:,%20plain",
                data(&KEY),
                data(&secret)
            ),
            "secret plain",
        ),
    ] {
        let text = format!("#EXTM3U\n{lines}\n#EXT-X-ENDLIST\n");
        let server = Server::empty().unwrap();
        let list = serve(&server, "/list.m3u8", &text);
        let cache = Cache::new();
        assert_eq!(played(play(&list, cache.word_params(), online())), (bytes.into(), 0), "{lines}");
        assert_eq!(server.requests().len(), 1, "{lines}");
        assert_eq!(played(play(&list, cache.word_params(), offline())), (bytes.into(), 0), "{lines}");
        assert_eq!(files(&cache), 1, "{lines}");
        // The playlist too, and nothing to fetch or keep it with.
        let whole = data(text.as_bytes());
        let params = HlsParams::with_access(Access::default().judge(|_| Verdict::Media));
        assert_eq!(played(play(&whole, params, offline())), (bytes.into(), 0), "{lines}");
    }
}

/// A comma ends an unquoted value, and with it the bytes of a `data:` URI: an error that shows none of them.
#[test]
fn what_cannot_be_decoded_is_an_error_without_its_bytes() {
    for uri in [
        "data:;base64,secret",
        "\"data:;base64,secret!\"",
        "\"data:secret\"",
    ] {
        let list = format!("#EXTM3U\n#EXT-X-MAP:URI={uri}\n#EXTINF:6,\ndata:,a\n#EXT-X-ENDLIST\n");
        let tape = play(
            &data(list.as_bytes()),
            HlsParams::with_access(Access::default()),
            online(),
        );
        assert!(
            matches!(tape.failed(), HlsError::DataUri { .. }),
            "{}",
            tape.failed()
        );
        assert!(
            !format!("{0} {0:?}", tape.failed()).contains("secret"),
            "{}",
            tape.failed()
        );
    }
}

/// H10: the app's rule for names is for what is kept. It is shown no key, and mixes up no two URIs.
#[test]
fn names_of_entries_do_not_concern_data_uris() {
    let list = "#EXTM3U\n#EXTINF:6,\ndata:,a?1\n#EXTINF:6,\ndata:,a?2\n#EXT-X-ENDLIST\n";
    let shown = |url: &kithara::net::Url| {
        assert_ne!(url.scheme(), "data");
        url.path().to_owned()
    };
    for names in [EntryNames::without_query(), EntryNames::from_fn(shown)] {
        let access = Access::default().judge(|_| Verdict::Media);
        let params = HlsParams::with_access(access).entry_names(names);
        let mut source = HlsSource::from_playlist(list, url("http://h/list.m3u8"), params);
        let tape = future::block_on(drain(open_at(&mut source, 0, &offline())));
        assert_eq!(played(tape), ("a?1a?2".into(), 0));
    }
}

/// A Media Playlist in a Multivariant Playlist: its URLs are the ones that stand beside it.
#[test]
fn a_media_playlist_in_a_data_uri_resolves_as_the_playlist_that_names_it() {
    let server = Server::empty().unwrap();
    serve(&server, "/deep/a.ts", "deep");
    serve(&server, "/other/a.ts", "other");
    let media = "#EXTM3U\n#EXT-X-DEFINE:IMPORT=\"v\"\n#EXTINF:6,\n{$v}.ts\n#EXT-X-ENDLIST\n";
    let master = format!(
        "#EXTM3U\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"a\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n",
        data(media.as_bytes())
    );
    let master = serve(&server, "/deep/master.m3u8", &master);
    let cache = Cache::new();
    for mode in [online(), offline()] {
        assert_eq!(
            played(play(&master, cache.word_params(), mode)),
            ("deep".into(), 0)
        );
    }
    // The master and the segment. The Media Playlist is in the master.
    assert_eq!(files(&cache), 2);
    let params = cache.word_params().base_url(url(&server.url("/other/")));
    assert_eq!(played(play(&master, params, online())).0, "other");
    // By itself it has nothing to resolve against, unless the app says so.
    let alone = data(b"#EXTM3U\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n");
    let tape = play(&alone, cache.word_params(), online());
    assert!(matches!(
        tape.failed(),
        HlsError::Playlist {
            source: PlaylistError::Malformed { line: 3, .. },
            ..
        }
    ));
    let params = cache.word_params().base_url(url(&server.url("/other/")));
    assert_eq!(played(play(&alone, params, online())).0, "other");
}

/// H5: what stands in the playlist is there, so a Variant Stream of it is whole offline.
#[test]
fn offline_a_variant_in_data_uris_is_cached() {
    let server = Server::empty().unwrap();
    let media = |segment: &str| {
        format!(
            "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"{}\",IV=0x0\n#EXTINF:6,\n{segment}\n#EXT-X-ENDLIST\n",
            data(&KEY)
        )
    };
    let low = data(media(&data(&encrypt(b"low", KEY, 0))).as_bytes());
    let high = data(media("high.ts").as_bytes());
    let master =
        format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\n{high}\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{low}\n");
    let master = serve(&server, "/master.m3u8", &master);
    let cache = Cache::new();
    let params = || cache.word_params().variant(VariantChoice::Highest);
    // The high one is not to be had, and the low one plays in its place.
    assert_eq!(played(play(&master, params(), online())), ("low".into(), 0));
    assert_eq!(played(play(&master, params(), offline())), ("low".into(), 0));
}

/// H4, C14: a wrapped key in the playlist is unwrapped, and neither form reaches disk, error or message.
#[test]
fn a_wrapped_key_in_a_data_uri_is_processed() {
    let server = Server::empty().unwrap();
    let wrapped: Vec<u8> = KEY.iter().map(|byte| byte ^ 1).collect();
    server.serve_bytes("/0.ts", encrypt(b"bytes", KEY, 0));
    let list = serve(
        &server,
        "/list.m3u8",
        &format!(
            "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"{}\"\n#EXTINF:6,\n0.ts\n#EXT-X-ENDLIST\n",
            data(&wrapped)
        ),
    );
    let cache = Cache::new();
    let unwrap = |bytes: bytes::Bytes, _: &kithara::hls::KeyContext| {
        Ok(bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>().into())
    };
    for mode in [online(), offline()] {
        let tape = play(&list, cache.word_params().key_processor(unwrap), mode);
        assert_eq!(played(tape), ("bytes".into(), 0));
    }
    for file in files_below(cache.dir.path()) {
        let bytes = std::fs::read(file).unwrap();
        assert!(!bytes.windows(16).any(|window| window == KEY || window == wrapped));
    }
    // Of a wrong length, and above the limit.
    let tape = play(&list, cache.word_params().max_key_bytes(15), offline());
    assert!(
        matches!(tape.failed(), HlsError::DataUri { .. }),
        "{}",
        tape.failed()
    );
    let shown = format!("{0} {0:?}", tape.failed());
    assert!(!shown.contains('%') && shown.contains("data: ("), "{shown}");
    let short = |_: bytes::Bytes, _: &kithara::hls::KeyContext| Ok(bytes::Bytes::from_static(b"short"));
    let tape = play(&list, cache.word_params().key_processor(short), offline());
    assert!(matches!(tape.failed(), HlsError::KeyLength { length: 5, .. }));
}

/// A range beyond the bytes of a URI is as wrong as one beyond a file's.
#[test]
fn a_range_beyond_a_data_uri_is_an_error() {
    let list = data(b"#EXTM3U\n#EXTINF:6,\n#EXT-X-BYTERANGE:5@2\ndata:,0123\n#EXT-X-ENDLIST\n");
    let tape = play(&list, HlsParams::with_access(Access::default()), offline());
    assert!(
        matches!(tape.failed(), HlsError::Length { expected: 5, .. }),
        "{}",
        tape.failed()
    );
}

/// The app's own playlist is not asked for and not kept; what it names is.
#[test]
fn a_playlist_that_the_app_brings_plays_online_and_offline() {
    let server = Server::empty().unwrap();
    for name in ["0", "1"] {
        serve(&server, &format!("/t/{name}.ts"), name);
    }
    serve(
        &server,
        "/t/media.m3u8",
        "#EXTM3U\n#EXTINF:6,\n1.ts\n#EXT-X-ENDLIST\n",
    );
    let base = url(&server.url("/t/list.m3u8"));
    for (text, expected, kept) in [
        (
            "#EXTM3U\n#EXTINF:6,\n0.ts\n#EXTINF:6,\n1.ts\n#EXT-X-ENDLIST\n",
            "01",
            2,
        ),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia.m3u8\n", "1", 2),
    ] {
        let cache = Cache::new();
        for mode in [online(), offline()] {
            let mut source = HlsSource::from_playlist(text, base.clone(), cache.word_params());
            let tape = future::block_on(drain(open_at(&mut source, 0, &mode)));
            assert_eq!(played(tape), (expected.into(), 0));
            assert_eq!(source.asset(), &kithara::cache::AssetId::from_url(&base));
        }
        assert_eq!(files(&cache), kept);
    }
    assert_eq!(server.log().to("/t/list.m3u8").count(), 0);
    let mut source = HlsSource::from_playlist("<html>", base, Cache::new().params());
    let tape = future::block_on(drain(open_at(&mut source, 0, &online())));
    assert!(matches!(
        tape.failed(),
        HlsError::Playlist {
            source: PlaylistError::NotAPlaylist { .. },
            ..
        }
    ));
}
