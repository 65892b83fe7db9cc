//! A segment that is held is fetched again, from a better Variant Stream, before it is heard (H12).

use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use kithara::hls::selection::{HeldSegment, Highest, Improvement, Situation, VariantSelector};
use kithara::hls::{HlsSource, Origin};
use kithara_test_support::{Ended, Recorded, Rule, Server};

use super::rig::{Cache, offline, online, url};
use super::switching::{SEGMENTS, listen, server};

/// So much is held when the look-ahead is full: 300 s of 4 s each, but for what is read.
const FULL: usize = 70;

/// The lowest one comes next, and what is held is improved as `answer` says. What it was asked about is told.
#[derive(Clone)]
struct Improving<F> {
    answer: F,
    asked: Sender<(Vec<HeldSegment>, Option<Improvement>)>,
}

impl<F: Fn(&[HeldSegment]) -> Option<Improvement> + Send> VariantSelector for Improving<F> {
    fn next(&mut self, _: &Situation<'_>) -> usize {
        0
    }

    fn improve(&mut self, situation: &Situation<'_>, held: &[HeldSegment]) -> Option<Improvement> {
        assert!(!held.is_empty() && situation.buffered > Duration::ZERO);
        assert!(held.is_sorted_by_key(|held| held.starts_in));
        let answer = (self.answer)(held);
        // The test may be over.
        self.asked.send((held.to_vec(), answer)).ok();
        answer
    }
}

type Asked = Receiver<(Vec<HeldSegment>, Option<Improvement>)>;

fn improving<F: Fn(&[HeldSegment]) -> Option<Improvement>>(answer: F) -> (Improving<F>, Asked) {
    let (asked, receiver) = channel();
    (Improving { answer, asked }, receiver)
}

/// The first one that is of the lowest, from the second one.
fn first_low(held: &[HeldSegment]) -> Option<Improvement> {
    let place = held.iter().position(|held| held.rung == 0)?;
    Some(Improvement::new(place, 1))
}

/// Waits until the selector has seen what the test waits for.
fn wait(asked: &Asked, mut is_it: impl FnMut(&[HeldSegment], Option<Improvement>) -> bool) {
    loop {
        let (held, answer) = asked.recv_timeout(Duration::from_secs(20)).unwrap();
        if is_it(&held, answer) {
            return;
        }
    }
}

fn source(
    server: &Server,
    cache: &Cache,
    selector: impl VariantSelector + Clone + Sync + 'static,
) -> HlsSource {
    HlsSource::new(
        url(&server.url("/master.m3u8")),
        cache.params().selector(selector),
    )
}

/// While nothing plays on, all that is held becomes better. What was held first is not fetched for nothing twice, and the better
/// one plays again without the server.
#[test]
fn what_is_held_is_fetched_again_and_heard_better() {
    let server = server();
    let cache = Cache::new();
    let (selector, asked) = improving(first_low);
    let mut is_first = true;
    let heard = listen(&mut source(&server, &cache, selector), &online(), |_| {
        if std::mem::take(&mut is_first) {
            wait(&asked, |held, answer| held.len() >= FULL && answer.is_none());
        }
    });
    assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64);
    let variants = heard.variants();
    // The one that is read, and the one that may be read at any moment.
    assert_eq!(variants[..2], [0, 0]);
    assert!(
        variants[2..FULL].iter().all(|variant| *variant == 1),
        "{variants:?}"
    );
    let mut fetched: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.path_only().to_owned())
        .collect();
    fetched.retain(|path| !path.contains(".m3u8") && !path.contains("init"));
    let count = fetched.len();
    fetched.sort();
    fetched.dedup();
    assert_eq!(fetched.len(), count, "fetched twice");

    server.stop();
    for mode in [offline(), online()] {
        let again = listen(&mut source(&server, &cache, Highest), &mode, |_| {});
        assert!(again.variants()[2..FULL].iter().all(|variant| *variant == 1));
        assert!(again.segments.iter().all(|(.., origin)| *origin == Origin::Cache));
        assert_eq!(again.end, heard.end);
    }
}

/// One that is cut otherwise cannot stand in its place, and is not fetched.
#[test]
fn one_that_is_cut_otherwise_is_not_fetched() {
    let server = server();
    let cache = Cache::new();
    let (selector, asked) = improving(|_: &[HeldSegment]| Some(Improvement::new(0, 2)));
    let mut is_first = true;
    let heard = listen(&mut source(&server, &cache, selector), &online(), |_| {
        if std::mem::take(&mut is_first) {
            wait(&asked, |held, _| held.len() >= FULL);
        }
    });
    assert!(heard.variants().iter().all(|variant| *variant == 0));
    assert!(
        server
            .requests()
            .iter()
            .all(|request| !request.path_only().starts_with("/2-"))
    );
}

/// An answer that names nothing that is held, or what it is of already, changes nothing.
#[test]
fn an_answer_that_means_nothing_changes_nothing() {
    for answer in [Improvement::new(1000, 1), Improvement::new(0, 0)] {
        let server = server();
        let cache = Cache::new();
        let (selector, asked) = improving(move |_: &[HeldSegment]| Some(answer));
        let mut is_first = true;
        let heard = listen(&mut source(&server, &cache, selector), &online(), |_| {
            if std::mem::take(&mut is_first) {
                wait(&asked, |held, _| held.len() >= FULL);
            }
        });
        assert!(heard.variants().iter().all(|variant| *variant == 0));
    }
}

