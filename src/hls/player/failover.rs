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

use std::sync::Arc;

use super::{
    super::{
        HlsError, MissingSegment,
        editions::{self, Question},
        fetch::Ask,
        load::{self, Load, Loaded},
        timeline::Timeline,
        track::Track,
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
        let track = self.timeline.as_ref().map(|timeline| timeline.track().clone());
        // Positions in bytes are those of one Variant Stream: while a byte is looked for, and for a reader, no other will do.
        let is_fixed = self.is_offline || self.only.is_some() || self.announcer.is_skipping();
        let Some(track) = track.filter(|_| error.is_of_part() && !is_fixed) else {
            return Err(error);
        };
        let mut lost = self.lost.take().unwrap_or(Lost {
            error,
            tried: Vec::new(),
        });
        lost.tried.push(track.facts().number);
        let mut found = None;
        if let Some(master) = track.master() {
            let chosen = lost.tried.first().copied().unwrap_or_default();
            for index in master.alternatives(chosen, self.state.fetcher.params.is_redundant_only()) {
                if lost.tried.contains(&index) {
                    continue;
                }
                let load = Load {
                    ask: Ask::Cache,
                    edition: track.edition(),
                    variant: None,
                };
                match load::variant(&self.state.fetcher, &mut self.context, load, master, index).await {
                    // Where the host is away another Variant Stream on it is away too.
                    Ok(loaded) if lost.error.is_unanswered() && is_same_host(&loaded.track, &track) => {
                        lost.tried.push(index);
                    }
                    Ok(loaded) => {
                        found = Some(loaded);
                        break;
                    }
                    Err(failure) => {
                        log::info!("{failure}: no Variant Stream to go on with");
                        lost.tried.push(index);
                    }
                }
            }
        }
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

    async fn change_variant(&mut self, loaded: Loaded) {
        let track = Arc::new(loaded.track);
        let is_asked = loaded.needs_check
            || (loaded.is_new && editions::is_something_kept(&self.state.fetcher, &track).await);
        if is_asked {
            let question = if loaded.needs_check {
                Question::Playlists
            } else {
                Question::Files
            };
            self.asking = Some(Box::pin(editions::renew(
                self.state.clone(),
                track.clone(),
                question,
            )));
            self.currency = Currency::Asking { again: false };
        }
        (self.open, self.ahead, self.stalled) = (None, None, None);
        (self.renewed_for, self.contradicted_for, self.decrypted_anew) = (None, None, None);
        if let Some(timeline) = &mut self.timeline {
            timeline.change(track, false);
        }
        self.announcer.change_variant();
    }

    /// Leaves the part out, if the app allows that.
    fn leave_out(&mut self, track: &Track, error: HlsError) -> Result<(), HlsError> {
        let number = self.timeline.as_ref().map_or(0, Timeline::playing);
        let part = track.part(number).filter(|part| !part.is_section());
        let Some(part) = part.filter(|_| self.state.fetcher.params.missing_segment == MissingSegment::Gap)
        else {
            return Err(error);
        };
        log::warn!("{error}: left out");
        (self.open, self.ahead, self.stalled) = (None, None, None);
        self.announcer.left_out(track, part);
        self.go_on();
        Ok(())
    }
}
