//! The file as the items of a [`SourceStream`].

use std::ops::Range;
use std::sync::Arc;

use async_lock::Mutex;
use bytes::{Bytes, BytesMut};
use futures_lite::{StreamExt as _, future, stream};

use super::error::ChangedSnafu;
use super::open::{FileContext, StartedFile};
use super::{FileControl, FileError, FileEvents, OpenMode, Origin};
use crate::net::Change;
use crate::rt;
use crate::storage::{Found, StreamingError, StreamingResource, WaitError, Waiter};
use crate::stream::{Message, SourceStream, StreamError};

/// The most bytes of an item.
const CHUNK: usize = 128 * 1024;

/// What one opened stream of a source hands to the next.
///
/// The lock is held while an item is made, by the thread that reads for a stream even if that stream was dropped meanwhile.
/// So the next stream cannot read at another position with the same waiter before that thread is done.
pub(super) type SharedReadState = Arc<Mutex<ReadState>>;

#[derive(Default)]
pub(super) struct ReadState {
    /// `None` before the first item and after an error.
    session: Option<ReadSession>,
    /// The version of the file of which bytes were given out before the error.
    version: Option<FileVersion>,
}

/// One open file. It is a reader: its driver runs as long as this lives.
struct ReadSession {
    waiter: Waiter<FileError>,
    events: FileEvents,
    /// Whether bytes were read.
    was_read: bool,
    /// Whether it is still to be said if the file is kept.
    awaits_word: bool,
}

impl ReadSession {
    fn note(&mut self, event: &FileControl) {
        match event {
            FileControl::Opened { origin, .. } => self.awaits_word = *origin == Origin::Network,
            FileControl::Cached | FileControl::CacheBypassed { .. } | FileControl::Incomplete { .. } => {
                self.awaits_word = false;
            }
            FileControl::OutageBegan { .. } | FileControl::OutageEnded => {}
        }
    }
}

impl ReadState {
    fn event(&mut self) -> Option<FileControl> {
        let session = self.session.as_mut()?;
        let event = session.events.try_next()?;
        session.note(&event);
        Some(event)
    }

    /// What there is to tell behind the last byte: whether the file is kept. The commit syncs the disk, and the reader is
    /// faster. `None` when there is nothing more to tell.
    async fn last_event(&mut self) -> Option<FileControl> {
        let session = self.session.as_mut().filter(|session| session.awaits_word)?;
        let resource = session.waiter.resource();
        let gaps = resource.len().map(|len| resource.missing(0..len));
        // Only a whole file is committed. Where a jump left a gap behind, its download may take as long as the track: it ends
        // with this stream.
        let event = if gaps.as_ref().is_some_and(Vec::is_empty) {
            // Ends with the driver, which tells before it ends.
            session.events.next().await?
        } else {
            let bytes = |gaps: Vec<Range<u64>>| gaps.iter().map(|gap| gap.end - gap.start).sum::<u64>();
            let missing = gaps.map(bytes);
            FileControl::Incomplete { missing }
        };
        session.note(&event);
        Some(event)
    }

    /// The bytes at `position`. `None`: they have not come yet. Empty: the end.
    fn read(&mut self, position: u64) -> Result<Option<Bytes>, FileError> {
        let Some(session) = &mut self.session else {
            return Ok(None);
        };
        let found = read(&mut session.waiter, position)?;
        session.was_read |= found.is_some();
        Ok(found)
    }

    /// Waits for the byte at `position`, or for an event: what is told in a stall must not wait for its end.
    async fn wait(&mut self, position: u64) -> Result<Option<FileControl>, FileError> {
        let Some(session) = &mut self.session else {
            return Ok(None);
        };
        let ReadSession { waiter, events, .. } = session;
        let bytes = async {
            match waiter.wait_first(position, CHUNK as u64).await {
                Ok(_) => Ok(None),
                Err(WaitError::Failed { source }) => Err(FileError::clone(&source)),
                Err(WaitError::Interrupted) => Err(FileError::Stopped),
            }
        };
        let told = async {
            match events.next().await {
                Some(event) => Ok(Some(event)),
                None => future::pending().await,
            }
        };
        // The wait first: a failure that it was given and did not return would be forgotten with it.
        let event = future::or(bytes, told).await?;
        if let Some(event) = &event {
            session.note(event);
        }
        Ok(event)
    }

    /// Ends the session after an error. A seek makes the error void, and the stream goes on with a new session: that one
    /// must be of the same version, as bytes of this one were given out.
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

