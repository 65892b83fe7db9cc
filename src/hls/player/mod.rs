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
//!         │    else           ─▶ open it, or take the part ahead
//!         │                                   │
//!         └─ a part is open: read             │
//!              chunk ─▶ decrypt ─▶ cut to `from` ─▶ queue
//!              end   ─▶ check padding ─▶ commit ─▶ next part
//!     ▼                                       │
//!   at most 4 commits pending, damaged entries removed,
//!   one bypass told ──────────────────────────┘
//! ```
//!
//! No task is spawned. What goes on beside a step is polled in the same poll of the consumer:
//!
//! ```text
//!   consumer's poll ─┬─ the step: the part being read
//!                    ├─ the part ahead: its key and its response's head
//!                    └─ pending commits: writes on their way to the disk
//! ```
//!
//! So a dropped stream asks for nothing more: dropping the player closes its connections.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;

mod failover;
mod renewal;

use self::failover::Lost;
use super::{
    HlsControl, HlsError,
    announcer::Announcer,
    editions::{self, Asking, Question},
    fetch_context::FetchContext,
    local,
    part_reader::{self, PartAhead, PartReader},
    pending_commits::{Bypassed, PendingCommits},
    source_state::{SourceState, Start},
    timeline::{Next, Timeline},
    track::{Part, Track},
};
use crate::{
    cache::{CachePath, Lease},
    media::Bypass,
    rt,
    stream::Message,
};

/// How long the part being read may be silent before the part ahead is given up.
///
/// The part ahead holds a connection that is not read. Where the client allows no second one to the host, the part
/// being read could not be resumed after a break.
const SILENCE_LIMIT: Duration = Duration::from_secs(3);

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
    /// Another edition, which plays from the first byte on that the cache does not have of this one.
    other: Option<Arc<Track>>,
    /// The part for which the playlists were loaded again.
    renewed_for: Option<usize>,
    /// The part whose server contradicted what was known of it.
    contradicted_for: Option<usize>,
    /// A part that the cache does not have to its end. It goes on when it is known where.
    stalled: Option<PartReader>,
    open: Option<PartReader>,
    ahead: Option<PartAhead>,
    /// The part that did not decrypt, and whose key was fetched anew.
    decrypted_anew: Option<usize>,
    /// What the part that plays has failed with.
    lost: Option<Lost>,
    /// Whether no part ahead is opened any more before the next part: it has failed, or see [`SILENCE_LIMIT`].
    is_ahead_given_up: bool,
    announcer: Announcer,
    /// How the stream ended. The error is taken out when it is told; then `Ok` stays.
    ended: Option<Result<(), HlsError>>,
    /// Keeps the track from being evicted while it plays.
    _lease: Option<Lease>,
}

