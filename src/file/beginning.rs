//! The beginning of a file is judged before a byte of it is stored: it may be another network's login page.
//!
//! ```text
//!   head ──▶ status, length, type ──▶ first bytes, held back ──▶ media: stored, readers wake
//!                   │                        │
//!                   └─ not media ◀───────────┘
//!                        ├─ nothing was stored before: the partial entry goes
//!                        └─ a part of the file is there: it stays, and can be resumed
//! ```
//!
//! Once the beginning is media, what follows is held to be the same file by the validators and the length. An answer that
//! contradicts those may be a new version of the file, or again no file at all. So it is asked once more, without
//! conditions, before bytes that are there are given up for it ([`probe`]).

use std::time::Duration;

use bytes::Bytes;
use futures_lite::{StreamExt as _, future};

use super::download::{Download, MAX_BREAKS, StopReason};
use super::error::{LengthChangedSnafu, UnstableValidatorsSnafu};
use super::remote::Identity;
use super::schedule::Slot;
use super::server_info::ServerInfo;
use super::{FileError, SameFile};
use crate::media::{Candidate, Judge, NotMedia};
use crate::net::{ByteRange, Change, HttpClient, NetError, Request, Response};
use crate::rt;
use crate::storage::Writer;

/// The most bytes that a probe asks for. The judge is sure by then.
const PROBE: u64 = 16 * 1024;
/// The most time for a probe: a reader waits for it.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// What the judge has said of a file.
pub(super) struct Judgement {
    /// The first bytes, until they are judged.
    beginning: Option<Beginning>,
    /// Whether the first bytes are there and are media.
    is_proven: bool,
    /// Whether an earlier session left a part of the file.
    is_resumed: bool,
    /// Whether media came under a type that names something else.
    is_type_overruled: bool,
}

impl Judgement {
    /// `has_beginning`: the first byte is there.
    pub(super) fn new(is_resumed: bool, has_beginning: bool) -> Self {
        Self {
            beginning: None,
            is_proven: is_resumed && has_beginning,
            is_resumed,
            is_type_overruled: false,
        }
    }

    /// Whether the first bytes are there and are media.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Whether first bytes are held back.
    pub(super) fn is_open(&self) -> bool {
        self.beginning.is_some()
    }

    /// Keeps what the head told, until the first bytes are judged.
    pub(super) fn hold_info(&mut self, info: ServerInfo) {
        if let Some(beginning) = &mut self.beginning {
            beginning.info = Some(info);
        }
    }
}

/// The first bytes of a file, while they are judged.
struct Beginning {
    candidate: Candidate,
    /// The transfer that brings them.
    slot: Slot,
    held: Vec<Bytes>,
    /// Where the next bytes belong.
    reached: u64,
    /// What its head told. It is shown if this is media.
    info: Option<ServerInfo>,
}

impl Download {
    /// Judges the head of a response whose bytes begin at `start`.
    pub(super) fn judge_head(
        &mut self,
        slot: Slot,
        response: &Response,
        start: u64,
    ) -> Result<(), StopReason> {
        let judged = self.options.judge.head(response, start);
        let candidate = judged.map_err(|refusal| self.refused(refusal))?;
        if start == 0 && !self.judgement.is_proven {
            self.judgement.beginning = Some(Beginning {
                candidate,
                slot,
                held: Vec::new(),
                reached: 0,
                info: None,
            });
            return Ok(());
        }
        // The same strong validator proves more than a type. No body, no harm: 416 commonly comes with a page's type.
        let validator = response.validator();
        let is_confirmed = validator.is_some() && validator.as_ref() == self.remote.validator();
        if self.judgement.is_type_overruled || is_confirmed || response.content_length() == Some(0) {
            return Ok(());
        }
        // Bytes from the middle of a file may look like anything.
        candidate.judge_type().map_err(|refusal| self.refused(refusal))
    }

