//! The download: turns demand into requests, and their bodies into bytes that readers find.
//!
//! ```text
//!   ┌▶ is the file complete? ── yes ──▶ Sink::finish: commit
//!   │        │ no
//!   │   Snapshot: demand, transfers, look-ahead
//!   │        │
//!   │   schedule::decide ──▶ wait │ continue │ request │ restart
//!   │        │
//!   │   wait for the next event:
//!   │        ├ demand     a reader has moved or waits; none left: Sink::close
//!   │        ├ salvaged   bytes that an abandoned transfer had received
//!   │        ├ transfer   head ▶ Remote::check, data ▶ Sink::write, end, failure
//!   │        ├ side silent  no head yet: main gives way
//!   │        ├ idle       nothing else to do ▶ Sink::flush
//!   │        └ checkpoint due ▶ Sink::record_if_due
//!   └────────┘
//!        │ a failure that may pass ──▶ outage: rest, then again from the top
//! ```
//!
//! One task runs the loop, so its state needs no lock. Only the [`Transfers`] are shared: the thread that drops the last
//! reader closes them. What a transfer brings is handled in `response`.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use super::beginning::Judgement;
use super::error::{EndUnprovenSnafu, NotSeekableSnafu};
use super::outage::Outage;
use super::remote::Remote;
use super::schedule::{self, Action, ReadaheadRamp, Slot, Snapshot, Span};
use super::sharing::DownloadSettings;
use super::side_watch::SideWatch;
use super::sink::Sink;
use super::transfer::{Transfer, TransferEvent};
use super::transfers::Transfers;
use super::{FileError, shared_work};
use crate::media::Judge;
use crate::net::{Change, NetError};
use crate::rt;
use crate::storage::{Demand, DemandWatch};

/// How often in a row a body may break off where the client cannot resume it by itself.
pub(super) const MAX_BREAKS: u32 = 5;
/// The most bytes to salvage from an abandoned transfer before its connection is closed.
const SALVAGE_LIMIT: usize = 256 * 1024;

/// How a file is downloaded.
#[derive(Debug, Clone)]
pub(super) struct DownloadOptions {
    /// Bytes held in memory where the cache is bypassed.
    pub(super) window: u64,
    pub(super) unknown_length_limit: u64,
    pub(super) accept_unproven_end: bool,
    /// How long a reader waits for bytes in an outage before it gets the error.
    pub(super) outage_limit: Duration,
    /// Whether `ETag` and `Last-Modified` are stored beside the entry, for `revalidate`.
    pub(super) stores_validators: bool,
    /// Whether a file is not kept if the server asks so.
    pub(super) respects_no_store: bool,
    pub(super) settings: Arc<DownloadSettings>,
    pub(super) judge: Judge,
}

pub(super) struct Download {
    pub(super) remote: Remote,
    pub(super) sink: Sink,
    pub(super) options: DownloadOptions,
    pub(super) demand: DemandWatch<FileError>,
    pub(super) transfers: Arc<Transfers>,
    /// Where the last body broke off.
    pub(super) broke_off_at: Option<u64>,
    /// Bodies that broke off in a row.
    pub(super) breaks: u32,
    ramp: ReadaheadRamp,
    /// The slot whose transfer is a jump that has brought nothing yet.
    pub(super) jumped: Option<Slot>,
    /// Bytes salvaged from the transfer that was abandoned for the jump.
    salvaged: usize,
    /// Whether the look-ahead is full. It is filled again when a quarter of it is used up: a connection that is read in
    /// small steps while the system's buffers are full crawls.
    is_full: bool,
    /// What the judge has said of the file.
    pub(super) judgement: Judgement,
    /// The outage under way.
    pub(super) outage: Option<Outage>,
    pub(super) side_watch: SideWatch,
    /// Fires when a checkpoint may be due. Armed by the first wait with something to record, and not anew by each chunk.
    checkpoint_timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Why a download stops before the file is complete.
pub(super) enum StopReason {
    Failed(FileError),
    /// The server has another file now, and what shows it, as far as it is known.
    Changed(Option<Change>),
    /// A contradiction that is gone: the server has the file as it is known.
    Passed,
}

/// What the loop waits for.
enum LoopEvent {
    /// The demand has changed. `None`: the last reader was dropped.
    Demand(Option<Demand>),
    Transfer(Slot, TransferEvent),
    /// Bytes of an abandoned transfer, and their position.
    Salvaged(u64, Bytes),
    /// Nothing is ready. Time for work that can wait.
    Idle,
    CheckpointDue,
    /// The side transfer has waited long for its head.
    SideSilent,
}

impl Download {
    /// `None` if the sink has ended.
    pub(super) fn new(
        remote: Remote,
        mut sink: Sink,
        options: DownloadOptions,
        transfers: Arc<Transfers>,
    ) -> Option<Self> {
        let first = sink.writer()?.first_missing(0..1);
        Some(Self {
            judgement: Judgement::new(sink.resumable, first.is_none()),
            demand: sink.demand()?,
            remote,
            sink,
            options,
            transfers,
            broke_off_at: None,
            breaks: 0,
            ramp: ReadaheadRamp::default(),
            jumped: None,
            salvaged: 0,
            is_full: false,
            outage: None,
            side_watch: SideWatch::default(),
            checkpoint_timer: None,
        })
    }

