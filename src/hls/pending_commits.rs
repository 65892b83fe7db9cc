//! Cache writes that go on while the stream goes on.
//!
//! A durable write waits for the disk, and a track begins with up to four of them: two playlists, a key, an initialization
//! section. None of them keeps the first byte waiting. All of them are over when the stream ends.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use super::Resource;
use crate::media::Bypass;

/// What is not kept, and why.
pub(super) type Bypassed = (Resource, Bypass);

type Commit = Pin<Box<dyn Future<Output = Option<Bypassed>> + Send>>;

/// The commits under way, and the first failure among those that are over.
///
/// They are futures that the stream's own polls drive. A task for each would go on after the stream was dropped, and a
/// dropped stream must ask for nothing more. A commit that is dropped may still be made; nothing of it is half made.
#[derive(Default)]
pub(super) struct PendingCommits {
    /// Those that the others wait for.
    first: Vec<Commit>,
    pending: Vec<Commit>,
    failed: Option<Bypassed>,
}

impl PendingCommits {
    pub(super) fn push(&mut self, commit: impl Future<Output = Option<Bypassed>> + Send + 'static) {
        self.pending.push(Box::pin(commit));
    }

    /// One that all others wait for: what it writes must be on the disk before them, also if the process is killed in between.
    pub(super) fn push_first(&mut self, commit: impl Future<Output = Option<Bypassed>> + Send + 'static) {
        self.first.push(Box::pin(commit));
    }

    /// None under way, and this failure.
    pub(super) fn failed(bypassed: Bypassed) -> Self {
        Self {
            failed: Some(bypassed),
            ..Self::default()
        }
    }

    /// Takes over the commits and the failure of `others`. An earlier failure of its own stays the first.
    pub(super) fn append(&mut self, others: Self) {
        self.first.extend(others.first);
        self.pending.extend(others.pending);
        self.failed = self.failed.take().or(others.failed);
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Polls each commit once.
    pub(super) fn poll_all(&mut self, task: &mut Context<'_>) {
        // One that is over is dropped at once, as a future must not be polled again and its writer holds memory.
        let Self {
            first,
            pending,
            failed,
        } = self;
        let mut is_pending = |commit: &mut Commit| match commit.as_mut().poll(task) {
            Poll::Pending => true,
            Poll::Ready(outcome) => {
                *failed = failed.take().or(outcome);
                false
            }
        };
        first.retain_mut(&mut is_pending);
        if first.is_empty() {
            pending.retain_mut(is_pending);
        }
    }

    /// Waits until at most `allowed` are under way.
    pub(super) async fn wait_for_at_most(&mut self, allowed: usize) {
        poll_fn(|task| {
            self.poll_all(task);
            if self.len() <= allowed {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// The first that failed since the last call.
    pub(super) fn take_failed(&mut self) -> Option<Bypassed> {
        self.failed.take()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_lite::future;

    use super::*;
    use crate::hls::ResourceKind;

    fn failure(number: u64) -> Bypassed {
        let url = crate::net::Url::parse("http://h/").unwrap();
        let kind = ResourceKind::Segment {
            media_sequence: number,
        };
        (Resource::new(kind, &url), Bypass::UnknownLength)
    }

    fn number(failed: Option<Bypassed>) -> Option<ResourceKind> {
        failed.map(|(resource, _)| resource.kind())
    }

    /// A process may be killed between any two writes: the order is the promise.
    #[test]
    fn nothing_is_begun_before_what_must_come_first() {
        let mut commits = PendingCommits::default();
        let (open, gate) = async_channel::bounded::<()>(1);
        commits.push(ready(Some(failure(2))));
        commits.push_first(async move {
            gate.recv().await.ok();
            Some(failure(1))
        });
        assert!(future::block_on(future::poll_once(commits.wait_for_at_most(1))).is_none());
        assert!(commits.take_failed().is_none());
        open.try_send(()).unwrap();
        future::block_on(commits.wait_for_at_most(0));
        let first = number(commits.take_failed());
        assert_eq!(first, Some(ResourceKind::Segment { media_sequence: 1 }));
    }

    #[test]
    fn the_first_failure_is_remembered_and_what_waits_stays() {
        let mut commits = PendingCommits::default();
        commits.push(pending());
        commits.push(ready(None));
        commits.push(ready(Some(failure(1))));
        commits.push(ready(Some(failure(2))));
        future::block_on(commits.wait_for_at_most(1));
        assert_eq!(commits.pending.len(), 1);
        assert_eq!(
            number(commits.take_failed()),
            Some(ResourceKind::Segment { media_sequence: 1 })
        );
        assert!(commits.take_failed().is_none());
        let mut others = PendingCommits::default();
        others.push(ready(Some(failure(3))));
        commits.append(others);
        future::block_on(commits.wait_for_at_most(1));
        assert_eq!(
            number(commits.take_failed()),
            Some(ResourceKind::Segment { media_sequence: 3 })
        );
        assert!(future::block_on(future::poll_once(commits.wait_for_at_most(0))).is_none());
    }
}
