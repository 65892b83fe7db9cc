//! What a stream does when the playlists that it plays from turn out to be old: they are loaded again, or another edition goes
//! on.

use std::sync::Arc;

use super::{
    super::{
        HlsError, NewEdition, Resource, ResourceKind,
        editions::{self, Question, Renewed},
        part_reader::PartReader,
        source_state::Start,
        timeline::Timeline,
        track::Track,
    },
    Player,
};

impl Player {
    /// Takes what the server has by now.
    pub(super) fn take_renewed(&mut self, renewed: Renewed) {
        let Some(timeline) = &mut self.timeline else {
            return;
        };
        match renewed {
            Renewed::Same(track) => timeline.renew(track),
            Renewed::Other { track, is_old_kept } if is_old_kept || self.announcer.has_begun() => {
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

    /// The cache lacks the next part: the other edition goes on, or the question whether there is one is awaited.
    pub(super) fn leave_copy(&mut self) -> Result<(), HlsError> {
        let Some(timeline) = &mut self.timeline else {
            return Ok(());
        };
        let Some(track) = self.other.take() else {
            timeline.hold();
            return Ok(());
        };
        if self.state.fetcher.params.new_edition == NewEdition::Refuse {
            let resource = Resource::new(ResourceKind::Playlist, &self.state.fetcher.url);
            return Err(HlsError::EditionChanged { resource });
        }
        self.state.change(&track);
        // A byte position is one of the old edition, and what lies before it is of no use to find it in the new one.
        let is_skipping = self.announcer.is_skipping();
        timeline.change(track.clone(), is_skipping);
        if is_skipping {
            self.announcer.position = 0;
        }
        self.announcer.change_edition(track.part(timeline.playing()));
        self.renewed_for = None;
        self.ahead = None;
        Ok(())
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
        if !error.is_refused() || self.context.is_offline || !is_first {
            return Err(error);
        }
        log::info!("{error}: the playlists are loaded again");
        // Another stream of the source may have done so.
        let known = self.state.known_track();
        if let Some(known) = known.filter(|known| !Arc::ptr_eq(known, track) && known.is_same_list(track)) {
            self.take_renewed(Renewed::Same(known));
            return Ok(());
        }
        let (renewed, begun) = editions::renew(self.state.clone(), track.clone(), Question::Playlists).await;
        self.context.commits.append(begun);
        match renewed {
            Ok(renewed) => {
                self.take_renewed(renewed);
                Ok(())
            }
            Err(failure) => {
                log::info!("{failure}: the playlists are not to be had either");
                Err(error)
            }
        }
    }

    /// Goes on with a part that was refused in its middle, under its new URL.
    pub(super) async fn read_on(&mut self, mut part: PartReader) -> Result<(), HlsError> {
        // Another edition goes on at the start of this part: what of it was heard is heard again.
        if self.other.is_some() {
            return self.leave_copy();
        }
        let number = self.number();
        let track = self.timeline.as_ref().map(Timeline::track);
        let media = track.and_then(|track| track.part(number)?.media.clone());
        if let Some(media) = media {
            part.renew(&self.state.fetcher, &mut self.context, &media).await?;
            self.open = Some(part);
        }
        Ok(())
    }

    /// The track was read to its end: what is whole by now is noted, and an edition that is takes the place of the old one.
    pub(super) async fn settle(&mut self) {
        let track = self.timeline.as_ref().map(|timeline| timeline.track().clone());
        // Only where each part has been read: else the cache would be asked for nothing.
        let Some(track) = track.filter(|track| track.is_known_whole() && !self.context.is_offline) else {
            return;
        };
        editions::settle(&self.state, &mut self.context, &track, false).await;
        self.commits.append(std::mem::take(&mut self.context.commits));
    }
}
