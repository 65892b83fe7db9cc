//! What the cache has of a track, and what is missing: the playlists there, held against the entries there.
//!
//! ```text
//!   playlists in the cache ─▶ track ─▶ sections, segments, keys ─┐
//!                                                                ├─▶ holes, bytes, seconds
//!   entries of the asset, listed once ───────────────────────────┘
//! ```
//!
//! The rule: **complete is what plays offline to its end.** Each resource that the Media Playlist names is looked up; no note
//! says that a track is there. Of several editions it is the newest that is whole, as offline plays that.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Duration};

use super::{
    HlsError, HlsSource, Resource, ResourceKind,
    edition::EditionId,
    editions,
    fetch::{Ask, Fetcher},
    fetch_context::FetchContext,
    load::{self, Load},
    local,
    track::{Part, Track},
};
use crate::{
    cache::CachePath,
    media::{Hole, Stored, Total},
};

/// A span of a track's time line; all of it where there is none.
pub(crate) type Window = Option<Range<Duration>>;

/// Something that a track needs.
pub(super) struct Needed {
    pub(super) path: CachePath,
    resource: Resource,
    /// When it plays first: a section and a key for no time.
    pub(super) time: Range<Duration>,
    /// How long it plays in all: what is named more than once plays more than once.
    plays: Duration,
    /// How many bytes its entry has, if the playlist says.
    len: Option<u64>,
    /// Whether its bytes are media.
    is_media: bool,
}

/// All that one Variant Stream needs, but its playlists: they led here.
pub(crate) struct Needs {
    pub(super) all: Vec<Needed>,
    /// How long that plays which needs nothing of the cache: gaps, local files, `data:` URIs.
    free: Duration,
    /// How long all of it plays.
    duration: Duration,
    /// Bits a second, for an estimate; 0 where no playlist says.
    bandwidth: u64,
}

/// The entries of an asset, and their lengths in bytes.
pub(crate) type Listing = HashMap<CachePath, u64>;

impl Needs {
    /// What `track` needs in `window`: the segments that play in it, their keys, and all initialization sections.
    pub(super) fn of(track: &Track, window: &Window) -> Self {
        let (mut all, mut seen) = (Vec::<Needed>::new(), HashMap::new());
        let (mut free, mut duration) = (Duration::ZERO, Duration::ZERO);
        for number in 0..track.len() {
            let Some(part) = track.part(number) else { break };
            let start = part.time();
            let end = track.part(number + 1).map_or(track.duration(), Part::time);
            let is_within = |window: &Range<Duration>| start < window.end && end > window.start;
            if !part.is_section() && !window.as_ref().is_none_or(is_within) {
                continue;
            }
            let plays = end.saturating_sub(start);
            duration += plays;
            let Some(media) = &part.media else {
                free += plays;
                continue;
            };
            let key = media
                .key
                .as_ref()
                .filter(|key| !local::is_local(&key.locator.url));
            if let Some(key) = key.filter(|key| !seen.contains_key(&key.path)) {
                seen.insert(key.path.clone(), all.len());
                all.push(Needed {
                    path: key.path.clone(),
                    resource: Resource::new(ResourceKind::Key, &key.locator.url),
                    time: start..start,
                    plays: Duration::ZERO,
                    len: None,
                    is_media: false,
                });
            }
            if local::is_local(&media.locator.url) {
                free += plays;
                continue;
            }
            // A section, or a range of bytes, may be named more than once.
            if let Some(known) = seen.get(media.path()).and_then(|known| all.get_mut(*known)) {
                known.plays += plays;
                continue;
            }
            seen.insert(media.path().clone(), all.len());
            let range = media.locator.range.as_ref();
            all.push(Needed {
                path: media.path().clone(),
                resource: media.resource(),
                time: start..end,
                plays,
                len: range.map(|range| range.end - range.start),
                is_media: true,
            });
        }
        let bandwidth = track.facts().bandwidth;
        Self {
            all,
            free,
            duration,
            bandwidth,
        }
    }

    /// The same and what `other` needs beside it: of two Variant Streams that share a Rendition it counts once.
    #[cfg(feature = "offline")]
    pub(crate) fn and(mut self, other: Self) -> Self {
        let known: std::collections::HashSet<_> = self.all.iter().map(|needed| needed.path.clone()).collect();
        let fresh = |needed: &Needed| !known.contains(&needed.path);
        let more: Vec<_> = other.all.into_iter().filter(fresh).collect();
        // Nothing of its own: it is the same Rendition. Counted again, its time would be twice what can ever come.
        if more.iter().any(|needed| needed.is_media) {
            self.free += other.free;
            self.duration += other.free + more.iter().map(|needed| needed.plays).sum::<Duration>();
            self.bandwidth = self.bandwidth.saturating_add(other.bandwidth);
        }
        self.all.extend(more);
        self
    }

