//! What is checked, rule by rule.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream as _;

use super::ways::{Run, WAYS, collect, with};
use super::{Contract, Offline, Violation};
use crate::stream::{Message, Source, SourceStream, StreamError};

impl<S: Source> Contract<S> {
    /// The bytes, in order, then the end; raw and in each way to run a stream.
    pub(super) async fn plays_to_its_end(&self) -> Result<(), Violation> {
        const RULE: &str = "plays to its end";
        // Without a stream around it first: a failure here is the source's own.
        let mut source = (self.make)();
        self.expect(RULE, 0, self.open(RULE, &mut source)?).await?;
        for way in WAYS {
            let mut stream = way.run((self.make)(), self.params.clone());
            let all = collect(&mut stream.stream, stream.driver.as_mut()).await;
            self.compare(RULE, 0, &all.map_err(|error| failed(RULE, way.name(), &error))?)?;
        }
        Ok(())
    }

    /// The position stays recorded: opening does not use it up, and playing does not move it.
    pub(super) async fn reopens_where_it_was(&self) -> Result<(), Violation> {
        const RULE: &str = "reopens where it was";
        let mut source = (self.make)();
        self.expect(RULE, 0, self.open(RULE, &mut source)?).await?;
        self.expect(RULE, 0, self.open(RULE, &mut source)?).await?;
        if source.supports_seek() {
            let middle = self.length() / 2;
            seek(RULE, &mut source, middle)?;
            self.expect(RULE, middle, self.open(RULE, &mut source)?).await?;
            // The second open finds out whether the first one has used the position up.
            self.expect(RULE, middle, self.open(RULE, &mut source)?).await?;
        }
        Ok(())
    }

    /// Dropped after any number of items, a source opens again as if nothing had been.
    pub(super) async fn can_be_dropped_anywhere(&self) -> Result<(), Violation> {
        const RULE: &str = "can be dropped anywhere";
        // Past the beginning of a source, where it may do things that it does once.
        const POINTS: usize = 32;
        let mut source = (self.make)();
        for items in 0..POINTS {
            let mut opened = self.open(RULE, &mut source)?;
            let mut ended = false;
            for _ in 0..items {
                ended = matches!(next(&mut opened).await, None | Some(Err(_)));
                if ended {
                    break;
                }
            }
            drop(opened);
            if ended {
                break;
            }
        }
        self.expect(RULE, 0, self.open(RULE, &mut source)?).await
    }

    /// Wherever to, in any order, however far the stream before has been read, and though it is still there.
    pub(super) async fn seeks(&self) -> Result<(), Violation> {
        const RULE: &str = "goes on where it was sought";
        let length = self.length();
        let mut source = (self.make)();
        let mut before = self.open(RULE, &mut source)?;
        for position in [
            length / 2,
            length / 3,
            0,
            length.saturating_sub(1),
            1.min(length),
            length,
        ] {
            // Whatever it yields: `before` is here because a driver opens the new stream while the old one is open.
            let _ = next(&mut before).await;
            seek(RULE, &mut source, position)?;
            self.expect(RULE, position, self.open(RULE, &mut source)?).await?;
            before = self.open(RULE, &mut source)?;
        }
        Ok(())
    }

    /// Past the end there is nothing: refused, failed, or ended at once. And a refusal moves nothing.
    pub(super) async fn ends_behind_its_end(&self) -> Result<(), Violation> {
        const RULE: &str = "has nothing behind its end";
        // The largest position finds sums that overflow.
        for position in [self.length() + 1, u64::MAX] {
            let mut source = (self.make)();
            let middle = self.length() / 2;
            seek(RULE, &mut source, middle)?;
            if source.seek_bytes(position).is_err() {
                self.expect(
                    "a refused seek moves nothing",
                    middle,
                    self.open(RULE, &mut source)?,
                )
                .await?;
                continue;
            }
            let Ok(mut opened) = source.open(&self.params) else {
                continue;
            };
            while let Some(Ok(message)) = next(&mut opened).await {
                if matches!(message, Message::Data(data) if !data.is_empty()) {
                    return broken(RULE, format!("yielded bytes at {position}"));
                }
            }
        }
        Ok(())
    }

    /// Through a handle, while the stream is being read, and after its end was made but not read.
    pub(super) async fn seeks_while_it_plays(&self) -> Result<(), Violation> {
        const RULE: &str = "seeks while it plays";
        let length = self.length();
        for way in WAYS {
            // Nothing is read between the seeks. So each one finds items of the one before in the queue, at last an end
            // that was made and not read, and none of it may be delivered.
            let mut run = way.run((self.make)(), self.params.clone());
            let handle = run.stream.handle();
            for position in [length / 2, 0, length, length / 3] {
                let sought = with(handle.seek_bytes(position), run.driver.as_mut()).await;
                sought.map_err(|error| failed(RULE, way.name(), &error))?;
            }
            let all = collect(&mut run.stream, run.driver.as_mut()).await;
            self.compare(
                RULE,
                length / 3,
                &all.map_err(|error| failed(RULE, way.name(), &error))?,
            )?;
        }
        Ok(())
    }

    /// A source that says it cannot seek says so to the caller too, and plays on.
    pub(super) async fn refuses_what_it_cannot(&self) -> Result<(), Violation> {
        const RULE: &str = "refuses a seek it cannot do";
        let mut source = (self.make)();
        // Opened before the refusal, and read to its end after it.
        let opened = self.open(RULE, &mut source)?;
        match source.seek_bytes(self.length() / 2) {
            Err(StreamError::SeekNotSupported) => {}
            Err(error) => return Err(failed(RULE, "not with `SeekNotSupported`", &error)),
            Ok(()) => return broken(RULE, "accepted"),
        }
        self.expect(RULE, 0, opened).await?;
        self.expect(RULE, 0, self.open(RULE, &mut source)?).await
    }

