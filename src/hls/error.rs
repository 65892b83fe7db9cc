//! Why an HLS track stopped.

use std::{error::Error, fmt, io, sync::Arc};

use super::{CryptError, KeyRejected, PlaylistError, Resource, ResourceKind};
use crate::{cache::CacheError, media::NotMedia, net::NetError};

/// Why an HLS track cannot be played on. The bytes given out before it are right; what follows them is missing.
///
/// The text names the cause as well as the resource. Nothing in it shows a URL's query, a key, or a header's value.
// By hand, because a derived `source()` would be the carried error itself. Its text is in ours already, so the chain goes on
// with what is below it, and a printed chain says nothing twice.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum HlsError {
    /// A playlist that is none, that is broken, or that needs what this crate does not do.
    Playlist {
        /// The playlist.
        resource: Resource,
        /// What is wrong, and on which line.
        source: PlaylistError,
    },
    /// The network or the server failed, and so did the retries.
    Network {
        /// The resource that was being fetched.
        resource: Resource,
        /// What failed.
        source: NetError,
    },
    /// The stream is offline, and the resource is not in the cache.
    OfflineMiss {
        /// The missing resource.
        resource: Resource,
    },
    /// The stream is offline, and the cache could not read an entry that it has.
    OfflineCache {
        /// The resource that was being read.
        resource: Resource,
        /// What failed.
        source: CacheError,
    },
    /// The server sent something else in place of a Media Segment or a Media Initialization Section: a page, JSON, nothing.
    /// Nothing of it was given out or kept.
    NotMedia {
        /// The resource that was being fetched.
        resource: Resource,
        /// What came instead.
        source: Box<NotMedia>,
    },
    /// A transfer broke in the middle of a resource, and what came when it was asked for again is not what came before.
    Changed {
        /// The resource.
        resource: Resource,
    },
    /// Another edition of the track was published under the same URLs, the cache lacks the next byte of the old one, and the
    /// app chose [`NewEdition::Refuse`](super::NewEdition::Refuse).
    EditionChanged {
        /// The playlist at the source's own URL.
        resource: Resource,
    },
    /// A resource is longer or shorter than the playlist or the cache says.
    Length {
        /// The resource.
        resource: Resource,
        /// Its length in bytes as the playlist or the cache gives it.
        expected: u64,
        /// The bytes received when it was clear that they are too few or too many.
        received: u64,
    },
    /// A key is not 16 bytes long. If there is a key processor, its result is meant.
    KeyLength {
        /// The key.
        resource: Resource,
        /// Its length in bytes.
        length: usize,
    },
    /// The bytes that a `data:` URI holds cannot be decoded.
    DataUri {
        /// The resource.
        resource: Resource,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A local file cannot be read, or is larger than its limit.
    LocalFile {
        /// The resource.
        resource: Resource,
        /// What failed.
        source: Arc<io::Error>,
    },
    /// The key processor refused a key.
    Key {
        /// The key.
        resource: Resource,
        /// The processor's reason.
        source: KeyRejected,
    },
    /// A resource does not decrypt.
    Decrypt {
        /// The resource.
        resource: Resource,
        /// What is wrong with it.
        source: CryptError,
    },
    /// Two resources of a track's playlists have one name in the cache. The app's
    /// [`EntryNames`](crate::media::EntryNames) leave out what tells them apart.
    SameName {
        /// The resource that the playlists name first.
        first: Resource,
        /// The other resource.
        second: Resource,
    },
    /// A resource has to be fetched, and the parameters hold no client.
    NoClient {
        /// The resource.
        resource: Resource,
    },
    /// The playlist has no Variant Stream of the number asked for.
    NoSuchVariant {
        /// The number asked for, from 0.
        index: usize,
        /// How many Variant Streams there are.
        count: usize,
    },
}

impl HlsError {
    /// Whether something is not in the cache, or cannot be read there, while the stream is offline.
    pub fn is_offline_miss(&self) -> bool {
        matches!(self, Self::OfflineMiss { .. } | Self::OfflineCache { .. })
    }

    /// Whether the same may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Network { source, .. } => source.is_transient(),
            // The same URL may give the rest.
            Self::Playlist { source, .. } => *source == PlaylistError::MayBeCut,
            _ => false,
        }
    }

    /// Whether the server has a resource and does not give it out to this caller: status 401, 402, 403, 407 or 451. Other
    /// credentials may help, or a playlist with URLs signed anew; time does not.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Network { source, .. } if source.is_forbidden())
    }

    /// Whether the server says that a resource is gone for good: status 410. Such a resource
    /// [is not found](Self::is_not_found) either.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Network { source, .. } if source.is_gone())
    }

    /// Whether the server says that a resource does not exist: status 404 or 410. Or a local file does not.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Network { source, .. } => source.is_not_found(),
            Self::LocalFile { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether what a playlist names is not to be had under that URL: the URL may have expired.
    pub(super) fn is_refused(&self) -> bool {
        let Self::Network { source, .. } = self else {
            return false;
        };
        matches!(source.status(), Some(401 | 403 | 404 | 410))
    }

    /// Whether a segment or an initialization section is not to be had from its server, and may be from another one.
    pub(super) fn is_of_part(&self) -> bool {
        let (Self::Network { resource, .. }
        | Self::NotMedia { resource, .. }
        | Self::Length { resource, .. }) = self
        else {
            return false;
        };
        matches!(
            resource.kind(),
            ResourceKind::Segment { .. } | ResourceKind::InitializationSection
        )
    }

    /// Whether a playlist is not to be had, and another one may be.
    pub(super) fn is_of_playlist(&self) -> bool {
        match self {
            Self::Network { resource, .. } => resource.kind() == ResourceKind::Playlist,
            Self::Playlist { source, .. } => *source != PlaylistError::Live,
            _ => false,
        }
    }

    /// Whether no server answered: the host is away, and with it all that it has.
    pub(super) fn is_unanswered(&self) -> bool {
        let Self::Network { source, .. } = self else {
            return false;
        };
        matches!(
            source,
            NetError::Connect { .. }
                | NetError::TlsHandshake { .. }
                | NetError::Timeout { .. }
                | NetError::NoResponse { .. }
                | NetError::Proxy { .. }
        )
    }

    /// For `map_err`.
    pub(super) fn local_file(resource: &Resource) -> impl FnOnce(io::Error) -> Self {
        let resource = resource.clone();
        move |source| Self::LocalFile {
            resource,
            source: Arc::new(source),
        }
    }

    /// For `map_err`, where media was asked for: a status of success that stands for no bytes is told as what it is.
    pub(super) fn media(resource: &Resource) -> impl FnOnce(NetError) -> Self {
        let resource = resource.clone();
        move |error| match NotMedia::of_status(&error) {
            Some(source) => Self::NotMedia {
                resource,
                source: Box::new(source),
            },
            None => Self::Network {
                resource,
                source: error,
            },
        }
    }

    /// For `map_err`.
    pub(super) fn network(resource: &Resource) -> impl FnOnce(NetError) -> Self {
        let resource = resource.clone();
        move |source| Self::Network { resource, source }
    }
}