    /// How many resources it is.
    #[cfg(feature = "offline")]
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Holds it against the entries that are there.
    pub(crate) fn held_against(&self, listing: &Listing) -> Stored {
        let (mut bytes, mut time, mut holes) = (0_u64, self.free, Vec::new());
        let mut missing = Some(0_u64);
        for needed in &self.all {
            match listing.get(&needed.path) {
                Some(len) if needed.len.is_none_or(|expected| expected == *len) => {
                    bytes += if needed.is_media { *len } else { 0 };
                    time += needed.plays;
                }
                _ => {
                    if needed.is_media {
                        missing = missing.zip(needed.len).map(|(sum, len)| sum.saturating_add(len));
                    }
                    holes.push(needed.hole(false));
                }
            }
        }
        let total = match missing {
            Some(missing) => Total::Exact(bytes.saturating_add(missing)),
            None => self.estimate(bytes, time),
        };
        Stored {
            bytes,
            total,
            time: Some(time),
            duration: Some(self.duration),
            holes,
        }
    }

    /// By what is there, where enough is; else by what the playlist says of the rate.
    pub(super) fn estimate(&self, bytes: u64, time: Duration) -> Total {
        let time = time.saturating_sub(self.free);
        let seconds = |time: Duration| time.as_micros();
        // What needs nothing of the cache has no bytes there.
        let fetched = self.duration.saturating_sub(self.free);
        let scaled = |bytes: u128, of: u128| {
            let all = bytes * seconds(fetched);
            u64::try_from(all / of.max(1)).unwrap_or(u64::MAX)
        };
        if !time.is_zero() {
            return Total::Estimated(scaled(u128::from(bytes), seconds(time)).max(bytes));
        }
        if self.bandwidth > 0 {
            return Total::Estimated(scaled(u128::from(self.bandwidth / 8), 1_000_000).max(bytes));
        }
        Total::AtLeast(bytes)
    }

    /// The first that is not there.
    pub(super) fn first_missing<'n>(&'n self, listing: &'n Listing) -> Option<&'n Needed> {
        self.missing(listing).next()
    }

    pub(super) fn missing<'n>(&'n self, listing: &'n Listing) -> impl Iterator<Item = &'n Needed> {
        self.all.iter().filter(|needed| {
            let is_other = |len: &u64| needed.len.is_some_and(|expected| expected != *len);
            listing.get(&needed.path).is_none_or(is_other)
        })
    }
}

impl Needed {
    fn hole(&self, is_damaged: bool) -> Hole {
        Hole {
            time: Some(self.time.clone()).filter(|_| self.is_media),
            is_damaged,
            ..Hole::of(self.resource.to_string())
        }
    }
}

