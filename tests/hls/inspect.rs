//! H16: what there is, seen before it plays; and what of it plays where the choice is open.

use std::time::Duration;

use futures_lite::future;
use kithara::hls::{
    Access, HlsError, HlsParams, HlsSource, OpenMode, Presentation, VariantChoice, VariantContent,
};
use kithara_test_support::Server;

use crate::rig::{Cache, media_requests, offline, online, play, url};

/// A server with a Multivariant Playlist, and Media Playlists whose one segment is their name.
fn serve(master: &str, lists: &[&str]) -> Server {
    let server = Server::empty().unwrap();
    server.serve_bytes("/master.m3u8", master.as_bytes());
    for name in lists {
        let list = format!("#EXTM3U\n#EXTINF:6,\n{name}.ts\n#EXT-X-ENDLIST\n");
        server.serve_bytes(format!("/{name}.m3u8"), list.into_bytes());
        server.serve_bytes(format!("/{name}.ts"), name.as_bytes());
    }
    server
}

fn inspect(server: &Server, params: HlsParams, mode: OpenMode) -> Result<Presentation, HlsError> {
    let source = HlsSource::new(url(&server.url("/master.m3u8")), params);
    future::block_on(source.inspect(mode))
}

/// What plays, and whether `inspect` says the same.
fn plays(server: &Server, params: impl Fn(&Cache) -> HlsParams) -> String {
    let cache = Cache::new();
    let seen = inspect(server, params(&cache), OpenMode::Online).unwrap();
    let tape = play(&server.url("/master.m3u8"), params(&cache), online()).whole();
    let applied = tape.story.iter().find(|line| line.contains("variant"));
    assert!(
        applied.is_some_and(|line| line.contains(&format!("variant {}", seen.variant))),
        "{:?} against {seen:?}",
        tape.story
    );
    String::from_utf8(tape.bytes).unwrap()
}

/// W29: where each quality is listed as a Rendition of one group too, a Variant Stream plays itself. Case
/// `one-group-two-qualities`, the same with the low one as the default, and with two languages of each.
#[test]
fn w29_a_group_that_lists_each_quality_pins_nothing() {
    const LOW: &str = "#EXT-X-MEDIA:TYPE=AUDIO,URI=\"low.m3u8\",GROUP-ID=\"audio\",NAME=\"LOW\"";
    const HIGH: &str = "#EXT-X-MEDIA:TYPE=AUDIO,URI=\"high.m3u8\",GROUP-ID=\"audio\",NAME=\"HIGH\"";
    let streams = "#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS=\"mp4a.40.2\",AUDIO=\"audio\"\nlow.m3u8\n\
        #EXT-X-STREAM-INF:BANDWIDTH=128000,CODECS=\"mp4a.40.2\",AUDIO=\"audio\"\nhigh.m3u8\n";
    for (low, high) in [
        ("DEFAULT=NO,AUTOSELECT=YES", "DEFAULT=NO"),
        ("DEFAULT=YES,AUTOSELECT=YES", "DEFAULT=NO,AUTOSELECT=YES"),
        ("DEFAULT=YES,LANGUAGE=\"en\"", "LANGUAGE=\"en\""),
    ] {
        let master = format!("#EXTM3U\n{LOW},{low}\n{HIGH},{high}\n{streams}");
        let server = serve(&master, &["low", "high"]);
        for (choice, expected) in [
            (VariantChoice::Highest, "high"),
            (VariantChoice::Lowest, "low"),
            (VariantChoice::Index(1), "high"),
        ] {
            let params = |cache: &Cache| cache.word_params().variant(choice).audio_language("en");
            assert_eq!(plays(&server, params), expected, "{choice:?} of {master}");
        }
    }
    // The language counts first, and of its Renditions the quality.
    let other = "#EXT-X-MEDIA:TYPE=AUDIO,URI=\"de-low.m3u8\",GROUP-ID=\"audio\",NAME=\"a\",LANGUAGE=\"de\"\n\
        #EXT-X-MEDIA:TYPE=AUDIO,URI=\"de.m3u8\",GROUP-ID=\"audio\",NAME=\"b\",LANGUAGE=\"de\",DEFAULT=YES\n";
    let master = format!("#EXTM3U\n{LOW},LANGUAGE=\"en\"\n{HIGH},LANGUAGE=\"en\"\n{other}{streams}");
    let server = serve(&master, &["low", "high", "de-low", "de"]);
    for (language, expected) in [("en", "high"), ("de", "de"), ("fr", "high")] {
        let params = |cache: &Cache| {
            let params = cache.word_params().variant(VariantChoice::Highest);
            params.audio_language(language)
        };
        assert_eq!(plays(&server, params), expected, "{language}");
    }
}

