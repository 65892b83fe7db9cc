//! The sound card, through rodio.

use std::time::Duration;

use futures_lite::future::block_on;
use kithara::decode::{DecodeEvent, DecodeEvents, OutputParams, PlayHandle};
use rodio::{DeviceSinkBuilder, Player};

use crate::Failure;
use crate::bar::{Bar, Now};
use crate::keys::{Key, Keys};
use crate::queue::Queue;
use crate::wav::jumped;

/// How often keys and events are looked for.
const TICK: Duration = Duration::from_millis(20);

/// Plays all tracks of the queue.
pub(crate) fn play(queue: &mut Queue, keys: &Keys, bar: &mut Bar, mut from: Duration) -> Result<(), Failure> {
    let mut sink = DeviceSinkBuilder::open_default_sink()?;
    sink.log_on_drop(false);
    // The card's own rate and channels: every track is brought to them, and follows without a pause.
    let config = sink.config();
    queue.convert(config.sample_rate().get(), config.channel_count().get());
    let player = Player::connect_new(sink.mixer());

    // Once, unless a track ends before the next one is open, or fails.
    while let Some(track) = queue.wait(bar) {
        let output = track.into_output(OutputParams::default())?;
        let handle = output.handle();
        player.append(output);
        if !from.is_zero() {
            block_on(handle.seek(std::mem::take(&mut from)))?;
        }
        let mut heard = Heard {
            events: handle.events(),
            handle,
            track: None,
        };
        while !heard.handle.is_stopped() && !keys.quit().is_asked() {
            if let Some(next) = queue.ready(bar) {
                heard.handle.then(next);
            }
            heard.tell(queue, bar);
            match keys.within(TICK) {
                Some(Key::Jump(by)) if heard.handle.is_seekable() => {
                    let to = jumped(heard.handle.position(), by);
                    if let Err(error) = block_on(heard.handle.seek(to)) {
                        queue.failed(&error, bar, heard.name());
                    }
                }
                // With nothing queued the output ends, and the next track has one of its own.
                Some(Key::Skip) if block_on(heard.handle.skip()).is_err() => player.skip_one(),
                Some(Key::Pause) if player.is_paused() => player.play(),
                Some(Key::Pause) => player.pause(),
                _ => {}
            }
        }
        heard.tell(queue, bar);
        // What was queued behind a track that failed went with it.
        queue.again();
    }
    Ok(())
}

/// What is heard of one output.
struct Heard {
    handle: PlayHandle,
    events: DecodeEvents,
    /// Number and name of the track, once it has begun.
    track: Option<(usize, String)>,
}

impl Heard {
    fn name(&self) -> &str {
        self.track.as_ref().map_or("", |(_, name)| name.as_str())
    }

    /// Tells all that happened by now.
    fn tell(&mut self, queue: &mut Queue, bar: &mut Bar) {
        loop {
            match self.events.try_next() {
                Ok(Some(DecodeEvent::FormatChanged(format))) if self.track.is_none() => {
                    let (number, name) = queue.begins();
                    let (tags, duration) = (self.handle.tags(), self.handle.duration());
                    bar.track((number, &name), queue.count(), &tags, &format, duration);
                    self.track = Some((number, name));
                    queue.prepare();
                }
                Ok(Some(DecodeEvent::FormatChanged(format))) => bar.format(&format),
                Ok(Some(DecodeEvent::TrackChanged)) => self.track = None,
                Ok(Some(DecodeEvent::Buffering)) => bar.note(" …"),
                Ok(Some(DecodeEvent::Resumed)) => bar.note(""),
                Ok(Some(DecodeEvent::Damaged { at, frames, .. })) => {
                    bar.complain(&format!("{frames} frames from {at} on are damaged"));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => queue.failed(&error, bar, self.name()),
            }
        }
        bar.show(|| Now {
            position: self.handle.position(),
            duration: self.handle.duration(),
            buffered: self.handle.buffered(),
        });
    }
}
