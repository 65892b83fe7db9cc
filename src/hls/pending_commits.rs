//! PendingCommits to the cache that go on while the stream goes on.
//!
//! A durable write waits for the disk, and a track begins with up to four of them: two playlists, a key, an initialisation
//! section. None of them may keep the first byte waiting. All of them are over when the stream ends.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use super::Resource;
use crate::media::Bypass;

/// What was not kept, and why.
pub(super) type Bypassed = (Resource, Bypass);

type Write = Pin<Box<dyn Future<Output = Option<Bypassed>> + Send>>;

/// The commits under way, driven by the stream's own polls.
#[derive(Default)]
pub(super) struct PendingCommits {
    pending: Vec<Write>,
    failed: Option<Bypassed>,
}

impl PendingCommits {
    pub(super) fn push(&mut self, write: impl Future<Output = Option<Bypassed>> + Send + 'static) {
        self.pending.push(Box::pin(write));
    }

    /// One that has failed already.
    pub(super) fn failed(bypassed: Bypassed) -> Self {
        Self {
            pending: Vec::new(),
            failed: Some(bypassed),
        }
    }

    /// Takes over what others have begun.
    pub(super) fn append(&mut self, others: Self) {
        self.pending.extend(others.pending);
        self.failed = self.failed.take().or(others.failed);
    }

    /// Lets them get on, without waiting for them.
    pub(super) fn nudge(&mut self, task: &mut Context<'_>) {
        let Self { pending, failed } = self;
        pending.retain_mut(|write| match write.as_mut().poll(task) {
            Poll::Pending => true,
            Poll::Ready(outcome) => {
                *failed = failed.take().or(outcome);
                false
            }
        });
    }

    /// Waits until no more than `allowed` are under way.
    pub(super) async fn settle(&mut self, allowed: usize) {
        poll_fn(|task| {
            self.nudge(task);
            if self.pending.len() <= allowed {
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

    #[test]
    fn the_first_failure_is_remembered_and_what_waits_stays() {
        let mut commits = PendingCommits::default();
        commits.push(pending());
        commits.push(ready(None));
        commits.push(ready(Some(failure(1))));
        commits.push(ready(Some(failure(2))));
        future::block_on(commits.settle(1));
        assert_eq!(commits.pending.len(), 1);
        assert_eq!(
            number(commits.take_failed()),
            Some(ResourceKind::Segment { media_sequence: 1 })
        );
        assert!(commits.take_failed().is_none());
        let mut others = PendingCommits::default();
        others.push(ready(Some(failure(3))));
        commits.append(others);
        future::block_on(commits.settle(1));
        assert_eq!(
            number(commits.take_failed()),
            Some(ResourceKind::Segment { media_sequence: 3 })
        );
        assert!(future::block_on(future::poll_once(commits.settle(0))).is_none());
    }
}
