//! How well Variant Streams are chosen: sessions of ten minutes over written networks, ours beside the rules of other players.
//!
//! `cargo bench --features hls --bench abr` plays each rule over generated traces (`abr/trace.rs`) in a simulator that is exact
//! between changes of rate (`abr/session.rs`), and prints a table for each case, and one line a bar, `bar NAME figure=…
//! limit=… ok|short`. It needs neither the network nor a clock, and prints the same on every machine. With `-- full` other
//! lengths of segments and other look-aheads are played too, and the optimum with a deep look-ahead is searched for. With
//! `-- real` some sessions are played in real streams over loopback, at the pace of a listener, beside the simulator's (6 minutes). Even seeds are those that the figures of the adaptive rule were found on, odd ones are judged.
//!
//! The rules of the others are written from their published parameters (`abr/peers.rs`): take them as right within a tenth.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::similar_names,
    clippy::format_push_string,
    unreachable_pub,
    reason = "a bench prints, and may panic; the tests use its modules too"
)]

#[path = "abr/listener.rs"]
mod listener;
#[path = "abr/optimum.rs"]
mod optimum;
#[path = "abr/peers.rs"]
mod peers;
#[path = "abr/real.rs"]
mod real;
#[path = "abr/report.rs"]
mod report;
#[path = "abr/session.rs"]
mod session;
#[path = "abr/trace.rs"]
mod trace;

use kithara::hls::selection::{Adaptive, Highest, Lowest, VariantSelector};

use self::report::{Summary, bar_at_least, bar_at_most};
use self::session::{Outcome, Track, play};
use self::trace::Trace;

/// Sessions that are judged on 3G-like traces, and on 4G-like ones.
const SESSIONS_3G: u64 = 320;
const SESSIONS_4G: u64 = 160;
const SECONDS: f64 = 600.0;
/// In real streams.
const REAL_SESSIONS: u64 = 16;
const REAL_SECONDS: f64 = 300.0;
const LADDER: [u64; 7] = [32, 64, 96, 128, 192, 256, 320];
const WITH_FLAC: [u64; 8] = [32, 64, 96, 128, 192, 256, 320, 1000];
const FLAC_BITS: f64 = 1_000_000.0 * session::CONTAINER;

type Make = fn() -> Box<dyn VariantSelector>;

const RULES: [(&str, Make); 8] = [
    ("lowest", || Box::new(Lowest)),
    ("highest", || Box::new(Highest)),
    ("hls.js", || Box::<peers::HlsJs>::default()),
    ("Media3", || Box::<peers::Media3>::default()),
    ("Shaka", || Box::<peers::Shaka>::default()),
    ("BBA-0", || Box::<peers::Bba>::default()),
    ("BOLA", || Box::<peers::Bola>::default()),
    (OURS, || Box::new(Adaptive::new())),
];
const FLOOR: &str = "lowest";
const OURS: &str = "adaptive";

/// What each rule did in one case.
struct Case {
    rules: Vec<(&'static str, Vec<Outcome>)>,
}

impl Case {
    fn of(&self, rule: &str) -> &[Outcome] {
        &self.rules.iter().find(|(name, _)| *name == rule).unwrap().1
    }

    fn summary(&self, rule: &str) -> Summary {
        Summary::of(self.of(rule))
    }

