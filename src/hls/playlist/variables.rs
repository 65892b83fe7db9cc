//! Variable substitution: EXT-X-DEFINE and `{$name}` (RFC 8216bis, 4.3 and 4.4.2.3).

use std::{borrow::Cow, collections::HashMap};

use super::{
    error::{PlaylistError, UndefinedVariableSnafu, malformed},
    lines::{Attributes, tolerated},
};
use crate::net::Url;

/// The variables defined so far in one playlist.
///
/// A variable that is defined twice with two values has none: what uses it is an error.
///
/// No `Debug`: values are often tokens.
#[derive(Default, Clone, PartialEq)]
pub(crate) struct Variables(HashMap<String, Option<String>>);

const TAG: &str = "EXT-X-DEFINE";

impl Variables {
    /// Takes in one EXT-X-DEFINE, or leaves it out if it cannot be understood. A variable that it should have defined is
    /// missed where it is used, and only there.
    ///
    /// `url` is where the playlist came from after redirects (QUERYPARAM), `imports` are the variables of the Multivariant
    /// Playlist that led here (IMPORT).
    pub(super) fn define(&mut self, line: usize, value: &str, url: &Url, imports: Option<&Variables>) {
        if self.try_define(line, value, url, imports).is_err() {
            tolerated(line, TAG, "a definition that cannot be understood");
        }
    }

    fn try_define(
        &mut self,
        line: usize,
        value: &str,
        url: &Url,
        imports: Option<&Variables>,
    ) -> Result<(), PlaylistError> {
        let attributes = Attributes::parse(line, TAG, value);
        let none = Variables::default();
        let (name, value) = if let Some(name) = attributes.quoted("NAME", &none)? {
            (name, attributes.required("VALUE", self)?.into_owned())
        } else if let Some(name) = attributes.quoted("IMPORT", &none)? {
            match imports.and_then(|imports| imports.0.get(name.as_ref())) {
                Some(None) => return attributes.malformed("an IMPORT of a variable with two values"),
                Some(Some(value)) => (name, value.clone()),
                None => {
                    return attributes.malformed("an IMPORT that the multivariant playlist does not define");
                }
            }
        } else if let Some(name) = attributes.quoted("QUERYPARAM", &none)? {
            match url.query_pairs().find(|(key, _)| *key == name) {
                Some((_, value)) if !value.is_empty() => (name, value.into_owned()),
                // Missing or empty: the URLs made of it would lead somewhere else.
                _ => return attributes.malformed("a QUERYPARAM that the playlist's URL does not have"),
            }
        } else {
            return attributes.malformed("none of NAME, IMPORT and QUERYPARAM");
        };
        if !is_name(&name) {
            return attributes.malformed("not a variable name");
        }
        let known = self
            .0
            .entry(name.into_owned())
            .or_insert_with(|| Some(value.clone()));
        if known.as_ref() != Some(&value) {
            // Whichever is taken, half of the URLs made of it may lead to something else.
            *known = None;
        }
        Ok(())
    }

    /// `text` with every `{$name}` replaced, once, from left to right.
    pub(super) fn substitute<'a>(&self, line: usize, text: &'a str) -> Result<Cow<'a, str>, PlaylistError> {
        // One byte is looked for sooner than two, and most lines have none.
        if !text.contains('{') {
            return Ok(Cow::Borrowed(text));
        }
        // Once, from left to right. A value that looks like a reference is not replaced again, so substitution ends.
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{$") {
            out.push_str(before);
            match after.split_once('}') {
                Some((name, tail)) if is_name(name) => {
                    match self.0.get(name) {
                        None => return UndefinedVariableSnafu { line, name }.fail(),
                        Some(None) => return malformed(line, TAG, "a variable defined twice"),
                        Some(Some(value)) => out.push_str(value),
                    }
                    rest = tail;
                }
                // Not a reference: it stands for itself.
                _ => {
                    out.push_str("{$");
                    rest = after;
                }
            }
        }
        if rest.len() == text.len() {
            return Ok(Cow::Borrowed(text));
        }
        out.push_str(rest);
        Ok(Cow::Owned(out))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> Url {
        Url::parse("http://host/list.m3u8?token=a%20b&empty=").unwrap()
    }

    fn defined(lines: &[&str], imports: Option<&Variables>) -> Result<Variables, PlaylistError> {
        let mut variables = Variables::default();
        for (index, line) in lines.iter().enumerate() {
            variables.try_define(index + 1, line, &url(), imports)?;
        }
        Ok(variables)
    }

    #[test]
    fn references_are_replaced_once_from_left_to_right() {
        let variables = defined(
            &[
                "NAME=\"a\",VALUE=\"{$\"",
                "NAME=\"b-2\",VALUE=\"x\"",
                "NAME=\"c\",VALUE=\"{$b-2}y\"",
            ],
            None,
        )
        .unwrap();
        assert_eq!(
            variables.substitute(1, "{$a}b-2}/{$b-2}/{$c}").unwrap(),
            "{$b-2}/x/xy"
        );
        assert_eq!(variables.substitute(1, "{$ no}{$").unwrap(), "{$ no}{$");
        assert!(matches!(
            variables.substitute(1, "plain").unwrap(),
            Cow::Borrowed("plain")
        ));
    }

    #[test]
    fn an_undefined_reference_names_its_line() {
        let error = Variables::default().substitute(7, "a{$gone}").unwrap_err();
        assert_eq!(
            error,
            PlaylistError::UndefinedVariable {
                line: 7,
                name: "gone".into()
            }
        );
    }

    #[test]
    fn import_takes_from_the_multivariant_playlist_and_queryparam_from_the_url() {
        let master = defined(&["NAME=\"m\",VALUE=\"1\""], None).unwrap();
        let variables = defined(&["IMPORT=\"m\"", "QUERYPARAM=\"token\""], Some(&master)).unwrap();
        assert_eq!(variables.substitute(1, "{$m}-{$token}").unwrap(), "1-a b");
        for line in [
            "IMPORT=\"gone\"",
            "QUERYPARAM=\"gone\"",
            "QUERYPARAM=\"empty\"",
            "VALUE=\"1\"",
            "NAME=\"a\"",
            "NAME=\"a b\",VALUE=\"1\"",
        ] {
            assert!(
                matches!(
                    defined(&[line], Some(&master)),
                    Err(PlaylistError::Malformed { line: 1, .. })
                ),
                "{line}"
            );
        }
        assert!(defined(&["IMPORT=\"m\""], None).is_err());
        let one = "NAME=\"a\",VALUE=\"1\"";
        let twice = defined(&[one, "NAME=\"a\",VALUE=\"2\""], None).unwrap();
        assert!(matches!(
            twice.substitute(9, "{$a}"),
            Err(PlaylistError::Malformed { line: 9, .. })
        ));
        assert!(defined(&["IMPORT=\"a\""], Some(&twice)).is_err());
        let same = defined(&[one, one], None).unwrap();
        assert_eq!(same.substitute(1, "{$a}").unwrap(), "1");
    }
}
