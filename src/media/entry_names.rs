//! How a URL becomes the name of a cache entry.

use std::{fmt, ops::Range, sync::Arc};

use crate::{cache::CachePath, net::Url};

/// How a URL becomes the name of an entry in the cache.
///
/// Signed URLs carry a token that changes from day to day. With the whole URL as the name, which is the default, a track
/// kept under yesterday's token is not found under today's. These rules leave the token out:
///
/// ```
/// use kithara::{media::EntryNames, net::Url};
///
/// let yesterday = Url::parse("https://cdn.example/a/7.m4s?part=2&token=old")?;
/// let today = Url::parse("https://cdn.example/a/7.m4s?part=2&token=new")?;
/// let other = Url::parse("https://cdn.example/a/7.m4s?part=3&token=new")?;
///
/// let whole = EntryNames::default();
/// assert_ne!(whole.entry(&yesterday, None), whole.entry(&today, None));
///
/// let path_only = EntryNames::without_query();
/// assert_eq!(path_only.entry(&yesterday, None), path_only.entry(&other, None));
///
/// let by_part = EntryNames::parameters(["part"]);
/// assert_eq!(by_part.entry(&yesterday, None), by_part.entry(&today, None));
/// assert_ne!(by_part.entry(&yesterday, None), by_part.entry(&other, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// URLs that lead to different bytes must get different names. Where one URL lists others, as a playlist does, the source
/// checks that and refuses the playlist. Across playlists, and from one day to the next, it cannot.
#[derive(Clone, Default)]
pub struct EntryNames(Rule);

#[derive(Clone, Default)]
enum Rule {
    #[default]
    WholeUrl,
    WithoutQuery,
    Parameters(Arc<[String]>),
    Function(Arc<dyn Fn(&Url) -> String + Send + Sync>),
}

impl EntryNames {
    /// By the URL without its query, fragment and credentials: scheme, host, port and path.
    pub fn without_query() -> Self {
        Self(Rule::WithoutQuery)
    }

    /// As [`without_query`](Self::without_query), and by the query parameters of these names. The order in which they stand
    /// in the URL does not count.
    pub fn parameters<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        // In one order, so that the order in which the app names them is not part of the entry's name.
        let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
        names.sort();
        names.dedup();
        Self(Rule::Parameters(names.into()))
    }

    /// By what `function` makes of the URL: URLs for which it gives the same text have the same name.
    ///
    /// For tokens that stand in the path, and for tracks that move from host to host. The source calls it where it is
    /// polled, a few times for each resource at most, so it should not block. It must give the same text for the same URL
    /// each time. The text is hashed; what of it follows its last slash, up to a question mark, can be read in the names
    /// of files.
    pub fn from_fn(function: impl Fn(&Url) -> String + Send + Sync + 'static) -> Self {
        Self(Rule::Function(Arc::new(function)))
    }

    /// The entry of a URL, or of a range of its bytes. The fragment never counts.
    pub fn entry(&self, url: &Url, range: Option<Range<u64>>) -> CachePath {
        let of_url = |url: &Url, range: Option<Range<u64>>| match range {
            Some(range) => CachePath::from_url_range(url, range),
            None => CachePath::from_url(url),
        };
        match &self.0 {
            Rule::WholeUrl => of_url(url, range),
            Rule::WithoutQuery => of_url(&bare(url), range),
            Rule::Parameters(names) => {
                // A URL again, of the chosen parameters only: such a name is that of the URL without its token.
                let mut chosen = bare(url);
                for name in names.iter() {
                    for (_, value) in url.query_pairs().filter(|(parameter, _)| parameter == name) {
                        chosen.query_pairs_mut().append_pair(name, &value);
                    }
                }
                of_url(&chosen, range)
            }
            Rule::Function(function) => CachePath::from_key(&function(url), range),
        }
    }

    /// Whether different URLs always have different names.
    #[cfg(feature = "hls")]
    pub(crate) fn is_whole_url(&self) -> bool {
        matches!(self.0, Rule::WholeUrl)
    }
}

/// Scheme, host, port and path.
fn bare(url: &Url) -> Url {
    let mut bare = url.clone();
    bare.set_query(None);
    // Fails only for URLs that cannot hold credentials anyway.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    bare
}

