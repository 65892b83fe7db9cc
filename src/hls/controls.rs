//! What the app changes while a track plays.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Changes the Variant Stream of a track that plays: for a list of qualities that a listener chooses from.
///
/// The clones of one value are one. It is given to one source, in its parameters.
///
/// ```no_run
/// # fn example(params: kithara::hls::HlsParams) {
/// use kithara::hls::HlsControls;
///
/// let controls = HlsControls::new();
/// let params = params.controls(controls.clone());
/// // Later, from any thread:
/// controls.set_variant(2);
/// # let _ = params; }
/// ```
#[derive(Clone)]
pub struct HlsControls {
    variant: Arc<AtomicUsize>,
}

/// No Variant Stream has this number.
const NONE: usize = usize::MAX;

impl HlsControls {
    /// Changes nothing until it is told to.
    pub fn new() -> Self {
        Self {
            variant: Arc::new(AtomicUsize::new(NONE)),
        }
    }

    /// Goes on with the Variant Stream of this number, from 0, as [`inspect`](super::HlsSource::inspect) lists them. Streams that
    /// are opened later begin with it too.
    ///
    /// The stream changes where its next segment begins: at the segment of the other Variant Stream that holds that instant, with its
    /// initialization section before it, and behind [`VariantApplied`](super::HlsControl::VariantApplied). What the stream has
    /// given out plays before that. One that does not exist, or whose playlist is not to be had, or that is not whole offline, changes nothing. Nor does
    /// it change a reader ([`open_reader`](super::HlsSource::open_reader)), or a stream that looks for a byte.
    pub fn set_variant(&self, number: usize) {
        self.variant.store(number, Ordering::Relaxed);
    }

    /// What [`set_variant`](Self::set_variant) was told last.
    pub fn variant(&self) -> Option<usize> {
        Some(self.variant.load(Ordering::Relaxed)).filter(|number| *number != NONE)
    }
}

impl Default for HlsControls {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HlsControls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HlsControls")
            .field("variant", &self.variant())
            .finish()
    }
}