    /// Downloads until the file is complete, fails, or nobody reads it. From this call on, whether or not the future is
    /// polled, dropping the last reader closes the connections.
    pub(super) fn run(self) -> impl Future<Output = ()> + Send + use<> {
        // Not before the file is open: until then it is the caller that may give up, see `CancelOnDrop`.
        // Weak: readers own the hook, and must not keep the connections of a driver that was dropped.
        let transfers = Arc::downgrade(&self.transfers);
        self.sink.when_unused(move || {
            if let Some(transfers) = transfers.upgrade() {
                transfers.cancel();
            }
        });
        self.run_to_end()
    }

    async fn run_to_end(mut self) {
        let outcome = self.run_loop().await;
        // Before the sink ends: its disk work must not keep a connection open.
        self.transfers.cancel();
        let Self { sink, remote, .. } = self;
        let end = async {
            match outcome {
                Ok(Some(len)) => sink.finish(len).await,
                // A contradiction that is gone does not end the loop.
                Ok(None) | Err(StopReason::Passed) => sink.close(),
                Err(StopReason::Failed(cause)) => sink.fail(cause),
                Err(StopReason::Changed(change)) => sink.discard(remote.changed(change)),
            }
        };
        shared_work::by_driver(end).await;
    }

    /// Returns the length of the complete file, or `None` when nobody reads any more.
    async fn run_loop(&mut self) -> Result<Option<u64>, StopReason> {
        loop {
            let outcome = self.run_until_failure().await;
            // What explains a failure, waits, or asks the judge once more is no reading thread's work.
            let stopped = match outcome {
                Err(StopReason::Changed(change)) => shared_work::by_driver(self.explain_change(change)).await,
                Err(stopped) => stopped,
                ended => return ended,
            };
            match stopped {
                StopReason::Passed => continue,
                StopReason::Failed(cause) if self.may_pass(&cause) => self.note_outage(cause),
                stopped => return Err(stopped),
            }
            if !shared_work::by_driver(self.sit_out()).await {
                return Ok(None);
            }
        }
    }

    async fn run_until_failure(&mut self) -> Result<Option<u64>, StopReason> {
        loop {
            while shared_work::is_run_by_reader() && !self.may_be_run_by_reader() {
                shared_work::hand_over();
                shared_work::let_reader_look().await;
            }
            if let Some(len) = self.complete_len() {
                return Ok(Some(len));
            }
            // While the beginning is judged its bytes are held back. To the schedule they would be missing, with no transfer
            // that brings them: it would request them again.
            let continue_main = self.judgement.is_open() || self.act()?;
            match self.next_event(continue_main).await {
                LoopEvent::Demand(None) => return Ok(None),
                event => self.handle(event).await?,
            }
            shared_work::let_reader_look().await;
        }
    }

    /// Whether what comes next may be done by a thread that reads. An interrupt must end its wait, and so it runs no code that
    /// may block it: the app's, its logger's, or the disk's, which has what is not written yet.
    fn may_be_run_by_reader(&self) -> bool {
        self.sink.is_flushed()
            && !self.judgement.is_open()
            && !self.remote.runs_foreign_code()
            && !log::log_enabled!(log::Level::Debug)
    }

