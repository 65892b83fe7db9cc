use proptest::prelude::*;

use super::super::super::{
    Adaptive, HeldSegment, NetworkMemory, NetworkSample, SegmentTransfer, Situation, VariantSelector,
};
use super::*;

/// What happens to a selector.
#[derive(Debug, Clone)]
enum Event {
    Bytes {
        bytes: u64,
        milliseconds: u64,
        waited: u64,
        is_last: bool,
    },
    Next {
        buffered: u64,
    },
    GiveUp {
        rung: usize,
        received: u64,
        size: Option<u64>,
        buffered: u64,
    },
    Improve {
        held: Vec<(usize, u64, u64)>,
        buffered: u64,
    },
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..2_000_000_u64, Just(u64::MAX)]
}

fn event() -> impl Strategy<Value = Event> {
    let milliseconds = || 0..90_000_u64;
    prop_oneof![
        (0..4_000_000_u64, 0..20_000_u64, 0..20_000_u64, any::<bool>()).prop_map(
            |(bytes, milliseconds, waited, is_last)| Event::Bytes {
                bytes,
                milliseconds,
                waited,
                is_last
            }
        ),
        milliseconds().prop_map(|buffered| Event::Next { buffered }),
        (
            0..9_usize,
            numbers(),
            proptest::option::of(numbers()),
            milliseconds()
        )
            .prop_map(|(rung, received, size, buffered)| Event::GiveUp {
                rung,
                received,
                size,
                buffered
            }),
        (
            proptest::collection::vec((0..9_usize, milliseconds(), milliseconds()), 0..12),
            milliseconds()
        )
            .prop_map(|(held, buffered)| Event::Improve { held, buffered }),
    ]
}

fn rung() -> impl Strategy<Value = Rung> {
    let codecs = prop_oneof![
        Just(None),
        Just(Some("mp4a.40.2")),
        Just(Some("MP4A.40.5")),
        Just(Some("mp4a.40.34")),
        Just(Some("fLaC")),
        Just(Some(", é")),
    ];
    (
        numbers(),
        proptest::option::of(numbers()),
        codecs,
        proptest::option::of(numbers()),
        0..90_u64,
    )
        .prop_map(|(bandwidth, average, codecs, next_bytes, cached)| {
            let mut rung = Rung::new(bandwidth);
            rung.average_bandwidth = average;
            rung.codecs = codecs.map(str::to_owned);
            rung.next_bytes = next_bytes;
            rung.cached = Duration::from_secs(if cached > 60 { cached } else { 0 });
            rung
        })
}

/// What a selector answers to some events: the time, and the rung that was asked for.
fn answers(
    selector: &mut Adaptive,
    ladder: &[Rung],
    limit: Option<u64>,
    events: &[Event],
) -> Vec<(Duration, usize)> {
    let (mut now, mut current, mut answers) = (Duration::ZERO, None, Vec::new());
    for event in events {
        let situation = |buffered: u64| {
            Situation::new(now, ladder)
                .current(current)
                .buffered(Duration::from_millis(buffered))
                .look_ahead(Duration::from_secs(60))
                .max_bit_rate(limit)
        };
        match event {
            Event::Bytes {
                bytes,
                milliseconds,
                waited,
                is_last,
            } => {
                let time = Duration::from_millis(*milliseconds);
                now += time;
                let sample = NetworkSample::new(now, *bytes, time);
                selector.observe(&sample.waited(Duration::from_millis(*waited)).last(*is_last));
            }
            Event::Next { buffered } => {
                let rung = selector.next(&situation(*buffered));
                current = Some(rung);
                answers.push((now, rung));
            }
            Event::GiveUp {
                rung,
                received,
                size,
                buffered,
            } => {
                // What is under way is what was asked for last.
                let rung = current.unwrap_or(*rung);
                let transfer = SegmentTransfer::new(rung, Duration::from_secs(6))
                    .received(*received)
                    .size(*size);
                if let Some(rung) = selector.give_up(&situation(*buffered), &transfer) {
                    current = Some(rung);
                    answers.push((now, rung));
                }
            }
            Event::Improve { held, buffered } => {
                let held: Vec<_> = held
                    .iter()
                    .map(|(rung, playing, starts_in)| {
                        let time = Duration::from_millis;
                        HeldSegment::new(*rung, time(*playing), time(*starts_in))
                    })
                    .collect();
                if let Some(improvement) = selector.improve(&situation(*buffered), &held) {
                    assert!(improvement.segment < held.len());
                    let before = ladder[held[improvement.segment].rung].bit_rate();
                    assert!(ladder[improvement.rung].bit_rate() > before);
                    let least = ladder.iter().map(|rung| rung.bandwidth).min().unwrap();
                    assert!(limit.is_none_or(|limit| ladder[improvement.rung].bandwidth <= limit.max(least)));
                }
            }
        }
    }
    answers
}