    /// Whether an answer that looks like no media by its type has not been judged yet.
    pub(super) fn is_suspect(&self) -> bool {
        let candidate = self
            .judgement
            .beginning
            .as_ref()
            .map(|beginning| &beginning.candidate);
        candidate.is_some_and(Candidate::is_suspect)
    }

    /// Takes bytes at `at` if they are part of the beginning that is being judged. `None` if they are not. Otherwise what
    /// may be stored at 0: nothing while the judgement is open.
    pub(super) fn judge_bytes(
        &mut self,
        at: u64,
        chunks: &[Bytes],
    ) -> Result<Option<Vec<Bytes>>, StopReason> {
        let Some(beginning) = self
            .judgement
            .beginning
            .as_mut()
            .filter(|beginning| beginning.reached == at)
        else {
            return Ok(None);
        };
        let mut judged = Ok(false);
        for chunk in chunks {
            beginning.reached += chunk.len() as u64;
            beginning.held.push(chunk.clone());
            // Only until it is decided: a later chunk must not be judged by itself.
            if matches!(judged, Ok(false)) {
                judged = beginning.candidate.push(chunk);
            }
        }
        match judged {
            Ok(false) => Ok(Some(Vec::new())),
            Ok(true) => self.accept_beginning().map(Some),
            Err(refusal) => Err(self.refused(refusal)),
        }
    }

    /// The transfer in `slot` has come to its end. What it brought is all there is, unless the answer was a part of more.
    pub(super) fn judge_end(&mut self, slot: Slot, is_part_of_more: bool) -> Result<(), StopReason> {
        let Some(beginning) = self
            .judgement
            .beginning
            .as_ref()
            .filter(|beginning| beginning.slot == slot)
        else {
            return Ok(());
        };
        if !is_part_of_more {
            let judged = beginning.candidate.finish();
            judged.map_err(|refusal| self.refused(refusal))?;
        }
        let held = self.accept_beginning()?;
        self.store_judged(0, &held)
    }

    /// The transfer in `slot` is gone. What was held back of it comes again with the next request.
    pub(super) fn forget_beginning(&mut self, slot: Slot) {
        let forgotten = self
            .judgement
            .beginning
            .take_if(|beginning| beginning.slot == slot);
        let has_nothing =
            |writer: &mut Writer<FileError>| writer.end().is_none() && writer.available().is_empty();
        // It may have been of no file. Where that answer was all that is known, its length and its validators go too: the
        // file's own would contradict them.
        if forgotten.is_some() && !self.judgement.is_resumed && self.sink.writer().is_some_and(has_nothing) {
            self.remote.forget();
        }
    }

    fn accept_beginning(&mut self) -> Result<Vec<Bytes>, StopReason> {
        self.judgement.is_proven = true;
        self.judgement.is_type_overruled |= self.is_suspect();
        let beginning = self.judgement.beginning.take();
        self.keep_length()?;
        let Some(Beginning { held, info, .. }) = beginning else {
            return Ok(Vec::new());
        };
        if let Some(info) = info {
            self.options.settings.set_server_info(|| info);
        }
        Ok(held)
    }

    pub(super) fn refused(&mut self, refusal: NotMedia) -> StopReason {
        log::warn!("{refusal}");
        // Bytes from the middle may have been stored before the beginning was judged. They are of no file, so nothing may
        // go on from them. What an earlier session left stays: this answer says nothing about it.
        if !self.judgement.is_proven && !self.judgement.is_resumed {
            self.sink.resumable = false;
        }
        StopReason::Failed(FileError::from(refusal))
    }

    /// A response contradicted what is there. Finds out whether the server has another file, or what answers is no file at
    /// all: only the former is worth giving up what is there.
    pub(super) async fn explain_change(&mut self, change: Option<Change>) -> StopReason {
        self.transfers.clear();
        // The transfer that was to bring it is gone with the others. Kept, it would hold back the requests for its bytes.
        self.judgement.beginning = None;
        let request = self.transfers.attach(self.remote.unconditional_request());
        let (client, same_file) = (&self.remote.client, self.remote.same_file());
        let asked = probe(client, request, &self.options.judge, same_file);
        let unwanted = async {
            while self.demand.changed().await.is_some() {}
            Probed::Unknown
        };
        match future::or(asked, unwanted).await {
            Probed::Media(now) => self.explain_version(&now, change).await,
            Probed::NotMedia(refusal) => self.refused(refusal),
            // What is there stays. The next session asks again.
            Probed::Unknown => StopReason::Failed(self.remote.changed(change)),
        }
    }

