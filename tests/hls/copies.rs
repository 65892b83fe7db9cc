//! H9: a playlist in the cache is a copy. URLs that expire, tracks that are published anew, and what of the old one plays.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_lite::{StreamExt, future};
use kithara::cache::{AssetId, CachePath};
use kithara::hls::{HlsControl, HlsError, HlsParams, HlsSource, NewEdition, PlaylistCheck, Refreshed};
use kithara::media::EntryNames;
use kithara::stream::{Message, Source};
use kithara_test_support::{Rule, Server};

use crate::published::{Published, body, init, whole};
use crate::rig::{Cache, Tape, chain, drain, media_requests, offline, online, open_at_time, play, url};

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

/// The bar: tokens that change while a track of 60 segments plays with pauses. Whatever an entry is called, every byte
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

/// W5: another edition under the same URLs, with another list or with the same one. Bytes of the two are never mixed without
/// a word: the old one plays as far as it is kept, then the new one, behind a discontinuity.
#[test]
fn w5_a_track_published_anew_is_told_and_not_mixed() {
    for durations in [[6, 6, 6, 6], [6, 6, 7, 6]] {
        let track = Published::new();
        track.publish("first", &[6, 6, 6, 6]);
        let cache = Cache::new();
        track.hear(&cache, 2, 1);
        track.publish("other", &durations);

        let tape = play(&track.url(), cache.params(), online()).whole();
        let at = init("first").len() + whole("first", 0..2).len();
        let expected = [
            init("first"),
            whole("first", 0..2),
            init("other"),
            whole("other", 2..4),
        ];
        assert!(tape.bytes == expected.concat(), "{:?}", tape.story);
        let place = tape
            .story
            .iter()
            .position(|line| line.ends_with("edition"))
            .unwrap();
        assert_eq!(
            tape.story[place..place + 5],
            [
                format!("{at} edition"),
                format!("{at} variant 0"),
                format!("{at} discontinuity 0"),
                format!("{at} section"),
                format!("{} fetched 2", at + init("other").len()),
            ]
        );
        // Offline the old one plays still: the new one is not whole.
        let tape = play(&track.url(), cache.params(), offline());
        assert!(tape.failed().is_offline_miss());
        assert!(tape.bytes == [init("first"), whole("first", 0..2)].concat());
        // Played once more from the start, the new one is whole, and the old one is gone.
        let tape = play(&track.url(), cache.params(), online()).whole();
        assert!(tape.bytes == [init("other"), whole("other", 0..4)].concat());
        assert!(!tape.story.iter().any(|line| line.contains("edition")));
        let asset = AssetId::from_url(&url(&track.url()));
        for path in ["/0.ts", "/init", "/list.m3u8"] {
            let old = CachePath::from_url(&url(&track.server.url(path)));
            assert!(
                !future::block_on(cache.cache.contains(&asset, &old)).unwrap(),
                "{path}"
            );
        }
        track.server.stop();
        let tape = play(&track.url(), cache.params(), offline()).whole();
        assert!(tape.bytes == [init("other"), whole("other", 0..4)].concat());
    }
}

/// W1, W5: a login page in place of what editions are told by is no other edition. The old one plays, and stays.
#[test]
fn w1_a_portal_is_no_new_edition() {
    let portal = Server::empty().unwrap();
    let page = "<!DOCTYPE html><title>Hotel</title>";
    portal.serve_bytes("/login", page.as_bytes());
    for rule in [
        Rule::new().answer(200, page),
        Rule::new().answer(200, format!("\u{feff} {page}")),
        Rule::new().redirect(302, portal.url("/login")),
    ] {
        let track = Published::new();
        track.publish("old", &[6; 4]);
        let cache = Cache::new();
        track.hear(&cache, 2, 1);
        let instead = track.server.rule("/init", rule);
        let source = HlsSource::new(url(&track.url()), cache.params());
        assert_eq!(future::block_on(source.refresh()).unwrap(), Refreshed::Same);
        assert_eq!(instead.hits(), 1);
        let tape = play(&track.url(), cache.params(), online()).whole();
        assert!(tape.bytes == [init("old"), whole("old", 0..4)].concat());
        assert!(!tape.story.iter().any(|line| line.contains("edition")));
    }
}

/// W5: a third edition while the second is not whole, and a fourth.
#[test]
fn w5_editions_that_follow_each_other_are_never_mixed() {
    let track = Published::new();
    track.publish("e1", &[6; 4]);
    let cache = Cache::new();
    track.hear(&cache, 2, 1);
    for edition in ["e2", "e3", "e4"] {
        track.publish(edition, &[6; 4]);
        let source = HlsSource::new(url(&track.url()), cache.params());
        assert_eq!(future::block_on(source.refresh()).unwrap(), Refreshed::NewEdition);
        track.hear(&cache, 1, 2);
        // A list, a section, two segments, and what the server said of two of them: of the first one and of the newest. And
        // the record.
        let files = crate::rig::files_below(&cache.dir.path().join("assets"));
        assert!(files.len() <= 13, "{edition}: {files:?}");
    }
    let tape = play(&track.url(), cache.params(), offline());
    assert!(tape.bytes == [init("e1"), whole("e1", 0..2)].concat());
    let tape = play(&track.url(), cache.params(), online()).whole();
    assert!(tape.bytes == [init("e4"), whole("e4", 0..4)].concat());
}

