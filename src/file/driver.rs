//! What runs a fetch, handed out or on a thread of the crate's own.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_channel::Sender;

use super::fetch::Fetch;
use super::{FileControl, FileError, join};
use crate::storage::StatusWatch;

/// Fetches what the readers of one file want. From [`FileSource::open_parts`](super::FileSource::open_parts), for
/// threads and executors of one's own.
///
/// It resolves when the last reader was dropped, when the file is complete in the cache, or after a failure, which its
/// readers are told. Its polls write to files: give it a thread, or an executor that does not mind. Dropped, it closes
/// its connections, and readers that wait get [`FileError::Stopped`].
#[must_use = "a driver does nothing unless it is polled, and dropping it ends the fetching"]
pub struct FileDriver {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    fetches: bool,
}

impl FileDriver {
    /// For a file of which nothing needs to be fetched.
    pub(super) fn idle() -> Self {
        Self {
            work: None,
            fetches: false,
        }
    }

    /// For a file that somebody else fetches.
    pub(super) fn following(watch: StatusWatch<FileError>, control: Sender<FileControl>) -> Self {
        Self {
            work: Some(Box::pin(join::follow(watch, control))),
            fetches: false,
        }
    }

    pub(super) fn of(fetch: Fetch) -> Self {
        Self {
            work: Some(Box::pin(fetch.work())),
            fetches: true,
        }
    }

    /// Whether readers depend on it.
    pub(super) fn fetches(&self) -> bool {
        self.fetches
    }
}

impl Future for FileDriver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(());
        };
        let done = work.as_mut().poll(cx);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl fmt::Debug for FileDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileDriver")
            .field("done", &self.work.is_none())
            .finish_non_exhaustive()
    }
}
