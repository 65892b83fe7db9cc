//! Asks the selector whether a held segment is fetched again from a better Variant Stream.

use std::{sync::Arc, time::Instant};

use super::{
    super::{selection::HeldSegment, track::Track},
    choosing::Asked,
    driver::Driver,
    ladder::Ladder,
    plan::{Held, Plan},
    shared::Shared,
    transfer::Transfer,
};

impl Driver {
    /// Asks whether a held segment is fetched again, while nothing else is. Whether one is begun.
    pub(super) fn improve(&mut self, now: Instant) -> bool {
        let is_free = self.running.is_empty() && !self.chooser.is_busy();
        // Without a cache nothing is held.
        if !self.chooser.is_used() || !is_free || !self.has_cache() {
            return false;
        }
        let look_ahead = self.look_ahead.clone();
        let mut shared = look_ahead.lock();
        let gone = shared.settle(now);
        let mut questions = Vec::new();
        let Shared { plans, ladder, .. } = &mut *shared;
        let reach = look_ahead.state.fetcher.params.reach;
        for plan in plans.iter_mut().filter(|plan| plan.may_improve(reach, now)) {
            let is_of = |ladder: &&Ladder| {
                let last = plan.last_track();
                last.is_some_and(|track| ladder.is_of(&look_ahead.state.fetcher, track))
            };
            let question = ladder
                .as_ref()
                .filter(is_of)
                .and_then(|ladder| question(plan, ladder, now));
            questions.extend(question.map(|(asked, held)| (plan.id, asked, held)));
            plan.set_asked_to_improve();
        }
        drop(shared);
        drop(gone);
        let mut has_begun = false;
        for (plan, asked, held) in questions {
            let situation = asked.situation(&look_ahead, self.chooser.time(now));
            let (held, segments): (Vec<_>, Vec<_>) = held.into_iter().unzip();
            let answer = self
                .chooser
                .call(|selector| selector.improve(&situation, &segments))
                .flatten();
            let answer = answer.and_then(|answer| {
                let held = held.into_iter().nth(answer.segment)?;
                Some((held, *asked.rungs.variants.get(answer.rung)?))
            });
            if let Some((held, variant)) = answer.filter(|(held, variant)| *variant != held.variant()) {
                has_begun |= self.begin_better(plan, held, variant, now);
            }
        }
        has_begun
    }

    /// Fetches a held segment from this Variant Stream, when its list is there. Whether anything is begun.
    pub(super) fn begin_better(&mut self, plan: u64, held: Held, variant: usize, now: Instant) -> bool {
        let look_ahead = self.look_ahead.clone();
        let mut shared = look_ahead.lock();
        // Another stream may have gone over to another edition since.
        let is_of = |ladder: &&Ladder| ladder.is_of(&look_ahead.state.fetcher, held.track());
        let Some(ladder) = shared.ladder.as_ref().filter(is_of) else {
            return false;
        };
        let known = ladder.known(variant);
        let list = known.map(|known| (known.track.clone(), known.question));
        let Some((list, None)) = list else {
            let master = ladder.master().clone();
            let track = held.track().clone();
            let is_free = !self.chooser.is_busy();
            let plan = shared.plan(plan).filter(|_| is_free);
            let is_awaited = plan.map(|plan| plan.await_better(held, variant)).is_some();
            drop(shared);
            if is_awaited {
                self.begin_loading(track, master, variant, list);
            }
            return is_awaited;
        };
        let Some((section, number)) = held.in_list(&list) else {
            return false;
        };
        let (mut transfers, mut begun) = (Vec::new(), Vec::new());
        for part in section.into_iter().chain([number]) {
            let Some(media) = list.part(part).and_then(|part| part.media.clone()) else {
                return false;
            };
            // Another stream may have it on its way.
            let transfer = shared.transfer(&media).unwrap_or_else(|| {
                let transfer = Arc::new(Transfer::new(media, true, false));
                begun.push((list.clone(), part, transfer.clone()));
                transfer
            });
            transfers.push(transfer);
        }
        let Some(plan) = shared.plan(plan) else {
            return false;
        };
        plan.set_better(held, list, number, transfers);
        drop(shared);
        for (track, number, transfer) in begun {
            transfer.begin();
            self.begin(track, number, transfer, now);
        }
        true
    }
}

/// What a selector is asked about what comes next, and what is held.
fn question(plan: &Plan, ladder: &Ladder, now: Instant) -> Option<(Asked, Vec<(Held, HeldSegment)>)> {
    let last = plan.last_track()?;
    let (heard, held) = (plan.heard(), plan.held());
    let first = held.first()?;
    let mut rungs = ladder.rungs_at(first.time, first.variant(), false, now);
    // One that is cut otherwise cannot stand in, and would be the answer again and again.
    rungs.retain(|variant| {
        let is_held = held.iter().any(|held| held.variant() == variant);
        let fits = |list: &Track| held.iter().any(|held| held.in_list(list).is_some());
        is_held || ladder.known(variant).is_none_or(|known| fits(&known.track))
    });
    let rung_of = |variant: usize| rungs.variants.iter().position(|other| *other == variant);
    let segment = held.last().map(|held| held.duration).unwrap_or_default();
    let held = held.into_iter().filter_map(|held| {
        let rung = rung_of(held.variant())?;
        let segment = HeldSegment::new(rung, held.duration, held.time.saturating_sub(heard));
        Some((held, segment))
    });
    let held = held.collect();
    let asked = Asked {
        current: rung_of(last.facts().number),
        buffered: plan.buffered(),
        segment,
        remaining: plan.remaining(),
        rungs,
    };
    Some((asked, held))
}
