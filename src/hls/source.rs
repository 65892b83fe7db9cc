//! The source: what it remembers between one opened stream and the next.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_lite::stream;

use super::{
    HlsControl, HlsError, HlsParams, crypt, fetch::Fetcher, fetch_context::FetchContext, player::Player,
    track::Track,
};
use crate::{
    cache::AssetId,
    net::{Url, redacted},
    stream::{Source, SourceStream, StreamError, StreamParams},
};

/// An HLS VOD track as a stream of its media bytes.
///
/// The bytes are those of the chosen Variant Stream's initialization sections and segments, decrypted, one after another.
/// Playlists and keys are never among them. Positions count those bytes.
///
/// Everything fetched is kept in the cache as it is read, and read from there the next time; with
/// [`StreamParams::offline_mode`] nothing else is used.
///
/// # Seeking
///
/// Every position can be sought. Segments before it whose sizes are known are passed over: those read before, those in the
/// cache, and unencrypted byte ranges. The others are fetched and discarded (and kept in the cache). A position beyond the
/// end is the end.
///
/// By time nothing is fetched on the way: the playlist says which Media Segment plays when. The bytes go on with that segment,
/// from its start, and with its initialization section before it, so that a new decoder can begin there.
/// [`HlsControl::SegmentStart`] says when the segment starts; what of it lies before the time sought is the decoder's to
/// leave out. In a gap (EXT-X-GAP) nothing plays: [`HlsControl::Gap`] says when the gap starts, and the bytes go on with the
/// segment after it, its initialization section before it. A time at or past the end is the end.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_lite::StreamExt;
/// use kithara::{cache::AssetCache, hls::{HlsParams, HlsSource}, net::{HttpClient, Url}, stream::{Stream, StreamParams}};
///
/// let cache = AssetCache::builder("/var/cache/player").max_bytes(1 << 30).open().await?;
/// let url = Url::parse("https://example.com/track/master.m3u8")?;
/// let source = HlsSource::new(url, HlsParams::new(HttpClient::new()?, cache));
/// let mut stream = Stream::new(source, StreamParams::default());
/// while let Some(chunk) = stream.next().await {
///     println!("{} bytes", chunk?.len());
/// }
/// # Ok(()) }
/// ```
pub struct HlsSource {
    state: Arc<SourceState>,
    start: Start,
}

/// Where an opened stream begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Byte(u64),
    Time(Duration),
}

/// The end of a ciphertext that tells how long the plaintext is: the last block, and the one it is chained to.
const LAST_BLOCKS: u64 = 32;

/// What all streams of a source share. A stream holds it, it holds no stream: no cycle (fault A11).
pub(super) struct SourceState {
    pub(super) fetcher: Fetcher,
    /// Once found, the same for every stream of this source.
    track: Mutex<Option<Arc<Track>>>,
}

impl HlsSource {
    /// The track at `url`, which is a Multivariant Playlist or a Media Playlist.
    pub fn new(url: Url, params: HlsParams) -> Self {
        let state = SourceState {
            fetcher: Fetcher::new(params, url),
            track: Mutex::default(),
        };
        Self {
            state: Arc::new(state),
            start: Start::Byte(0),
        }
    }

    /// The asset under which the cache keeps the track: what to pin, to list and to remove.
    pub fn asset(&self) -> &AssetId {
        &self.state.fetcher.asset
    }
}

impl Source for HlsSource {
    type Error = HlsError;
    type Control = HlsControl;

    fn open(
        &mut self,
        params: &StreamParams,
    ) -> Result<SourceStream<HlsControl, HlsError>, StreamError<HlsError>> {
        let player = Player::new(self.state.clone(), self.start, params.is_offline());
        Ok(Box::pin(stream::unfold(player, |mut player| async move {
            let message = player.message().await?;
            Some((message.map_err(StreamError::source), player))
        })))
    }

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

impl SourceState {
    /// The track, found once.
    pub(super) async fn track(&self, context: &mut FetchContext) -> Result<Arc<Track>, HlsError> {
        let known = self.track.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(track) = known {
            return Ok(track);
        }
        let track = Arc::new(Track::load(&self.fetcher, context).await?);
        // A poisoned lock holds what it held: each change is one store.
        *self.track.lock().unwrap_or_else(PoisonError::into_inner) = Some(track.clone());
        Ok(track)
    }

    /// How many bytes of plaintext a part has, if that can be known without fetching it.
    pub(super) async fn size(&self, track: &Track, index: usize) -> Option<u64> {
        if let known @ Some(_) = track.size(index) {
            return known;
        }
        let media = track.part(index)?.media.as_ref()?;
        // What fails here fails again, and is told, when the part is opened.
        let mut entry = self
            .fetcher
            .cache()?
            .open(&self.fetcher.asset, &media.path)
            .await
            .ok()??;
        let size = match &media.key {
            None => entry.len(),
            Some(reference) => {
                let key = self
                    .fetcher
                    .key(&mut FetchContext::new(true), reference)
                    .await
                    .ok()?;
                let start = entry.len().checked_sub(LAST_BLOCKS)?;
                entry.seek(start);
                let blocks = entry.next_chunk().await.ok()??;
                start + crypt::last_blocks_len(&key, &blocks)?
            }
        };
        track.learn(index, size);
        Some(size)
    }
}
