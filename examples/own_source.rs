//! A source of one's own: it counts in bytes, and a seek lands where it was asked to.
//!
//! `cargo run --example own_source`
#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "an example talks, and knows its source"
)]
use std::convert::Infallible;

use bytes::Bytes;
use futures_lite::{StreamExt, future::block_on, stream};
use kithara::stream::{Message, Source, SourceStream, Stream, StreamError, StreamParams};

type Opened = Result<SourceStream<Infallible, Infallible>, StreamError<Infallible>>;

/// Yields the bytes 0, 1, 2, … 255, 0, … up to `len`, a kilobyte at a time.
struct Counter {
    position: u64,
    len: u64,
}

impl Source for Counter {
    type Error = Infallible;
    type Control = Infallible;

    /// A new stream from where the last seek pointed; the driver drops the one before.
    fn open(&mut self, _: &StreamParams) -> Opened {
        let len = self.len;
        let chunks = stream::unfold(self.position, move |at| async move {
            let end = len.min(at + 1024);
            let chunk: Bytes = (at..end).map(|value| value.to_le_bytes()[0]).collect();
            (at < end).then_some((Ok(Message::Data(chunk)), end))
        });
        Ok(chunks.boxed())
    }

    /// Only notes the place. A position past the end is no error: as with a file, nothing is there to read.
    fn seek_bytes(&mut self, position: u64) -> Result<(), StreamError<Infallible>> {
        self.position = position;
        Ok(())
    }

    fn supports_seek(&self) -> bool {
        true
    }
}

fn main() -> Result<(), StreamError<Infallible>> {
    block_on(async {
        let mut stream = Stream::new(
            Counter {
                position: 0,
                len: 1 << 20,
            },
            StreamParams::default(),
        );
        let handle = stream.handle();

        let first = stream.try_next().await?.unwrap_or_default();
        println!("from the start: {:?} …", &first[..4]);

        handle.seek_bytes(1_000_000).await?;
        let after = stream.try_next().await?.unwrap_or_default();
        println!("after the seek: {:?} …", &after[..4]);

        let rest = stream.try_fold(0, |sum, chunk| Ok(sum + chunk.len())).await?;
        println!("{} bytes to the end, then the stream ended", after.len() + rest);
        Ok(())
    })
}
