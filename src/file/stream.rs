//! The file as the items of a [`SourceStream`].

use std::sync::{Arc, Mutex, PoisonError};

use async_channel::Receiver;
use bytes::{Bytes, BytesMut};
use futures_lite::stream;
use snafu::IntoError as _;

use super::error::StoredSnafu;
use super::open::{Place, Started};
use super::{FileControl, FileError};
use crate::rt;
use crate::storage::{Found, StreamingError, WaitError, Waiter};
use crate::stream::{Message, SourceStream, StreamError};

/// The most bytes of an item.
const CHUNK: usize = 128 * 1024;

/// A file being read. Its fetcher runs as long as it lives.
pub(super) struct Session {
    waiter: Waiter<FileError>,
    control: Receiver<FileControl>,
}

type Parked = Arc<Mutex<Option<Session>>>;

struct Flow {
    place: Arc<Place>,
    parked: Parked,
    /// `None` before the first item and after an error.
    session: Option<Session>,
    position: u64,
    offline: bool,
    ended: bool,
}

/// A stream from `position` on, which goes on with the parked session if there is one. Until it is polled nothing
/// happens.
pub(super) fn flow(
    place: Arc<Place>,
    parked: Parked,
    position: u64,
    offline: bool,
) -> SourceStream<FileControl, FileError> {
    let flow = Flow {
        place,
        parked,
        session: None,
        position,
        offline,
        ended: false,
    };
    Box::pin(stream::unfold(flow, |mut flow| async move {
        let item = flow.next().await.transpose()?;
        Some((item, flow))
    }))
}

impl Flow {
    async fn next(&mut self) -> Result<Option<Message<FileControl>>, StreamError<FileError>> {
        if self.ended {
            return Ok(None);
        }
        let mut session = match self.session.take().or_else(|| lock(&self.parked).take()) {
            Some(session) => session,
            None => self.open().await.map_err(StreamError::source)?,
        };
        loop {
            if let Ok(control) = session.control.try_recv() {
                self.session = Some(session);
                return Ok(Some(Message::Control(control)));
            }
            let position = self.position;
            let (found, back) = rt::unblock(move || {
                let mut session = session;
                (read(&mut session.waiter, position), session)
            })
            .await;
            session = back;
            match found.map_err(|error| StreamError::source(StoredSnafu.into_error(error)))? {
                Some(bytes) if bytes.is_empty() => {
                    self.ended = true;
                    self.session = Some(session);
                    return Ok(None);
                }
                Some(bytes) => {
                    self.position += bytes.len() as u64;
                    self.session = Some(session);
                    return Ok(Some(Message::Data(bytes)));
                }
                None => match session.waiter.wait_first(position, CHUNK as u64).await {
                    Ok(_) => {}
                    Err(WaitError::Failed { source }) => {
                        return Err(StreamError::source(FileError::clone(&source)));
                    }
                    Err(WaitError::Interrupted) => return Err(StreamError::source(FileError::Stopped)),
                },
            }
        }
    }

    async fn open(&self) -> Result<Session, FileError> {
        let Started { resource, control } = self.place.start(self.position, self.offline).await?;
        let waiter = resource.reading(self.position);
        Ok(Session { waiter, control })
    }
}

/// A seek drops this stream and polls the next: it goes on with the session. If it was not for a seek, the source is
/// dropped next, and the session with it.
impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let stale = lock(&self.parked).replace(session);
            drop(stale);
        }
    }
}

fn lock(parked: &Mutex<Option<Session>>) -> std::sync::MutexGuard<'_, Option<Session>> {
    // An option is whole whatever panics.
    parked.lock().unwrap_or_else(PoisonError::into_inner)
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
