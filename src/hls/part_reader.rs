//! A part being read: its bytes as they were fetched, and their decryption.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    HlsError, crypt::Decryptor, fetch::Fetcher, fetch_context::FetchContext, pending_commits::PendingCommits,
    resource_reader::ResourceReader, source_state::SourceState, track::MediaResource,
};

/// A part that is being read.
pub(super) struct PartReader {
    pub(super) reader: ResourceReader,
    pub(super) decryptor: Option<Decryptor>,
    /// Bytes of plaintext so far, given out or not.
    pub(super) plain: u64,
    /// Whether the messages that stand before its first byte have been queued.
    pub(super) is_announced: bool,
}

impl PartReader {
    async fn open(
        fetcher: &Fetcher,
        context: &mut FetchContext,
        media: &Arc<MediaResource>,
    ) -> Result<Self, HlsError> {
        // The key first: without it no byte of the part is of use.
        let decryptor = match &media.key {
            Some(reference) => {
                let key = fetcher.key(context, reference).await?;
                Some(Decryptor::new(&key, &reference.iv))
            }
            None => None,
        };
        // Padded ciphertext is a positive number of whole blocks. An entry of another length is foreign or cut, and is fetched
        // again before a byte of it is decrypted.
        let is_right_len = |len: u64| decryptor.is_none() || (len > 0 && len.is_multiple_of(16));
        let reader = ResourceReader::open(fetcher, context, media, is_right_len).await?;
        Ok(Self {
            reader,
            decryptor,
            plain: 0,
            is_announced: false,
        })
    }
}

/// A part opened, or why not; and the commits begun on the way.
pub(super) type Opened = (Result<PartReader, HlsError>, PendingCommits);

/// Opens a part that has bytes. It has a fetch context of its own, because it may run while the part before it is read.
pub(super) async fn open(state: Arc<SourceState>, media: Arc<MediaResource>, is_offline: bool) -> Opened {
    let mut context = FetchContext::new(is_offline);
    let opened = PartReader::open(&state.fetcher, &mut context, &media).await;
    (opened, context.commits)
}

/// The part after the one being read, on its way (H11). Its key and its response's head come while that part plays, so that
/// the way to the server and back costs no silence between two segments. Before its turn nothing is read of its body but the
/// first bytes.
pub(super) struct PartAhead {
    index: usize,
    opening: Pin<Box<dyn Future<Output = Opened> + Send>>,
    opened: Option<Opened>,
}

impl PartAhead {
    pub(super) fn new(
        index: usize,
        state: Arc<SourceState>,
        media: Arc<MediaResource>,
        is_offline: bool,
    ) -> Self {
        Self {
            index,
            opening: Box::pin(open(state, media, is_offline)),
            opened: None,
        }
    }

    /// The number of the part.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Polls it once. A future that is ready is never polled again.
    pub(super) fn poll_open(&mut self, task: &mut Context<'_>) {
        if self.opened.is_none()
            && let Poll::Ready(opened) = self.opening.as_mut().poll(task)
        {
            self.opened = Some(opened);
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.opened, Some((Err(_), _)))
    }

    /// Gives the part up. The commits that it has begun go on: what was fetched, a key as a rule, is kept.
    pub(super) fn give_up(self) -> PendingCommits {
        self.opened.map(|(_, commits)| commits).unwrap_or_default()
    }

    /// Waits until the part is open: its turn has come.
    pub(super) async fn finish(self) -> Opened {
        match self.opened {
            Some(opened) => opened,
            None => self.opening.await,
        }
    }
}
