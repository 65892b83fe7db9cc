//! The simulator of `benches/abr.rs`, by cases that were worked out by hand; and what the adaptive rule (H12) does in it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking; not all of the bench is used here"
)]

#[path = "../benches/abr/listener.rs"]
mod listener;
#[path = "../benches/abr/optimum.rs"]
mod optimum;
#[path = "../benches/abr/peers.rs"]
mod peers;
#[path = "../benches/abr/session.rs"]
mod session;
#[path = "../benches/abr/trace.rs"]
mod trace;

use kithara::hls::selection::{
    Adaptive, Fixed, HeldSegment, Improvement, Lowest, SegmentTransfer, Situation, VariantSelector,
};

use self::session::{CONTAINER, Outcome, Track, play};
use self::trace::Trace;

/// A track whose rungs have no container: round numbers.
fn track(kbits: &[u64], seconds: f64, segment: f64, cap: f64) -> Track {
    let mut track = Track::new(kbits, seconds, segment, cap);
    for bits in &mut track.bits {
        *bits /= CONTAINER;
    }
    track
}

#[track_caller]
fn close(figure: f64, expected: f64) {
    assert!((figure - expected).abs() < 1e-6, "{figure} is not {expected}");
}

#[test]
fn bits_arrive_as_the_steps_of_a_trace_have_it() {
    let trace = Trace::new(vec![100.0, 0.0, 300.0], 0.0);
    close(trace.arrival(0.0, 50.0), 0.5);
    close(trace.arrival(0.5, 50.0), 1.0);
    // 50 in the first second, none in the second, 150 in the half of the third.
    close(trace.arrival(0.5, 200.0), 2.5);
    // Once around: 400 a round.
    close(trace.arrival(0.0, 450.0), 3.5);
    close(trace.arrival(2.25, 0.0), 2.25);
}

/// 64 kbit/s over 128: each second brings two. The first sound comes with the first second, and nothing stalls.
#[test]
fn a_steady_network_starts_and_does_not_stall() {
    let trace = Trace::new(vec![128_000.0], 0.1);
    let outcome = play(&track(&[64], 60.0, 6.0, 60.0), &trace, &mut Lowest);
    close(outcome.start, 0.1 + 0.5);
    close(outcome.stalled, 0.0);
    assert_eq!((outcome.stalls, outcome.switches), (0, 0));
    close(outcome.utility, 60.0 * 2.0_f64.ln());
    close(outcome.score(), 2.0_f64.ln() - 0.6 / 60.0);
    // Whole segments: the first sound comes with the sixth second.
    let mut whole = track(&[64], 60.0, 6.0, 60.0);
    whole.as_they_come = false;
    close(play(&whole, &trace, &mut Lowest).start, 0.1 + 3.0);
}

/// 2 s at twice the rate of the only rung, then 10 s of nothing, then the same again. One segment of 12 s, no latency.
///
/// Sound begins at 0.5 s. By 2 s 4 s of it have come, which last to 4.5 s. At 12 s it comes again: it begins with 2 s of it, at
/// 13 s. Then it comes at twice the speed of sound to the end.
#[test]
fn a_stall_is_as_long_as_worked_out_by_hand() {
    let mut rates = vec![128_000.0; 2];
    rates.extend([0.0; 10]);
    rates.extend([128_000.0; 10]);
    let outcome = play(
        &track(&[64], 12.0, 12.0, 60.0),
        &Trace::new(rates, 0.0),
        &mut Lowest,
    );
    close(outcome.start, 0.5);
    close(outcome.stalled, 13.0 - 4.5);
    assert_eq!(outcome.stalls, 1);
}

