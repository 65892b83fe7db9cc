//! The fetch: turns demand into requests, and what they bring into bytes that readers find.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future;
use snafu::IntoError as _;

use super::error::{ChangedSnafu, EndUnprovenSnafu, NetSnafu, NotSeekableSnafu};
use super::remote::Remote;
use super::revalidate::StoredValidators;
use super::schedule::{self, Action, ReadaheadRamp, Slot, Snapshot, Span};
use super::sharing::DownloadSettings;
use super::sink::Sink;
use super::transfer::{Transfer, TransferEvent};
use super::transfers::{Slots, Transfers};
use super::{Bypass, FileError};
use crate::net::{NetError, Response};
use crate::rt;
use crate::storage::{Demand, DemandWatch};

/// How often in a row a body may break off where the client cannot resume it by itself.
const MAX_BREAKS: u32 = 5;
/// The most bytes to take out of a connection before it is closed.
const SALVAGE_LIMIT: usize = 256 * 1024;
/// Chunks of this size come from a connection that brings more than one read takes.
const FAST: usize = 128 * 1024;
/// As long as a connection is fast, so many bytes are taken in at once: readers are woken once for all of them.
const GATHER: usize = 1024 * 1024;
const BREAK_WAIT: Duration = Duration::from_millis(200);

/// How a file is to be fetched.
#[derive(Debug, Clone)]
pub(super) struct DownloadOptions {
    pub(super) window: u64,
    pub(super) unknown_length_limit: u64,
    pub(super) accept_unproven_end: bool,
    /// Whether what the server says of the file is kept beside it.
    pub(super) stores_validators: bool,
    pub(super) settings: Arc<DownloadSettings>,
}

pub(super) struct Download {
    pub(super) remote: Remote,
    pub(super) sink: Sink,
    options: DownloadOptions,
    watch: DemandWatch<FileError>,
    transfers: Arc<Transfers>,
    /// Bodies that broke off in a row.
    breaks: u32,
    ramp: ReadaheadRamp,
    /// The lane that has jumped and brought nothing yet.
    jumped: Option<Slot>,
    /// Bytes taken out of the lane that was given up for it.
    salvaged: usize,
    /// The look-ahead is full; it is filled up again when a quarter of it is gone. A connection that is read from in
    /// small steps while its buffers are full crawls.
    full: bool,
}

/// Why the fetching is over.
pub(super) enum StopReason {
    Failed(FileError),
    Changed,
}

enum LoopEvent {
    Demand(Option<Demand>),
    Transfer(Slot, TransferEvent),
    /// Bytes of the lane given up.
    Salvaged(u64, Bytes),
    /// Nothing happens just now: time for what need not be done at once.
    Idle,
}

impl Download {
    /// `None` if the pen is over already.
    pub(super) fn new(
        remote: Remote,
        sink: Sink,
        options: DownloadOptions,
        transfers: Arc<Transfers>,
    ) -> Option<Self> {
        Some(Self {
            watch: sink.watch()?,
            remote,
            sink,
            options,
            transfers,
            breaks: 0,
            ramp: ReadaheadRamp::default(),
            jumped: None,
            salvaged: 0,
            full: false,
        })
    }

    /// Fetches until it is over. From this call on, whether or not it is polled, the last reader's drop closes the
    /// connections.
    pub(super) fn run(self) -> impl Future<Output = ()> + Send + use<> {
        // Weak: a driver that is dropped closes its connections, whoever still reads.
        let transfers = Arc::downgrade(&self.transfers);
        self.sink.when_unwanted(move || {
            if let Some(transfers) = transfers.upgrade() {
                transfers.cancel();
            }
        });
        self.run_to_end()
    }

    async fn run_to_end(mut self) {
        let outcome = self.drive().await;
        self.transfers.cancel();
        let Self { sink, remote, .. } = self;
        match outcome {
            Ok(Some(len)) => sink.finish(len).await,
            Ok(None) => sink.close(),
            Err(StopReason::Failed(cause)) => sink.fail(cause),
            Err(StopReason::Changed) => sink.discard(FileError::Changed {
                url: remote.display_url(),
            }),
        }
    }