/// The app may choose an error.
#[test]
fn a_new_edition_may_be_refused() {
    let track = Published::new();
    track.publish("first", &[6, 6, 6]);
    let cache = Cache::new();
    track.hear(&cache, 2, 1);
    track.publish("other", &[6, 6, 6]);
    let params = || cache.params().new_edition(NewEdition::Refuse);
    let tape = play(&track.url(), params(), online());
    assert!(
        matches!(tape.failed(), HlsError::EditionChanged { .. }),
        "{}",
        chain(tape.failed())
    );
    assert!(tape.bytes == [init("first"), whole("first", 0..2)].concat());
}

/// Pinned entries stay until the app says.
#[test]
fn a_pinned_edition_stays_until_the_app_says() {
    let track = Published::new();
    track.publish("first", &[6, 6]);
    let cache = Cache::new();
    play(&track.url(), cache.params(), online()).whole();
    let asset = AssetId::from_url(&url(&track.url()));
    future::block_on(cache.cache.pin(&asset)).unwrap();
    track.publish("other", &[6, 7]);
    let source = HlsSource::new(url(&track.url()), cache.params());
    assert_eq!(future::block_on(source.refresh()).unwrap(), Refreshed::NewEdition);
    // All of the old one is kept, so all of it plays.
    let mut source = source;
    let tape = future::block_on(drain(source.open(&online()).unwrap())).whole();
    assert!(tape.bytes == [init("first"), whole("first", 0..2)].concat());
    // Another source begins with the new one.
    let tape = play(&track.url(), cache.params(), online()).whole();
    assert!(tape.bytes == [init("other"), whole("other", 0..2)].concat());
    let old = CachePath::from_url(&url(&track.server.url("/0.ts")));
    assert!(future::block_on(cache.cache.contains(&asset, &old)).unwrap());
    let source = HlsSource::new(url(&track.url()), cache.params());
    future::block_on(source.remove_old_edition()).unwrap();
    assert!(!future::block_on(cache.cache.contains(&asset, &old)).unwrap());
    track.server.stop();
    let tape = play(&track.url(), cache.params(), offline()).whole();
    assert!(tape.bytes == [init("other"), whole("other", 0..2)].concat());
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

/// W61: a first segment that plays for no time is not left out.
#[test]
fn w61_a_segment_without_duration_plays() {
    for (durations, seconds, first) in [
        (vec![0, 6, 6], 0.0, 0),
        (vec![6, 0, 6], 6.0, 1),
        (vec![6, 0, 0, 6], 6.0, 1),
        (vec![6, 0, 6], 6.5, 2),
        (vec![6, 6, 0], 12.0, 2),
    ] {
        let track = Published::new();
        track.publish("old", &durations);
        let cache = Cache::new();
        let mut source = HlsSource::new(url(&track.url()), cache.params());
        let tape = future::block_on(drain(open_at_time(&mut source, seconds, &online()))).whole();
        let expected = [init("old"), whole("old", first..durations.len())].concat();
        assert!(
            tape.bytes == expected,
            "{durations:?} {seconds}: {:?}",
            tape.story
        );
    }
}

/// W5: an entry that turns out to be damaged while the server has another edition is not filled in from there: the old edition
/// ends in front of it, and the new one goes on.
#[test]
fn w5_a_damaged_entry_is_not_filled_in_from_another_edition() {
    for silent in [false, true] {
        let track = Published::new();
        track.publish("first", &[6, 6, 6, 6]);
        let cache = Cache::new();
        play(&track.url(), cache.params(), online()).whole();
        let damaged = crate::rig::files_below(&cache.dir.path().join("assets"))
            .into_iter()
            .find(|file| file.to_str().unwrap().ends_with("-2.ts"))
            .unwrap();
        let mut bytes = std::fs::read(&damaged).unwrap();
        bytes[700] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        track.publish("other", &[6, 6, 6, 6]);
        let gate = track.server.gate();
        if silent {
            // The answer comes when the damage has been found.
            track.server.rule("/list.m3u8", Rule::new().gate(&gate));
        } else {
            gate.open();
        }
        let mut stream = HlsSource::new(url(&track.url()), cache.params())
            .open(&online())
            .unwrap();
        let mut heard = Vec::new();
        let tape = future::block_on(async {
            let before = init("first").len() + whole("first", 0..2).len();
            while heard.len() < before {
                if let Message::Data(data) = stream.next().await.unwrap().unwrap() {
                    heard.extend_from_slice(&data);
                }
            }
            gate.open();
            drain(stream).await.whole()
        });
        heard.extend_from_slice(&tape.bytes);
        let expected = [
            init("first"),
            whole("first", 0..2),
            init("other"),
            whole("other", 2..4),
        ];
        assert!(heard == expected.concat(), "{:?}", tape.story);
        assert!(tape.story.iter().any(|line| line.ends_with("edition")));
    }
}

/// W5: a track that is kept from a seek on has no first segment, and is known again all the same.
#[test]
fn w5_a_track_kept_from_a_seek_on_is_not_mixed() {
    let server = Server::empty().unwrap();
    let publish = |edition: &str| {
        let mut list = "#EXTM3U\n".to_owned();
        for index in 0..6 {
            write!(list, "#EXTINF:6,\n{index}.ts\n").unwrap();
            let mut bytes = body(edition, index);
            bytes.resize(bytes.len() + init(edition).len(), 0x11);
            server.serve_bytes(format!("/{index}.ts"), bytes);
        }
        list.push_str("#EXT-X-ENDLIST\n");
        server.serve_bytes("/list.m3u8", list.into_bytes());
    };
    let cache = Cache::new();
    publish("first");
    let list = url(&server.url("/list.m3u8"));
    let mut source = HlsSource::new(list.clone(), cache.params());
    future::block_on(drain(open_at_time(&mut source, 18.0, &online()))).whole();
    publish("other");
    let tape = play(list.as_str(), cache.params(), online()).whole();
    let text = String::from_utf8_lossy(&tape.bytes);
    assert!(
        !text.contains("first") && text.contains("other 5"),
        "{:?}",
        tape.story
    );
}

/// W5: what the server has is not known where it does not answer. What the cache has plays, and the next byte is an error: it
/// could be of another edition.
#[test]
fn w5_without_an_answer_a_copy_plays_as_far_as_it_is_kept() {
    let track = Published::new();
    track.publish("first", &[6, 6, 6, 6]);
    let cache = Cache::new();
    track.hear(&cache, 2, 1);
    track.publish("other", &[6, 6, 6, 6]);
    let down = track.server.rule("/list.m3u8", Rule::new().answer(503, ""));
    let tape = play(&track.url(), cache.params(), online());
    assert!(tape.failed().is_transient(), "{}", chain(tape.failed()));
    assert!(tape.bytes == [init("first"), whole("first", 0..2)].concat());
    down.remove();
    // It is back the second time it is asked, when the byte is needed.
    track
        .server
        .rule("/list.m3u8", Rule::new().first(2).answer(503, ""));
    let tape = play(&track.url(), cache.params(), online()).whole();
    let expected = [
        init("first"),
        whole("first", 0..2),
        init("other"),
        whole("other", 2..4),
    ];
    assert!(tape.bytes == expected.concat(), "{:?}", tape.story);
}

/// W5: what another source found and removed is noticed by one that plays.
#[test]
fn w5_another_source_that_replaces_an_edition_is_noticed() {
    let track = Published::new();
    track.publish("first", &[6, 6, 6, 6]);
    let cache = Cache::new();
    play(&track.url(), cache.params(), online()).whole();
    // It has asked, and plays the copy.
    let mut stream = HlsSource::new(url(&track.url()), cache.params())
        .open(&online())
        .unwrap();
    let mut heard = Vec::new();
    future::block_on(async {
        while heard.len() <= init("first").len() {
            if let Message::Data(data) = stream.next().await.unwrap().unwrap() {
                heard.extend_from_slice(&data);
            }
        }
    });
    track.publish("other", &[6, 6, 6, 6]);
    let source = HlsSource::new(url(&track.url()), cache.params());
    future::block_on(source.refresh()).unwrap();
    future::block_on(source.remove_old_edition()).unwrap();
    let tape = future::block_on(drain(stream)).whole();
    heard.extend_from_slice(&tape.bytes);
    let text = String::from_utf8_lossy(&heard);
    assert!(
        text.starts_with("ID3 init of first") && text.contains("other 3"),
        "{:?}",
        tape.story
    );
    // The old one up to somewhere, then the new one, and nothing of the old one behind it.
    let change = text.find("init of other").expect("the change is told");
    assert!(!text[change..].contains("first"));
    assert!(tape.story.iter().any(|line| line.ends_with("edition")));
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

/// H9: nodes of one host that tag and date a file each in their own way have one edition.
#[test]
fn w5_other_tags_and_dates_of_the_same_bytes_are_no_edition() {
    let track = Published::new();
    track.publish("first", &[6, 6, 6]);
    let cache = Cache::new();
    track.hear(&cache, 2, 1);
    for node in ["a", "b"] {
        for path in ["/init", "/0.ts"] {
            let says = Rule::new()
                .header("etag", format!("\"{node}\""))
                .header("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT");
            track.server.rule(path, says);
        }
        let tape = play(&track.url(), cache.params(), online()).whole();
        assert!(
            tape.bytes == [init("first"), whole("first", 0..3)].concat(),
            "{:?}",
            tape.story
        );
        assert!(!tape.story.iter().any(|line| line.contains("edition")));
        track.server.clear_rules();
    }
}