/// A better one that does not come in time, or is not to be had, costs nothing: the one that is held plays.
#[test]
fn a_better_one_that_does_not_come_costs_nothing() {
    for is_refused in [false, true] {
        let server = server();
        let gate = server.gate();
        for segment in 1..SEGMENTS {
            let rule = if is_refused {
                Rule::new().answer(404, "")
            } else {
                Rule::new().gate_after(100, &gate)
            };
            server.rule(format!("/1-{segment}.ts"), rule);
        }
        let cache = Cache::new();
        let (selector, asked) =
            improving(|held: &[HeldSegment]| (held.len() >= FULL).then(|| Improvement::new(5, 1)));
        let is_better = |log: &&Recorded| log.path_only().starts_with("/1-") && log.path_only() != "/1-0.ts";
        let mut is_first = true;
        let params = super::look_ahead::patient(&cache).selector(selector);
        let mut source = HlsSource::new(url(&server.url("/master.m3u8")), params);
        let heard = listen(&mut source, &online(), |_| {
            if std::mem::take(&mut is_first) {
                wait(&asked, |_, answer| answer.is_some());
                server.wait_until(|log| log.requests.iter().any(|request| is_better(&request)));
            }
        });
        assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64);
        assert!(heard.variants().iter().all(|variant| *variant == 0));
        // Of a Variant Stream that fails nothing is fetched for a while. The stream may have come first once or twice.
        let is_over = |request: &Recorded| request.ended != Ended::Not;
        server.wait_until(|log| log.requests.iter().filter(is_better).all(is_over));
        let count = server.requests().iter().filter(is_better).count();
        assert!(count < 5 || !is_refused, "{count}");
        drop(gate);
    }
}

/// A list that is not to be had is asked for once, and holds up nothing.
#[test]
fn a_list_that_is_not_to_be_had_is_asked_for_once() {
    let server = server();
    server.rule("/1.m3u8", Rule::new().answer(404, ""));
    let cache = Cache::new();
    let (selector, asked) = improving(first_low);
    let mut is_first = true;
    let heard = listen(&mut source(&server, &cache, selector), &online(), |_| {
        if std::mem::take(&mut is_first) {
            wait(&asked, |_, answer| answer.is_some());
        }
    });
    assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64);
    assert!(heard.variants().iter().all(|variant| *variant == 0));
    let requests = server.requests();
    let lists = requests.iter().filter(|request| request.path_only() == "/1.m3u8");
    assert_eq!(lists.count(), 1);
}

/// Where a better list ends earlier, the stream would: its last segment does not stand in.
#[test]
fn the_end_of_a_better_list_is_no_end() {
    let server = server();
    let mut list = "#EXTM3U\n#EXT-X-MAP:URI=\"init-1\"\n".to_owned();
    for segment in 0..40 {
        write!(list, "#EXTINF:4,\n1-{segment}.ts\n").unwrap();
    }
    list.push_str("#EXT-X-ENDLIST\n");
    server.serve_bytes("/1.m3u8", list.into_bytes());
    let cache = Cache::new();
    let (selector, asked) = improving(first_low);
    let mut is_first = true;
    let heard = listen(&mut source(&server, &cache, selector), &online(), |_| {
        if std::mem::take(&mut is_first) {
            // Its last one comes next.
            wait(&asked, |held, _| {
                held.iter().filter(|held| held.rung == 1).count() >= 36
            });
        }
    });
    assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64);
}

/// Whatever is improved or made worse, in whatever order and wherever the stream is meanwhile: each byte is heard once, in its
/// place.
#[test]
fn whatever_is_fetched_again_is_heard_once() {
    let server = server();
    let (mut improved, mut random) = (0, 7_u64);
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap()
    };
    for play in 0..16 {
        let cache = Cache::new();
        let seed = next();
        let any = move |held: &[HeldSegment]| {
            let mixed = (held.len() * 31 + seed).wrapping_mul(2_654_435_761) >> 7;
            let place = mixed % held.len();
            // Of one that is cut otherwise now and then.
            let rung = if mixed.is_multiple_of(11) {
                2
            } else {
                1 - held[place].rung.min(1)
            };
            Some(Improvement::new(place, rung))
        };
        let (selector, asked) = improving(any);
        let mut pauses = [(); 6].map(|()| next() % SEGMENTS);
        pauses.sort_unstable();
        let mut segment = 0;
        let heard = listen(&mut source(&server, &cache, selector), &online(), |_| {
            if pauses.contains(&segment) {
                let mut left = 12;
                // Behind its end nothing is asked any more.
                while left > 0 && segment + 4 < SEGMENTS {
                    let Ok(_) = asked.recv_timeout(Duration::from_millis(300)) else {
                        break;
                    };
                    left -= 1;
                }
            }
            segment += 1;
        });
        assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64, "play {play}");
        improved += heard.variants().iter().filter(|variant| **variant == 1).count();
    }
    assert!(improved > 50, "{improved}");
}
