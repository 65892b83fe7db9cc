//! The future that runs a download.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, mem};

use async_channel::Sender;

use super::download::Download;
use super::lookup::Resource;
use super::shared_work::{SharedWork, Work};
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
    run: Run,
    serves_readers: bool,
    /// Whether a request may run code that blocks the thread it is made on.
    runs_foreign_code: bool,
}

/// What a driver runs.
#[derive(Default)]
enum Run {
    #[default]
    Nothing,
    Own(Work),
    /// Reading threads may run it too.
    Shared(Arc<SharedWork>),
}

impl FileDriver {
    /// For a file that needs no download.
    pub(super) fn idle() -> Self {
        Self {
            run: Run::Nothing,
            serves_readers: false,
            runs_foreign_code: false,
        }
    }

    /// For a file that another source downloads.
    pub(super) fn following(watch: StatusWatch<FileError>, events: Sender<FileControl>) -> Self {
        Self {
            run: Run::Own(Box::pin(sharing::report_completion(watch, events))),
            serves_readers: false,
            runs_foreign_code: false,
        }
    }

    pub(super) fn of(download: Download) -> Self {
        Self {
            runs_foreign_code: download.remote.runs_foreign_code(),
            run: Run::Own(Box::pin(download.run())),
            serves_readers: true,
        }
    }

    /// Lets threads that read `resource` behind a jump run the work.
    pub(super) fn share_with_readers_of(&mut self, resource: &Resource) {
        // An interrupt must end a reader's wait, whatever such code waits for.
        if self.runs_foreign_code {
            return;
        }
        self.run = match mem::take(&mut self.run) {
            Run::Own(work) => {
                let shared = Arc::new(SharedWork::new(work));
                let fetcher = Arc::downgrade(&shared);
                // Weak: readers keep the resource, and must not keep the connections of a driver that was dropped.
                resource.fetched_by(fetcher);
                Run::Shared(shared)
            }
            run => run,
        };
    }

    /// Whether readers wait for ever if it is not run.
    pub(super) fn serves_readers(&self) -> bool {
        self.serves_readers
    }
}

impl Future for FileDriver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let done = match &mut self.run {
            Run::Nothing => return Poll::Ready(()),
            Run::Own(work) => work.as_mut().poll(cx),
            Run::Shared(work) => work.poll(cx),
        };
        if done.is_ready() {
            // Dropped at once: the driver may be kept for long, and must not hold the resource or the events with it.
            self.run = Run::Nothing;
        }
        done
    }
}

impl Drop for FileDriver {
    fn drop(&mut self) {
        // A reader that is reading at this moment holds the shared work, which must end with the driver all the same.
        if let Run::Shared(shared) = &self.run {
            shared.close();
        }
    }
}

impl fmt::Debug for FileDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileDriver")
            .field("done", &matches!(self.run, Run::Nothing))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use futures_lite::future::{self, block_on};
    use kithara_test_support::{Content, Pattern, Server};

    use crate::cache::AssetCache;
    use crate::file::{FileParams, FileParts, FileSource, LookAhead, OpenMode};
    use crate::net::{HttpClient, Url};

    const MIB: u64 = 1024 * 1024;

    /// Two wake-ups across threads are saved.
    #[test]
    fn a_reader_that_jumps_fetches_its_bytes_itself() {
        let (server, pattern) = (Server::empty().unwrap(), Pattern::new(3));
        server.serve("/a.bin", Content::pattern(&pattern, 64 * MIB));
        let root = tempfile::tempdir().unwrap();
        let cache = AssetCache::builder(root.path()).max_bytes(1 << 30);
        let cache = cache.open_blocking().unwrap();
        let params =
            FileParams::new(HttpClient::new().unwrap(), cache).look_ahead(LookAhead::Bytes(64 * 1024));
        let source = FileSource::new(Url::parse(&server.url("/a.bin")).unwrap(), params);
        let FileParts {
            mut reader,
            mut driver,
            events: _events,
        } = block_on(source.open_parts(OpenMode::Online)).unwrap();
        driver.share_with_readers_of(reader.resource());
        let resource = reader.resource().clone();
        let (jump, jumps) = mpsc::channel::<u64>();
        let (done, is_done) = async_channel::unbounded();
        let reading = thread::spawn(move || {
            for at in jumps {
                reader.seek(SeekFrom::Start(at)).unwrap();
                let mut bytes = vec![0; 4096];
                reader.read_exact(&mut bytes).unwrap();
                assert_eq!(pattern.first_difference(at, &bytes), None);
                done.try_send(()).unwrap();
            }
        });
        let all_of = |at: u64| {
            let mut watch = resource.watch();
            async move {
                let there = |range: &std::ops::Range<u64>| range.start <= at && at + 64 * 1024 <= range.end;
                while !watch.changed().await.available.iter().any(there) {}
            }
        };
        // What is open from before, a request without an end, is given up by the first jump, which the driver does.
        for at in [10 * MIB, 20 * MIB] {
            jump.send(at).unwrap();
            block_on(future::or(&mut driver, all_of(at)));
            block_on(is_done.recv()).unwrap();
        }
        jump.send(30 * MIB).unwrap();
        let late = async {
            crate::rt::sleep(Duration::from_secs(20)).await;
            panic!("nobody fetches");
        };
        block_on(future::or(async { is_done.recv().await.unwrap() }, late));
        // What is left to do wakes the driver.
        block_on(future::or(&mut driver, all_of(30 * MIB)));
        drop(jump);
        reading.join().unwrap();
    }
}
