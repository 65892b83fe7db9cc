//! Networks that are written down: bits per second, step by step.

/// One step of a trace.
pub const STEP: f64 = 1.0;

/// A network whose rate is constant within each step of a second. Behind its last step it begins again.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Bits per second.
    rates: Vec<f64>,
    /// From a request to its first byte, in seconds.
    pub latency: f64,
}

impl Trace {
    pub fn new(rates: Vec<f64>, latency: f64) -> Self {
        assert!(
            !rates.is_empty() && rates.iter().any(|rate| *rate > 0.0),
            "bytes never come"
        );
        Self { rates, latency }
    }

    /// The rate at a time, and how long it stays.
    pub fn at(&self, time: f64) -> (f64, f64) {
        let step = (time / STEP).floor();
        let rest = (step + 1.0) * STEP - time;
        // Where rounding leaves nothing of a step, the next one has begun.
        let (step, rest) = if rest < 1e-9 {
            (step + 1.0, STEP)
        } else {
            (step, rest)
        };
        (self.rates[step as usize % self.rates.len()], rest)
    }

    /// When so many bits that are sent from `time` on have come.
    #[allow(dead_code, reason = "the tests ask it")]
    pub fn arrival(&self, mut time: f64, mut bits: f64) -> f64 {
        loop {
            let (rate, rest) = self.at(time);
            if rate * rest >= bits {
                return if bits > 0.0 { time + bits / rate } else { time };
            }
            bits -= rate * rest;
            time += rest;
        }
    }

    pub fn mean(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len() as f64
    }

    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        for rate in &mut self.rates {
            *rate *= factor;
        }
        self
    }
}

/// Numbers by `SplitMix64`: the same for the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Mean 0, variance 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

/// A Markov chain over good, weak and none. Chances are for each second.
struct Chain {
    /// Mean rate of the good state.
    level: f64,
    /// How far the good state's rate goes up and down: the deviation of its logarithm.
    spread: f64,
    to_outage: f64,
    /// The same within a short time behind an outage: they come in groups, as tunnels and cellars do.
    to_another: f64,
    to_weak: f64,
    /// Mean seconds of an outage beyond the shortest, and the share of those that take the longest time.
    outage: f64,
    longest: f64,
    /// Mean seconds of a weak time beyond the shortest.
    weak: f64,
}

const SHORTEST_OUTAGE: f64 = 5.0;
const LONGEST_OUTAGE: f64 = 60.0;
/// Below this, in bits per second, it is an outage.
const OUTAGE_RATE: f64 = 48_000.0;
/// What goes by before the trace, so that it may begin anywhere.
const BEFORE: usize = 200;

impl Chain {
    fn run(&self, random: &mut Random, seconds: usize) -> Vec<f64> {
        let mut rates = Vec::with_capacity(BEFORE + seconds);
        let mut wander = random.normal();
        // Seconds since the last outage.
        let mut since = 1_000_usize;
        while rates.len() < BEFORE + seconds {
            let draw = random.unit();
            let to_outage = if since < 20 {
                self.to_another
            } else {
                self.to_outage
            };
            // Behind an outage some seconds of something, so that two outages are not one long one.
            if since >= 4 && draw < to_outage {
                let is_longest = random.unit() < self.longest;
                let more = if is_longest {
                    LONGEST_OUTAGE
                } else {
                    random.exponential(self.outage)
                };
                let length = (SHORTEST_OUTAGE + more).min(LONGEST_OUTAGE);
                let is_dead = random.unit() < 0.75;
                for _ in 0..length as usize {
                    rates.push(if is_dead {
                        0.0
                    } else {
                        random.between(0.0, OUTAGE_RATE * 0.9)
                    });
                }
                since = 0;
                continue;
            }
            if draw > 1.0 - self.to_weak {
                let length = 5.0 + random.exponential(self.weak).min(120.0);
                let rate = OUTAGE_RATE * (320_000.0 / OUTAGE_RATE).powf(random.unit());
                for _ in 0..length as usize {
                    rates.push((rate * (0.25 * random.normal()).exp()).max(OUTAGE_RATE));
                    since += 1;
                }
                continue;
            }
            wander = 0.9 * wander + 0.436 * random.normal();
            rates.push((self.level * (self.spread * wander).exp()).max(OUTAGE_RATE));
            since += 1;
        }
        rates.drain(..BEFORE);
        rates.truncate(seconds);
        rates
    }
}

/// A train, a bus, a walk: what recorded 3G links are like.
pub fn like_3g(seed: u64) -> Trace {
    let mut random = Random(seed.wrapping_mul(2).wrapping_add(1));
    // Where the network is slow it also breaks more often.
    let place = random.normal().clamp(-2.6, 2.6);
    let own = random.normal().clamp(-2.6, 2.6);
    let chain = Chain {
        level: (1_300_000.0 * (0.6 * place).exp()).clamp(100_000.0, 3_000_000.0),
        spread: 0.45,
        to_outage: (0.0020 * (1.9 * own - 0.6 * place).exp()).min(0.10),
        to_another: (0.020 * (2.2 * own - 0.6 * place).exp()).min(0.40),
        to_weak: (0.0112 * (-0.7 * place).exp()).min(0.06),
        outage: 13.0,
        longest: 0.06,
        weak: 12.0,
    };
    Trace::new(with_some(chain.run(&mut random, 1_200)), 0.1)
}

/// Fast, with a hole now and then.
pub fn like_4g(seed: u64) -> Trace {
    let mut random = Random(seed.wrapping_mul(2).wrapping_add(0x4_0000_0000));
    let chain = Chain {
        level: 12e6 * (48.0_f64 / 12.0).powf(random.unit().powf(0.4)),
        spread: 0.6,
        to_outage: 0.001,
        to_another: 0.001,
        to_weak: 0.0,
        outage: 8.0,
        longest: 0.0,
        weak: 0.0,
    };
    Trace::new(with_some(chain.run(&mut random, 1_200)), 0.1)
}

/// A trace in which nothing comes at all would never end.
fn with_some(mut rates: Vec<f64>) -> Vec<f64> {
    if rates.iter().all(|rate| *rate <= 0.0) {
        rates[0] = OUTAGE_RATE;
    }
    rates
}

/// The share of the time below so many bits per second.
pub fn share_below(traces: &[Trace], rate: f64) -> f64 {
    let all: usize = traces.iter().map(|trace| trace.rates.len()).sum();
    let below = |trace: &Trace| trace.rates.iter().filter(|step| **step < rate).count();
    traces.iter().map(below).sum::<usize>() as f64 / all as f64
}

/// The longest run of steps below 48 kbit/s, in seconds.
pub fn longest_outage(traces: &[Trace]) -> usize {
    let of_one = |trace: &Trace| {
        let (mut longest, mut run) = (0, 0);
        for rate in &trace.rates {
            run = if *rate < OUTAGE_RATE { run + 1 } else { 0 };
            longest = longest.max(run);
        }
        longest
    };
    traces.iter().map(of_one).max().unwrap_or(0)
}
