//! What the transfer of a playlist proves of its end.

/// Whether the transfer proves that a playlist's text is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// By a length, by chunks, or because it was not transferred.
    Proven,
    /// The end of the connection was the end of the text. Only what the text itself proves is believed (fault W7).
    Unproven,
}
