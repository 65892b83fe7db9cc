//! Asking the server whether the playlists in the cache are current, and what follows if they are not.
//!
//! ```text
//!   playlists, asked for again ─▶ the same list?
//!      │ yes                        │ no
//!      ▼                            ▼
//!   section and first segment    something of the old one kept?
//!   the same files?                 │ no: the new one takes its place
//!      │ yes: go on, under          │ yes: the new one is kept under names of its own,
//!      ▼      the new URLs          ▼      and plays from the first byte that the old one lacks
//! ```

use std::{collections::HashSet, pin::Pin, sync::Arc, time::SystemTime};

use futures_lite::StreamExt;

use super::{
    HlsError, Resource, ResourceKind,
    edition::{EditionId, Editions, Witness, WitnessPlace},
    fetch::{Ask, Fetcher},
    fetch_context::FetchContext,
    load::{self, Load, Loaded},
    pending_commits::{Bypassed, PendingCommits},
    source_state::SourceState,
    track::{MediaResource, Track},
    whole,
};
use crate::{
    cache::CachePath,
    media::{Bypass, Judge},
    net::{ByteRange, NetError, redacted},
};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether the playlists are current, and the files that they name.
    Playlists,
    /// The playlists, whatever the copies are: something that they name was refused.
    Refused,
    /// Whether the files are those that were fetched earlier. The playlists have just been fetched.
    Files,
}

/// What the server has in place of a track.
pub(super) enum Renewed {
    /// The same list, its URLs as they are today.
    Same(Arc<Track>),
    /// Another edition.
    Other {
        track: Arc<Track>,
        /// Whether the cache has something of the old one.
        is_old_kept: bool,
    },
}

/// What the server has, or why that is not known; and the commits begun on the way.
pub(super) type Renewal = (Result<Renewed, HlsError>, PendingCommits);

/// A question under way.
pub(super) type Asking = Pin<Box<dyn Future<Output = Renewal> + Send>>;

/// Asks the server what it has in place of `track`.
pub(super) async fn renew(state: Arc<SourceState>, track: Arc<Track>, question: Question) -> Renewal {
    let mut context = FetchContext::new(false);
    let renewed = renewed(&state, &mut context, &track, question).await;
    (renewed, context.commits)
}

async fn renewed(
    state: &Arc<SourceState>,
    context: &mut FetchContext,
    track: &Arc<Track>,
    question: Question,
) -> Result<Renewed, HlsError> {
    let fetcher = &state.fetcher;
    let (now, entries) = match question {
        Question::Files => (track.clone(), Vec::new()),
        Question::Playlists | Question::Refused => {
            let ask = if question == Question::Refused {
                Ask::Anew
            } else {
                Ask::Server
            };
            let load = Load {
                ask,
                edition: track.edition(),
                variant: Some(track.facts()),
            };
            let loaded = load::track(fetcher, context, load).await?;
            (Arc::new(loaded.track.renewing(track)), loaded.entries)
        }
    };
    if now.is_same_list(track) && !is_contradicted(state, context, track, &now).await? {
        for entry in entries {
            fetcher.keep(context, entry);
        }
        state.replace(track, &now);
        return Ok(Renewed::Same(now));
    }
    log::info!("{}: another edition of the track", redacted(&fetcher.url));
    // Under names of its own, also where nothing of the old one is there: a commit that a dropped stream began may be on its
    // way to the disk still. Loaded once more, because these names go into the layout.
    let id = EditionId::of(now.identity().chain(files(fetcher, context, &now).await?));
    let load = Load {
        ask: Ask::Cache,
        edition: Some(&id),
        variant: Some(track.facts()),
    };
    let now = Arc::new(load::track(fetcher, context, load).await?.track);
    let is_old_kept = is_something_kept(fetcher, track).await;
    note_next(fetcher, context, &id).await;
    state.set_next(now.clone());
    Ok(Renewed::Other {
        track: now,
        is_old_kept,
    })
}

/// The editions that the cache has.
pub(super) async fn editions(fetcher: &Fetcher) -> Editions {
    let entry = fetcher.own_entry(&editions_path(fetcher)).await;
    entry.and_then(|entry| Editions::read(&entry)).unwrap_or_default()
}

fn editions_path(fetcher: &Fetcher) -> CachePath {
    let source = fetcher.params.access.names.entry(&fetcher.url, None);
    CachePath::from_key(&format!("editions?{}", source.as_str()), None)
}

/// Notes that the server has this edition now. The entries of a next one that never became whole are removed: nothing leads
/// to them any more.
async fn note_next(fetcher: &Fetcher, context: &mut FetchContext, id: &EditionId) {
    let editions = editions(fetcher).await;
    let passed = editions.next.clone().filter(|next| next != id);
    let next = Some(id.clone());
    if editions.next != next && write(fetcher, context, &Editions { next, ..editions }).await {
        // Only now: while the record leads to a place, what it holds is one edition's.
        if let Some(passed) = passed {
            remove(fetcher, Some(&passed)).await;
        }
    }
}

