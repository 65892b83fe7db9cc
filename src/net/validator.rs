//! Validators: they prove that two responses hold bytes of the same file.

use http::HeaderMap;
use http::header::{DATE, ETAG, LAST_MODIFIED};

/// How much older than the response a modification date must be to count as strong. A file may change twice within a second,
/// and clocks differ. RFC 9110 (section 8.8.2.2) asks for a safe distance, RFC 7232 named 60 s.
const STRONG_AFTER_SECS: u64 = 60;

/// A strong validator of a file: an `ETag`, or a `Last-Modified` old enough to count as strong (RFC 9110, section
/// 8.8.2.2).
///
/// Sent back as `If-Range`, it makes the server answer a request for a range with bytes of the same file, or with the whole
/// of the new one. A weak validator cannot be made into a `Validator`: it may stay the same while bytes change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Validator(String);

impl Validator {
    /// Reads a validator that [`as_str`](Self::as_str) gave. `None` for a weak entity tag, and for other text.
    pub fn parse(text: &str) -> Option<Self> {
        let known = is_strong_tag(text) || httpdate::parse_http_date(text).is_ok();
        known.then(|| Self(text.to_owned()))
    }

    /// The validator as an `If-Range` header has it. It may be stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The strongest validator of a response.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // A weak tag says that bytes may differ. A date beside it does not take that back.
        if let Some(tag) = text(ETAG) {
            return is_strong_tag(tag).then(|| Self(tag.to_owned()));
        }
        // Compared with the server's own clock, which its `Date` tells, and never with this machine's.
        let modified = text(LAST_MODIFIED)?;
        let modified_at = httpdate::parse_http_date(modified).ok()?;
        let sent_at = httpdate::parse_http_date(text(DATE)?).ok()?;
        let age = sent_at.duration_since(modified_at).ok()?;
        (age.as_secs() >= STRONG_AFTER_SECS).then(|| Self(modified.to_owned()))
    }

    /// Whether a response with these headers names another validator. Silence is no contradiction.
    pub(super) fn contradicted_by(&self, headers: &HeaderMap) -> bool {
        headers
            .get(self.header())
            .is_some_and(|value| value.as_bytes() != self.0.as_bytes())
    }

    /// Whether a response with these headers names this validator.
    pub(super) fn confirmed_by(&self, headers: &HeaderMap) -> bool {
        headers
            .get(self.header())
            .is_some_and(|value| value.as_bytes() == self.0.as_bytes())
    }

    /// The header that this validator stands in. Only entity tags are quoted.
    fn header(&self) -> http::HeaderName {
        if self.0.starts_with('"') {
            ETAG
        } else {
            LAST_MODIFIED
        }
    }
}

fn is_strong_tag(text: &str) -> bool {
    text.len() >= 2
        && text.starts_with('"')
        && text.ends_with('"')
        && text.bytes().all(|b| (0x21..=0x7e).contains(&b))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(http::HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    const MONDAY: &str = "Mon, 02 Jan 2023 00:00:00 GMT";
    const A_MINUTE_LATER: &str = "Mon, 02 Jan 2023 00:01:00 GMT";
    const A_SECOND_LATER: &str = "Mon, 02 Jan 2023 00:00:01 GMT";

    #[test]
    fn a_strong_tag_is_a_validator_and_a_weak_one_is_none() {
        let of = |tag| Validator::of(&headers(&[(ETAG, tag)]));
        assert_eq!(of("\"a\"").as_ref().map(Validator::as_str), Some("\"a\""));
        assert_eq!(of("W/\"a\""), None);
        assert_eq!(of("a"), None);
    }

    /// A weak tag says that bytes may differ; the date beside it cannot take that back.
    #[test]
    fn a_date_beside_a_weak_tag_does_not_count() {
        let all = headers(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, MONDAY), (DATE, A_MINUTE_LATER)]);
        assert_eq!(Validator::of(&all), None);
    }

    #[test]
    fn a_date_is_strong_only_well_before_the_response() {
        let at = |date| Validator::of(&headers(&[(LAST_MODIFIED, MONDAY), (DATE, date)]));
        assert!(at(A_MINUTE_LATER).is_some());
        assert_eq!(at(A_SECOND_LATER), None);
        assert_eq!(
            Validator::of(&headers(&[(LAST_MODIFIED, MONDAY)])),
            None,
            "no date of the response"
        );
    }

    #[test]
    fn a_stored_validator_reads_back() {
        for text in ["\"a\"", MONDAY] {
            assert_eq!(Validator::parse(text).as_ref().map(Validator::as_str), Some(text));
        }
        for text in ["W/\"a\"", "a", "", "\"", "\"a b\""] {
            assert_eq!(Validator::parse(text), None, "{text}");
        }
    }

    #[test]
    fn another_tag_contradicts_and_silence_does_not() {
        let validator = Validator::parse("\"a\"").expect("strong");
        assert!(validator.contradicted_by(&headers(&[(ETAG, "\"b\"")])));
        assert!(!validator.contradicted_by(&headers(&[])));
        assert!(!validator.confirmed_by(&headers(&[])));
        assert!(validator.confirmed_by(&headers(&[(ETAG, "\"a\"")])));
    }
}
