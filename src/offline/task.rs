//! The work on one download, from its pin to its last byte.
//!
//! ```text
//!   pin ─▶ sources ─▶ room? ─▶ fetch ─▶ done
//!              ▲        │ no      │ the network is away: a pause
//!              └────────│─────────┘
//!                       ▼
//!                   StorageFull
//! ```

use std::{sync::Arc, time::Duration};

use futures_lite::StreamExt as _;

#[cfg(feature = "hls")]
use super::sources::{Tracks, union};
use super::{
    Cause, DownloadId, DownloadRequest, Failure, OfflineError, error, inner::Inner, sources::Sources,
};
#[cfg(feature = "hls")]
use crate::hls::OpenMode;
use crate::{
    file::FileSource,
    media::{Progress, Total},
    rt,
};

/// The pauses between tries where the first request already fails.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Fetches a download. It ends when all of it is there, or with a failure that does not pass by itself.
pub(super) async fn fetch(
    inner: Arc<Inner>,
    id: DownloadId,
    request: DownloadRequest,
) -> Result<(), Failure> {
    // From its start: half of a download that is evicted would be fetched again for ever.
    if let Err(error) = inner.cache.pin(&request.asset_id()).await {
        return Err(Failure::from(&error));
    }
    let mut pause = PAUSE;
    loop {
        match Box::pin(once(&inner, &id, &request)).await {
            Err(failure) if failure.cause == Cause::Network => {
                log::info!("{failure}; tried again in {pause:?}");
                inner.note_away(&id);
                rt::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            done => return done,
        }
    }
}

async fn once(inner: &Inner, id: &DownloadId, request: &DownloadRequest) -> Result<(), Failure> {
    // What is played goes first, whatever is fetched for later.
    let access = inner.settings.access_of(request).background(true);
    let sources = inner
        .settings
        .sources(
            request,
            access,
            #[cfg(feature = "hls")]
            OpenMode::Online,
        )
        .await;
    match sources.map_err(|error| of_offline(&error))? {
        Sources::File(source) => file(inner, id, request, &source).await,
        #[cfg(feature = "hls")]
        Sources::Hls(tracks) => hls(inner, id, request, &tracks).await,
    }
}

pub(super) fn of_offline(error: &OfflineError) -> Failure {
    match error {
        OfflineError::Cache { source } => Failure::from(source),
        OfflineError::File { source } => Failure::new(error::of_file(source), source),
        #[cfg(feature = "hls")]
        OfflineError::Hls { source } => Failure::new(error::of_hls(source), source),
        OfflineError::NotBuilt => Failure::new(Cause::Unsupported, error),
        other => Failure::new(Cause::Other, other),
    }
}

async fn file(
    inner: &Inner,
    id: &DownloadId,
    request: &DownloadRequest,
    source: &FileSource,
) -> Result<(), Failure> {
    let mut download = source.download();
    let mut is_room_asked = false;
    while let Some(progress) = download.next().await {
        let progress = progress.map_err(|error| {
            let progress = download.progress();
            let missing = progress.total.bytes().saturating_sub(progress.bytes);
            Failure::of(&error, missing, error::of_file)
        })?;
        check_own_limit(request, &progress)?;
        // As soon as the length is known, which the first answer tells.
        if !is_room_asked && progress.total.is_exact() {
            is_room_asked = true;
            inner.take_room(id, progress).await?;
        } else {
            inner.note_progress(id, progress);
        }
    }
    Ok(())
}

#[cfg(feature = "hls")]
async fn hls(
    inner: &Inner,
    id: &DownloadId,
    request: &DownloadRequest,
    tracks: &Tracks,
) -> Result<(), Failure> {
    let failed = |error: &crate::hls::HlsError| Failure::new(error::of_hls(error), error);
    // The playlists of all of them first: how much it is in all is known then.
    for source in &tracks.all {
        source
            .outline(OpenMode::Online)
            .await
            .map_err(|error| failed(&error))?;
    }
    let mut is_room_asked = false;
    for (number, source) in tracks.all.iter().enumerate() {
        let (mut needs, listing) = tracks.needs().await.map_err(|error| failed(&error))?;
        // What the others have, and what is shared with them, counts once.
        let own = needs.get_mut(number).and_then(Option::take);
        let own = own.map(|own| (own.held_against(&listing), own));
        let (own_stored, own) = own.map_or((None, None), |(stored, own)| (Some(stored), Some(own)));
        if let (Some(slot), Some(own)) = (needs.get_mut(number), own) {
            *slot = Some(own);
        }
        let all = union(needs).map(|needs| needs.held_against(&listing));
        let mut download = source.download_window(tracks.window.clone());
        while let Some(progress) = download.next().await {
            let mut progress = progress.map_err(|error| {
                let progress = download.progress();
                let missing = progress.total.bytes().saturating_sub(progress.bytes);
                Failure::of(&error, missing, error::of_hls)
            })?;
            if let (Some(all), Some(own)) = (&all, &own_stored) {
                let more = all.bytes.saturating_sub(own.bytes);
                progress.bytes = progress.bytes.saturating_add(more);
                progress.total = rest(all.total, own.total).and(progress.total);
                let time = all
                    .time
                    .unwrap_or_default()
                    .saturating_sub(own.time.unwrap_or_default());
                progress.time = progress.time.map(|own| own.saturating_add(time));
                progress.duration = all.duration.or(progress.duration);
            }
            progress.is_complete = false;
            check_own_limit(request, &progress)?;
            if !is_room_asked && progress.total.is_exact() {
                is_room_asked = true;
                inner.take_room(id, progress).await?;
            } else {
                inner.note_progress(id, progress);
            }
        }
    }
    Ok(())
}

/// What is left of a sum without one of its parts.
#[cfg(feature = "hls")]
fn rest(all: Total, own: Total) -> Total {
    let bytes = all.bytes().saturating_sub(own.bytes());
    match all {
        Total::Exact(_) => Total::Exact(bytes),
        Total::Estimated(_) => Total::Estimated(bytes),
        Total::AtLeast(_) => Total::AtLeast(bytes),
    }
}

/// Against the most bytes that this download may take. An estimate is not held against it: what has come is.
fn check_own_limit(request: &DownloadRequest, progress: &Progress) -> Result<(), Failure> {
    let need = match progress.total {
        Total::Exact(all) => all,
        _ => progress.bytes,
    };
    match request.max_bytes {
        Some(have) if need > have => Err(Failure::full(need, have, "the download's own limit")),
        _ => Ok(()),
    }
}
