//! The ring that an audio callback pulls from, filled by the decode thread.
//!
//! ```text
//!   pull ◀── [ stale │ ready, up to `fill` │ room ]      twice `fill` long
//! ```
//!
//! A seek cannot take samples out of the ring, only the next pull can. So the ring is twice as long as what it is filled to: the
//! other half is room for what follows a seek while nothing is pulled.

use std::sync::Arc;
use std::time::Duration;

use rtrb::Producer;

use super::{
    meter::Meter,
    pull::Change,
    worker::{Put, Sink},
};
use crate::decode::{DecodeError, Spec};

/// How often a full ring is looked at while what is in it waits to be dropped.
const SOON: Duration = Duration::from_millis(2);

pub(super) struct Ring {
    samples: Producer<f32>,
    changes: Producer<Change>,
    meter: Arc<Meter>,
    /// How many samples are kept ready.
    fill: u64,
    spec: Spec,
}

impl Ring {
    pub(super) fn new(
        samples: Producer<f32>,
        changes: Producer<Change>,
        meter: Arc<Meter>,
        fill: u64,
        spec: Spec,
    ) -> Self {
        Self {
            samples,
            changes,
            meter,
            fill,
            spec,
        }
    }

    /// Half the time that a full ring lasts: at least half of it is left then.
    fn half(&self) -> Duration {
        let rate = u64::from(self.spec.sample_rate) * u64::from(self.spec.channels.count());
        let micros = self.fill * 500_000 / rate.max(1);
        Duration::from_micros(micros.clamp(500, 500_000))
    }
}

impl Sink for Ring {
    fn put(&mut self, samples: &[f32], spec: Spec, at: u64, _position: u64) -> Put {
        if spec != self.spec {
            // Before the first sample it speaks of: a pull that finds that finds the change too.
            if self.changes.push(Change { at, spec }).is_err() {
                return Put::Full(SOON);
            }
            self.spec = spec;
        }
        let ready = at.saturating_sub(self.meter.heard());
        let channels = u64::from(spec.channels.count()).max(1);
        let room = self.fill.saturating_sub(ready).min(self.samples.slots() as u64);
        let room = usize::try_from(room / channels * channels).unwrap_or(usize::MAX);
        let part = samples.get(..samples.len().min(room)).unwrap_or_default();
        if part.is_empty() {
            // Room is made by pulls, and they wake nobody.
            return Put::Full(if ready < self.fill / 2 { SOON } else { self.half() });
        }
        Put::Taken(self.samples.push_partial_slice(part).0.len())
    }

    fn end(&mut self, _at: u64, _error: Option<&DecodeError>) -> bool {
        // The pull side finds it in the meter, and a handle in the time line.
        true
    }
}
