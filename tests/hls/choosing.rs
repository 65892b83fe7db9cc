//! A selector chooses the Variant Stream of each segment (H12, H13).

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::hls::selection::{AtMost, Fixed, Highest, Lowest, NetworkMemory, NetworkSample};
use kithara::hls::selection::{SegmentTransfer, Situation, VariantSelector};
use kithara::hls::{HlsControl, HlsControls, HlsParams, HlsSource, Origin};
use kithara::stream::{Message, Source};
use kithara_test_support::{Rule, Server};

use super::rig::{Cache, is_question, offline, online, url};
use super::switching::{SEGMENTS, listen, server};

/// What a selector was asked and told.
#[derive(Default)]
struct Notes {
    /// Of each segment: `current`, how many rungs there were, and what was answered.
    asked: Vec<(Option<usize>, usize, usize)>,
    bytes: u64,
    is_over: usize,
    now: Duration,
}

/// Answers what a function says of the number of the question.
#[derive(Clone)]
struct Script<F> {
    answer: F,
    gives_up: Option<usize>,
    notes: Arc<Mutex<Notes>>,
}

impl<F: Fn(usize) -> usize> Script<F> {
    fn new(answer: F) -> Self {
        Self {
            answer,
            gives_up: None,
            notes: Arc::default(),
        }
    }
}

impl<F: Fn(usize) -> usize + Send> VariantSelector for Script<F> {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        let mut notes = self.notes.lock().unwrap();
        // A copy that chooses the list to begin with begins with its time.
        assert!(situation.now >= notes.now || situation.now.is_zero());
        notes.now = situation.now;
        let answer = (self.answer)(notes.asked.len());
        notes
            .asked
            .push((situation.current, situation.ladder.len(), answer));
        answer
    }

    fn observe(&mut self, sample: &NetworkSample) {
        let mut notes = self.notes.lock().unwrap();
        notes.bytes += sample.bytes;
        notes.is_over += usize::from(sample.is_last);
    }

    fn give_up(&mut self, _: &Situation<'_>, transfer: &SegmentTransfer) -> Option<usize> {
        // One that has begun to come is whole, but for one that stops.
        let has_stopped = transfer.elapsed > Duration::from_millis(300);
        let is_held_up = transfer.received == 0 || transfer.size.is_some_and(|size| transfer.received < size);
        let instead = self.gives_up.filter(|place| *place != transfer.rung);
        instead.filter(|_| has_stopped && is_held_up)
    }

    fn network(&self) -> Option<NetworkMemory> {
        Some(NetworkMemory::new(self.notes.lock().unwrap().bytes))
    }
}

fn random(number: usize) -> usize {
    let number = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from((number >> 40) % 3).unwrap()
}

fn source(server: &Server, params: HlsParams) -> HlsSource {
    HlsSource::new(url(&server.url("/master.m3u8")), params)
}

fn media(server: &Server) -> Vec<String> {
    let requests = server.requests();
    let is_media = |path: &String| !path.contains(".m3u8");
    let whole = requests.iter().filter(|request| !is_question(request));
    whole
        .map(|request| request.path_only().to_owned())
        .filter(is_media)
        .collect()
}

/// Each segment is of the one that was chosen for it. Nothing is fetched twice or for nothing, and the same plays again offline,
/// and with the server gone.
#[test]
fn each_segment_is_of_the_one_that_was_chosen_and_plays_again() {
    let server = server();
    let cache = Cache::new();
    let script = Script::new(random);
    let controls = HlsControls::new();
    let params = cache.params().selector(script.clone()).controls(controls.clone());
    let first = listen(&mut source(&server, params), &online(), |_| {});
    assert_eq!(first.end.as_secs(), 4 * SEGMENTS as u64);
    assert!(first.switches() > SEGMENTS / 3, "{}", first.switches());
    {
        let notes = script.notes.lock().unwrap();
        // The first question is of a copy, which chooses the list to begin with.
        let answers: Vec<_> = notes.asked.iter().skip(1).collect();
        let chosen: Vec<_> = answers.iter().map(|(_, _, answer)| *answer).collect();
        assert_eq!(first.variants(), chosen);
        assert_eq!(answers[0].0, None);
        for (before, now) in first.variants().iter().zip(&answers[1..]) {
            assert_eq!((now.0, now.1), (Some(*before), 3));
        }
        // As of the last choice.
        let told = controls.network().unwrap().bit_rate;
        assert!(told > notes.bytes / 2 && told <= notes.bytes);
        assert!(notes.is_over >= first.segments.len());
    }
    let mut fetched = media(&server);
    let count = fetched.len();
    fetched.sort();
    fetched.dedup();
    assert_eq!(fetched.len(), count, "fetched twice");
    // Three sections.
    assert_eq!(count, first.segments.len() + 3);

    // The highest of what is there: each segment has one.
    let params = || cache.params().selector(Highest);
    server.stop();
    for mode in [offline(), online()] {
        let again = listen(&mut source(&server, params()), &mode, |_| {});
        assert_eq!(again.end, first.end, "{mode:?}");
        assert!(again.segments.iter().all(|(.., origin)| *origin == Origin::Cache));
    }
}

