//! Where a file is.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::net::{Url, redacted};

/// Where a file is: a URL or a path.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// `http` or `https`.
    Url(Url),
    /// A local file.
    Path(PathBuf),
}

impl Location {
    /// Parses `text` as an `http`, `https` or `file` URL. Anything else is a path.
    ///
    /// ```
    /// use kithara::file::Location;
    ///
    /// assert!(matches!(Location::parse("https://example.com/a.mp3"), Location::Url(_)));
    /// assert!(matches!(Location::parse("music/a.mp3"), Location::Path(_)));
    /// ```
    pub fn parse(text: &str) -> Self {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Self::Url(url),
            Ok(url) if url.scheme() == "file" => match url.to_file_path() {
                Ok(path) => Self::Path(path),
                Err(()) => Self::Path(text.into()),
            },
            // Any other scheme is none of ours, and may be no scheme: `C:\music` parses as a URL of the scheme `c`.
            _ => Self::Path(text.into()),
        }
    }
}

impl From<Url> for Location {
    fn from(url: Url) -> Self {
        Self::Url(url)
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
