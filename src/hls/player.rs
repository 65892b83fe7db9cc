//! One opened stream: parts read one after another, decrypted, announced, and cut to where the seek begins.
//!
//! Everything happens in the consumer's own poll: no task is spawned, so a dropped stream asks for nothing more.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use snafu::ResultExt;

use super::{
    control::HlsControl,
    crypt::Decryptor,
    error::{DecryptSnafu, HlsError},
    fetch::Fetcher,
    fetch_context::FetchContext,
    pending_commits::PendingCommits,
    resource_reader::ResourceReader,
    source::{SourceState, Start},
    track::{MediaResource, Track},
};
use crate::{
    cache::{CachePath, Lease},
    media::Origin,
    rt,
    stream::Message,
};

/// How long the part being read may be silent before the one ahead is given up.
///
/// The part ahead holds a connection that nobody reads. Where the client allows no other, the part being read could not be
/// resumed after a break.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many commits may be under way before the stream waits for one. Each holds less than 256 KiB
/// and one chunk of a body, which is 512 KiB at most.
const MAX_WRITES: usize = 4;

/// The state between two messages. Dropping it drops the connections it has.
pub(super) struct Player {
    state: Arc<SourceState>,
    context: FetchContext,
    /// Cache writes that this stream has begun.
    commits: PendingCommits,
    /// Entries to be dropped: what they hold does not decrypt.
    damaged: Vec<CachePath>,
    start: Start,
    /// The first byte wanted.
    from: u64,
    /// Where the part `next` begins: in the track, or in what is played of it from a time on.
    position: u64,
    /// The part being read, or to be opened.
    next: usize,
    /// The part to begin with, while `next` is the initialization section it needs, which lies further back.
    after_section: Option<usize>,
    track: Option<Arc<Track>>,
    open: Option<OpenPart>,
    /// The part after it, on its way (H11): one, and nothing of it is read before its turn but its first bytes.
    ahead: Option<Ahead>,
    /// Whether the part being read makes do without the one ahead: that has failed, or see [`PATIENCE`].
    alone: bool,
    applied: bool,
    bypass_told: bool,
    queue: VecDeque<Message<HlsControl>>,
    ended: Option<Result<(), HlsError>>,
    /// Keeps the track from being evicted while it plays.
    _lease: Option<Lease>,
}

/// The part being read.
struct OpenPart {
    reader: ResourceReader,
    decryptor: Option<Decryptor>,
    /// Plaintext so far, delivered or discarded.
    plain: u64,
    announced: bool,
}

/// A part opened, or why not; and what was begun to be written on the way.
type Opened = (Result<OpenPart, HlsError>, PendingCommits);

struct Ahead {
    index: usize,
    opening: Pin<Box<dyn Future<Output = Opened> + Send>>,
    opened: Option<Opened>,
}

impl Ahead {
    /// Lets it get on, without waiting for it.
    fn nudge(&mut self, task: &mut Context<'_>) {
        if self.opened.is_none()
            && let Poll::Ready(opened) = self.opening.as_mut().poll(task)
        {
            self.opened = Some(opened);
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.opened, Some((Err(_), _)))
    }

    async fn finish(self) -> Opened {
        match self.opened {
            Some(opened) => opened,
            None => self.opening.await,
        }
    }
}

/// Opens a part that has bytes. It has a fetch context of its own, because it may run while the part before it is read.
async fn open_part(state: Arc<SourceState>, media: Arc<MediaResource>, offline: bool) -> Opened {
    let mut context = FetchContext::new(offline);
    let opened = try_open(&state.fetcher, &media, &mut context).await;
    (opened, context.commits)
}

async fn try_open(
    fetcher: &Fetcher,
    media: &MediaResource,
    context: &mut FetchContext,
) -> Result<OpenPart, HlsError> {
    let decryptor = match &media.key {
        Some(reference) => Some(Decryptor::new(
            &fetcher.key(context, reference).await?,
            &reference.iv,
        )),
        None => None,
    };
    let whole = |length: u64| decryptor.is_none() || (length > 0 && length.is_multiple_of(16));
    let reader = ResourceReader::open(fetcher, context, media, whole).await?;
    Ok(OpenPart {
        reader,
        decryptor,
        plain: 0,
        announced: false,
    })
}

