//! Asks the selector, and tells it of the network.
//!
//! ```text
//!   head is undecided ─┬─ nothing known of the Variant Streams ─▶ survey (the cache alone)
//!                      ├─ selector ─▶ the present one ─▶ decided
//!                      │          └─▶ another one ─┬─ its list is known ─▶ a window more
//!                      │                           └─ is not ─▶ load it, then a window more
//!                      └─ list not to be had ─▶ refused for a while, asked again without it
//! ```
//!
//! The selector is the app's: it is called without the lock, and its panic ends choosing, not the stream.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    super::{
        editions::Question,
        playlist::MultivariantPlaylist,
        selection::{NetworkSample, Situation, VariantSelector},
        track::Track,
    },
    driver::{Driver, Running},
    ladder::{self, Ladder, Loaded, Rungs},
    plan::{Choosing, Head, Plan},
    shared::{LookAhead, Shared},
};

/// While no byte comes the selector is told so often.
const SILENCE: Duration = Duration::from_millis(500);
/// For so long a list is awaited. Then the present one goes on, and the other one is for a later segment.
const LIST_LIMIT: Duration = Duration::from_secs(2);

type Pinned<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What was told of a transfer.
pub(super) struct Told {
    at: Instant,
    bytes: u64,
    /// Whether anything was.
    is_any: bool,
}

impl Told {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            at: now,
            bytes: 0,
            is_any: false,
        }
    }

    /// What has gone by says nothing of the network.
    pub(super) fn leave_out(&mut self, now: Instant) {
        self.at = now;
    }
}

/// The driver's side of a choice.
#[derive(Default)]
pub(super) struct Chooser {
    pub(super) selector: Option<Box<dyn VariantSelector>>,
    began: Option<Instant>,
    /// Whether it has panicked.
    pub(super) is_broken: bool,
    survey: Option<Pinned<Option<Ladder>>>,
    loading: Option<Pinned<Loaded>>,
    loading_since: Option<Instant>,
    /// Whether bytes were told since the segment under way was last looked at.
    pub(super) has_sample: bool,
}

/// What is dropped without the lock.
pub(super) type Stopped = (Option<Pinned<Option<Ladder>>>, Option<Pinned<Loaded>>);

impl Chooser {
    /// Nobody chooses any more.
    pub(super) fn stop(&mut self) -> Stopped {
        (self.survey.take(), self.loading.take())
    }

    /// Whether lists are being looked for.
    pub(super) fn is_busy(&self) -> bool {
        self.survey.is_some() || self.loading.is_some()
    }

    /// Whether a stream chooses.
    pub(super) fn is_used(&self) -> bool {
        self.selector.is_some()
    }

    /// Calls the selector. `None` if there is none, or it panics: then there is none.
    pub(super) fn call<T>(&mut self, call: impl FnOnce(&mut dyn VariantSelector) -> T) -> Option<T> {
        let selector = self.selector.as_mut()?;
        let answer = catch_unwind(AssertUnwindSafe(|| call(selector.as_mut())));
        if answer.is_err() {
            log::error!("the variant selector has panicked: the variant streams stay");
            (self.selector, self.is_broken) = (None, true);
        }
        answer.ok()
    }

    pub(super) fn time(&self, now: Instant) -> Duration {
        self.began
            .map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
    }

    /// Tells of what has come of a transfer.
    pub(super) fn sample(&mut self, running: &mut Running, is_over: bool) {
        if self.selector.is_none() {
            return;
        }
        let now = Instant::now();
        let told = &mut running.told;
        let came = running.transfer.len();
        let bytes = came.saturating_sub(told.bytes);
        if bytes == 0 && !is_over && running.transfer.is_held_up() {
            told.leave_out(now);
            return;
        }
        let time = now.saturating_duration_since(told.at);
        let is_last = is_over && (bytes > 0 || told.is_any);
        if bytes == 0 && time < SILENCE && !is_last {
            return;
        }
        let waited = if told.bytes == 0 { time } else { Duration::ZERO };
        let sample = NetworkSample::new(self.time(now), bytes, time)
            .waited(waited)
            .last(is_over);
        *told = Told {
            at: now,
            bytes: came,
            is_any: true,
        };
        self.has_sample = true;
        self.call(|selector| selector.observe(&sample));
    }
}