    /// A response contradicted what is there, and the server has media: the version `now`.
    async fn explain_version(&mut self, now: &Identity, change: Option<Change>) -> StopReason {
        let same_file = self.remote.same_file();
        let Some(before) = self.remote.identity() else {
            return StopReason::Changed(change);
        };
        let change = same_file.change(before, now).or(change);
        let url = self.remote.display_url();
        if !same_file.tells_apart(before, now) {
            let (before, now) = (before.total.unwrap_or_default(), now.total);
            let now = now.filter(|now| *now != before);
            // What contradicted was no word of this server: a login page that is gone by now. Or the server contradicts
            // itself, and goes on so.
            if now.is_none() && self.breaks < MAX_BREAKS {
                self.breaks += 1;
                return StopReason::Passed;
            }
            return StopReason::Failed(LengthChangedSnafu { url, before, now }.build());
        }
        let has_validator = now.validator.clone().filter(|_| same_file.is_by_validators());
        if let Some(validator) = has_validator.filter(|_| before.total == now.total) {
            let request = self.remote.unconditional_request().if_range(validator);
            let request = self.transfers.attach(request);
            if is_refused(&self.remote.client, request).await {
                return StopReason::Failed(UnstableValidatorsSnafu { url }.build());
            }
        }
        StopReason::Changed(change)
    }
}

/// Whether a server does not know the validator any more that it told a moment ago. A file that changed has one new
/// validator; machines behind one name have each their own.
async fn is_refused(client: &HttpClient, request: Request) -> bool {
    let asked = async { Some(client.send_once(request.range(ByteRange::new(0, PROBE))).await) };
    let limit = async {
        rt::sleep(PROBE_LIMIT).await;
        None
    };
    matches!(
        future::or(asked, limit).await,
        Some(Err(NetError::Changed { .. }))
    )
}

/// What a server has now.
pub(super) enum Probed {
    Media(Identity),
    NotMedia(NotMedia),
    /// It cannot be reached, or refuses.
    Unknown,
}

/// Asks once for the beginning of what the server has now, and judges it. No condition goes along: a portal's page is
/// answered in place of any of them, and would pass for a change.
pub(super) async fn probe(
    client: &HttpClient,
    request: Request,
    judge: &Judge,
    same_file: &SameFile,
) -> Probed {
    let asked = async {
        let request = request.range(ByteRange::new(0, PROBE)).optional_range();
        match judge_answer(client, request, judge, same_file).await {
            Ok(Ok(version)) => Probed::Media(version),
            Ok(Err(refusal)) => Probed::NotMedia(refusal),
            Err(error) => {
                log::info!("{error}");
                NotMedia::of_status(&error).map_or(Probed::Unknown, Probed::NotMedia)
            }
        }
    };
    let limit = async {
        rt::sleep(PROBE_LIMIT).await;
        Probed::Unknown
    };
    future::or(asked, limit).await
}

async fn judge_answer(
    client: &HttpClient,
    request: Request,
    judge: &Judge,
    same_file: &SameFile,
) -> Result<Result<Identity, NotMedia>, NetError> {
    let response = client.send_once(request).await?;
    let mut candidate = match judge.head(&response, 0) {
        Ok(candidate) => candidate,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let version = Identity::of(&response, same_file);
    let mut body = response.into_body();
    while let Some(bytes) = body.try_next().await? {
        match candidate.push(&bytes) {
            Ok(false) => {}
            Ok(true) => return Ok(Ok(version)),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    Ok(candidate.finish().map(|()| version))
}
