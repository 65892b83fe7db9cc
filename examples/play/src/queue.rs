//! The tracks to be played. The next one is opened while one is heard, so that it follows without a pause.

use std::collections::VecDeque;
use std::thread::JoinHandle;

use futures_lite::future::{block_on, or};
use kithara::decode::{DecodeError, DecodeParams, Decoder};
use kithara::file::Location;
use kithara::media::OpenMode;

use crate::bar::Bar;
use crate::in_one_line;
use crate::keys::Quit;

pub(crate) struct Queue {
    waiting: VecDeque<String>,
    opening: Option<(String, JoinHandle<Result<Decoder, DecodeError>>)>,
    /// Tracks that were handed out and are not heard yet.
    opened: VecDeque<String>,
    params: DecodeParams,
    mode: OpenMode,
    quit: Quit,
    heard: usize,
    count: usize,
    failures: usize,
}

impl Queue {
    pub(crate) fn new(tracks: Vec<String>, params: DecodeParams, mode: OpenMode, quit: Quit) -> Self {
        Self {
            count: tracks.len(),
            waiting: tracks.into(),
            opening: None,
            opened: VecDeque::new(),
            params,
            mode,
            quit,
            heard: 0,
            failures: 0,
        }
    }

    /// Has every track sound like this.
    pub(crate) fn convert(&mut self, rate: u32, channels: u16) {
        self.params = self.params.clone().sample_rate(rate).channels(channels);
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Tracks that could not be played, or not to their end.
    pub(crate) fn failures(&self) -> usize {
        self.failures
    }

    /// Begins to open the next track.
    pub(crate) fn prepare(&mut self) {
        if self.opening.is_some() || self.quit.is_asked() {
            return;
        }
        let Some(track) = self.waiting.pop_front() else {
            return;
        };
        let (location, params) = (Location::parse(&track), self.params.clone());
        let (mode, quit) = (self.mode, self.quit.clone());
        let opening = std::thread::spawn(move || {
            let left = async {
                quit.asked().await;
                Err(DecodeError::Interrupted)
            };
            block_on(or(Decoder::open(location, &params, mode), left))
        });
        self.opening = Some((track, opening));
    }

    /// The next track, if it is open by now.
    pub(crate) fn ready(&mut self, bar: &mut Bar) -> Option<Decoder> {
        let opening = self.opening.take_if(|(_, opening)| opening.is_finished())?;
        self.take(opening, bar)
    }

    /// The next track that can be opened. Waits for it.
    pub(crate) fn wait(&mut self, bar: &mut Bar) -> Option<Decoder> {
        loop {
            self.prepare();
            let opening = self.opening.take()?;
            if let Some(track) = self.take(opening, bar) {
                return Some(track);
            }
        }
    }

    fn take(
        &mut self,
        (track, opening): (String, JoinHandle<Result<Decoder, DecodeError>>),
        bar: &mut Bar,
    ) -> Option<Decoder> {
        let opened = opening
            .join()
            .unwrap_or(Err(DecodeError::DriverGone { panic: None }));
        match opened {
            Ok(decoder) => {
                self.opened.push_back(track);
                Some(decoder)
            }
            Err(_) if self.quit.is_asked() => None,
            Err(error) => {
                self.heard += 1;
                self.failed(&error, bar, &track);
                self.prepare();
                None
            }
        }
    }

    /// The next one of the tracks that were handed out is heard: its number and its name.
    pub(crate) fn begins(&mut self) -> (usize, String) {
        self.heard += 1;
        (self.heard, self.opened.pop_front().unwrap_or_default())
    }

    /// What was handed out and is not heard yet has to be opened again: what was to play it is gone.
    #[cfg(feature = "device")]
    pub(crate) fn again(&mut self) {
        while let Some(track) = self.opened.pop_back() {
            self.waiting.push_front(track);
        }
    }

    pub(crate) fn failed(&mut self, error: &DecodeError, bar: &mut Bar, track: &str) {
        self.failures += 1;
        let track = Location::parse(track);
        bar.complain(&format!("{track}: {}", in_one_line(error)));
    }
}
