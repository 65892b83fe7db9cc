//! The bytes a path stands for, with the validators and the type they are served under.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most bytes handed to the socket in one write.
pub(crate) const PIECE: usize = 256 * 1024;

/// The bytes behind a path.
#[derive(Clone, Debug)]
pub struct Content(Inner);

#[derive(Clone, Debug)]
enum Inner {
    File(PathBuf),
    Bytes { bytes: Arc<[u8]>, etag: String },
    Pattern { pattern: Pattern, len: u64 },
}

impl Content {
    /// Bytes in memory, never copied again. The `ETag` is a hash of all of them, so equal bytes have equal `ETag`s, in
    /// another process too.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let etag = format!("\"b{:x}-{:x}\"", bytes.len(), hash(&bytes));
        Self(Inner::Bytes { bytes, etag })
    }

    /// The first `len` bytes of `pattern`: any size at no cost, `u64::MAX` for a stream that does not end.
    pub fn pattern(pattern: &Pattern, len: u64) -> Self {
        Self(Inner::Pattern {
            pattern: pattern.clone(),
            len,
        })
    }

    /// A file, opened anew by each request. Its `ETag` is made of size and modification time.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Inner::File(path.into()))
    }

    /// Opens it: from here on the length and the validators do not change.
    pub(crate) fn open(&self) -> io::Result<Open> {
        match &self.0 {
            Inner::Bytes { bytes, etag } => Ok(Open {
                len: bytes.len() as u64,
                etag: etag.clone(),
                modified: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
                source: Source::Bytes(Arc::clone(bytes)),
            }),
            Inner::Pattern { pattern, len } => Ok(Open {
                len: *len,
                etag: format!("\"p{:x}-{len:x}\"", pattern.seed),
                modified: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
                source: Source::Pattern(pattern.clone()),
            }),
            Inner::File(path) => {
                let file = File::open(path)?;
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let modified = metadata.modified()?;
                let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
                Ok(Open {
                    len: metadata.len(),
                    etag: format!("\"f{:x}-{:x}\"", metadata.len(), since.as_nanos()),
                    modified,
                    source: Source::File {
                        file,
                        at: 0,
                        buffer: Vec::new(),
                    },
                })
            }
        }
    }
}

/// A [`Content`] as one response sees it.
pub(crate) struct Open {
    pub(crate) len: u64,
    pub(crate) etag: String,
    modified: SystemTime,
    source: Source,
}

enum Source {
    Bytes(Arc<[u8]>),
    Pattern(Pattern),
    File { file: File, at: u64, buffer: Vec<u8> },
}

impl Open {
    /// `Last-Modified`, as HTTP writes dates.
    pub(crate) fn last_modified(&self) -> String {
        http_date(self.modified)
    }

    /// Some bytes from `at` on, at least one and at most `max`. Empty only where a file ends.
    pub(crate) fn piece(&mut self, at: u64, max: u64) -> io::Result<&[u8]> {
        let max = usize::try_from(max).unwrap_or(PIECE).min(PIECE);
        match &mut self.source {
            Source::Bytes(bytes) => {
                let rest = usize::try_from(at)
                    .ok()
                    .and_then(|at| bytes.get(at..))
                    .unwrap_or_default();
                Ok(rest.get(..max).unwrap_or(rest))
            }
            Source::Pattern(pattern) => {
                let rest = pattern.at(at);
                Ok(rest.get(..max).unwrap_or(rest))
            }
            Source::File {
                file,
                at: position,
                buffer,
            } => {
                if *position != at {
                    file.seek(SeekFrom::Start(at))?;
                }
                buffer.resize(PIECE, 0);
                let read = file.read(buffer.get_mut(..max).unwrap_or_default())?;
                *position = at + read as u64;
                Ok(buffer.get(..read).unwrap_or_default())
            }
        }
    }
}

/// Reproducible noise of any length with random access: the same seed gives the same bytes for ever.
///
/// It repeats after [`Pattern::PERIOD`] bytes, a prime, so bytes served at a wrong offset show unless they are wrong by
/// a multiple of just that.
///
/// ```
/// # use kithara_test_support::Pattern;
/// let pattern = Pattern::new(1);
/// let whole = pattern.range(0, 10_000);
/// assert_eq!(pattern.range(9_000, 1_000), &whole[9_000..]);
/// assert_eq!(pattern.first_difference(9_000, &whole[9_000..]), None);
/// assert_eq!(pattern.first_difference(8_999, &whole[9_000..]), Some(0));
/// ```
#[derive(Clone)]
pub struct Pattern {
    seed: u64,
    block: Arc<[u8]>,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pattern")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Pattern {
    /// After how many bytes it repeats: the largest prime below 1 MiB.
    pub const PERIOD: usize = 1_048_573;

