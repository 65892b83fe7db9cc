//! One track of a decoder's queue: its source, and what was decoded ahead when it was opened.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::decode::{
    Block, DecodeError, DecodeEvent, Format,
    source::{PcmSource, Step},
};

/// A track of the queue.
pub(super) struct Track {
    pub(super) source: Box<dyn PcmSource>,
    /// What was decoded ahead when it was opened.
    ahead: VecDeque<Ahead>,
    /// It was decoded, and has to begin anew when it is its turn.
    pub(super) used: bool,
    pub(super) format: Format,
    pub(super) arrived: Option<Arc<Arrived>>,
}

/// Which parts of a track's file are there, as shares of the whole.
pub(in crate::decode) type Arrived = dyn Fn() -> Vec<Range<f64>> + Send + Sync;

/// Shares of a file as times of its track.
pub(in crate::decode) fn buffered(
    arrived: Option<&Arrived>,
    duration: Option<Duration>,
) -> Vec<Range<Duration>> {
    let (Some(arrived), Some(duration)) = (arrived, duration) else {
        return Vec::new();
    };
    let shares = arrived().into_iter();
    shares
        .map(|part| duration.mul_f64(part.start)..duration.mul_f64(part.end))
        .collect()
}

enum Ahead {
    Block(Block),
    Event(DecodeEvent),
    Ended,
}

impl Track {
    /// Decodes ahead to the first block, so that what cannot be decoded is known now.
    ///
    /// # Errors
    ///
    /// Those of the source.
    pub(super) fn open(mut source: Box<dyn PcmSource>) -> Result<Self, DecodeError> {
        let mut ahead = VecDeque::new();
        let mut format = None;
        loop {
            let mut block = Block::empty();
            match source.next(&mut block)? {
                Step::Event(event) => {
                    if let DecodeEvent::FormatChanged(told) = &event {
                        format.get_or_insert_with(|| told.clone());
                    }
                    ahead.push_back(Ahead::Event(event));
                }
                Step::Block => ahead.push_back(Ahead::Block(block)),
                Step::Ended => ahead.push_back(Ahead::Ended),
            }
            // A block, or the end: an empty track is known to be one.
            if !matches!(ahead.back(), Some(Ahead::Event(_))) {
                break;
            }
        }
        // Its first step tells the format: that is its contract.
        let format = format.ok_or(DecodeError::Malformed { what: "track" })?;
        Ok(Self {
            source,
            ahead,
            used: false,
            format,
            arrived: None,
        })
    }

    /// The next step: of what was decoded ahead first.
    ///
    /// # Errors
    ///
    /// Those of the source.
    pub(super) fn next(&mut self, block: &mut Block) -> Result<Step, DecodeError> {
        if self.used {
            // Still set if this fails, so that the next call tries again.
            self.source.seek(Duration::ZERO)?;
            // The source tells its format once. The app has heard of another track since.
            self.ahead.clear();
            self.ahead
                .push_back(Ahead::Event(DecodeEvent::FormatChanged(self.format.clone())));
            let tags = self.source.tags();
            if !tags.is_empty() {
                self.ahead.push_back(Ahead::Event(DecodeEvent::TagsChanged(tags)));
            }
            self.used = false;
        }
        // In their order, and before the source: it stands behind them.
        match self.ahead.pop_front() {
            Some(Ahead::Block(ahead)) => {
                *block = ahead;
                Ok(Step::Block)
            }
            Some(Ahead::Event(event)) => Ok(Step::Event(event)),
            Some(Ahead::Ended) => Ok(Step::Ended),
            None => self.source.next(block),
        }
    }

    /// The source is about to be sought: what was decoded ahead of it is not heard. What was not told of the track yet is told
    /// all the same.
    pub(super) fn forget(&mut self) {
        self.ahead.retain(|ahead| {
            matches!(
                ahead,
                Ahead::Event(DecodeEvent::FormatChanged(_) | DecodeEvent::TagsChanged(_))
            )
        });
        self.used = false;
    }
}
