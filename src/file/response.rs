//! What the transfers of a [`Download`] bring: heads, bytes, ends and failures.

use std::time::Duration;

use bytes::Bytes;
use futures_lite::future;

use super::download::{Download, MAX_BREAKS, StopReason};
use super::error::EndUnprovenSnafu;
use super::revalidate::StoredValidators;
use super::schedule::{Slot, Span};
use super::server_info::{ServerInfo, says_no_store};
use super::transfer::TransferEvent;
use super::{Bypass, FileError};
use crate::media::NotMedia;
use crate::net::{NetError, Response};
use crate::rt;

/// The wait after the first break. Each further one doubles it.
const BREAK_WAIT: Duration = Duration::from_millis(200);
/// A connection that brings chunks of this size has more bytes ready than one read takes.
const FAST_CHUNK: usize = 128 * 1024;
/// Shorter chunks are joined before they are stored.
const SMALL_CHUNK: usize = 4 * 1024;
/// The most bytes to store at once from a fast connection: readers are woken once for all of them.
const GATHER_LIMIT: usize = 1024 * 1024;

impl Download {
    pub(super) async fn handle_transfer(
        &mut self,
        slot: Slot,
        event: TransferEvent,
    ) -> Result<(), StopReason> {
        match event {
            TransferEvent::Head(response) => self.head(slot, *response),
            TransferEvent::Data(at, bytes) => self.data(slot, at, bytes),
            TransferEvent::End {
                at,
                with_connection,
                total,
            } => {
                if let (None, Some(total)) = (self.remote.total(), total) {
                    self.proven_end(total)?;
                }
                self.ended(slot, at, with_connection)
            }
            TransferEvent::Failed(error) => self.failed(slot, error).await,
        }
    }

    fn head(&mut self, slot: Slot, response: Response) -> Result<(), StopReason> {
        if slot == Slot::Side {
            self.side_watch.end(true);
        }
        self.judge_head(slot, &response, response.start())?;
        // Before a byte of the body: bytes of two versions must not meet in one file.
        self.remote.check(&response).map_err(StopReason::Changed)?;
        let total = self.remote.total();
        if self.options.stores_validators {
            self.sink.validators = StoredValidators::of(response.headers(), self.remote.same_file());
        }
        self.sink.resumable = self.remote.tag().is_some();
        if self.options.respects_no_store && says_no_store(response.headers()) {
            // What an earlier session left goes too, with the end of this download.
            (self.sink.resumable, self.sink.memory_entry) = (false, None);
            self.sink.bypass(Bypass::NoStore);
        }
        let serves_ranges = self.remote.ranges;
        if self.judgement.is_open() {
            self.judgement.hold_info(ServerInfo::of(&response, serves_ranges));
        } else {
            let settings = &self.options.settings;
            settings.set_server_info(|| ServerInfo::of(&response, serves_ranges));
        }
        let partial = response.content_range().is_some();
        let body = response.into_body();
        if total.is_none() && body.ends_with_connection() {
            self.sink.bypass(Bypass::UnknownLength);
        }
        let Some(writer) = self.sink.writer() else {
            return Ok(());
        };
        writer.set_sequential(!serves_ranges);
        // A login page has a length too. Until its first bytes are judged no reader learns it: another source that waits for
        // this download would take it for that of the file, while what is refused here is still being removed.
        if !self.judgement.is_open() {
            self.keep_length()?;
        }
        let start = body.position();
        self.transfers.with(|slots| {
            if let Some(transfer) = slots.slot(slot) {
                transfer.span.next = start;
                transfer.partial = partial;
                transfer.read(body);
            }
        });
        Ok(())
    }

    /// Tells readers the file's length, if it is known, and has it recorded with what proves the file to be the same.
    pub(super) fn keep_length(&mut self) -> Result<(), StopReason> {
        let tag = self.remote.tag();
        let (Some(total), Some(writer)) = (self.remote.total(), self.sink.writer()) else {
            return Ok(());
        };
        writer.set_len(total).map_err(|_| StopReason::Changed(None))?;
        // An error means that the tag is too long to be recorded. The next session downloads again, no more.
        let _ = writer.set_tag(tag.unwrap_or_default());
        Ok(())
    }

    fn data(&mut self, slot: Slot, at: u64, bytes: Bytes) -> Result<(), StopReason> {
        let bytes = self.join_small(slot, bytes);
        self.note_progress(at, bytes.len() as u64);
        let chunks = self.gather(slot, bytes);
        self.store(at, &chunks)?;
        // One jump is likely to be followed by another, which would wait for the handshakes of its connection. It is made
        // now, when the reader of this jump has its bytes and the link is free.
        if self.jumped.take_if(|jumped| *jumped == slot).is_some() && self.side_watch.allows_two() {
            self.transfers.prepare(self.remote.prepare());
        }
        Ok(())
    }