impl fmt::Debug for EntryNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::WholeUrl => f.write_str("WholeUrl"),
            Rule::WithoutQuery => f.write_str("WithoutQuery"),
            Rule::Parameters(names) => f.debug_tuple("Parameters").field(names).finish(),
            Rule::Function(_) => f.write_str("Function"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YESTERDAY: &str = "https://u:p@h/a/Seg7.ts?token=old&part=2&part=3#x";

    fn name(names: &EntryNames, url: &str) -> CachePath {
        names.entry(&Url::parse(url).unwrap(), None)
    }

    /// H10, fault W6: each rule says what counts.
    #[test]
    fn each_rule_counts_what_it_says_and_nothing_else() {
        let whole = EntryNames::default();
        assert_eq!(
            name(&whole, YESTERDAY),
            name(&whole, &YESTERDAY.replace("#x", "#y"))
        );
        assert_eq!(
            name(&whole, YESTERDAY),
            CachePath::from_url(&Url::parse(YESTERDAY).unwrap())
        );
        // Whoever asks.
        assert_eq!(
            name(&whole, YESTERDAY),
            name(&whole, &YESTERDAY.replace("u:p@", ""))
        );
        for (from, to) in [("old", "new"), ("part=3", "part=4"), ("/a/", "/b/")] {
            assert_ne!(
                name(&whole, YESTERDAY),
                name(&whole, &YESTERDAY.replace(from, to))
            );
        }
        let path_only = EntryNames::without_query();
        assert_eq!(
            name(&path_only, YESTERDAY),
            name(&path_only, "https://h:443/a/Seg7.ts")
        );
        assert_ne!(
            name(&path_only, YESTERDAY),
            name(&path_only, "https://h/a/seg7.ts")
        );
        let by_part = EntryNames::parameters(["part", "gone"]);
        for same in [
            "https://h/a/Seg7.ts?part=2&part=3",
            "https://h/a/Seg7.ts?part=2&x&part=%33&token=n",
        ] {
            assert_eq!(name(&by_part, YESTERDAY), name(&by_part, same), "{same}");
        }
        for other in [
            "https://h/a/Seg7.ts",
            "https://h/a/Seg7.ts?part=3&part=2",
            "https://h/a/Seg7.ts?part=2",
        ] {
            assert_ne!(name(&by_part, YESTERDAY), name(&by_part, other), "{other}");
        }
        let order = EntryNames::parameters(["b", "a"]);
        assert_eq!(
            name(&order, "https://h/x?a=1&b=2"),
            name(&order, "https://h/x?b=2&a=1")
        );
        let by_file = EntryNames::from_fn(|url| url.path().rsplit('/').next().unwrap_or_default().to_owned());
        assert_eq!(
            name(&by_file, YESTERDAY),
            name(&by_file, "http://other/t0ken/Seg7.ts")
        );
        assert_ne!(name(&by_file, YESTERDAY), name(&by_file, "https://h/a/Seg8.ts"));
    }

    /// H10: a byte range has a name of its own under every rule.
    #[test]
    fn a_range_is_another_entry_than_the_whole() {
        let url = Url::parse(YESTERDAY).unwrap();
        for names in [
            EntryNames::default(),
            EntryNames::without_query(),
            EntryNames::parameters(["part"]),
            EntryNames::from_fn(|_| String::new()),
        ] {
            let entries = [None, Some(0..10), Some(0..11), Some(1..10)].map(|range| names.entry(&url, range));
            for (index, entry) in entries.iter().enumerate() {
                assert!(!entries[..index].contains(entry), "{names:?} {index}");
            }
        }
    }

    /// C14: neither query nor credentials can be read in a name, whatever the function gives out.
    #[test]
    fn names_show_no_query() {
        let url = Url::parse("https://me:secret@h/a/b.ts?token=secret").unwrap();
        for names in [
            EntryNames::default(),
            EntryNames::parameters(["token"]),
            EntryNames::from_fn(|url| url.as_str().to_owned()),
        ] {
            let entry = names.entry(&url, None);
            assert!(entry.as_str().ends_with("-b.ts"), "{entry}");
            assert!(!format!("{entry} {names:?}").contains("secret"), "{entry}");
        }
    }
}