impl Player {
    pub(super) fn new(
        state: Arc<SourceState>,
        start: Start,
        only: Option<Arc<Track>>,
        is_offline: bool,
    ) -> Self {
        let cache = state.fetcher.cache();
        let lease = cache.map(|cache| cache.lease(&state.fetcher.asset));
        Self {
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
            other: None,
            renewed_for: None,
            contradicted_for: None,
            stalled: None,
            open: None,
            ahead: None,
            decrypted_anew: None,
            lost: None,
            is_ahead_given_up: false,
            announcer: Announcer::default(),
            ended: None,
            _lease: lease,
        }
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
            for path in self.damaged.drain(..) {
                self.state.fetcher.remove_entry(&path).await;
            }
            if matches!(step, Ok(false)) {
                self.settle().await;
            }
            if is_over {
                // Connections close now, though the app may keep the ended stream for long.
                self.ended = Some(step.map(drop));
                (self.open, self.ahead, self.stalled, self.asking) = (None, None, None, None);
            }
            // Not the first message, unless nothing plays.
            if (is_over || self.announcer.has_begun())
                && let Some(bypassed) = self.commits.take_failed()
            {
                self.announcer.bypass(bypassed);
            }
        }
    }

    /// Waits for what is on its way to the disk, where the stream is left before its end. The first failure of it.
    pub(super) async fn finish(mut self) -> Option<Bypassed> {
        self.commits.wait_for_at_most(0).await;
        self.commits.take_failed()
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
        if let Some(part) = self.stalled.take() {
            self.read_on(part).await?;
            return Ok(true);
        }
        if self.open.is_some() {
            self.read(&track).await?;
            return Ok(true);
        }
        match timeline.next() {
            Next::Part(number) => self.advance(&track, number).await?,
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

    /// The number of the part after the one being read.
    fn following(&self) -> usize {
        self.timeline.as_ref().map_or(0, Timeline::following)
    }

    fn number(&self) -> usize {
        self.timeline.as_ref().map_or(0, Timeline::number)
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
        // Before anything is fetched: another stream, or another source of the asset, may have found another edition since,
        // and removed what the cache had of this one.
        let is_fetched = !self.context.is_offline
            && !local::is_local(&media.locator.url)
            && !self.state.fetcher.has(media.path()).await;
        if is_fetched && let Some(other) = self.state.newer(track).await? {
            self.other = Some(other);
            return self.leave_copy();
        }
        // Only under its own number: the bytes of another part must not stand here.
        let ahead = self.ahead.take().filter(|ahead| ahead.index() == number);
        let (opened, commits) = match ahead {
            Some(ahead) => ahead.finish().await,
            None => part_reader::open(self.state.clone(), media.clone(), self.context.is_offline).await,
        };
        self.context.commits.append(commits);
        match opened {
            Ok(part) => {
                if is_fetched {
                    self.state.learn_first(&mut self.context, track, number).await;
                }
                self.open = Some(part);
                Ok(())
            }
            Err(error) if self.is_only_missing(&error) => self.leave_copy(),
            Err(error) => self.load_again(track, number, error).await,
        }
    }

    /// Reads one chunk of the open part, or ends the part.
    async fn read(&mut self, track: &Arc<Track>) -> Result<(), HlsError> {
        // Out of `self` while it is read, so that a failure closes it.
        let Some(mut part) = self.open.take() else {
            return Ok(());
        };
        let plain = match self.chunk_beside_ahead(&mut part).await {
            Ok(Some(plain)) => plain,
            Ok(None) => {
                return self.end_part(track, part);
            }
            Err(error @ HlsError::Decrypt { .. }) => return self.does_not_decrypt(track, part, error),
            // The entry fails behind its first byte.
            Err(error) if self.is_only_missing(&error) => {
                if let HlsError::OfflineCache { resource, source } = error {
                    self.context.bypass(&resource, Bypass::Refused(source));
                }
                self.stalled = Some(part);
                return self.leave_copy();
            }
            Err(error) => {
                self.load_again(track, self.number(), error).await?;
                return self.read_on(part).await;
            }
        };
        // Known to be media by now: what a login page's server says is not learned.
        if let Some((place, witness)) = part.reader.take_witness() {
            match self.state.witness(track, place).await {
                None => self.state.learn(&mut self.context, track, place, witness),
                Some(known) if known.contradicts(&witness) => {
                    let number = self.number();
                    if self.contradicted_for.replace(number) != Some(number) {
                        return self.ask_now(track, Question::Files).await;
                    }
                }
                Some(_) => {}
            }
        }
        // A reader's positions behind this part are known. What is longer than that would stand at those.
        let known = track.part_len(self.number()).filter(|_| self.only.is_some());
        if known.is_some_and(|known| part.plain + plain.len() as u64 > known) {
            return Err(self.other_edition());
        }
        if let Some(timeline) = &self.timeline {
            self.announcer.give_out(timeline, &mut part, plain);
        }
        // Not before its own first byte is there: the part being read goes first where connections are few.
        if part.is_announced && !self.is_ahead_given_up {
            self.open_ahead(track);
        }
        self.open = Some(part);
        Ok(())
    }

    /// The next chunk of the part, while the part ahead is polled.
    async fn chunk_beside_ahead(&mut self, part: &mut PartReader) -> Result<Option<Bytes>, HlsError> {
        let mut begun = PendingCommits::default();
        let chunk = {
            let mut next = pin!(part.next(&self.state.fetcher, &mut self.context));
            let (ahead, is_given_up) = (&mut self.ahead, &mut self.is_ahead_given_up);
            let mut silence = None;
            // The part being read is polled first: where the client has one connection free, that part gets it.
            poll_fn(|task| {
                let chunk = next.as_mut().poll(task);
                if let Some(opening) = ahead {
                    opening.poll_open(task);
                    // The timer begins with the first poll that finds no chunk, and ends with this call: each gap between
                    // two chunks has the whole limit.
                    let mut is_silent = || {
                        let silence = silence.get_or_insert_with(|| Box::pin(rt::sleep(SILENCE_LIMIT)));
                        silence.as_mut().poll(task).is_ready()
                    };
                    // A failure ahead is not told. It may be over when the part's turn comes: the part is opened then,
                    // and what lasts shows there.
                    if opening.has_failed() || (chunk.is_pending() && is_silent()) {
                        if let Some(ahead) = ahead.take() {
                            begun.append(ahead.give_up());
                        }
                        *is_given_up = true;
                    }
                }
                chunk
            })
            .await
        };
        self.context.commits.append(begun);
        chunk
    }

    /// The part has come to its proven end.
    fn end_part(&mut self, track: &Track, mut part: PartReader) -> Result<(), HlsError> {
        // A part without a byte is told all the same.
        if part.plain == 0
            && !self.announcer.is_skipping()
            && let Some(timeline) = &self.timeline
        {
            self.announcer.announce(timeline, &mut part);
        }
        // Positions behind it are known already, and are others.
        let known = track.part_len(self.number()).filter(|_| self.only.is_some());
        if known.is_some_and(|known| known != part.plain) {
            return Err(self.other_edition());
        }
        // Only of a part that was read to its proven end.
        track.set_part_len(self.number(), part.plain);
        self.announcer.position += part.plain;
        // A section proves nothing of its segment, which may be what is lost.
        if !track.part(self.number()).is_some_and(Part::is_section) {
            self.lost = None;
        }
        self.go_on();
        self.is_ahead_given_up = false;
        // After the padding was found right: a resource that does not decrypt is never kept.
        part.reader.commit(&mut self.context);
        Ok(())
    }

    /// Neither the key nor the resource is trusted any more: which of the two is wrong cannot be told. If one of them came
    /// from the cache and no byte was given out, both are fetched anew now, else the next time.
    fn does_not_decrypt(&mut self, track: &Track, part: PartReader, error: HlsError) -> Result<(), HlsError> {
        let number = self.number();
        let media = track.part(number).and_then(|part| part.media.as_ref());
        if let Some(reference) = media.and_then(|media| media.key.as_ref()) {
            self.state.fetcher.forget_key(reference);
            self.damaged.push(reference.path.clone());
        }
        let was_given_out = part.plain > 0;
        self.damaged.extend(part.reader.into_damaged());
        // A server may put a new key under an old URL (fault W35). Once for each part: if what is fetched now does not fit
        // either, it never will.
        let is_first = self.decrypted_anew.replace(number) != Some(number);
        // The player's own mode, and not the context's, which fetches nothing for a copy that is being asked about: the part is
        // missing then, and waits for the answer.
        if is_first && !was_given_out && !self.is_offline {
            log::warn!("{error}: key and part are fetched anew");
            return Ok(());
        }
        Err(error)
    }

    /// Begins to open the part after the one being read, unless that was done.
    fn open_ahead(&mut self, track: &Track) {
        // Nor while it is not known whether the server has the same edition.
        if self.ahead.is_some() || self.is_copy_only() {
            return;
        }
        let index = self.following();
        if let Some(media) = track.part(index).and_then(|part| part.media.clone()) {
            let is_offline = self.context.is_offline;
            self.ahead = Some(PartAhead::new(index, self.state.clone(), media, is_offline));
        }
    }
}
