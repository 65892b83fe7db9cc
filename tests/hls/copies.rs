//! H9: a playlist in the cache is a copy, and the URLs in it may expire. Tracks that are published anew are in `editions`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_lite::{StreamExt, future};
use kithara::cache::AssetId;
use kithara::hls::{HlsControl, HlsError, HlsParams, HlsSource, PlaylistCheck, Refreshed};
use kithara::media::EntryNames;
use kithara::stream::{Message, Source};
use kithara_test_support::{Rule, Server};

use crate::published::{Published, body, init, whole};
use crate::rig::{Cache, Tape, chain, drain, media_requests, offline, online, play, url};

/// A track that is signed: each URL in its playlists carries a token, and the server knows only the newest.
struct Signed {
    server: Server,
    segments: usize,
    token: AtomicUsize,
}

impl Signed {
    fn new(segments: usize) -> Self {
        let server = Server::empty().unwrap();
        let signed = Self {
            server,
            segments,
            token: AtomicUsize::new(0),
        };
        signed.renew(403);
        signed
    }

    /// From now on the URLs of before are refused with `status`.
    fn renew(&self, status: u16) {
        let token = self.token.fetch_add(1, Ordering::Relaxed) + 1;
        let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
        for index in 0..self.segments {
            // In the path, where some services have it. The names of entries leave it out.
            write!(list, "#EXTINF:6,\nt{token}/{index}.ts\n").unwrap();
            self.server
                .serve_bytes(format!("/t{token}/{index}.ts"), body("old", index));
        }
        list.push_str("#EXT-X-ENDLIST\n");
        self.server.serve_bytes("/list.m3u8", list.into_bytes());
        for index in 0..self.segments {
            self.server.rule(
                format!("/t{}/{index}.ts", token - 1),
                Rule::new().answer(status, "Request has expired"),
            );
        }
    }

    fn url(&self) -> String {
        self.server.url("/list.m3u8")
    }

    fn bodies(&self) -> usize {
        self.server
            .requests()
            .iter()
            .filter(|request| request.path_only().contains(".ts") && request.status == Some(200))
            .count()
    }
}

fn last_component() -> EntryNames {
    EntryNames::from_fn(|url| url.path().rsplit('/').next().unwrap_or_default().to_owned())
}

fn by_path(cache: &Cache) -> HlsParams {
    cache.params().entry_names(last_component())
}

/// W4: a track half heard yesterday is finished today, under other URLs; nothing is fetched twice.
#[test]
fn w4_a_half_heard_signed_track_is_finished_another_day() {
    for status in [401, 403, 404, 410] {
        let signed = Signed::new(6);
        let cache = Cache::new();
        let mut source = HlsSource::new(url(&signed.url()), by_path(&cache));
        let mut stream = source.open(&online()).unwrap();
        let mut heard = 0;
        future::block_on(async {
            while heard < 3 {
                if let Message::Control(HlsControl::SegmentStart { .. }) =
                    stream.next().await.unwrap().unwrap()
                {
                    heard += 1;
                }
            }
        });
        drop(stream);
        signed.renew(status);
        // Within one source, and in another one.
        let tape = future::block_on(drain(source.open(&online()).unwrap())).whole();
        assert!(tape.bytes == whole("old", 0..6), "{status}");
        signed.renew(status);
        let tape = play(&signed.url(), by_path(&cache), online()).whole();
        assert!(tape.bytes == whole("old", 0..6), "{status}");
        assert!(!tape.story.iter().any(|line| line.contains("edition")));
        signed.server.stop();
        let tape = play(&signed.url(), by_path(&cache), offline()).whole();
        assert!(tape.bytes == whole("old", 0..6), "{status}");
    }
}

