//! One opened stream: parts read one after another, decrypted, announced, and cut to where the seek begins.
//!
//! # The read loop
//!
//! ```text
//!   message() ◀───────────────────────────────┐
//!     │ queue has a message: give it out      │
//!     ▼ queue is empty                        │
//!   step ─┬─ no track yet: load the playlists │
//!         │                                   │
//!         ├─ no part open: advance            │
//!         │    gap            ─▶ tell it      │
//!         │    before `from`  ─▶ skip it, if its length is known
//!         │    else           ─▶ open it: the cache, or the look-ahead
//!         │                                   │
//!         └─ a part is open: read             │
//!              chunk ─▶ decrypt ─▶ cut to `from` ─▶ queue
//!              end   ─▶ check padding ─▶ commit ─▶ next part
//!     ▼                                       │
//!   at most 4 commits pending, damaged entries removed,
//!   one bypass told ──────────────────────────┘
//! ```
//!
//! What goes on beside a step is polled in the same poll of the consumer: the question whether the playlists are current, and
//! writes on their way to the disk. What the cache lacks comes through the [look-ahead](super::look_ahead), which goes on while
//! the consumer is busy. Dropping the player ends both.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

mod failover;
mod read;
mod renewal;
mod switch;

use self::failover::Lost;
use super::{
    HlsControl, HlsError,
    announcer::Announcer,
    editions::{self, Asking},
    fetch_context::FetchContext,
    local,
    look_ahead::{At, LookAhead, LookAheadPlace},
    open_part::{Input, OpenPart},
    part_reader::PartReader,
    pending_commits::{Bypassed, PendingCommits},
    source_state::{SourceState, Start},
    timeline::{Next, Timeline},
    track::{MediaResource, Track},
};
use crate::{
    cache::{CachePath, Lease},
    stream::Message,
};

/// How many commits may be pending before the stream waits for one. Each holds less than 256 KiB and one chunk of a body,
/// which is 512 KiB at most. Without the limit a fast network would fill the memory in front of a slow disk.
const MAX_COMMITS: usize = 4;

/// Whether the playlists that play are the server's own.
enum Currency {
    /// As far as is known.
    Known,
    /// The server is being asked; a second time, because the first answer did not come.
    Asking { again: bool },
    /// The answer did not come.
    Unanswered { again: bool, error: HlsError },
}

/// The state between two messages.
pub(super) struct Player {
    state: Arc<SourceState>,
    context: FetchContext,
    /// Cache writes that this stream has begun. Apart from `context`, so that they can be polled while a step borrows it.
    commits: PendingCommits,
    /// Entries to be removed: what they hold does not decrypt.
    damaged: Vec<CachePath>,
    start: Start,
    /// `None` before the track is found.
    timeline: Option<Timeline>,
    /// The track of which alone bytes may be given out, as positions in it are known.
    only: Option<Arc<Track>>,
    /// Whether the app wants no network.
    is_offline: bool,
    /// The question whether the playlists are current, between two steps.
    asking: Option<Asking>,
    currency: Currency,
    /// Whether the present step went over to another Variant Stream.
    has_changed_variant: bool,
    /// The part that was to come and is read from another Variant Stream.
    switched_at: Option<usize>,
    /// Another edition, which plays from the first byte on that the cache does not have of this one.
    other: Option<Arc<Track>>,
    /// The part for which the playlists were loaded again.
    renewed_for: Option<usize>,
    /// The part whose server contradicted what was known of it.
    contradicted_for: Option<usize>,
    /// A part that the cache does not have to its end. It goes on when it is known where.
    interrupted: Option<OpenPart>,
    open: Option<OpenPart>,
    /// Whether no byte has come for [`STALL`].
    is_stalled: bool,
    /// What the look-ahead is told.
    place: LookAheadPlace,
    /// The Variant Stream and the Rendition that the app wants, and whose playlist is not to be had.
    refused_variant: Option<(usize, Option<String>)>,
    /// The part that is not left to the look-ahead.
    fetches_itself: Option<usize>,
    /// The part that did not decrypt, and whose key was fetched anew.
    decrypted_anew: Option<usize>,
    /// What the part that plays has failed with.
    lost: Option<Lost>,
    announcer: Announcer,
    /// How the stream ended. The error is taken out when it is told; then `Ok` stays.
    ended: Option<Result<(), HlsError>>,
    /// Keeps the track from being evicted while it plays.
    _lease: Option<Lease>,
}

impl Player {
    pub(super) fn new(
        look_ahead: Arc<LookAhead>,
        start: Start,
        only: Option<Arc<Track>>,
        is_offline: bool,
    ) -> Self {
        let state = look_ahead.state().clone();
        let cache = state.fetcher.cache();
        let lease = cache.map(|cache| cache.lease(&state.fetcher.asset));
        Self {
            place: LookAheadPlace::new(look_ahead),
            state,
            context: FetchContext::new(is_offline),
            commits: PendingCommits::default(),
            damaged: Vec::new(),
            start,
            timeline: None,
            only,
            is_offline,
            asking: None,
            currency: Currency::Known,
            has_changed_variant: false,
            switched_at: None,
            other: None,
            renewed_for: None,
            contradicted_for: None,
            interrupted: None,
            is_stalled: false,
            open: None,
            refused_variant: None,
            fetches_itself: None,
            decrypted_anew: None,
            lost: None,
            announcer: Announcer::default(),
            ended: None,
            _lease: lease,
        }
    }

