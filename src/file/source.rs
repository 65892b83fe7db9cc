//! What an app makes of a location: a reader, or a source of a stream.

use std::fmt;
use std::sync::Arc;

use super::open::{FileContext, OpenFile, StartedFile};
use super::stream::{SharedReadState, file_items};
use super::transfers::Transfers;
use super::{
    FileControl, FileDriver, FileError, FileEvents, FileParams, FileReader, Location, OpenMode, ServerInfo,
};
use crate::cache::{AssetId, CachePath};
use crate::stream::{Source, SourceStream, StreamError, StreamParams};

/// A file, at a URL or on the disk: `Read + Seek` through [`open_reader`](Self::open_reader), or a
/// [`Source`] of a [`Stream<Bytes>`](crate::stream::Stream).
///
/// Both download on a thread of the crate's own (where many files are open, on one that they share), until the reader or
/// the stream is dropped. What was downloaded stays in the cache, and the next source goes on from there. The [module](super) explains the rest.
pub struct FileSource {
    pub(super) context: Arc<FileContext>,
    position: u64,
    /// What one opened stream hands to the next, after a seek.
    read_state: SharedReadState,
}

/// An open file for random access, with its driver and its events.
#[derive(Debug)]
#[non_exhaustive]
pub struct FileParts {
    /// Reads the file. [`resource`](FileReader::resource) makes more readers of it.
    pub reader: FileReader,
    /// Downloads the file. It has to be run.
    pub driver: FileDriver,
    /// Origin, completion, and whether the cache keeps the file. It need not be read.
    pub events: FileEvents,
}

impl FileSource {
    /// The file at `location`: a [`Url`](crate::net::Url), a path, or the result of [`Location::parse`]. Nothing is
    /// opened yet.
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

    /// The asset under which the cache keeps the file. `None` for a local file.
    pub fn asset(&self) -> Option<AssetId> {
        self.context.entry().map(|(asset, _)| asset)
    }

    /// The name under which the cache keeps the file. `None` for a local file.
    pub fn path(&self) -> Option<CachePath> {
        self.context.entry().map(|(_, path)| path)
    }

    /// What the server said of the file in its first answer. `None` before it, and where no server was asked. For a source
    /// that a [`Stream`](crate::stream::Stream) has taken, a clone of it shows the same.
    pub fn server_info(&self) -> Option<Arc<ServerInfo>> {
        self.context.settings().server_info()
    }

    /// Sets the number of bytes in one second of playing, for [`LookAhead::Time`](super::LookAhead::Time). A decoder
    /// knows it after it has parsed the head of the file. Takes effect with the next read.
    pub fn set_bytes_per_second(&self, bytes: u64) {
        self.context.settings().set_bytes_per_second(bytes);
    }

    /// Opens the file for random access. When this returns, the server has answered, and the reader knows the length if
    /// the server told it.
    ///
    /// # Errors
    ///
    /// [`FileError::Net`] if the server cannot be reached or refuses; [`FileError::OfflineMiss`] and
    /// [`FileError::Cache`] with [`OpenMode::Offline`]; [`FileError::Local`] for a path; [`FileError::NoClient`];
    /// [`FileError::Changed`] if the server contradicts itself while the file is opened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection. What is in the cache stays there.
    pub async fn open_reader(&self, mode: OpenMode) -> Result<FileReader, FileError> {
        let StartedFile { resource, .. } = self.context.start(0, mode).await?;
        Ok(FileReader::new(&resource))
    }

    /// As [`open_reader`](Self::open_reader), but hands out the driver, to be run on a thread or executor of your own,
    /// and the events.
    ///
    /// # Errors
    ///
    /// As [`open_reader`](Self::open_reader).
    ///
    /// # Cancel safety
    ///
    /// As [`open_reader`](Self::open_reader).
    pub async fn open_parts(&self, mode: OpenMode) -> Result<FileParts, FileError> {
        let transfers = Arc::new(Transfers::default());
        let OpenFile {
            resource,
            driver,
            events,
            ..
        } = self.context.open(0, mode, transfers).await?;
        Ok(FileParts {
            reader: FileReader::new(&resource),
            driver,
            events,
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
        let mode = if params.is_offline() {
            OpenMode::Offline
        } else {
            OpenMode::Online
        };
        Ok(file_items(
            Arc::clone(&self.context),
            Arc::clone(&self.read_state),
            self.position,
            mode,
        ))
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), StreamError<FileError>> {
        // The next `open` goes there. The session of the last stream stays in `read_state`: the new one goes on with the
        // same file and the same download.
        self.position = position;
        Ok(())
    }

    fn supports_seek(&self) -> bool {
        true
    }
}

/// A source of the same file, with the same settings. It opens the file by itself.
impl Clone for FileSource {
    fn clone(&self) -> Self {
        Self {
            context: Arc::clone(&self.context),
            position: self.position,
            // Its streams read at positions of their own.
            read_state: SharedReadState::default(),
        }
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
