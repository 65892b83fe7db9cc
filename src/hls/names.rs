//! What the resources of a playlist are called in the cache.

use std::{collections::HashMap, sync::OnceLock};

use super::{HlsError, Resource, ResourceKind, data_uri, edition::EditionId, playlist::Locator};
use crate::{cache::CachePath, media::EntryNames};

/// The entries of all resources that a track's playlists name.
///
/// The one rule: **two resources never have one name.** The app's [`EntryNames`] may leave out what tells them apart; the
/// bytes of one would then be given out in the other's place.
#[derive(Clone)]
pub(super) struct ResourceNames<'a> {
    names: &'a EntryNames,
    /// `None` for the edition under plain names.
    edition: Option<&'a EditionId>,
    known: HashMap<(Use, Locator), CachePath>,
    taken: HashMap<CachePath, Resource>,
}

/// What an entry is read as. A key is kept after its processor, a playlist with the URL it came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Use {
    Playlist,
    Key,
    Media,
}

impl<'a> ResourceNames<'a> {
    pub(super) fn new(names: &'a EntryNames, edition: Option<&'a EditionId>) -> Self {
        Self {
            names,
            edition,
            known: HashMap::new(),
            taken: HashMap::new(),
        }
    }

    /// The edition whose names these are.
    pub(super) fn edition(&self) -> Option<&EditionId> {
        self.edition
    }

    /// The entry of a resource. The app's function runs once for each resource, not once for each line that names it.
    ///
    /// # Errors
    ///
    /// `SameName` if another resource has this entry.
    pub(super) fn entry(&mut self, kind: ResourceKind, locator: &Locator) -> Result<CachePath, HlsError> {
        let read_as = match kind {
            ResourceKind::Playlist => Use::Playlist,
            ResourceKind::Key => Use::Key,
            ResourceKind::InitializationSection | ResourceKind::Segment { .. } => Use::Media,
        };
        // Under whole URLs, the default, different URLs never have one name: there is nothing to check, and nothing to
        // remember.
        if self.names.is_whole_url() {
            return Ok(of_whole_url(locator, self.edition));
        }
        // A fragment is never sent, so two URLs that differ in it are one resource.
        let mut locator = locator.clone();
        locator.url.set_fragment(None);
        let identity = (read_as, locator);
        if let Some(entry) = self.known.get(&identity) {
            return Ok(entry.clone());
        }
        let (_, locator) = &identity;
        // The bytes stand in the URL, which may be a key: no function of the app's is shown it, and no entry is ever written.
        if data_uri::is_inline(&locator.url) {
            let entry = EntryNames::default().entry(&locator.url, locator.range.clone());
            self.known.insert(identity, entry.clone());
            return Ok(entry);
        }
        let entry = self.names.entry(&locator.url, locator.range.clone());
        let entry = self
            .edition
            .map_or(entry.clone(), |edition| edition.entry(&entry));
        let second = Resource::new(kind, &locator.url);
        // By identity, not by URL: a key and a segment at one URL are two entries, since a key is kept processed.
        if let Some(first) = self.taken.insert(entry.clone(), second.clone()) {
            return Err(HlsError::SameName { first, second });
        }
        self.known.insert(identity, entry.clone());
        Ok(entry)
    }

    /// The entry of a segment or an initialization section.
    ///
    /// # Errors
    ///
    /// Those of [`entry`](Self::entry).
    pub(super) fn media(&mut self, kind: ResourceKind, locator: &Locator) -> Result<MediaName, HlsError> {
        let made = if self.names.is_whole_url() {
            OnceLock::new()
        } else {
            self.entry(kind, locator)?.into()
        };
        Ok(MediaName {
            made,
            edition: self.edition.cloned(),
        })
    }
}

/// The entry of a segment or an initialization section.
///
/// Under whole URLs it is made when it is first asked for: a day of segments is laid out before the first byte is given out,
/// and most names are never needed (fault W37).
pub(super) struct MediaName {
    made: OnceLock<CachePath>,
    edition: Option<EditionId>,
}

impl MediaName {
    /// The entry. `locator` is the one that the name was made of.
    pub(super) fn path(&self, locator: &Locator) -> &CachePath {
        self.made
            .get_or_init(|| of_whole_url(locator, self.edition.as_ref()))
    }
}

/// The entry of a resource under its whole URL. What stands in a URL has no entry, and the same name in each edition.
fn of_whole_url(locator: &Locator, edition: Option<&EditionId>) -> CachePath {
    let entry = EntryNames::default().entry(&locator.url, locator.range.clone());
    match edition {
        Some(edition) if !data_uri::is_inline(&locator.url) => edition.entry(&entry),
        _ => entry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Url;

    const SEGMENT: ResourceKind = ResourceKind::Segment { media_sequence: 1 };

    fn locator(url: &str, range: Option<std::ops::Range<u64>>) -> Locator {
        let url = Url::parse(url).unwrap();
        Locator { url, range }
    }

    /// H10: one resource may be named by many lines; two resources under one name are refused.
    #[test]
    fn two_resources_under_one_name_are_refused() {
        let names = EntryNames::without_query();
        let mut names = ResourceNames::new(&names, None);
        let first = locator("http://h/a.mp4?t=1", Some(0..10));
        let entry = names.entry(SEGMENT, &first).unwrap();
        for kind in [SEGMENT, ResourceKind::InitializationSection] {
            let again = locator("http://h/a.mp4?t=1#fragment", Some(0..10));
            assert_eq!(names.entry(kind, &again).unwrap(), entry);
        }
        let other_range = locator("http://h/a.mp4?t=2", Some(10..20));
        names.entry(SEGMENT, &other_range).unwrap();
        for (kind, url) in [
            (SEGMENT, "http://h/a.mp4?t=2"),
            (ResourceKind::Key, "http://h/a.mp4?t=1"),
        ] {
            let mut names = names.clone();
            let error = names.entry(kind, &locator(url, Some(0..10))).unwrap_err();
            let HlsError::SameName { first, second } = error else {
                panic!("{error}")
            };
            assert_eq!((first.kind(), second.kind()), (SEGMENT, kind));
        }
    }
}