impl fmt::Display for HlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Playlist { resource, source } => write!(f, "{resource}: {source}"),
            // The client's errors begin with the URL.
            Self::Network { resource, source } => write!(f, "{}: {source}", resource.kind()),
            Self::OfflineMiss { resource } => write!(f, "offline, and {resource} is not in the cache"),
            Self::OfflineCache { resource, source } => {
                write!(f, "offline, and {resource} cannot be read: {source}")
            }
            // As the client's errors, these begin with the URL.
            Self::NotMedia { resource, source } => write!(f, "{}: {source}", resource.kind()),
            Self::EditionChanged { resource } => {
                write!(f, "{resource} leads to another edition of the track by now")
            }
            Self::Changed { resource } => {
                write!(f, "{resource} has changed on the server while it was read")
            }
            Self::Length {
                resource,
                expected,
                received,
            } => write!(f, "{resource} has {received} bytes instead of {expected}"),
            Self::KeyLength { resource, length } => {
                write!(f, "{resource} has {length} bytes instead of 16")
            }
            Self::LocalFile { resource, source } => write!(f, "{resource}: {source}"),
            Self::DataUri { resource, problem } => write!(f, "{resource}: {problem}"),
            Self::Key { resource, source } => write!(f, "{resource} was refused: {source}"),
            Self::Decrypt { resource, source } => write!(f, "{resource} does not decrypt: {source}"),
            Self::SameName { first, second } => {
                write!(f, "{first} and {second} have the same name in the cache")
            }
            Self::NoClient { resource } => write!(f, "{resource} needs an HTTP client"),
            Self::NoSuchVariant { index, count } => {
                write!(f, "there is no variant stream {index}: the playlist has {count}")
            }
        }
    }
}

impl Error for HlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Playlist { source, .. } => source.source(),
            Self::Network { source, .. } => source.source(),
            Self::OfflineCache { source, .. } => source.source(),
            Self::LocalFile { source, .. } => source.source(),
            Self::Key { source, .. } => source.source(),
            Self::Decrypt { source, .. } => source.source(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hls::ResourceKind, net::Url};

    /// Fault W40: the first line names resource and cause, the URL once, and the chain repeats nothing.
    #[test]
    fn the_first_line_names_the_cause() {
        let url = Url::parse("http://me:secret@h/3.ts?token=secret").unwrap();
        let resource = Resource::new(ResourceKind::Segment { media_sequence: 3 }, &url);
        let cause = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let below = cause.to_string();
        let source = NetError::Connect {
            url: "http://h/3.ts".to_owned(),
            source: cause.into(),
        };
        let text = source.to_string();
        let error = HlsError::network(&resource)(source);
        assert_eq!(error.to_string(), format!("segment 3: {text}"));
        assert_eq!(error.to_string().matches("http://h/3.ts").count(), 1);
        assert_eq!(error.source().map(ToString::to_string), Some(below));
        let source = PlaylistError::Live;
        let error = HlsError::Playlist { resource, source };
        assert!(
            error
                .to_string()
                .starts_with("segment 3 http://h/3.ts: a live playlist")
        );
        assert!(error.source().is_none());
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    /// N12: what an app decides by is what the client says.
    #[test]
    fn n12_predicates_see_through_the_resource() {
        let url = Url::parse("http://h/3.ts").unwrap();
        let resource = Resource::new(ResourceKind::Segment { media_sequence: 3 }, &url);
        for (status, forbidden, gone, not_found, transient) in [
            (401, true, false, false, false),
            (403, true, false, false, false),
            (404, false, false, true, false),
            (410, false, true, true, false),
            (503, false, false, false, true),
        ] {
            let error = HlsError::network(&resource)(NetError::Status {
                url: "http://h/3.ts".to_owned(),
                status,
                content_type: None,
                retry_after: None,
            });
            assert_eq!(
                (
                    error.is_forbidden(),
                    error.is_gone(),
                    error.is_not_found(),
                    error.is_transient()
                ),
                (forbidden, gone, not_found, transient),
                "{status}"
            );
        }
    }
}
