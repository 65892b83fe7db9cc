//! The change to another Variant Stream: the one that the app asks for, or that its selector has chosen.

use std::sync::Arc;

use super::{
    super::{
        fetch::Ask,
        load::{self, Load},
        look_ahead::{Choosing, Follow},
        track::Track,
        variants,
    },
    Player,
};

impl Player {
    /// Whether positions in bytes are those of one Variant Stream: for a reader, and until a byte that was looked for is given
    /// out.
    fn is_bound(&self) -> bool {
        let is_sought = self.announcer.from > 0 && !self.announcer.has_begun();
        self.only.is_some() || self.announcer.is_skipping() || is_sought
    }

    /// Whether a selector chooses what comes next.
    pub(super) fn choosing(&self, track: &Track) -> Choosing {
        let params = &self.state.fetcher.params;
        let is_chosen = params.selector.is_none() || params.controls.variant().is_some();
        if is_chosen || self.is_bound() || track.master().is_none() {
            Choosing::No
        } else if self.is_offline || self.is_copy_only() {
            Choosing::Offline
        } else {
            Choosing::Online
        }
    }

    /// Goes over to the Variant Stream that the selector has chosen, if a segment begins with this part. Whether it did.
    pub(super) async fn follow(&mut self, track: &Arc<Track>, number: usize) -> bool {
        let choosing = self.choosing(track);
        let is_switched = self.switched_at.take() == Some(number);
        // Where the segment was given up behind its section that is the place, and no start.
        let is_place = is_switched || track.is_start_of_segment(number) || self.place.ends_at(number);
        if choosing == Choosing::No || !is_place {
            return false;
        }
        let at = self.at();
        self.place.set(track, at, choosing);
        match self.place.follow(at.position).await {
            Follow::Stay => false,
            Follow::Change(list, question) => {
                self.go_over(list, question);
                true
            }
        }
    }

    /// Goes over to the Variant Stream that the app wants, if a segment begins with this part. Whether it did.
    pub(super) async fn switch(&mut self, track: &Arc<Track>, number: usize) -> bool {
        let Some(master) = track.master().cloned() else {
            return false;
        };
        let fetcher = &self.state.fetcher;
        let chosen = fetcher.params.controls.variant();
        let wanted = chosen.unwrap_or(track.facts().number);
        let Some(variant) = master.variants.get(wanted) else {
            return false;
        };
        let rendition = variants::separate_audio(fetcher, &master, variant);
        let rendition = rendition.map(|(rendition, _)| rendition.name.clone());
        // Of what the app has not chosen nothing is changed.
        let is_other_rendition =
            fetcher.params.controls.rendition().is_some() && rendition != track.facts().rendition;
        let wanted_both = Some((wanted, rendition));
        if wanted == track.facts().number && !is_other_rendition || self.refused_variant == wanted_both {
            return false;
        }
        // Not while it is not known whether the list is the server's still: the other one would be of another edition.
        let is_bound = self.is_bound() || self.is_copy_only();
        if is_bound || !track.is_start_of_segment(number) {
            return false;
        }
        let load = Load {
            ask: Ask::Cache,
            edition: track.edition(),
            variant: None,
        };
        let state = self.state.clone();
        match load::variant(&state.fetcher, &mut self.context, load, &master, wanted).await {
            Ok(loaded) if self.is_offline && !load::is_whole(&state.fetcher, &loaded.track).await => {
                log::warn!("offline, variant stream {wanted} is not whole: the one that plays stays");
                self.refused_variant = wanted_both;
                false
            }
            Ok(loaded) => {
                self.refused_variant = None;
                self.change_variant(loaded).await;
                true
            }
            // The one that plays is no worse for it.
            Err(error) => {
                log::warn!("{error}: the variant stream stays");
                self.refused_variant = wanted_both;
                false
            }
        }
    }
}
