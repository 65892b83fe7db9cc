//! What the app changes while a track plays, and may ask.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::selection::NetworkMemory;

/// Changes the Variant Stream or the Rendition of a track that plays: for lists of qualities and languages that a listener
/// chooses from.
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
    values: Arc<Values>,
}

struct Values {
    variant: AtomicUsize,
    /// The NAME of the audio Rendition.
    rendition: Mutex<Option<String>>,
    /// Bits per second; zero for none.
    max_bit_rate: AtomicU64,
    /// Bits per second; zero where it is not known.
    network: AtomicU64,
}

/// No Variant Stream has this number.
const NONE: usize = usize::MAX;

impl HlsControls {
    /// Changes nothing until it is told to.
    pub fn new() -> Self {
        Self {
            values: Arc::new(Values {
                variant: AtomicUsize::new(NONE),
                rendition: Mutex::new(None),
                max_bit_rate: AtomicU64::new(0),
                network: AtomicU64::new(0),
            }),
        }
    }

    /// Goes on with the Variant Stream of this number, from 0, as [`inspect`](super::HlsSource::inspect) lists them. Streams that
    /// are opened later begin with it too.
    ///
    /// The stream changes where its next segment begins: at the segment of the other Variant Stream that holds that instant, with its
    /// initialization section before it, and behind [`VariantApplied`](super::HlsControl::VariantApplied). What the stream has
    /// given out plays before that. One that does not exist, or whose playlist is not to be had, or that is not whole offline, changes nothing. Nor does
    /// it change a reader ([`open_reader`](super::HlsSource::open_reader)), or a stream that looks for a byte.
    ///
    /// A selector ([`HlsParams::selector`](super::HlsParams::selector)) is not asked until
    /// [`choose_variants`](Self::choose_variants).
    pub fn set_variant(&self, number: usize) {
        self.values.variant.store(number, Ordering::Relaxed);
    }

    /// Takes back what [`set_variant`](Self::set_variant) was told: the selector chooses again, from the next segment on.
    /// Without a selector the Variant Stream that plays stays.
    pub fn choose_variants(&self) {
        self.values.variant.store(NONE, Ordering::Relaxed);
    }

    /// Goes on with the audio Rendition of this NAME, as [`inspect`](super::HlsSource::inspect) lists them: another language, or a
    /// commentary. Streams that are opened later begin with it too.
    ///
    /// The stream changes as behind [`set_variant`](Self::set_variant), and under the same conditions. Where the Variant Stream
    /// that plays has none of that name it stays as it is.
    pub fn set_rendition(&self, name: impl Into<String>) {
        let name = name.into();
        *self.locked_rendition() = Some(name);
    }

    /// What [`set_rendition`](Self::set_rendition) was told last.
    pub fn rendition(&self) -> Option<String> {
        self.locked_rendition().clone()
    }

    fn locked_rendition(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        // Each change is one store.
        self.values
            .rendition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest BANDWIDTH that a selector may choose, in bits per second; `None` for no limit. It holds for segments that
    /// were not chosen yet: what is fetched ahead stays.
    pub fn set_max_bit_rate(&self, bits_per_second: Option<u64>) {
        let limit = bits_per_second.map_or(0, |limit| limit.max(1));
        self.values.max_bit_rate.store(limit, Ordering::Relaxed);
    }

    /// What [`set_max_bit_rate`](Self::set_max_bit_rate) was told last.
    pub fn max_bit_rate(&self) -> Option<u64> {
        Some(self.values.max_bit_rate.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// What the selector would remember of the network, for the next track and the next run of the app. `None` while too little
    /// of it was seen.
    pub fn network(&self) -> Option<NetworkMemory> {
        let bit_rate = self.values.network.load(Ordering::Relaxed);
        (bit_rate > 0).then(|| NetworkMemory::new(bit_rate))
    }

    pub(super) fn set_network(&self, network: NetworkMemory) {
        self.values.network.store(network.bit_rate, Ordering::Relaxed);
    }

    /// What [`set_variant`](Self::set_variant) was told last.
    pub fn variant(&self) -> Option<usize> {
        Some(self.values.variant.load(Ordering::Relaxed)).filter(|number| *number != NONE)
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
            .field("rendition", &self.rendition())
            .field("max_bit_rate", &self.max_bit_rate())
            .field("network", &self.network())
            .finish()
    }
}
