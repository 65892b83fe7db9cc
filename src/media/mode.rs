//! Whether opening may use the network.

/// Whether opening a source may use the network.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenMode {
    /// The network is used for what the cache does not have.
    #[default]
    Online,
    /// No connection is made. What is complete in the cache plays; anything else is an error that names what is missing.
    Offline,
}

#[cfg(any(feature = "file", feature = "hls", feature = "decode"))]
impl OpenMode {
    pub(crate) fn is_offline(self) -> bool {
        self == Self::Offline
    }
}
