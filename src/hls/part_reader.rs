//! A part being read: its bytes as they were fetched, their decryption, and the judgement whether they are media.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_lite::future;

use super::{
    HlsError,
    crypt::{CryptError, Decryptor},
    fetch::{Fetcher, KnownKey},
    fetch_context::FetchContext,
    first_bytes::FirstBytes,
    pending_commits::Bypassed,
    resource_reader::ResourceReader,
    track::MediaResource,
};
use crate::media::{Judge, NotMedia};

/// A part that is being read.
pub(super) struct PartReader {
    pub(super) reader: ResourceReader,
    /// `None` for plain text, and behind the last block.
    decryptor: Option<Decryptor>,
    key: Option<Arc<KnownKey>>,
    /// `None` once the part is known to be media.
    first: Option<FirstBytes>,
    /// Plaintext that may be given out.
    ready: VecDeque<Bytes>,
    is_at_end: bool,
}

impl PartReader {
    /// Opens a part that has bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Fetcher::key`] and [`ResourceReader::open`], and `Decrypt`.
    pub(super) async fn open(
        fetcher: &Fetcher,
        context: &mut FetchContext,
        media: &Arc<MediaResource>,
    ) -> Result<Self, HlsError> {
        // Padded ciphertext is a positive number of whole blocks. An entry of another length is foreign or cut, and is fetched
        // again before a byte of it is decrypted.
        let is_encrypted = media.key.is_some();
        let is_right_len = |len: u64| !is_encrypted || (len > 0 && len.is_multiple_of(16));
        // Side by side: without the key no byte of the part is of use, but both take the way to the server and back.
        let mut own_context = FetchContext::new(context.is_offline);
        let key = async {
            match &media.key {
                Some(reference) => {
                    let (key, known) = fetcher.key(context, reference).await?;
                    Ok(Some((Decryptor::new(&key, &reference.iv), known)))
                }
                None => Ok(None),
            }
        };
        let reader = ResourceReader::open(fetcher, &mut own_context, media, is_right_len);
        // Both to their end, so that a key that is on its way is fetched once.
        let (decryptor, reader): (Result<_, HlsError>, _) = future::zip(key, reader).await;
        context.commits.append(own_context.commits);
        let (decryptor, key) = decryptor?.unzip();
        let mut reader = reader?;
        // The server's length as well: what it sends is not what the playlist says (fault W70).
        if let Some(length) = reader.announced_len().filter(|len| !is_right_len(*len)) {
            let resource = reader.resource;
            let source = CryptError::Length { length };
            return Err(HlsError::Decrypt { resource, source });
        }
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
            key,
            first,
            ready: VecDeque::new(),
            is_at_end: false,
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

    /// Keeps what was read to its end and found good, and with it the key: padding that is right has proven it. See
    /// [`ResourceReader::commit`].
    pub(super) fn commit(
        self,
        fetcher: &Fetcher,
        context: &mut FetchContext,
    ) -> Option<impl Future<Output = Option<Bypassed>> + Send + 'static> {
        if let Some(key) = &self.key {
            fetcher.keep_key(context, key);
        }
        self.reader.commit(context)
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