    /// Requests what is missing from `position` on, and waits for the response. Bytes that come together with the head
    /// are taken in: a reader need not wait for the driver to run.
    pub(super) async fn first_response(&mut self, position: u64) -> Result<(), StopReason> {
        let mut missing = |from: u64| self.sink.writer()?.first_missing(from..u64::MAX);
        let Some(gap) = missing(position).or_else(|| missing(0)) else {
            return Ok(());
        };
        let end = Some(gap.end).filter(|end| *end != u64::MAX && Some(*end) != self.remote.total());
        self.request(Slot::Main, gap.start, end);
        let mut has_answered = false;
        loop {
            let waits_for_head = |main: &Transfer| main.waits_for_head();
            match self
                .transfers
                .with(|slots| slots.main.as_ref().map(waits_for_head))
            {
                Some(true) => {}
                Some(false) => {
                    self.first_bytes()?;
                    has_answered = true;
                    // The length in the head may be that of a login page, and a reader that jumps behind it would find an end
                    // there. So the caller waits for the verdict, and is told by this call what is no media.
                    if !self.judgement.is_open() {
                        return Ok(());
                    }
                }
                None if self.transfers.is_cancelled() => return Err(StopReason::Failed(FileError::Stopped)),
                // A short file, judged when all of it was there.
                None if has_answered && self.judgement.is_proven() => return Ok(()),
                // The server ignores ranges: the transfer was given up, and the whole file is asked for.
                None => self.request(Slot::Main, 0, None),
            }
            // Whether the demand ends does not matter here: the caller waits for this, and its drop cancels.
            let event = self.next_event(true).await;
            if position > 0 && self.needs_beginning(&event) {
                self.transfers.clear();
                self.request(Slot::Main, 0, None);
                continue;
            }
            self.handle(event).await?;
        }
    }

    /// Whether a first request that began in the middle is to be made anew from the first byte.
    fn needs_beginning(&self, event: &LoopEvent) -> bool {
        if self.remote.total().is_some() {
            return false;
        }
        match event {
            // A stream may begin behind the end, which is no failure. The beginning tells the length.
            LoopEvent::Transfer(_, TransferEvent::Failed(NetError::RangeNotSatisfiable { .. })) => true,
            // The whole, up to the first byte asked for. It may be a page, and the bytes that tell are skipped.
            LoopEvent::Transfer(_, TransferEvent::Head(response)) => {
                response.status() == 200 && response.start() > 0
            }
            _ => false,
        }
    }

    fn first_bytes(&mut self) -> Result<(), StopReason> {
        if let Some((at, bytes)) = self.transfers.ready_data(Slot::Main) {
            self.store(at, &[bytes])?;
        }
        Ok(())
    }

    /// The file's length, if all of it is there and it is to be kept.
    fn complete_len(&mut self) -> Option<u64> {
        if self.sink.bypassed && !self.fits_memory_entry() {
            return None;
        }
        let writer = self.sink.writer()?;
        let len = writer.end()?;
        writer.first_missing(0..len).is_none().then_some(len)
    }

    /// Whether the complete file goes into a cache in memory. Such a file fits the window, so all of it may be downloaded.
    pub(super) fn fits_memory_entry(&self) -> bool {
        let total = self.remote.total();
        self.sink.memory_entry.is_some() && total.is_some_and(|total| total <= self.options.window)
    }

    /// The look-ahead in bytes: no more than half of the window, where only a window is kept.
    pub(super) fn look_ahead(&self) -> u64 {
        let ahead = self.options.settings.ahead().max(schedule::MIN_LOOK_AHEAD);
        if self.sink.bypassed && !self.fits_memory_entry() {
            ahead.min(self.options.window / 2)
        } else {
            ahead
        }
    }

    /// Does what the schedule decides. Returns whether the main transfer continues.
    fn act(&mut self) -> Result<bool, StopReason> {
        let (main, side) = self.transfers.spans();
        let look_ahead = match self.look_ahead() {
            ahead if self.is_full => ahead - ahead / 4,
            ahead => ahead,
        };
        let fill = self.options.settings.is_whole() && (!self.sink.bypassed || self.fits_memory_entry());
        let ranges = self.remote.ranges;
        let Some(writer) = self.sink.writer() else {
            return Ok(false);
        };
        let snapshot = Snapshot {
            // Read now. The watch's last value is older: since then a reader may have moved on, and bytes that it passed
            // may have left the window. They would be requested again.
            demand: writer.demand_now(),
            len: writer.end(),
            main,
            side,
            look_ahead,
            fill,
            ranges,
        };
        let (remote, side_watch) = (&self.remote, &self.side_watch);
        // `has_room` asks the client's pool, and only for a small jump: it takes the pool's lock.
        let action = schedule::decide(
            &snapshot,
            |range| writer.first_missing(range),
            || side_watch.allows_two() && remote.has_room(),
        );
        // Remembered, so that the next snapshot has the shorter look-ahead: the download rests until a quarter is read.
        self.is_full = action == Action::Wait;
        match action {
            Action::Wait => Ok(false),
            Action::Continue { main } => Ok(main),
            Action::Request { slot, start, end } => {
                let is_jump = main.is_some_and(|main| !main.is_done());
                let end = match slot {
                    Slot::Main if !fill => self.ramp.request_end(is_jump, start, look_ahead, end),
                    _ => end,
                };
                self.request(slot, start, end);
                Ok(slot == Slot::Main)
            }
            Action::Restart { position } => {
                if !self.remote.may_start_over() {
                    let url = self.remote.display_url();
                    // A station that hung up, and no jump: its bytes were read as they came. Another call may find it.
                    if let Some(broke_off) = self.broke_off_at.filter(|at| *at <= position) {
                        let position = broke_off;
                        return Err(StopReason::Failed(EndUnprovenSnafu { url, position }.build()));
                    }
                    return Err(StopReason::Failed(NotSeekableSnafu { url, position }.build()));
                }
                self.request(Slot::Main, 0, None);
                // What the old transfer has received comes again with the new one.
                self.transfers.close_abandoned();
                Ok(true)
            }
        }
    }