/// W30: of a list with video the audio plays, whatever is highest, lowest or first. Case `06-audio-among-video`, the same
/// without CODECS, and video whose audio has a Media Playlist of its own.
#[test]
fn w30_audio_is_chosen_among_video() {
    let video = "#EXT-X-STREAM-INF:BANDWIDTH=4628000,CODECS=\"avc1.640028,mp4a.40.2\",RESOLUTION=1920x1080\nvideo.m3u8\n";
    let audio = "#EXT-X-STREAM-INF:BANDWIDTH=128000,CODECS=\"mp4a.40.2\"\naudio.m3u8\n";
    let mute = "#EXT-X-STREAM-INF:BANDWIDTH=90000,CODECS=\"avc1.42c00c\",RESOLUTION=64x36\nmute.m3u8\n";
    let bare = "#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=640x360\nvideo.m3u8\n";
    let plain = "#EXT-X-STREAM-INF:BANDWIDTH=100\naudio.m3u8\n";
    let foreign = "#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"HVC1.1.6.L93\"\nmute.m3u8\n";
    let apart = "#EXT-X-MEDIA:TYPE=AUDIO,URI=\"audio.m3u8\",GROUP-ID=\"g\",NAME=\"a\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=4000000,CODECS=\"avc1.640028,mp4a.40.2\",AUDIO=\"g\"\nvideo.m3u8\n";
    for (streams, expected) in [
        ([video, audio, mute], "audio"),
        ([bare, mute, plain], "audio"),
        ([foreign, bare, plain], "audio"),
        ([mute, apart, foreign], "audio"),
        // Where there is no audio alone: video with sound.
        ([mute, video, foreign], "video"),
        ([foreign, mute, bare], "video"),
    ] {
        let server = serve(
            &format!("#EXTM3U\n{}", streams.concat()),
            &["video", "audio", "mute"],
        );
        for choice in [
            VariantChoice::First,
            VariantChoice::Highest,
            VariantChoice::Lowest,
        ] {
            let params = |cache: &Cache| cache.word_params().variant(choice);
            assert_eq!(plays(&server, params), expected, "{choice:?} of {streams:?}");
        }
        // What the app names plays.
        let first = streams[0].lines().last().unwrap().trim_end_matches(".m3u8");
        let params = |cache: &Cache| cache.word_params().variant(VariantChoice::Index(0));
        assert_eq!(plays(&server, params), first);
    }
}

/// W31: languages are looked up (RFC 4647). Case `07-regional-languages` and more of its kind.
#[test]
fn w31_a_language_is_found_under_its_regions() {
    for (tags, wanted, expected) in [
        (["de-DE", "en-US"], "en", "b"),
        (["de-DE", "en-US"], "EN_gb", "b"),
        (["de-DE", "en-US"], "de-CH-1996", "a"),
        (["zh-Hans-CN", "zh-Hant-TW"], "zh-hant", "b"),
        (["zh-Hans-CN", "zh-Hant-TW"], "zh-Hant-x-private", "b"),
        // The closest one, wherever it stands.
        (["en-US", "en"], "en-AU", "b"),
        (["en", "en-US"], "en-US", "b"),
        // A longer word is another language, and so is a shorter one.
        (["eng", "en-US"], "en", "b"),
        (["e", "en-US"], "en", "b"),
        // None: the default one.
        (["de-DE", "en-US"], "fr", "b"),
    ] {
        let media = |name, language, default| {
            format!(
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",NAME=\"{name}\",LANGUAGE=\"{language}\",DEFAULT={default},URI=\"{name}.m3u8\"\n"
            )
        };
        let master = format!(
            "#EXTM3U\n{}{}#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"g\"\nv.m3u8\n",
            media("a", tags[0], "NO"),
            media("b", tags[1], if wanted == "fr" { "YES" } else { "NO" }),
        );
        let server = serve(&master, &["a", "b"]);
        let params = |cache: &Cache| cache.word_params().audio_language(wanted);
        assert_eq!(plays(&server, params), expected, "{wanted} of {tags:?}");
    }
}

