//! A source of one's own: it counts in bytes, and a seek lands where it was asked to.
//!
//! `cargo run --example own_source`
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "an example talks"
)]

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;

use bytes::Bytes;
use futures_lite::{StreamExt, future::block_on, stream};
use kithara::stream::{Message, Source, SourceStream, Stream, StreamError, StreamParams};

const LEN: u64 = 1 << 20;

/// Yields the bytes 0, 1, 2, … 255, 0, … up to `LEN`, a kilobyte at a time.
#[derive(Default)]
pub(crate) struct Counter {
    position: u64,
}

impl Source for Counter {
    type Error = Infallible;
    type Control = ();

    /// A new stream from where the last seek pointed; the driver drops the one before.
    fn open(&mut self, _: &StreamParams) -> Result<SourceStream<(), Infallible>, StreamError<Infallible>> {
        Ok(Box::pin(stream::unfold(self.position, |at| async move {
            let end = LEN.min(at.saturating_add(1024));
            let chunk: Bytes = (at..end).map(|value| value.to_le_bytes()[0]).collect();
            (at < end).then_some((Ok(Message::Data(chunk)), end))
        })))
    }

    /// Only notes the place. A position past the end is no error: as with a file, nothing is to be read there.
    fn seek_bytes(&mut self, position: u64) -> Result<(), StreamError<Infallible>> {
        self.position = position;
        Ok(())
    }

    fn supports_seek(&self) -> bool {
        true
    }
}

fn main() -> ExitCode {
    let asked = std::env::args().nth(1);
    match asked.as_deref() {
        None => {}
        Some("--help" | "-h") => {
            println!("usage: own_source     plays a source of its own, with a seek; there is nothing to set");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("own_source: unexpected argument {other:?}; it has none");
            return ExitCode::FAILURE;
        }
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("own_source: {}", in_one_line(&failure));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), StreamError<Infallible>> {
    block_on(async {
        let mut stream = Stream::new(Counter::default(), StreamParams::default());
        let first = stream.try_next().await?.unwrap_or_default();
        println!("from the start: {:?} …", &first[..4]);

        stream.handle().seek_bytes(1_000_000).await?;
        let after = stream.try_next().await?.unwrap_or_default();
        println!("after the seek: {:?} …", &after[..4]);

        let rest = stream.try_fold(0, |sum, chunk| Ok(sum + chunk.len())).await?;
        println!("{} bytes to the end, then the stream ended", after.len() + rest);
        Ok(())
    })
}

/// An error and its causes, in one line.
fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // A transparent error has the text of its cause.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}
