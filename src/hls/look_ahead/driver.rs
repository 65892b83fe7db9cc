//! Fetches what the windows want, on a thread of its own.
//!
//! ```text
//!   poll ─┬─ choices: the Variant Stream of what comes next
//!         ├─ plans: what ended, what nobody wants any more, what is to be begun
//!         ├─ transfers: the first one, and the others while it is quick
//!         └─ commits
//! ```

use std::{
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    super::{
        fetch_context::FetchContext,
        pending_commits::PendingCommits,
        track::{Part, Track},
    },
    choosing::{Chooser, Told},
    fetching::{Given, fetch},
    plan::{Gone, Plan},
    shared::{LookAhead, Shared},
    transfer::{Left, Transfer},
    window::Window,
};
use crate::rt;

/// A segment that takes no longer than this is fetched beside others: round trips are what takes the time. Of a slower one the
/// body is, and others would only take from it.
const QUICK: Duration = Duration::from_secs(1);

/// How long the first part may be silent before those behind it are given up. They hold connections: where the client allows no
/// other one to the host, the first part could not be resumed after a break.
const SILENCE_LIMIT: Duration = Duration::from_secs(3);

/// How many commits may be pending before no part is begun. Each holds less than 256 KiB and one chunk of a body, which is
/// 512 KiB at most. Without the limit a fast network would fill the memory in front of a slow disk.
const MAX_COMMITS: usize = 4;
/// The same for parts that streams wait for. Higher, as commits may wait for a server: see
/// [`learn_first`](SourceState::learn_first).
const MAX_COMMITS_DEMANDED: usize = 16;

type Fetching = Pin<Box<dyn Future<Output = ()> + Send>>;
type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Running {
    /// When it plays.
    time: Duration,
    pub(super) transfer: Arc<Transfer>,
    fetching: Fetching,
    pub(super) since: Instant,
    pub(super) told: Told,
}

pub(super) struct Driver {
    pub(super) look_ahead: Arc<LookAhead>,
    pub(super) running: Vec<Running>,
    pub(super) chooser: Chooser,
    commits: PendingCommits,
    /// Commits that transfers have begun.
    pub(super) begun: Arc<Mutex<PendingCommits>>,
    /// Whether the last segment came within [`QUICK`].
    is_quick: bool,
    timer: Option<(Instant, Timer)>,
    /// Whether a head has moved in this round.
    has_moved: bool,
    /// Whether there was nothing more to do.
    is_over: bool,
}

impl Driver {
    pub(super) fn new(look_ahead: Arc<LookAhead>) -> Self {
        Self {
            look_ahead,
            running: Vec::new(),
            chooser: Chooser::default(),
            commits: PendingCommits::default(),
            begun: Arc::default(),
            is_quick: false,
            timer: None,
            has_moved: false,
            is_over: false,
        }
    }

    /// Begins what is to be begun. Whether there was anything.
    fn plan(&mut self, task: &Context<'_>, now: Instant) -> bool {
        let look_ahead = self.look_ahead.clone();
        look_ahead.driver.register(task.waker());
        let mut shared = look_ahead.lock();
        let gone = shared.settle(now);
        if !gone.is_empty() {
            drop(shared);
            drop(gone);
            shared = look_ahead.lock();
        }
        let (running, mut unwanted): (_, Vec<Running>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|running| running.transfer.is_read() || shared.wants(&running.transfer));
        self.running = running;
        if !unwanted.is_empty() {
            // Not under the lock: with a transfer its connection goes. What it has fetched on the way, a key as a rule, is kept.
            drop(shared);
            for running in &mut unwanted {
                self.chooser.sample(running, true);
            }
            drop(unwanted);
            shared = look_ahead.lock();
        }
        let mut begun = Vec::new();
        if self.commits.len() < MAX_COMMITS_DEMANDED {
            begun.extend(shared.begin_demanded());
        }
        while self.commits.len() < MAX_COMMITS
            && let Some(next) = self.next(&mut shared, &begun, now)
        {
            begun.push(next);
        }
        self.take_begun();
        let bypassed = self.commits.take_failed();
        for window in shared.plans.iter_mut().filter_map(Plan::first) {
            window.bypassed = window.bypassed.take().or_else(|| bypassed.clone());
        }
        // Stop is drop: a commit may wait for a server, which nobody waits for any more.
        let stopped = if shared.plans.is_empty() {
            (std::mem::take(&mut self.commits), self.chooser.stop())
        } else {
            (PendingCommits::default(), (None, None))
        };
        let is_written = self.commits.is_empty();
        let flushed = if is_written {
            std::mem::take(&mut shared.flushing)
        } else {
            Vec::new()
        };
        self.is_over = is_written && shared.plans.is_empty() && self.running.is_empty();
        shared.is_driven = !self.is_over;
        if self.is_over {
            shared.selector = self.chooser.selector.take();
            shared.is_selector_broken |= self.chooser.is_broken;
        }
        let has_moved = std::mem::take(&mut self.has_moved) || !begun.is_empty();
        drop(shared);
        drop((flushed, stopped));
        for (track, number, transfer) in begun {
            self.begin(track, number, transfer, now);
        }
        has_moved
    }