/// What a selector is asked about, and which Variant Stream each of its answers is.
pub(super) struct Asked {
    pub(super) rungs: Rungs,
    pub(super) current: Option<usize>,
    pub(super) buffered: Duration,
    pub(super) segment: Duration,
    pub(super) remaining: Duration,
}

impl Asked {
    fn new(plan: &Plan, ladder: &Ladder, head: Head, now: Instant) -> Option<Self> {
        let track = plan.last_track()?;
        let present = track.facts().number;
        let rungs = ladder.rungs_at(head.time, present, plan.choosing == Choosing::Offline, now);
        let before = plan.before(head);
        Some(Self {
            current: before.and_then(|before| rungs.variants.iter().position(|other| *other == before)),
            rungs,
            buffered: plan.buffered(),
            segment: track.part(head.number)?.duration(),
            remaining: track.duration().saturating_sub(head.time),
        })
    }

    pub(super) fn situation(&self, look_ahead: &LookAhead, now: Duration) -> Situation<'_> {
        let params = &look_ahead.state.fetcher.params;
        Situation::new(now, &self.rungs.rungs)
            .current(self.current)
            .buffered(self.buffered)
            .look_ahead(params.reach.time)
            .segment(self.segment)
            .remaining(Some(self.remaining))
            .max_bit_rate(params.controls.max_bit_rate())
    }

    /// The Variant Stream that is meant: the nearest one, where the answer is none.
    pub(super) fn variant(&self, place: usize) -> Option<usize> {
        let last = self.rungs.variants.len().checked_sub(1)?;
        self.rungs.variants.get(place.min(last)).copied()
    }
}

/// What is to be done at a head.
enum Due {
    Survey(Arc<Track>, Option<Question>),
    Ask(Head, Asked),
}

impl Shared {
    fn due(&self, look_ahead: &LookAhead, now: Instant) -> Option<Due> {
        let reach = look_ahead.state.fetcher.params.reach;
        let mut plans = self.plans.iter().filter(|plan| plan.awaited.is_none());
        let (plan, head) = plans.find_map(|plan| Some((plan, plan.due(reach)?)))?;
        let track = plan.last_track()?;
        match &self.ladder {
            Some(ladder) if ladder.is_of(&look_ahead.state.fetcher, track) => {
                Some(Due::Ask(head, Asked::new(plan, ladder, head, now)?))
            }
            _ => {
                // Where the stream may not fetch nothing is known of its own list either.
                let is_copy = plan.choosing == Choosing::Offline;
                Some(Due::Survey(track.clone(), is_copy.then_some(Question::Playlists)))
            }
        }
    }
}

impl Driver {
    /// Decides what is to be decided. Whether anything was.
    pub(super) fn choose(&mut self, task: &mut Context<'_>, now: Instant) -> bool {
        let look_ahead = self.look_ahead.clone();
        let Some(make) = &look_ahead.state.fetcher.params.selector else {
            return false;
        };
        look_ahead.driver.register(task.waker());
        if self.chooser.selector.is_none() && !self.chooser.is_broken {
            let mut shared = look_ahead.lock();
            let (left, is_broken) = (shared.selector.take(), shared.is_selector_broken);
            drop(shared);
            // A clone of the app's.
            let new = || catch_unwind(AssertUnwindSafe(|| make())).ok();
            self.chooser.selector = left.or_else(|| if is_broken { None } else { new() });
            self.chooser.is_broken = self.chooser.selector.is_none();
            self.chooser.began = Some(look_ahead.began);
        }
        let mut has_chosen =
            self.poll_survey(task) | self.poll_loading(task, now) | self.go_on_without_list(now);
        loop {
            let shared = look_ahead.lock();
            let Some(due) = shared.due(&look_ahead, now) else {
                break;
            };
            drop(shared);
            match due {
                Due::Survey(track, question) => {
                    if self.chooser.survey.is_none() {
                        let state = look_ahead.state.clone();
                        let survey = async move { ladder::survey(&state.fetcher, &track, question).await };
                        self.chooser.survey = Some(Box::pin(survey));
                    }
                    if !self.poll_survey(task) {
                        break;
                    }
                }
                Due::Ask(head, asked) => self.ask(head, &asked, now),
            }
            has_chosen = true;
        }
        if has_chosen {
            self.tell_network();
        }
        has_chosen
    }

