//! Playlist lines, numbered and trimmed, as quick-m3u8 tells them apart.
//!
//! Tags are taken as their name and raw value: variables are substituted before a value is read (RFC 8216bis, 4.3), and
//! durations must not pass through a float.

use std::borrow::Cow;

use quick_m3u8::{
    HlsLine,
    config::{ParsingOptions, ParsingOptionsBuilder},
    custom_parsing::line,
    tag::{AttributeValue, TagValue},
};

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
    options: ParsingOptions,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            lines: text.lines().enumerate(),
            options: ParsingOptionsBuilder::new().build(),
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, Line<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (index, text) = self.lines.next()?;
            // quick-m3u8 refuses only a bare `#EXT`. That is no tag, so it is a comment. Each tag is unknown to it, as no
            // tag's own parser was asked for: those read durations as floats.
            let line = match line::parse(text.trim(), &self.options).map(|slice| slice.parsed) {
                Ok(HlsLine::UnknownTag(tag)) => {
                    let value = tag
                        .value()
                        .map_or("", |value| std::str::from_utf8(value.0).unwrap_or_default());
                    Line::Tag(tag.name().trim(), value.trim())
                }
                Ok(HlsLine::Uri(Cow::Borrowed(uri))) => Line::Uri(uri),
                _ => continue,
            };
            return Some((index + 1, line));
        }
    }
}

/// A tag's attribute-list (RFC 8216, 4.2).
pub(super) struct Attributes<'a> {
    line: usize,
    tag: &'static str,
    list: Vec<(&'a str, AttributeValue<'a>)>,
}

impl<'a> Attributes<'a> {
    pub(super) fn parse(line: usize, tag: &'static str, value: &'a str) -> Result<Self, PlaylistError> {
        // Packagers leave a comma at the end.
        let value = value.trim_end_matches([',', ' ']);
        match TagValue(value.as_bytes()).try_as_ordered_attribute_list() {
            Ok(list) => Ok(Self { line, tag, list }),
            Err(_) => malformed(line, tag, "not an attribute list"),
        }
    }

    fn get(&self, name: &str) -> Option<&AttributeValue<'a>> {
        self.list
            .iter()
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value)
    }

    /// A quoted-string with its variables substituted.
    pub(super) fn quoted(
        &self,
        name: &str,
        variables: &Variables,
    ) -> Result<Option<Cow<'a, str>>, PlaylistError> {
        match self.get(name) {
            None => Ok(None),
            Some(AttributeValue::Quoted(text)) => variables.substitute(self.line, text).map(Some),
            Some(AttributeValue::Unquoted(_)) => self.malformed("a string without its quotes"),
        }
    }

    /// The same, where the tag cannot do without it.
    pub(super) fn required(&self, name: &str, variables: &Variables) -> Result<Cow<'a, str>, PlaylistError> {
        match self.quoted(name, variables)? {
            Some(text) => Ok(text),
            None => self.malformed("a required attribute is missing"),
        }
    }

    /// An enumerated-string, with or without quotes: encoders write both.
    pub(super) fn enumerated(&self, name: &str) -> Option<&'a str> {
        match self.get(name)? {
            AttributeValue::Quoted(text) => Some(text.trim()),
            AttributeValue::Unquoted(value) => value.try_as_utf_8().ok().map(str::trim),
        }
    }

    /// A decimal-integer.
    pub(super) fn integer(&self, name: &str) -> Result<Option<u64>, PlaylistError> {
        match self.enumerated(name).map(number::integer) {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => self.malformed("not a decimal integer"),
        }
    }

    /// The error that names this tag's line.
    pub(super) fn malformed<T>(&self, problem: &'static str) -> Result<T, PlaylistError> {
        malformed(self.line, self.tag, problem)
    }
}
