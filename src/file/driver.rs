//! The future that runs a download.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_channel::Sender;

use super::download::Download;
use super::sharing;
use super::{FileControl, FileError};
use crate::storage::StatusWatch;

/// Downloads what the readers of one file want. [`FileSource::open_parts`](super::FileSource::open_parts) hands it out,
/// for a thread or executor of your own.
///
/// It resolves when the file is complete in the cache, when the last reader was dropped, or after a failure that does not
/// pass, which the readers get. An outage does not end it. Polling it writes to files: give it a thread, or an executor that may block. Dropping it closes its
/// connections; readers that wait get [`FileError::Stopped`].
#[must_use = "a driver does nothing unless it is polled, and dropping it ends the download"]
pub struct FileDriver {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    serves_readers: bool,
}

impl FileDriver {
    /// For a file that needs no download.
    pub(super) fn idle() -> Self {
        Self {
            work: None,
            serves_readers: false,
        }
    }

    /// For a file that another source downloads.
    pub(super) fn following(watch: StatusWatch<FileError>, events: Sender<FileControl>) -> Self {
        Self {
            work: Some(Box::pin(sharing::report_completion(watch, events))),
            serves_readers: false,
        }
    }

    pub(super) fn of(download: Download) -> Self {
        Self {
            work: Some(Box::pin(download.run())),
            serves_readers: true,
        }
    }

    /// Whether readers wait for ever if it is not run.
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
        // Dropped at once: the driver may be kept for long, and must not hold the resource or the events with it.
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
