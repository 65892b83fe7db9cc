//! A playlist as the cache keeps it: as the server sent it, and two comment lines with what is known of it.
//!
//! ```text
//!   #EXTM3U
//!   …                                   the server's bytes
//!   #kithara-copy:1764500000 60 …       when it was current, for how long, validators
//!   #kithara-url:https://cdn/a.m3u8     where it came from; always the last line
//! ```
//!
//! Where nothing was redirected the URL is left out.
//!
//! Relative URLs resolve against the URL after redirects (fault D11), offline too. Comments keep the entry a playlist.
//! Only the last two lines count, so such comments of the server's mean nothing. An entry without them was cut short.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::freshness;
use crate::net::{Request, Url};

const URL: &str = "#kithara-url:";
const COPY: &str = "#kithara-copy:";

/// What is known of a playlist's copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyFacts {
    /// Where it came from, after redirects.
    pub(super) url: Url,
    /// When the server last said that it is current, in seconds since 1970.
    checked: u64,
    /// For how many seconds from then on the server vouches for it.
    fresh_for: u64,
    /// Validators for a conditional request (RFC 9110, 8.8).
    etag: Option<String>,
    modified: Option<String>,
}

impl CopyFacts {
    /// Of an answer that has just come from `url`.
    pub(super) fn of(url: &Url, headers: &HeaderMap) -> Self {
        let text = |name| {
            let value = headers.get(name)?.to_str().ok()?;
            // The line's own separator would end it early.
            (!value.contains('\t')).then(|| value.to_owned())
        };
        Self {
            url: url.clone(),
            checked: freshness::now(),
            fresh_for: freshness::lifetime(headers).as_secs(),
            etag: text("etag"),
            modified: text("last-modified"),
        }
    }

    /// The same, of which the server has just said that it is current still.
    pub(super) fn checked_now(mut self) -> Self {
        self.checked = freshness::now();
        self
    }

    /// Whether the server vouches for it still.
    pub(super) fn is_fresh(&self) -> bool {
        self.age().as_secs() < self.fresh_for
    }

    /// How long ago the server said that it is current. A clock that was set back does not make it fresh for ever: such a copy
    /// is of unknown age.
    pub(super) fn age(&self) -> Duration {
        let seconds = freshness::now().checked_sub(self.checked);
        seconds.map_or(Duration::MAX, Duration::from_secs)
    }

    /// Asks for the playlist only if it is another one by now (RFC 9110, 13.1).
    pub(super) fn condition(&self, request: Request) -> Request {
        match (&self.etag, &self.modified) {
            (Some(etag), _) => request.header("if-none-match", etag),
            (None, Some(modified)) => request.header("if-modified-since", modified),
            (None, None) => request,
        }
    }
}

/// The entry for a playlist that was asked for at `url`.
pub(super) fn wrap(body: &[u8], url: &Url, facts: &CopyFacts) -> Bytes {
    // Where nothing was redirected the URL is the one asked for: known, and its query need not be on the disk (C14).
    let mut origin = Some(&facts.url).filter(|origin| *origin != url).cloned();
    if let Some(origin) = &mut origin {
        // Credentials hold for their origin, and each request takes them from the source's own URL. They need not be on the
        // disk either. Both calls refuse only URLs that cannot hold any.
        let _ = origin.set_username("");
        let _ = origin.set_password(None);
    }
    let origin = origin.as_ref().map_or("", Url::as_str);
    let (etag, modified) = (facts.etag.as_deref(), facts.modified.as_deref());
    let lines = format!(
        "\n{COPY}{} {} {}\t{}\n{URL}{origin}\n",
        facts.checked,
        facts.fresh_for,
        etag.unwrap_or_default(),
        modified.unwrap_or_default(),
    );
    [body, lines.as_bytes()].concat().into()
}

/// The playlist, and what is known of it; `None` if the entry is not whole.
pub(super) fn unwrap<'a>(entry: &'a [u8], url: &Url) -> Option<(&'a [u8], CopyFacts)> {
    // Each step fails for an entry cut anywhere: the last byte, both marks, and the URL must be there.
    let lines = entry.strip_suffix(b"\n")?;
    let (lines, line) = last_line(lines)?;
    let origin = line.strip_prefix(URL)?;
    let (body, line) = last_line(lines)?;
    let (checked, rest) = line.strip_prefix(COPY)?.split_once(' ')?;
    let (fresh_for, validators) = rest.split_once(' ')?;
    let (etag, modified) = validators.split_once('\t')?;
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let facts = CopyFacts {
        url: if origin.is_empty() {
            url.clone()
        } else {
            Url::parse(origin).ok()?
        },
        checked: checked.parse().ok()?,
        fresh_for: fresh_for.parse().ok()?,
        etag: text(etag),
        modified: text(modified),
    };
    Some((body, facts))
}

fn last_line(lines: &[u8]) -> Option<(&[u8], &str)> {
    let at = lines.iter().rposition(|byte| *byte == b'\n')?;
    let (rest, line) = lines.split_at_checked(at)?;
    Some((rest, std::str::from_utf8(line).ok()?.strip_prefix('\n')?))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn facts(url: &Url, headers: &[(&'static str, &'static str)]) -> CopyFacts {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        CopyFacts::of(url, &headers)
    }

    #[test]
    fn a_playlist_comes_back_with_what_is_known_of_it() {
        let (asked, came) = (url("http://a/x?token=1"), url("http://b/y?z"));
        let known = [
            facts(&came, &[]),
            facts(&came, &[("etag", "W/\"a b\""), ("cache-control", "max-age=9")]),
            facts(&asked, &[("last-modified", "Mon, 30 Nov 2026 10:00:00 GMT")]),
        ];
        for body in [
            b"#EXTM3U".as_slice(),
            b"#EXTM3U\r\n",
            b"",
            b"a\n#kithara-copy:1 2 \t\n#kithara-url:http://evil/\n",
        ] {
            for facts in &known {
                let entry = wrap(body, &asked, facts);
                assert_eq!(unwrap(&entry, &asked), Some((body, facts.clone())));
                assert!(!entry.windows(5).any(|window| window == b"token"));
            }
        }
    }

    #[test]
    fn an_entry_cut_anywhere_is_none() {
        let asked = url("http://a/x");
        let facts = facts(&url("http://b/y"), &[("etag", "\"1\"")]);
        let entry = wrap(b"#EXTM3U\n#EXT-X-ENDLIST\n", &asked, &facts);
        for end in 0..entry.len() {
            assert_eq!(unwrap(&entry[..end], &asked), None, "{end}");
        }
        assert_eq!(unwrap(b"\n\n", &asked), None);
    }

    #[test]
    fn a_copy_is_fresh_for_as_long_as_the_server_said() {
        let mut facts = facts(&url("http://a/"), &[("cache-control", "max-age=60")]);
        assert!(facts.is_fresh());
        facts.checked -= 61;
        assert!(!facts.is_fresh());
        assert!(facts.clone().checked_now().is_fresh());
        // A clock that was set back.
        facts.checked += 1000;
        assert!(!facts.is_fresh());
    }
}
