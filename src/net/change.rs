//! What shows that a file on a server is another one now.

use std::fmt;

/// What shows that the file is another one: in [`NetError::Changed`](super::NetError::Changed).
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `ETag` or `Last-Modified` is another.
    Validator,
    /// The length is another.
    Length {
        /// The length in bytes that the file had.
        expected: u64,
        /// The length in bytes that the server tells now.
        received: u64,
    },
    /// A part of the file was asked for, on condition that it is the same. The server sent the whole, and did not confirm the
    /// condition.
    Whole,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Validator => f.write_str("its ETag or date is another"),
            Self::Length { expected, received } => {
                write!(f, "its length was {expected} bytes and is {received}")
            }
            Self::Whole => f.write_str("it was sent whole in place of a part"),
        }
    }
}
