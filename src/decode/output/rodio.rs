//! An output as one of rodio's sources.

use std::num::NonZero;
use std::time::Duration;

use rodio::{ChannelCount, SampleRate, Source, source::SeekError};

use super::Output;

/// The sound card's rate and channels, set by [`DecodeParams`](crate::decode::DecodeParams), save rodio a conversion of its
/// own. With the tracks' own, each change begins a span.
///
/// A seek is begun and not waited for, as rodio seeks on the audio thread.
impl Source for Output {
    fn current_span_len(&self) -> Option<usize> {
        let span = self.span();
        // One span to the end: rodio need not ask again.
        if self.is_fixed() && span > 0 {
            None
        } else {
            Some(span)
        }
    }

    fn channels(&self) -> ChannelCount {
        NonZero::new(self.next_spec().channels.count()).unwrap_or(NonZero::<u16>::MIN)
    }

    fn sample_rate(&self) -> SampleRate {
        NonZero::new(self.next_spec().sample_rate).unwrap_or(NonZero::<u32>::MIN)
    }

    fn total_duration(&self) -> Option<Duration> {
        self.duration()
    }

    fn try_seek(&mut self, time: Duration) -> Result<(), SeekError> {
        if self.begin_seek(time) {
            return Ok(());
        }
        Err(SeekError::NotSupported {
            underlying_source: "a track that is read in order",
        })
    }
}
