//! Where a file is.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::net::{Url, redacted};

/// Where a file is: a URL or a path.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// `http` or `https`. Others cannot be opened.
    Url(Url),
    /// A local file.
    Path(PathBuf),
}

impl Location {
    /// Parses `text` as a URL if it has a scheme and two slashes, or is a `data:` URL, and else as a path. A `file` URL
    /// becomes its path. Another scheme than `http` and `https` stays a URL, and opening it is
    /// [`FileError::UnsupportedUrl`](super::FileError::UnsupportedUrl).
    ///
    /// ```
    /// use kithara::file::Location;
    ///
    /// assert!(matches!(Location::parse("https://example.com/a.mp3"), Location::Url(_)));
    /// assert!(matches!(Location::parse("ftp://example.com/a.mp3"), Location::Url(_)));
    /// assert!(matches!(Location::parse("music/a.mp3"), Location::Path(_)));
    /// # #[cfg(unix)]
    /// assert!(matches!(Location::parse("file:///music/a.mp3"), Location::Path(_)));
    /// ```
    pub fn parse(text: &str) -> Self {
        // A colon alone makes no URL: `C:\music` parses as one of the scheme `c`, and file names may hold a colon.
        match Url::parse(text) {
            Ok(url) if text.contains("://") || url.scheme() == "data" => url.into(),
            Ok(url) if matches!(url.scheme(), "http" | "https" | "file") => url.into(),
            _ => Self::Path(text.into()),
        }
    }
}

/// A `file` URL becomes its path, if it names one on this machine.
impl From<Url> for Location {
    fn from(url: Url) -> Self {
        match url.to_file_path() {
            Ok(path) if url.scheme() == "file" => Self::Path(path),
            _ => Self::Url(url),
        }
    }
}

/// As [`Location::parse`].
impl From<&str> for Location {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

/// The URL without its query and credentials.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(&redacted(url)),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}
