//! The source: what an app opens and seeks.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_lite::stream;

use super::{
    HlsControl, HlsError, HlsParams, OpenMode,
    editions::{self, Question, Renewed},
    fetch::Fetcher,
    fetch_context::FetchContext,
    inspect::{self, Presentation},
    look_ahead::LookAhead,
    player::Player,
    reader::HlsReader,
    source_state::{SourceState, Start},
    track::Track,
};
use crate::{
    cache::AssetId,
    net::{Url, redacted},
    stream::{Source, SourceStream, StreamError, StreamParams},
};

/// An HLS VOD track as a stream of its media bytes.
///
/// The bytes are those of the chosen Variant Stream's initialization sections and segments, decrypted, one after another. No
/// playlist and no key is among them. Positions count those bytes.
///
/// What is fetched is kept in the cache as it is read, and read from there the next time. With
/// [`StreamParams::offline_mode`] nothing is fetched.
///
/// # Seeking by bytes
///
/// Every position can be sought. Parts before it are skipped if their lengths are known: parts read before, parts in the cache,
/// and unencrypted byte ranges. The others are fetched, kept in the cache, and not given out. A position beyond the end is the
/// end.
///
/// # Seeking by time
///
/// Nothing before the time is fetched: the playlist says which Media Segment plays when. The bytes go on at the start of that
/// segment, with its initialization section before it, so that a new decoder can begin there.
/// [`HlsControl::SegmentStart`] says when the segment starts. The decoder leaves out what of it lies before the time.
///
/// In a gap (EXT-X-GAP) nothing plays. [`HlsControl::Gap`] says when the gap starts, and the bytes go on with the segment after
/// it. A time at or past the end is the end.
///
/// # Example
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_lite::StreamExt;
/// use kithara::cache::AssetCache;
/// use kithara::hls::{HlsParams, HlsSource};
/// use kithara::net::{HttpClient, Url};
/// use kithara::stream::{Stream, StreamParams};
///
/// let cache = AssetCache::builder("music").max_bytes(1 << 30).open().await?;
/// let url = Url::parse("https://example.com/track/master.m3u8")?;
/// let source = HlsSource::new(url, HlsParams::new(HttpClient::new()?, cache));
/// let mut stream = Stream::new(source, StreamParams::default());
/// while let Some(chunk) = stream.next().await {
///     println!("{} bytes", chunk?.len());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct HlsSource {
    pub(super) state: Arc<SourceState>,
    pub(super) look_ahead: Arc<LookAhead>,
    start: Start,
    /// The track of which alone streams may give bytes: those of a reader.
    only: Option<Arc<Track>>,
}

impl HlsSource {
    /// The track at `url`, which is a Multivariant Playlist or a Media Playlist. Nothing is fetched yet.
    ///
    /// `url` may be a `file:` or a `data:` URL too. What a local playlist names may be local files, or on the network; a
    /// playlist of the network reads no local file. Local files are not copied into the cache.
    pub fn new(url: Url, params: HlsParams) -> Self {
        Self::with_fetcher(Fetcher::new(params, url))
    }

    /// The track of a playlist that the app has already: made by it, from a database, or read from a file. `url` is where the
    /// playlist came from, or would come from: it is what relative URLs resolve against, the track's origin for
    /// [`HlsParams::header`], and the name of its asset unless [`HlsParams::asset`] says another. It is not asked.
    ///
    /// ```no_run
    /// # fn example(params: kithara::hls::HlsParams) -> Result<(), Box<dyn std::error::Error>> {
    /// use kithara::hls::HlsSource;
    /// use kithara::net::Url;
    ///
    /// let text = "#EXTM3U\n#EXTINF:6,\n0.ts\n#EXTINF:6,\n1.ts\n#EXT-X-ENDLIST\n";
    /// let url = Url::parse("https://example.com/track/list.m3u8")?;
    /// let source = HlsSource::from_playlist(text, url, params);
    /// # Ok(()) }
    /// ```
    ///
    /// The playlist is not written to the cache; offline the app brings it again. Media Playlists that it names are fetched
    /// and kept as always. A playlist in a `data:` URL can be given to [`new`](Self::new).
    pub fn from_playlist(playlist: impl Into<Bytes>, url: Url, params: HlsParams) -> Self {
        Self::with_fetcher(Fetcher::new(params, url).with_text(playlist.into()))
    }

    /// The same for a decoder: where the app has said nothing of Variant Streams an adaptive selector chooses. It is a source of
    /// its own then.
    #[cfg(feature = "decode")]
    pub(crate) fn for_decoding(self) -> Self {
        if !self.state.fetcher.params.is_choice_open() {
            return self;
        }
        let source = Self::with_fetcher(self.state.fetcher.adaptive());
        Self {
            start: self.start,
            ..source
        }
    }

    fn with_fetcher(fetcher: Fetcher) -> Self {
        let state = Arc::new(SourceState::new(fetcher));
        Self {
            look_ahead: LookAhead::new(state.clone()),
            state,
            start: Start::Byte(0),
            only: None,
        }
    }

