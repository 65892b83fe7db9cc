//! A download of one source: its progress as a stream. What it fetches is in the cache, and nothing of it is given out.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_core::Stream;

use super::{Bypass, Progress, Total, progress::Rate};

/// A download of one source into the cache: a stream of its [`Progress`].
///
/// It works while it is polled. It ends with `None` when all of it is in the cache, or after one error. The last progress
/// [is complete](Progress::is_complete). Dropping it stops the download at once. What was fetched stays in the cache, and the
/// next download of the same source goes on from there.
#[must_use = "a download does nothing unless it is polled, and dropping it stops it"]
pub struct Download<E> {
    work: Option<Work<E>>,
    meter: Meter,
    /// The version of the progress that was given out last.
    seen: u64,
}

type Work<E> = Pin<Box<dyn Future<Output = Result<(), DownloadError<E>>> + Send>>;

/// Why a download is not complete.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum DownloadError<E> {
    /// The source failed.
    Source {
        /// What failed.
        source: E,
    },
    /// The cache does not keep it.
    NotKept {
        /// Why.
        reason: Bypass,
    },
    /// It came to its end, and not all of it is there: something was removed meanwhile.
    Incomplete,
}

impl<E> DownloadError<E> {
    /// The source's failure, if that is what it is.
    pub fn source_error(&self) -> Option<&E> {
        match self {
            Self::Source { source } => Some(source),
            _ => None,
        }
    }

    /// Why the cache does not keep it, if that is what it is.
    pub fn not_kept(&self) -> Option<&Bypass> {
        match self {
            Self::NotKept { reason } => Some(reason),
            _ => None,
        }
    }
}

impl<E> From<E> for DownloadError<E> {
    fn from(source: E) -> Self {
        Self::Source { source }
    }
}

impl<E: fmt::Display> fmt::Display for DownloadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { source } => source.fmt(f),
            Self::NotKept { reason } => write!(f, "not kept: {reason}"),
            Self::Incomplete => f.write_str("something of it was removed while it was fetched"),
        }
    }
}

// Transparent: the text is the source's, so that the chain goes on below it.
impl<E: Error + 'static> Error for DownloadError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Source { source } => source.source(),
            Self::NotKept { .. } | Self::Incomplete => None,
        }
    }
}

impl<E> Download<E> {
    /// Does the work that `begin` makes. It tells the meter how far it is.
    pub(crate) fn new<F>(begin: impl FnOnce(Meter) -> F) -> Self
    where
        F: Future<Output = Result<(), DownloadError<E>>> + Send + 'static,
    {
        let meter = Meter::default();
        Self {
            work: Some(Box::pin(begin(meter.clone()))),
            meter,
            seen: 0,
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.meter.lock().progress
    }

    /// Has it go no further than so many bytes, as far as its source can tell: at the next progress it may be allowed more.
    #[cfg(feature = "offline")]
    pub(crate) fn allow(&mut self, bytes: u64) {
        self.meter.lock().allowed = Some(bytes);
    }
}

impl<E> Stream for Download<E> {
    type Item = Result<Progress, DownloadError<E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(None);
        };
        match work.as_mut().poll(cx) {
            Poll::Ready(outcome) => {
                // Dropped at once: an app may keep an ended download for long, and with it connections and a lease.
                self.work = None;
                Poll::Ready(Some(outcome.map(|()| self.meter.complete())))
            }
            Poll::Pending => {
                // The work tells the meter only while it is polled, and has left its waker: no change is lost here.
                let state = self.meter.lock();
                let (version, progress) = (state.version, state.progress);
                drop(state);
                if version == self.seen {
                    return Poll::Pending;
                }
                self.seen = version;
                Poll::Ready(Some(Ok(progress)))
            }
        }
    }
}

impl<E> fmt::Debug for Download<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("progress", &self.progress())
            .field("is_over", &self.work.is_none())
            .finish_non_exhaustive()
    }
}

/// How often a change of the figures alone is told.
const TOLD_EVERY: Duration = Duration::from_millis(50);

/// Where a download notes how far it is.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<MeterState>>);

