//! HLS VOD (RFC 8216).

#[cfg_attr(not(test), allow(dead_code, reason = "the source that plays them comes next"))]
mod playlist;

#[cfg_attr(not(test), allow(dead_code, reason = "the source that uses it comes next"))]
mod crypt;

pub use crypt::CryptError;
pub use playlist::{PlaylistError, StartPoint};
