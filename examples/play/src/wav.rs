//! A WAV file in the sound card's place: decoded as fast as the bytes come.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use kithara::decode::{Block, DecodeEvent, Decoder, Spec};

use crate::Failure;
use crate::bar::{Bar, Now};
use crate::keys::{Key, Keys};
use crate::queue::Queue;

/// Writes all tracks of the queue, one behind the other. Returns how long they are.
pub(crate) fn write(
    queue: &mut Queue,
    keys: &Keys,
    bar: &mut Bar,
    out: &Path,
    from: Duration,
) -> Result<Duration, Failure> {
    let Some(mut track) = queue.wait(bar) else {
        return Ok(Duration::ZERO);
    };
    keys.quit().interrupts(track.interrupter());
    if !from.is_zero() {
        track.seek(from)?;
    }
    let mut wav = Wav::create(out, track.spec())?;
    let mut begun = None;
    while !keys.quit().is_asked() {
        if let Some(next) = queue.ready(bar) {
            track.then(next);
        }
        let mut failed = false;
        let over = match track.next_block() {
            Ok(Some(block)) => {
                wav.write(block)?;
                false
            }
            Ok(None) => true,
            Err(error) if error.is_interrupted() => false,
            Err(error) => {
                let name = begun
                    .as_ref()
                    .map_or("", |(_, name): &(usize, String)| name.as_str());
                queue.failed(&error, bar, name);
                failed = true;
                !track.skip()?
            }
        };
        if over && !next(&mut track, queue, bar, failed)? {
            break;
        }
        while let Some(event) = track.next_event() {
            match event {
                DecodeEvent::FormatChanged(format) if begun.is_none() => {
                    let (number, name) = begun.insert(queue.begins());
                    let tags = track.tags();
                    bar.track((*number, name), queue.count(), tags, &format, track.duration());
                    queue.prepare();
                }
                DecodeEvent::FormatChanged(format) => bar.format(&format),
                DecodeEvent::TrackChanged => begun = None,
                DecodeEvent::Damaged { at, frames, .. } => {
                    bar.complain(&format!("{frames} frames from {at} on are damaged"));
                }
                _ => {}
            }
        }
        bar.show(|| Now {
            position: track.position(),
            duration: track.duration(),
            buffered: track.buffered(),
        });
        let mut key = keys.within(Duration::ZERO);
        if key == Some(Key::Pause) {
            key = Some(keys.next());
        }
        match key {
            Some(Key::Jump(by)) if track.is_seekable() => {
                track.seek(jumped(track.position(), by))?;
            }
            Some(Key::Skip) if !track.skip()? && !next(&mut track, queue, bar, true)? => break,
            _ => {}
        }
    }
    wav.finish()
}

/// Queues the next track behind one that is over, or that is `left` before its end. Whether there is one.
fn next(track: &mut Decoder, queue: &mut Queue, bar: &mut Bar, left: bool) -> Result<bool, Failure> {
    let Some(next) = queue.wait(bar) else {
        return Ok(false);
    };
    track.then(next);
    if left {
        track.skip()?;
    }
    Ok(true)
}

/// A place so many seconds from another.
pub(crate) fn jumped(from: Duration, by: f64) -> Duration {
    Duration::try_from_secs_f64(from.as_secs_f64() + by).unwrap_or_default()
}

/// 32-bit floats: what was decoded, bit for bit. The lengths in its head are put in at the end.
struct Wav {
    file: BufWriter<File>,
    spec: Spec,
    frames: u64,
}

impl Wav {
    fn create(path: &Path, spec: Spec) -> Result<Self, Failure> {
        let mut wav = Self {
            file: BufWriter::new(File::create(path)?),
            spec,
            frames: 0,
        };
        wav.head()?;
        Ok(wav)
    }

    fn write(&mut self, block: &Block) -> Result<(), Failure> {
        if block.spec() != self.spec {
            return Err(
                "the sample rate changes here, or the channels do: --rate and --channels hold them".into(),
            );
        }
        for sample in block.samples() {
            self.file.write_all(&sample.to_le_bytes())?;
        }
        self.frames += block.frames() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<Duration, Failure> {
        self.file.seek(SeekFrom::Start(0))?;
        self.head()?;
        self.file.flush()?;
        let rate = u64::from(self.spec.sample_rate.max(1));
        Ok(Duration::from_millis(self.frames * 1000 / rate))
    }

    /// The head of an extensible WAVE file: it says where each channel is heard.
    fn head(&mut self) -> Result<(), Failure> {
        let (rate, channels) = (self.spec.sample_rate, self.spec.channels);
        let frame = channels.count() * 4;
        // A file that is longer than its head can tell is read to its end.
        let frames = u32::try_from(self.frames).unwrap_or(u32::MAX);
        let data = u32::try_from(self.frames * u64::from(frame)).unwrap_or(u32::MAX);
        let mut head = Vec::with_capacity(80);
        head.extend(b"RIFF");
        head.extend(data.saturating_add(72).to_le_bytes());
        head.extend(b"WAVEfmt ");
        head.extend(40_u32.to_le_bytes());
        head.extend(0xfffe_u16.to_le_bytes());
        head.extend(channels.count().to_le_bytes());
        head.extend(rate.to_le_bytes());
        head.extend((rate * u32::from(frame)).to_le_bytes());
        head.extend(frame.to_le_bytes());
        head.extend([32, 0, 22, 0, 32, 0]);
        head.extend(channels.mask().to_le_bytes());
        // KSDATAFORMAT_SUBTYPE_IEEE_FLOAT.
        head.extend(b"\x03\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
        head.extend(b"fact");
        head.extend(4_u32.to_le_bytes());
        head.extend(frames.to_le_bytes());
        head.extend(b"data");
        head.extend(data.to_le_bytes());
        self.file.write_all(&head)?;
        Ok(())
    }
}