    pub(super) fn has_cache(&self) -> bool {
        self.look_ahead.state.fetcher.cache().is_some()
    }

    /// Takes over the commits that transfers have begun. Whether there were any.
    fn take_begun(&mut self) -> bool {
        // Each change is one call on the list.
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        let has_any = !begun.is_empty();
        self.commits.append(begun);
        has_any
    }

    /// The segment that is needed first, among those on their way.
    fn first(&self) -> Option<&Running> {
        let is_segment = |running: &&Running| !running.transfer.media.is_section();
        let segments = self.running.iter().filter(is_segment);
        segments.min_by_key(|running| running.time)
    }

    /// The next part to fetch ahead.
    fn next(&mut self, shared: &mut Shared, begun: &[Begun], now: Instant) -> Option<Begun> {
        // What is begun behind a silent part would be given up at once.
        let is_silent = |first: &Running| first.transfer.last() + SILENCE_LIMIT <= now;
        if self.first().is_some_and(is_silent) {
            return None;
        }
        let reach = self.look_ahead.state.fetcher.params.reach;
        let limit = if self.is_quick { reach.parallel.max(1) } else { 1 };
        let is_segment = |transfer: &Transfer| !transfer.media.is_section();
        let on_their_way = self.running.iter().map(|running| &running.transfer);
        let on_their_way = on_their_way.chain(begun.iter().map(|(_, _, transfer)| transfer));
        if on_their_way.filter(|transfer| is_segment(transfer)).count() >= limit {
            return None;
        }
        loop {
            // The stream that has the least in front of it.
            let plans = shared.plans.iter_mut();
            let wanting = plans.filter_map(|plan| Some((plan.wants_more(reach)?, plan)));
            let (_, plan) = wanting.min_by_key(|(ahead, _)| *ahead)?;
            let id = plan.id;
            let window = plan.open()?;
            let track = window.track().clone();
            let number = window.next()?;
            self.has_moved = true;
            if !window.is_fetched(number) {
                continue;
            }
            let media = track.part(number)?.media.clone()?;
            // Another stream may have it on its way.
            if let Some(transfer) = shared.transfer(&media) {
                shared.plan(id)?.open()?.add(number, transfer);
                continue;
            }
            let transfer = Arc::new(Transfer::new(media, self.has_cache(), false));
            transfer.begin();
            shared.plan(id)?.open()?.add(number, transfer.clone());
            return Some((track, number, transfer));
        }
    }

    pub(super) fn begin(&mut self, track: Arc<Track>, number: usize, transfer: Arc<Transfer>, now: Instant) {
        let given = Given {
            context: FetchContext::new(false),
            to: self.begun.clone(),
        };
        let time = track.part(number).map(Part::time).unwrap_or_default();
        let fetching = fetch(
            self.look_ahead.state.clone(),
            given,
            track,
            number,
            transfer.clone(),
        );
        self.running.push(Running {
            time,
            transfer,
            fetching: Box::pin(fetching),
            since: now,
            told: Told::new(now),
        });
    }

    /// Polls what is to go on. Whether anything ended.
    fn poll_running(&mut self, task: &mut Context<'_>, now: Instant) -> bool {
        let first = self.first();
        let first = first.map(|first| (first.time, now.duration_since(first.since) > QUICK));
        let mut has_ended = false;
        let mut index = 0;
        while let Some(running) = self.running.get_mut(index) {
            // On a slow link one body at a time: those behind it wait, and nothing is read of them.
            // Their heads may come: they cost little, and a key that one has asked for may be wanted elsewhere.
            let is_behind = first.is_some_and(|(first, is_slow)| is_slow && running.time > first);
            if is_behind && running.transfer.len() > 0 && !running.transfer.is_read() {
                running.told.leave_out(now);
                index += 1;
                continue;
            }
            // A key processor is the app's. Its panic is the stream's to meet, which fetches the part itself then.
            let fetching = &mut running.fetching;
            let poll = catch_unwind(AssertUnwindSafe(|| fetching.as_mut().poll(task)));
            let poll = poll.unwrap_or_else(|_| {
                running.transfer.end(Err(Left::Panicked));
                Poll::Ready(())
            });
            self.chooser.sample(running, poll.is_ready());
            match poll {
                Poll::Pending => index += 1,
                Poll::Ready(()) => {
                    has_ended = true;
                    let ended = self.running.remove(index);
                    if !ended.transfer.media.is_section() && ended.transfer.len() > 0 {
                        self.is_quick = now.duration_since(ended.since) <= QUICK;
                    }
                }
            }
        }
        has_ended
    }