impl Player {
    pub(super) fn new(state: Arc<SourceState>, start: Start, offline: bool) -> Self {
        let cache = state.fetcher.cache();
        let lease = cache.map(|cache| cache.lease(&state.fetcher.asset));
        Self {
            state,
            context: FetchContext::new(offline),
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
            alone: false,
            applied: false,
            bypass_told: false,
            queue: VecDeque::new(),
            ended: None,
            _lease: lease,
        }
    }

    /// The next message; `None` once everything has been said.
    pub(super) async fn message(&mut self) -> Option<Result<Message<HlsControl>, HlsError>> {
        loop {
            if let Some(message) = self.queue.pop_front() {
                return Some(Ok(message));
            }
            if let Some(end) = &mut self.ended {
                return std::mem::replace(end, Ok(())).err().map(Err);
            }
            let step = self.step_and_write().await;
            let over = !matches!(step, Ok(true));
            self.commits.settle(if over { 0 } else { MAX_WRITES }).await;
            for path in self.damaged.drain(..) {
                self.state.fetcher.forget(&path).await;
            }
            if over {
                self.ended = Some(step.map(drop));
                (self.open, self.ahead) = (None, None);
            }
            // Which Variant Stream plays is the first word, if one plays.
            if (self.applied || over)
                && let Some((resource, reason)) = self.commits.take_failed()
            {
                log::debug!("{resource} is not kept: {reason:?}");
                if !std::mem::replace(&mut self.bypass_told, true) {
                    let control = HlsControl::CacheBypassed { resource, reason };
                    let first = self.queue.front();
                    let applied = matches!(first, Some(Message::Control(HlsControl::VariantApplied { .. })));
                    self.queue.insert(usize::from(applied), Message::Control(control));
                }
            }
        }
    }

    /// One step, and whatever the commits under way can get on with meanwhile.
    async fn step_and_write(&mut self) -> Result<bool, HlsError> {
        let mut commits = std::mem::take(&mut self.commits);
        let step = {
            let mut step = pin!(self.step());
            poll_fn(|task| {
                commits.nudge(task);
                step.as_mut().poll(task)
            })
            .await
        };
        commits.append(std::mem::take(&mut self.context.commits));
        self.commits = commits;
        step
    }

    /// One chunk's worth of work; whether there is more.
    async fn step(&mut self) -> Result<bool, HlsError> {
        match self.track.clone() {
            None => {
                let track = self.state.track(&mut self.context).await?;
                self.begin(&track);
                self.track = Some(track);
            }
            Some(track) if self.open.is_some() => self.read(&track).await?,
            Some(track) => return self.advance(&track).await,
        }
        Ok(true)
    }

    fn begin(&mut self, track: &Track) {
        match self.start {
            Start::Byte(position) => self.from = position,
            Start::Time(time) => {
                let (section, first) = track.at(time);
                self.next = section.unwrap_or(first);
                self.after_section = section.map(|_| first);
            }
        }
    }

    fn go_on(&mut self) {
        self.next = self.following();
        self.after_section = None;
    }

    /// The part after the one being read.
    fn following(&self) -> usize {
        self.after_section.unwrap_or(self.next + 1)
    }

    /// Opens the next part, or passes over one that lies before the first byte wanted.
    async fn advance(&mut self, track: &Arc<Track>) -> Result<bool, HlsError> {
        let Some(part) = track.part(self.next) else {
            return Ok(false);
        };
        let Some(media) = &part.media else {
            if self.position >= self.from {
                self.apply(track);
                self.say(track.announcements(part, Origin::Cache));
            }
            self.go_on();
            return Ok(true);
        };
        if self.position < self.from {
            let size = self.state.size(track, self.next).await;
            if let Some(end) = size
                .and_then(|size| self.position.checked_add(size))
                .filter(|end| *end <= self.from)
            {
                self.position = end;
                self.go_on();
                return Ok(true);
            }
        }
        let (opened, commits) = match self.ahead.take().filter(|ahead| ahead.index == self.next) {
            Some(ahead) => ahead.finish().await,
            None => open_part(self.state.clone(), media.clone(), self.context.offline).await,
        };
        self.context.commits.append(commits);
        self.open = Some(opened?);
        Ok(true)
    }

