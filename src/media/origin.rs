//! Where bytes come from.

/// Where the bytes of a file or a segment come from.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A local file; of a Media Segment, the playlist that holds its bytes (a `data:` URI).
    Local,
    /// The cache on this machine, all of them.
    Cache,
    /// The network, and what of the file the cache had already.
    Network,
}