#[test]
fn the_ready_ones_play() {
    let server = server();
    // The bandwidths are 1, 2 and 3.
    let play = |params: HlsParams| listen(&mut source(&server, params), &online(), |_| {}).variants();
    let all = |variants: Vec<usize>, of: usize| assert!(variants.iter().all(|variant| *variant == of));
    all(play(Cache::new().params().selector(Highest)), 2);
    all(play(Cache::new().params().selector(Lowest)), 0);
    all(play(Cache::new().params().selector(AtMost(2))), 1);
    all(play(Cache::new().params().selector(Fixed(1))), 1);
    // And no request but those for what plays: nothing is loaded that is not chosen.
    let server = self::server();
    let cache = Cache::new();
    let params = cache.params().selector(AtMost(2));
    listen(&mut source(&server, params), &online(), |_| {});
    assert!(server.requests().iter().all(|request| {
        let path = request.path_only();
        path.contains('1') || path.contains("master")
    }));
}

/// The app's limit and the app's choice hold from the next segment on that was not chosen yet.
#[test]
fn the_apps_limit_and_choice_come_first() {
    let server = server();
    let cache = Cache::new();
    let controls = HlsControls::new();
    controls.set_max_bit_rate(Some(2));
    assert_eq!(controls.max_bit_rate(), Some(2));
    let params = cache
        .params()
        .selector(Highest)
        .look_ahead(Duration::ZERO)
        .controls(controls.clone());
    let heard = listen(&mut source(&server, params), &online(), |time| {
        match time.as_secs() {
            20 => controls.set_max_bit_rate(None),
            40 => controls.set_variant(0),
            60 => controls.choose_variants(),
            _ => {}
        }
    });
    let at = |second: u64| {
        let segments = heard.segments.iter();
        let before = segments.take_while(|(_, time, _)| time.as_secs() <= second);
        before.last().map(|(variant, ..)| *variant).unwrap()
    };
    assert_eq!([at(0), at(16), at(32), at(52), at(80)], [1, 1, 2, 0, 2]);
}

/// A Variant Stream whose list is not to be had is left out. What was chosen before plays on.
#[test]
fn one_that_is_not_to_be_had_is_left_out() {
    for (answer, body) in [(404, ""), (200, "<html>a page</html>")] {
        let server = server();
        server.rule("/2.m3u8", Rule::new().answer(answer, body));
        let cache = Cache::new();
        let script = Script::new(|number| if number < 5 { 0 } else { 2 });
        let params = cache.params().selector(script.clone());
        let heard = listen(&mut source(&server, params), &online(), |_| {});
        // Of two rungs the third is the last.
        let variants = heard.variants();
        assert!(variants.iter().all(|variant| *variant < 2), "{variants:?}");
        assert_eq!(variants.last(), Some(&1));
        let lists = server.requests();
        let lists = lists.iter().filter(|request| request.path_only() == "/2.m3u8");
        assert!(lists.count() <= 2);
    }
}

/// A Variant Stream whose server is silent is given up for another one, where nothing of the segment was read.
#[test]
fn a_segment_that_does_not_come_is_taken_from_another_one() {
    let server = server();
    let gate = server.gate();
    server.rule("/1-9.ts", Rule::new().gate(&gate));
    let cache = Cache::new();
    let mut script = Script::new(|number| usize::from((5..12).contains(&number)));
    script.gives_up = Some(0);
    let params = super::look_ahead::patient(&cache).selector(script.clone());
    let heard = listen(&mut source(&server, params), &online(), |_| {});
    drop(gate);
    let ninth = heard.segments.iter().find(|(_, time, _)| time.as_secs() == 36);
    assert_eq!(ninth.unwrap().0, 0);
    assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64);
}

