//! Audio bytes from HTTP files and HLS trees to a decoder, through a bounded stream and a crash-safe disk cache.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "stream", feature = "cache", feature = "net"))]
mod rt;

#[cfg(feature = "cache")]
pub mod cache;
#[cfg(feature = "hls")]
pub mod hls;
#[cfg(feature = "io")]
pub mod io;
#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "storage")]
pub mod storage;
#[cfg(feature = "stream")]
pub mod stream;
