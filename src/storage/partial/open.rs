//! Opening a streaming resource: what of the files that are there is trusted.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rangemap::RangeSet;
use snafu::ResultExt;

use super::error::{InUseSnafu, IoSnafu, StreamingError};
use super::file::{LazyFile, NamedFile};
use super::inner::{Inner, Settings};
use super::options::StreamingOptions;
use super::presence::Presence;
use super::record::Record;
use super::recorder::Recorder;
use super::resource::StreamingResource;
use super::verify::Verifier;
use crate::storage::durable::{DiskFile, open_own};

impl StreamingOptions {
    /// Opens the partial file, or creates it. Of a file that an earlier process left, exactly the recorded ranges count as
    /// present. The directories have to exist. What stands in the partial file's place without being one (a link, a directory, a
    /// file with other names) is removed, and not written to. What stands at the target is not looked at; the commit replaces it.
    ///
    /// # Errors
    ///
    /// [`StreamingError::InUse`] if another resource has the partial file open; [`StreamingError::Io`].
    pub fn open<E>(self) -> Result<StreamingResource<E>, StreamingError> {
        let lazily = self.create_lazily;
        let (settings, recorder) = self.split();
        let partial = &recorder.partial;
        // Only "not found" counts as absent. After another error the file may be there, and must be claimed before use.
        let absent = |path: &Path| match recorder.disk.metadata(path) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(_) => false,
        };
        // A record without its file is not ignored here: the way below forgets it durably, before a new file grows into what
        // it tells.
        if lazily && absent(partial) && absent(&recorder.record) {
            let file = LazyFile::new(Arc::clone(&recorder.disk), partial.clone());
            let file = NamedFile::new(Box::new(file), partial.clone());
            let presence = Presence::new(RangeSet::new(), None, false);
            let record = Record::default();
            return Ok(StreamingResource::new(Inner::new(
                settings, presence, file, recorder, record,
            )));
        }
        let file = match open_own(&*recorder.disk, partial) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return InUseSnafu { path: partial }.fail();
            }
            opened => opened.context(IoSnafu {
                action: "open",
                path: partial,
            })?,
        };
        // The file is claimed: from here on no other resource changes it or its record.
        let file = NamedFile::new(file, partial.clone());
        let on_disk = file.len()?;
        let record = match recorder.read() {
            Some(record) if record.reach() <= on_disk => record,
            // A record that reaches beyond its file is that of an earlier file of the same name. It must not be believed of
            // this one, now or later, when this one has grown.
            _ => {
                recorder.forget()?;
                Record::default()
            }
        };
        // Bytes behind the last recorded one were not synced before the record: they may be anything.
        if on_disk > record.reach() {
            file.set_len(record.reach())?;
        }
        let presence = Presence::new(record.present(), record.len, false);
        let file = file.verified_by(Verifier::of_runs(record.runs.iter().copied()));
        Ok(StreamingResource::new(Inner::new(
            settings, presence, file, recorder, record,
        )))
    }

    /// Opens the finished file at the target for reading. The resource is complete, and its content is the first `len` bytes
    /// of the file, or all of it. What follows `len` (the footer of a commit) is never read.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Cut`] if the file is shorter than `len`; [`StreamingError::Io`].
    pub fn open_finished<E>(self, len: Option<u64>) -> Result<StreamingResource<E>, StreamingError> {
        let file = self.disk.open(&self.target).context(IoSnafu {
            action: "open",
            path: &self.target,
        })?;
        let file = NamedFile::new(file, self.target.clone());
        let on_disk = file.len()?;
        let len = len.unwrap_or(on_disk);
        file.expect_len(on_disk, len)?;
        Ok(self.finished(file, len))
    }

    /// As [`open_finished`](Self::open_finished), of a file that is open. Its content is the first `len` bytes and has these
    /// checksums, one for each [`BLOCK`](super::BLOCK).
    #[cfg_attr(
        not(feature = "cache"),
        expect(dead_code, reason = "the cache's entries have checksums")
    )]
    pub(crate) fn open_checked<E>(
        self,
        file: Box<dyn DiskFile>,
        len: u64,
        blocks: &[u32],
    ) -> StreamingResource<E> {
        let file = NamedFile::new(file, self.target.clone()).verified_by(Verifier::of_blocks(blocks, len));
        self.finished(file, len)
    }

    fn finished<E>(self, file: NamedFile, len: u64) -> StreamingResource<E> {
        // The set of ranges refuses empty ones.
        let whole = Some(0..len).filter(|whole| !whole.is_empty());
        let presence = Presence::new(whole.into_iter().collect(), Some(len), true);
        let (settings, recorder) = self.split();
        StreamingResource::new(Inner::new(settings, presence, file, recorder, Record::default()))
    }

    fn split(self) -> (Settings, Recorder) {
        let settings = Settings {
            target: self.target,
            checkpoint_every: self.checkpoint_every,
            budget: self.budget,
            on_damage: self.on_damage,
            unit: self.disk.unit(),
        };
        (settings, Recorder::new(self.disk, self.durability, self.partial))
    }
}
