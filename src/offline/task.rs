//! The work on one download, from its pin to its last byte.
//!
//! ```text
//!   pin ───────────────────────▶ done
//!   sources ─▶ room? ─▶ fetch ─▶ done
//!      ▲        │ no      │ the network is away: a pause
//!      └────────│─────────┘
//!               ▼
//!           StorageFull
//! ```

use std::{sync::Arc, time::Duration};

use futures_lite::future;

#[cfg(feature = "hls")]
use super::sources::{Tracks, union};
use super::{Cause, DownloadId, DownloadRequest, Failure, error, inner::Inner, room::Room, sources::Sources};
use crate::rt;
#[cfg(feature = "hls")]
use crate::{
    hls::{Needs, OpenMode},
    media::{Progress, Stored, Total},
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
    // From its start: half of a download that is evicted would be fetched again for ever. Beside the fetching: a pin is
    // synced, and a disk that writes the downloads before this one takes long for that. What is being written is not evicted.
    let asset = request.asset_id();
    let pin = async {
        match inner.cache.pin(&asset).await {
            Ok(()) => Ok(()),
            Err(error) => Err(inner.failure(&error.into()).await),
        }
    };
    let fetched = fetch_pinned(&inner, &id, &request);
    future::try_zip(pin, fetched).await.map(drop)
}

async fn fetch_pinned(inner: &Inner, id: &DownloadId, request: &DownloadRequest) -> Result<(), Failure> {
    let mut pause = PAUSE;
    loop {
        match Box::pin(once(inner, id, request)).await {
            Err(failure) if failure.cause == Cause::Network => {
                log::info!("{failure}; tried again in {pause:?}");
                inner.note_away(id);
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
    let mut room = Room::new(inner, id, request);
    match sources {
        Ok(Sources::File(source)) => {
            let download = source.download();
            room.follow(download, error::of_file, |progress| progress).await
        }
        #[cfg(feature = "hls")]
        Ok(Sources::Hls(tracks)) => hls(inner, &mut room, &tracks).await,
        Err(error) => Err(inner.failure(&error).await),
    }
}

#[cfg(feature = "hls")]
async fn hls(inner: &Inner, room: &mut Room<'_>, tracks: &Tracks) -> Result<(), Failure> {
    // The playlists of all of them first: how much it is in all is known then.
    for source in &tracks.all {
        if let Err(error) = source.outline(OpenMode::Online).await {
            return Err(inner.failure(&error.into()).await);
        }
    }
    for (number, source) in tracks.all.iter().enumerate() {
        let (needs, listing) = match tracks.needs().await {
            Ok(found) => found,
            Err(error) => return Err(inner.failure(&error.into()).await),
        };
        // What the others have, and what is shared with them, counts once.
        let own = needs.get(number).and_then(Option::as_ref);
        let own = own.map(|own| own.held_against(&listing));
        let all = union(needs);
        room.has_parts(all.as_ref().map_or(0, Needs::len));
        let all = all.map(|needs| needs.held_against(&listing));
        let beside = all.zip(own);
        let whole = |progress| match &beside {
            Some((all, own)) => of_all(progress, all, own),
            None => progress,
        };
        let download = source.download_window(tracks.window.clone());
        room.follow(download, error::of_hls, whole).await?;
    }
    Ok(())
}

/// The progress of all that is downloaded, from that of one source: `own` is what there was of it, and `all` of all.
#[cfg(feature = "hls")]
fn of_all(progress: Progress, all: &Stored, own: &Stored) -> Progress {
    let bytes = all.total.bytes().saturating_sub(own.total.bytes());
    let others = match all.total {
        Total::Exact(_) => Total::Exact(bytes),
        Total::Estimated(_) => Total::Estimated(bytes),
        Total::AtLeast(_) => Total::AtLeast(bytes),
    };
    let (all_time, own_time) = (all.time.unwrap_or_default(), own.time.unwrap_or_default());
    let time = all_time.saturating_sub(own_time);
    Progress {
        bytes: progress.bytes.saturating_add(all.bytes.saturating_sub(own.bytes)),
        total: others.and(progress.total),
        time: progress.time.map(|own| own.saturating_add(time)),
        duration: all.duration.or(progress.duration),
        // That of one source is no end.
        is_complete: false,
        ..progress
    }
}
