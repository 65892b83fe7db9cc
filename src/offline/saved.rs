//! A download as it is kept over restarts: lines of text in a small entry of the cache.
//!
//! ```text
//!   kithara-download 1            the version; a later one is left alone
//!   id 3f…
//!   url https://…                 without credentials; its query is kept, as it may say which track it is
//!   wanted queued
//!   verdict 348160 12 …           what was found when it was complete, and the asset's footprint then
//!   …
//!   end                           always the last line: an entry without it was cut short
//! ```
//!
//! The rule: **what is kept is what the app wants, and never how far it is.** How far it is the files tell. A verdict is kept with
//! the footprint that it was made of, and counts only while the asset has that.

use std::{
    str::{FromStr, SplitWhitespace},
    time::{Duration, SystemTime},
};

use super::{Cause, DownloadId, DownloadRequest, Failure, Kind, saved_selection, verdict::Verdict};
use crate::{
    cache::{AssetId, CachePath, Footprint, Timestamp},
    media::{Stored, Total},
    net::Url,
};

const HEAD: &str = "kithara-download ";
const VERSION: u32 = 1;

/// What the app wants of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That it is there: fetched when its turn comes, and fetched again where it has holes.
    Queued,
    Paused,
    /// It has failed, and waits for the app.
    Failed,
    /// It was complete once.
    Completed,
    /// That it is gone. Nothing takes this back.
    Removing,
}

/// A download as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Saved {
    pub(super) id: DownloadId,
    pub(super) request: DownloadRequest,
    pub(super) wanted: Wanted,
    /// Of equal priority the lower goes first.
    pub(super) order: u64,
    pub(super) failure: Option<Failure>,
    pub(super) verdict: Option<Verdict>,
    /// Whether it was told that its time is over, and unpinned for that.
    pub(super) is_expired: bool,
}

/// Why an entry is no download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Of a later version. Left alone.
    Later,
    Damaged,
}

const WANTED: [(Wanted, &str); 5] = [
    (Wanted::Queued, "queued"),
    (Wanted::Paused, "paused"),
    (Wanted::Failed, "failed"),
    (Wanted::Completed, "completed"),
    (Wanted::Removing, "removing"),
];

const CAUSES: [(Cause, &str); 10] = [
    (Cause::Changed, "changed"),
    (Cause::KeyRefused, "key"),
    (Cause::Refused, "refused"),
    (Cause::Gone, "gone"),
    (Cause::NotMedia, "not-media"),
    (Cause::Live, "live"),
    (Cause::Unsupported, "unsupported"),
    (Cause::NotKept, "not-kept"),
    (Cause::Network, "network"),
    (Cause::Other, "other"),
];