    /// What there is to play, and what of it is in the cache. No media is fetched.
    ///
    /// The playlists are those that a stream would play from: a copy in the cache, or else the server's, which are kept. Media
    /// Playlists of other Variant Streams are not fetched. A track that cannot be played because it is live is no error here.
    ///
    /// # Errors
    ///
    /// Those of a stream's first message, but for a live playlist.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connections. Nothing that was kept is lost.
    pub async fn inspect(&self, mode: OpenMode) -> Result<Presentation, HlsError> {
        let mut context = FetchContext::new(mode.is_offline());
        inspect::presentation(&self.state, &mut context).await
    }

    /// The track as a file that is still arriving: `Read + Seek`, for decoders that take no messages. Where it starts is the
    /// first byte, whatever was sought.
    ///
    /// The playlists are looked for now. The reader fetches from its first read on, as a stream does, by a task on async-std.
    ///
    /// ```no_run
    /// # async fn example(source: kithara::hls::HlsSource) -> Result<(), Box<dyn std::error::Error>> {
    /// use kithara::hls::OpenMode;
    /// use std::io::Read;
    ///
    /// let mut reader = source.open_reader(OpenMode::Online).await?;
    /// let mut start = [0; 4096];
    /// reader.read_exact(&mut start)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of a stream's first message.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connections. Nothing that was kept is lost.
    pub async fn open_reader(&self, mode: OpenMode) -> Result<HlsReader, HlsError> {
        let mut context = FetchContext::new(mode.is_offline());
        let found = self.state.track(&mut context).await;
        context.commits.wait_for_at_most(0).await;
        let found = found?;
        let newest = found.next.filter(|_| !mode.is_offline());
        let track = newest.unwrap_or(found.track);
        self.state.learn_lens(&track).await;
        let source = Self {
            start: Start::Byte(0),
            only: Some(track.clone()),
            ..self.clone()
        };
        let params = StreamParams::default().offline_mode(mode.is_offline());
        Ok(HlsReader::new(source, track, params))
    }

    /// Asks the server for the playlists again, and takes over what it has: URLs with new tokens, or another edition.
    ///
    /// Streams do this by themselves when the source is opened ([`HlsParams::playlist_check`]), and when something that the
    /// playlists name is refused. This is for an app that knows more, and for a list that offers what was published since.
    ///
    /// # Errors
    ///
    /// Those of a stream's first message. What was known stays.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connections. What was known stays.
    pub async fn refresh(&self) -> Result<Refreshed, HlsError> {
        let mut context = FetchContext::new(false);
        let found = self.state.track(&mut context).await;
        context.commits.wait_for_at_most(0).await;
        let (renewed, mut commits) =
            editions::renew(self.state.clone(), found?.track, Question::Playlists).await;
        commits.wait_for_at_most(0).await;
        Ok(match renewed? {
            Renewed::Same(_) => Refreshed::Same,
            Renewed::Other { .. } => Refreshed::NewEdition,
        })
    }

    /// Removes what the cache has of the edition that was there first, if there is a newer one. A stream that has played the
    /// newer one to its end does this by itself, unless the asset is pinned.
    ///
    /// # Errors
    ///
    /// Those of a stream's first message.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either edition may be the one that plays offline.
    pub async fn remove_old_edition(&self) -> Result<(), HlsError> {
        let mut context = FetchContext::new(false);
        let found = self.state.track(&mut context).await?;
        let newest = found.next.unwrap_or(found.track);
        editions::settle(&self.state, &mut context, &newest, true).await;
        self.state.change(&newest);
        context.commits.wait_for_at_most(0).await;
        Ok(())
    }

    /// The asset under which the cache keeps the track: what to pin, to list and to remove.
    pub fn asset(&self) -> &AssetId {
        &self.state.fetcher.asset
    }
}

/// What [`HlsSource::refresh`] found.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// The same list of the same files. Its URLs are taken over.
    Same,
    /// Another edition. Streams go over to it where the cache lacks the next byte of the old one.
    NewEdition,
}

impl Source for HlsSource {
    type Error = HlsError;
    type Control = HlsControl;

    fn open(
        &mut self,
        params: &StreamParams,
    ) -> Result<SourceStream<HlsControl, HlsError>, StreamError<HlsError>> {
        // Nothing is done before the first poll, so opening does not fail: what is wrong comes as the stream's first item.
        let player = Player::new(
            self.look_ahead.clone(),
            self.start,
            self.only.clone(),
            params.is_offline(),
        );
        Ok(Box::pin(stream::unfold(player, |mut player| async move {
            let message = player.message().await?;
            Some((message.map_err(StreamError::source), player))
        })))
    }

    // A seek is noted, and the driver opens anew. No position is refused: how long the track is may not be known yet, and a
    // position beyond its end is its end.
    fn seek_bytes(&mut self, position: u64) -> Result<(), StreamError<HlsError>> {
        self.start = Start::Byte(position);
        Ok(())
    }

    fn supports_seek(&self) -> bool {
        true
    }

    fn seek_time(&mut self, time: Duration) -> Result<(), StreamError<HlsError>> {
        self.start = Start::Time(time);
        Ok(())
    }

    fn supports_seek_time(&self) -> bool {
        true
    }
}

impl fmt::Debug for HlsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HlsSource")
            .field("url", &redacted(&self.state.fetcher.url))
            .field("start", &self.start)
            .field("params", &self.state.fetcher.params)
            .finish_non_exhaustive()
    }
}
