//! From a decoder to what plays: a decode thread, and three ways to take what it makes.
//!
//! ```text
//!   Decoder ──▶ decode thread ── ring ─────▶ Output: pull, Iterator, rodio::Source     for audio callbacks
//!                             └─ channel ──▶ Blocks: a stream                          for async apps
//! ```

mod blocks;
mod events;
mod handle;
mod link;
mod listeners;
mod meter;
mod pull;
mod ring;
#[cfg(feature = "rodio")]
mod rodio;
#[cfg(test)]
mod testing;
mod timeline;
mod worker;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub use blocks::Blocks;
pub use events::DecodeEvents;
pub use handle::PlayHandle;
pub use pull::{Output, Underrun};

use self::{
    link::{Link, Stop},
    meter::Meter,
    ring::{Ring, Samples},
    worker::Worker,
};
use super::{DecodeError, Decoder};

/// More changes of spec than these never wait in the ring.
const CHANGES: usize = 64;

/// How an [`Output`] is fed.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct OutputParams {
    ring: Duration,
    underrun: Underrun,
}

impl Default for OutputParams {
    fn default() -> Self {
        Self {
            ring: Duration::from_millis(200),
            underrun: Underrun::default(),
        }
    }
}

impl OutputParams {
    /// 200 ms of sound kept ready; silence where there is none.
    pub fn new() -> Self {
        Self::default()
    }

    /// How much sound is kept ready: what the decode thread may be late without being heard. 200 ms unless set, 10 ms at
    /// least.
    pub fn ring(mut self, time: Duration) -> Self {
        self.ring = time.clamp(Duration::from_millis(10), Duration::from_secs(60));
        self
    }

    /// What the [`Iterator`], and with it rodio, gets while there is no sound; [`Underrun::Silence`] unless set.
    pub fn underrun(mut self, underrun: Underrun) -> Self {
        self.underrun = underrun;
        self
    }
}

impl Decoder {
    /// Goes on decoding on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Io`] if there can be no more threads.
    pub fn into_output(self, params: OutputParams) -> Result<Output, DecodeError> {
        // Before the decoder moves to its thread.
        let spec = self.spec();
        let fixed = self.is_fixed();
        let meter = Arc::new(Meter::default());
        let link = Arc::new(Link::new(self.interrupter(), Arc::clone(&meter)));
        let samples = Arc::new(Samples::new(ring::capacity(params.ring, spec, fixed)));
        let (specs, next_specs) = rtrb::RingBuffer::new(CHANGES);
        let ring = Ring::new(Arc::clone(&samples), specs, Arc::clone(&meter), params.ring, spec);
        let mut worker = Worker::new(self, ring, Arc::clone(&link));
        // The first block was decoded when the track was opened: it is there for the first pull.
        // One step takes the block, the other hands it on. Here, and not by the thread: a callback that starts at once would
        // find nothing, and tell of starvation.
        for _ in 0..2 {
            worker.step();
        }
        // From here on the drop of the output ends the thread: nothing may fail between the two.
        let thread = thread::Builder::new()
            .name("kithara-decode".into())
            .spawn(move || worker.run())?;
        link.set_thread(thread.thread().clone());
        let stop = Stop::new(link);
        Ok(Output::new(
            samples,
            next_specs,
            meter,
            stop,
            spec,
            fixed,
            params.underrun,
        ))
    }
}