    /// Fetches until the file is whole (then its length), or nobody reads any more.
    async fn drive(&mut self) -> Result<Option<u64>, StopReason> {
        loop {
            if let Some(len) = self.is_whole() {
                return Ok(Some(len));
            }
            let continue_main = self.act()?;
            let next = self.next(continue_main).await;
            match next {
                LoopEvent::Demand(None) => return Ok(None),
                LoopEvent::Demand(Some(_)) => {}
                LoopEvent::Transfer(slot, event) => self.handle(slot, event).await?,
                LoopEvent::Salvaged(at, bytes) => self.salvaged(at, bytes)?,
                LoopEvent::Idle => self.sink.flush(),
            }
        }
    }

    /// Sends the first request for what is missing from `position` on and waits for its head.
    pub(super) async fn first(&mut self, position: u64) -> Result<(), StopReason> {
        let wanted = |from: u64| self.sink.writer().and_then(|w| w.first_missing(from..u64::MAX));
        let mut wanted = wanted;
        let Some(gap) = wanted(position).or_else(|| wanted(0)) else {
            return Ok(());
        };
        let end = Some(gap.end).filter(|end| *end != u64::MAX && Some(*end) != self.remote.total());
        self.request(Slot::Main, gap.start, end);
        loop {
            match self
                .transfers
                .with(|slots| slots.main.as_ref().map(Transfer::is_asking))
            {
                Some(true) => {}
                Some(false) => return self.first_bytes(),
                None if self.transfers.is_cancelled() => return Err(StopReason::Failed(FileError::Stopped)),
                // The server has the file, but not in parts.
                None => self.request(Slot::Main, 0, None),
            }
            match self.next(true).await {
                LoopEvent::Transfer(slot, event) => self.handle(slot, event).await?,
                LoopEvent::Salvaged(at, bytes) => self.salvaged(at, bytes)?,
                LoopEvent::Demand(_) => {}
                LoopEvent::Idle => self.sink.flush(),
            }
        }
    }

    /// Takes in what came together with the head: whoever opened the file need not wait for the fetcher to run.
    fn first_bytes(&mut self) -> Result<(), StopReason> {
        let ready_data = |slots: &mut Slots| slots.main.as_mut().and_then(Transfer::ready_data);
        if let Some(TransferEvent::Data(at, bytes)) = self.transfers.with(ready_data) {
            self.store(at, &[bytes])?;
        }
        Ok(())
    }

    fn is_whole(&mut self) -> Option<u64> {
        if self.sink.bypassed && !self.fits_memory_entry() {
            return None;
        }
        let writer = self.sink.writer()?;
        let len = writer.end()?;
        writer.first_missing(0..len).is_none().then_some(len)
    }

    /// Whether the file goes into a cache in memory once it is whole: it then fits the window, and all of it may be
    /// fetched.
    pub(super) fn fits_memory_entry(&self) -> bool {
        let total = self.remote.total();
        self.sink.memory_entry.is_some() && total.is_some_and(|total| total <= self.options.window)
    }

    /// How far ahead of readers to fetch.
    fn ahead(&self) -> u64 {
        let ahead = self.options.settings.ahead().max(schedule::LEAST_AHEAD);
        if self.sink.bypassed && !self.fits_memory_entry() {
            ahead.min(self.options.window / 2)
        } else {
            ahead
        }
    }

