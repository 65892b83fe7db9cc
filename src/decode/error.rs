//! Why decoding stopped.

use std::{io, sync::Arc};

use snafu::Snafu;

/// Why there is no more PCM. What was given out before it is right.
#[non_exhaustive]
#[derive(Debug, Clone, Snafu)]
#[snafu(visibility(pub(in crate::decode)))]
pub enum DecodeError {
    /// The codec is none that this build decodes.
    #[snafu(display("cannot decode {codec}"))]
    UnsupportedCodec {
        /// Its name.
        codec: String,
    },
    /// The container is none that this build reads, or there is no sound in it.
    #[snafu(display("cannot read {container}"))]
    UnsupportedContainer {
        /// What it is, as far as that can be told.
        container: String,
    },
    /// The container contradicts itself, or lacks something without which nothing can be decoded.
    #[snafu(display("malformed {what}"))]
    Malformed {
        /// Which part of it.
        what: &'static str,
    },
    /// Reading failed.
    #[snafu(transparent)]
    Io {
        /// What failed.
        #[snafu(source(from(io::Error, Arc::new)))]
        source: Arc<io::Error>,
    },
    /// The file cannot be fetched, or not be opened.
    #[cfg(feature = "file")]
    #[snafu(transparent)]
    File {
        /// Why.
        #[snafu(source(from(crate::file::FileError, Arc::new)))]
        source: Arc<crate::file::FileError>,
    },
    /// The HLS track stopped.
    #[cfg(feature = "hls")]
    #[snafu(transparent)]
    Hls {
        /// Why.
        #[snafu(source(from(crate::hls::HlsError, Arc::new)))]
        source: Arc<crate::hls::HlsError>,
    },
    /// The task that reads the track is gone: it panicked, or its executor was shut down.
    #[snafu(display("the task that reads the track is gone{}", panic.as_ref().map(|text| format!(": {text}")).unwrap_or_default()))]
    DriverGone {
        /// The text of the panic.
        panic: Option<String>,
    },
    /// This track cannot be sought in.
    #[snafu(display("this track cannot be sought in"))]
    SeekUnsupported,
    /// Another seek came before this one was begun.
    #[snafu(display("another seek came first"))]
    SeekSuperseded,
    /// There is no track behind the one that is heard.
    #[snafu(display("no track is queued"))]
    NothingQueued,
    /// What was commanded is gone.
    #[snafu(display("nothing plays any more"))]
    Stopped,
    /// A wait for bytes was given up because the caller asked for that. Calling again goes on where it was.
    #[snafu(display("interrupted"))]
    Interrupted,
}

impl DecodeError {
    /// Whether the wait was given up on request: nothing failed.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Interrupted)
    }
}
