//! What an application makes of a location.

use std::fmt;
use std::sync::Arc;

use async_channel::Receiver;

use super::open::{FileContext, OpenFile, StartedFile};
use super::stream::{SharedReadState, file_items};
use super::transfers::Transfers;
use super::{FileControl, FileDriver, FileError, FileParams, FileReader, Location};
use crate::stream::{Source, SourceStream, StreamError, StreamParams};

/// A file, at a URL or on the disk: `Read + Seek` through [`open_reader`](Self::open_reader), or a
/// [`Source`] of a [`Stream<Bytes>`](crate::stream::Stream).
///
/// Both fetch on a thread of the crate's own, which ends when the reader or the stream is dropped. What is fetched is
/// kept in the cache and resumed by the next one; the module's docs have the whole picture.
pub struct FileSource {
    context: Arc<FileContext>,
    position: u64,
    /// What a seek hands from one opened stream to the next.
    read_state: SharedReadState,
}

/// A file open for random access, its fetcher, and what there is to say.
#[derive(Debug)]
#[non_exhaustive]
pub struct FileParts {
    /// Reads the file. More readers of the same can be made of [`resource`](FileReader::resource).
    pub reader: FileReader,
    /// Fetches it; to be run.
    pub driver: FileDriver,
    /// Origin, completion, and whether the cache could not keep it. Nobody has to listen.
    pub control: Receiver<FileControl>,
}

impl FileSource {
    /// The file at `location`: a [`Url`](crate::net::Url), a path, or what [`Location::parse`] makes of a text. Does
    /// nothing yet.
    pub fn new(location: impl Into<Location>, params: FileParams) -> Self {
        Self {
            context: Arc::new(FileContext::new(location.into(), params)),
            position: 0,
            read_state: SharedReadState::default(),
        }
    }

    /// Where the file is.
    pub fn location(&self) -> &Location {
        &self.context.location
    }

    /// What a second of playing takes, for [`LookAhead::Time`](super::LookAhead::Time): a decoder knows it once it has
    /// seen the head of the file. Counts from the reader's next step on.
    pub fn set_bytes_per_second(&self, bytes: u64) {
        self.context.settings().set_bytes_per_second(bytes);
    }

    /// Opens the file for random access. When this returns the server has answered, and the reader knows the length if
    /// the server does.
    ///
    /// # Errors
    ///
    /// [`FileError::Net`], [`FileError::OfflineMiss`], [`FileError::Local`], [`FileError::NoClient`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn open_reader(&self) -> Result<FileReader, FileError> {
        let StartedFile { resource, .. } = self.context.start(0, false).await?;
        Ok(FileReader::new(&resource))
    }

    /// As [`open_reader`](Self::open_reader), but hands out the fetcher, to be run where you like, and what the file
    /// says beside its bytes.
    ///
    /// # Errors
    ///
    /// As [`open_reader`](Self::open_reader).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn open_parts(&self) -> Result<FileParts, FileError> {
        let OpenFile {
            resource,
            driver,
            control,
        } = self
            .context
            .open(0, false, Arc::new(Transfers::default()))
            .await?;
        Ok(FileParts {
            reader: FileReader::new(&resource),
            driver,
            control,
        })
    }
}

impl Source for FileSource {
    type Error = FileError;
    type Control = FileControl;

    fn open(
        &mut self,
        params: &StreamParams,
    ) -> Result<SourceStream<FileControl, FileError>, StreamError<FileError>> {
        Ok(file_items(
            Arc::clone(&self.context),
            Arc::clone(&self.read_state),
            self.position,
            params.is_offline(),
        ))
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), StreamError<FileError>> {
        self.position = position;
        Ok(())
    }

    fn supports_seek(&self) -> bool {
        true
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource")
            .field("location", &self.context.location)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
