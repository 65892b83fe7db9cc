//! Why a playlist cannot be played.

use snafu::Snafu;

/// Why a text is not a playlist this crate plays.
///
/// No variant carries a URI or an attribute's value: playlists hold tokens. The line number finds the place.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum PlaylistError {
    /// The body does not begin with `#EXTM3U` (RFC 8216, 4.3.1.1): an error page, gzip without its header, media.
    #[snafu(display("not a playlist: it begins with {begins:?}"))]
    NotAPlaylist {
        /// Its first characters, cut, with everything unprintable replaced.
        begins: String,
    },
    /// A line that cannot be understood.
    #[snafu(display("line {line}: {tag}: {problem}"))]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The tag at fault, or `URI`.
        tag: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A reference to a variable that no EXT-X-DEFINE above it defines (RFC 8216bis, 4.3).
    #[snafu(display("line {line}: variable {name:?} is not defined"))]
    UndefinedVariable {
        /// The line, from 1.
        line: usize,
        /// The variable's name.
        name: String,
    },
    /// Segments are encrypted in a way this crate does not decrypt, such as SAMPLE-AES.
    #[snafu(display("line {line}: encryption {method:?} with key format {key_format:?} is not supported"))]
    UnsupportedEncryption {
        /// The line of the EXT-X-KEY, from 1.
        line: usize,
        /// Its METHOD.
        method: String,
        /// Its KEYFORMAT.
        key_format: String,
    },
    /// The Media Playlist has neither EXT-X-ENDLIST nor the type VOD: it may still grow.
    #[snafu(display("a live playlist: neither EXT-X-ENDLIST nor EXT-X-PLAYLIST-TYPE:VOD"))]
    Live,
    /// Nothing proves that the playlist is whole: the server announced no length, and no EXT-X-ENDLIST stands behind the last
    /// Media Segment, or no Variant Stream is named. A broken connection would look like this. The same URL, asked again, may
    /// give more.
    #[snafu(display("the playlist may be cut: its length is unknown, and its end is missing"))]
    MayBeCut,
    /// A Media Playlist without Media Segments.
    #[snafu(display("a media playlist without segments"))]
    NoSegments,
    /// A Multivariant Playlist without Variant Streams.
    #[snafu(display("a multivariant playlist without variant streams"))]
    NoVariants,
    /// A Variant Stream or Rendition that names another Multivariant Playlist (RFC 8216, 4.1).
    #[snafu(display("a multivariant playlist where a media playlist belongs"))]
    Nested,
}

/// The error of a line that cannot be understood.
pub(super) fn malformed<T>(
    line: usize,
    tag: &'static str,
    problem: &'static str,
) -> Result<T, PlaylistError> {
    MalformedSnafu { line, tag, problem }.fail()
}
