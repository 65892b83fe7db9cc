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

use std::{collections::VecDeque, future::poll_fn, pin::pin, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};

use super::{
    HlsControl, HlsError,
    fetch_context::FetchContext,
    part_reader::{self, PartAhead, PartReader},
    pending_commits::PendingCommits,
    source_state::{SourceState, Start},
    track::Track,
};
use crate::{
    cache::{CachePath, Lease},
    media::Origin,
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

/// The state between two messages.
pub(super) struct Player {
    state: Arc<SourceState>,
    context: FetchContext,
    /// Cache writes that this stream has begun. Apart from `context`, so that they can be polled while a step borrows it.
    commits: PendingCommits,
    /// Entries to be removed: what they hold does not decrypt.
    damaged: Vec<CachePath>,
    start: Start,
    /// The first byte wanted.
    from: u64,
    /// Where the part `next` begins: in the track, or after a seek by time in what is played from there on.
    position: u64,
    /// The part being read, or to be opened.
    next: usize,
    /// The part to go on with, while `next` is the initialization section that it needs and that lies further back.
    after_section: Option<usize>,
    track: Option<Arc<Track>>,
    open: Option<PartReader>,
    ahead: Option<PartAhead>,
    /// The part that did not decrypt, and whose key was fetched anew.
    decrypted_anew: Option<usize>,
    /// Whether no part ahead is opened any more before the next part: it has failed, or see [`SILENCE_LIMIT`].
    is_ahead_given_up: bool,
    is_variant_told: bool,
    is_bypass_told: bool,
    queue: VecDeque<Message<HlsControl>>,
    /// How the stream ended. The error is taken out when it is told; then `Ok` stays.
    ended: Option<Result<(), HlsError>>,
    /// Keeps the track from being evicted while it plays.
    _lease: Option<Lease>,
}

impl Player {
    pub(super) fn new(state: Arc<SourceState>, start: Start, is_offline: bool) -> Self {
        let cache = state.fetcher.cache();
        let lease = cache.map(|cache| cache.lease(&state.fetcher.asset));
        Self {
            state,
            context: FetchContext::new(is_offline),
            commits: PendingCommits::default(),
            damaged: Vec::new(),
            start,
            from: 0,
            position: 0,
            next: 0,
            after_section: None,
            track: None,
            open: None,
            ahead: None,
            decrypted_anew: None,
            is_ahead_given_up: false,
            is_variant_told: false,
            is_bypass_told: false,
            queue: VecDeque::new(),
            ended: None,
            _lease: lease,
        }
    }

    /// The next message; `None` after the end or the error.
    pub(super) async fn message(&mut self) -> Option<Result<Message<HlsControl>, HlsError>> {
        loop {
            if let Some(message) = self.queue.pop_front() {
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
            if is_over {
                // Connections close now, though the app may keep the ended stream for long.
                self.ended = Some(step.map(drop));
                (self.open, self.ahead) = (None, None);
            }
            self.tell_bypass(is_over);
        }
    }

    /// One step, while the pending commits are polled.
    async fn step_beside_commits(&mut self) -> Result<bool, HlsError> {
        // Out of `self`, which the step borrows whole. A dropped call loses them: only the drop of the stream does that, as
        // nothing polls a player but the stream that owns it.
        let mut commits = std::mem::take(&mut self.commits);
        let step = {
            let mut step = pin!(self.step());
            // Commits first. A step that is always ready, as one that reads the cache, must not starve them.
            poll_fn(|task| {
                commits.poll_all(task);
                step.as_mut().poll(task)
            })
            .await
        };
        commits.append(std::mem::take(&mut self.context.commits));
        self.commits = commits;
        step
    }

    /// Up to one chunk's worth of work. Whether there is more.
    async fn step(&mut self) -> Result<bool, HlsError> {
        match self.track.clone() {
            None => {
                let track = self.state.track(&mut self.context).await?;
                self.seek_to_start(&track);
                self.track = Some(track);
            }
            Some(track) if self.open.is_some() => self.read(&track).await?,
            Some(track) => return self.advance(&track).await,
        }
        Ok(true)
    }

    fn seek_to_start(&mut self, track: &Track) {
        match self.start {
            Start::Byte(position) => self.from = position,
            // `from` stays 0: after a seek by time positions count from the part that plays then, and all of it is wanted.
            Start::Time(time) => {
                let (section, first) = track.part_at(time);
                self.next = section.unwrap_or(first);
                self.after_section = section.map(|_| first);
            }
        }
    }

    /// The number of the part after the one being read.
    fn following(&self) -> usize {
        self.after_section.unwrap_or(self.next + 1)
    }

    fn go_to_following(&mut self) {
        self.next = self.following();
        self.after_section = None;
    }

    /// Opens the next part, or goes past it if it is a gap or lies before the first byte wanted.
    async fn advance(&mut self, track: &Arc<Track>) -> Result<bool, HlsError> {
        let Some(part) = track.part(self.next) else {
            return Ok(false);
        };
        let Some(media) = &part.media else {
            // A gap in front of the first byte wanted is not told: the app did not ask for what is there.
            if self.position >= self.from {
                self.tell_variant(track);
                self.tell(track.announcements(part, Origin::Cache));
            }
            self.go_to_following();
            return Ok(true);
        };
        // A part of unknown length cannot be skipped. It is read, and `give_out` drops what lies before `from`.
        if self.position < self.from {
            let len = self.state.part_len(track, self.next).await;
            let end = len.and_then(|len| self.position.checked_add(len));
            if let Some(end) = end.filter(|end| *end <= self.from) {
                self.position = end;
                self.go_to_following();
                return Ok(true);
            }
        }
        // Only under its own number: the bytes of another part must not stand here.
        let ahead = self.ahead.take().filter(|ahead| ahead.index() == self.next);
        let (opened, commits) = match ahead {
            Some(ahead) => ahead.finish().await,
            None => part_reader::open(self.state.clone(), media.clone(), self.context.is_offline).await,
        };
        self.context.commits.append(commits);
        self.open = Some(opened?);
        Ok(true)
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
                self.end_part(track, part);
                return Ok(());
            }
            Err(error @ HlsError::Decrypt { .. }) => return self.does_not_decrypt(track, part, error),
            Err(error) => return Err(error),
        };
        self.give_out(track, &mut part, plain);
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
    fn end_part(&mut self, track: &Track, mut part: PartReader) {
        // A part without a byte is told all the same.
        if part.plain == 0 && self.position >= self.from {
            self.announce(track, &mut part);
        }
        // Only of a part that was read to its proven end.
        track.set_part_len(self.next, part.plain);
        self.position += part.plain;
        self.go_to_following();
        self.is_ahead_given_up = false;
        // After the padding was found right: a resource that does not decrypt is never kept.
        part.reader.commit(&mut self.context);
    }

    /// Neither the key nor the resource is trusted any more: which of the two is wrong cannot be told. If one of them came
    /// from the cache and no byte was given out, both are fetched anew now, else the next time.
    fn does_not_decrypt(&mut self, track: &Track, part: PartReader, error: HlsError) -> Result<(), HlsError> {
        let media = track.part(self.next).and_then(|part| part.media.as_ref());
        if let Some(reference) = media.and_then(|media| media.key.as_ref()) {
            self.state.fetcher.forget_key(reference);
            self.damaged.push(reference.path.clone());
        }
        let was_given_out = part.plain > 0;
        self.damaged.extend(part.reader.into_damaged());
        // A server may put a new key under an old URL (fault W35). Once for each part: if what is fetched now does not fit
        // either, it never will.
        let is_first = self.decrypted_anew.replace(self.next) != Some(self.next);
        if is_first && !was_given_out && !self.context.is_offline {
            log::warn!("{error}: key and part are fetched anew");
            return Ok(());
        }
        Err(error)
    }

    /// Queues what of `plain` is at or behind the first byte wanted.
    fn give_out(&mut self, track: &Track, part: &mut PartReader, mut plain: Bytes) {
        let start = self.position + part.plain;
        let len = plain.len();
        part.plain += len as u64;
        let unwanted = usize::try_from(self.from.saturating_sub(start)).unwrap_or(usize::MAX);
        if unwanted >= len {
            return;
        }
        plain.advance(unwanted);
        // The queue counts the bytes that a chunk shows. A chunk that shows little of a large buffer would hold more memory
        // than is counted (S4), so it is copied.
        if plain.len() < len / 2 {
            plain = Bytes::copy_from_slice(&plain);
        }
        self.announce(track, part);
        self.queue.push_back(Message::Data(plain));
    }

    /// Queues the messages that stand before the part's first byte, once.
    fn announce(&mut self, track: &Track, part: &mut PartReader) {
        if std::mem::replace(&mut part.is_announced, true) {
            return;
        }
        self.tell_variant(track);
        let origin = part.reader.origin();
        if self.after_section.is_some() {
            // A section from further back. The discontinuity that stands before it there is not one here.
            self.tell([track.section_start(origin)]);
        } else if let Some(part) = track.part(self.next) {
            self.tell(track.announcements(part, origin));
        }
    }

    /// Tells which Variant Stream plays, once its first byte is there: before that it is only a choice (H6).
    fn tell_variant(&mut self, track: &Track) {
        if !std::mem::replace(&mut self.is_variant_told, true) {
            self.tell([track.variant_applied()]);
        }
    }

    /// Tells the first bypass, once. It is not the first message, unless nothing plays.
    fn tell_bypass(&mut self, is_over: bool) {
        if !self.is_variant_told && !is_over {
            return;
        }
        let Some((resource, reason)) = self.commits.take_failed() else {
            return;
        };
        log::debug!("{resource} is not kept: {reason}");
        if std::mem::replace(&mut self.is_bypass_told, true) {
            return;
        }
        let control = HlsControl::CacheBypassed { resource, reason };
        // In front of the bytes that are queued: they may be of the resource. But behind the variant, which is always the
        // first message of a stream.
        let first = self.queue.front();
        let is_variant = matches!(first, Some(Message::Control(HlsControl::VariantApplied { .. })));
        self.queue
            .insert(usize::from(is_variant), Message::Control(control));
    }

    fn tell(&mut self, messages: impl IntoIterator<Item = HlsControl>) {
        self.queue.extend(messages.into_iter().map(Message::Control));
    }

    /// Begins to open the part after the one being read, unless that was done.
    fn open_ahead(&mut self, track: &Track) {
        if self.ahead.is_some() {
            return;
        }
        let index = self.following();
        if let Some(media) = track.part(index).and_then(|part| part.media.clone()) {
            let is_offline = self.context.is_offline;
            self.ahead = Some(PartAhead::new(index, self.state.clone(), media, is_offline));
        }
    }
}
