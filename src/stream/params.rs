//! Limits and modes of one stream.

use std::num::{NonZeroU16, NonZeroUsize};

/// Limits and modes of one stream. Reaches every [`Source::open`](super::Source::open).
///
/// ```
/// use std::num::{NonZeroU16, NonZeroUsize};
///
/// use kithara::stream::StreamParams;
///
/// let params = StreamParams::default()
///     .offline_mode(true)
///     .max_chunks(NonZeroU16::new(8).unwrap())
///     .max_bytes(NonZeroUsize::new(256 * 1024).unwrap());
/// assert!(params.is_offline());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamParams {
    offline: bool,
    chunk_limit: NonZeroU16,
    byte_limit: NonZeroUsize,
}

impl StreamParams {
    /// Whether the source must do without the network. The source enforces it. `false` by default.
    ///
    /// ```
    /// # use kithara::stream::StreamParams;
    /// assert!(StreamParams::default().offline_mode(true).is_offline());
    /// ```
    #[must_use]
    pub fn offline_mode(self, offline: bool) -> Self {
        Self { offline, ..self }
    }

    /// How many chunks and control messages may wait for the consumer. 16 by default.
    ///
    /// ```
    /// # use std::num::NonZeroU16;
    /// # use kithara::stream::StreamParams;
    /// let one = StreamParams::default().max_chunks(NonZeroU16::MIN);
    /// assert_eq!(one.chunk_limit().get(), 1);
    /// ```
    #[must_use]
    pub fn max_chunks(self, chunk_limit: NonZeroU16) -> Self {
        Self { chunk_limit, ..self }
    }

    /// How many bytes may wait for the consumer. 1 MiB by default.
    ///
    /// A larger chunk is delivered in pieces. The driver holds one chunk beyond this limit. An
    /// [inline](super::Stream::inline) stream has no queue and ignores both limits.
    ///
    /// ```
    /// # use std::num::NonZeroUsize;
    /// # use kithara::stream::StreamParams;
    /// let params = StreamParams::default().max_bytes(NonZeroUsize::new(65_536).unwrap());
    /// assert_eq!(params.byte_limit().get(), 65_536);
    /// ```
    #[must_use]
    pub fn max_bytes(self, byte_limit: NonZeroUsize) -> Self {
        Self { byte_limit, ..self }
    }

    /// Whether [`offline_mode`](Self::offline_mode) is set.
    ///
    /// ```
    /// # use kithara::stream::StreamParams;
    /// assert!(!StreamParams::default().is_offline());
    /// ```
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// What [`max_chunks`](Self::max_chunks) has set.
    ///
    /// ```
    /// # use kithara::stream::StreamParams;
    /// assert_eq!(StreamParams::default().chunk_limit().get(), 16);
    /// ```
    pub fn chunk_limit(&self) -> NonZeroU16 {
        self.chunk_limit
    }

    /// What [`max_bytes`](Self::max_bytes) has set.
    ///
    /// ```
    /// # use kithara::stream::StreamParams;
    /// assert_eq!(StreamParams::default().byte_limit().get(), 1 << 20);
    /// ```
    pub fn byte_limit(&self) -> NonZeroUsize {
        self.byte_limit
    }
}

impl Default for StreamParams {
    fn default() -> Self {
        const CHUNK_LIMIT: NonZeroU16 = NonZeroU16::MIN.saturating_add(15);
        const BYTE_LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add((1 << 20) - 1);
        Self {
            offline: false,
            chunk_limit: CHUNK_LIMIT,
            byte_limit: BYTE_LIMIT,
        }
    }
}
