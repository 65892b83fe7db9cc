//! Playlists as RFC 8216 defines them, resolved: every Media Segment knows its absolute URL, byte range, key and Media
//! Initialization Section.
//!
//! ```text
//!   text ─▶ lines ─┬─▶ media          key, variables: what lines above a segment say
//!                  └─▶ multivariant   reference: what a URI resolves to
//!                                     number: exact and checked
//! ```
//!
//! What lines mean together is decided here. The outcome for any input is a playlist or a [`PlaylistError`] that names the
//! line, never a panic (fault E16).

mod body_end;
mod date;
mod error;
mod key;
mod language;
mod lines;
mod media;
mod multivariant;
mod number;
mod reference;
mod variables;

pub(crate) use body_end::BodyEnd;
pub use date::{DateRange, ProgramDate};
pub use error::PlaylistError;
pub(crate) use key::Encryption;
pub(crate) use media::{InitializationSection, MediaPlaylist};
pub(crate) use multivariant::{MultivariantPlaylist, Rendition, VariantStream};
pub use multivariant::{SessionData, VariantContent};
pub use reference::StartPoint;
pub(crate) use reference::{Locator, References};

use std::borrow::Cow;

use error::NotAPlaylistSnafu;
use lines::{Line, Lines};

/// One of the two kinds of playlist (RFC 8216, 4.1).
pub(crate) enum Playlist {
    Multivariant(MultivariantPlaylist),
    Media(MediaPlaylist),
}

/// Reads a playlist of either kind.
///
/// # Errors
///
/// Any [`PlaylistError`] but `Nested`.
pub(crate) fn parse(
    body: &[u8],
    references: &References<'_>,
    end: BodyEnd,
) -> Result<Playlist, PlaylistError> {
    // A title in another encoding does no harm. A URI that is not UTF-8 is refused at its line.
    let text = std::str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if !matches!(Lines::new(text).next(), Some((_, Line::Tag("M3U", _)))) {
        return NotAPlaylistSnafu {
            begins: beginning(text),
        }
        .fail();
    }
    let text = match end {
        BodyEnd::Proven => text,
        BodyEnd::Unproven => whole_lines(text),
    };
    // The first tag that belongs to one kind decides. Tags of both, such as EXT-X-VERSION, say nothing. What the other kind's
    // tags mean further down is for the parser of the kind to refuse.
    for (_, line) in Lines::new(text) {
        match line {
            Line::Tag("-X-STREAM-INF" | "-X-MEDIA" | "-X-I-FRAME-STREAM-INF", _) => {
                return MultivariantPlaylist::parse(text, references, end).map(Playlist::Multivariant);
            }
            Line::Tag("INF" | "-X-TARGETDURATION" | "-X-MEDIA-SEQUENCE" | "-X-KEY" | "-X-MAP", _) => break,
            _ => {}
        }
    }
    MediaPlaylist::parse(text, references, end).map(Playlist::Media)
}

/// The lines that a cut cannot have shortened: all but a last one without its line feed. A URI that lost its tail may lead to
/// another resource.
fn whole_lines(text: &str) -> &str {
    let start_of_last = text.rfind('\n').map_or(0, |at| at + 1);
    let (lines, last) = text.split_at_checked(start_of_last).unwrap_or_default();
    // No longer tag begins with this one, so nothing of it is missing.
    if last.trim() == "#EXT-X-ENDLIST" {
        text
    } else {
        lines
    }
}

/// The first characters of what should have been a playlist, fit for an error message.
pub(crate) fn beginning(text: &str) -> String {
    const SHOWN: usize = 60;
    text.chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