    /// Reads one chunk of the open part, or ends it.
    async fn read(&mut self, track: &Arc<Track>) -> Result<(), HlsError> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let mut begun = PendingCommits::default();
        let chunk = {
            let mut next = pin!(open.reader.next(&self.state.fetcher, &mut self.context));
            let mut patience = None;
            let (ahead, alone) = (&mut self.ahead, &mut self.alone);
            poll_fn(|task| {
                let chunk = next.as_mut().poll(task);
                if let Some(opening) = ahead {
                    opening.nudge(task);
                    let mut patience_ends = || {
                        let patience = patience.get_or_insert_with(|| Box::pin(rt::sleep(PATIENCE)));
                        patience.as_mut().poll(task).is_ready()
                    };
                    // A failure may be over when the part's turn comes: it is opened then, and what lasts shows there.
                    if opening.has_failed() || (chunk.is_pending() && patience_ends()) {
                        if let Some((_, commits)) = ahead.take().and_then(|ahead| ahead.opened) {
                            begun.append(commits);
                        }
                        *alone = true;
                    }
                }
                chunk
            })
            .await
        };
        self.context.commits.append(begun);
        if let Some(chunk) = chunk? {
            let plain = match &mut open.decryptor {
                Some(decryptor) => decryptor.update(chunk),
                None => chunk,
            };
            self.deliver(track, &mut open, plain);
            if open.announced && !self.alone {
                self.look_ahead(track);
            }
            self.open = Some(open);
            return Ok(());
        }
        if let Some(decryptor) = open.decryptor.take() {
            match decryptor.finish() {
                Ok(tail) => self.deliver(track, &mut open, tail),
                Err(source) => {
                    let resource = open.reader.resource.clone();
                    let media = track.part(self.next).and_then(|part| part.media.as_ref());
                    if let Some(reference) = media.and_then(|media| media.key.as_ref()) {
                        self.state.fetcher.forget_key(reference);
                        self.damaged.push(reference.path.clone());
                    }
                    self.damaged.extend(open.reader.into_damaged());
                    return Err(source).context(DecryptSnafu { resource });
                }
            }
        }
        if open.plain == 0 && self.position >= self.from {
            self.announce(track, &mut open);
        }
        track.learn(self.next, open.plain);
        self.position += open.plain;
        self.go_on();
        self.alone = false;
        open.reader.commit(&mut self.context);
        Ok(())
    }

    /// Queues what of `plain` is wanted.
    fn deliver(&mut self, track: &Track, open: &mut OpenPart, mut plain: Bytes) {
        let start = self.position + open.plain;
        let length = plain.len();
        open.plain += length as u64;
        let unwanted = usize::try_from(self.from.saturating_sub(start)).unwrap_or(usize::MAX);
        if unwanted >= length {
            return;
        }
        plain.advance(unwanted);
        // A chunk owns little more than it shows: the queue counts what it shows.
        if plain.len() < length / 2 {
            plain = Bytes::copy_from_slice(&plain);
        }
        self.announce(track, open);
        self.queue.push_back(Message::Data(plain));
    }

    fn announce(&mut self, track: &Track, open: &mut OpenPart) {
        if std::mem::replace(&mut open.announced, true) {
            return;
        }
        self.apply(track);
        let origin = open.reader.origin();
        if self.after_section.is_some() {
            // A section from further back: the discontinuity that stood before it there is not one here.
            self.say([track.section_start(origin)]);
        } else if let Some(part) = track.part(self.next) {
            self.say(track.announcements(part, origin));
        }
    }

    /// Says which Variant Stream plays, once it is real: its first byte is here.
    fn apply(&mut self, track: &Track) {
        if !std::mem::replace(&mut self.applied, true) {
            self.say([track.variant_applied()]);
        }
    }

    fn say(&mut self, messages: impl IntoIterator<Item = HlsControl>) {
        self.queue.extend(messages.into_iter().map(Message::Control));
    }

    /// Starts on the next part, so that the way to the server and back costs no silence between two segments.
    fn look_ahead(&mut self, track: &Track) {
        let index = self.following();
        if self.ahead.is_some() {
            return;
        }
        if let Some(media) = track.part(index).and_then(|part| part.media.clone()) {
            let opening = Box::pin(open_part(self.state.clone(), media, self.context.offline));
            self.ahead = Some(Ahead {
                index,
                opening,
                opened: None,
            });
        }
    }
}