const MASTER: &str = "#EXTM3U\n#EXT-X-START:TIME-OFFSET=3\n\
    #EXT-X-SESSION-DATA:DATA-ID=\"com.example.title\",VALUE=\"A Song\",LANGUAGE=\"en\"\n\
    #EXT-X-SESSION-DATA:DATA-ID=\"com.example.notes\",URI=\"notes.json\"\n#EXT-X-SESSION-DATA:VALUE=\"nameless\"\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",NAME=\"English\",LANGUAGE=\"en-US\",CHANNELS=\"2\",DEFAULT=YES,URI=\"en.m3u8\"\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",NAME=\"Deutsch\",LANGUAGE=\"de\",CHANNELS=\"6/JOC\",URI=\"de.m3u8\"\n\
    #EXT-X-STREAM-INF:BANDWIDTH=96000,AVERAGE-BANDWIDTH=64000,CODECS=\"mp4a.40.5\"\nlow.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS=\"avc1.42c00c,mp4a.40.2\",RESOLUTION=640x360,AUDIO=\"g\"\nvideo.m3u8\n";

const LOW: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-PROGRAM-DATE-TIME:2026-11-30T10:00:00.000Z\n\
    #EXT-X-DATERANGE:ID=\"ad\",CLASS=\"com.example.ad\",START-DATE=\"2026-11-30T10:00:02Z\",DURATION=2.5,X-WHO=\"them\",X-N=7\n\
    #EXT-X-DATERANGE:CLASS=\"nameless\"\n#EXTINF:6,\nlow.ts\n#EXT-X-PROGRAM-DATE-TIME:2026-11-30T10:00:06.000Z\n\
    #EXTINF:6,\n1.ts\n#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-11-30T12:00:00.000Z\n#EXTINF:2.5,\n2.ts\n\
    #EXT-X-ENDLIST\n";

