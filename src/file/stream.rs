//! The file as the items of a [`SourceStream`].

use std::sync::Arc;

use async_channel::Receiver;
use async_lock::Mutex;
use bytes::{Bytes, BytesMut};
use futures_lite::stream;
use snafu::ResultExt as _;

use super::error::{ChangedSnafu, StoredSnafu};
use super::open::{FileContext, StartedFile};
use super::{FileControl, FileError};
use crate::rt;
use crate::storage::{Found, StreamingError, StreamingResource, WaitError, Waiter};
use crate::stream::{Message, SourceStream, StreamError};

/// The most bytes of an item.
const CHUNK: usize = 128 * 1024;

/// What a source keeps from one opened stream to the next. The lock is held while an item is looked for, also by the
/// thread that reads for a stream that was dropped meanwhile.
pub(super) type SharedReadState = Arc<Mutex<ReadState>>;

#[derive(Default)]
pub(super) struct ReadState {
    /// `None` before the first item and after an error.
    session: Option<ReadSession>,
    /// Of which file bytes were given out.
    version: Option<FileVersion>,
}

/// A file being read. Its fetcher runs as long as it lives.
struct ReadSession {
    waiter: Waiter<FileError>,
    control: Receiver<FileControl>,
    /// Whether bytes were read from it.
    was_read: bool,
}

impl ReadState {
    fn control(&self) -> Option<FileControl> {
        self.session.as_ref()?.control.try_recv().ok()
    }

    /// What is there at `position`: nothing yet (`None`), or bytes; none of them at the end.
    fn read(&mut self, position: u64) -> Result<Option<Bytes>, FileError> {
        let Some(session) = &mut self.session else {
            return Ok(None);
        };
        let found = read(&mut session.waiter, position).context(StoredSnafu)?;
        session.was_read |= found.is_some();
        Ok(found)
    }

    async fn wait(&mut self, position: u64) -> Result<(), FileError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        match session.waiter.wait_first(position, CHUNK as u64).await {
            Ok(_) => Ok(()),
            Err(WaitError::Failed { source }) => Err(FileError::clone(&source)),
            Err(WaitError::Interrupted) => Err(FileError::Stopped),
        }
    }

    /// After an error that a seek has made void, the next session has to be of the same file.
    fn end(&mut self) {
        if let Some(session) = self.session.take().filter(|session| session.was_read) {
            self.version = Some(FileVersion::of(session.waiter.resource()));
        }
    }
}

/// What tells one version of a file from another, as far as it is known.
struct FileVersion {
    tag: Vec<u8>,
    len: Option<u64>,
}

impl FileVersion {
    fn of(resource: &StreamingResource<FileError>) -> Self {
        Self {
            tag: resource.tag(),
            len: resource.len(),
        }
    }

    fn contradicts(&self, other: &Self) -> bool {
        let other_tag = !self.tag.is_empty() && !other.tag.is_empty() && self.tag != other.tag;
        other_tag || matches!((self.len, other.len), (Some(a), Some(b)) if a != b)
    }
}

struct FileItems {
    context: Arc<FileContext>,
    shared: SharedReadState,
    position: u64,
    offline: bool,
    ended: bool,
}

/// A stream from `position` on, which goes on with the session of the one before if there is one. Until it is polled
/// nothing happens.
pub(super) fn file_items(
    context: Arc<FileContext>,
    shared: SharedReadState,
    position: u64,
    offline: bool,
) -> SourceStream<FileControl, FileError> {
    let file_items = FileItems {
        context,
        shared,
        position,
        offline,
        ended: false,
    };
    Box::pin(stream::unfold(file_items, |mut file_items| async move {
        let item = file_items.next().await.transpose()?;
        Some((item, file_items))
    }))
}

impl FileItems {
    async fn next(&mut self) -> Result<Option<Message<FileControl>>, StreamError<FileError>> {
        if self.ended {
            return Ok(None);
        }
        let mut ongoing = self.shared.lock_arc().await;
        loop {
            self.open(&mut ongoing).await.map_err(StreamError::source)?;
            if let Some(control) = ongoing.control() {
                return Ok(Some(Message::Control(control)));
            }
            let position = self.position;
            let (found, back) = rt::unblock(move || (ongoing.read(position), ongoing)).await;
            ongoing = back;
            let failed = match found {
                Ok(Some(bytes)) if bytes.is_empty() => {
                    self.ended = true;
                    return Ok(None);
                }
                Ok(Some(bytes)) => {
                    self.position += bytes.len() as u64;
                    return Ok(Some(Message::Data(bytes)));
                }
                Ok(None) => match ongoing.wait(position).await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            ongoing.end();
            return Err(StreamError::source(failed));
        }
    }

    /// Goes on with the session there is, or begins one.
    async fn open(&self, ongoing: &mut ReadState) -> Result<(), FileError> {
        if ongoing.session.is_some() {
            return Ok(());
        }
        let StartedFile { resource, control } = self.context.start(self.position, self.offline).await?;
        let version = FileVersion::of(&resource);
        if ongoing
            .version
            .as_ref()
            .is_some_and(|known| known.contradicts(&version))
        {
            let url = self.context.location.to_string();
            return ChangedSnafu { url }.fail();
        }
        ongoing.session = Some(ReadSession {
            waiter: resource.reading(self.position),
            control,
            was_read: false,
        });
        Ok(())
    }
}

/// What is there at `position`: nothing yet (`None`), or bytes; none of them at the end.
fn read(waiter: &mut Waiter<FileError>, position: u64) -> Result<Option<Bytes>, StreamingError> {
    let mut chunk = BytesMut::zeroed(CHUNK);
    Ok(match waiter.read(position, &mut chunk)? {
        Found::Missing => None,
        Found::End => Some(Bytes::new()),
        // A short chunk must not keep a long buffer.
        Found::Bytes(count) if count < CHUNK / 2 => {
            Some(Bytes::copy_from_slice(chunk.get(..count).unwrap_or_default()))
        }
        Found::Bytes(count) => {
            chunk.truncate(count);
            Some(chunk.freeze())
        }
    })
}
