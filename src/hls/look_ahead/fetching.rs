//! One part, from the server to its readers and into the cache.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    super::{
        fetch_context::FetchContext, part_reader::PartReader, pending_commits::PendingCommits,
        source_state::SourceState, track::Track,
    },
    transfer::{Left, Transfer},
};

/// Gives the commits that a transfer has begun to the driver, also if the transfer is given up: what was fetched on the way, a key
/// as a rule, is kept.
pub(super) struct Given {
    pub(super) context: FetchContext,
    pub(super) to: Arc<Mutex<PendingCommits>>,
}

impl Given {
    /// Now, and not at the part's end.
    fn hand_over(&mut self) {
        let commits = std::mem::take(&mut self.context.commits);
        let mut begun = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        begun.append(commits);
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// Fetches a part, gives its plaintext to the transfer's readers, and begins to commit it.
pub(super) async fn fetch(
    state: Arc<SourceState>,
    mut given: Given,
    track: Arc<Track>,
    number: usize,
    transfer: Arc<Transfer>,
) {
    match read(&state, &mut given, &track, number, &transfer).await {
        Err(left) => transfer.end(Err(left)),
        Ok(part) => {
            track.set_part_len(number, transfer.len());
            let context = &mut given.context;
            // Removed meanwhile, an edition's entries must not come back.
            if !matches!(state.newer(&track).await, Ok(None)) {
                transfer.settle(false);
                transfer.end(Ok(()));
                return;
            }
            // Readers see the end now, and the commit when it is over.
            match part.commit(&state.fetcher, context) {
                None => {
                    if let Some(bypassed) = context.commits.take_failed() {
                        transfer.bypass(bypassed);
                    }
                    transfer.settle(false);
                    transfer.end(Ok(()));
                }
                Some(commit) => {
                    transfer.end(Ok(()));
                    context.commits.push(async move {
                        let failed = commit.await;
                        transfer.settle(failed.is_none());
                        failed
                    });
                }
            }
        }
    }
}

async fn read(
    state: &Arc<SourceState>,
    given: &mut Given,
    track: &Arc<Track>,
    number: usize,
    transfer: &Transfer,
) -> Result<PartReader, Left> {
    if state.fetcher.has(transfer.media.path()).await {
        return Err(Left::Cached);
    }
    // Another stream, or another source of the asset, may have found another edition since, and removed what the cache had of
    // this one.
    if state.newer(track).await.map_err(Left::Failed)?.is_some() {
        return Err(Left::NewEdition);
    }
    let mut part = PartReader::open(&state.fetcher, &mut given.context, &transfer.media)
        .await
        .map_err(Left::Failed)?;
    state.learn_first(&mut given.context, track, number).await;
    // What tells editions apart is written before any segment, also before one that ends sooner than this.
    given.hand_over();
    transfer.set_kept(part.reader.is_kept());
    transfer.set_announced(part.reader.announced_len());
    while let Some(plain) = part
        .next(&state.fetcher, &mut given.context)
        .await
        .map_err(Left::Failed)?
    {
        // Known to be media by now: what a login page's server says is not learned.
        if let Some((place, witness)) = part.reader.take_witness() {
            match state.witness(track, place).await {
                None => {
                    state.learn(&mut given.context, track, place, witness);
                    given.hand_over();
                }
                Some(known) if known.contradicts(&witness) && !transfer.is_trusted => {
                    return Err(Left::Contradicted);
                }
                Some(_) => {}
            }
        }
        if !part.reader.is_kept() {
            transfer.set_kept(false);
            if let Some(bypassed) = given.context.commits.take_failed() {
                transfer.bypass(bypassed);
            }
        }
        transfer.push(plain).await;
    }
    Ok(part)
}