    /// Nothing that plays at this time or later is fetched ahead.
    pub(super) fn look_ahead_until(&mut self, time: Duration) {
        self.place.set_until(time);
    }

    /// The next message; `None` after the end or the error.
    pub(super) async fn message(&mut self) -> Option<Result<Message<HlsControl>, HlsError>> {
        loop {
            if let Some(message) = self.announcer.pop() {
                return Some(Ok(message));
            }
            // The error once, then the end for ever (S3).
            if let Some(end) = &mut self.ended {
                return std::mem::replace(end, Ok(())).err().map(Err);
            }
            let step = self.step_beside_commits().await;
            let is_over = !matches!(step, Ok(true));
            // The end comes after the last commit: an app that has seen it may go offline and find everything kept.
            // The same before a removal: a commit under way would put the entry back.
            let allowed = if is_over || !self.damaged.is_empty() {
                0
            } else {
                MAX_COMMITS
            };
            self.commits.wait_for_at_most(allowed).await;
            if allowed == 0 {
                self.place.flush().await;
            }
            for path in self.damaged.drain(..) {
                self.state.fetcher.remove_entry(&path).await;
                // Once more: until now another part may have taken it from the cache.
                self.state.fetcher.forget_key(&path);
            }
            if matches!(step, Ok(false)) {
                self.settle().await;
            }
            if is_over {
                // Connections close now, though the app may keep the ended stream for long.
                self.ended = Some(step.map(drop));
                (self.open, self.interrupted, self.asking) = (None, None, None);
            }
            // Not the first message, unless nothing plays.
            if (is_over || self.announcer.has_begun())
                && let Some(bypassed) = self.take_bypassed()
            {
                self.announcer.bypass(bypassed);
            }
            if is_over {
                self.place.leave();
            }
        }
    }

    /// Waits for what is on its way to the disk, where the stream is left before its end. The first failure of it.
    pub(super) async fn finish(mut self) -> Option<Bypassed> {
        self.commits.wait_for_at_most(0).await;
        self.place.flush().await;
        self.take_bypassed()
    }

    /// What is not kept, or not read from the cache, and was not told.
    fn take_bypassed(&mut self) -> Option<Bypassed> {
        let of_part = self.open.as_mut().and_then(OpenPart::take_bypassed);
        let failed = self.commits.take_failed();
        failed.or(of_part).or_else(|| self.place.take_bypassed())
    }

    /// One step, while the pending commits are polled, and the question whether the playlists are current.
    async fn step_beside_commits(&mut self) -> Result<bool, HlsError> {
        // Out of `self`, which the step borrows whole. A dropped call loses them: only the drop of the stream does that, as
        // nothing polls a player but the stream that owns it.
        let mut commits = std::mem::take(&mut self.commits);
        let mut asking = self.asking.take();
        let mut answer = None;
        let is_waiting = self.is_waiting();
        // What the cache has of a copy plays. What it has not is not fetched before the copy is known to be current: the
        // server may have another edition under the same URLs, and the two must not be mixed (fault W5).
        self.context.is_offline = self.is_offline || self.is_copy_only();
        let step = {
            let mut step = pin!(self.step());
            // Commits first. A step that is always ready, as one that reads the cache, must not starve them.
            poll_fn(|task| {
                commits.poll_all(task);
                if let Some(question) = &mut asking
                    && let Poll::Ready(renewal) = question.as_mut().poll(task)
                {
                    (asking, answer) = (None, Some(renewal));
                }
                if is_waiting {
                    return if asking.is_none() {
                        Poll::Ready(Ok(true))
                    } else {
                        Poll::Pending
                    };
                }
                step.as_mut().poll(task)
            })
            .await
        };
        commits.append(std::mem::take(&mut self.context.commits));
        self.commits = commits;
        // The answer is one about the Variant Stream that played before the step.
        if std::mem::take(&mut self.has_changed_variant) {
            (asking, answer) = (None, None);
        }
        // A step that has found the track has put its question there.
        self.asking = self.asking.take().or(asking);
        if let Some((renewed, begun)) = answer {
            self.commits.append(begun);
            self.answered(renewed);
        }
        if self.asking.is_none()
            && let Some(timeline) = &mut self.timeline
        {
            timeline.release();
        }
        step
    }

    /// Whether nothing can be done before it is known whether the playlists are current.
    fn is_waiting(&self) -> bool {
        let next = self.timeline.as_ref().map(Timeline::next);
        self.open.is_none() && next == Some(Next::Wait)
    }

