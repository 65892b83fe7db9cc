//! The fetch: turns demand into requests, and what they bring into bytes that readers find.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future;
use snafu::IntoError as _;

use super::dials::Dials;
use super::error::{ChangedSnafu, EndUnprovenSnafu, NetSnafu, NotSeekableSnafu};
use super::fresh::Said;
use super::lane::{Event, Lane};
use super::lines::{Lanes, Lines};
use super::pen::Pen;
use super::plan::{self, Scene, Span, Step, Which};
use super::remote::Remote;
use super::stride::Stride;
use super::{Bypass, FileError};
use crate::net::{NetError, Response};
use crate::rt;
use crate::storage::{Demand, DemandWatch};

/// How often in a row a body may break off where the client cannot resume it by itself.
const STRIKES: u32 = 5;
/// The most bytes to take out of a connection before it is closed.
const RESCUE: usize = 256 * 1024;
/// Chunks of this size come from a connection that brings more than one read takes.
const FAST: usize = 128 * 1024;
/// As long as a connection is fast, so many bytes are taken in at once: readers are woken once for all of them.
const GATHER: usize = 1024 * 1024;
const STRIKE_WAIT: Duration = Duration::from_millis(200);

/// How a file is to be fetched.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    pub(super) window: u64,
    pub(super) unknown_length_limit: u64,
    pub(super) accept_unproven_end: bool,
    /// Whether what the server says of the file is kept beside it.
    pub(super) keeps_words: bool,
    pub(super) dials: Arc<Dials>,
}

pub(super) struct Fetch {
    pub(super) remote: Remote,
    pub(super) pen: Pen,
    manner: Manner,
    watch: DemandWatch<FileError>,
    lines: Arc<Lines>,
    /// Bodies that broke off in a row.
    strikes: u32,
    stride: Stride,
    /// The lane that has jumped and brought nothing yet.
    jumped: Option<Which>,
    /// Bytes taken out of the lane that was given up for it.
    rescued: usize,
    /// The look-ahead is full; it is filled up again when a quarter of it is gone. A connection that is read from in
    /// small steps while its buffers are full crawls.
    full: bool,
}

/// Why the fetching is over.
pub(super) enum Over {
    Failed(FileError),
    Changed,
}

enum Next {
    Demand(Option<Demand>),
    Lane(Which, Event),
    /// Bytes of the lane given up.
    Rescued(u64, Bytes),
    /// Nothing happens just now: time for what need not be done at once.
    Quiet,
}

impl Fetch {
    /// `None` if the pen is over already.
    pub(super) fn new(remote: Remote, pen: Pen, manner: Manner, lines: Arc<Lines>) -> Option<Self> {
        Some(Self {
            watch: pen.watch()?,
            remote,
            pen,
            manner,
            lines,
            strikes: 0,
            stride: Stride::default(),
            jumped: None,
            rescued: 0,
            full: false,
        })
    }

    /// Fetches until it is over. From this call on, whether or not it is polled, the last reader's drop closes the
    /// connections.
    pub(super) fn work(self) -> impl Future<Output = ()> + Send + use<> {
        // Weak: a driver that is dropped closes its connections, whoever still reads.
        let lines = Arc::downgrade(&self.lines);
        self.pen.when_unwanted(move || {
            if let Some(lines) = lines.upgrade() {
                lines.call_off();
            }
        });
        self.run()
    }

    async fn run(mut self) {
        let outcome = self.fetch().await;
        self.lines.call_off();
        let Self { pen, remote, .. } = self;
        match outcome {
            Ok(Some(len)) => pen.finish(len).await,
            Ok(None) => pen.close(),
            Err(Over::Failed(cause)) => pen.fail(cause),
            Err(Over::Changed) => pen.discard(FileError::Changed { url: remote.shown() }),
        }
    }

