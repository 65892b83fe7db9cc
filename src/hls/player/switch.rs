//! The change to the Variant Stream that the app asks for.

use std::sync::Arc;

use super::{
    super::{
        fetch::Ask,
        load::{self, Load},
        track::Track,
    },
    Player,
};

impl Player {
    /// Goes over to the Variant Stream that the app wants, if a segment begins with this part. Whether it did.
    pub(super) async fn switch(&mut self, track: &Arc<Track>, number: usize) -> bool {
        let Some(wanted) = self.state.fetcher.params.controls.variant() else {
            return false;
        };
        let master = track
            .master()
            .filter(|master| wanted < master.variants.len())
            .cloned();
        let (Some(master), false) = (master, wanted == track.facts().number) else {
            return false;
        };
        // Not while it is not known whether the list is the server's still: the other one would be of another edition.
        let is_bound = self.only.is_some() || self.announcer.is_skipping() || self.is_copy_only();
        if is_bound || self.refused_variant == Some(wanted) || !is_start_of_segment(track, number) {
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
                self.refused_variant = Some(wanted);
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
                self.refused_variant = Some(wanted);
                false
            }
        }
    }
}

/// Whether nothing of the segment has been read: neither its own bytes nor the section before them.
fn is_start_of_segment(track: &Track, number: usize) -> bool {
    let part = |number: usize| track.part(number);
    let before = number.checked_sub(1).and_then(part);
    match (before, part(number)) {
        (Some(before), Some(here)) => !before.is_section() || before.time() != here.time(),
        _ => true,
    }
}
