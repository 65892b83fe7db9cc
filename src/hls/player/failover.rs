//! What plays in the place of a part that is not to be had.
//!
//! ```text
//!   the same URL again, a new URL      done before this (H14, H9)
//!     │ fails
//!     ▼
//!   a redundant Variant Stream ─▶ another one ─▶ a gap, if the app allows one ─▶ the error
//! ```
//!
//! What goes on is the segment of the same time. It stays with that Variant Stream; a seek begins with the one that was chosen.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        HlsError, MissingSegment,
        editions::{self, Asking, Question},
        fetch::Ask,
        load::{self, Load, Loaded},
        playlist::MultivariantPlaylist,
        timeline::Timeline,
        track::Track,
        variants,
    },
    Currency, Player,
};

/// What a part has failed with, and what was tried.
pub(super) struct Lost {
    /// The first failure: the others are of what was tried instead.
    error: HlsError,
    tried: Vec<usize>,
}

fn is_same_host(one: &Track, other: &Track) -> bool {
    let host = |track: &Track| {
        let url = &track.media().next()?.locator.url;
        Some((url.host_str()?.to_owned(), url.port_or_known_default()))
    };
    host(one) == host(other)
}

impl Player {
    /// Finds what else can play. `Ok` means that the stream goes on.
    pub(super) async fn fail_over(&mut self, error: HlsError) -> Result<(), HlsError> {
        // Positions in bytes are those of one Variant Stream: while a byte is looked for, and for a reader, no other will do.
        let is_sought = self.announcer.is_skipping() && !self.announcer.has_begun();
        if !error.is_of_part() || self.is_offline || self.only.is_some() || is_sought {
            return Err(error);
        }
        let lost = self.lost.take();
        let is_first = lost.is_none();
        let mut lost = lost.unwrap_or(Lost {
            error,
            tried: Vec::new(),
        });
        // The server may have another edition by now, and of that no Variant Stream may follow this one without a word.
        if is_first && self.is_other_edition(&lost.error).await? {
            return Ok(());
        }
        let Some((track, time)) = self.timeline.as_ref().and_then(|timeline| {
            let track = timeline.track().clone();
            Some((track, timeline.instant()?))
        }) else {
            return Err(lost.error);
        };
        lost.tried.push(track.facts().number);
        self.place
            .refuse(track.facts().number, self.number(), lost.error.is_unanswered());
        let found = match track.master() {
            Some(master) => self.alternative(&mut lost, &track, master, time).await,
            None => None,
        };
        match found {
            Some(loaded) => {
                log::warn!("{}: another Variant Stream goes on", lost.error);
                self.lost = Some(lost);
                self.change_variant(loaded).await;
                Ok(())
            }
            None => self.leave_out(&track, lost.error),
        }
    }

    /// Asks whether the playlists are current. Where the server does not say it must be known from before.
    async fn is_other_edition(&mut self, error: &HlsError) -> Result<bool, HlsError> {
        let Some(track) = self.timeline.as_ref().map(|timeline| timeline.track().clone()) else {
            return Ok(false);
        };
        if let Err(failure) = self.ask_now(&track, Question::Playlists).await {
            log::info!("{failure}: whether the playlists are current is not known");
            return match self.currency {
                Currency::Known => Ok(false),
                _ => Err(error.clone()),
            };
        }
        (self.asking, self.currency) = (None, Currency::Known);
        let now = self.timeline.as_ref().map(Timeline::track);
        Ok(self.other.is_some() || now.is_none_or(|now| !now.is_same_list(&track)))
    }

    /// The best Variant Stream that was not tried and goes on at `time`.
    async fn alternative(
        &mut self,
        lost: &mut Lost,
        track: &Track,
        master: &Arc<MultivariantPlaylist>,
        time: Duration,
    ) -> Option<Loaded> {
        let state = self.state.clone();
        let chosen = lost.tried.first().copied().unwrap_or_default();
        let load = Load {
            ask: Ask::Cache,
            edition: track.edition(),
            variant: None,
        };
        for index in variants::alternatives(&state.fetcher, master, chosen) {
            if lost.tried.contains(&index) {
                continue;
            }
            match load::variant(&state.fetcher, &mut self.context, load, master, index).await {
                Ok(loaded) => {
                    // Several may lead to one list. A list that ends before this would be a false end. Where a host is away
                    // all that it has is away, but for what the cache has.
                    let is_same = loaded.track.playlist() == track.playlist();
                    let is_over = loaded.track.duration() <= time;
                    let is_away = lost.error.is_unanswered() && is_same_host(&loaded.track, track);
                    let is_there = is_away && load::is_cached_at(&state.fetcher, &loaded.track, time).await;
                    if !is_same && !is_over && (!is_away || is_there) {
                        return Some(loaded);
                    }
                }
                Err(failure) => log::info!("{failure}: no Variant Stream to go on with"),
            }
            lost.tried.push(index);
        }
        None
    }

    pub(super) async fn change_variant(&mut self, loaded: Loaded) {
        let question = editions::question(&self.state.fetcher, &loaded).await;
        self.go_over(Arc::new(loaded.track), question);
        self.place.leave();
    }

    /// Goes on in another list. What is fetched ahead stays.
    pub(super) fn go_over(&mut self, track: Arc<Track>, question: Option<Question>) {
        let question = question.filter(|_| !self.is_offline);
        self.has_changed_variant = true;
        let asking = question.map(|question| editions::renew(self.state.clone(), track.clone(), question));
        self.currency = match asking {
            Some(_) => Currency::Asking { again: false },
            None => Currency::Known,
        };
        self.asking = asking.map(|asking| Box::pin(asking) as Asking);
        self.close_part();
        (self.renewed_for, self.contradicted_for, self.decrypted_anew) = (None, None, None);
        if let Some(timeline) = &mut self.timeline {
            timeline.change(track, false);
        }
        // The byte that was sought was found before this.
        self.announcer.stop_skipping();
        self.announcer.change_variant();
    }

    /// Leaves the part out, if the app allows that. A section cannot be left out: what follows it needs it.
    fn leave_out(&mut self, track: &Track, error: HlsError) -> Result<(), HlsError> {
        let timeline = self.timeline.as_ref();
        let number = timeline.filter(|timeline| !timeline.is_section_of_later_part());
        let part = number.and_then(|timeline| track.part(timeline.number()));
        let part = part.filter(|part| !part.is_section());
        let Some(part) = part.filter(|_| self.state.fetcher.params.missing_segment == MissingSegment::Gap)
        else {
            return Err(error);
        };
        log::warn!("{error}: left out");
        self.close_part();
        self.announcer.left_out(track, part);
        self.go_on();
        Ok(())
    }

    fn close_part(&mut self) {
        (self.open, self.interrupted) = (None, None);
    }
}
