//! What all streams of one source share: what is fetched with, the track once it is found, and what was learned of it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    HlsError, NewEdition, Resource, ResourceKind, crypt,
    edition::{Witness, WitnessPlace},
    editions::{self, Question},
    fetch::{Ask, Fetcher},
    fetch_context::FetchContext,
    load::{self, Load},
    local,
    track::Track,
};
use crate::{cache::CachePath, media::Bypass};

/// Where an opened stream begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Byte(u64),
    Time(Duration),
}

/// The end of a ciphertext that tells how long the plaintext is, in bytes: the last block, and the one it is chained to.
const LAST_BLOCKS: u64 = 32;

/// What all streams of a source share. A stream holds it, and it holds no stream: there is no cycle (fault A11).
pub(super) struct SourceState {
    pub(super) fetcher: Fetcher,
    known: Mutex<Known>,
}

/// What was found.
#[derive(Default)]
struct Known {
    /// Once found, the same for every stream of this source.
    track: Option<Arc<Track>>,
    /// Another edition, which plays from the first byte on that the cache does not have of `track`.
    next: Option<Arc<Track>>,
    /// What the server is to be asked, while it has not answered. Each stream that is opened meanwhile asks.
    question: Option<Question>,
    /// What the server said of files that tell editions apart, by their entries.
    witnesses: HashMap<CachePath, Witness>,
    /// Those that are being asked for.
    asked: HashSet<CachePath>,
}

/// A track that a stream may play.
pub(super) struct Found {
    pub(super) track: Arc<Track>,
    pub(super) next: Option<Arc<Track>>,
    /// What the server is to be asked.
    pub(super) question: Option<Question>,
}

