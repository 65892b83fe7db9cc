//! The WAV file.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::Failure;

/// Sixteen bits a sample. The lengths in its head are put in at the end.
pub(crate) struct Wav {
    file: BufWriter<File>,
    rate: u32,
    channels: u16,
    bytes: u32,
}

impl Wav {
    pub(crate) fn create(path: &PathBuf) -> Result<Self, Failure> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&[0; 44])?;
        Ok(Self {
            file,
            rate: 1,
            channels: 1,
            bytes: 0,
        })
    }

    pub(crate) fn write(&mut self, samples: &[i16], rate: u32, channels: usize) -> Result<(), Failure> {
        (self.rate, self.channels) = (rate, u16::try_from(channels)?);
        for sample in samples {
            self.file.write_all(&sample.to_le_bytes())?;
        }
        self.bytes += u32::try_from(samples.len() * 2)?;
        Ok(())
    }

    pub(crate) fn seconds(&self) -> f64 {
        f64::from(self.bytes) / f64::from(self.rate * u32::from(self.channels) * 2)
    }

    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let frame = self.channels * 2;
        let mut head = Vec::with_capacity(44);
        head.extend(b"RIFF");
        head.extend((self.bytes + 36).to_le_bytes());
        head.extend(b"WAVEfmt ");
        head.extend(16_u32.to_le_bytes());
        head.extend(1_u16.to_le_bytes());
        head.extend(self.channels.to_le_bytes());
        head.extend(self.rate.to_le_bytes());
        head.extend((self.rate * u32::from(frame)).to_le_bytes());
        head.extend(frame.to_le_bytes());
        head.extend(16_u16.to_le_bytes());
        head.extend(b"data");
        head.extend(self.bytes.to_le_bytes());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&head)?;
        self.file.flush()?;
        Ok(())
    }
}
