//! What makes two answers of a server bytes of the same file.

use std::fmt;
use std::sync::Arc;

use crate::net::{HeaderMap, Validator};

/// What makes two answers of a server bytes of the same file.
///
/// Bytes of two versions of a file must not meet in one, so each answer is compared with the one before. By default that
/// is by the server's validators. Some servers send useless ones: several machines behind one name, each with an `ETag` of
/// its own for the same bytes. There every jump looks like a change
/// ([`FileError::UnstableValidators`](super::FileError::UnstableValidators)), and the app has to say what else proves it.
///
/// ```no_run
/// # fn example(params: kithara::file::FileParams) {
/// use kithara::file::SameFile;
///
/// // A store that sends the checksum of each object.
/// let by_checksum = SameFile::by_key(|headers| {
///     let checksum = headers.get("x-checksum")?.to_str().ok()?;
///     Some(checksum.to_owned())
/// });
/// let params = params.same_file(by_checksum);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct SameFile(Rule);

#[derive(Clone, Default)]
enum Rule {
    #[default]
    Validators,
    Length,
    Key(Arc<KeyOf>),
}

type KeyOf = dyn Fn(&HeaderMap) -> Option<String> + Send + Sync;

impl SameFile {
    /// By `ETag` and `Last-Modified`, and by the length (RFC 9110 section 8.8). The default.
    pub fn by_validators() -> Self {
        Self(Rule::Validators)
    }

    /// By the length alone. A new version of the same length is not noticed, and its bytes may be mixed with those of the
    /// old one: only for files that never change.
    pub fn by_length() -> Self {
        Self(Rule::Length)
    }

    /// By the length, and by what `key` makes of the response's headers. Answers without a key are compared by the length
    /// alone, and a download that has no key is not resumed after a restart.
    ///
    /// `key` runs on the thread that downloads, once for each response.
    pub fn by_key(key: impl Fn(&HeaderMap) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Rule::Key(Arc::new(key)))
    }

    pub(super) fn is_by_validators(&self) -> bool {
        matches!(self.0, Rule::Validators)
    }

    /// The app's own key of a response.
    pub(super) fn key(&self, headers: &HeaderMap) -> Option<String> {
        match &self.0 {
            Rule::Key(key) => key(headers),
            Rule::Validators | Rule::Length => None,
        }
    }

    /// What is recorded with the bytes of a file, so that a later session can go on from them. `None` if it cannot.
    pub(super) fn tag(&self, validator: Option<&Validator>, key: Option<&str>) -> Option<String> {
        match &self.0 {
            Rule::Validators => validator.map(|validator| validator.as_str().to_owned()),
            Rule::Length => Some(LENGTH_TAG.to_owned()),
            Rule::Key(_) => key.map(|key| format!("{KEY_TAG}{key}")),
        }
    }

    /// What a recorded tag proves under this rule.
    pub(super) fn recorded(&self, tag: &str) -> Option<Recorded> {
        match &self.0 {
            // A tag of another rule proves nothing under this one: the app may have changed its mind between two sessions.
            Rule::Validators => Validator::parse(tag).map(Recorded::Validator),
            // The length is recorded beside the tag, whatever the tag is.
            Rule::Length => Some(Recorded::Length),
            Rule::Key(_) => tag.strip_prefix(KEY_TAG).map(|key| Recorded::Key(key.to_owned())),
        }
    }
}

/// What an earlier session recorded of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recorded {
    Validator(Validator),
    Length,
    Key(String),
}

/// Neither is a validator: those are quoted, or dates.
const LENGTH_TAG: &str = "length";
const KEY_TAG: &str = "key:";

impl fmt::Debug for SameFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Rule::Validators => "Validators",
            Rule::Length => "Length",
            Rule::Key(_) => "Key",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W22.
    #[test]
    fn w22_a_tag_proves_something_under_the_rule_that_made_it() {
        let validator = Validator::parse("\"a\"").unwrap();
        let (by_validators, by_length) = (SameFile::by_validators(), SameFile::by_length());
        let by_key = SameFile::by_key(|_| None);
        let tag = by_validators.tag(Some(&validator), Some("k")).unwrap();
        assert_eq!(by_validators.recorded(&tag), Some(Recorded::Validator(validator)));
        assert_eq!(by_length.recorded(&tag), Some(Recorded::Length));
        assert_eq!(by_key.recorded(&tag), None);
        let tag = by_key.tag(None, Some("k")).unwrap();
        assert_eq!(by_key.recorded(&tag), Some(Recorded::Key("k".to_owned())));
        assert_eq!(by_validators.recorded(&tag), None);
        assert_eq!(by_key.tag(None, None), None);
        let tag = by_length.tag(None, None).unwrap();
        assert_eq!(by_validators.recorded(&tag), None);
        assert_eq!(by_length.recorded(&tag), Some(Recorded::Length));
    }
}