impl HlsSource {
    /// What the cache has of the Variant Stream that this source would play offline: its playlists there, held against the
    /// entries there. Nothing is fetched, and no segment is read: see [`verify`](Self::verify).
    ///
    /// # Errors
    ///
    /// [`HlsError::NoSuchVariant`]; [`HlsError::OfflineCache`] where the cache fails. A playlist that is not there is a hole, and
    /// no error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn stored(&self) -> Result<Stored, HlsError> {
        let listing = self.listing().await?;
        match self.needs(&None, &listing).await {
            Ok(needs) => Ok(needs.held_against(&listing)),
            Err(error) => missing_playlist(error),
        }
    }

    /// Reads all that the cache has of the track, and holds it against the checksums that were written with it. `on_progress`
    /// is told how many bytes of media were read, and of how many.
    ///
    /// What is damaged is named in [`Stored::holes`], as what is missing is. The cache gives up a damaged entry; the next
    /// [`download`](Self::download) brings it back.
    ///
    /// # Errors
    ///
    /// Those of [`stored`](Self::stored).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the reading.
    pub async fn verify(&self, on_progress: impl FnMut(u64, u64) + Send) -> Result<Stored, HlsError> {
        let listing = self.listing().await?;
        match self.needs(&None, &listing).await {
            Ok(needs) => self.verify_needs(&needs, listing, on_progress).await,
            Err(error) => missing_playlist(error),
        }
    }

    /// The entries of the track's asset.
    pub(crate) async fn listing(&self) -> Result<Listing, HlsError> {
        let fetcher = &self.state.fetcher;
        let Some(cache) = fetcher.cache() else {
            return Ok(Listing::new());
        };
        let entries = cache.entries(&fetcher.asset).await;
        let entries = entries.map_err(|source| HlsError::OfflineCache {
            resource: Resource::new(ResourceKind::Playlist, &fetcher.url),
            source,
        })?;
        Ok(entries.into_iter().map(|entry| (entry.path, entry.len)).collect())
    }

    /// What it needs to play offline, of the edition that would play.
    ///
    /// # Errors
    ///
    /// `OfflineMiss` where a playlist is not in the cache.
    pub(crate) async fn needs(&self, window: &Window, listing: &Listing) -> Result<Needs, HlsError> {
        let fetcher = &self.state.fetcher;
        let editions = editions::editions(fetcher).await;
        let newest = needs_of(fetcher, editions.newest(), window).await;
        if editions.next.is_none() {
            return newest;
        }
        // The one that was there first plays offline until the next one is whole.
        match newest {
            Ok(newest) if newest.first_missing(listing).is_none() => Ok(newest),
            newest => match needs_of(fetcher, editions.current.as_ref(), window).await {
                Ok(old) if old.first_missing(listing).is_none() => Ok(old),
                _ => newest,
            },
        }
    }

    pub(crate) async fn verify_needs(
        &self,
        needs: &Needs,
        mut listing: Listing,
        mut on_progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Stored, HlsError> {
        let fetcher = &self.state.fetcher;
        let all = needs.held_against(&listing).bytes;
        let (mut read, mut damaged) = (0, Vec::new());
        for needed in &needs.all {
            let (Some(len), Some(cache)) = (listing.get(&needed.path).copied(), fetcher.cache()) else {
                continue;
            };
            let failed = |source| HlsError::OfflineCache {
                resource: needed.resource.clone(),
                source,
            };
            let entry = cache.open(&fetcher.asset, &needed.path).await.map_err(failed)?;
            let is_right = match &entry {
                Some(entry) => entry.verify(&fetcher.asset, &needed.path).await.map_err(failed)?,
                None => false,
            };
            if !is_right {
                // One that went while the others were read is missing, and not damaged.
                damaged.extend(entry.is_some().then(|| needed.hole(true)));
                listing.remove(&needed.path);
            }
            read += if needed.is_media { len } else { 0 };
            on_progress(read, all);
        }
        let mut stored = needs.held_against(&listing);
        for hole in &mut stored.holes {
            hole.is_damaged = damaged
                .iter()
                .any(|other| other.resource == hole.resource && other.time == hole.time);
        }
        Ok(stored)
    }
}

/// A track whose playlists are not there is a hole of unknown size.
fn missing_playlist(error: HlsError) -> Result<Stored, HlsError> {
    match error {
        HlsError::OfflineMiss { resource } => Ok(Stored::nothing(resource.to_string())),
        error => Err(error),
    }
}

/// What an edition needs, by its playlists in the cache.
async fn needs_of(
    fetcher: &Fetcher,
    edition: Option<&EditionId>,
    window: &Window,
) -> Result<Needs, HlsError> {
    Ok(Needs::of(&*kept_track(fetcher, edition).await?, window))
}

/// Whether all that a track needs is in the cache: one listing, however long it is.
pub(super) async fn is_kept(fetcher: &Fetcher, track: &Track) -> bool {
    let Some(cache) = fetcher.cache() else {
        return false;
    };
    let entries = cache.entries(&fetcher.asset).await.unwrap_or_default();
    let listing: Listing = entries.into_iter().map(|entry| (entry.path, entry.len)).collect();
    let has_playlists = track.playlists().iter().all(|path| listing.contains_key(path));
    has_playlists && Needs::of(track, &None).first_missing(&listing).is_none()
}

/// The track of an edition, by its playlists in the cache.
pub(super) async fn kept_track(
    fetcher: &Fetcher,
    edition: Option<&EditionId>,
) -> Result<Arc<Track>, HlsError> {
    let mut context = FetchContext::new(true);
    let load = Load {
        ask: Ask::Cache,
        edition,
        variant: None,
    };
    Ok(Arc::new(load::track(fetcher, &mut context, load).await?.track))
}
