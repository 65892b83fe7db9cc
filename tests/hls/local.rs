//! Local playlists and local media (`file:` URLs).

use std::fs;
use std::path::Path;

use futures_lite::future;
use kithara::hls::{Access, HlsControl, HlsError, HlsParams, HlsSource, Origin, PlaylistError};
use kithara::net::{NetError, Url};
use kithara_test_support::{Server, media};

use crate::rig::{Cache, KEY, builder, drain, encrypt, files, offline, online, open_at, play, url};

fn file_url(path: &Path) -> String {
    Url::from_file_path(path).unwrap().into()
}

fn nothing() -> HlsParams {
    HlsParams::with_access(Access::default())
}

/// Every tree gives the bytes that it gives over HTTP, with neither client nor cache, and from any position.
#[test]
fn local_trees_play_as_they_do_over_http() {
    let server = Server::start(media()).unwrap();
    let mut trees = 0;
    for tree in fs::read_dir(media().join("hls")).unwrap() {
        let folder = tree.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let names = ["master.m3u8", "playlist.m3u8"];
        let list = names
            .map(|name| folder.join(name))
            .into_iter()
            .find(|list| list.exists())
            .unwrap();
        let over_http = play(
            &server.url(&format!(
                "/hls/{name}/{}",
                list.file_name().unwrap().to_str().unwrap()
            )),
            Cache::new().params(),
            online(),
        )
        .whole();
        let tape = play(&file_url(&list), nothing(), offline()).whole();
        assert_eq!(tape.bypasses(), 0, "{name}");
        assert!(tape.bytes == over_http.bytes, "{name}");
        for control in &tape.controls {
            if let HlsControl::SegmentStart { origin, .. } = control {
                assert_eq!(*origin, Origin::Local, "{name}");
            }
        }
        let at = tape.bytes.len() / 2;
        let mut source = HlsSource::new(url(&file_url(&list)), nothing());
        let rest = future::block_on(drain(open_at(&mut source, at as u64, &offline()))).whole();
        assert!(rest.bytes == tape.bytes[at..], "{name}");
        trees += 1;
    }
    assert!(trees >= 6);
}

/// What a local playlist names on the network is fetched and kept as always; what is local is not copied.
#[test]
fn a_local_playlist_may_name_remote_media() {
    let server = Server::empty().unwrap();
    server.serve_bytes("/1.ts", *b"remote");
    server.serve_bytes("/k", KEY);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("0.ts"), encrypt(b"local", KEY, 0)).unwrap();
    let media = format!(
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"{}\"\n#EXTINF:6,\n0.ts\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:6,\n{}\n#EXT-X-ENDLIST\n",
        server.url("/k"),
        server.url("/1.ts")
    );
    fs::write(dir.path().join("media.m3u8"), media).unwrap();
    let master = dir.path().join("master.m3u8");
    fs::write(&master, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia.m3u8\n").unwrap();
    let cache = Cache::new();
    for mode in [online(), offline()] {
        let tape = play(&file_url(&master), cache.word_params(), mode).whole();
        assert_eq!(
            (tape.bytes.as_slice(), tape.bypasses()),
            (b"localremote".as_slice(), 0)
        );
    }
    // The key and the remote segment.
    assert_eq!(files(&cache), 2);
    // The same playlist as a text of the app's.
    let text = fs::read_to_string(dir.path().join("media.m3u8")).unwrap();
    let mut source = HlsSource::from_playlist(text, url(&file_url(&master)), cache.word_params());
    let tape = future::block_on(drain(open_at(&mut source, 0, &online()))).whole();
    assert_eq!(tape.bytes, b"localremote");
}

/// A playlist of the network reads no local file, whichever playlist led to it.
#[test]
fn a_remote_playlist_reads_no_local_file() {
    let server = Server::empty().unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    let secret = file_url(&dir.path().join("secret"));
    let remote = server.url("/list.m3u8");
    let master = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{remote}\n");
    fs::write(dir.path().join("master.m3u8"), &master).unwrap();
    server.serve_bytes("/master.m3u8", master.into_bytes());
    for line in [
        format!("#EXTINF:6,\n{secret}"),
        format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{secret}\"\n#EXTINF:6,\na.ts"),
        format!("#EXT-X-MAP:URI=\"{secret}\"\n#EXTINF:6,\na.ts"),
    ] {
        let list = format!("#EXTM3U\n{line}\n#EXT-X-ENDLIST\n");
        server.serve_bytes("/list.m3u8", list.into_bytes());
        for start in [
            remote.clone(),
            server.url("/master.m3u8"),
            file_url(&dir.path().join("master.m3u8")),
        ] {
            let tape = play(&start, Cache::new().word_params(), online());
            assert!(
                matches!(
                    tape.failed(),
                    HlsError::Playlist {
                        source: PlaylistError::Malformed { .. },
                        ..
                    }
                ),
                "{start}: {}",
                tape.failed()
            );
        }
    }
    // Nor where the app says what URLs resolve against.
    server.serve_bytes("/list.m3u8", *b"#EXTM3U\n#EXTINF:6,\nsecret\n#EXT-X-ENDLIST\n");
    let base = url(&file_url(&dir.path().join("x")));
    let tape = play(&remote, Cache::new().word_params().base_url(base), online());
    assert!(tape.error.is_some() && tape.bytes.is_empty());
}

