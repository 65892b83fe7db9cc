//! Which of several languages is the one asked for (RFC 4647).

/// The index of the language that fits `wanted` best; `None` if none does.
///
/// As RFC 4647, 3.4, looks a tag up: `wanted` is made shorter until a tag fits. A tag that says more than what is left fits too
/// (3.3.1), so that `en` finds `en-US`, and `en-GB` finds it where there is no closer one. Case does not count, and an
/// underscore is a hyphen. What says no language fits none.
pub(super) fn best<'a>(wanted: &str, tags: impl Iterator<Item = Option<&'a str>>) -> Option<usize> {
    let normal = |tag: &str| tag.trim().to_ascii_lowercase().replace('_', "-");
    let tags: Vec<Option<String>> = tags.map(|tag| tag.map(normal)).collect();
    let find = |fits: &dyn Fn(&str) -> bool| tags.iter().position(|tag| tag.as_deref().is_some_and(fits));
    let mut range = normal(wanted);
    while !range.is_empty() {
        let more = format!("{range}-");
        let found = find(&|tag| tag == range).or_else(|| find(&|tag| tag.starts_with(&more)));
        if found.is_some() {
            return found;
        }
        // A single letter belongs to what follows it, and goes with it.
        let mut parts: Vec<&str> = range.split('-').collect();
        parts.pop();
        while parts.last().is_some_and(|part| part.len() == 1) {
            parts.pop();
        }
        range = parts.join("-");
    }
    None
}