/// A rung of twice the network: after 2 s the first second is there and plays for 2 s, as another half comes meanwhile, and so
/// on. The listener waits 2 s at the start, 4 s for 2 s more of sound, and for less at the end of each segment.
#[test]
fn a_rung_beyond_the_network_takes_as_long_as_its_bytes() {
    let trace = Trace::new(vec![64_000.0], 0.0);
    let outcome = play(&track(&[128], 12.0, 6.0, 60.0), &trace, &mut Lowest);
    close(outcome.start, 2.0);
    // The last byte comes at 24 s, and of what has come the rest plays then.
    let end = outcome.start + outcome.stalled + outcome.heard;
    assert!((24.0..=26.0).contains(&end), "{end}");
    assert!(outcome.stalls >= 2);
}

/// 60 s of sound over a network of ten times its rate, 12 s ahead at most: at the end of the last transfer at most 12 s are
/// there, and all bytes are heard.
#[test]
fn the_look_ahead_is_kept() {
    struct Watch(f64);
    impl VariantSelector for Watch {
        fn next(&mut self, situation: &Situation<'_>) -> usize {
            self.0 = self.0.max((situation.buffered + situation.segment).as_secs_f64());
            0
        }
    }
    let trace = Trace::new(vec![640_000.0], 0.1);
    let mut watch = Watch(0.0);
    let outcome = play(&track(&[64], 60.0, 6.0, 12.0), &trace, &mut watch);
    assert!(watch.0 <= 12.0 + 1e-6, "{}", watch.0);
    assert!(watch.0 > 11.9, "{}", watch.0);
    close(outcome.wasted, 0.0);
    close(outcome.fetched, 60.0 * 64_000.0);
}

/// Takes the top, gives up its first segment after 3 s, and improves the last one when it is held.
struct Script {
    improved: bool,
}

impl VariantSelector for Script {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        usize::from(situation.current.is_none())
    }

    fn give_up(&mut self, _: &Situation<'_>, transfer: &SegmentTransfer) -> Option<usize> {
        (transfer.rung == 1 && transfer.elapsed.as_secs() >= 3).then_some(0)
    }

    fn improve(&mut self, _: &Situation<'_>, held: &[HeldSegment]) -> Option<Improvement> {
        let last = held.len().checked_sub(1)?;
        (!std::mem::replace(&mut self.improved, true)).then(|| Improvement::new(last, 1))
    }
}

/// 128 kbit/s over 64: by 3 s 1.5 s of sound have come and are kept. The other 4.5 s are of the low rung. The second segment is
/// fetched low, and not improved; the first one is not held when improving is asked for.
#[test]
fn what_was_given_up_is_wasted_and_what_came_of_it_is_heard() {
    let trace = Trace::new(vec![64_000.0], 0.0);
    let mut two = track(&[32, 128], 12.0, 6.0, 60.0);
    two.improves = false;
    let outcome = play(&two, &trace, &mut Script { improved: false });
    close(outcome.wasted, 3.0 * 64_000.0);
    close(outcome.fetched, 3.0 * 64_000.0 + 12.0 * 32_000.0);
    close(outcome.utility, 1.5 * 4.0_f64.ln());
    assert_eq!(outcome.switches, 1);
    // Sound began at 2 s; the low rung is past 1.5 s after 0.75 s more, when 0.5 s were left, and is twice as fast as sound.
    close(outcome.start, 2.0);
    close(outcome.stalled, 0.25 + 1.0);
}

#[test]
fn what_is_improved_is_heard_in_the_place_of_the_held_one() {
    struct Improves(usize);
    impl VariantSelector for Improves {
        fn next(&mut self, _: &Situation<'_>) -> usize {
            0
        }
        fn improve(&mut self, _: &Situation<'_>, held: &[HeldSegment]) -> Option<Improvement> {
            self.0 += 1;
            // 30 s at 32 kbit/s have come within 1 s of a network of 960.
            (held.len() == 4 && self.0 < 100).then(|| {
                self.0 = 100;
                Improvement::new(3, 1)
            })
        }
    }
    let trace = Trace::new(vec![960_000.0], 0.0);
    let outcome = play(&track(&[32, 320], 30.0, 6.0, 60.0), &trace, &mut Improves(0));
    close(outcome.wasted, 6.0 * 32_000.0);
    close(outcome.fetched, 30.0 * 32_000.0 + 6.0 * 320_000.0);
    close(outcome.utility, 6.0 * 10.0_f64.ln());
    assert_eq!(outcome.switches, 1);
}