    /// What shows that `other` is another version. `by_validators`: the tags are those of the server, and not the app's.
    fn change(&self, other: &Self, by_validators: bool) -> Option<Change> {
        match (self.len, other.len) {
            (Some(expected), Some(received)) if expected != received => {
                Some(Change::Length { expected, received })
            }
            _ => by_validators.then_some(Change::Validator),
        }
    }
}

struct FileItems {
    context: Arc<FileContext>,
    shared: SharedReadState,
    position: u64,
    mode: OpenMode,
    ended: bool,
    /// The error that ends the stream, once what was told before it is delivered.
    failed: Option<FileError>,
}

/// A stream from `position` on. It goes on with the session of the stream before it, if there is one. Nothing happens
/// before the first poll.
pub(super) fn file_items(
    context: Arc<FileContext>,
    shared: SharedReadState,
    position: u64,
    mode: OpenMode,
) -> SourceStream<FileControl, FileError> {
    let items = FileItems {
        context,
        shared,
        position,
        mode,
        ended: false,
        failed: None,
    };
    Box::pin(stream::unfold(items, |mut items| async move {
        let item = items.next().await.transpose()?;
        Some((item, items))
    }))
}

impl FileItems {
    async fn next(&mut self) -> Result<Option<Message<FileControl>>, StreamError<FileError>> {
        if self.ended {
            return Ok(None);
        }
        // Taken for each item and not for the stream's life: a stream that was replaced by a seek keeps it no longer than its
        // last read takes.
        let mut state = self.shared.lock_arc().await;
        loop {
            self.open(&mut state).await.map_err(StreamError::source)?;
            // Events first: `Opened` was sent before the first byte came, and is delivered before it.
            if let Some(event) = state.event() {
                return Ok(Some(Message::Control(event)));
            }
            if let Some(failed) = self.failed.take() {
                state.end();
                return Err(StreamError::source(failed));
            }
            // The read may wait for the disk, which the consumer's thread must not. The lock goes along, and is released there
            // if this future is dropped meanwhile.
            let position = self.position;
            let (found, back) = rt::unblock(move || (state.read(position), state)).await;
            state = back;
            self.failed = match found {
                Ok(Some(bytes)) if bytes.is_empty() => {
                    // A consumer that gets the end is gone: what is told after it is told to nobody.
                    if let Some(event) = state.last_event().await {
                        return Ok(Some(Message::Control(event)));
                    }
                    self.ended = true;
                    return Ok(None);
                }
                Ok(Some(bytes)) => {
                    self.position += bytes.len() as u64;
                    return Ok(Some(Message::Data(bytes)));
                }
                Ok(None) => match state.wait(position).await {
                    Ok(Some(event)) => return Ok(Some(Message::Control(event))),
                    Ok(None) => None,
                    Err(error) => Some(error),
                },
                Err(error) => Some(error),
            };
        }
    }

    /// Begins a session, unless there is one.
    async fn open(&self, state: &mut ReadState) -> Result<(), FileError> {
        if state.session.is_some() {
            return Ok(());
        }
        let StartedFile { resource, events } = self.context.start(self.position, self.mode).await?;
        // Before the first byte. The session is dropped with its download if the file is another one by now.
        let version = FileVersion::of(&resource);
        if let Some(known) = &state.version
            && known.contradicts(&version)
        {
            let url = self.context.location.to_string();
            let by_validators = self.context.params.same_file.is_by_validators();
            let change = known.change(&version, by_validators);
            return ChangedSnafu { url, change }.fail();
        }
        state.session = Some(ReadSession {
            waiter: resource.reading(self.position),
            events,
            was_read: false,
            awaits_word: false,
        });
        Ok(())
    }
}

/// The bytes at `position`. `None`: they have not come yet. Empty: the end.
fn read(waiter: &mut Waiter<FileError>, position: u64) -> Result<Option<Bytes>, StreamingError> {
    let mut chunk = BytesMut::zeroed(CHUNK);
    Ok(match waiter.read(position, &mut chunk)? {
        Found::Missing => None,
        Found::End => Some(Bytes::new()),
        // Copied: the consumer may keep it for long, and must not keep the whole buffer with it.
        Found::Bytes(count) if count < CHUNK / 2 => {
            Some(Bytes::copy_from_slice(chunk.get(..count).unwrap_or_default()))
        }
        Found::Bytes(count) => {
            chunk.truncate(count);
            Some(chunk.freeze())
        }
    })
}