    /// Fetches until the file is whole (then its length), or nobody reads any more.
    async fn fetch(&mut self) -> Result<Option<u64>, Over> {
        loop {
            if let Some(len) = self.is_whole() {
                return Ok(Some(len));
            }
            let go_main = self.take_step()?;
            let next = self.next(go_main).await;
            match next {
                Next::Demand(None) => return Ok(None),
                Next::Demand(Some(_)) => {}
                Next::Lane(which, event) => self.handle(which, event).await?,
                Next::Rescued(at, bytes) => self.rescued(at, bytes)?,
                Next::Quiet => self.pen.flush(),
            }
        }
    }

    /// Sends the first request for what is missing from `position` on and waits for its head.
    pub(super) async fn first(&mut self, position: u64) -> Result<(), Over> {
        let wanted = |from: u64| self.pen.writer().and_then(|w| w.first_missing(from..u64::MAX));
        let mut wanted = wanted;
        let Some(gap) = wanted(position).or_else(|| wanted(0)) else {
            return Ok(());
        };
        let end = Some(gap.end).filter(|end| *end != u64::MAX && Some(*end) != self.remote.total());
        self.open(Which::Main, gap.start, end);
        loop {
            match self.lines.with(|lanes| lanes.main.as_ref().map(Lane::is_asking)) {
                Some(true) => {}
                Some(false) => return self.first_bytes(),
                None if self.lines.is_called_off() => return Err(Over::Failed(FileError::Stopped)),
                // The server has the file, but not in parts.
                None => self.open(Which::Main, 0, None),
            }
            match self.next(true).await {
                Next::Lane(which, event) => self.handle(which, event).await?,
                Next::Rescued(at, bytes) => self.rescued(at, bytes)?,
                Next::Demand(_) => {}
                Next::Quiet => self.pen.flush(),
            }
        }
    }

    /// Takes in what came together with the head: whoever opened the file need not wait for the fetcher to run.
    fn first_bytes(&mut self) -> Result<(), Over> {
        let at_hand = |lanes: &mut Lanes| lanes.main.as_mut().and_then(Lane::at_hand);
        if let Some(Event::Data(at, bytes)) = self.lines.with(at_hand) {
            self.take_in(at, &[bytes])?;
        }
        Ok(())
    }

    fn is_whole(&mut self) -> Option<u64> {
        if self.pen.bypassed && !self.fits_shelf() {
            return None;
        }
        let writer = self.pen.writer()?;
        let len = writer.end()?;
        writer.first_missing(0..len).is_none().then_some(len)
    }

    /// Whether the file goes into a cache in memory once it is whole: it then fits the window, and all of it may be
    /// fetched.
    pub(super) fn fits_shelf(&self) -> bool {
        let total = self.remote.total();
        self.pen.shelf.is_some() && total.is_some_and(|total| total <= self.manner.window)
    }

    /// How far ahead of readers to fetch.
    fn ahead(&self) -> u64 {
        let ahead = self.manner.dials.ahead().max(plan::LEAST_AHEAD);
        if self.pen.bypassed && !self.fits_shelf() {
            ahead.min(self.manner.window / 2)
        } else {
            ahead
        }
    }

    /// Opens what is to be opened, and says whether the main lane is to go on.
    fn take_step(&mut self) -> Result<bool, Over> {
        let (main, side) = self.lines.spans();
        let ahead = match self.ahead() {
            ahead if self.full => ahead - ahead / 4,
            ahead => ahead,
        };
        let fill = self.manner.dials.is_whole() && (!self.pen.bypassed || self.fits_shelf());
        let ranges = self.remote.ranges;
        let Some(writer) = self.pen.writer() else {
            return Ok(false);
        };
        let scene = Scene {
            // Not what the watch said last: since then a reader may have passed bytes, and they been let go.
            demand: writer.demand_now(),
            len: writer.end(),
            main,
            side,
            ahead,
            fill,
            ranges,
        };
        let remote = &self.remote;
        let step = plan::step(&scene, |range| writer.first_missing(range), || remote.has_room());
        self.full = step == Step::Rest;
        match step {
            Step::Rest => Ok(false),
            Step::Go { main } => Ok(main),
            Step::Open { which, start, end } => {
                let is_jump = main.is_some_and(|main| !main.is_over());
                let end = match which {
                    Which::Main if !fill => self.stride.next(is_jump, start, ahead, end),
                    _ => end,
                };
                self.open(which, start, end);
                Ok(which == Which::Main)
            }
            Step::Restart { position } => {
                // The same bytes again, if it can be told that they are the same.
                if !self.remote.may_start_over() {
                    return Err(Over::Failed(
                        NotSeekableSnafu {
                            url: self.remote.shown(),
                            position,
                        }
                        .build(),
                    ));
                }
                self.open(Which::Main, 0, None);
                self.lines.close_old();
                Ok(true)
            }
        }
    }