    /// Starts a transfer in `slot`, in the place of the one there.
    fn request(&mut self, slot: Slot, start: u64, end: Option<u64>) {
        let span = Span { next: start, end };
        let before = start.saturating_sub(1)..start;
        let follows_known = start > 0
            && self.remote.may_end_at(start)
            && self
                .sink
                .writer()
                .is_some_and(|writer| writer.first_missing(before).is_none());
        let request = self.remote.request(span, follows_known);
        let request = request.accept_unproven_end(self.options.accept_unproven_end);
        let request = self.transfers.attach(request);
        let transfer = Transfer::start(&self.remote.client, request, span);
        if slot == Slot::Side {
            self.side_watch.begin(self.transfers.spans().0.is_some());
        }
        if self.transfers.start(slot, transfer) {
            (self.jumped, self.salvaged) = (Some(slot), 0);
        }
        if !self.side_watch.allows_two() {
            // Read to its end, it would leave a connection that the server then waits on, and not on the next one.
            self.transfers.close_abandoned();
        }
    }

    async fn next_event(&mut self, continue_main: bool) -> LoopEvent {
        let Self {
            demand,
            transfers,
            sink,
            jumped,
            checkpoint_timer,
            side_watch,
            ..
        } = self;
        let mut changed = pin!(demand.changed());
        std::future::poll_fn(|cx| {
            if let Poll::Ready(demand) = changed.as_mut().poll(cx) {
                return Poll::Ready(LoopEvent::Demand(demand));
            }
            // A reader waits for the first bytes of a jump. What the jump left behind is salvaged after them.
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
            if side_watch.poll(cx).is_ready() {
                return Poll::Ready(LoopEvent::SideSilent);
            }
            // Last, and only before the loop sleeps: under a fast connection the sink writes by itself, in long pieces.
            if !sink.is_flushed() {
                if shared_work::is_run_by_reader() {
                    shared_work::hand_over();
                } else {
                    return Poll::Ready(LoopEvent::Idle);
                }
            }
            if let Some(wait) = sink.checkpoint_wait() {
                let timer = checkpoint_timer.get_or_insert_with(|| Box::pin(rt::sleep(wait)));
                if timer.as_mut().poll(cx).is_ready() {
                    *checkpoint_timer = None;
                    return Poll::Ready(LoopEvent::CheckpointDue);
                }
            }
            Poll::Pending
        })
        .await
    }

    async fn handle(&mut self, event: LoopEvent) -> Result<(), StopReason> {
        match event {
            // The next snapshot has it.
            LoopEvent::Demand(_) => Ok(()),
            LoopEvent::Transfer(slot, event) => self.handle_transfer(slot, event).await,
            LoopEvent::Salvaged(at, bytes) => self.handle_salvaged(at, bytes),
            LoopEvent::Idle => {
                self.sink.flush();
                Ok(())
            }
            LoopEvent::SideSilent => {
                self.give_way();
                Ok(())
            }
            LoopEvent::CheckpointDue => {
                self.sink.record_if_due();
                Ok(())
            }
        }
    }

    /// Stores what an abandoned transfer had received already, so that no later jump requests it again.
    fn handle_salvaged(&mut self, at: u64, bytes: Bytes) -> Result<(), StopReason> {
        self.salvaged += bytes.len();
        if self.salvaged >= SALVAGE_LIMIT {
            self.transfers.close_abandoned();
        }
        self.store(at, &[bytes])
    }

    /// Removes what an earlier session left of another version, and hands the remote back for a fresh start.
    pub(super) async fn discard_changed(self, change: Option<Change>) -> Remote {
        let Self { mut remote, sink, .. } = self;
        let cause = remote.changed(change);
        rt::unblock(move || sink.discard(cause)).await;
        remote.forget();
        remote
    }
}