/// The same where a part of it was read: the other one begins at the segment's start, and says so.
#[test]
fn a_segment_that_stops_is_taken_from_another_one() {
    let server = server();
    let gate = server.gate();
    server.rule("/1-9.ts", Rule::new().gate_after(100, &gate));
    let cache = Cache::new();
    let mut script = Script::new(|number| usize::from((5..12).contains(&number)));
    script.gives_up = Some(0);
    // The segment is the first one ahead: only it is under way.
    let params = super::look_ahead::patient(&cache)
        .selector(script)
        .look_ahead(Duration::ZERO);
    let tape = future::block_on(super::rig::drain(
        source(&server, params).open(&online()).unwrap(),
    ))
    .whole();
    drop(gate);
    let text = String::from_utf8(tape.bytes).unwrap();
    let ninth = text.find("ID3 of 1 9 ").unwrap();
    let behind = &text[ninth..];
    let again = behind.find("ID3 init 0ID3 of 0 9 ").unwrap();
    assert_eq!(again, 100);
    // Each other segment is heard once.
    for segment in (0..SEGMENTS).filter(|segment| *segment != 9) {
        let heard = (0..3).map(|variant| text.matches(&format!("of {variant} {segment} ")).count());
        assert_eq!(heard.sum::<usize>(), 1, "{segment}");
    }
}

/// A seek does not forget what was learned.
#[test]
fn one_selector_lives_as_long_as_its_source() {
    let server = server();
    let cache = Cache::new();
    let script = Script::new(|number| usize::from(number > 3));
    let mut source = source(&server, cache.params().selector(script.clone()));
    for second in [0, 100, 40, 280] {
        let asked = script.notes.lock().unwrap().asked.len();
        source.seek_time(Duration::from_secs(second)).unwrap();
        let mut stream = source.open(&online()).unwrap();
        future::block_on(async {
            while let Some(message) = stream.next().await {
                if let Message::Control(HlsControl::SegmentStart { variant, time, .. }) = message.unwrap() {
                    assert_eq!(time.as_secs(), second);
                    assert_eq!(variant, usize::from(asked > 3));
                    return;
                }
            }
        });
    }
}

/// A selector that panics chooses no more. The stream goes on.
#[test]
fn a_selector_that_panics_ends_choosing_alone() {
    let server = server();
    let cache = Cache::new();
    let script = Script::new(|number| {
        assert!(number < 7, "the selector's own fault");
        number % 2
    });
    let params = cache.params().selector(script);
    let heard = listen(&mut source(&server, params), &online(), |_| {});
    assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64);
    assert_eq!(heard.variants()[..6], [1, 0, 1, 0, 1, 0]);
}

/// A byte is looked for in one Variant Stream, and so does a reader read.
#[test]
fn positions_in_bytes_are_those_of_one_variant_stream() {
    let server = server();
    let cache = Cache::new();
    let script = Script::new(|number| if number == 0 { 1 } else { random(number) });
    let mut source = source(&server, cache.params().selector(script));
    let first: usize = (0..4)
        .map(|segment| super::switching::body(1, segment).len())
        .sum();
    source
        .seek_bytes("ID3 init 1".len() as u64 + first as u64)
        .unwrap();
    let mut stream = source.open(&online()).unwrap();
    let start = future::block_on(async {
        loop {
            if let Message::Data(data) = stream.next().await.unwrap().unwrap() {
                break data;
            }
        }
    });
    assert!(start.starts_with(b"ID3 of 1 4 "), "{start:?}");
}

