//! The sound card, through rodio.

use std::time::Duration;

use kithara::file::{FileError, FileReader};
use kithara::storage::StreamingResource;
use rodio::{Decoder, DeviceSinkBuilder, Player};

use crate::Failure;
use crate::bar::Bar;
use crate::keys::{Key, Keys};

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(50);

pub(crate) fn play(
    seek: u32,
    reader: FileReader,
    resource: &StreamingResource<FileError>,
    extension: Option<&str>,
) -> Result<(), Failure> {
    let mut sink = DeviceSinkBuilder::open_default_sink()?;
    sink.log_on_drop(false);
    let player = Player::connect_new(sink.mixer());
    // `Decoder::new(reader)` plays as well; that it can be sought it believes only of a known length.
    let (len, keys) = (reader.len(), Keys::new(reader.interrupter()));
    let mut builder = Decoder::builder().with_data(reader).with_seekable(len.is_some());
    if let Some(len) = len {
        builder = builder.with_byte_len(len);
    }
    if let Some(extension) = extension {
        builder = builder.with_hint(extension);
    }
    player.append(builder.build()?);
    if seek > 0 {
        player.try_seek(Duration::from_secs(seek.into()))?;
    }

    let bar = Bar::new(resource)?;
    while !player.empty() {
        bar.show(player.get_pos().as_secs_f64());
        match keys.within(TICK) {
            Some(Key::Jump(by)) => {
                let to = (player.get_pos().as_secs_f64() + by).max(0.0);
                // Past the end there is nothing: the track is over.
                if player.try_seek(Duration::from_secs_f64(to)).is_err() {
                    break;
                }
            }
            Some(Key::Pause) if player.is_paused() => player.play(),
            Some(Key::Pause) => player.pause(),
            Some(Key::Quit) => break,
            None => {}
        }
    }
    bar.finish();
    let status = resource.status();
    drop(keys);
    println!("stalled {} times", status.stalls);
    Ok(())
}
