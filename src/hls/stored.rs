//! A playlist as the cache keeps it: as the server sent it, and one comment line with the URL that it came from.
//!
//! ```text
//!   #EXTM3U
//!   …                                  the server's bytes
//!   #kithara-url:https://cdn/a.m3u8    ours, and always the last line
//! ```
//!
//! Where nothing was redirected the URL is left out.
//!
//! Relative URLs resolve against the URL after redirects (H3, fault D11), offline too. A comment keeps the entry a playlist.
//! Only the last line counts, so such a comment of the server's means nothing. An entry without it was cut short.

use bytes::Bytes;

use crate::net::Url;

const MARK: &[u8] = b"\n#kithara-url:";

/// The entry for a playlist that was asked for at `url` and came from `final_url`.
pub(super) fn wrap(body: &[u8], url: &Url, final_url: &Url) -> Bytes {
    // Where nothing was redirected the URL is the one asked for: known, and its query need not be on the disk (C14).
    let mut final_url = Some(final_url).filter(|final_url| *final_url != url).cloned();
    if let Some(final_url) = &mut final_url {
        // Credentials hold for their origin, and each request takes them from the source's own URL. They need not be on the
        // disk either. Both calls refuse only URLs that cannot hold any.
        let _ = final_url.set_username("");
        let _ = final_url.set_password(None);
    }
    let origin = final_url.as_ref().map_or("", Url::as_str);
    [body, MARK, origin.as_bytes(), b"\n"].concat().into()
}

/// The playlist and the URL it came from; `None` if the entry is not whole.
pub(super) fn unwrap<'a>(entry: &'a [u8], url: &Url) -> Option<(&'a [u8], Url)> {
    // Each step fails for an entry cut anywhere: the last byte, the mark, and the URL must be there.
    let lines = entry.strip_suffix(b"\n")?;
    let at = lines.iter().rposition(|byte| *byte == b'\n')?;
    let (body, line) = lines.split_at_checked(at)?;
    let origin = std::str::from_utf8(line.strip_prefix(MARK)?).ok()?;
    let final_url = if origin.is_empty() {
        url.clone()
    } else {
        Url::parse(origin).ok()?
    };
    Some((body, final_url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_playlist_comes_back_with_the_url_it_came_from() {
        let (asked, came) = (url("http://a/x?token=1"), url("http://b/y?z"));
        for body in [
            b"#EXTM3U".as_slice(),
            b"#EXTM3U\r\n",
            b"",
            b"a\n#kithara-url:http://evil/\n",
        ] {
            let entry = wrap(body, &asked, &came);
            assert_eq!(unwrap(&entry, &asked), Some((body, came.clone())));
            let entry = wrap(body, &asked, &asked);
            assert_eq!(unwrap(&entry, &asked), Some((body, asked.clone())));
            assert!(!entry.windows(5).any(|window| window == b"token"));
        }
    }

    #[test]
    fn an_entry_cut_anywhere_is_none() {
        let (asked, came) = (url("http://a/x"), url("http://b/y"));
        let entry = wrap(b"#EXTM3U\n#EXT-X-ENDLIST\n", &asked, &came);
        for end in 0..entry.len() {
            assert_eq!(unwrap(&entry[..end], &asked), None, "{end}");
        }
        assert_eq!(unwrap(b"\n\n", &asked), None);
    }
}