    /// Takes in what the lane that was given up has received already, so that no jump asks for it again.
    fn rescued(&mut self, at: u64, bytes: Bytes) -> Result<(), Over> {
        self.rescued += bytes.len();
        if self.rescued >= RESCUE {
            self.lines.close_old();
        }
        self.take_in(at, &[bytes])
    }

    fn open(&mut self, which: Which, start: u64, end: Option<u64>) {
        let span = Span { next: start, end };
        let request = self.lines.take_along(self.remote.request(span));
        let lane = Lane::ask(&self.remote.client, request, span);
        // Its connection cannot be used again: the rest of an answer that nobody wants is on it.
        if self.lines.start(which, lane) {
            (self.jumped, self.rescued) = (Some(which), 0);
        }
    }

    async fn next(&mut self, go_main: bool) -> Next {
        let Self {
            watch,
            lines,
            pen,
            jumped,
            ..
        } = self;
        let mut changed = pin!(watch.changed());
        std::future::poll_fn(|cx| {
            if let Poll::Ready(demand) = changed.as_mut().poll(cx) {
                return Poll::Ready(Next::Demand(demand));
            }
            // Somebody waits for what a jump is about to bring; what it left behind comes after that.
            if jumped.is_none()
                && let Some((at, bytes)) = lines.rescue()
            {
                return Poll::Ready(Next::Rescued(at, bytes));
            }
            if let Poll::Ready((which, event)) = lines.poll(go_main, cx) {
                return Poll::Ready(Next::Lane(which, event));
            }
            if let Some((at, bytes)) = lines.rescue() {
                return Poll::Ready(Next::Rescued(at, bytes));
            }
            if !pen.is_flushed() {
                return Poll::Ready(Next::Quiet);
            }
            Poll::Pending
        })
        .await
    }

    async fn handle(&mut self, which: Which, event: Event) -> Result<(), Over> {
        match event {
            Event::Head(response) => self.head(which, *response),
            Event::Data(at, bytes) => {
                self.strikes = 0;
                let chunks = self.gather(which, bytes);
                self.take_in(at, &chunks)?;
                // Whoever jumps once jumps again, and would wait for a connection each time.
                if self.jumped.take_if(|jumped| *jumped == which).is_some() {
                    self.lines.prepare(self.remote.prepare());
                }
                Ok(())
            }
            Event::End { at, with_connection } => self.ended(which, at, with_connection),
            Event::Failed(error) => self.failed(which, error).await,
        }
    }

    /// `first`, and what follows it at once on a fast connection.
    fn gather(&self, which: Which, first: Bytes) -> Vec<Bytes> {
        let (mut last, mut sum) = (first.len(), first.len());
        let mut chunks = vec![first];
        // Where little is wanted ahead of readers, each chunk is weighed by itself.
        let gather = if self.ahead() > 4 * GATHER as u64 {
            GATHER
        } else {
            0
        };
        while last >= FAST
            && sum < gather
            && let Some(Event::Data(_, bytes)) = self
                .lines
                .with(|lanes| lanes.lane(which).as_mut().and_then(Lane::at_hand))
        {
            last = bytes.len();
            sum += last;
            chunks.push(bytes);
        }
        chunks
    }