proptest! {
    #[test]
    fn answers_are_in_the_ladder_and_under_the_limit(
        ladder in proptest::collection::vec(rung(), 1..8),
        limit in proptest::option::of(numbers()),
        remembered in proptest::option::of(numbers()),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let mut selector = Adaptive::new();
        if let Some(rate) = remembered {
            selector = selector.network(NetworkMemory::new(rate));
        }
        let mut same = selector.clone();
        let all = answers(&mut selector, &ladder, limit, &events);
        let least = ladder.iter().map(|rung| rung.bandwidth).min().unwrap();
        for (_, rung) in &all {
            // Where the limit allows none, the lowest.
            let limit = limit.map_or(u64::MAX, |limit| limit.max(least));
            prop_assert!(ladder[*rung].bandwidth <= limit, "{rung}");
        }
        // The same calls get the same answers.
        prop_assert_eq!(all, answers(&mut same, &ladder, limit, &events));
    }

    #[test]
    fn an_empty_ladder_is_answered(events in proptest::collection::vec(event(), 0..20)) {
        for (_, rung) in answers(&mut Adaptive::new(), &[], None, &events) {
            prop_assert_eq!(rung, 0);
        }
    }

    #[test]
    fn the_codec_changes_once_a_minute_at_most(
        ladder in proptest::collection::vec(rung(), 1..8),
        limit in proptest::option::of(numbers()),
        events in proptest::collection::vec(event(), 0..120),
    ) {
        let all = answers(&mut Adaptive::new(), &ladder, limit, &events);
        let codec = |rung: usize| {
            let codecs = ladder[rung].codecs.as_deref()?.to_ascii_lowercase();
            (!codecs.starts_with(',')).then(|| match codecs.as_str() {
                "mp4a.40.34" => "mp3".to_owned(),
                other => other.split('.').next().unwrap().to_owned(),
            })
        };
        let (mut before, mut changed): (Option<String>, Option<Duration>) = (None, None);
        for (now, rung) in all {
            let Some(codec) = codec(rung) else { continue };
            if before.as_ref().is_some_and(|before| *before != codec) {
                if let Some(changed) = changed {
                    prop_assert!(now.saturating_sub(changed) >= Duration::from_secs(60), "{changed:?} {now:?}");
                }
                changed = Some(now);
            }
            before = Some(codec);
        }
    }

    #[test]
    fn more_in_the_buffer_or_a_higher_limit_gives_no_lower_rung(
        rates in proptest::collection::vec(0..5_000_000_u64, 1..20),
        current in proptest::option::of(0..8_usize),
        buffered in 0..60_000_u64,
        more in 0..60_000_u64,
        limit in 0..1_500_000_u64,
    ) {
        let ladder = with_flac();
        let mut selector = Adaptive::new();
        for (second, rate) in (0_u32..).zip(&rates) {
            hear(&mut selector, f64::from(second), 1.0, *rate);
        }
        let at = |buffered| {
            Situation::new(Duration::from_secs(100), &ladder)
                .current(current)
                .buffered(Duration::from_millis(buffered))
                .look_ahead(Duration::from_secs(60))
        };
        let next = |situation: Situation<'_>| ladder[selector.clone().next(&situation)].bit_rate();
        prop_assert!(next(at(buffered)) <= next(at(buffered + more)));
        prop_assert!(next(at(buffered).max_bit_rate(Some(limit))) <= next(at(buffered)));
    }

    #[test]
    fn a_network_that_gives_more_gives_no_lower_rung(
        rates in proptest::collection::vec(0..5_000_000_u64, 1..20),
        factor in 1..20_u64,
        buffered in 0..60_000_u64,
    ) {
        let ladder = with_flac();
        let next = |factor: u64| {
            let mut selector = Adaptive::new();
            for (second, rate) in (0_u32..).zip(&rates) {
                // No outage: of one it is not known what the network gives behind it.
                hear(&mut selector, f64::from(second), 1.0, (rate + 100_000) * factor);
            }
            let situation = Situation::new(Duration::from_secs(100), &ladder)
                .current(Some(3))
                .buffered(Duration::from_millis(buffered));
            ladder[selector.next(&situation)].bit_rate()
        };
        prop_assert!(next(1) <= next(factor));
    }

    #[test]
    fn what_the_cache_gives_changes_nothing_of_the_network(
        rates in proptest::collection::vec(0..5_000_000_u64, 1..20),
        cached in 0..8_usize,
    ) {
        let mut with_cache = with_flac();
        with_cache[cached].cached = Duration::from_secs(90);
        let run = |ladder: &[Rung]| {
            let mut selector = Adaptive::new();
            for (second, rate) in (0_u32..).zip(&rates) {
                hear(&mut selector, f64::from(second), 1.0, *rate);
                let situation = Situation::new(Duration::from_secs(u64::from(second) + 1), ladder).current(Some(3));
                let _ = selector.next(&situation);
            }
            (selector.estimate.pessimistic(&selector.tuning), VariantSelector::network(&selector))
        };
        prop_assert_eq!(run(&with_cache), run(&with_flac()));
    }
}