/// Makes the next edition the current one, and removes the entries of the old one. Not while it is not whole, nor while the
/// app keeps the asset pinned, unless the app says so. What is whole is noted.
pub(super) async fn settle(state: &SourceState, context: &mut FetchContext, track: &Track, is_forced: bool) {
    let fetcher = &state.fetcher;
    let Editions { current: old, next } = editions(fetcher).await;
    let is_next = next.is_some() && next.as_ref() == track.edition();
    let needs_note = track.has_alternatives() && !whole::is_noted(fetcher, track).await;
    let is_whole = (is_next || needs_note) && load::is_whole(fetcher, track).await;
    let may_replace = is_whole && !is_pinned(fetcher).await;
    if is_next && (is_forced || may_replace) {
        let settled = Editions {
            current: next,
            next: None,
        };
        if write(fetcher, context, &settled).await {
            remove(fetcher, old.as_ref()).await;
        }
    }
    // Last: the note counts entries.
    if is_whole
        && needs_note
        && let Err(error) = whole::note(fetcher, track).await
    {
        let resource = Resource::new(ResourceKind::Playlist, &fetcher.url);
        context.bypass(&resource, Bypass::Refused(error));
    }
}

/// Writes the record, and waits for it. `false` if it is not written.
async fn write(fetcher: &Fetcher, context: &mut FetchContext, editions: &Editions) -> bool {
    let Some(cache) = fetcher.cache() else {
        return false;
    };
    let path = editions_path(fetcher);
    let written = cache.put_atomic(&fetcher.asset, &path, editions.write()).await;
    if let Err(error) = written {
        let resource = Resource::new(ResourceKind::Playlist, &fetcher.url);
        context.bypass(&resource, Bypass::Refused(error));
        return false;
    }
    true
}

async fn is_pinned(fetcher: &Fetcher) -> bool {
    let Some(cache) = fetcher.cache() else {
        return false;
    };
    // Unknown is pinned: what is kept then can be removed later, and not the other way round.
    let info = cache.asset(&fetcher.asset).await;
    info.map_or(true, |info| info.is_some_and(|info| info.pinned))
}

/// Removes the entries of an edition, of all its Variant Streams, as far as its playlists in the cache lead to them.
async fn remove(fetcher: &Fetcher, edition: Option<&EditionId>) {
    let old = load::cached_tracks(fetcher, edition).await;
    // Segments first, then what leads to them, then what tells that they are old: cut off anywhere, by a crash as well, no
    // segment is left that another edition's playlist could take for its own.
    for path in old.iter().flat_map(Track::media_entries) {
        fetcher.remove_entry(path).await;
    }
    // From the last on: a Media Playlist goes before the Multivariant Playlist that leads to it.
    for path in old.iter().flat_map(|track| track.playlists().iter().rev()) {
        fetcher.remove_entry(path).await;
    }
    for playlist in old.iter().filter_map(Track::playlist) {
        for place in WitnessPlace::ALL {
            fetcher.remove_entry(&place.path(playlist)).await;
        }
    }
}

/// The first resource of a track that the cache has, among those that `is_wanted` names.
async fn first_kept<'t>(
    fetcher: &Fetcher,
    track: &'t Track,
    is_wanted: impl Fn(&MediaResource) -> bool,
) -> Option<&'t Arc<MediaResource>> {
    let mut media = track.media().filter(|media| is_wanted(media));
    // One listing: the question for each segment would take a second for a day of them.
    match fetcher.cache()?.entries(&fetcher.asset).await {
        Ok(entries) => {
            let kept: HashSet<_> = entries.into_iter().map(|entry| entry.path).collect();
            media.find(|media| kept.contains(media.path()))
        }
        // What cannot be listed may be there.
        Err(error) => {
            log::debug!("what is kept of the track is not known: {error}");
            media.next()
        }
    }
}

/// What the server is to be asked of a track that was loaded.
pub(super) async fn question(fetcher: &Fetcher, loaded: &Loaded) -> Option<Question> {
    if loaded.needs_check {
        return Some(Question::Playlists);
    }
    // The list is new, and there may be segments of an older one: its copy may have been damaged.
    let is_asked = loaded.is_new && is_something_kept(fetcher, &loaded.track).await;
    is_asked.then_some(Question::Files)
}

/// Whether the cache has any segment or section of a track.
async fn is_something_kept(fetcher: &Fetcher, track: &Track) -> bool {
    first_kept(fetcher, track, |_| true).await.is_some()
}

