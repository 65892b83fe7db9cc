//! The download of a track: from hole to hole, each read by a player that gives its bytes to nobody.
//!
//! ```text
//!   playlists, kept ─▶ what is missing? ── nothing ─▶ complete
//!          ▲               │ first hole
//!          │               ▼
//!          │           player, from its time on ─▶ a part that was there before ──┐
//!          │               │ the network is away                                  │
//!          │               ▼                                                      │
//!          └──────────── a pause ◀────────────────────────────────────────────────┘
//! ```
//!
//! A player is what fetches: it alone knows of editions, keys, expired URLs and what is media. So what a download keeps is what a
//! stream would have given out.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    HlsControl, HlsError, HlsSource, VariantChoice,
    completeness::{self, Listing, Needs, Window},
    editions,
    fetch_context::FetchContext,
    look_ahead::LookAhead,
    player::Player,
    source_state::{SourceState, Start},
};
use crate::{
    media::{Bypass, Download, DownloadError, Meter, Origin, Stored, Total},
    rt,
    stream::Message,
};

/// The pauses between tries while the network is away.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

type Failure = DownloadError<HlsError>;

impl HlsSource {
    /// Downloads the Variant Stream that this source would play into the cache, with its playlists, keys and initialization
    /// sections. See [`Download`]. What is there already is not fetched again.
    ///
    /// An outage does not end it. Where the track is published anew meanwhile the new edition is downloaded, and the old one
    /// removed when the new one is whole.
    ///
    /// ```no_run
    /// # async fn keep(source: kithara::hls::HlsSource) -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_lite::StreamExt;
    ///
    /// let mut download = source.download();
    /// while let Some(progress) = download.next().await {
    ///     println!("{:.0} %", progress?.fraction() * 100.0);
    /// }
    /// assert!(source.stored().await?.is_complete());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The stream yields [`DownloadError::NotKept`] where the cache has no room, or may not keep what the server sends;
    /// [`DownloadError::Source`] with what a stream of the source would get. A live playlist is
    /// [`PlaylistError::Live`](super::PlaylistError::Live).
    pub fn download(&self) -> Download<HlsError> {
        self.download_window(None)
    }

    /// The same for the segments that play in `window`.
    pub(crate) fn download_window(&self, window: Window) -> Download<HlsError> {
        let source = self.clone();
        Download::new(|meter| async move {
            // What is fetched between two players belongs together, and must not be evicted by what else comes.
            let fetcher = &source.state.fetcher;
            let _lease = fetcher.cache().map(|cache| cache.lease(&fetcher.asset));
            let mut pause = PAUSE;
            loop {
                let before = meter.bytes();
                let error = match Box::pin(source.download_once(&window, &meter)).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                };
                if !error.source_error().is_some_and(HlsError::is_transient) {
                    return Err(error);
                }
                log::info!("{error}; the download goes on when the network is back");
                meter.set_away(true);
                // Progress ends the row of failures.
                pause = if meter.bytes() > before { PAUSE } else { pause };
                rt::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        })
    }

    async fn download_once(&self, window: &Window, meter: &Meter) -> Result<(), Failure> {
        let mut context = FetchContext::new(false);
        let found = self.state.track(&mut context).await;
        context.commits.wait_for_at_most(0).await;
        let number = found?.track.facts().number;
        if let Some((_, reason)) = context.commits.take_failed() {
            return Err(DownloadError::NotKept { reason });
        }
        // Under its number, so that no other Variant Stream plays in its place where a server fails.
        let look_ahead = if let VariantChoice::Index(_) = self.state.fetcher.params.choice() {
            self.look_ahead.clone()
        } else {
            let fetcher = self.state.fetcher.choosing(VariantChoice::Index(number));
            LookAhead::new(Arc::new(SourceState::new(fetcher)))
        };
        let state = look_ahead.state().clone();
        let mut last = None;
        loop {
            let listing = self.listing().await?;
            let edition = editions::editions(&state.fetcher).await;
            let track = completeness::kept_track(&state.fetcher, edition.newest()).await?;
            let needs = Needs::of(&track, window);
            let stored = needs.held_against(&listing);
            meter.note(stored.bytes, stored.total, stored.time, stored.duration);
            let Some(hole) = needs.first_missing(&listing) else {
                if window.is_none() {
                    editions::settle(&state, &mut context, &track, true).await;
                    context.commits.wait_for_at_most(0).await;
                }
                return Ok(());
            };
            // A round that did not fill its first hole would go on for ever.
            if last.replace(hole.path.clone()).as_ref() == Some(&hole.path) {
                return Err(DownloadError::Incomplete);
            }
            let start = hole.time.start;
            Box::pin(fetch(
                &look_ahead,
                start,
                window,
                &needs,
                &listing,
                &stored,
                meter,
            ))
            .await?;
        }
    }
}

/// Plays from `start` on, up to a part that was there before, or the end.
async fn fetch(
    look_ahead: &Arc<LookAhead>,
    start: Duration,
    window: &Window,
    needs: &Needs,
    listing: &Listing,
    stored: &Stored,
    meter: &Meter,
) -> Result<(), Failure> {
    // By when they play: a stream may say of what it has fetched ahead that it comes from the cache.
    let missing: BTreeSet<Duration> = needs.missing(listing).map(|needed| needed.time.start).collect();
    let reach = look_ahead.state().fetcher.params.reach.time;
    let mut player = Player::new(look_ahead.clone(), Start::Time(start), None, false);
    if let Some(window) = window {
        player.look_ahead_until(window.end);
    }
    let (mut bytes, mut time) = (stored.bytes, stored.time.unwrap_or_default());
    let (mut is_fetched, mut playing) = (false, Duration::ZERO);
    // Of whole segments, as the time is.
    let mut whole = bytes;
    while let Some(message) = player.message().await {
        match message? {
            Message::Data(data) => {
                bytes += if is_fetched { data.len() as u64 } else { 0 };
                meter.set_away(false);
            }
            Message::Control(HlsControl::SegmentStart {
                time: at,
                duration,
                origin,
                ..
            }) => {
                let is_over = window.as_ref().is_some_and(|window| at >= window.end);
                // A player looks ahead, and has begun to ask for what is missing within its reach: dropped now, that would come
                // twice.
                let next = missing.range(at..).next();
                let is_near = next.is_some_and(|next| next.saturating_sub(at) < reach);
                if is_over || !is_near {
                    break;
                }
                time += playing;
                whole = bytes;
                is_fetched = origin == Origin::Network;
                // What was there before is in the sum already: a second time, it would be told as more than the track is long.
                playing = if missing.contains(&at) {
                    duration
                } else {
                    Duration::ZERO
                };
            }
            Message::Control(HlsControl::InitializationSection { origin, .. }) => {
                is_fetched = origin == Origin::Network;
            }
            Message::Control(HlsControl::CacheBypassed { reason, .. }) => return Err(not_kept(reason)),
            Message::Control(_) => {}
        }
        // By what has come a guess is better than by what the playlist says.
        let total = match stored.total {
            Total::Exact(_) => stored.total,
            _ => needs.estimate(whole, time),
        };
        meter.note(bytes, total, Some(time), stored.duration);
        meter.may_go_on().await;
    }
    // What was read to its end is on its way to the disk. Dropped now it might be fetched again.
    match player.finish().await {
        Some((_, reason)) => Err(not_kept(reason)),
        None => Ok(()),
    }
}

fn not_kept(reason: Bypass) -> Failure {
    DownloadError::NotKept { reason }
}