    /// What the app may remember of the network.
    fn tell_network(&mut self) {
        if let Some(Some(network)) = self.chooser.call(|selector| selector.network()) {
            self.look_ahead.state.fetcher.params.controls.set_network(network);
        }
    }

    /// Asks which Variant Stream the head's segment is taken from.
    fn ask(&mut self, head: Head, asked: &Asked, now: Instant) {
        let look_ahead = self.look_ahead.clone();
        let situation = asked.situation(&look_ahead, self.chooser.time(now));
        let has_any = !asked.rungs.rungs.is_empty();
        let answer = has_any.then(|| self.chooser.call(|selector| selector.next(&situation)));
        let chosen = answer.flatten().and_then(|place| asked.variant(place));
        self.take(head, chosen, now);
    }

    /// The head's segment is of this Variant Stream. `None`: of the one at hand.
    fn take(&mut self, head: Head, chosen: Option<usize>, now: Instant) {
        let look_ahead = self.look_ahead.clone();
        let is_slow = self.is_list_slow(now);
        let mut shared = look_ahead.lock();
        let Shared { plans, ladder, .. } = &mut *shared;
        let plan = plans.iter_mut().find(|plan| plan.id == head.plan);
        // The stream may have jumped meanwhile: then it is asked again.
        let Some(plan) = plan.filter(|plan| plan.is_still_at(head)) else {
            return;
        };
        let Some(track) = plan.last_track().cloned() else {
            return;
        };
        let other = chosen.filter(|variant| *variant != track.facts().number);
        // Another stream may have gone over to another edition since.
        let is_of = |ladder: &&Ladder| ladder.is_of(&look_ahead.state.fetcher, &track);
        let ladder = ladder.as_ref().filter(is_of);
        let other = other.zip(ladder).map(|(variant, ladder)| {
            let known = ladder.known(variant);
            let list = known.map(|known| (known.track.clone(), known.question));
            // The copy plays meanwhile, as far as it goes.
            let is_copy = plan.choosing == Choosing::Offline || ladder.is_away(now);
            let list = list.map(|(list, question)| (list, question, question.is_none() || is_copy));
            (variant, list, ladder.master().clone())
        });
        match other {
            None => plan.choose(head, &track, None),
            Some((_, Some((list, question, true)), _)) => plan.choose(head, &list, question),
            Some(_) if is_slow => plan.choose(head, &track, None),
            Some((variant, list, master)) => {
                plan.awaited = Some((variant, head));
                drop(shared);
                let list = list.map(|(list, question, _)| (list, question));
                self.begin_loading(track, master, variant, list);
                return;
            }
        }
        let waiting = plan.take_waiting();
        drop(shared);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    fn poll_survey(&mut self, task: &mut Context<'_>) -> bool {
        let Some(survey) = &mut self.chooser.survey else {
            return false;
        };
        let Poll::Ready(found) = survey.as_mut().poll(task) else {
            return false;
        };
        self.chooser.survey = None;
        let mut shared = self.look_ahead.lock();
        if found.is_none() {
            // There is no list of them.
            for plan in &mut shared.plans {
                plan.choosing = Choosing::No;
            }
        }
        let old = found.and_then(|found| shared.ladder.replace(found));
        let waiting: Vec<_> = shared.plans.iter_mut().filter_map(Plan::take_waiting).collect();
        drop(shared);
        drop(old);
        for waiting in waiting {
            waiting.wake();
        }
        true
    }

    fn poll_loading(&mut self, task: &mut Context<'_>, now: Instant) -> bool {
        let Some(loading) = &mut self.chooser.loading else {
            return false;
        };
        let Poll::Ready((beside, variant, loaded, commits)) = loading.as_mut().poll(task) else {
            return false;
        };
        (self.chooser.loading, self.chooser.loading_since) = (None, None);
        self.begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(commits);
        let look_ahead = self.look_ahead.clone();
        if let Err(error) = &loaded {
            log::warn!("{error}: variant stream {variant} is not chosen");
        }
        let fetcher = &look_ahead.state.fetcher;
        let mut shared = look_ahead.lock();
        // The stream may have gone over to another edition or Rendition since.
        let is_of = |ladder: &&mut Ladder| ladder.is_of(fetcher, &beside);
        if let Some(ladder) = shared.ladder.as_mut().filter(is_of) {
            match loaded {
                Ok(track) if ladder.takes(fetcher, &track) => ladder.set_known(variant, track),
                Ok(_) => {}
                Err(error) => {
                    ladder.refuse(variant, now);
                    if error.is_unanswered() {
                        ladder.set_away(now);
                    }
                }
            }
        }
        let (mut heads, mut held) = (Vec::new(), Vec::new());
        for plan in &mut shared.plans {
            held.extend(plan.take_awaited_better(variant).map(|held| (plan.id, held)));
            if let Some((awaited, head)) = plan.awaited.take()
                && awaited == variant
            {
                heads.push(head);
            }
        }
        drop(shared);
        // What was chosen is taken, without asking once more.
        for head in heads {
            self.take_if_known(head, variant, now);
        }
        for (plan, held) in held {
            // Else it would be loaded once more, without end.
            if self.is_list_known(variant) {
                self.begin_better(plan, held, variant, now);
            }
        }
        true
    }

    fn is_list_known(&self, variant: usize) -> bool {
        let shared = self.look_ahead.lock();
        let known = shared.ladder.as_ref().and_then(|ladder| ladder.known(variant));
        known.is_some_and(|known| known.question.is_none())
    }

    fn take_if_known(&mut self, head: Head, variant: usize, now: Instant) {
        let is_known = {
            let shared = self.look_ahead.lock();
            let known = shared.ladder.as_ref().and_then(|ladder| ladder.known(variant));
            // A list that ends before this would be a false end.
            known.is_some_and(|known| known.question.is_none() && known.track.duration() > head.time)
        };
        if is_known {
            self.take(head, Some(variant), now);
        }
    }

    fn is_list_slow(&self, now: Instant) -> bool {
        let since = self.chooser.loading_since;
        since.is_some_and(|since| since + LIST_LIMIT <= now)
    }

    /// The present list goes on where another one does not come. Whether one was awaited.
    fn go_on_without_list(&mut self, now: Instant) -> bool {
        if !self.is_list_slow(now) {
            return false;
        }
        let mut shared = self.look_ahead.lock();
        let mut waiting = Vec::new();
        let mut has_any = false;
        for plan in &mut shared.plans {
            if let Some((_, head)) = plan.awaited.take()
                && plan.is_still_at(head)
                && let Some(track) = plan.last_track().cloned()
            {
                plan.choose(head, &track, None);
                waiting.extend(plan.take_waiting());
                has_any = true;
            }
        }
        drop(shared);
        for waker in waiting {
            waker.wake();
        }
        has_any
    }

    /// When the selector is to be told that no byte comes, or a list has not come in time.
    pub(super) fn next_sample(&self) -> Option<Instant> {
        let is_used = self.chooser.is_used();
        let told = self.running.iter().filter(|_| is_used);
        let silence = told.map(|running| running.told.at + SILENCE).min();
        let is_awaited = || {
            let shared = self.look_ahead.lock();
            shared.plans.iter().any(|plan| plan.awaited.is_some())
        };
        let since = self.chooser.loading_since.filter(|_| is_awaited());
        let list = since.map(|since| since + LIST_LIMIT);
        silence.into_iter().chain(list).min()
    }

    pub(super) fn begin_loading(
        &mut self,
        beside: Arc<Track>,
        master: Arc<MultivariantPlaylist>,
        variant: usize,
        copy: Option<(Arc<Track>, Option<Question>)>,
    ) {
        if self.chooser.loading.is_none() {
            let state = self.look_ahead.state.clone();
            let copy = copy.and_then(|(track, question)| Some((track, question?)));
            let loading = ladder::load(state, beside, master, variant, copy);
            self.chooser.loading = Some(Box::pin(loading));
            self.chooser.loading_since = Some(Instant::now());
        }
    }
}
