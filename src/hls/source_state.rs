//! What all streams of one source share: what is fetched with, the track once it is found, and the lengths learned.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{HlsError, crypt, fetch::Fetcher, fetch_context::FetchContext, load, track::Track};

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
    /// Once found, the same for every stream of this source.
    track: Mutex<Option<Arc<Track>>>,
}

impl SourceState {
    pub(super) fn new(fetcher: Fetcher) -> Self {
        Self {
            fetcher,
            track: Mutex::default(),
        }
    }

    /// The track. It is looked for once: a seek must not load the playlists again.
    pub(super) async fn track(&self, context: &mut FetchContext) -> Result<Arc<Track>, HlsError> {
        let known = self.track.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(track) = known {
            return Ok(track);
        }
        let track = Arc::new(load::track(&self.fetcher, context).await?);
        // A poisoned lock holds what it held: each change is one store. Of two streams that both looked the last one's track
        // stays. They were made of the same playlists.
        *self.track.lock().unwrap_or_else(PoisonError::into_inner) = Some(track.clone());
        Ok(track)
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
            .open(&self.fetcher.asset, &media.path)
            .await
            .ok()??;
        let len = match &media.key {
            None => entry.len(),
            Some(reference) => {
                // Offline: to know a length is no reason to fetch a key. Its context has nothing to tell.
                let mut context = FetchContext::new(true);
                let key = self.fetcher.key(&mut context, reference).await.ok()?;
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
