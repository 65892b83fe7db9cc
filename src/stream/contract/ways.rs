//! The ways to run a stream that a contract is checked in.

use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream as _;

use crate::stream::{Driver, Source, Stream, StreamError, StreamParams};

/// The ways to run a stream.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Spawned,
    Inline,
    HandedOut,
}

pub(super) const WAYS: [Way; 3] = [Way::Spawned, Way::Inline, Way::HandedOut];

pub(super) struct Run<S: Source> {
    pub(super) stream: Stream<S>,
    pub(super) driver: Option<Driver<S>>,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Spawned => "spawned",
            Self::Inline => "inline",
            Self::HandedOut => "handed out",
        }
    }

    pub(super) fn run<S: Source>(self, source: S, params: StreamParams) -> Run<S> {
        match self {
            Self::Spawned => Run {
                stream: Stream::new(source, params),
                driver: None,
            },
            Self::Inline => Run {
                stream: Stream::inline(source, params),
                driver: None,
            },
            Self::HandedOut => {
                let (stream, driver) = Stream::with_driver(source, params);
                Run {
                    stream,
                    driver: Some(driver),
                }
            }
        }
    }
}

/// Polls `future` to its end, and the driver beside it if there is one.
pub(super) async fn with<T, S: Source>(
    future: impl Future<Output = T>,
    mut driver: Option<&mut Driver<S>>,
) -> T {
    // Both in one task: the driver handed out needs no executor, and a check stays the same for all ways.
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| {
        if let Some(driver) = &mut driver {
            // Done or not: what it leaves is in the queue.
            let _ = Pin::new(&mut **driver).poll(cx);
        }
        future.as_mut().poll(cx)
    })
    .await
}

pub(super) async fn collect<S: Source>(
    stream: &mut Stream<S>,
    mut driver: Option<&mut Driver<S>>,
) -> Result<Vec<u8>, StreamError<S::Error>> {
    let mut all = Vec::new();
    while let Some(chunk) = with(
        poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)),
        driver.as_deref_mut(),
    )
    .await
    {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}
