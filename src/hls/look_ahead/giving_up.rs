//! Asks the selector about the segment under way: whether it goes on, or another Variant Stream's comes in its place.

use std::{mem, sync::Arc, time::Instant};

use super::{
    super::{fetch::Fetcher, selection::SegmentTransfer},
    choosing::Asked,
    driver::Driver,
    plan::{Choosing, Plan, UnderWay},
    shared::Shared,
};

impl Shared {
    /// The segment under way, and what a selector is asked about it.
    fn under_way(&self, plan: &Plan, fetcher: &Fetcher, now: Instant) -> Option<(UnderWay, Asked)> {
        let under_way = plan.under_way().filter(|found| !found.transfer.is_held_up())?;
        let ladder = self
            .ladder
            .as_ref()
            .filter(|ladder| ladder.is_of(fetcher, &under_way.track))?;
        let rungs = ladder.rungs_at(under_way.time, under_way.track.facts().number, false, now);
        let place = |before| rungs.variants.iter().position(|other| *other == before);
        let asked = Asked {
            current: under_way.before.and_then(place),
            rungs,
            buffered: plan.buffered(),
            segment: under_way.duration(),
            remaining: under_way.track.duration().saturating_sub(under_way.time),
        };
        Some((under_way, asked))
    }
}

impl Driver {
    /// Gives up the segment under way, if the selector wants another one in its place. Whether it did.
    pub(super) fn give_up_segment(&mut self, now: Instant) -> bool {
        if !mem::take(&mut self.chooser.has_sample) {
            return false;
        }
        let look_ahead = self.look_ahead.clone();
        let shared = look_ahead.lock();
        let choosing = shared
            .plans
            .iter()
            .filter(|plan| plan.choosing == Choosing::Online);
        let under_way: Vec<_> = choosing
            .filter_map(|plan| shared.under_way(plan, &look_ahead.state.fetcher, now))
            .collect();
        drop(shared);
        let mut has_given_up = false;
        for (under_way, asked) in under_way {
            let running = self.running.iter();
            let mut running = running.filter(|running| Arc::ptr_eq(&running.transfer, &under_way.transfer));
            let Some(since) = running.next().map(|running| running.since) else {
                continue;
            };
            let present = under_way.track.facts().number;
            let Some(rung) = asked
                .rungs
                .variants
                .iter()
                .position(|variant| *variant == present)
            else {
                continue;
            };
            let transfer = SegmentTransfer::new(rung, under_way.duration())
                .received(under_way.transfer.len())
                .size(under_way.size())
                .elapsed(now.saturating_duration_since(since));
            let situation = asked.situation(&look_ahead, self.chooser.time(now));
            let answer = self
                .chooser
                .call(|selector| selector.give_up(&situation, &transfer));
            let instead = answer.flatten().and_then(|place| asked.variant(place));
            if let Some(variant) = instead.filter(|variant| *variant != present) {
                has_given_up |= self.replace(&under_way, variant);
            }
        }
        has_given_up
    }

    /// Takes the segment under way from another Variant Stream, if its list is known. Else it is loaded, and the selector is
    /// asked again meanwhile.
    fn replace(&mut self, under_way: &UnderWay, variant: usize) -> bool {
        let look_ahead = self.look_ahead.clone();
        let mut shared = look_ahead.lock();
        let Some(ladder) = &shared.ladder else {
            return false;
        };
        let known = ladder.known(variant);
        let list = known.map(|known| (known.track.clone(), known.question));
        let Some((list, None)) = list else {
            let master = ladder.master().clone();
            drop(shared);
            self.begin_loading(under_way.track.clone(), master, variant, list);
            return false;
        };
        // Another stream may read it, or want it.
        let mut others = shared.plans.iter().filter(|plan| plan.id != under_way.plan);
        let is_wanted = |plan: &Plan| {
            let mut transfers = plan.transfers();
            transfers.any(|transfer| Arc::ptr_eq(transfer, &under_way.transfer))
        };
        if others.any(is_wanted) {
            return false;
        }
        let Some(plan) = shared.plan(under_way.plan) else {
            return false;
        };
        // The stream may have gone on meanwhile.
        let Some(place) = plan.place_of(under_way) else {
            return false;
        };
        // Its readers follow.
        let Some(readers) = under_way.transfer.switch() else {
            return false;
        };
        let gone = plan.replace(place, under_way, &list);
        let waiting = plan.take_waiting();
        drop(shared);
        drop(gone);
        for waiting in readers.into_iter().chain(waiting) {
            waiting.wake();
        }
        true
    }
}