/// Two segments and two rungs leave four plans.
#[test]
fn the_optimum_is_the_best_of_all_plans() {
    struct Plan(Vec<usize>);
    impl VariantSelector for Plan {
        fn next(&mut self, _: &Situation<'_>) -> usize {
            self.0.remove(0)
        }
    }
    for seed in 0..20 {
        let trace = trace::like_3g(seed).scaled(0.2);
        let mut small = track(&[32, 96, 320], 24.0, 6.0, 60.0);
        small.improves = false;
        let best = (0..81)
            .map(|plan| Plan((0..4).map(|place| plan / 3_usize.pow(place) % 3).collect()))
            .map(|mut plan| play(&small, &trace, &mut plan).score())
            .fold(f64::NEG_INFINITY, f64::max);
        close(optimum::best(&small, &trace).score(), best);
    }
}

#[test]
fn generated_traces_are_like_the_recorded_ones() {
    let traces: Vec<_> = (0..640).map(trace::like_3g).collect();
    let near = |rate: f64, share: f64| {
        let seen = trace::share_below(&traces, rate);
        assert!((seen - share).abs() < 0.025, "below {rate}: {seen}");
    };
    near(48_000.0, 0.16);
    near(128_000.0, 0.23);
    near(320_000.0, 0.32);
    assert!(trace::longest_outage(&traces) <= 60);
    let mut means: Vec<_> = traces.iter().map(Trace::mean).collect();
    means.sort_by(f64::total_cmp);
    assert!((950_000.0..1_150_000.0).contains(&means[320]), "{}", means[320]);
    assert!(means[0] < 100_000.0 && means[639] < 4_000_000.0);
    let fast: Vec<_> = (0..320).map(trace::like_4g).collect();
    let share = trace::share_below(&fast, 48_000.0);
    assert!((0.010..0.018).contains(&share), "{share}");
}

/// The same seed is the same session, everywhere.
#[test]
fn sessions_are_the_same_each_time() {
    let track = Track::new(&[32, 64, 96, 128, 192, 256, 320], 600.0, 6.0, 60.0);
    let run = |seed| play(&track, &trace::like_3g(seed), &mut Adaptive::new());
    let same = |one: Outcome, other: Outcome| one.score().to_bits() == other.score().to_bits();
    assert!(same(run(5), run(5)) && !same(run(5), run(7)));
}

/// Every rule plays every trace to its end, and the adaptive one is better than both ends of the ladder.
#[test]
fn the_adaptive_rule_beats_the_ends_of_the_ladder() {
    let track = Track::new(&[32, 64, 96, 128, 192, 256, 320], 600.0, 6.0, 60.0);
    let score = |make: &dyn Fn() -> Box<dyn VariantSelector>| {
        (0..40)
            .map(|seed| play(&track, &trace::like_3g(2 * seed + 1), &mut *make()).score())
            .sum::<f64>()
            / 40.0
    };
    let adaptive = score(&|| Box::new(Adaptive::new()));
    assert!(adaptive > score(&|| Box::new(Fixed(6))) && adaptive > score(&|| Box::new(Lowest)));
    assert!(adaptive > 1.9, "{adaptive}");
    for peer in [
        score(&|| Box::<peers::HlsJs>::default()),
        score(&|| Box::<peers::Media3>::default()),
        score(&|| Box::<peers::Shaka>::default()),
        score(&|| Box::<peers::Bba>::default()),
        score(&|| Box::<peers::Bola>::default()),
    ] {
        assert!(peer > 1.0 && adaptive > peer, "{peer} {adaptive}");
    }
}
