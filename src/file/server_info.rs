//! What the server said of a file, for the app.

use http::HeaderValue;

use crate::net::{HeaderMap, Response};

/// What the server said of a file in its first answer.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// The file's length in bytes.
    pub len: Option<u64>,
    /// Whether the server serves ranges, so that a jump is one request. Otherwise a jump forward waits for all that lies
    /// before its target.
    pub serves_ranges: bool,
    /// `Content-Type`, as sent. Servers often send a wrong one.
    pub content_type: Option<String>,
    /// The file's name from `Content-Disposition` (RFC 6266), without a path.
    pub file_name: Option<String>,
    /// The headers of a radio station: `icy-name`, `icy-genre`, `icy-br` and the like. Names are in lower case.
    pub station: Vec<(String, String)>,
}

impl ServerInfo {
    /// `serves_ranges`: as the answers so far show it.
    pub(super) fn of(response: &Response, serves_ranges: bool) -> Self {
        let headers = response.headers();
        let text = |name| headers.get(name).map(text);
        let station = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("icy-"))
            .map(|(name, value)| (name.as_str().to_owned(), self::text(value)));
        Self {
            len: response.total_length(),
            serves_ranges,
            content_type: text("content-type"),
            file_name: text("content-disposition").and_then(|value| file_name(&value)),
            station: station.collect(),
        }
    }
}

/// Header values are UTF-8 or Latin-1, and stations do not say which.
fn text(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    // What is no UTF-8 is Latin-1, as the headers of stations and of old servers are. That never fails.
    let latin = || bytes.iter().map(|byte| char::from(*byte)).collect();
    std::str::from_utf8(bytes).map_or_else(|_| latin(), str::to_owned)
}

/// Whether the server asks that nothing of this is stored (RFC 9111 section 5.2.2.5).
pub(super) fn says_no_store(headers: &HeaderMap) -> bool {
    let values = headers.get_all("cache-control").iter();
    let mut directives = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    directives.any(|directive| directive.trim().eq_ignore_ascii_case("no-store"))
}

/// The name in a `Content-Disposition`. The extended form comes first (RFC 6266 section 4.3).
fn file_name(disposition: &str) -> Option<String> {
    let parameters = parameters(disposition);
    let find = |wanted: &str| {
        let found = parameters
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    };
    // The extended one first: the other is beside it for clients that do not know it (RFC 6266, section 4.3).
    let name = find("filename*")
        .and_then(extended)
        .or_else(|| find("filename").map(str::to_owned))?;
    // A name, and never a path: the app may store the file under it.
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let is_name = !last.is_empty() && last != "." && last != ".." && !last.contains('\0');
    is_name.then(|| last.to_owned())
}

/// The parameters behind the first semicolon, values without their quotes.
fn parameters(value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = value.split_once(';').map(|(_, rest)| rest);
    while let Some((name, behind)) = rest.and_then(|rest| rest.split_once('=')) {
        let behind = behind.trim_start();
        let mut value = String::new();
        let mut chars = behind.char_indices();
        let mut end = behind.len();
        let is_quoted = behind.starts_with('"');
        if is_quoted {
            chars.next();
        }
        while let Some((at, char)) = chars.next() {
            match char {
                // Only quotes end a quoted value: there may be a `;` in a file's name.
                '"' if is_quoted => {
                    end = at + 1;
                    break;
                }
                '\\' if is_quoted => value.extend(chars.next().map(|(_, escaped)| escaped)),
                ';' if !is_quoted => {
                    end = at;
                    break;
                }
                char => value.push(char),
            }
        }
        let value = if is_quoted { value } else { value.trim().to_owned() };
        found.push((name.trim().to_owned(), value));
        rest = behind
            .get(end..)
            .and_then(|behind| behind.split_once(';'))
            .map(|(_, rest)| rest);
    }
    found
}

/// `UTF-8''na%C3%AFve` (RFC 8187).
fn extended(value: &str) -> Option<String> {
    // `UTF-8'en'name`: a character set, a language that is not looked at, and the coded name (RFC 8187).
    let (charset, rest) = value.split_once('\'')?;
    let (_, coded) = rest.split_once('\'')?;
    let mut bytes = Vec::with_capacity(coded.len());
    let mut left = coded.bytes();
    while let Some(byte) = left.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(left.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    if charset.eq_ignore_ascii_case("utf-8") {
        String::from_utf8(bytes).ok()
    } else {
        Some(bytes.into_iter().map(char::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F7.
    #[test]
    fn a_name_is_read_from_either_form_and_is_never_a_path() {
        for (header, name) in [
            ("attachment; filename=\"a b.mp3\"", Some("a b.mp3")),
            ("attachment; filename=a.mp3; size=5", Some("a.mp3")),
            ("attachment;FileName = \"a \\\"b\\\".mp3\"", Some("a \"b\".mp3")),
            ("attachment; filename=\"x; y.mp3\"; foo=1", Some("x; y.mp3")),
            (
                "attachment; filename=\"na.mp3\"; filename*=UTF-8''na%C3%AFve.mp3",
                Some("naïve.mp3"),
            ),
            ("attachment; filename*=ISO-8859-1'en'caf%E9.mp3", Some("café.mp3")),
            ("attachment; filename*=UTF-8''%FF; filename=b.mp3", Some("b.mp3")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename=\"C:\\\\a.mp3\"", Some("a.mp3")),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\"\"", None),
            ("inline", None),
            ("attachment; filename=\"open", Some("open")),
            ("attachment; filename*=UTF-8''%4", None),
        ] {
            assert_eq!(file_name(header).as_deref(), name, "{header}");
        }
    }

    /// W67.
    #[test]
    fn w67_no_store_is_a_directive_of_its_own() {
        let says = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("cache-control", value.parse().unwrap());
            says_no_store(&headers)
        };
        assert!(says("no-store") && says("max-age=0, No-Store") && says("private,no-store"));
        assert!(!says("no-cache") && !says("max-age=60") && !says("no-storey"));
    }
}