fn word<T: PartialEq + Copy>(table: &[(T, &'static str)], value: T) -> Option<&'static str> {
    table
        .iter()
        .find(|(known, _)| *known == value)
        .map(|(_, word)| *word)
}

fn meaning<T: Copy>(table: &[(T, &'static str)], word: &str) -> Option<T> {
    table
        .iter()
        .find(|(_, known)| *known == word)
        .map(|(value, _)| *value)
}

impl Saved {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut text = format!("{HEAD}{VERSION}\n");
        let mut line = |name: &str, value: &str| {
            text.push_str(name);
            text.push(' ');
            text.push_str(value);
            text.push('\n');
        };
        let request = &self.request;
        line("id", self.id.as_str());
        line("kind", if request.kind == Kind::Hls { "hls" } else { "file" });
        line("url", without_credentials(&request.url).as_str());
        if let Some(asset) = &request.asset {
            line("asset", &asset.name());
            if let Some(key) = asset.key() {
                line("key", key);
            }
        }
        if let Some(path) = &request.path {
            line("path", path.as_str());
        }
        line("wanted", word(&WANTED, self.wanted).unwrap_or("queued"));
        line("order", &self.order.to_string());
        line("priority", &request.priority.to_string());
        if let Some(time) = request.valid_until {
            line("valid-until", &Timestamp::from(time).0.to_string());
        }
        if self.is_expired {
            line("expired", "yes");
        }
        if let Some(bytes) = request.max_bytes {
            line("max-bytes", &bytes.to_string());
        }
        for gate in &request.needs {
            line("needs", gate);
        }
        saved_selection::write(&request.selection, &mut line);
        if let Some(Failure { cause, message }) = &self.failure {
            match cause {
                Cause::StorageFull { need, have } => line("full", &format!("{need} {have}")),
                cause => line("cause", word(&CAUSES, *cause).unwrap_or("other")),
            }
            line("message", message);
        }
        if let Some(verdict) = &self.verdict {
            let Verdict {
                stored,
                footprint,
                made,
            } = verdict;
            let duration = stored.duration.map_or(u64::MAX, micros);
            let figures = [
                footprint.bytes,
                footprint.files,
                footprint.modified.0,
                made.0,
                stored.bytes,
                duration,
            ];
            line("verdict", &figures.map(|figure| figure.to_string()).join(" "));
        }
        text.push_str("end\n");
        text.into_bytes()
    }

    pub(super) fn read(entry: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(entry).map_err(|_| Unreadable::Damaged)?;
        let (head, lines) = text.split_once('\n').ok_or(Unreadable::Damaged)?;
        let version = head
            .strip_prefix(HEAD)
            .and_then(|version| version.parse::<u32>().ok());
        match version {
            Some(VERSION) => {}
            Some(later) if later > VERSION => return Err(Unreadable::Later),
            _ => return Err(Unreadable::Damaged),
        }
        let lines = lines.strip_suffix("end\n").ok_or(Unreadable::Damaged)?;
        SavedLines(lines).saved().ok_or(Unreadable::Damaged)
    }
}

pub(super) struct SavedLines<'a>(&'a str);

impl<'a> SavedLines<'a> {
    pub(super) fn all(&self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.0.lines();
        lines.filter_map(move |line| line.strip_prefix(name)?.strip_prefix(' '))
    }

    pub(super) fn one(&self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    fn number<T: FromStr>(&self, name: &'a str) -> Option<T> {
        self.one(name)?.parse().ok()
    }

    fn saved(&self) -> Option<Saved> {
        let kind = match self.one("kind")? {
            "file" => Kind::File,
            "hls" => Kind::Hls,
            _ => return None,
        };
        let request = DownloadRequest {
            asset: match self.one("asset") {
                Some(name) => Some(self.asset(name)?),
                None => None,
            },
            path: match self.one("path") {
                Some(path) => Some(CachePath::parse(path).ok()?),
                None => None,
            },
            selection: saved_selection::read(self)?,
            priority: self.number("priority")?,
            valid_until: self.number("valid-until").map(|micros| Timestamp(micros).into()),
            max_bytes: self.number("max-bytes"),
            needs: self.all("needs").map(str::to_owned).collect(),
            ..DownloadRequest::new(kind, Url::parse(self.one("url")?).ok()?)
        };
        Some(Saved {
            id: DownloadId::from_text(self.one("id")?),
            request,
            wanted: meaning(&WANTED, self.one("wanted")?)?,
            order: self.number("order")?,
            failure: self.failure(),
            verdict: self.verdict(),
            is_expired: self.one("expired").is_some(),
        })
    }

    /// The asset, with its key if that leads to the same name.
    fn asset(&self, name: &str) -> Option<AssetId> {
        let bare = AssetId::from_name(name).ok()?;
        let key = self.one("key");
        let of_key = key.and_then(|key| AssetId::from_key(key).ok());
        let of_url = key.and_then(|key| Some(AssetId::from_url(&Url::parse(key).ok()?)));
        let keyed = [of_key, of_url].into_iter().flatten().find(|id| *id == bare);
        Some(keyed.unwrap_or(bare))
    }

    fn failure(&self) -> Option<Failure> {
        let message = self.one("message")?.to_owned();
        let full = self.one("full").and_then(|figures| {
            let mut figures = figures.split_whitespace();
            let need = figure(&mut figures)?;
            let have = figure(&mut figures)?;
            Some(Cause::StorageFull { need, have })
        });
        let cause = full.or_else(|| meaning(&CAUSES, self.one("cause")?));
        Some(Failure {
            cause: cause.unwrap_or(Cause::Other),
            message,
        })
    }

    fn verdict(&self) -> Option<Verdict> {
        let mut figures = self.one("verdict")?.split_whitespace();
        let footprint = Footprint {
            bytes: figure(&mut figures)?,
            files: figure(&mut figures)?,
            modified: Timestamp(figure(&mut figures)?),
        };
        let made = Timestamp(figure(&mut figures)?);
        let bytes = figure(&mut figures)?;
        let duration = Some(figure(&mut figures)?).filter(|micros| *micros != u64::MAX);
        let duration = duration.map(Duration::from_micros);
        Some(Verdict {
            stored: Stored {
                bytes,
                total: Total::Exact(bytes),
                time: duration,
                duration,
                holes: Vec::new(),
            },
            footprint,
            made,
        })
    }
}

pub(super) fn figure(figures: &mut SplitWhitespace<'_>) -> Option<u64> {
    figures.next()?.parse().ok()
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Credentials hold for their origin, and need not be on the disk.
fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    // Both calls refuse only URLs that cannot hold any.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// When a request ends, if it ends.
pub(super) fn has_ended(request: &DownloadRequest, now: SystemTime) -> Option<SystemTime> {
    request.valid_until.filter(|end| *end <= now)
}

#[cfg(test)]
mod tests {
    use super::super::{Renditions, Selection, Variants};
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn all() -> Vec<Saved> {
        let plain = DownloadRequest::new(Kind::File, url("https://me:secret@h/a.mp3?track=1"));
        let rich = DownloadRequest::new(Kind::Hls, url("https://h/list.m3u8"))
            .asset(AssetId::from_key("album 1 / track 3").unwrap())
            .selection(Selection {
                variants: Variants::These(vec![1, 3]),
                renditions: Renditions::Languages(vec!["de".into(), "en".into()]),
                window: Some(Duration::from_secs(1)..Duration::from_millis(2500)),
            })
            .priority(-7)
            .valid_until(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 31))
            .max_bytes(1 << 40)
            .needs("unmetered")
            .needs("power at home");
        let of = |request: DownloadRequest, wanted, failure, verdict| Saved {
            id: DownloadId::from_text("3f-a"),
            request,
            wanted,
            order: 12,
            failure,
            verdict,
            is_expired: wanted == Wanted::Completed,
        };
        let full = Failure::full(7, 3, "the budget");
        let verdict = Verdict {
            stored: Stored {
                bytes: 9,
                total: Total::Exact(9),
                time: Some(Duration::from_secs(3)),
                duration: Some(Duration::from_secs(3)),
                holes: Vec::new(),
            },
            footprint: Footprint {
                bytes: 99,
                files: 4,
                modified: Timestamp(5),
            },
            made: Timestamp(6),
        };
        let mut named = rich.clone().cache_path(CachePath::parse("x/y").unwrap());
        named.asset = Some(AssetId::from_name(&named.asset_id().name()).unwrap());
        named.selection.variants = Variants::Each(vec![Variants::AtMost(64_000), Variants::Highest]);
        let languages = Renditions::Languages(vec!["de".into(), "en".into()]);
        let cut = Renditions::Names(vec!["Director's cut".into()]);
        named.selection.renditions = Renditions::Each(vec![Renditions::Default, languages, cut]);
        vec![
            of(plain.clone(), Wanted::Queued, None, None),
            of(rich, Wanted::Failed, Some(full), None),
            of(named, Wanted::Completed, None, Some(verdict)),
            of(
                plain,
                Wanted::Removing,
                Some(Failure::new(Cause::Live, "a\nb")),
                None,
            ),
        ]
    }

    /// O4: what is kept comes back, and one that was cut anywhere is none.
    #[test]
    fn o4_a_download_comes_back_and_a_cut_one_is_none() {
        for saved in all() {
            let entry = saved.write();
            let found = Saved::read(&entry).unwrap();
            let mut expected = saved.clone();
            expected.request.url = without_credentials(&saved.request.url);
            assert_eq!(found, expected);
            assert_eq!(found.write(), entry);
            for end in 0..entry.len() {
                assert_eq!(Saved::read(&entry[..end]), Err(Unreadable::Damaged), "{end}");
            }
        }
    }

    /// A later version is not taken for damage: the build that wrote it will want it back.
    #[test]
    fn a_later_version_is_told_from_damage() {
        let later = b"kithara-download 2\nwhat is to come\n";
        assert_eq!(Saved::read(later), Err(Unreadable::Later));
        assert_eq!(
            Saved::read(b"kithara-download 0\nend\n"),
            Err(Unreadable::Damaged)
        );
    }

    /// C14.
    #[test]
    fn no_credential_is_kept() {
        let text = String::from_utf8(all()[0].write()).unwrap();
        assert!(!text.contains("secret") && text.contains("track=1"));
    }
}
