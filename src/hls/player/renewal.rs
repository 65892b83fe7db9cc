//! What a stream does when the playlists that it plays from turn out to be old: they are loaded again, or another edition goes
//! on.

use std::sync::Arc;

use super::{
    super::{
        HlsError, NewEdition, Resource, ResourceKind, completeness,
        editions::{self, Question, Renewed},
        open_part::OpenPart,
        source_state::Start,
        track::Track,
    },
    Currency, Player,
};

impl Player {
    /// Takes what the server has by now.
    pub(super) fn take_renewed(&mut self, renewed: Renewed) {
        let Some(timeline) = &mut self.timeline else {
            return;
        };
        match renewed {
            Renewed::Same(track) => timeline.renew(track),
            Renewed::Other { track, is_old_kept }
                if is_old_kept || self.announcer.has_begun() || self.only.is_some() =>
            {
                self.other = Some(track);
            }
            // Nothing of the old one was heard, and nothing of it is there to be heard.
            Renewed::Other { track, .. } => {
                self.state.change(&track);
                let is_by_time = matches!(self.start, Start::Time(_));
                timeline.change(track, !is_by_time);
                self.announcer.position = 0;
            }
        }
    }

    /// Whether only what the cache has may be played: it is not known whether the server has the same edition, or it is known
    /// to have another.
    pub(super) fn is_copy_only(&self) -> bool {
        let is_known = matches!(self.currency, Currency::Known);
        !self.is_offline && (!is_known || self.other.is_some())
    }

    /// Whether an error says no more than that the cache lacks something, which the server may have.
    pub(super) fn is_only_missing(&self, error: &HlsError) -> bool {
        !self.is_offline && self.is_copy_only() && error.is_offline_miss()
    }

    /// The server has answered, or not.
    pub(super) fn answered(&mut self, answer: Result<Renewed, HlsError>) {
        let again = matches!(self.currency, Currency::Asking { again: true });
        self.currency = match answer {
            Ok(renewed) => {
                self.take_renewed(renewed);
                Currency::Known
            }
            // The copy plays on, as far as it goes.
            Err(error) => {
                log::info!("{error}: whether the playlists are current is not known");
                Currency::Unanswered { again, error }
            }
        };
    }

    /// Asks the server while nothing plays.
    pub(super) async fn ask_now(&mut self, track: &Arc<Track>, question: Question) -> Result<(), HlsError> {
        let (renewed, begun) = editions::renew(self.state.clone(), track.clone(), question).await;
        self.context.commits.append(begun);
        self.take_renewed(renewed?);
        Ok(())
    }

    /// The cache lacks the next part: the other edition goes on, or the question whether there is one is awaited.
    pub(super) fn leave_copy(&mut self) -> Result<(), HlsError> {
        let Some(timeline) = &mut self.timeline else {
            return Ok(());
        };
        let Some(track) = self.other.take() else {
            match std::mem::replace(&mut self.currency, Currency::Known) {
                // Once more, as it is needed now: the server may have recovered.
                Currency::Unanswered { again: false, .. } => {
                    let (state, track) = (self.state.clone(), timeline.track().clone());
                    self.asking = Some(Box::pin(editions::renew(state, track, Question::Playlists)));
                    self.currency = Currency::Asking { again: true };
                }
                Currency::Unanswered { again: true, error } => return Err(error),
                asking => self.currency = asking,
            }
            timeline.hold();
            return Ok(());
        };
        if self.state.fetcher.params.new_edition == NewEdition::Refuse || self.only.is_some() {
            return Err(self.other_edition());
        }
        self.state.change(&track);
        self.currency = Currency::Known;
        // What of it was heard is heard again: the other one goes on at the start of this part.
        if self.interrupted.take().is_some_and(|part| part.is_announced) {
            self.announcer.stop_skipping();
        }
        // A byte position is one of the old edition, and what lies before it is of no use to find it in the new one.
        let is_skipping = self.announcer.is_skipping();
        timeline.change(track.clone(), is_skipping);
        if is_skipping {
            self.announcer.position = 0;
        }
        self.announcer.change_edition(track.part(timeline.playing()));
        (self.renewed_for, self.contradicted_for) = (None, None);
        Ok(())
    }

    /// The error that another edition is where it may not play.
    pub(super) fn other_edition(&self) -> HlsError {
        HlsError::EditionChanged {
            resource: Resource::new(ResourceKind::Playlist, &self.state.fetcher.url),
        }
    }

    /// Loads the playlists again, because what they name was refused: its URL may have expired (fault W4). `Ok` means that
    /// the stream goes on.
    pub(super) async fn load_again(
        &mut self,
        track: &Arc<Track>,
        number: usize,
        error: HlsError,
    ) -> Result<(), HlsError> {
        // Once for each part. What is refused under its new URL too is not to be had.
        let is_first = self.renewed_for.replace(number) != Some(number);
        if !error.is_refused() || self.is_offline || !is_first {
            return Err(error);
        }
        log::info!("{error}: the playlists are loaded again");
        // Another stream of the source may have done so.
        let known = self.state.known_track();
        if let Some(known) = known.filter(|known| !Arc::ptr_eq(known, track) && known.is_same_list(track)) {
            self.take_renewed(Renewed::Same(known));
            return Ok(());
        }
        match self.ask_now(track, Question::Refused).await {
            Ok(()) => Ok(()),
            Err(failure) => {
                log::info!("{failure}: the playlists are not to be had either");
                Err(error)
            }
        }
    }

    /// Goes on with a part that was refused in its middle, or that the cache had no more of: under the URL that it has by now.
    pub(super) async fn read_on(&mut self, mut part: OpenPart) -> Result<(), HlsError> {
        if self.other.is_some() {
            self.interrupted = Some(part);
            return self.leave_copy();
        }
        let number = self.number();
        let Some(track) = self.timeline.as_ref().map(|timeline| timeline.track().clone()) else {
            return Ok(());
        };
        let media = track.part(number).and_then(|part| part.media.clone());
        // In another list, of which nothing was heard, the part of this number is another one: it is opened anew.
        let Some(media) = media.filter(|media| part.is_of(media)) else {
            return Ok(());
        };
        match self.input(&track, number, &media).await {
            Ok(input) => {
                part.go_on(media, input);
                self.open = Some(part);
            }
            Err(error) if error.is_refused() => {
                self.load_again(&track, number, error).await?;
                self.interrupted = Some(part);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The track was read to its end: what is whole by now is noted, and an edition that is takes the place of the old one.
    pub(super) async fn settle(&mut self) {
        let track = self.timeline.as_ref().map(|timeline| timeline.track().clone());
        // Only where each part has been read: else the cache would be asked for nothing.
        let Some(track) = track.filter(|track| track.is_known_whole() && !self.is_offline) else {
            return;
        };
        editions::settle(&self.state, &mut self.context, &track, false).await;
        self.commits.append(std::mem::take(&mut self.context.commits));
        if completeness::is_kept(&self.state.fetcher, &track).await {
            self.announcer.cached();
        }
    }
}