    /// Up to one chunk's worth of work, or another source of the part that failed. Whether there is more.
    async fn step(&mut self) -> Result<bool, HlsError> {
        match self.work().await {
            Err(error) => self.fail_over(error).await.map(|()| true),
            done => done,
        }
    }

    async fn work(&mut self) -> Result<bool, HlsError> {
        let Some(timeline) = &self.timeline else {
            return self.find().await.map(|()| true);
        };
        let track = timeline.track().clone();
        let number = self.number();
        if self.switched_at == Some(number) && self.follow(&track, number).await {
            return Ok(true);
        }
        if let Some(part) = self.interrupted.take() {
            self.read_on(part).await?;
            return Ok(true);
        }
        if self.open.is_some() {
            self.read(&track).await?;
            return Ok(true);
        }
        let next = self.timeline.as_ref().map_or(Next::End, Timeline::next);
        match next {
            Next::Part(number) => {
                if !self.switch(&track, number).await && !self.follow(&track, number).await {
                    self.advance(&track, number).await?;
                }
            }
            Next::Wait => {}
            Next::End => return Ok(false),
        }
        Ok(true)
    }

    async fn find(&mut self) -> Result<(), HlsError> {
        let mut found = self.state.track(&mut self.context).await?;
        if let Some(only) = &self.only {
            if found.track.edition() != only.edition() {
                // It is the newer one, or a newer one was found since.
                let newest = found.next.take().unwrap_or(found.track);
                found.next = Some(newest).filter(|newest| newest.edition() != only.edition());
                (found.track, found.question) = (only.clone(), None);
            } else if !found.track.is_same_list(only) {
                return Err(self.other_edition());
            }
        }
        if let Some(question) = found.question.filter(|_| !self.is_offline) {
            let asking = editions::renew(self.state.clone(), found.track.clone(), question);
            self.asking = Some(Box::pin(asking));
            self.currency = Currency::Asking { again: false };
        }
        if let Start::Byte(position) = self.start {
            self.announcer.from = position;
        }
        // After a seek by time `from` stays 0: positions count from the part that plays then, and all of it is wanted.
        self.timeline = Some(Timeline::new(found.track, self.start));
        self.other = found.next.filter(|_| !self.is_offline);
        Ok(())
    }

    fn number(&self) -> usize {
        self.timeline.as_ref().map_or(0, Timeline::number)
    }

    fn at(&self) -> At {
        let timeline = self.timeline.as_ref();
        At {
            section: timeline
                .filter(|timeline| timeline.is_section_of_later_part())
                .map(Timeline::number),
            position: timeline.map_or(0, Timeline::playing),
            instant: timeline.and_then(Timeline::instant).unwrap_or_default(),
        }
    }

    fn go_on(&mut self) {
        if let Some(timeline) = &mut self.timeline {
            timeline.go_on();
        }
    }

    /// Opens the next part, or goes past it if it is a gap or lies before the first byte wanted.
    async fn advance(&mut self, track: &Arc<Track>, number: usize) -> Result<(), HlsError> {
        let Some(part) = track.part(number) else {
            return Ok(());
        };
        let Some(media) = &part.media else {
            // A gap in front of the first byte wanted is not told: the app did not ask for what is there.
            if !self.announcer.is_skipping() {
                self.announcer.gap(track, part);
            }
            self.go_on();
            return Ok(());
        };
        // A part of unknown length cannot be skipped. It is read, and `give_out` drops what lies before `from`.
        if self.announcer.is_skipping() {
            let len = self.state.part_len(track, number).await;
            let end = len.and_then(|len| self.announcer.position.checked_add(len));
            if let Some(end) = end.filter(|end| *end <= self.announcer.from) {
                self.announcer.position = end;
                self.go_on();
                return Ok(());
            }
        }
        match self.input(track, number, media).await {
            Ok(input) => {
                self.open = Some(OpenPart::new(media.clone(), input));
                Ok(())
            }
            Err(error) if self.is_only_missing(&error) => self.leave_copy(),
            Err(error) => self.load_again(track, number, error).await,
        }
    }

    /// Where a part comes from.
    async fn input(
        &mut self,
        track: &Arc<Track>,
        number: usize,
        media: &Arc<MediaResource>,
    ) -> Result<Input, HlsError> {
        let mut was_fetched = false;
        let is_own = self.context.is_offline || self.fetches_itself == Some(number);
        if !is_own && !local::is_local(&media.locator.url) {
            self.place.set(track, self.at(), self.choosing(track));
            if let Some(reader) = self.place.join(number, media) {
                return Ok(Input::Shared(reader));
            }
            let is_trusted = self.contradicted_for == Some(number);
            if !self.state.fetcher.has(media.path()).await
                && let Some(reader) = self.place.demand(number, media, is_trusted)
            {
                return Ok(Input::Shared(reader));
            }
            was_fetched = self.place.was_fetched(number);
        }
        let reader = PartReader::open(&self.state.fetcher, &mut self.context, media).await?;
        Ok(Input::Own {
            reader: Box::new(reader),
            was_fetched,
        })
    }
}
