//! What the listener hears: exact, between changes of rate.

/// When sound begins, and begins again behind a stall: once so much of it has arrived, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    pub start: f64,
    pub resume: f64,
}

/// Times in seconds. `heard` and `arrived` count from the start of the track.
#[derive(Debug, Clone, Copy)]
pub struct Listener {
    pub time: f64,
    pub heard: f64,
    pub arrived: f64,
    pub is_playing: bool,
    /// When sound began.
    pub started: Option<f64>,
    pub stalled: f64,
    pub stalls: u32,
    /// The track's length.
    end: f64,
    thresholds: Thresholds,
}

const NONE: f64 = 1e-9;

impl Listener {
    pub fn new(end: f64, thresholds: Thresholds) -> Self {
        Self {
            time: 0.0,
            heard: 0.0,
            arrived: 0.0,
            is_playing: false,
            started: None,
            stalled: 0.0,
            stalls: 0,
            end,
            thresholds,
        }
    }

    pub fn buffered(&self) -> f64 {
        self.arrived - self.heard
    }

    pub fn is_over(&self) -> bool {
        self.heard >= self.end - NONE
    }

    /// Lets time go on, while `gain` seconds of sound arrive each second.
    pub fn run(&mut self, mut seconds: f64, gain: f64) {
        while seconds > 0.0 && !self.is_over() {
            self.begin_if_enough(false);
            let change = if self.is_playing { gain - 1.0 } else { gain };
            // Until the buffer is empty, until it is enough to begin, or until the track ends.
            let mut until = seconds;
            if self.is_playing {
                if change < 0.0 {
                    until = until.min(self.buffered().max(0.0) / -change);
                }
                until = until.min(self.end - self.heard);
            } else if gain > 0.0 {
                until = until.min((self.needed() - self.buffered()).max(0.0) / gain);
            }
            self.time += until;
            self.arrived += gain * until;
            if self.is_playing {
                self.heard += until;
                if self.buffered() <= NONE && change < 0.0 && !self.is_over() {
                    self.heard = self.arrived;
                    self.is_playing = false;
                    self.stalls += 1;
                }
            } else if self.started.is_some() {
                self.stalled += until;
            }
            seconds -= until;
        }
        if seconds > 0.0 && self.is_over() {
            self.time += seconds;
        }
    }

    fn needed(&self) -> f64 {
        let threshold = if self.started.is_some() {
            self.thresholds.resume
        } else {
            self.thresholds.start
        };
        // Rounding must not leave it an instant short.
        threshold.min(self.end - self.heard)
    }

    /// A whole segment is enough, however short.
    pub fn begin_if_enough(&mut self, is_whole_segment: bool) {
        let is_enough = self.buffered() >= self.needed() - NONE && self.buffered() > NONE;
        if !self.is_playing && (is_enough || is_whole_segment && self.buffered() > NONE) {
            self.is_playing = true;
            self.started.get_or_insert(self.time);
        }
    }

    /// A segment has arrived at one moment.
    pub fn arrive(&mut self, to: f64) {
        self.arrived = self.arrived.max(to);
        self.begin_if_enough(true);
    }
}
