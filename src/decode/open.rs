//! From a place to a decoder.

use std::io::{Read, Seek};

use super::{DecodeError, DecodeParams, Decoder, file};

impl Decoder {
    /// Decodes a file in memory, an open file, or any other reader that can seek, from its start.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnsupportedContainer`] and [`DecodeError::UnsupportedCodec`], which say what it is;
    /// [`DecodeError::Malformed`] and [`DecodeError::Io`].
    pub fn from_reader(
        reader: impl Read + Seek + Send + 'static,
        params: &DecodeParams,
    ) -> Result<Self, DecodeError> {
        let input = file::Input::from_reader(reader)?;
        Self::with_source(Box::new(file::open(&input)?), params.target())
    }
}