/// W4: tokens that change while a track of 60 segments plays with pauses. Whatever an entry is called, every byte
/// is right and each segment's body is sent once.
#[test]
fn w4_tokens_that_change_while_a_track_plays() {
    for names in [last_component(), EntryNames::default()] {
        let signed = Signed::new(60);
        let cache = Cache::new();
        let params = cache.params().entry_names(names);
        let mut stream = HlsSource::new(url(&signed.url()), params)
            .open(&online())
            .unwrap();
        let mut tape = Tape::default();
        let mut segments = 0;
        future::block_on(async {
            while let Some(message) = stream.next().await {
                match message.unwrap() {
                    Message::Data(data) => tape.bytes.extend_from_slice(&data),
                    Message::Control(HlsControl::SegmentStart { .. }) => {
                        segments += 1;
                        // A pause, in which the tokens expire.
                        if segments % 7 == 0 {
                            signed.renew(403);
                        }
                    }
                    Message::Control(_) => {}
                }
            }
        });
        assert_eq!(segments, 60);
        assert!(tape.bytes == whole("old", 0..60));
        // The part ahead may have been on its way when its token expired: it is refused, and asked for again.
        assert_eq!(signed.bodies(), 60);
    }
}

/// W4: a redirect that leads to a session which is gone; the Multivariant Playlist whose Media Playlist has expired.
#[test]
fn w4_a_session_that_is_gone_and_a_media_playlist_that_expired() {
    for status in [401, 403, 410] {
        let server = Server::empty().unwrap();
        let cache = Cache::new();
        let master = |session: &str| {
            let text = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/{session}/list.m3u8\n");
            server.serve_bytes("/master.m3u8", text.into_bytes());
            let list = "#EXTM3U\n#EXTINF:6,\n0.ts\n#EXTINF:6,\n1.ts\n#EXT-X-ENDLIST\n";
            server.serve_bytes(format!("/{session}/list.m3u8"), list.as_bytes());
            for index in 0..2 {
                server.serve_bytes(format!("/{session}/{index}.ts"), body("old", index));
            }
            for path in ["list.m3u8", "0.ts", "1.ts"] {
                server.rule(format!("/gone/{path}"), Rule::new().answer(status, ""));
            }
        };
        let names = last_component();
        let params = || cache.params().entry_names(names.clone());
        server.rule("/go", Rule::new().first(2).redirect(302, "/one/list.m3u8"));
        master("one");
        // Half of it, under the first session.
        let failing = server.rule("/one/1.ts", Rule::new().answer(404, ""));
        play(&server.url("/master.m3u8"), params(), online());
        failing.remove();
        // The session is gone, and so is all that the copies name.
        for path in ["/one/list.m3u8", "/one/0.ts", "/one/1.ts"] {
            server.rule(path, Rule::new().answer(status, ""));
        }
        master("two");
        let tape = play(&server.url("/master.m3u8"), params(), online()).whole();
        assert!(tape.bytes == whole("old", 0..2), "{status}");
        // Without the copy of the Media Playlist, which the copy of the other one names under the old session.
        master("three");
        for path in ["/two/list.m3u8", "/two/0.ts", "/two/1.ts"] {
            server.rule(path, Rule::new().answer(status, ""));
        }
        let asset = AssetId::from_url(&url(&server.url("/master.m3u8")));
        let list = names.entry(&url(&server.url("/list.m3u8")), None);
        assert!(future::block_on(cache.cache.remove_entry(&asset, &list)).unwrap());
        let params = params().playlist_check(PlaylistCheck::WhenRefused);
        let tape = play(&server.url("/master.m3u8"), params, online()).whole();
        assert!(tape.bytes == whole("old", 0..2), "{status}");
    }
}

/// What is refused under its new URL too ends the track: asked for twice, not for ever.
#[test]
fn what_is_refused_for_good_is_an_error() {
    for (status, path) in [(403, "/1.ts"), (404, "/1.ts"), (410, "/0.ts")] {
        let track = Published::new();
        track.publish("old", &[6, 6, 6]);
        let refused = track.server.rule(path, Rule::new().answer(status, "no"));
        let cache = Cache::new();
        let tape = play(&track.url(), cache.params(), online());
        let HlsError::Network { source, .. } = tape.failed() else {
            panic!("{}", chain(tape.failed()))
        };
        assert_eq!((source.status(), refused.hits() <= 3), (Some(status), true));
    }
}