    /// The highest mean bit rate of the rules of other players.
    fn best_peer_mean(&self) -> f64 {
        let peers = RULES
            .iter()
            .filter(|(name, _)| !["lowest", "highest", OURS].contains(name));
        peers.map(|(name, _)| self.summary(name).mean).fold(0.0, f64::max)
    }
}

/// Plays all rules, and prints what came of it.
fn case(title: &str, track: &Track, traces: &[Trace]) -> Case {
    println!("\n{title}, {} sessions", traces.len());
    report::head();
    let mut rules = Vec::new();
    for (name, make) in RULES {
        let outcomes: Vec<_> = traces
            .iter()
            .map(|trace| play(track, trace, &mut *make()))
            .collect();
        report::row(name, &Summary::of(&outcomes));
        rules.push((name, outcomes));
    }
    Case { rules }
}

/// Finds the optimum of each session, and prints what part of it each rule reaches.
fn of_the_optimum(case: &Case, track: &Track, traces: &[Trace]) -> f64 {
    let best: Vec<_> = traces.iter().map(|trace| optimum::best(track, trace)).collect();
    report::row("optimum", &Summary::of(&best));
    let sum = |outcomes: &[Outcome]| outcomes.iter().map(Outcome::score).sum::<f64>();
    print!("of the optimum:");
    for (name, outcomes) in &case.rules {
        print!(" {name} {:.3}", sum(outcomes) / sum(&best));
    }
    println!();
    sum(case.of(OURS)) / sum(&best)
}

/// The traces of one half of the seeds: the even ones, on which the rule was tuned, or the odd ones.
fn half(make: fn(u64) -> Trace, count: u64, is_judged: bool) -> Vec<Trace> {
    (0..count)
        .map(|seed| make(2 * seed + u64::from(is_judged)))
        .collect()
}

/// Sessions in real streams, all at once, and the same ones in the simulator.
fn real() {
    let track = Track::new(&LADDER, REAL_SECONDS, 6.0, 60.0);
    let traces: Vec<_> = half(trace::like_3g, REAL_SESSIONS, true);
    let sessions: Vec<_> = traces
        .iter()
        .map(|trace| {
            let (track, trace) = (track.clone(), trace.clone());
            std::thread::spawn(move || real::play(&track, &trace))
        })
        .collect();
    let real: Vec<_> = sessions
        .into_iter()
        .map(|session| session.join().unwrap())
        .collect();
    let simulated = traces
        .iter()
        .map(|trace| play(&track, trace, &mut Adaptive::new()));
    let simulated: Vec<_> = simulated.collect();
    println!("\nlike 3G, 32-320 kbit/s, 60 s ahead, {REAL_SECONDS} s in real time, {REAL_SESSIONS} sessions");
    report::head();
    let (of_real, of_simulated) = (Summary::of(&real), Summary::of(&simulated));
    report::row("real", &of_real);
    report::row("simulated", &of_simulated);
    for (number, (real, simulated)) in real.iter().zip(&simulated).enumerate() {
        println!(
            "session {number}: score {:.3} and {:.3}, stalled {:.1} s and {:.1} s, {:.0} and {:.0} kbit/s",
            real.score(),
            simulated.score(),
            real.stalled,
            simulated.stalled,
            real.bits / real.heard / 1000.0,
            simulated.bits / simulated.heard / 1000.0
        );
    }
    bar_at_least(
        "abr_real_mean_of_the_simulated",
        of_real.mean / of_simulated.mean,
        0.95,
    );
    bar_at_least(
        "abr_real_score_of_the_simulated",
        of_real.score / of_simulated.score,
        0.95,
    );
}

fn main() {
    if std::env::args().any(|argument| argument == "real") {
        return real();
    }
    let is_full = std::env::args().any(|argument| argument == "full");
    let three = half(trace::like_3g, SESSIONS_3G, true);
    let four = half(trace::like_4g, SESSIONS_4G, true);
    println!("tuned on even seeds, judged on odd ones");
    report::traces("like 3G, tuned ", &half(trace::like_3g, SESSIONS_3G, false));
    report::traces("like 3G, judged", &three);
    report::traces("like 4G, tuned ", &half(trace::like_4g, SESSIONS_4G, false));
    report::traces("like 4G, judged", &four);

    let track = Track::new(&LADDER, SECONDS, 6.0, 60.0);
    let tuned = half(trace::like_3g, SESSIONS_3G, false);
    let _ = case(
        "tuned half: like 3G, 32-320 kbit/s, segments of 6 s, 60 s ahead",
        &track,
        &tuned,
    );
    let sixty = case(
        "like 3G, 32-320 kbit/s, segments of 6 s, 60 s ahead",
        &track,
        &three,
    );
    let of_optimum = of_the_optimum(&sixty, &track, &three);
    let mut whole = track.clone();
    whole.as_they_come = false;
    let _ = case("the same, segments heard when they are whole", &whole, &three);

    let track = Track::new(&LADDER, SECONDS, 6.0, 300.0);
    let far = case(
        "like 3G, 32-320 kbit/s, segments of 6 s, 300 s ahead",
        &track,
        &three,
    );

    if is_full {
        of_the_optimum(&far, &track, &three);
    }

    let slow: Vec<_> = four.iter().map(|trace| trace.clone().scaled(0.05)).collect();
    let track = Track::new(&WITH_FLAC, SECONDS, 6.0, 60.0);
    let scaled = case(
        "like 4G scaled to 5 %, with FLAC, segments of 6 s, 60 s ahead",
        &track,
        &slow,
    );
    let unscaled = case("like 4G, with FLAC, segments of 6 s, 60 s ahead", &track, &four);
    if is_full {
        all_cases(&three, &slow);
    }

    println!();
    let (ours, floor) = (sixty.summary(OURS), sixty.summary(FLOOR));
    bar_at_least("abr.3g_60s_of_optimum", of_optimum, 0.95);
    bar_at_most(
        "abr.3g_60s_stalled_sessions_percent",
        ours.stalled_sessions,
        1.1 * floor.stalled_sessions,
    );
    bar_at_most("abr.3g_60s_wasted_percent", ours.wasted, 3.0);
    let (ours, floor) = (far.summary(OURS), far.summary(FLOOR));
    bar_at_least("abr.3g_300s_mean_kbits", ours.mean, 0.98 * far.best_peer_mean());
    bar_at_most(
        "abr.3g_300s_stalled_sessions_percent",
        ours.stalled_sessions,
        floor.stalled_sessions + 1.2,
    );
    let ours = scaled.summary(OURS);
    let stalled = scaled
        .of(OURS)
        .iter()
        .filter(|outcome| outcome.stalls > 0)
        .count();
    bar_at_most("abr.4g_5_percent_stalled_sessions", stalled as f64, 1.0);
    bar_at_least(
        "abr.4g_5_percent_of_the_rung",
        ours.mean * 1000.0 / FLAC_BITS,
        0.935,
    );
    bar_at_least(
        "abr.4g_of_the_rung",
        unscaled.summary(OURS).mean * 1000.0 / FLAC_BITS,
        0.985,
    );
}

/// Other segments and other look-aheads.
fn all_cases(three: &[Trace], slow: &[Trace]) {
    for segment in [2.0, 6.0, 10.0] {
        for cap in [30.0, 60.0, 120.0, 300.0] {
            let track = Track::new(&LADDER, SECONDS, segment, cap);
            case(
                &format!("like 3G, segments of {segment} s, {cap} s ahead"),
                &track,
                three,
            );
            let track = Track::new(&WITH_FLAC, SECONDS, segment, cap);
            case(
                &format!("like 4G scaled to 5 %, with FLAC, segments of {segment} s, {cap} s ahead"),
                &track,
                slow,
            );
        }
    }
}
