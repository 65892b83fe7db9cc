//! What the streams of a source want, for the driver and the streams.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use async_channel::Sender;
use atomic_waker::AtomicWaker;

use super::{
    super::{selection::VariantSelector, source_state::SourceState, track::MediaResource},
    ladder::Ladder,
    plan::Plan,
    transfer::{Transfer, TransferReader},
    window::Window,
};

/// What the streams of a source want, and what is on its way.
pub(in crate::hls) struct LookAhead {
    pub(super) state: Arc<SourceState>,
    shared: Mutex<Shared>,
    pub(super) driver: AtomicWaker,
    /// Time is counted from here for the selector.
    pub(super) began: Instant,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) plans: Vec<Plan>,
    /// What is known of the Variant Streams, once a stream was to choose one.
    pub(super) ladder: Option<Ladder>,
    /// Whether the selector has panicked.
    pub(super) is_selector_broken: bool,
    /// Between two drivers.
    pub(super) selector: Option<Box<dyn VariantSelector>>,
    pub(super) last_id: u64,
    pub(super) is_driven: bool,
    /// Each is closed when nothing is on its way to the disk.
    pub(super) flushing: Vec<Sender<()>>,
}

impl LookAhead {
    pub(in crate::hls) fn new(state: Arc<SourceState>) -> Arc<Self> {
        Arc::new(Self {
            state,
            shared: Mutex::default(),
            driver: AtomicWaker::new(),
            began: Instant::now(),
        })
    }

    pub(in crate::hls) fn state(&self) -> &Arc<SourceState> {
        &self.state
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic under it could leave a window out of step with its parts, which its stream sets right with the next part.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(super) fn plan(&mut self, id: u64) -> Option<&mut Plan> {
        self.plans.iter_mut().find(|plan| plan.id == id)
    }

    pub(super) fn window(&mut self, id: u64) -> Option<&mut Window> {
        self.plan(id)?.first()
    }

    /// The transfer of a resource, whichever stream wants it.
    pub(super) fn transfer(&self, media: &MediaResource) -> Option<Arc<Transfer>> {
        let mut transfers = self.plans.iter().flat_map(Plan::transfers);
        transfers.find(|transfer| transfer.serves(media)).cloned()
    }
}

impl Shared {
    /// Reads a part that is on its way, for the stream of a window.
    pub(super) fn join(&mut self, id: u64, number: usize, media: &MediaResource) -> Option<TransferReader> {
        let own = self
            .window(id)?
            .transfer(number)
            .filter(|transfer| transfer.serves(media));
        let transfer = own.cloned().or_else(|| self.transfer(media))?;
        self.window(id)?.add(number, transfer.clone());
        Some(transfer.reader())
    }
}

impl fmt::Debug for LookAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookAhead").finish_non_exhaustive()
    }
}
