//! HLS VOD.