    /// At time 0 the whole track plays, whatever was sought before; a source without a clock says so and plays on.
    pub(super) async fn seeks_by_time(&self) -> Result<(), Violation> {
        const RULE: &str = "seeks by time, or says it cannot";
        let mut source = (self.make)();
        // Away from the start, so that a seek to time 0 has something to do.
        if source.supports_seek() {
            seek(RULE, &mut source, self.length() / 2)?;
        }
        let opened = self.open(RULE, &mut source)?;
        let middle = if source.supports_seek() {
            self.length() / 2
        } else {
            0
        };
        match (source.supports_seek_time(), source.seek_time(Duration::ZERO)) {
            (true, Ok(())) => self.expect(RULE, 0, self.open(RULE, &mut source)?).await,
            (false, Err(StreamError::SeekNotSupported)) => {
                self.expect(RULE, middle, opened).await?;
                self.expect(RULE, middle, self.open(RULE, &mut source)?).await
            }
            (false, Ok(())) => broken(RULE, "accepted"),
            (_, Err(error)) => Err(failed(RULE, "refused", &error)),
        }
    }

    /// An error is the last item, and what came before it is right.
    pub(super) async fn fails_once(&self) -> Result<(), Violation> {
        const RULE: &str = "fails after the right bytes";
        let Some(make) = &self.failing else { return Ok(()) };
        for way in WAYS {
            let mut run = way.run(make(), self.params.clone());
            self.expect_failure(RULE, &mut run).await?;
        }
        Ok(())
    }

    /// Offline it plays or fails as announced, and tries no connection.
    pub(super) async fn keeps_offline(&self) -> Result<(), Violation> {
        const RULE: &str = "keeps offline";
        let Some((make, does)) = &self.offline else {
            return Ok(());
        };
        // Attempts count, not only connections that were made: offline nothing is to be tried.
        let connections = || self.connections.as_ref().map_or(0, |count| count());
        let before = connections();
        for way in WAYS {
            let mut run = way.run(make(), self.params.clone().offline_mode(true));
            match does {
                Offline::Plays => {
                    let all = collect(&mut run.stream, run.driver.as_mut()).await;
                    self.compare(RULE, 0, &all.map_err(|error| failed(RULE, way.name(), &error))?)?;
                }
                Offline::Fails => self.expect_failure(RULE, &mut run).await?,
            }
        }
        match connections().saturating_sub(before) {
            0 => Ok(()),
            some => broken(RULE, format!("{some} connections")),
        }
    }

    async fn expect_failure(&self, rule: &'static str, run: &mut Run<S>) -> Result<(), Violation> {
        let mut got = 0;
        loop {
            match with(
                poll_fn(|cx| Pin::new(&mut run.stream).poll_next(cx)),
                run.driver.as_mut(),
            )
            .await
            {
                Some(Ok(chunk)) => {
                    if self.bytes.get(got..got + chunk.len()) != Some(&*chunk) {
                        return broken(rule, format!("wrong bytes within {} of {got}", chunk.len()));
                    }
                    got += chunk.len();
                }
                Some(Err(StreamError::Source { .. })) => return Ok(()),
                Some(Err(error)) => return Err(failed(rule, "not with its own error", &error)),
                None => return broken(rule, format!("ended after {got} bytes")),
            }
        }
    }

    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn open(
        &self,
        rule: &'static str,
        source: &mut S,
    ) -> Result<SourceStream<S::Control, S::Error>, Violation> {
        source
            .open(&self.params)
            .map_err(|error| failed(rule, "did not open", &error))
    }

    /// The rest of the track from `position`, and the end.
    async fn expect(
        &self,
        rule: &'static str,
        position: u64,
        mut opened: SourceStream<S::Control, S::Error>,
    ) -> Result<(), Violation> {
        let mut all = Vec::new();
        while let Some(item) = next(&mut opened).await {
            match item {
                Ok(Message::Data(data)) => all.extend_from_slice(&data),
                Ok(Message::Control(_)) => {}
                Err(error) => return Err(failed(rule, "did not play", &error)),
            }
        }
        self.compare(rule, position, &all)
    }

    fn compare(&self, rule: &'static str, position: u64, got: &[u8]) -> Result<(), Violation> {
        let start = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .min(self.bytes.len());
        let expected = self.bytes.get(start..).unwrap_or_default();
        if got == expected {
            return Ok(());
        }
        let same = got
            .iter()
            .zip(expected)
            .take_while(|(got, expected)| got == expected)
            .count();
        broken(
            rule,
            format!(
                "from {position}: {} bytes where {} are due, different from {} on",
                got.len(),
                expected.len(),
                position + same as u64
            ),
        )
    }
}

fn broken<T>(rule: &'static str, detail: impl Into<String>) -> Result<T, Violation> {
    Err(Violation {
        rule,
        detail: detail.into(),
    })
}

fn failed<E: std::error::Error + 'static>(
    rule: &'static str,
    what: &str,
    error: &StreamError<E>,
) -> Violation {
    Violation {
        rule,
        detail: format!("{what}: {error}"),
    }
}

fn seek<S: Source>(rule: &'static str, source: &mut S, position: u64) -> Result<(), Violation> {
    source
        .seek_bytes(position)
        .map_err(|error| failed(rule, "refused", &error))
}

async fn next<C, E: std::error::Error + 'static>(
    opened: &mut SourceStream<C, E>,
) -> Option<Result<Message<C>, StreamError<E>>> {
    poll_fn(|cx| opened.as_mut().poll_next(cx)).await
}