#[derive(Default)]
struct MeterState {
    progress: Progress,
    rate: Rate,
    version: u64,
    told: Option<Instant>,
    /// How far it may go; `None` for all of it.
    #[cfg_attr(
        not(feature = "hls"),
        allow(dead_code, reason = "what fetches a file does not wait for it")
    )]
    allowed: Option<u64>,
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, MeterState> {
        // Each change is a few stores of figures, all of which are right by themselves.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So much is there now. A figure that is less than one noted before is left out: what is told never goes back.
    pub(crate) fn note(&self, bytes: u64, total: Total, time: Option<Duration>, duration: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.lock();
        let MeterState { progress, rate, .. } = &mut *state;
        progress.bytes = progress.bytes.max(bytes);
        progress.rate = rate.note(now, progress.bytes);
        progress.time = progress.time.max(time);
        progress.duration = duration.or(progress.duration);
        progress.total = match total {
            // Less than what is there was a bad guess.
            Total::Estimated(all) => Total::Estimated(all.max(progress.bytes)),
            Total::AtLeast(all) => Total::AtLeast(all.max(progress.bytes)),
            exact @ Total::Exact(_) => exact,
        };
        if state
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY)
        {
            state.told = Some(now);
            state.version += 1;
        }
    }

    /// The network is away, or back.
    pub(crate) fn set_away(&self, is_away: bool) {
        let mut state = self.lock();
        if state.progress.is_away != is_away {
            state.progress.is_away = is_away;
            state.version += 1;
        }
    }

    /// Waits while there is no room for more. The progress is told then, so that who reads it may allow more.
    ///
    /// No waker is kept: the work is polled by the reader of the progress alone, and it asks again when it has read that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    #[cfg(feature = "hls")]
    pub(crate) async fn may_go_on(&self) {
        let mut is_told = false;
        std::future::poll_fn(|_| {
            let mut state = self.lock();
            if state.allowed.is_none_or(|allowed| state.progress.bytes < allowed) {
                return Poll::Ready(());
            }
            // Once: told again and again, nothing new would keep its reader awake.
            state.version += u64::from(!std::mem::replace(&mut is_told, true));
            Poll::Pending
        })
        .await;
    }

    #[cfg(feature = "hls")]
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().progress.bytes
    }

    fn complete(&self) -> Progress {
        let mut state = self.lock();
        let MeterState { progress, .. } = &mut *state;
        progress.is_complete = true;
        progress.is_away = false;
        progress.time = progress.duration.or(progress.time);
        *progress
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_lite::{StreamExt as _, future};

    use super::*;

    fn note(meter: &Meter, bytes: u64) {
        meter.note(bytes, Total::Exact(100), None, None);
    }

    /// O3.
    #[test]
    fn o3_figures_never_go_back_and_the_last_one_is_complete() {
        let mut download = Download::<String>::new(|meter| async move {
            note(&meter, 70);
            future::yield_now().await;
            note(&meter, 30);
            assert_eq!(meter.lock().progress.bytes, 70);
            Ok(())
        });
        let told: Vec<_> = future::block_on((&mut download).map(Result::unwrap).collect());
        assert_eq!((told.len(), told[0].bytes, told[0].is_complete), (2, 70, false));
        assert_eq!((told[1].bytes, told[1].is_complete), (70, true));
    }

    /// O6: what is not allowed is not fetched, and what is allowed goes on.
    #[cfg(all(feature = "offline", feature = "hls"))]
    #[test]
    fn o6_it_goes_as_far_as_it_is_allowed() {
        let mut download = Download::<String>::new(|meter| async move {
            for bytes in 1..=30 {
                note(&meter, bytes);
                meter.may_go_on().await;
            }
            Ok(())
        });
        download.allow(10);
        let told = future::block_on(download.next());
        assert_eq!(told.unwrap().unwrap().bytes, 10);
        assert!(future::block_on(future::poll_once(download.next())).is_none());
        download.allow(20);
        assert_eq!(future::block_on(download.next()).unwrap().unwrap().bytes, 20);
        download.allow(u64::MAX);
        assert!(future::block_on(download.next()).unwrap().unwrap().is_complete);
    }

    #[test]
    fn an_error_is_told_once_and_what_worked_is_dropped() {
        let held = Arc::new(());
        let working = held.clone();
        let mut download = Download::new(|_| async move {
            future::yield_now().await;
            drop(working);
            Err(DownloadError::from("gone".to_owned()))
        });
        let told = future::block_on(download.next());
        assert_eq!(told.unwrap().unwrap_err().to_string(), "gone");
        assert_eq!(Arc::strong_count(&held), 1);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut download).poll_next(&mut cx).is_ready());
    }
}
