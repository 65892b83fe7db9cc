//! From a place to a decoder.

use std::io::{Read, Seek};
#[cfg(feature = "file")]
use std::{ops::Range, sync::Arc};

use super::{DecodeError, DecodeParams, Decoder, file, source::PcmSource};
#[cfg(all(feature = "file", feature = "hls"))]
use crate::media::NotMediaReason;
#[cfg(feature = "hls")]
use crate::{decode::hls::HlsPcm, hls::HlsSource, stream::StreamParams};
#[cfg(feature = "file")]
use crate::{
    file::{FileError, FileSource, Location},
    storage::StreamingResource,
};
use crate::{
    io::StreamReader,
    stream::{Source, Stream},
};
#[cfg(any(feature = "file", feature = "hls"))]
use crate::{media::OpenMode, rt};

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
        Self::from_input(&file::Input::from_reader(reader)?, params)
    }

    /// Decodes the bytes of a stream, in order: a station, or a source of the app's own. There are no seeks, and no
    /// duration. Blocks until there is sound.
    ///
    /// # Errors
    ///
    /// As [`from_reader`](Self::from_reader).
    pub fn from_stream<S: Source>(stream: Stream<S>, params: &DecodeParams) -> Result<Self, DecodeError> {
        Self::from_input(&file::Input::from_stream(StreamReader::new(stream)), params)
    }

    /// Decodes the track at `location`: a URL or a path, of a file or of an HLS playlist. What it is, its name and its first
    /// bytes tell. When this returns, the first sound has been decoded.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use kithara::{cache::AssetCache, decode::{DecodeParams, Decoder}};
    /// use kithara::{media::{Access, OpenMode}, net::HttpClient};
    ///
    /// let cache = AssetCache::builder("music").max_bytes(1 << 30).open().await?;
    /// let params = DecodeParams::new().access(Access::new(HttpClient::new()?, cache));
    /// let url = "https://example.com/episode.mp3";
    /// let mut track = Decoder::open(url, &params, OpenMode::Online).await?;
    /// # let _ = track.next_block()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`DecodeError::File`] and [`DecodeError::Hls`] where it cannot be fetched; else as
    /// [`from_reader`](Self::from_reader).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connections. What was fetched is kept.
    #[cfg(feature = "file")]
    pub async fn open(
        location: impl Into<Location>,
        params: &DecodeParams,
        mode: OpenMode,
    ) -> Result<Self, DecodeError> {
        let location = location.into();
        // By its name first. As a file it would be fetched, found to be no media, and fetched once more as a playlist.
        #[cfg(feature = "hls")]
        if let Location::Url(url) = &location {
            let name = url.path().rsplit_once('.').map(|(_, extension)| extension);
            if name.is_some_and(|name| name.eq_ignore_ascii_case("m3u8") || name.eq_ignore_ascii_case("m3u"))
            {
                let source = HlsSource::new(url.clone(), params.hls_params());
                return Self::from_hls(source, params, mode).await;
            }
        }
        let source = FileSource::new(location.clone(), params.file_params());
        let opened = Self::from_file(&source, params, mode).await;
        #[cfg(feature = "hls")]
        if let (Err(error), Location::Url(url)) = (&opened, &location)
            && is_playlist(error)
        {
            let source = HlsSource::new(url.clone(), params.hls_params());
            return Self::from_hls(source, params, mode).await;
        }
        opened
    }

    /// Decodes a file, which is downloaded meanwhile. When this returns, the first sound has been decoded.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// As [`open`](Self::open).
    #[cfg(feature = "file")]
    pub async fn from_file(
        source: &FileSource,
        params: &DecodeParams,
        mode: OpenMode,
    ) -> Result<Self, DecodeError> {
        let reader = source.open_reader(mode).await?;
        let resource = reader.resource().clone();
        let input = file::Input::from_resource(reader);
        // Both before the work begins, which may block for as long as a server is silent.
        let interrupt = input.interrupt();
        let params = params.clone();
        let mut opened = unblock(interrupt, move || Self::from_input(&input, &params)).await?;
        opened.set_arrived(Arc::new(move || shares(&resource)));
        // A look-ahead in time needs to know what a second takes.
        if let Some(bits) = opened.format().bit_rate {
            source.set_bytes_per_second(bits.div_ceil(8));
        }
        Ok(opened)
    }

    /// Decodes an HLS track, which is fetched meanwhile. When this returns, the first sound has been decoded.
    ///
    /// Where `source` says nothing of Variant Streams, neither [`HlsParams::variant`](crate::hls::HlsParams::variant) nor
    /// [`HlsParams::selector`](crate::hls::HlsParams::selector), an
    /// [`Adaptive`](crate::hls::selection::Adaptive) chooses.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// As [`open`](Self::open).
    #[cfg(feature = "hls")]
    pub async fn from_hls(
        source: HlsSource,
        params: &DecodeParams,
        mode: OpenMode,
    ) -> Result<Self, DecodeError> {
        // The source asks for the playlist from here on, while the thread for the work is got.
        let stream = StreamParams::default().offline_mode(mode.is_offline());
        let track = HlsPcm::new(source.for_decoding(), stream);
        let target = params.target();
        unblock(track.interrupt(), move || {
            Self::with_source(Box::new(track), target)
        })
        .await
    }

    fn from_input(input: &file::Input, params: &DecodeParams) -> Result<Self, DecodeError> {
        let track: Box<dyn PcmSource> = Box::new(file::open(input)?);
        Self::with_source(track, params.target())
    }
}

/// Which parts of a file are there, as shares of its length.
#[cfg(feature = "file")]
#[expect(
    clippy::cast_precision_loss,
    reason = "shown as a bar, which is not a millionth of its length wrong"
)]
fn shares(resource: &StreamingResource<FileError>) -> Vec<Range<f64>> {
    // A length that is not known yet makes shares of nothing, and the app shows an empty bar.
    let len = resource.len().unwrap_or(0).max(1) as f64;
    let there = resource.available();
    there
        .iter()
        .map(|part| part.start as f64 / len..part.end as f64 / len)
        .collect()
}

/// Whether a file turned out to be a playlist. It is commonly refused before it is stored; what an app accepted, or what
/// was kept already, is known by its first bytes.
#[cfg(all(feature = "file", feature = "hls"))]
fn is_playlist(error: &DecodeError) -> bool {
    match error {
        DecodeError::File { source } => {
            let refused = source.not_media();
            refused.is_some_and(|refused| refused.reason == NotMediaReason::Playlist)
        }
        DecodeError::UnsupportedContainer { container } => container == file::PLAYLIST,
        _ => false,
    }
}

/// Runs `work` where it may block; whoever stops waiting for it has it give up.
#[cfg(any(feature = "file", feature = "hls"))]
async fn unblock<T: Send + 'static>(
    interrupt: super::source::Interrupt,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    /// A wait of the work ends when nobody wants its result any more: with it go its connections.
    struct GiveUp(Option<super::source::Interrupt>);

    impl Drop for GiveUp {
        fn drop(&mut self) {
            if let Some(interrupt) = self.0.take() {
                interrupt();
            }
        }
    }

    let mut give_up = GiveUp(Some(interrupt));
    let result = rt::unblock(work).await;
    // Done: an interrupt now would end a wait of the decoder that the app is about to be given.
    give_up.0 = None;
    result
}
