//! H9: tracks that are published anew under the same URLs, and what of the old one plays.

use std::fmt::Write as _;

use futures_lite::{StreamExt, future};
use kithara::cache::{AssetId, CachePath};
use kithara::hls::{HlsError, HlsSource, NewEdition, Refreshed, VariantChoice};
use kithara::stream::{Message, Source};
use kithara_test_support::{Rule, Server};

use crate::published::{Published, body, init, whole};
use crate::rig::{Cache, chain, drain, offline, online, open_at_time, play, url};

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

/// H9: what goes with an old edition are the entries of all its Variant Streams and Renditions.
#[test]
fn an_old_edition_goes_with_all_its_variant_streams() {
    let server = Server::empty().unwrap();
    let publish = |edition: &str, duration: u64| {
        let master = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",NAME=\"en\",LANGUAGE=\"en\",URI=\"en.m3u8\"\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",NAME=\"fr\",LANGUAGE=\"fr\",URI=\"fr.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nhigh.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=3,AUDIO=\"g\"\nvideo.m3u8\n";
        server.serve_bytes("/master.m3u8", master.as_bytes());
        for name in ["low", "high", "en", "fr"] {
            let list = format!("#EXTM3U\n#EXTINF:{duration},\n{name}-0.ts\n#EXT-X-ENDLIST\n");
            server.serve_bytes(format!("/{name}.m3u8"), list.into_bytes());
            server.serve_bytes(format!("/{name}-0.ts"), body(edition, 0));
        }
    };
    let cache = Cache::new();
    let master = server.url("/master.m3u8");
    let params = |index, language: &str| {
        let params = cache.params().variant(VariantChoice::Index(index));
        params.audio_language(language)
    };
    publish("first", 6);
    for (index, language) in [(0, "en"), (1, "en"), (2, "en"), (2, "fr")] {
        play(&master, params(index, language), online()).whole();
    }
    let asset = AssetId::from_url(&url(&master));
    let kept = || {
        let entries = future::block_on(cache.cache.entries(&asset)).unwrap();
        let media = entries
            .iter()
            .filter(|entry| entry.path.as_str().ends_with("-0.ts"));
        media.count()
    };
    assert_eq!(kept(), 4);
    publish("other", 7);
    // All of the old one is kept, so it plays; the new one when it is opened again. Then it is whole.
    let source = HlsSource::new(url(&master), params(0, "en"));
    assert_eq!(future::block_on(source.refresh()).unwrap(), Refreshed::NewEdition);
    let tape = play(&master, params(0, "en"), online()).whole();
    assert!(tape.bytes == whole("other", 0..1), "{:?}", tape.story);
    assert_eq!(kept(), 1);
    for (index, language) in [(1, "en"), (2, "fr")] {
        let tape = play(&master, params(index, language), online()).whole();
        assert!(tape.bytes == whole("other", 0..1), "{:?}", tape.story);
    }
}

/// Removes the entries whose names end so, as a disk may lose them.
fn lose(cache: &Cache, asset: &AssetId, end: &str) -> usize {
    let entries = future::block_on(cache.cache.entries(asset)).unwrap();
    let lost = entries.iter().filter(|entry| entry.path.as_str().ends_with(end));
    lost.filter(|entry| future::block_on(cache.cache.remove_entry(asset, &entry.path)).unwrap())
        .count()
}

/// W5: what told the old edition from the new one is lost: with it, the list too. What is kept is compared instead.
#[test]
fn w5_an_edition_whose_marks_are_lost_is_told_by_its_bytes() {
    for (kept, lost) in [
        (2, &["-witness"][..]),
        (2, &["-witness", "-list.m3u8"]),
        (2, &["-witness", "-init", "-0.ts"]),
        (1, &["-witness", "-init"]),
        (3, &["-witness", "-list.m3u8", "-0.ts", "-init"]),
    ] {
        let track = Published::new();
        track.publish("first", &[6, 6, 6, 6]);
        let cache = Cache::new();
        track.hear(&cache, kept, 1);
        let asset = AssetId::from_url(&url(&track.url()));
        for end in lost {
            assert!(lose(&cache, &asset, end) > 0, "{end}");
        }
        // The same one: nothing is told.
        if kept == 3 {
            let tape = play(&track.url(), cache.params(), online()).whole();
            assert!(tape.bytes == [init("first"), whole("first", 0..4)].concat());
            assert!(
                !tape.story.iter().any(|line| line.contains("edition")),
                "{:?}",
                tape.story
            );
            continue;
        }
        track.publish("other", &[6, 6, 6, 6]);
        let tape = play(&track.url(), cache.params(), online()).whole();
        let text = String::from_utf8_lossy(&tape.bytes).into_owned();
        let change = text
            .find("init of other")
            .unwrap_or_else(|| panic!("{lost:?}: {:?}", tape.story));
        assert!(!text[change..].contains("first"), "{lost:?}: mixed");
        assert!(!text[..change].contains("ID3other"), "{lost:?}: mixed");
        assert!(text.contains("other 3"), "{lost:?}");
    }
}

/// W5: an edition that never became whole was passed over, and left segments behind that nothing leads to any more. A later one
/// with the same list does not take them for its own.
#[test]
fn w5_what_a_passed_over_edition_left_behind_is_in_no_other() {
    let track = Published::new();
    track.publish("first", &[6, 6, 6]);
    let cache = Cache::new();
    play(&track.url(), cache.params(), online()).whole();
    let asset = AssetId::from_url(&url(&track.url()));
    track.publish("second", &[6, 7, 6]);
    let source = HlsSource::new(url(&track.url()), cache.params());
    assert_eq!(future::block_on(source.refresh()).unwrap(), Refreshed::NewEdition);
    track.hear(&cache, 2, 2);
    assert!(lose(&cache, &asset, "-list.m3u8") > 0);
    for (edition, durations) in [("third", [6, 8, 6]), ("fourth", [6, 7, 6])] {
        track.publish(edition, &durations);
        let source = HlsSource::new(url(&track.url()), cache.params());
        assert_eq!(future::block_on(source.refresh()).unwrap(), Refreshed::NewEdition);
        let tape = play(&track.url(), cache.params(), online()).whole();
        assert!(
            tape.bytes == [init(edition), whole(edition, 0..3)].concat(),
            "{edition}: {:?}",
            tape.story
        );
        let tape = play(&track.url(), cache.params(), offline()).whole();
        assert!(
            tape.bytes == [init(edition), whole(edition, 0..3)].concat(),
            "{edition}"
        );
    }
}
