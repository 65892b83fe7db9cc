//! Which line of a head cannot be read.

/// The most characters shown of a line.
const SHOWN: usize = 48;

/// Finds the line in `unread` that the parser's `message` is about. Of a header field the name alone is shown: its value may
/// be a cookie or a signed URL.
pub(super) fn find(message: &str, unread: &[u8]) -> Option<String> {
    // The parser takes a head out of its buffer before it looks at these two fields.
    for name in ["content-length", "transfer-encoding"] {
        if message.contains(name) {
            return Some(name.to_owned());
        }
    }
    // A head that is too long has no line to blame.
    if message.contains("too large") {
        return None;
    }
    let mut lines = unread.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status_line = lines.next().filter(|line| !line.is_empty())?;
    // A parser reads from the top. If this line is right it stopped at one below.
    if !is_status_line(status_line) {
        return Some(shown(status_line));
    }
    let fields = lines.take_while(|line| !line.is_empty());
    let mut odd = fields.filter(|line| !is_field(line));
    odd.next().map(|line| {
        // Its value may be a cookie or a token.
        let name = line.split(|byte| *byte == b':').next().unwrap_or(line);
        shown(name)
    })
}

fn is_status_line(line: &[u8]) -> bool {
    let version = line
        .strip_prefix(b"HTTP/1.0 ")
        .or_else(|| line.strip_prefix(b"HTTP/1.1 "));
    version.is_some_and(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_printable = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        digits == 3 && matches!(rest.get(3), None | Some(b' ')) && rest.iter().all(is_printable)
    })
}

fn is_field(line: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let name = line
        .split(|byte| *byte == b':')
        .next()
        .filter(|name| name.len() < line.len());
    name.is_some_and(|name| !name.is_empty() && name.iter().all(is_name))
        && !line.iter().any(u8::is_ascii_control)
}

fn shown(line: &[u8]) -> String {
    let character = |byte: &u8| {
        // It goes into errors and logs, where a control character could pass for another line.
        if matches!(byte, b' '..=b'~') {
            char::from(*byte)
        } else {
            '?'
        }
    };
    line.iter().take(SHOWN).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(head: &str) -> Option<String> {
        find("invalid HTTP header parsed", head.as_bytes())
    }

    #[test]
    fn the_first_line_that_is_no_head_is_told() {
        for (head, told) in [
            ("SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-OpenSSH_9.6"),
            ("220 mail.example.com\r\n", "220 mail.example.com"),
            ("HTTP/2 200\r\n\r\n", "HTTP/2 200"),
            ("HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 2000 OK"),
            ("HTTP/1.1 200 \u{1}\r\n\r\n", "HTTP/1.1 200 ?"),
            ("HTTP/1.1 200 OK\r\nA: b\r\nno colon\r\n\r\n", "no colon"),
            ("HTTP/1.1 200 OK\r\nicy notice: secret\r\n\r\n", "icy notice"),
            ("HTTP/1.1 200 OK\r\nx-a: se\u{1}cret\r\n\r\n", "x-a"),
        ] {
            assert_eq!(found(head).as_deref(), Some(told), "{head:?}");
        }
        assert_eq!(found("HTTP/1.1 200 OK\r\nA: b\r\n\r\nno head any more"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn what_was_taken_out_already_is_told_by_its_name() {
        let told = find("invalid content-length parsed", b"bytes of the body");
        assert_eq!(told.as_deref(), Some("content-length"));
        assert_eq!(
            find("message head is too large", b"HTTP/1.1 200 OK\r\nno colon\r\n"),
            None
        );
    }
}
