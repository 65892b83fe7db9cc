//! Dates in a Media Playlist: when a segment was recorded, and what the author says of a span of time.

use std::time::Duration;

use super::{lines::Attributes, number, variables::Variables};

/// When a Media Segment was recorded or first sent (EXT-X-PROGRAM-DATE-TIME; RFC 8216, 4.3.2.6).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramDate {
    /// When the segment starts, counted from the start of the track.
    pub time: Duration,
    /// The date and time of day (ISO 8601), as the playlist has it.
    pub date: String,
}

/// What the author says of a span of time (EXT-X-DATERANGE; RFC 8216, 4.3.2.7).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateRange {
    /// ID.
    pub id: String,
    /// CLASS: ranges of one class mean the same.
    pub class: Option<String>,
    /// START-DATE (ISO 8601), as the playlist has it.
    pub start_date: Option<String>,
    /// END-DATE (ISO 8601), as the playlist has it.
    pub end_date: Option<String>,
    /// DURATION, or else PLANNED-DURATION.
    pub duration: Option<Duration>,
    /// The author's own attributes, whose names begin with `X-`, without quotes.
    pub custom: Vec<(String, String)>,
}

impl DateRange {
    /// `None` without an ID: nothing could refer to it.
    pub(super) fn parse(line: usize, value: &str, variables: &Variables) -> Option<Self> {
        let attributes = Attributes::parse(line, "EXT-X-DATERANGE", value);
        let text = |name| attributes.advice(name, variables).map(Into::into);
        let seconds = |name| number::seconds(attributes.enumerated(name).ok()??);
        let Some(id) = text("ID") else {
            attributes.tolerated("ID is missing");
            return None;
        };
        Some(Self {
            id,
            class: text("CLASS"),
            start_date: text("START-DATE"),
            end_date: text("END-DATE"),
            duration: seconds("DURATION").or_else(|| seconds("PLANNED-DURATION")),
            custom: attributes.custom(),
        })
    }
}
