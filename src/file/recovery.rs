//! How a download goes on after what went wrong on the network.

use std::time::Instant;

use futures_lite::future;

use super::download::Download;
use super::outage::{NextTry, Outage};
use super::schedule::Slot;
use super::{FileControl, FileError};
use crate::rt;

impl Download {
    /// Whether a download that failed with `cause` may go on later.
    pub(super) fn may_pass(&self, cause: &FileError) -> bool {
        // The login page of a network that the machine has come into answers for the server until the user has logged in.
        // Bytes of the file prove that there is a file.
        cause.is_outage() || cause.not_media().is_some() && self.judgement.is_proven()
    }

    /// A request has failed for good with `cause`, which may pass.
    pub(super) fn note_outage(&mut self, cause: FileError) {
        let now = Instant::now();
        // What is under way belongs to the same network: it is asked for again with the rest.
        self.transfers.clear();
        // Whatever answered last may be a login page that the server's URL was redirected to.
        self.remote.return_to_own_url();
        self.forget_beginning(Slot::Main);
        self.forget_beginning(Slot::Side);
        self.side_watch.end(false);
        let limit = self.options.outage_limit;
        let is_waited_for = self.is_waited_for();
        let outage = self.outage.get_or_insert_with(|| Outage::new(now));
        let is_first = outage.is_new();
        let is_over = outage.failed(now, is_waited_for, limit);
        if is_first {
            log::warn!("{cause}; going on when it has passed");
            let cause = cause.clone();
            self.sink.emit_to_all(FileControl::OutageBegan { cause });
        }
        if is_over && let Some(writer) = self.sink.writer() {
            writer.fail_waits(cause);
        }
    }

    /// Bytes have come.
    pub(super) fn end_outage(&mut self) {
        if self.outage.take().is_some() {
            self.sink.emit_to_all(FileControl::OutageEnded);
        }
    }

    /// Rests until the next try is due. `false` if the last reader was dropped.
    pub(super) async fn sit_out(&mut self) -> bool {
        // The loop does not come to its own flush while this waits.
        self.sink.flush();
        loop {
            // Now, and not when it is due: a process in an outage is likely to be closed.
            self.sink.record_now();
            let is_waited_for = self.is_waited_for();
            let Some(outage) = &mut self.outage else {
                return true;
            };
            let NextTry::After(rest) = outage.decide(Instant::now(), is_waited_for) else {
                return true;
            };
            let changed = async { self.demand.changed().await.is_some() };
            let rested = async {
                rt::sleep(rest).await;
                true
            };
            if !future::or(changed, rested).await {
                return false;
            }
        }
    }

    fn is_waited_for(&mut self) -> bool {
        let writer = self.sink.writer();
        writer.is_some_and(|writer| !writer.demand_now().waiting.is_empty())
    }

    /// The side transfer has no head yet, and main's connection may be the reason.
    pub(super) fn give_way(&mut self) {
        self.transfers.close_abandoned();
        let parked = self.transfers.take(Slot::Main);
        self.side_watch.gave_way(parked.is_some());
        if let Some(parked) = parked {
            log::debug!("no answer beside the parked transfer, which is closed");
            // What it would have brought is requested again with the next gap.
            drop(parked);
            self.forget_beginning(Slot::Main);
        }
    }
}
