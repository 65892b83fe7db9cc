//! What tags may say, in the words of no format.

use std::time::Duration;

use bytes::Bytes;

/// The tags of a track. What it does not say is `None`, or empty.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tags {
    /// The track's title.
    pub title: Option<String>,
    /// Its artist.
    pub artist: Option<String>,
    /// The album it is from.
    pub album: Option<String>,
    /// The album's artist.
    pub album_artist: Option<String>,
    /// Its composer.
    pub composer: Option<String>,
    /// Its genre.
    pub genre: Option<String>,
    /// When it was published or recorded, as it says.
    pub date: Option<String>,
    /// A comment.
    pub comment: Option<String>,
    /// Its number on the disc, from 1.
    pub track_number: Option<u32>,
    /// How many tracks the disc has.
    pub track_total: Option<u32>,
    /// The disc's number, from 1.
    pub disc_number: Option<u32>,
    /// How many discs there are.
    pub disc_total: Option<u32>,
    /// The cover: the front one, where there are several pictures.
    pub cover: Option<Picture>,
    /// How loud it is.
    pub loudness: Loudness,
    /// Its chapters, in order.
    pub chapters: Vec<Chapter>,
}

/// A picture as it is stored, encoded.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its media type, `image/jpeg` mostly.
    pub media_type: Option<String>,
    /// The file.
    pub data: Bytes,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Picture")
            .field("media_type", &self.media_type)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// What `ReplayGain` and R128 tags say. To apply a gain is the app's.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loudness {
    /// `ReplayGain` of the track, in dB.
    pub track_gain: Option<f32>,
    /// The track's highest sample, as a share of full scale.
    pub track_peak: Option<f32>,
    /// `ReplayGain` of the album, in dB.
    pub album_gain: Option<f32>,
    /// The album's highest sample, as a share of full scale.
    pub album_peak: Option<f32>,
    /// R128 gain of the track, in dB, to be at -23 LUFS (RFC 7845, 5.2.1).
    pub r128_track_gain: Option<f32>,
    /// R128 gain of the album, in dB.
    pub r128_album_gain: Option<f32>,
}

/// A part of a track that has a name.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chapter {
    /// When it begins.
    pub start: Duration,
    /// When it ends, where that is said.
    pub end: Option<Duration>,
    /// Its title.
    pub title: Option<String>,
}

impl Tags {
    /// Whether nothing is said at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes a tag by the name that it has in free text fields of every format; whether it is one of those.
    pub(super) fn add_named(&mut self, name: &str, value: &str) -> bool {
        let loudness = &mut self.loudness;
        // Writers differ in case.
        let (field, scale) = match name.to_ascii_lowercase().as_str() {
            "replaygain_track_gain" => (&mut loudness.track_gain, 1.0),
            "replaygain_track_peak" => (&mut loudness.track_peak, 1.0),
            "replaygain_album_gain" => (&mut loudness.album_gain, 1.0),
            "replaygain_album_peak" => (&mut loudness.album_peak, 1.0),
            // In 256ths of a dB.
            "r128_track_gain" => (&mut loudness.r128_track_gain, 256.0),
            "r128_album_gain" => (&mut loudness.r128_album_gain, 256.0),
            _ => return false,
        };
        // The first tag counts, as everywhere: the container's own stands before those in front of the file.
        if field.is_none() {
            *field = number(value).map(|value| value / scale);
        }
        true
    }
}

/// The number that a text begins with: "-6.5 dB".
fn number(text: &str) -> Option<f32> {
    let text = text.trim();
    // A unit follows, with a space or without.
    let end = text
        .find(|symbol: char| !symbol.is_ascii_digit() && !matches!(symbol, '.' | '-' | '+'))
        .unwrap_or(text.len());
    let number: f32 = text.get(..end)?.parse().ok()?;
    // "inf" is parsed too, and would mute or break what an app plays.
    number.is_finite().then_some(number)
}

/// "3/12": a number, and how many there are.
pub(super) fn number_of(text: &str) -> (Option<u32>, Option<u32>) {
    let (number, total) = text.split_once('/').unwrap_or((text, ""));
    (number.trim().parse().ok(), total.trim().parse().ok())
}

/// Sets what is not said yet.
pub(super) fn set<T>(field: &mut Option<T>, value: Option<T>) {
    if field.is_none() {
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn gains_are_read_as_they_are_written() {
        let mut tags = Tags::default();
        assert!(tags.add_named("REPLAYGAIN_TRACK_GAIN", " -6.50 dB"));
        assert!(tags.add_named("replaygain_track_peak", "0.987"));
        assert!(tags.add_named("R128_TRACK_GAIN", "-512"));
        assert!(tags.add_named("replaygain_album_gain", "loud"));
        assert!(!tags.add_named("title", "x"));
        assert_eq!(tags.loudness.track_gain, Some(-6.5));
        assert_eq!(tags.loudness.track_peak, Some(0.987));
        assert_eq!(tags.loudness.r128_track_gain, Some(-2.0));
        assert_eq!(tags.loudness.album_gain, None);
    }

    #[test]
    fn numbers_may_say_how_many_there_are() {
        assert_eq!(number_of("3/12"), (Some(3), Some(12)));
        assert_eq!(number_of("7"), (Some(7), None));
        assert_eq!(number_of("A1"), (None, None));
    }
}