/// What the playlists say is there before a byte of media is fetched, and the same offline.
#[test]
fn what_there_is_is_seen_before_it_plays() {
    let server = serve(MASTER, &["low", "en", "de"]);
    server.serve_bytes("/low.m3u8", LOW.as_bytes());
    server.serve_bytes("/1.ts", *b"one");
    server.serve_bytes("/2.ts", *b"two");
    let cache = Cache::new();
    let seen = inspect(&server, cache.word_params(), OpenMode::Online).unwrap();
    assert_eq!(media_requests(&server), 0);
    // The Media Playlist that plays, and no other.
    assert_eq!(server.requests().len(), 2);
    assert_eq!((seen.variant, seen.rendition), (0, None));
    assert_eq!(seen.duration, Some(Duration::from_millis(14_500)));
    assert!(!seen.is_live && !seen.is_encrypted);
    assert_eq!(seen.start.unwrap().offset, Duration::from_secs(3));
    let [low, video] = &seen.variants[..] else {
        panic!()
    };
    assert_eq!((low.bandwidth, low.average_bandwidth), (96_000, Some(64_000)));
    assert_eq!(low.codecs.as_deref(), Some("mp4a.40.5"));
    assert_eq!(
        (low.content, video.content),
        (VariantContent::Audio, VariantContent::Audio)
    );
    assert_eq!(video.resolution, Some((640, 360)));
    assert_eq!(video.audio_group.as_deref(), Some("g"));
    assert_eq!(video.cached, None);
    let low = low.cached.unwrap();
    assert_eq!((low.parts, low.all_parts, low.bytes), (0, 3, 0));
    let renditions: Vec<_> = seen
        .renditions
        .iter()
        .map(|rendition| {
            let channels = rendition.channels.as_deref().unwrap();
            (
                rendition.name.as_str(),
                channels,
                rendition.is_default,
                rendition.is_separate,
            )
        })
        .collect();
    assert_eq!(
        renditions,
        [("English", "2", true, true), ("Deutsch", "6/JOC", false, true)]
    );
    let dates: Vec<_> = seen
        .dates
        .iter()
        .map(|date| (date.time.as_secs(), &date.date[11..13]))
        .collect();
    assert_eq!(dates, [(0, "10"), (12, "12")]);
    let [ad] = &seen.date_ranges[..] else { panic!() };
    assert_eq!(
        (ad.id.as_str(), ad.class.as_deref()),
        ("ad", Some("com.example.ad"))
    );
    assert_eq!(ad.duration, Some(Duration::from_millis(2500)));
    let custom = [("X-WHO", "them"), ("X-N", "7")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(ad.custom, custom);
    let [title, notes] = &seen.session_data[..] else {
        panic!()
    };
    assert_eq!(
        (title.value.as_deref(), notes.uri.as_deref()),
        (Some("A Song"), Some("notes.json"))
    );

    // What is kept is told, of what has been looked at.
    play(&server.url("/master.m3u8"), cache.word_params(), online()).whole();
    let german = || {
        cache
            .word_params()
            .variant(VariantChoice::Index(1))
            .audio_language("de")
    };
    play(&server.url("/master.m3u8"), german(), online()).whole();
    server.stop();
    let seen = inspect(&server, german(), OpenMode::Offline).unwrap();
    assert_eq!((seen.variant, seen.rendition), (1, Some(1)));
    let low = seen.variants[0].cached.unwrap();
    assert!(low.is_whole());
    assert_eq!(
        (low.parts, low.bytes, low.duration),
        (3, 9, Duration::from_millis(14_500))
    );
    let kept: Vec<_> = seen.renditions.iter().map(|rendition| rendition.cached).collect();
    assert_eq!((kept[0], seen.variants[1].cached), (None, kept[1]));
    assert_eq!(kept[1].unwrap().bytes, 2);
    // Bytes of it alone: nothing was played by looking.
    assert!(
        play(&server.url("/master.m3u8"), german(), offline())
            .whole()
            .bytes
            == *b"de"
    );
}

/// A live track is told as such, with what there is to choose from; it cannot be played.
#[test]
fn a_live_track_can_be_looked_at() {
    let live = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n0.ts\n";
    let server = serve(MASTER, &[]);
    server.serve_bytes("/low.m3u8", live.as_bytes());
    let client = crate::rig::builder().build().unwrap();
    let cache = Cache::new();
    for params in [
        cache.word_params(),
        HlsParams::with_access(Access::default().client(client)),
    ] {
        let seen = inspect(&server, params, OpenMode::Online).unwrap();
        assert!(seen.is_live);
        assert_eq!((seen.duration, seen.variants.len()), (None, 2));
        assert_eq!(seen.session_data.len(), 2);
    }
    server.serve_bytes("/master.m3u8", live.as_bytes());
    let seen = inspect(&server, Cache::new().word_params(), OpenMode::Online).unwrap();
    assert!(seen.is_live);
    assert_eq!((seen.variants.len(), seen.variants[0].bandwidth), (1, 0));
}

/// A Media Playlist alone is one Variant Stream; what cannot be had is an error that names it.
#[test]
fn a_media_playlist_is_one_variant_and_what_is_missing_is_an_error() {
    let server = serve(
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n#EXTINF:6,\n0.ts\n#EXT-X-ENDLIST\n",
        &[],
    );
    let cache = Cache::new();
    let missing = inspect(&server, cache.word_params(), OpenMode::Offline).unwrap_err();
    assert!(missing.is_offline_miss(), "{missing}");
    let seen = inspect(&server, cache.word_params(), OpenMode::Online).unwrap();
    assert!(seen.is_encrypted);
    assert_eq!(seen.duration, Some(Duration::from_secs(6)));
    assert_eq!(
        (seen.variants.len(), seen.variants[0].cached.unwrap().all_parts),
        (1, 1)
    );
    server.serve_bytes("/master.m3u8", *b"<html>");
    let error = inspect(&server, Cache::new().word_params(), OpenMode::Online).unwrap_err();
    assert!(matches!(error, HlsError::Playlist { .. }), "{error}");
}