    /// Whether a part is given up where the first one is silent.
    fn is_dispensable(running: &Running, first: Duration) -> bool {
        running.time > first && !running.transfer.is_read()
    }

    /// When the first part will have been silent for too long, if that holds others up.
    fn silence_ends(&self) -> Option<Instant> {
        let first = self.first()?;
        let mut others = self.running.iter();
        others
            .any(|running| Self::is_dispensable(running, first.time))
            .then(|| first.transfer.last() + SILENCE_LIMIT)
    }

    /// Gives up what is behind a first part that is silent. Whether there was any.
    fn give_up_behind_silence(&mut self, now: Instant) -> bool {
        if self.silence_ends().is_none_or(|end| end > now) {
            return false;
        }
        let Some(first) = self.first().map(|first| first.time) else {
            return false;
        };
        self.running.retain(|running| {
            let is_given_up = Self::is_dispensable(running, first);
            if is_given_up {
                running.transfer.end(Err(Left::GivenUp));
            }
            !is_given_up
        });
        self.is_quick = false;
        true
    }

    /// Wakes the driver when time alone changes something.
    fn arm(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let resumes = {
            let shared = self.look_ahead.lock();
            let windows = shared.plans.iter().flat_map(Plan::windows);
            windows.filter_map(Window::resumes_at).min()
        };
        let next = [resumes, self.silence_ends(), self.next_sample()]
            .into_iter()
            .flatten()
            .min();
        let Some(at) = next else {
            self.timer = None;
            return Poll::Pending;
        };
        if self.timer.as_ref().is_none_or(|(armed, _)| *armed != at) {
            let wait = at.saturating_duration_since(Instant::now());
            self.timer = Some((at, Box::pin(rt::sleep(wait))));
        }
        match &mut self.timer {
            Some((_, timer)) => timer.as_mut().poll(task),
            None => Poll::Pending,
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        loop {
            let now = Instant::now();
            // First: what comes next is asked for in the same round.
            let has_chosen = driver.choose(task, now) | driver.improve(now);
            let has_planned = driver.plan(task, now);
            if driver.is_over {
                return Poll::Ready(());
            }
            let has_ended = driver.poll_running(task, now) | driver.give_up_behind_silence(now);
            let has_begun = driver.take_begun();
            let pending = driver.commits.len();
            // A commit waits for the disk. Several do so side by side, while segments come.
            rt::without_blocking(|| driver.commits.poll_all(task));
            // Behind what was begun another choice may be due.
            let has_changed =
                driver.give_up_segment(now) || has_chosen || has_planned && driver.chooser.is_used();
            if has_ended || has_begun || has_changed || driver.commits.len() != pending {
                continue;
            }
            if driver.arm(task).is_pending() {
                return Poll::Pending;
            }
            driver.timer = None;
        }
    }
}

impl Drop for Driver {
    /// After a panic: nobody waits for what will not come.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut shared = self.look_ahead.lock();
        shared.is_driven = false;
        let transfers = shared.plans.iter().flat_map(Plan::transfers);
        let mut left: Vec<_> = transfers.cloned().collect();
        let flushing = std::mem::take(&mut shared.flushing);
        let waiting: Vec<_> = shared.plans.iter_mut().filter_map(Plan::take_waiting).collect();
        drop(shared);
        drop(flushing);
        for waker in waiting {
            waker.wake();
        }
        left.extend(self.running.drain(..).map(|running| running.transfer));
        for transfer in left {
            transfer.give_up();
        }
    }
}

pub(super) type Begun = (Arc<Track>, usize, Arc<Transfer>);

impl Shared {
    fn wants(&self, transfer: &Arc<Transfer>) -> bool {
        let mut transfers = self.plans.iter().flat_map(Plan::transfers);
        transfers.any(|wanted| Arc::ptr_eq(wanted, transfer))
    }

    /// Takes notice of what the parts on their way came to.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Gone> {
        let mut gone = Vec::new();
        for plan in &mut self.plans {
            for window in plan.windows_mut() {
                window.settle(now);
            }
            if let Some(ladder) = &mut self.ladder {
                plan.note_kept(ladder);
                // Its turn may come in minutes: until then another one is fetched.
                if let Some((variant, windows)) = plan.drop_refused() {
                    ladder.refuse_urls(variant, now);
                    gone.push((windows, Vec::new()));
                }
                let (transfers, failed) = plan.settle_better(now);
                if let Some(variant) = failed {
                    ladder.refuse(variant, now);
                }
                if !transfers.is_empty() {
                    gone.push((VecDeque::new(), transfers));
                }
            }
        }
        gone
    }

    /// What streams have asked for and nobody has begun.
    fn begin_demanded(&self) -> impl Iterator<Item = Begun> {
        self.plans.iter().flat_map(Plan::windows).flat_map(|window| {
            let demanded = window.parts().filter(|(_, transfer)| transfer.begin());
            demanded.map(|(number, transfer)| (window.track().clone(), number, transfer.clone()))
        })
    }
}