    /// Opens what is to be opened, and says whether the main lane is to go on.
    fn act(&mut self) -> Result<bool, StopReason> {
        let (main, side) = self.transfers.spans();
        let ahead = match self.ahead() {
            ahead if self.full => ahead - ahead / 4,
            ahead => ahead,
        };
        let fill = self.options.settings.is_whole() && (!self.sink.bypassed || self.fits_memory_entry());
        let ranges = self.remote.ranges;
        let Some(writer) = self.sink.writer() else {
            return Ok(false);
        };
        let snapshot = Snapshot {
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
        let action = schedule::decide(
            &snapshot,
            |range| writer.first_missing(range),
            || remote.has_room(),
        );
        self.full = action == Action::Wait;
        match action {
            Action::Wait => Ok(false),
            Action::Continue { main } => Ok(main),
            Action::Request { slot, start, end } => {
                let is_jump = main.is_some_and(|main| !main.is_done());
                let end = match slot {
                    Slot::Main if !fill => self.ramp.next(is_jump, start, ahead, end),
                    _ => end,
                };
                self.request(slot, start, end);
                Ok(slot == Slot::Main)
            }
            Action::Restart { position } => {
                // The same bytes again, if it can be told that they are the same.
                if !self.remote.may_start_over() {
                    return Err(StopReason::Failed(
                        NotSeekableSnafu {
                            url: self.remote.display_url(),
                            position,
                        }
                        .build(),
                    ));
                }
                self.request(Slot::Main, 0, None);
                self.transfers.close_abandoned();
                Ok(true)
            }
        }
    }

    /// Takes in what the lane that was given up has received already, so that no jump asks for it again.
    fn salvaged(&mut self, at: u64, bytes: Bytes) -> Result<(), StopReason> {
        self.salvaged += bytes.len();
        if self.salvaged >= SALVAGE_LIMIT {
            self.transfers.close_abandoned();
        }
        self.store(at, &[bytes])
    }

    fn request(&mut self, slot: Slot, start: u64, end: Option<u64>) {
        let span = Span { next: start, end };
        let request = self.transfers.attach(self.remote.request(span));
        let transfer = Transfer::ask(&self.remote.client, request, span);
        // Its connection cannot be used again: the rest of an answer that nobody wants is on it.
        if self.transfers.start(slot, transfer) {
            (self.jumped, self.salvaged) = (Some(slot), 0);
        }
    }

    async fn next(&mut self, continue_main: bool) -> LoopEvent {
        let Self {
            watch,
            transfers,
            sink,
            jumped,
            ..
        } = self;
        let mut changed = pin!(watch.changed());
        std::future::poll_fn(|cx| {
            if let Poll::Ready(demand) = changed.as_mut().poll(cx) {
                return Poll::Ready(LoopEvent::Demand(demand));
            }
            // Somebody waits for what a jump is about to bring; what it left behind comes after that.
            if jumped.is_none()
                && let Some((at, bytes)) = transfers.salvage()
            {
                return Poll::Ready(LoopEvent::Salvaged(at, bytes));
            }
            if let Poll::Ready((slot, event)) = transfers.poll(continue_main, cx) {
                return Poll::Ready(LoopEvent::Transfer(slot, event));
            }
            if let Some((at, bytes)) = transfers.salvage() {
                return Poll::Ready(LoopEvent::Salvaged(at, bytes));
            }
            if !sink.is_flushed() {
                return Poll::Ready(LoopEvent::Idle);
            }
            Poll::Pending
        })
        .await
    }

    async fn handle(&mut self, slot: Slot, event: TransferEvent) -> Result<(), StopReason> {
        match event {
            TransferEvent::Head(response) => self.head(slot, *response),
            TransferEvent::Data(at, bytes) => {
                self.breaks = 0;
                let chunks = self.gather(slot, bytes);
                self.store(at, &chunks)?;
                // Whoever jumps once jumps again, and would wait for a connection each time.
                if self.jumped.take_if(|jumped| *jumped == slot).is_some() {
                    self.transfers.prepare(self.remote.prepare());
                }
                Ok(())
            }
            TransferEvent::End { at, with_connection } => self.ended(slot, at, with_connection),
            TransferEvent::Failed(error) => self.failed(slot, error).await,
        }
    }

    /// `first`, and what follows it at once on a fast connection.
    fn gather(&self, slot: Slot, first: Bytes) -> Vec<Bytes> {
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
            && let Some(TransferEvent::Data(_, bytes)) = self
                .transfers
                .with(|slots| slots.transfer(slot).as_mut().and_then(Transfer::ready_data))
        {
            last = bytes.len();
            sum += last;
            chunks.push(bytes);
        }
        chunks
    }

    fn head(&mut self, slot: Slot, response: Response) -> Result<(), StopReason> {
        self.remote.check(&response).map_err(|_| StopReason::Changed)?;
        let total = self.remote.total();
        if self.options.stores_validators {
            self.sink.validators = StoredValidators::of(response.headers());
        }
        self.sink.resumable = total.is_some() && self.remote.validator().is_some();
        let tag = self
            .remote
            .validator()
            .map(|validator| validator.as_str().to_owned());
        let partial = response.content_range().is_some();
        let body = response.into_body();
        if total.is_none() && body.ends_with_connection() {
            self.sink.bypass(Bypass::UnknownLength);
        }
        let Some(writer) = self.sink.writer() else {
            return Ok(());
        };
        if let Some(total) = total {
            writer.set_len(total).map_err(|_| StopReason::Changed)?;
            // One that is too long to be stored only costs the next session a download.
            let _ = writer.set_tag(tag.unwrap_or_default());
        }
        let start = body.position();
        self.transfers.with(|slots| {
            if let Some(transfer) = slots.transfer(slot) {
                transfer.span.next = start;
                transfer.partial = partial;
                transfer.read(body);
            }
        });
        Ok(())
    }

    fn store(&mut self, at: u64, chunks: &[Bytes]) -> Result<(), StopReason> {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let reached = at.saturating_add(len);
        if self.remote.total().is_none() && reached > self.options.unknown_length_limit {
            self.sink.bypass(Bypass::UnknownLength);
        }
        // A byte beyond the end that the server itself announced is of another file.
        self.sink.write(at, chunks).map_err(|_| StopReason::Changed)?;
        if self.sink.bypassed {
            let window = self.options.window;
            // A chunk may reach far beyond the look-ahead.
            self.sink
                .slide(window / 4, 2 * window, window, !self.remote.ranges);
        }
        Ok(())
    }

    fn ended(&mut self, slot: Slot, at: u64, with_connection: bool) -> Result<(), StopReason> {
        // What follows a part of unknown total is asked for: bytes, or the answer that there are none (fault D7).
        let proves_end = self
            .transfers
            .take(slot)
            .is_some_and(|transfer| transfer.span.end.is_none() && !transfer.partial);
        if !proves_end || self.remote.total().is_some() {
            return Ok(());
        }
        if with_connection && !self.options.accept_unproven_end {
            return Err(StopReason::Failed(
                EndUnprovenSnafu {
                    url: self.remote.display_url(),
                    position: at,
                }
                .build(),
            ));
        }
        match self.sink.writer().map(|writer| writer.set_len(at)) {
            Some(Err(_)) => Err(StopReason::Changed),
            _ => Ok(()),
        }
    }

    async fn failed(&mut self, slot: Slot, error: NetError) -> Result<(), StopReason> {
        let transfer = self.transfers.take(slot);
        let was_reading = transfer.is_some_and(|transfer| !transfer.is_asking());
        match error {
            NetError::Changed { .. } => return Err(StopReason::Changed),
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
                && self.breaks < MAX_BREAKS =>
            {
                let wait = BREAK_WAIT * 2_u32.pow(self.breaks);
                self.breaks += 1;
                log::debug!("{error}; going on in {wait:?}");
                self.sink.flush();
                let unwanted = async { while self.watch.changed().await.is_some() {} };
                future::or(unwanted, rt::sleep(wait)).await;
                return Ok(());
            }
            _ => {}
        }
        // It may be that main keeps the connection that this one needs, or that the server bears no second one: the next
        // step asks again in main's place.
        if slot == Slot::Side
            && let Some(parked) = self.transfers.take(Slot::Main)
        {
            log::debug!("{error}; once more, by itself");
            drop(parked);
            return Ok(());
        }
        Err(StopReason::Failed(
            NetSnafu {
                url: self.remote.display_url(),
            }
            .into_error(error),
        ))
    }

    /// What [`Over::Changed`] means to readers.
    pub(super) fn changed(&self) -> FileError {
        ChangedSnafu {
            url: self.remote.display_url(),
        }
        .build()
    }
}
