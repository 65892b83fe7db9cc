//! How URLs are shown, in errors and in the log.

use std::sync::atomic::{AtomicU8, Ordering};

use url::Url;

/// How much of a URL is shown. Query, fragment and credentials never are.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UrlDisplay {
    /// Scheme, host and path.
    #[default]
    WithoutQuery,
    /// Scheme, host and the path's last segment: `https://example.com/…/a.mp3`. For servers that put tokens into paths.
    HostAndFileName,
}

/// One for the whole process: errors and log lines of every client are written by the same function, which knows no client.
static DISPLAY: AtomicU8 = AtomicU8::new(0);

/// Sets how URLs are shown from now on in errors and logs of this process. An error keeps the text it was made with.
pub fn set_url_display(display: UrlDisplay) {
    let number = match display {
        UrlDisplay::WithoutQuery => 0,
        UrlDisplay::HostAndFileName => 1,
    };
    // Relaxed: it orders nothing.
    DISPLAY.store(number, Ordering::Relaxed);
}

/// The URL without its query, fragment and credentials: what may be shown and logged. Of a `data:` URL no more than scheme and
/// length. [`set_url_display`] has it show less.
///
/// ```
/// # use kithara::net::{redacted, Url};
/// let url = Url::parse("https://user:secret@example.com/a.mp3?token=1#t=30").unwrap();
/// assert_eq!(redacted(&url), "https://example.com/a.mp3");
/// ```
pub fn redacted(url: &Url) -> String {
    match DISPLAY.load(Ordering::Relaxed) {
        0 => shown(url, UrlDisplay::WithoutQuery),
        _ => shown(url, UrlDisplay::HostAndFileName),
    }
}

/// The URL without what identifies a request or its sender.
pub(super) fn plain(url: &Url) -> Url {
    let mut plain = url.clone();
    plain.set_query(None);
    plain.set_fragment(None);
    // Both refuse only URLs that cannot hold credentials.
    let _ = plain.set_username("");
    let _ = plain.set_password(None);
    plain
}

fn shown(url: &Url, display: UrlDisplay) -> String {
    // All of it may be the secret: of a `data:` URL the key itself.
    if url.cannot_be_a_base() {
        return format!("{}: ({} bytes)", url.scheme(), url.as_str().len());
    }
    let plain = plain(url);
    let (folder, name) = match (display, plain.path().rsplit_once('/')) {
        (UrlDisplay::HostAndFileName, Some((folder, name))) if !folder.is_empty() => (folder, name),
        _ => return plain.into(),
    };
    let origin = plain.as_str().strip_suffix(&format!("{folder}/{name}"));
    format!("{}/…/{name}", origin.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> (String, String) {
        let url = Url::parse(text).expect("a url");
        (
            shown(&url, UrlDisplay::WithoutQuery),
            shown(&url, UrlDisplay::HostAndFileName),
        )
    }

    /// W18: tokens stand in queries, in credentials and in paths.
    #[test]
    fn no_more_is_shown_than_allowed() {
        for (text, without_query, name) in [
            (
                "https://u:p@h:81/tok/en/a.mp3?t#f",
                "https://h:81/tok/en/a.mp3",
                "https://h:81/…/a.mp3",
            ),
            ("https://h/tok/?t", "https://h/tok/", "https://h/…/"),
            ("https://h/a.mp3", "https://h/a.mp3", "https://h/a.mp3"),
            ("https://h", "https://h/", "https://h/"),
            ("https://h//a//a.mp3", "https://h//a//a.mp3", "https://h/…/a.mp3"),
            (
                "file:///home/me/a.mp3",
                "file:///home/me/a.mp3",
                "file:///…/a.mp3",
            ),
            ("data:,secret", "data: (12 bytes)", "data: (12 bytes)"),
            ("blob:https://h/secret", "blob: (21 bytes)", "blob: (21 bytes)"),
        ] {
            assert_eq!(all(text), (without_query.to_owned(), name.to_owned()), "{text}");
        }
    }
}
