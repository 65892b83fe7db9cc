//! Resources that are neither fetched nor kept: bytes that stand in a playlist, and local files.
//!
//! That a playlist of the network leads to no local file is checked where its URLs are resolved
//! ([`References`](super::playlist::References)).

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use bytes::{Bytes, BytesMut};

use super::{HlsError, Resource, data_uri, playlist::Locator};
use crate::{net::Url, rt};

/// Bytes read from a file at once.
const CHUNK: u64 = 64 << 10;

/// A local resource, or a range of it, being read.
pub(super) struct LocalReader {
    input: Input,
    left: u64,
}

enum Input {
    Inline(Bytes),
    /// `None` while another thread reads.
    File(Option<File>),
}

/// Whether a resource is local.
pub(super) fn is_local(url: &Url) -> bool {
    data_uri::is_inline(url) || url.scheme() == "file"
}

impl LocalReader {
    /// Opens a local resource; `None` if it is not local. Of a `data:` URI at most `limit` bytes are decoded.
    ///
    /// # Errors
    ///
    /// `DataUri`, `LocalFile`.
    pub(super) async fn open(
        resource: &Resource,
        locator: &Locator,
        limit: usize,
    ) -> Result<Option<Self>, HlsError> {
        let url = &locator.url;
        if let Some(whole) = data_uri::decode(resource, url, limit)? {
            // A range beyond the end is as short here as in a file. The reader's caller knows the length that is due.
            let of = within(locator.range.clone(), whole.len() as u64);
            let index = |at| usize::try_from(at).unwrap_or(whole.len());
            let bytes = whole.slice(index(of.start)..index(of.end));
            let left = bytes.len() as u64;
            let input = Input::Inline(bytes);
            return Ok(Some(Self { input, left }));
        }
        if !is_local(url) {
            return Ok(None);
        }
        let (path, range) = (url.to_file_path(), locator.range.clone());
        let opened = rt::unblock(move || {
            let path = path.map_err(|()| io::Error::from(io::ErrorKind::InvalidInput))?;
            open_file(&path, range)
        });
        let (file, left) = opened.await.map_err(HlsError::local_file(resource))?;
        let input = Input::File(Some(file));
        Ok(Some(Self { input, left }))
    }

    /// How many bytes are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    ///
    /// `LocalFile`.
    ///
    /// # Cancel safety
    ///
    /// None: after a dropped call it is at its end.
    pub(super) async fn next(&mut self, resource: &Resource) -> Result<Option<Bytes>, HlsError> {
        let chunk = match &mut self.input {
            Input::Inline(bytes) => std::mem::take(bytes),
            Input::File(file) => {
                let Some(mut open) = file.take().filter(|_| self.left > 0) else {
                    return Ok(None);
                };
                let len = self.left.min(CHUNK);
                let read = rt::unblock(move || {
                    let mut chunk = Vec::new();
                    (&mut open).take(len).read_to_end(&mut chunk)?;
                    Ok((open, chunk))
                });
                let (open, chunk) = read.await.map_err(HlsError::local_file(resource))?;
                *file = Some(open);
                chunk.into()
            }
        };
        self.left = self.left.saturating_sub(chunk.len() as u64);
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }
}

/// A local resource whole, if it has at most `limit` bytes; `None` if it is not local.
///
/// # Errors
///
/// `DataUri`, `LocalFile`.
pub(super) async fn read(resource: &Resource, url: &Url, limit: usize) -> Result<Option<Bytes>, HlsError> {
    let locator = Locator {
        url: url.clone(),
        range: None,
    };
    let Some(mut reader) = LocalReader::open(resource, &locator, limit).await? else {
        return Ok(None);
    };
    if reader.left() > limit as u64 {
        let too_large = io::Error::from(io::ErrorKind::FileTooLarge);
        return Err(HlsError::local_file(resource)(too_large));
    }
    let mut whole = BytesMut::new();
    while let Some(chunk) = reader.next(resource).await? {
        whole.extend_from_slice(&chunk);
    }
    Ok(Some(whole.freeze()))
}

/// What of a range lies in a resource of `len` bytes.
fn within(range: Option<Range<u64>>, len: u64) -> Range<u64> {
    let range = range.unwrap_or(0..len);
    range.start.min(len)..range.end.min(len)
}

/// The file at the first byte of a range, and how many bytes of it there are.
fn open_file(path: &Path, range: Option<Range<u64>>) -> io::Result<(File, u64)> {
    // Before it is opened: opening a pipe waits until something writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut file = File::open(path)?;
    let range = within(range, file.metadata()?.len());
    file.seek(SeekFrom::Start(range.start))?;
    Ok((file, range.end - range.start))
}