    /// The pattern of this seed.
    pub fn new(seed: u64) -> Self {
        let mut block = Vec::with_capacity(Self::PERIOD + 8);
        let mut state = seed;
        while block.len() < Self::PERIOD {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            block.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        block.truncate(Self::PERIOD);
        Self {
            seed,
            block: block.into(),
        }
    }

    /// The bytes from `offset` to the end of its period, never empty.
    fn at(&self, offset: u64) -> &[u8] {
        let start = usize::try_from(offset % Self::PERIOD as u64).unwrap_or_default();
        self.block.get(start..).unwrap_or_default()
    }

    /// `len` bytes from `offset`.
    pub fn range(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let rest = self.at(offset + bytes.len() as u64);
            bytes.extend_from_slice(rest.get(..len - bytes.len()).unwrap_or(rest));
        }
        bytes
    }

    /// Where in `bytes`, said to start at `offset`, the first wrong byte is.
    pub fn first_difference(&self, offset: u64, bytes: &[u8]) -> Option<usize> {
        let mut checked = 0;
        while let Some(rest) = bytes.get(checked..).filter(|rest| !rest.is_empty()) {
            let right = self.at(offset + checked as u64);
            let len = rest.len().min(right.len());
            if rest.get(..len) != right.get(..len) {
                return rest
                    .iter()
                    .zip(right)
                    .position(|(a, b)| a != b)
                    .map(|at| checked + at);
            }
            checked += len;
        }
        None
    }
}

/// A hash of every byte that is the same on every machine.
fn hash(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |word: u64| state = (state ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    for word in &mut words {
        mix(u64::from_le_bytes(word.try_into().unwrap_or_default()));
    }
    words.remainder().iter().for_each(|byte| mix(u64::from(*byte)));
    state
}

/// An IMF-fixdate (RFC 9110, 5.6.7).
pub(crate) fn http_date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        .get((days % 7) as usize)
        .unwrap_or(&"");
    // Days are counted from 0000-03-01, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(shifted_month >= 10);
    let month = [
        "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb",
    ]
    .get(shifted_month as usize)
    .unwrap_or(&"");
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// What a path's extension says it is.
pub(crate) fn content_type(path: &str) -> &'static str {
    let extension = Path::new(path)
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "m3u8" => "application/vnd.apple.mpegurl",
        "m3u" => "audio/mpegurl",
        "m4a" | "mp4" => "audio/mp4",
        "m4s" => "video/iso.segment",
        "ts" => "video/mp2t",
        "aac" => "audio/aac",
        "mp3" => "audio/mpeg",
        "flac" => "audio/flac",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "wav" => "audio/wav",
        "json" => "application/json",
        "html" => "text/html; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_http_writes_them() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_700_000_000, "Tue, 14 Nov 2023 22:13:20 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        ] {
            assert_eq!(http_date(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn one_changed_byte_anywhere_changes_the_validator() {
        let etag = |bytes: &[u8]| Content::bytes(bytes).open().unwrap().etag;
        let bytes = Pattern::new(3).range(0, 1003);
        assert_eq!(etag(&bytes), etag(&bytes.clone()));
        for at in [0, 500, 1000, 1002] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(etag(&bytes), etag(&other), "byte {at}");
        }
    }

    #[test]
    fn a_pattern_is_the_same_however_it_is_cut() {
        let pattern = Pattern::new(9);
        let period = Pattern::PERIOD as u64;
        let across = pattern.range(period - 5, 10);
        assert_eq!(across[..5], pattern.range(period - 5, 5));
        assert_eq!(across[5..], pattern.range(0, 5));
        assert_eq!(pattern.first_difference(period - 5, &across), None);
        let mut wrong = across;
        wrong[7] ^= 1;
        assert_eq!(pattern.first_difference(period - 5, &wrong), Some(7));
        assert_ne!(pattern.range(0, 64), Pattern::new(10).range(0, 64));
    }
}
