//! What a contract suite finds.

use snafu::Snafu;

/// A rule of a contract that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Snafu)]
#[snafu(display("{rule}: {detail}"))]
pub struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) detail: String,
}

impl Violation {
    /// The rule, in a few words that do not change.
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// What was seen instead.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}
