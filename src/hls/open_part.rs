//! The part that plays: from the cache, from a file, or on its way from the server.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Resource,
    fetch::Fetcher,
    fetch_context::FetchContext,
    look_ahead::{Left, TransferReader},
    part_reader::PartReader,
    pending_commits::Bypassed,
    repetition::{Different, Repetition},
    track::MediaResource,
};
use crate::media::Origin;

/// Where the bytes of a part come from.
pub(super) enum Input {
    /// The cache, a file, or a server in the place of an entry that has failed.
    Own {
        reader: Box<PartReader>,
        /// Whether the cache has it because the network gave it for this stream.
        was_fetched: bool,
    },
    /// The look-ahead.
    Shared(TransferReader),
}

/// A part that is being read.
pub(super) struct OpenPart {
    media: Arc<MediaResource>,
    pub(super) input: Input,
    repetition: Repetition,
    /// Bytes of plaintext that the player has taken, given out or not.
    pub(super) plain: u64,
    /// Whether the messages that stand before its first byte have been queued.
    pub(super) is_announced: bool,
}

impl OpenPart {
    pub(super) fn new(media: Arc<MediaResource>, input: Input) -> Self {
        Self {
            media,
            input,
            repetition: Repetition::default(),
            plain: 0,
            is_announced: false,
        }
    }

    /// Goes on with another input, which gives the part from its first byte on. What was taken comes again, is compared, and
    /// left out.
    pub(super) fn go_on(&mut self, media: Arc<MediaResource>, input: Input) {
        (self.media, self.input) = (media, input);
        self.repetition.begin_again();
    }

    pub(super) fn resource(&self) -> Resource {
        self.media.resource()
    }

    /// Whether this is what it reads.
    pub(super) fn is_of(&self, media: &MediaResource) -> bool {
        self.media.is_same(media)
    }

    /// Whether it comes through the look-ahead.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.input, Input::Shared(_))
    }

    pub(super) fn origin(&self) -> Origin {
        match &self.input {
            Input::Shared(_)
            | Input::Own {
                was_fetched: true, ..
            } => Origin::Network,
            Input::Own { reader, .. } => reader.reader.origin(),
        }
    }

    /// What of it is not kept, once.
    pub(super) fn take_bypassed(&mut self) -> Option<Bypassed> {
        match &mut self.input {
            Input::Own { .. } => None,
            Input::Shared(reader) => reader.take_bypassed(),
        }
    }

    /// The next plaintext; `None` at the proven end.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the input is a shared one. Else see [`PartReader::next`].
    pub(super) async fn next(
        &mut self,
        fetcher: &Fetcher,
        context: &mut FetchContext,
    ) -> Result<Option<Bytes>, Left> {
        loop {
            let chunk = match &mut self.input {
                Input::Own { reader, .. } => reader.next(fetcher, context).await.map_err(Left::Failed)?,
                Input::Shared(reader) => reader.next().await?,
            };
            let Some(chunk) = chunk else {
                return match self.repetition.end() {
                    Ok(()) => Ok(None),
                    Err(Different) => Err(Left::Changed),
                };
            };
            let new = self.repetition.leave_out(chunk);
            let new = new.map_err(|Different| Left::Changed)?;
            if !new.is_empty() {
                return Ok(Some(new));
            }
        }
    }
}
