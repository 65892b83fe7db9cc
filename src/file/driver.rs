//! What runs a fetch, handed out or on a thread of the crate's own.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_channel::Sender;

use super::download::Download;
use super::{FileControl, FileError, sharing};
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
    serves_readers: bool,
}

impl FileDriver {
    /// For a file of which nothing needs to be fetched.
    pub(super) fn idle() -> Self {
        Self {
            work: None,
            serves_readers: false,
        }
    }

    /// For a file that somebody else fetches.
    pub(super) fn following(watch: StatusWatch<FileError>, control: Sender<FileControl>) -> Self {
        Self {
            work: Some(Box::pin(sharing::report_completion(watch, control))),
            serves_readers: false,
        }
    }

    pub(super) fn of(download: Download) -> Self {
        Self {
            work: Some(Box::pin(download.run())),
            serves_readers: true,
        }
    }

    /// Whether readers depend on it.
    pub(super) fn serves_readers(&self) -> bool {
        self.serves_readers
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
