//! What a stream is told when it is made.

use std::num::{NonZeroU16, NonZeroUsize};

/// Limits and modes of one stream. Reaches every [`Source::open`](super::Source::open).
///
/// ```
/// use std::num::{NonZeroU16, NonZeroUsize};
///
/// use kithara::stream::StreamParams;
///
/// let params = StreamParams::default()
///     .with_offline_mode(true)
///     .with_max_chunks(NonZeroU16::new(8).unwrap())
///     .with_max_bytes(NonZeroUsize::new(256 * 1024).unwrap());
/// assert!(params.offline_mode());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamParams {
    offline_mode: bool,
    max_chunks: NonZeroU16,
    max_bytes: NonZeroUsize,
}

impl StreamParams {
    /// Whether the source must do without the network. The source enforces it; the default is `false`.
    ///
    /// ```
    /// # use kithara::stream::StreamParams;
    /// assert!(!StreamParams::default().offline_mode());
    /// ```
    pub fn offline_mode(&self) -> bool {
        self.offline_mode
    }

    /// How many chunks and control messages may wait for the consumer. The default is 16.
    ///
    /// ```
    /// # use kithara::stream::StreamParams;
    /// assert_eq!(StreamParams::default().max_chunks().get(), 16);
    /// ```
    pub fn max_chunks(&self) -> NonZeroU16 {
        self.max_chunks
    }

    /// How many bytes may wait for the consumer. A larger chunk is handed over in pieces. The default is 1 MiB.
    ///
    /// The driver holds one chunk beyond this in its hand. An [inline](super::Stream::inline) stream has no queue and
    /// ignores both limits.
    ///
    /// ```
    /// # use kithara::stream::StreamParams;
    /// assert_eq!(StreamParams::default().max_bytes().get(), 1 << 20);
    /// ```
    pub fn max_bytes(&self) -> NonZeroUsize {
        self.max_bytes
    }

    /// Sets [`offline_mode`](Self::offline_mode).
    ///
    /// ```
    /// # use kithara::stream::StreamParams;
    /// assert!(StreamParams::default().with_offline_mode(true).offline_mode());
    /// ```
    #[must_use]
    pub fn with_offline_mode(self, offline_mode: bool) -> Self {
        Self { offline_mode, ..self }
    }

    /// Sets [`max_chunks`](Self::max_chunks).
    ///
    /// ```
    /// # use std::num::NonZeroU16;
    /// # use kithara::stream::StreamParams;
    /// let one = StreamParams::default().with_max_chunks(NonZeroU16::MIN);
    /// assert_eq!(one.max_chunks().get(), 1);
    /// ```
    #[must_use]
    pub fn with_max_chunks(self, max_chunks: NonZeroU16) -> Self {
        Self { max_chunks, ..self }
    }

    /// Sets [`max_bytes`](Self::max_bytes).
    ///
    /// ```
    /// # use std::num::NonZeroUsize;
    /// # use kithara::stream::StreamParams;
    /// let params = StreamParams::default().with_max_bytes(NonZeroUsize::new(65_536).unwrap());
    /// assert_eq!(params.max_bytes().get(), 65_536);
    /// ```
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: NonZeroUsize) -> Self {
        Self { max_bytes, ..self }
    }
}

impl Default for StreamParams {
    fn default() -> Self {
        const MAX_CHUNKS: NonZeroU16 = NonZeroU16::MIN.saturating_add(15);
        const MAX_BYTES: NonZeroUsize = NonZeroUsize::MIN.saturating_add((1 << 20) - 1);
        Self {
            offline_mode: false,
            max_chunks: MAX_CHUNKS,
            max_bytes: MAX_BYTES,
        }
    }
}
