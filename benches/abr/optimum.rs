//! What could have been: the best score of a session whose network is known beforehand.
//!
//! Dynamic programming over whole segments, one transfer at a time, none given up and none fetched again. A state is the
//! listener behind a segment, with the rung of that segment. States behind a better one are left, and of those of one
//! time the best few stay (a beam): so it is a lower limit of the optimum, and close to it.

use super::listener::Listener;
use super::session::{Outcome, STALL, START, SWITCH, Track};
use super::trace::Trace;

/// Seconds of a grid's place.
const GRID: f64 = 0.25;
/// States that stay of each time.
const BEAM: usize = 16;
/// Places of the grid by which a listener may have waited longer than another one. A stall of choice costs more than it gains
/// long before.
const PAUSES: usize = 60;

#[derive(Debug, Clone, Copy)]
struct State {
    listener: Listener,
    rung: usize,
    utility: f64,
    switches: u32,
    bits: f64,
}

impl State {
    fn value(&self) -> f64 {
        let start = self.listener.started.unwrap_or(self.listener.time);
        self.utility - STALL * self.listener.stalled - SWITCH * f64::from(self.switches) - START * start
    }

    /// Its place in the grid of time.
    fn place(&self) -> i64 {
        (self.listener.time / GRID) as i64
    }

    /// How long the listener has waited: the more, the more is buffered at the same time.
    fn paused(&self) -> f64 {
        self.listener.started.unwrap_or(self.listener.time) + self.listener.stalled
    }
}

pub fn best(track: &Track, network: &Trace) -> Outcome {
    let begin = State {
        listener: track.listener(),
        rung: usize::MAX,
        utility: 0.0,
        switches: 0,
        bits: 0.0,
    };
    let mut states = vec![begin];
    for number in 0..track.segments {
        let mut next = Vec::with_capacity(states.len() * track.bits.len());
        for state in &states {
            let mut waited = state.listener;
            let over = waited.buffered() + track.segment - track.cap;
            if over > 0.0 {
                waited.run(over, 0.0);
            }
            waited.run(network.latency, 0.0);
            for rung in 0..track.bits.len() {
                next.push(fetch(track, network, state, waited, number, rung));
            }
        }
        states = thinned(next, track.bits.len());
    }
    let last = states.into_iter().map(finished);
    let best = last.max_by(|one, other| one.value().total_cmp(&other.value()));
    let best = best.unwrap_or(begin);
    Outcome {
        utility: best.utility,
        stalled: best.listener.stalled,
        stalls: best.listener.stalls,
        switches: best.switches,
        start: best.listener.started.unwrap_or(best.listener.time),
        heard: track.end(),
        bits: best.bits,
        fetched: best.bits,
        wasted: 0.0,
    }
}

fn finished(mut state: State) -> State {
    let rest = state.listener.buffered();
    state.listener.run(rest, 0.0);
    state
}

fn fetch(
    track: &Track,
    network: &Trace,
    before: &State,
    mut listener: Listener,
    number: usize,
    rung: usize,
) -> State {
    let gain = if track.as_they_come {
        1.0 / track.bits[rung]
    } else {
        0.0
    };
    let mut left = track.bits[rung] * track.segment;
    while left > 1e-6 {
        let (rate, rest) = network.at(listener.time);
        let step = if rate > 0.0 { rest.min(left / rate) } else { rest };
        listener.run(step, rate * gain);
        left -= rate * step;
    }
    listener.arrived = number as f64 * track.segment;
    listener.arrive((number + 1) as f64 * track.segment);
    State {
        listener,
        rung,
        utility: before.utility + track.utilities[rung] * track.segment,
        switches: before.switches + u32::from(number > 0 && before.rung != rung),
        bits: before.bits + track.bits[rung] * track.segment,
    }
}

/// The states that are worth going on from.
fn thinned(mut states: Vec<State>, rungs: usize) -> Vec<State> {
    let by_value = |one: &State, other: &State| other.value().total_cmp(&one.value());
    let by_time = |one: &State, other: &State| one.place().cmp(&other.place());
    states.sort_unstable_by(|one, other| by_time(one, other).then_with(|| by_value(one, other)));
    let least = states.iter().map(State::paused).fold(f64::INFINITY, f64::min);
    // The best value of the states before, by rung and by how long the listener has waited at least. Behind the rungs, of all.
    let mut best = vec![[f64::NEG_INFINITY; PAUSES]; rungs + 1];
    let (mut time, mut count) = (i64::MIN, 0);
    states.retain(|state| {
        let pause = ((state.paused() - least) / GRID) as usize;
        if pause >= PAUSES {
            return false;
        }
        // Earlier, with no less in the buffer and a better value: whatever follows the one can follow the other, at the
        // cost of a switch where their rungs differ.
        let value = state.value();
        if best[state.rung][pause] >= value || best[rungs][pause] >= value + SWITCH {
            return false;
        }
        let of = state.place();
        count = if of == time { count + 1 } else { 1 };
        time = of;
        if count > BEAM {
            return false;
        }
        for rung in [state.rung, rungs] {
            for place in best[rung][..=pause].iter_mut().rev() {
                if *place >= value {
                    break;
                }
                *place = value;
            }
        }
        true
    });
    states
}