/// What is missing, is no file, is cut or too large.
#[test]
fn local_failures_are_typed() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list.m3u8");
    let tape = play(&file_url(&list), nothing(), online());
    assert!(tape.failed().is_not_found(), "{}", tape.failed());
    let lines = |lines: &str| fs::write(&list, format!("#EXTM3U\n{lines}\n#EXT-X-ENDLIST\n")).unwrap();
    lines("#EXTINF:6,\ngone.ts");
    let tape = play(&file_url(&list), nothing(), offline());
    assert!(tape.failed().is_not_found(), "{}", tape.failed());
    fs::create_dir(dir.path().join("folder")).unwrap();
    lines("#EXTINF:6,\nfolder");
    let tape = play(&file_url(&list), nothing(), online());
    assert!(
        matches!(tape.failed(), HlsError::LocalFile { .. }),
        "{}",
        tape.failed()
    );
    fs::write(dir.path().join("short.ts"), "short").unwrap();
    lines("#EXTINF:6,\n#EXT-X-BYTERANGE:5@3\nshort.ts");
    let tape = play(&file_url(&list), nothing(), online());
    assert!(
        matches!(
            tape.failed(),
            HlsError::Length {
                expected: 5,
                received: 2,
                ..
            }
        ),
        "{}",
        tape.failed()
    );
    let tape = play(&file_url(&list), nothing().max_playlist_bytes(20), online());
    assert!(
        matches!(tape.failed(), HlsError::LocalFile { .. }),
        "{}",
        tape.failed()
    );
    // A device has no length, and a pipe may never have a byte: neither is opened.
    #[cfg(unix)]
    {
        let tape = play("file:///dev/null", nothing(), online());
        assert!(
            matches!(tape.failed(), HlsError::LocalFile { .. }),
            "{}",
            tape.failed()
        );
    }
    // A client does not know the scheme: what is local never reaches it.
    let client = builder().build().unwrap();
    let sent = future::block_on(client.send(kithara::net::Request::get(url(&file_url(&list)))));
    assert!(matches!(sent.err(), Some(NetError::UnsupportedUrl { .. })));
}

/// W1–W3: what stands in a playlist or in a local file is judged by its bytes too: a saved login page is no segment.
#[test]
fn w1_local_segments_that_are_no_media_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let page = "<!DOCTYPE html><html><body>Log in</body></html>";
    fs::write(dir.path().join("page.ts"), page).unwrap();
    fs::write(dir.path().join("quota.ts"), r#"{"error":"quota"}"#).unwrap();
    fs::write(dir.path().join("empty.ts"), "").unwrap();
    fs::write(dir.path().join("locked.ts"), encrypt(page.as_bytes(), KEY, 0)).unwrap();
    fs::write(dir.path().join("key"), KEY).unwrap();
    let in_place = "data:,%3Chtml%3E%3Cbody%3ELog%20in%3C/body%3E%3C/html%3E";
    for (key, segment) in [
        ("NONE", "page.ts"),
        ("NONE", "quota.ts"),
        ("NONE", "empty.ts"),
        ("NONE", in_place),
        ("AES-128,URI=\"key\"", "locked.ts"),
    ] {
        let list = dir.path().join("list.m3u8");
        let text = format!("#EXTM3U\n#EXT-X-KEY:METHOD={key}\n#EXTINF:6,\n{segment}\n#EXT-X-ENDLIST\n");
        fs::write(&list, text).unwrap();
        let tape = play(&file_url(&list), nothing(), offline());
        assert!(
            matches!(tape.failed(), HlsError::NotMedia { .. }),
            "{segment}: {:?}",
            tape.error
        );
        assert!(tape.bytes.is_empty(), "{segment}");
    }
}