/// Renditions are changed while a track plays, with a selector and without one.
#[test]
fn another_rendition_goes_on_where_the_app_says_so() {
    let server = Server::empty().unwrap();
    let mut master = "#EXTM3U\n".to_owned();
    for (group, variant) in [("low", 1), ("high", 2)] {
        for name in ["en", "de"] {
            let default = if name == "en" { "YES" } else { "NO" };
            writeln!(
                master,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",NAME=\"{name}\",LANGUAGE=\"{name}\",\
                DEFAULT={default},URI=\"{group}-{name}.m3u8\""
            )
            .unwrap();
            let mut list = "#EXTM3U\n".to_owned();
            for segment in 0..20 {
                write!(list, "#EXTINF:4,\n{group}-{name}-{segment}.ts\n").unwrap();
                let body = format!("ID3 {group} {name} {segment} {}", "x".repeat(300));
                server.serve_bytes(format!("/{group}-{name}-{segment}.ts"), body.into_bytes());
            }
            list += "#EXT-X-ENDLIST\n";
            server.serve_bytes(format!("/{group}-{name}.m3u8"), list.into_bytes());
        }
        let said = format!("BANDWIDTH={variant},AUDIO=\"{group}\"");
        write!(master, "#EXT-X-STREAM-INF:{said}\n{group}.m3u8\n").unwrap();
    }
    server.serve_bytes("/master.m3u8", master.into_bytes());
    for with_selector in [false, true] {
        let cache = Cache::new();
        let controls = HlsControls::new();
        let mut params = cache.params().controls(controls.clone());
        if with_selector {
            params = params.selector(Script::new(|number| number % 2));
        }
        let mut source = source(&server, params);
        let mut stream = source.open(&online()).unwrap();
        let mut heard = Vec::new();
        future::block_on(async {
            while let Some(message) = stream.next().await {
                let Message::Data(data) = message.unwrap() else {
                    continue;
                };
                let text = String::from_utf8(data.to_vec()).unwrap();
                let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
                heard.push((words[1].clone(), words[2].clone(), words[3].clone()));
                match heard.len() {
                    5 => controls.set_rendition("de"),
                    12 => controls.set_rendition("en"),
                    _ => {}
                }
            }
        });
        let said: Vec<_> = heard.iter().map(|(_, name, _)| name.as_str()).collect();
        assert_eq!(said, [["en"; 5].as_slice(), &["de"; 7], &["en"; 8]].concat());
        assert!(
            heard
                .iter()
                .enumerate()
                .all(|(place, heard)| heard.2 == place.to_string())
        );
        let groups = heard.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
        assert_eq!(groups > 10, with_selector, "{heard:?}");
    }
}

/// A list that the server refuses is not asked for again and again, though the cache has what comes next of it: where the stream
/// itself goes over to it, and no oftener.
#[test]
fn a_refused_list_is_not_asked_for_without_end() {
    let server = server();
    let cache = Cache::new();
    let params = || cache.params().selector(Script::new(random));
    listen(&mut source(&server, params()), &online(), |_| {});
    server.rule("/1.m3u8", Rule::new().answer(404, ""));
    let before = server.requests().len();
    let params = cache.params().selector(Script::new(|number| number % 3));
    let heard = listen(&mut source(&server, params), &online(), |_| {});
    assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64);
    let requests = server.requests();
    let lists = requests[before..].iter();
    let asked = lists.filter(|request| request.path_only() == "/1.m3u8").count();
    assert!(asked <= SEGMENTS / 3, "{asked}");
}

/// A list that ends before the instant is no end of the track.
#[test]
fn a_list_that_ends_earlier_is_no_end() {
    let server = server();
    let mut list = "#EXTM3U\n#EXT-X-MAP:URI=\"init-1\"\n".to_owned();
    for segment in 0..SEGMENTS - 3 {
        write!(list, "#EXTINF:4,\n1-{segment}.ts\n").unwrap();
    }
    list.push_str("#EXT-X-ENDLIST\n");
    server.serve_bytes("/1.m3u8", list.into_bytes());
    let cache = Cache::new();
    // Not before its end, so that it is not known.
    let script = Script::new(|number| usize::from(number > SEGMENTS - 2));
    let heard = listen(
        &mut source(&server, cache.params().selector(script)),
        &online(),
        |_| {},
    );
    assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64);
}

/// A list that does not come holds nothing up.
#[test]
fn a_silent_list_holds_nothing_up() {
    let server = server();
    let gate = server.gate();
    server.rule("/1.m3u8", Rule::new().gate(&gate));
    let cache = Cache::new();
    let script = Script::new(|number| usize::from(number > 2));
    let params = super::look_ahead::patient(&cache).selector(script);
    let heard = listen(&mut source(&server, params), &online(), |_| {});
    assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64);
    assert!(heard.variants().iter().all(|variant| *variant == 0));
    drop(gate);
}