/// H9: a copy plays without waiting for the server; the question is asked beside it, or not, as the app and the server say.
#[test]
fn a_copy_plays_at_once_and_is_asked_about_beside() {
    let track = Published::new();
    let fresh = Rule::new().header("cache-control", "max-age=1000");
    for (rule, check, asks) in [
        (Rule::new(), PlaylistCheck::WhenStale, true),
        (fresh.clone(), PlaylistCheck::WhenStale, false),
        (fresh.clone(), PlaylistCheck::Always, true),
        (fresh, PlaylistCheck::After(std::time::Duration::ZERO), true),
        (
            Rule::new(),
            PlaylistCheck::After(std::time::Duration::from_secs(3600)),
            false,
        ),
        (Rule::new(), PlaylistCheck::WhenRefused, false),
    ] {
        track.publish("old", &[6, 6, 6]);
        track.server.rule("/list.m3u8", rule);
        let cache = Cache::new();
        play(&track.url(), cache.params(), online()).whole();
        // The server does not answer: all of it plays, and nothing is missed.
        track.server.clear_rules();
        let silent = track.server.rule("/list.m3u8", Rule::new().never_answer());
        let before = media_requests(&track.server);
        let tape = play(&track.url(), cache.params().playlist_check(check), online()).whole();
        assert!(tape.bytes == [init("old"), whole("old", 0..3)].concat());
        assert_eq!(media_requests(&track.server), before);
        if !asks {
            assert_eq!(silent.hits(), 0, "{check:?}");
        }
        track.server.clear_rules();
    }
}

/// A conditional question is answered with 304: the copy is current, and no body is sent.
#[test]
fn a_current_copy_is_not_sent_again() {
    let track = Published::new();
    track.publish("old", &[6, 6]);
    let cache = Cache::new();
    play(&track.url(), cache.params(), online()).whole();
    let source = HlsSource::new(url(&track.url()), cache.params());
    assert_eq!(future::block_on(source.refresh()).unwrap(), Refreshed::Same);
    let requests = track.server.requests();
    let last = requests
        .iter()
        .rfind(|request| request.path == "/list.m3u8")
        .unwrap();
    assert!(last.header("if-none-match").is_some());
    assert_eq!(last.status, Some(304));
}

/// A redirect whose target changes from day to day, and a tag that never does: an answer without a body does not say where
/// the redirect leads today.
#[test]
fn w4_a_redirect_that_leads_elsewhere_each_day() {
    let server = Server::empty().unwrap();
    let cache = Cache::new();
    let list = "#EXTM3U\n#EXTINF:6,\n0.ts\n#EXTINF:6,\n1.ts\n#EXT-X-ENDLIST\n";
    let params = || cache.params().entry_names(last_component());
    for day in 1..4_usize {
        server.clear_rules();
        server.rule(
            "/list.m3u8",
            Rule::new().redirect(302, format!("/day{day}/list.m3u8")),
        );
        server.serve_bytes(format!("/day{day}/list.m3u8"), list.as_bytes());
        for index in 0..2 {
            server.serve_bytes(format!("/day{day}/{index}.ts"), body("old", index));
            server.rule(format!("/day{}/{index}.ts", day - 1), Rule::new().answer(403, ""));
        }
        let asset = AssetId::from_url(&url(&server.url("/list.m3u8")));
        let path = last_component().entry(&url(&server.url("/1.ts")), None);
        let _ = future::block_on(cache.cache.remove_entry(&asset, &path)).unwrap();
        let tape = play(&server.url("/list.m3u8"), params(), online()).whole();
        assert!(tape.bytes == whole("old", 0..2), "{day}");
    }
}