impl SourceState {
    pub(super) fn new(fetcher: Fetcher) -> Self {
        Self {
            fetcher,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A poisoned lock holds what it held: each change is one store.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The track. It is looked for once: a seek must not load the playlists again.
    pub(super) async fn track(&self, context: &mut FetchContext) -> Result<Found, HlsError> {
        {
            let known = self.known();
            if let Some(track) = known.track.clone() {
                return Ok(Found {
                    track,
                    next: known.next.clone(),
                    question: known.question,
                });
            }
        }
        let (track, question) = self.find(context).await?;
        // Of two streams that both looked the first one's track stays: what is learned of it is learned once.
        let mut known = self.known();
        if let Some(track) = known.track.clone() {
            return Ok(Found {
                track,
                next: known.next.clone(),
                question: known.question,
            });
        }
        (known.track, known.question) = (Some(track.clone()), question);
        Ok(Found {
            track,
            next: None,
            question,
        })
    }

    async fn find(&self, context: &mut FetchContext) -> Result<(Arc<Track>, Option<Question>), HlsError> {
        let editions = editions::editions(&self.fetcher).await;
        // Where a new edition is refused the old one plays as far as it is kept, whenever the source is opened.
        let is_refused = self.fetcher.params.new_edition == NewEdition::Refuse && editions.next.is_some();
        let newest = if is_refused {
            editions.current.as_ref()
        } else {
            editions.newest()
        };
        let mut load = Load {
            ask: Ask::Cache,
            edition: newest,
            variant: None,
        };
        if context.is_offline && editions.next.is_some() && !is_refused {
            // The newest one that is whole. If none is, the one that was there first.
            let mut own_context = FetchContext::new(true);
            if let Ok(loaded) = load::track(&self.fetcher, &mut own_context, load).await
                && load::is_whole(&self.fetcher, &loaded.track).await
            {
                return Ok((
                    Arc::new(loaded.track),
                    loaded.needs_check.then_some(Question::Playlists),
                ));
            }
            load.edition = editions.current.as_ref();
        }
        let loaded = match load::track(&self.fetcher, context, load).await {
            // A copy of a Multivariant Playlist may name a Media Playlist whose URL has expired (fault W4).
            Err(error) if error.is_refused() && !context.is_offline => {
                log::info!("{error}: the playlists are loaded again");
                load.ask = Ask::Server;
                let loaded = load::track(&self.fetcher, context, load)
                    .await
                    .map_err(|_| error)?;
                for entry in loaded.entries {
                    self.fetcher.keep(context, entry);
                }
                return Ok((Arc::new(loaded.track), None));
            }
            loaded => loaded?,
        };
        let question = editions::question(&self.fetcher, &loaded).await;
        Ok((Arc::new(loaded.track), question))
    }

    /// The track that is known, if one is.
    pub(super) fn known_track(&self) -> Option<Arc<Track>> {
        self.known().track.clone()
    }

    /// Puts `now` in the place of `old`, unless another stream has done so.
    pub(super) fn replace(&self, old: &Arc<Track>, now: &Arc<Track>) {
        let mut known = self.known();
        known.question = None;
        if known.track.as_ref().is_some_and(|track| Arc::ptr_eq(track, old)) {
            known.track = Some(now.clone());
        }
    }

    /// Another edition was found.
    pub(super) fn set_next(&self, track: Arc<Track>) {
        let mut known = self.known();
        (known.next, known.question) = (Some(track), None);
    }

    /// A stream has gone over to the other edition: those opened from here on begin with it.
    pub(super) fn change(&self, track: &Arc<Track>) {
        let mut known = self.known();
        known.track = Some(track.clone());
        if known.next.as_ref().is_some_and(|next| Arc::ptr_eq(next, track)) {
            known.next = None;
        }
    }

    /// Another edition than that of `track`, if one was found since: by a stream of this source, or by another source of the
    /// same asset, which may have removed what the cache had of this one.
    pub(super) async fn newer(&self, track: &Arc<Track>) -> Result<Option<Arc<Track>>, HlsError> {
        {
            let known = self.known();
            let found = known.next.clone().or_else(|| known.track.clone());
            if let Some(found) = found.filter(|found| found.edition() != track.edition()) {
                return Ok(Some(found));
            }
        }
        let editions = editions::editions(&self.fetcher).await;
        let newest = editions.newest();
        if newest == track.edition() || newest.is_none() {
            return Ok(None);
        }
        let load = Load {
            ask: Ask::Cache,
            edition: newest,
            variant: Some(track.facts()),
        };
        let mut context = FetchContext::new(false);
        let found = Arc::new(load::track(&self.fetcher, &mut context, load).await?.track);
        context.commits.wait_for_at_most(0).await;
        self.set_next(found.clone());
        Ok(Some(found))
    }

    /// What the server said of a file when it was fetched, if that is known.
    pub(super) async fn witness(&self, track: &Track, place: WitnessPlace) -> Option<Witness> {
        let path = place.path(track.playlist()?);
        if let known @ Some(_) = self.known().witnesses.get(&path).cloned() {
            return known;
        }
        let entry = self.fetcher.own_entry(&path).await?;
        Witness::read(&entry)
    }

    /// Asks what the server says of the first segment, where a track is kept from behind it on: after a seek. The segments
    /// wait for it on their way to the disk, and the stream does not.
    pub(super) async fn learn_first(
        self: &Arc<Self>,
        context: &mut FetchContext,
        track: &Track,
        number: usize,
    ) {
        let first = track.first_segment().filter(|(first, _)| number > *first);
        let (Some((_, media)), Some(playlist)) = (first, track.playlist()) else {
            return;
        };
        let path = WitnessPlace::FirstSegment.path(playlist);
        let is_kept = self.fetcher.cache().is_some() && !local::is_local(&media.locator.url);
        let is_known = self.witness(track, WitnessPlace::FirstSegment).await.is_some();
        if is_kept && !is_known && self.known().asked.insert(path.clone()) {
            let learning = editions::learn(self.clone(), media.clone(), path);
            context.commits.push_first(learning);
        }
    }

    /// Keeps what the server said of a file, if that is not known yet. Before any segment is kept: one of which it is not
    /// known could be mixed with those of another edition.
    pub(super) fn learn(
        self: &Arc<Self>,
        context: &mut FetchContext,
        track: &Track,
        place: WitnessPlace,
        witness: Witness,
    ) {
        let path = track.playlist().map(|playlist| place.path(playlist));
        let (Some(path), Some(cache)) = (path, self.fetcher.cache().cloned()) else {
            return;
        };
        if self.known().witnesses.get(&path) == Some(&witness) {
            return;
        }
        self.known().asked.insert(path.clone());
        let state = self.clone();
        context.commits.push_first(async move {
            let written = cache
                .put_atomic(&state.fetcher.asset, &path, witness.write())
                .await;
            match written {
                Ok(()) => {
                    // Only now: another stream that took it for known would not wait for it.
                    state.known().witnesses.insert(path, witness);
                    None
                }
                Err(error) => {
                    let resource = Resource::new(ResourceKind::Playlist, &state.fetcher.url);
                    Some((resource, Bypass::Refused(error)))
                }
            }
        });
    }

    /// Learns the length of each part from the cache, if all of them are there.
    pub(super) async fn learn_lens(&self, track: &Track) {
        let Some(cache) = self.fetcher.cache() else { return };
        // A listing first: where something is missing, nothing else is looked up.
        let entries = cache.entries(&self.fetcher.asset).await.unwrap_or_default();
        let kept: HashSet<_> = entries.into_iter().map(|entry| entry.path).collect();
        let is_unknown = |index: &usize| track.part_len(*index).is_none();
        let unknown: Vec<_> = (0..track.len()).filter(is_unknown).collect();
        let media = |index: &usize| track.part(*index)?.media.as_ref();
        if unknown
            .iter()
            .filter_map(media)
            .all(|media| kept.contains(media.path()))
        {
            for index in unknown {
                self.part_len(track, index).await;
            }
        }
    }

    /// The length of a part's plaintext in bytes, if it can be known without fetching the part.
    pub(super) async fn part_len(&self, track: &Track, index: usize) -> Option<u64> {
        if let known @ Some(_) = track.part_len(index) {
            return known;
        }
        let media = track.part(index)?.media.as_ref()?;
        // Errors are left out here. What fails fails again when the part is opened, and is told then.
        let mut entry = self
            .fetcher
            .cache()?
            .open(&self.fetcher.asset, media.path())
            .await
            .ok()??;
        let len = match &media.key {
            None => entry.len(),
            Some(reference) => {
                // Offline: to know a length is no reason to fetch a key. Its context has nothing to tell.
                let mut context = FetchContext::new(true);
                let (key, _) = self.fetcher.key(&mut context, reference).await.ok()?;
                let start = entry.len().checked_sub(LAST_BLOCKS)?;
                entry.seek(start);
                let blocks = entry.next_chunk().await.ok()??;
                start + crypt::last_blocks_len(&key, &blocks)?
            }
        };
        track.set_part_len(index, len);
        Some(len)
    }
}
