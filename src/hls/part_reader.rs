//! A part being read: its bytes as they were fetched, their decryption, and the judgement whether they are media.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    HlsError,
    crypt::{CryptError, Decryptor},
    fetch::Fetcher,
    fetch_context::FetchContext,
    first_bytes::FirstBytes,
    pending_commits::PendingCommits,
    resource_reader::ResourceReader,
    source_state::SourceState,
    track::MediaResource,
};
use crate::media::{Judge, NotMedia};

/// A part that is being read.
pub(super) struct PartReader {
    pub(super) reader: ResourceReader,
    /// `None` for plain text, and behind the last block.
    decryptor: Option<Decryptor>,
    /// `None` once the part is known to be media.
    first: Option<FirstBytes>,
    /// Plaintext that may be given out.
    ready: VecDeque<Bytes>,
    is_at_end: bool,
    /// Bytes of plaintext that the player has taken, given out or not.
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
        let mut reader = ResourceReader::open(fetcher, context, media, is_right_len).await?;
        // The server's length as well: what it sends is not what the playlist says (fault W70).
        if let Some(length) = reader.announced_len().filter(|len| !is_right_len(*len)) {
            let resource = reader.resource;
            let source = CryptError::Length { length };
            return Err(HlsError::Decrypt { resource, source });
        }
        let is_encrypted = decryptor.is_some();
        let first = match reader.candidate.take() {
            None if !is_encrypted => None,
            // An entry was judged before it was kept. The key that it is decrypted with may be another one since.
            candidate => {
                let candidate = candidate.unwrap_or_else(|| Judge::kept(&media.locator.url));
                Some(FirstBytes::new(candidate, is_encrypted))
            }
        };
        Ok(Self {
            reader,
            decryptor,
            first,
            ready: VecDeque::new(),
            is_at_end: false,
            plain: 0,
            is_announced: false,
        })
    }

    /// The next plaintext; `None` at the proven end, behind the padding.
    ///
    /// # Errors
    ///
    /// Those of [`ResourceReader::next`], `Decrypt` and `NotMedia`.
    ///
    /// # Cancel safety
    ///
    /// None: see [`ResourceReader::next`].
    pub(super) async fn next(
        &mut self,
        fetcher: &Fetcher,
        context: &mut FetchContext,
    ) -> Result<Option<Bytes>, HlsError> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some(chunk));
            }
            if self.is_at_end {
                return Ok(None);
            }
            let chunk = self.reader.next(fetcher, context).await?;
            if let Some(candidate) = self.reader.candidate.take() {
                // The entry failed before its first byte, and a server answers in its place: it may be a portal.
                self.first = Some(FirstBytes::new(candidate, self.decryptor.is_some()));
            }
            let plain = if let Some(chunk) = chunk {
                match &mut self.decryptor {
                    Some(decryptor) => decryptor.update(chunk),
                    None => chunk,
                }
            } else {
                self.is_at_end = true;
                self.last_block()?
            };
            if let Err(source) = self.judge(plain) {
                return Err(HlsError::NotMedia {
                    resource: self.reader.resource.clone(),
                    source: Box::new(source),
                });
            }
        }
    }

    /// Goes on under the URL that the playlist has for the part by now, after [`next`](Self::next) has failed. What was given
    /// out comes again, is compared, and left out.
    pub(super) async fn renew(
        &mut self,
        fetcher: &Fetcher,
        context: &mut FetchContext,
        media: &Arc<MediaResource>,
    ) -> Result<(), HlsError> {
        self.reader.renew(fetcher, context, media).await
    }

    fn last_block(&mut self) -> Result<Bytes, HlsError> {
        let Some(decryptor) = self.decryptor.take() else {
            return Ok(Bytes::new());
        };
        decryptor.finish().map_err(|source| HlsError::Decrypt {
            resource: self.reader.resource.clone(),
            source,
        })
    }

    /// Takes plaintext in, and lets it out once the part is known to be media.
    fn judge(&mut self, plain: Bytes) -> Result<(), NotMedia> {
        let Some(first) = &mut self.first else {
            if !plain.is_empty() {
                self.ready.push_back(plain);
            }
            return Ok(());
        };
        let may_go = first.push(plain)?;
        if self.is_at_end {
            first.finish()?;
        }
        if may_go || self.is_at_end {
            self.ready = self.first.take().map(FirstBytes::into_held).unwrap_or_default();
        }
        Ok(())
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

/// The part after the one being read, on its way. Its key and its response's head come while that part plays, so that
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