    fn head(&mut self, which: Which, response: Response) -> Result<(), Over> {
        self.remote.judge(&response).map_err(|_| Over::Changed)?;
        let total = self.remote.total();
        if self.manner.keeps_words {
            self.pen.said = Said::of(response.headers());
        }
        self.pen.resumable = total.is_some() && self.remote.validator().is_some();
        let tag = self
            .remote
            .validator()
            .map(|validator| validator.as_str().to_owned());
        let partial = response.content_range().is_some();
        let body = response.into_body();
        if total.is_none() && body.ends_with_connection() {
            self.pen.bypass(Bypass::UnknownLength);
        }
        let Some(writer) = self.pen.writer() else {
            return Ok(());
        };
        if let Some(total) = total {
            writer.set_len(total).map_err(|_| Over::Changed)?;
            // One that is too long to be stored only costs the next session a download.
            let _ = writer.set_tag(tag.unwrap_or_default());
        }
        let start = body.position();
        self.lines.with(|lanes| {
            if let Some(lane) = lanes.lane(which) {
                lane.span.next = start;
                lane.partial = partial;
                lane.read(body);
            }
        });
        Ok(())
    }

    fn take_in(&mut self, at: u64, chunks: &[Bytes]) -> Result<(), Over> {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let reached = at.saturating_add(len);
        if self.remote.total().is_none() && reached > self.manner.unknown_length_limit {
            self.pen.bypass(Bypass::UnknownLength);
        }
        // A byte beyond the end that the server itself announced is of another file.
        self.pen.write(at, chunks).map_err(|_| Over::Changed)?;
        if self.pen.bypassed {
            let window = self.manner.window;
            // A chunk may reach far beyond the look-ahead.
            self.pen
                .slide(window / 4, 2 * window, window, !self.remote.ranges);
        }
        Ok(())
    }

    fn ended(&mut self, which: Which, at: u64, with_connection: bool) -> Result<(), Over> {
        // What follows a part of unknown total is asked for: bytes, or the answer that there are none (fault D7).
        let proves_end = self
            .lines
            .take(which)
            .is_some_and(|lane| lane.span.end.is_none() && !lane.partial);
        if !proves_end || self.remote.total().is_some() {
            return Ok(());
        }
        if with_connection && !self.manner.accept_unproven_end {
            return Err(Over::Failed(
                EndUnprovenSnafu {
                    url: self.remote.shown(),
                    position: at,
                }
                .build(),
            ));
        }
        match self.pen.writer().map(|writer| writer.set_len(at)) {
            Some(Err(_)) => Err(Over::Changed),
            _ => Ok(()),
        }
    }

    async fn failed(&mut self, which: Which, error: NetError) -> Result<(), Over> {
        let lane = self.lines.take(which);
        let was_reading = lane.is_some_and(|lane| !lane.is_asking());
        match error {
            NetError::Changed { .. } => return Err(Over::Changed),
            // The server has the file, but not in parts: the main lane, or a new one, reads it from the start.
            NetError::RangeIgnored { .. } if self.remote.ranges => {
                self.remote.ranges = false;
                return Ok(());
            }
            // The client resumes by itself what it can prove to be the same file; beyond that it is for us to ask.
            _ if was_reading
                && error.is_transient()
                && self.remote.validator().is_none()
                && (self.remote.ranges || self.remote.may_start_over())
                && self.strikes < STRIKES =>
            {
                let wait = STRIKE_WAIT * 2_u32.pow(self.strikes);
                self.strikes += 1;
                log::debug!("{error}; going on in {wait:?}");
                self.pen.flush();
                let unwanted = async { while self.watch.changed().await.is_some() {} };
                future::or(unwanted, rt::sleep(wait)).await;
                return Ok(());
            }
            _ => {}
        }
        // It may be that main keeps the connection that this one needs, or that the server bears no second one: the next
        // step asks again in main's place.
        if which == Which::Side
            && let Some(parked) = self.lines.take(Which::Main)
        {
            log::debug!("{error}; once more, by itself");
            drop(parked);
            return Ok(());
        }
        Err(Over::Failed(
            NetSnafu {
                url: self.remote.shown(),
            }
            .into_error(error),
        ))
    }

    /// What [`Over::Changed`] means to readers.
    pub(super) fn changed(&self) -> FileError {
        ChangedSnafu {
            url: self.remote.shown(),
        }
        .build()
    }
}