    /// Bytes have come at `at`. If some are new, the failures before them are over.
    fn note_progress(&mut self, at: u64, len: u64) {
        if self.breaks == 0 && self.outage.is_none() {
            return;
        }
        // A server without ranges begins anew after each break. Were those bytes taken for progress, one that always breaks
        // at the same place would be asked for ever (fault D5).
        let writer = self.sink.writer();
        if writer.is_some_and(|writer| writer.first_missing(at..at + len).is_some()) {
            self.breaks = 0;
            self.end_outage();
        }
    }

    /// `first`, joined with the chunks that are ready behind it if it is small.
    fn join_small(&self, slot: Slot, first: Bytes) -> Bytes {
        if first.len() >= SMALL_CHUNK {
            return first;
        }
        // Each piece that is stored costs some hundred bytes beside its own, and a step of each search. A server may send
        // its body in chunks of one byte.
        let mut joined = Vec::new();
        while joined.len() < SMALL_CHUNK
            && let Some((_, bytes)) = self.transfers.ready_data(slot)
        {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&bytes);
        }
        if joined.is_empty() {
            first
        } else {
            Bytes::from(joined)
        }
    }

    /// `first`, and on a fast connection the chunks that are ready behind it.
    fn gather(&self, slot: Slot, first: Bytes) -> Vec<Bytes> {
        let (mut last, mut sum) = (first.len(), first.len());
        let mut chunks = vec![first];
        // With a short look-ahead the schedule weighs each chunk: gathering would pass the look-ahead's end.
        let limit = if self.look_ahead() > 4 * GATHER_LIMIT as u64 {
            GATHER_LIMIT
        } else {
            0
        };
        while last >= FAST_CHUNK
            && sum < limit
            && let Some((_, bytes)) = self.transfers.ready_data(slot)
        {
            last = bytes.len();
            sum += last;
            chunks.push(bytes);
        }
        chunks
    }

    /// Stores the consecutive `chunks` at `at`, unless they are the beginning of the file and not judged yet.
    pub(super) fn store(&mut self, at: u64, chunks: &[Bytes]) -> Result<(), StopReason> {
        match self.judge_bytes(at, chunks)? {
            Some(judged) if judged.is_empty() => Ok(()),
            Some(judged) => self.store_judged(0, &judged),
            None => self.store_judged(at, chunks),
        }
    }

    /// Stores the consecutive `chunks` at `at`.
    pub(super) fn store_judged(&mut self, at: u64, chunks: &[Bytes]) -> Result<(), StopReason> {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let reached = at.saturating_add(len);
        if self.remote.total().is_none() && reached > self.options.unknown_length_limit {
            self.sink.bypass(Bypass::UnknownLength);
        }
        // A byte behind the end that the server announced belongs to another file.
        let written = self.sink.write(at, chunks);
        written.map_err(|_| StopReason::Changed(None))?;
        if self.options.settings.is_background() {
            self.sink.sync_ahead_if_due();
        }
        if self.sink.bypassed {
            let window = self.options.window;
            // Twice the window ahead: one chunk may reach far beyond the look-ahead.
            self.sink
                .slide(window / 4, 2 * window, window, !self.remote.ranges);
        }
        Ok(())
    }

    fn ended(&mut self, slot: Slot, at: u64, with_connection: bool) -> Result<(), StopReason> {
        // The end of a part proves nothing. What follows is requested: bytes, or the answer that there are none (fault
        // D7).
        let transfer = self.transfers.take(slot);
        let is_part = transfer.as_ref().is_some_and(|transfer| transfer.partial);
        let is_part_of_more = is_part && self.remote.total().is_none_or(|total| at < total);
        self.judge_end(slot, is_part_of_more)?;
        let proves_end = transfer.is_some_and(|transfer| transfer.span.end.is_none() && !transfer.partial);
        if !proves_end || self.remote.total().is_some() {
            return Ok(());
        }
        if with_connection && !self.options.accept_unproven_end {
            let url = self.remote.display_url();
            return Err(StopReason::Failed(EndUnprovenSnafu { url, position: at }.build()));
        }
        self.proven_end(at)
    }

    fn proven_end(&mut self, total: u64) -> Result<(), StopReason> {
        self.remote.learn_total(total);
        match self.sink.writer().map(|writer| writer.set_len(total)) {
            Some(Err(_)) => Err(StopReason::Changed(None)),
            _ => Ok(()),
        }
    }

    /// `refusal` of a range is the first to tell a length. Gateways and caches refuse with lengths of their own, and a reader
    /// would find a false end there. So the last byte is asked for: the part that it comes in ends there, or tells another
    /// length, or the refusal was no word on the file.
    async fn confirm_length(&mut self, refusal: NetError, total: u64) -> Result<(), StopReason> {
        let span = Span {
            next: total.saturating_sub(1),
            end: None,
        };
        let request = self.transfers.attach(self.remote.request(span, false));
        let client = self.remote.client.clone();
        let asked = async { Some(client.send(request).await) };
        // The driver must not outlive its readers by a silent server.
        let unwanted = async {
            while self.demand.changed().await.is_some() {}
            None
        };
        let Some(answer) = future::or(asked, unwanted).await else {
            return Ok(());
        };
        let response = answer.map_err(|error| StopReason::Failed(FileError::from(error)))?;
        self.remote.check(&response).map_err(StopReason::Changed)?;
        if response.content_range().is_some_and(|part| part.end() == total) {
            self.remote.learn_total(total);
        }
        // Without ranges the file is read to its end, which tells the length.
        if self.remote.total().is_none() && self.remote.ranges {
            return Err(StopReason::Failed(FileError::from(refusal)));
        }
        self.keep_length()
    }

    /// From now on the file is read from its first byte to its last.
    fn lose_ranges(&mut self) {
        self.remote.ranges = false;
        self.options.settings.lose_ranges();
        if let Some(writer) = self.sink.writer() {
            writer.set_sequential(true);
        }
    }

    async fn failed(&mut self, slot: Slot, error: NetError) -> Result<(), StopReason> {
        let transfer = self.transfers.take(slot);
        // Before what is known is forgotten: the client has tried as often as it may.
        let is_resumed_by_client = self.remote.validator().is_some() && self.remote.ranges;
        self.forget_beginning(slot);
        if slot == Slot::Side {
            self.side_watch.end(false);
        }
        let broke_off = transfer.filter(|transfer| !transfer.waits_for_head());
        let was_reading = broke_off.is_some();
        self.broke_off_at = broke_off.map(|transfer| transfer.span.next).or(self.broke_off_at);
        // A success that stands for no file says nothing of what is there.
        if let Some(refusal) = NotMedia::of_status(&error) {
            return Err(self.refused(refusal));
        }
        match error {
            // The client's own resume goes by the validators. Where the app goes by something else, the bytes are requested
            // again without them, and compared as the app wants. What contradicts an answer that was not judged is no
            // change of the file.
            NetError::Changed { .. }
                if was_reading
                    && (!self.remote.is_by_validators() || self.remote.identity().is_none())
                    && self.breaks < MAX_BREAKS =>
            {
                self.breaks += 1;
                return Ok(());
            }
            NetError::Changed { change, .. } => return Err(StopReason::Changed(Some(change))),
            // The server has the file, but not in ranges. The main transfer, or a new one, reads it from the start.
            NetError::RangeIgnored { .. } if self.remote.ranges => {
                self.lose_ranges();
                return Ok(());
            }
            // It refuses every range, and has shown that only now.
            NetError::RangeNotSatisfiable { total: None, .. }
                if self.remote.ranges && !self.remote.has_served_parts() =>
            {
                self.lose_ranges();
                return Ok(());
            }
            // The first word on the length, and no failure: a reader may seek behind the end. A file that is longer than where
            // the range begins has bytes there: such an answer contradicts itself, and its length is not believed.
            refusal @ NetError::RangeNotSatisfiable {
                start,
                total: Some(total),
                ..
            } if start >= total && !was_reading && self.remote.total().is_none() => {
                return self.confirm_length(refusal, total).await;
            }
            // Where the host that a redirect led to refuses, or cannot be reached, the redirect is asked again: it may lead
            // to another host, or to a URL with a new signature.
            _ if self.remote.returns_to_own_url(&error) => {
                log::debug!("{error}; asking {} again", self.remote.display_url());
                return Ok(());
            }
            // The client resumes by itself where a validator proves the file to be the same, and the server serves ranges.
            // Otherwise it is requested again here, and `Remote::check` compares what there is to compare.
            _ if was_reading
                && (error.is_transient() || matches!(error, NetError::RangeIgnored { .. }))
                && !is_resumed_by_client
                && (self.remote.ranges || self.remote.may_start_over())
                && self.breaks < MAX_BREAKS =>
            {
                let wait = BREAK_WAIT * 2_u32.pow(self.breaks);
                // The client has spent a request of its own to learn that there are no ranges.
                self.breaks += if matches!(error, NetError::RangeIgnored { .. }) {
                    2
                } else {
                    1
                };
                log::debug!("{error}; going on in {wait:?}");
                // The loop does not come to its own flush while this waits.
                self.sink.flush();
                // The last reader's drop ends the wait: the driver must not outlive its readers by a back-off.
                let unwanted = async { while self.demand.changed().await.is_some() {} };
                future::or(unwanted, rt::sleep(wait)).await;
                return Ok(());
            }
            _ => {}
        }
        // The parked main transfer may keep the connection that this one needs, or the server may refuse a second one. With
        // main closed, the schedule requests the same bytes in main's place.
        if slot == Slot::Side
            && let Some(parked) = self.transfers.take(Slot::Main)
        {
            log::debug!("{error}; once more, without the parked transfer");
            drop(parked);
            self.forget_beginning(Slot::Main);
            return Ok(());
        }
        Err(StopReason::Failed(FileError::from(error)))
    }
}
