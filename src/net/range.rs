//! Byte ranges: half-open in code, inclusive only on the wire.

use std::fmt;

/// The bytes of a file that a request asks for: from `start` up to, but not including, `end`; or up to the file's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    end: Option<u64>,
}

impl ByteRange {
    /// The bytes `start..end`. An empty or inverted range is refused when the request is sent.
    pub const fn new(start: u64, end: u64) -> Self {
        Self {
            start,
            end: Some(end),
        }
    }

    /// The bytes from `start` to the file's end.
    pub const fn from_start(start: u64) -> Self {
        Self { start, end: None }
    }

    /// The first byte's position.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The position after the last byte. `None` for the file's end.
    pub const fn end(self) -> Option<u64> {
        self.end
    }

    pub(super) fn is_empty(self) -> bool {
        self.end.is_some_and(|end| end <= self.start)
    }

    /// The value of a `Range` header. The range must not be empty.
    pub(super) fn to_header(self) -> String {
        match self.end {
            // Inclusive, and never empty: `Request::check` refuses what has no last byte.
            Some(end) => format!("bytes={}-{}", self.start, end.saturating_sub(1)),
            None => format!("bytes={}-", self.start),
        }
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            Some(end) => write!(f, "{}..{end}", self.start),
            None => write!(f, "{}..", self.start),
        }
    }
}

/// Which bytes of the file a response holds, from its `Content-Range` (RFC 9110, section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    start: u64,
    end: u64,
    total: Option<u64>,
}

impl ContentRange {
    /// The first byte's position.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The position after the last byte.
    pub const fn end(self) -> u64 {
        self.end
    }

    /// The file's length, if the server knows it.
    pub const fn total(self) -> Option<u64> {
        self.total
    }

    pub(super) const fn new(start: u64, end: u64, total: Option<u64>) -> Self {
        Self { start, end, total }
    }

    /// The empty range at the end of a file of `total` bytes.
    pub(super) const fn at_end(total: u64) -> Self {
        Self {
            start: total,
            end: total,
            total: Some(total),
        }
    }

    /// Reads `bytes 0-99/1000` and `bytes 0-99/*`. `None` for a range that is inverted or leaves the file, and for other
    /// text.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let (range, total) = after_unit(value)?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let start = digits(first)?;
        // Checked: the last position that the wire can name has no position behind it.
        let end = digits(last)?.checked_add(1)?;
        let total = match total.trim() {
            "*" => None,
            number => Some(digits(number)?),
        };
        // The wire is inclusive, so a range has at least one byte, and its last byte is within the file.
        let possible = start < end && total.is_none_or(|total| end <= total);
        possible.then_some(Self { start, end, total })
    }

    /// Whether the byte at `position` is in it.
    pub(super) const fn holds(self, position: u64) -> bool {
        self.start <= position && position < self.end
    }
}

/// Reads the file's length from the `bytes */1000` of a 416 response.
pub(super) fn parse_unsatisfied(value: &str) -> Option<u64> {
    // `*/*` tells nothing, and is no number.
    digits(after_unit(value)?.strip_prefix("*/")?)
}

fn after_unit(value: &str) -> Option<&str> {
    // The unit is compared: a server may count in something else, and its numbers would pass for bytes.
    let (unit, rest) = value.trim().split_once(' ')?;
    unit.eq_ignore_ascii_case("bytes").then(|| rest.trim())
}

/// A plain decimal number. `parse` alone would take a sign.
fn digits(text: &str) -> Option<u64> {
    // Digits alone: `parse` takes a sign as well, and `+5` is no position.
    let text = text.trim();
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault D8.
    #[test]
    fn a_content_range_that_cannot_be_is_no_content_range() {
        for bad in [
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes -1-4/10",
            "bytes +1-4/10",
            "bytes 0-4",
            "items 0-4/10",
            "bytes */10",
            "bytes 0-18446744073709551615/*",
            "bytes a-b/c",
            "",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad}");
        }
        let good = ContentRange::parse("Bytes 2-4/10").expect("well formed");
        assert_eq!((good.start(), good.end(), good.total()), (2, 5, Some(10)));
        assert_eq!(
            ContentRange::parse("bytes 2-4/*").and_then(ContentRange::total),
            None
        );
    }

    #[test]
    fn a_range_holds_its_first_byte_and_not_the_one_behind_it() {
        let got = ContentRange::parse("bytes 2-4/10").expect("well formed");
        let held: Vec<u64> = (0..10).filter(|position| got.holds(*position)).collect();
        assert_eq!(held, [2, 3, 4]);
    }

    #[test]
    fn the_wire_is_inclusive_and_the_code_half_open() {
        assert_eq!(ByteRange::new(0, 1).to_header(), "bytes=0-0");
        assert_eq!(ByteRange::from_start(7).to_header(), "bytes=7-");
        assert_eq!(ByteRange::new(3, 9).to_string(), "3..9");
        assert!(ByteRange::new(3, 3).is_empty() && ByteRange::new(4, 3).is_empty());
    }

    #[test]
    fn an_unsatisfied_range_tells_the_length() {
        assert_eq!(parse_unsatisfied("bytes */10"), Some(10));
        assert_eq!(parse_unsatisfied("bytes 0-1/10"), None);
        assert_eq!(parse_unsatisfied("bytes */*"), None);
    }
}