/// Whether what the server says of the first section or segment contradicts what it said when it was fetched.
async fn is_contradicted(
    state: &Arc<SourceState>,
    context: &mut FetchContext,
    track: &Track,
    now: &Track,
) -> Result<bool, HlsError> {
    let fetcher = &state.fetcher;
    for (media, place) in now.witnesses() {
        let Some(known) = state.witness(track, place).await else {
            // It was not learned, or is lost. What is kept tells as much, if it is compared.
            let is_section = |media: &MediaResource| media.kind == ResourceKind::InitializationSection;
            let is_like = |other: &MediaResource| is_section(other) == is_section(media);
            if let Some(kept) = first_kept(fetcher, now, is_like).await {
                ask_witness(fetcher, context, kept).await?;
                if !is_same_file(fetcher, context, kept).await? {
                    return Ok(true);
                }
            }
            continue;
        };
        // An answer that does not come contradicts nothing. What is wrong with the file shows when it is needed.
        let Ok(answer) = ask_witness(fetcher, context, media).await else {
            continue;
        };
        if !known.contradicts(&answer) {
            continue;
        }
        // Nodes of one host may tag and date a file each in their own way. Where only that differs the bytes decide.
        if !known.is_as_long_as(&answer) || !is_same_file(fetcher, context, media).await? {
            return Ok(true);
        }
        state.learn(context, track, place, answer);
    }
    Ok(false)
}

/// What the server says of the files by which an edition is told: part of its name. An edition that has the list of an earlier
/// one must not find what that one left behind.
async fn files(
    fetcher: &Fetcher,
    context: &mut FetchContext,
    track: &Track,
) -> Result<Vec<Vec<u8>>, HlsError> {
    let mut files = Vec::new();
    for (media, _) in track.witnesses() {
        match ask_witness(fetcher, context, media).await {
            Ok(witness) => files.push(witness.write().to_vec()),
            // It is not to be had, and the rest may be. Nothing else has this name.
            Err(error) if error.is_refused() || matches!(error, HlsError::NotMedia { .. }) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                files.push(now.unwrap_or_default().as_nanos().to_le_bytes().to_vec());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// Whether the server has the bytes that the cache has.
async fn is_same_file(
    fetcher: &Fetcher,
    context: &mut FetchContext,
    media: &MediaResource,
) -> Result<bool, HlsError> {
    let Some(kept) = fetcher.own_entry(media.path()).await else {
        return Ok(false);
    };
    let mut request = fetcher.request(media.locator.url.clone());
    if let Some(range) = &media.locator.range {
        request = request.range(ByteRange::new(range.start, range.end));
    }
    let resource = media.resource();
    let response = fetcher.send(context, &resource, request).await?;
    let bytes = response.bytes(kept.len()).await;
    match bytes {
        Err(NetError::TooLarge { .. }) => Ok(false),
        bytes => Ok(bytes.map_err(HlsError::network(&resource))? == kept),
    }
}

/// What the server says of a file, to be kept before any segment is.
pub(super) async fn learn(
    state: Arc<SourceState>,
    media: Arc<MediaResource>,
    path: CachePath,
) -> Option<Bypassed> {
    let mut context = FetchContext::new(false);
    let fetcher = &state.fetcher;
    let cache = fetcher.cache()?;
    // Nothing is told where the server does not answer: what it sends of this file later is learned then.
    let witness = ask_witness(fetcher, &mut context, &media).await.ok()?;
    let error = cache
        .put_atomic(&fetcher.asset, &path, witness.write())
        .await
        .err()?;
    Some((media.resource(), Bypass::Refused(error)))
}

/// How many bytes are asked for: as many as the judge looks at. An address that is signed for GET may refuse HEAD, and with
/// few bytes the connection can be used again.
const WITNESS_BYTES: u64 = 512;

async fn ask_witness(
    fetcher: &Fetcher,
    context: &mut FetchContext,
    media: &MediaResource,
) -> Result<Witness, HlsError> {
    let resource = media.resource();
    let range = media.locator.range.as_ref();
    let start = range.map_or(0, |range| range.start);
    let end = start.saturating_add(WITNESS_BYTES);
    let end = range.map_or(end, |range| end.min(range.end));
    let request = fetcher.request(media.locator.url.clone());
    let request = request.range(ByteRange::new(start, end));
    let response = fetcher.send(context, &resource, request).await?;
    let witness = Witness::of(response.headers(), response.total_length());
    // A login page is no other file. Taken for one it would end the edition that the cache has, and stand in its place
    // (faults W1, W5).
    let not_media = |source| HlsError::NotMedia {
        resource: resource.clone(),
        source: Box::new(source),
    };
    // Ciphertext is nothing that an app can judge; the crate sees whether it is a page.
    let judge = match media.key {
        Some(_) => Judge::default(),
        None => fetcher.params.access.judge.clone(),
    };
    let mut candidate = judge.head(&response, start).map_err(not_media)?;
    let mut body = response.into_body();
    let mut is_media = false;
    // To its end, so that the connection can be used again.
    while let Some(chunk) = body.try_next().await.map_err(HlsError::network(&resource))? {
        is_media = is_media || candidate.push(&chunk).map_err(not_media)?;
    }
    if !is_media {
        candidate.finish().map_err(not_media)?;
    }
    Ok(witness)
}
