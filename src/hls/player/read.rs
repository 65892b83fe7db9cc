//! The part that plays, chunk by chunk, to its end or to where it goes on from elsewhere.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;

use super::{
    super::{
        HlsControl, HlsError,
        editions::Question,
        look_ahead::Left,
        open_part::{Input, OpenPart},
        pending_commits::PendingCommits,
        track::{Part, Track},
    },
    Player,
};
use crate::{media::Bypass, rt};

/// How long no byte comes before that is told. A segment's round trip is shorter.
const STALL: Duration = Duration::from_millis(500);

impl Player {
    /// Reads one chunk of the open part, or ends the part.
    pub(super) async fn read(&mut self, track: &Arc<Track>) -> Result<(), HlsError> {
        // Out of `self` while it is read, so that a failure closes it.
        let Some(mut part) = self.open.take() else {
            return Ok(());
        };
        let plain = match self.next_or_stall(&mut part).await {
            None => {
                self.is_stalled = true;
                self.announcer.look_ahead(HlsControl::Stalled);
                self.open = Some(part);
                return Ok(());
            }
            Some(Ok(Some(plain))) => plain,
            Some(Ok(None)) => return self.end_part(track, part),
            Some(Err(left)) => return self.leave_part(track, part, left).await,
        };
        if std::mem::take(&mut self.is_stalled) {
            self.announcer.look_ahead(HlsControl::Resumed);
        }
        // Of an entry that has failed and was fetched in its place. Known to be media by now: what a login page's server says is
        // not learned.
        if let Input::Own { reader, .. } = &mut part.input
            && let Some((place, witness)) = reader.reader.take_witness()
        {
            match self.state.witness(track, place).await {
                None => self.state.learn(&mut self.context, track, place, witness),
                Some(known) if known.contradicts(&witness) => {
                    return self.leave_part(track, part, Left::Contradicted).await;
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
            let buffered = || self.place.buffered();
            self.announcer.give_out(timeline, &mut part, plain, buffered);
            if self.state.fetcher.params.selector.is_some() && timeline.playing() == timeline.number() {
                self.place.set_read(part.plain);
            }
        }
        self.open = Some(part);
        Ok(())
    }

    /// The part's next plaintext; `None` where there is none for a while, which is to be told.
    async fn next_or_stall(&mut self, part: &mut OpenPart) -> Option<Result<Option<Bytes>, Left>> {
        // Once for each silence, and not before the first message.
        let is_told = part.is_shared() && !self.is_stalled && self.announcer.has_begun();
        let mut next = pin!(part.next(&self.state.fetcher, &mut self.context));
        let mut silence = None;
        poll_fn(|task| {
            if let Poll::Ready(next) = next.as_mut().poll(task) {
                return Poll::Ready(Some(next));
            }
            if !is_told {
                return Poll::Pending;
            }
            // Armed by the first poll that finds nothing.
            let silence = silence.get_or_insert_with(|| Box::pin(rt::sleep(STALL)));
            silence.as_mut().poll(task).map(|()| None)
        })
        .await
    }

    /// Does what is to be done about a part that gives no more.
    async fn leave_part(&mut self, track: &Arc<Track>, part: OpenPart, left: Left) -> Result<(), HlsError> {
        let number = self.number();
        let error = match left {
            Left::Panicked => {
                self.fetches_itself = Some(number);
                self.interrupted = Some(part);
                return Ok(());
            }
            // By another stream's selector, maybe: then this one reads on.
            Left::Switched => {
                self.switched_at = Some(number);
                self.interrupted = Some(part);
                return Ok(());
            }
            Left::Cached | Left::GivenUp => {
                self.interrupted = Some(part);
                return Ok(());
            }
            Left::NewEdition => {
                self.other = self.state.newer(track).await?.or(self.other.take());
                self.interrupted = Some(part);
                return Ok(());
            }
            Left::Contradicted => {
                self.interrupted = Some(part);
                let is_first = self.contradicted_for.replace(number) != Some(number);
                return if is_first {
                    self.ask_now(track, Question::Files).await
                } else {
                    Ok(())
                };
            }
            Left::Changed => HlsError::Changed {
                resource: part.resource(),
            },
            Left::Failed(error @ HlsError::Decrypt { .. }) => {
                return self.does_not_decrypt(track, part, error);
            }
            Left::Failed(error) => error,
        };
        // The entry fails behind its first byte.
        if self.is_only_missing(&error) {
            if let HlsError::OfflineCache { resource, source } = error {
                self.context.bypass(&resource, Bypass::Refused(source));
            }
            self.interrupted = Some(part);
            return self.leave_copy();
        }
        self.load_again(track, number, error).await?;
        self.read_on(part).await
    }

    /// The part has come to its proven end.
    fn end_part(&mut self, track: &Track, mut part: OpenPart) -> Result<(), HlsError> {
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
        let part_bypassed = part.take_bypassed();
        // Only of a part that was read to its proven end.
        track.set_part_len(self.number(), part.plain);
        self.announcer.position += part.plain;
        // A section proves nothing of its segment, which may be what is lost.
        if !track.part(self.number()).is_some_and(Part::is_section) {
            self.lost = None;
        }
        self.go_on();
        // After the padding was found right: a resource that does not decrypt is never kept.
        if let Input::Own { reader, .. } = part.input
            && let Some(commit) = reader.commit(&self.state.fetcher, &mut self.context)
        {
            self.context.commits.push(commit);
        } else if let Some(bypassed) = part_bypassed {
            self.context.commits.append(PendingCommits::failed(bypassed));
        }
        Ok(())
    }

    /// Neither the key nor the resource is trusted any more: which of the two is wrong cannot be told. If one of them came
    /// from the cache and no byte was given out, both are fetched anew now, else the next time.
    fn does_not_decrypt(&mut self, track: &Track, part: OpenPart, error: HlsError) -> Result<(), HlsError> {
        let number = self.number();
        let media = track.part(number).and_then(|part| part.media.as_ref());
        if let Some(reference) = media.and_then(|media| media.key.as_ref()) {
            self.state.fetcher.forget_key(&reference.path);
            self.damaged.push(reference.path.clone());
        }
        let was_given_out = part.plain > 0;
        if let Input::Own { reader, .. } = part.input {
            self.damaged.extend(reader.reader.into_damaged());
        }
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
}
