//! Tables and bars.

use super::session::Outcome;
use super::trace::{Trace, longest_outage, share_below};

/// What many sessions have in common.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// Seconds of stalls of all seconds, in per cent.
    pub stall_ratio: f64,
    /// Sessions with a stall behind the start, in per cent.
    pub stalled_sessions: f64,
    pub stalls_an_hour: f64,
    /// Seconds to the first sound.
    pub start_p50: f64,
    pub start_p95: f64,
    /// kbit/s of what was heard, with the container.
    pub mean: f64,
    pub switches_an_hour: f64,
    /// Bytes that nobody heard, in per cent of all.
    pub wasted: f64,
    pub score: f64,
}

impl Summary {
    pub fn of(outcomes: &[Outcome]) -> Self {
        let count = outcomes.len() as f64;
        let sum = |figure: fn(&Outcome) -> f64| outcomes.iter().map(figure).sum::<f64>();
        let (heard, stalled) = (sum(|one| one.heard), sum(|one| one.stalled));
        let mut starts: Vec<_> = outcomes.iter().map(|one| one.start).collect();
        starts.sort_by(f64::total_cmp);
        let part = |share: f64| starts[((starts.len() - 1) as f64 * share) as usize];
        let with_stall = outcomes.iter().filter(|one| one.stalls > 0).count();
        Self {
            stall_ratio: 100.0 * stalled / (heard + stalled),
            stalled_sessions: 100.0 * with_stall as f64 / count,
            stalls_an_hour: sum(|one| f64::from(one.stalls)) / heard * 3600.0,
            start_p50: part(0.5),
            start_p95: part(0.95),
            mean: sum(|one| one.bits) / heard / 1000.0,
            switches_an_hour: sum(|one| f64::from(one.switches)) / heard * 3600.0,
            wasted: 100.0 * sum(|one| one.wasted) / sum(|one| one.fetched),
            score: sum(Outcome::score) / count,
        }
    }
}

pub fn head() {
    println!(
        "{:>10} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8} {:>10} {:>8} {:>7}",
        "rule",
        "stall %",
        "stalled %",
        "stalls/h",
        "start p50",
        "start p95",
        "kbit/s",
        "switches/h",
        "wasted %",
        "score"
    );
}

pub fn row(name: &str, all: &Summary) {
    println!(
        "{name:>10} {:>8.2} {:>9.1} {:>9.2} {:>9.2} {:>9.2} {:>8.0} {:>10.1} {:>8.2} {:>7.3}",
        all.stall_ratio,
        all.stalled_sessions,
        all.stalls_an_hour,
        all.start_p50,
        all.start_p95,
        all.mean,
        all.switches_an_hour,
        all.wasted,
        all.score
    );
}

/// What traces are like.
pub fn traces(name: &str, traces: &[Trace]) {
    let mut means: Vec<_> = traces.iter().map(|trace| trace.mean() / 1000.0).collect();
    means.sort_by(f64::total_cmp);
    let share = |kbits: f64| 100.0 * share_below(traces, kbits * 1000.0);
    println!(
        "{name}: below 48 kbit/s {:.1} % of the time, 128 {:.1} %, 320 {:.1} %; means {:.0} to {:.0} kbit/s, median {:.0}; \
         longest outage {} s",
        share(48.0),
        share(128.0),
        share(320.0),
        means[0],
        means[means.len() - 1],
        means[means.len() / 2],
        longest_outage(traces)
    );
}

pub fn bar_at_least(name: &str, figure: f64, limit: f64) {
    bar(name, figure, limit, figure >= limit);
}

pub fn bar_at_most(name: &str, figure: f64, limit: f64) {
    bar(name, figure, limit, figure <= limit);
}

fn bar(name: &str, figure: f64, limit: f64, is_met: bool) {
    println!(
        "bar {name} figure={figure:.3} limit={limit:.3} {}",
        if is_met { "ok" } else { "short" }
    );
}
