//! Playlist lines, numbered and trimmed; and the attributes of tags.
//!
//! Tags are taken as their name and raw value: variables are substituted before a value is read (RFC 8216bis, 4.3), and
//! durations must not pass through a float.

use std::borrow::Cow;

use super::{
    error::{PlaylistError, malformed},
    number,
    variables::Variables,
};

/// A line that says something.
#[derive(Clone, Copy)]
pub(super) enum Line<'a> {
    /// `#EXT…`: its name without the `#EXT`, and what follows the colon.
    Tag(&'a str, &'a str),
    /// A URI line.
    Uri(&'a str),
}

/// The lines of a playlist with their numbers; comments and blank lines are left out.
///
/// What surrounds a line is trimmed: CR, spaces, tabs and form feeds (fault E16).
pub(super) struct Lines<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            lines: text.lines().enumerate(),
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, Line<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (index, text) = self.lines.next()?;
            let text = text.trim();
            let line = match text.strip_prefix('#') {
                None if text.is_empty() => continue,
                None => Line::Uri(text),
                // Any other line that begins so is a comment (RFC 8216, 4.1), and so is `#EXT` with nothing behind it.
                Some(comment) => match comment.strip_prefix("EXT") {
                    None | Some("") => continue,
                    Some(tag) => {
                        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
                        Line::Tag(name.trim(), value.trim())
                    }
                },
            };
            return Some((index + 1, line));
        }
    }
}

/// A tag's attribute-list (RFC 8216, 4.2), read as leniently as players read it.
///
/// Spaces around `=`, strings without quotes and words without a value are taken and logged. What could lead to other bytes
/// is an error where it is asked for: a quote that is not closed, and one attribute with two values.
pub(super) struct Attributes<'a> {
    line: usize,
    tag: &'static str,
    list: Vec<(&'a str, Value<'a>)>,
}

/// What stands behind an attribute's `=`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Quoted(&'a str),
    Bare(&'a str),
    /// Its closing quote is missing: where it ends is not known.
    Unclosed,
}

impl<'a> Attributes<'a> {
    pub(super) fn parse(line: usize, tag: &'static str, value: &'a str) -> Self {
        let mut list = Vec::new();
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('=') {
            // A word without a value belongs to no attribute. Packagers also leave commas at the start and the end.
            let (words, name) = before.rsplit_once(',').unwrap_or(("", before));
            if !words.trim_matches([',', ' ', '\t']).is_empty() {
                tolerated(line, tag, "a word without a value");
            }
            let text = after.trim_start();
            if text.len() < after.len() || name.trim_end().len() < name.len() {
                tolerated(line, tag, "spaces around `=`");
            }
            let (value, behind) = match text.strip_prefix('"') {
                None => {
                    let (bare, behind) = text.split_once(',').unwrap_or((text, ""));
                    (Value::Bare(bare.trim_end()), behind)
                }
                // A comma between quotes does not end the value.
                Some(quoted) => match quoted.split_once('"') {
                    None => (Value::Unclosed, ""),
                    Some((text, behind)) => {
                        let (junk, behind) = behind.split_once(',').unwrap_or((behind, ""));
                        if !junk.trim().is_empty() {
                            tolerated(line, tag, "text behind a closing quote");
                        }
                        (Value::Quoted(text), behind)
                    }
                },
            };
            list.push((name.trim(), value));
            rest = behind;
        }
        if !rest.trim_matches([',', ' ', '\t']).is_empty() {
            tolerated(line, tag, "a word without a value");
        }
        Self { line, tag, list }
    }

    fn get(&self, name: &str) -> Result<Option<Value<'a>>, PlaylistError> {
        let mut values = self.list.iter().filter(|(key, _)| *key == name);
        let Some((_, value)) = values.next() else {
            return Ok(None);
        };
        // Players differ in which of the two they take. Of a key's URI or IV one of them gives noise.
        if values.any(|(_, other)| other != value) {
            return self.malformed("an attribute with two values");
        }
        match value {
            Value::Unclosed => self.malformed("a quote that is not closed"),
            value => Ok(Some(*value)),
        }
    }

    /// A quoted-string with its variables substituted; without its quotes too.
    pub(super) fn quoted(
        &self,
        name: &str,
        variables: &Variables,
    ) -> Result<Option<Cow<'a, str>>, PlaylistError> {
        let text = match self.get(name)? {
            None => return Ok(None),
            Some(Value::Quoted(text)) => text,
            Some(Value::Bare(text)) => {
                self.tolerated("a string without its quotes");
                text
            }
            Some(Value::Unclosed) => return self.malformed("a quote that is not closed"),
        };
        variables.substitute(self.line, text).map(Some)
    }

    /// The same, where the tag cannot do without it.
    pub(super) fn required(&self, name: &str, variables: &Variables) -> Result<Cow<'a, str>, PlaylistError> {
        match self.quoted(name, variables)? {
            Some(text) => Ok(text),
            None => self.malformed("a required attribute is missing"),
        }
    }

    /// The same, where it only describes: what cannot be understood is left out.
    pub(super) fn advice(&self, name: &str, variables: &Variables) -> Option<Cow<'a, str>> {
        self.quoted(name, variables).unwrap_or_else(|_| {
            self.tolerated("a description that cannot be understood");
            None
        })
    }

    /// An enumerated-string, with or without quotes: encoders write both.
    pub(super) fn enumerated(&self, name: &str) -> Result<Option<&'a str>, PlaylistError> {
        Ok(match self.get(name)? {
            Some(Value::Quoted(text) | Value::Bare(text)) => Some(text.trim()),
            Some(Value::Unclosed) | None => None,
        })
    }

    /// Whether an enumerated-string is YES. Absent is NO, and so is what cannot be understood.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.enumerated(name).ok().flatten() == Some("YES")
    }

    /// A decimal-integer that only describes. Of a fraction the whole part is taken; what is no number is left out.
    pub(super) fn integer(&self, name: &str) -> Option<u64> {
        let text = self.enumerated(name).ok()??;
        let value = number::whole(text);
        if number::integer(text).is_none() {
            self.tolerated("not a decimal integer");
        }
        value
    }

    /// The author's own attributes, whose names begin with `X-`, as the playlist has them.
    pub(super) fn custom(&self) -> Vec<(String, String)> {
        let text = |(name, value): &(&'a str, Value<'a>)| match value {
            Value::Quoted(text) | Value::Bare(text) if name.starts_with("X-") => {
                Some(((*name).to_owned(), (*text).to_owned()))
            }
            _ => None,
        };
        self.list.iter().filter_map(text).collect()
    }

    /// The error that names this tag's line.
    pub(super) fn malformed<T>(&self, problem: &'static str) -> Result<T, PlaylistError> {
        malformed(self.line, self.tag, problem)
    }

    /// Logs what is wrong with this tag and does no harm.
    pub(super) fn tolerated(&self, what: &'static str) {
        tolerated(self.line, self.tag, what);
    }
}

/// Logs what a line does wrong, where the playlist plays all the same.
///
/// Neither a URI nor a value: both hold tokens. The line number finds the place.
pub(super) fn tolerated(line: usize, tag: &'static str, what: &'static str) {
    log::debug!("tolerated in a playlist: line {line}: {tag}: {what}");
}
