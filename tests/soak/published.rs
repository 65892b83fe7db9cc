//! HLS tracks whose publisher does what publishers do: the URLs of segments carry tokens that expire (fault W4), and another
//! edition takes the place of the old one under the same URLs, with a list of its own or the same one, and with another key
//! (faults W5, W35).
//!
//! The tests' own oracle: a segment's bytes are all of one edition. Within a stream the edition changes only where
//! `EditionChanged` was told, and nothing is left out or doubled but there.

use std::fmt::Write as _;
use std::time::Duration;

use futures_lite::{StreamExt as _, future};
use kithara::hls::{HlsControl, HlsSource};
use kithara::media::EntryNames;
use kithara::stream::{Message, Source as _, StreamParams};
use kithara_test_support::{Pattern, Rule, Server, encrypted};

use crate::random::Random;

/// Editions there are. One that was there before may come back.
pub(crate) const EDITIONS: u64 = 4;
const TOKENS: u64 = 5;

/// A track on the server: clear, or encrypted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) is_encrypted: bool,
}

pub(crate) const TRACKS: [Published; 2] = [
    Published { is_encrypted: false },
    Published { is_encrypted: true },
];

/// What the publisher has done.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    edition: u64,
    token: u64,
}

impl Published {
    fn name(self) -> &'static str {
        if self.is_encrypted { "locked" } else { "open" }
    }

    /// Where it begins.
    pub(crate) fn path(self) -> String {
        format!("/{}/list.m3u8", self.name())
    }

    /// The durations of an edition's segments, in seconds. All but one have the same list: what the server says of the first
    /// segment tells them apart.
    fn durations(edition: u64) -> Vec<u64> {
        if edition == 2 { vec![5; 9] } else { vec![6; 7] }
    }

    /// The first segment of each edition is of a length of its own: that of two of one length, the server's dates tell
    /// nothing.
    fn body(self, edition: u64, segment: u64) -> Vec<u8> {
        let pattern = Pattern::new(1_000_000 + 1000 * edition + 10 * segment + u64::from(self.is_encrypted));
        let len = 20_000 + 3000 * ((segment + edition) % 8) + 32 * edition;
        // As packed audio begins.
        [b"ID3".as_slice(), &pattern.range(0, len as usize)].concat()
    }

    fn key(edition: u64) -> [u8; 16] {
        [edition as u8 + 1; 16]
    }

    fn serve(self, server: &Server, publisher: &Publisher) {
        let Publisher { edition, token } = *publisher;
        let (name, folder) = (self.name(), token % TOKENS);
        let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
        if self.is_encrypted {
            list.push_str("#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n");
            server.serve_bytes(format!("/{name}/key"), Self::key(edition));
        }
        for (segment, duration) in (0..).zip(Self::durations(edition)) {
            write!(list, "#EXTINF:{duration},\nt{folder}/{segment}.ts\n").unwrap();
            let clear = self.body(edition, segment);
            let body = if self.is_encrypted {
                encrypted(&clear, Self::key(edition), segment.into())
            } else {
                clear
            };
            server.serve_bytes(format!("/{name}/t{folder}/{segment}.ts"), body);
        }
        list.push_str("#EXT-X-ENDLIST\n");
        server.serve_bytes(self.path(), list.into_bytes());
    }

    /// The URLs of all tokens but the newest are refused.
    fn expire(self, server: &Server, publisher: &Publisher, status: u16) {
        for token in (0..TOKENS).filter(|token| *token != publisher.token % TOKENS) {
            for segment in 0..9 {
                let path = format!("/{}/t{token}/{segment}.ts", self.name());
                server.rule(path, Rule::new().answer(status, "expired"));
            }
        }
    }
}

impl Publisher {
    /// Between two sessions: while a track plays its URLs are of one edition.
    pub(crate) fn publish(&mut self, edition: u64, server: &Server) {
        self.edition = edition;
        for track in TRACKS {
            track.serve(server, self);
        }
    }

    /// New tokens. Those of before are refused.
    pub(crate) fn renew(&mut self, random: &mut Random, server: &Server) {
        self.token += 1;
        for track in TRACKS {
            track.serve(server, self);
        }
        self.rule(random, server);
    }

    /// The rules of the tokens that are no longer valid.
    pub(crate) fn rule(&self, random: &mut Random, server: &Server) {
        let status = [401, 403, 404, 410][random.below(4) as usize];
        for track in TRACKS {
            track.expire(server, self, status);
        }
    }
}

/// What was heard of a stream.
struct Heard {
    track: Published,
    /// The editions that all bytes since the last change are of.
    editions: Vec<u64>,
    /// The segment that plays, and how many of its bytes came.
    segment: Option<(u64, usize)>,
    /// Whether a segment may be left before its end: another edition goes on at its start.
    has_changed: bool,
}

impl Heard {
    fn new(track: Published) -> Self {
        Self {
            track,
            editions: (0..EDITIONS).collect(),
            segment: None,
            has_changed: false,
        }
    }

    fn end_segment(&mut self) {
        if let Some((segment, len)) = self.segment.take() {
            let track = self.track;
            self.editions
                .retain(|edition| self.has_changed || track.body(*edition, segment).len() == len);
            assert!(
                !self.editions.is_empty(),
                "{track:?}: {len} bytes of segment {segment}"
            );
        }
    }

    fn take(&mut self, message: Message<HlsControl>) {
        match message {
            Message::Control(HlsControl::EditionChanged { .. }) => {
                self.has_changed = true;
                self.editions = (0..EDITIONS).collect();
                self.segment = None;
            }
            Message::Control(HlsControl::SegmentStart { media_sequence, .. }) => {
                let before = self.segment.map(|(segment, _)| segment);
                self.end_segment();
                assert!(
                    before.is_none_or(|before| before + 1 == media_sequence),
                    "{:?}: {media_sequence} after {before:?}",
                    self.track
                );
                self.has_changed = false;
                self.segment = Some((media_sequence, 0));
            }
            Message::Control(_) => {}
            Message::Data(bytes) => {
                let (segment, at) = self.segment.unwrap();
                let end = at + bytes.len();
                let track = self.track;
                let is_of = |edition: &u64| track.body(*edition, segment).get(at..end) == Some(&bytes[..]);
                let before = self.editions.clone();
                self.editions.retain(is_of);
                assert!(
                    !self.editions.is_empty(),
                    "{track:?}: wrong bytes of segment {segment} at {at}, editions {before:?}"
                );
                self.segment = Some((segment, end));
            }
        }
    }

    fn end(mut self) {
        let last = self.segment.map(|(segment, _)| segment);
        self.end_segment();
        let is_last = |edition: &u64| {
            let segments = Published::durations(*edition).len() as u64;
            last.is_none_or(|last| last + 1 == segments)
        };
        assert!(
            self.editions.iter().any(is_last),
            "{:?}: a false end after {last:?}",
            self.track
        );
    }
}

/// Plays from a time on, to the end or less far.
pub(crate) fn listen(
    track: Published,
    mut source: HlsSource,
    params: &StreamParams,
    random: &mut Random,
) -> Result<(), Box<dyn std::error::Error>> {
    if random.one_in(3) {
        source.seek_time(Duration::from_secs(random.below(45)))?;
    }
    let mut messages = if random.one_in(2) {
        u64::MAX
    } else {
        random.below(60)
    };
    let mut stream = source.open(params)?;
    let mut heard = Heard::new(track);
    while messages > 0 {
        messages -= 1;
        let Some(message) = future::block_on(stream.next()) else {
            heard.end();
            break;
        };
        heard.take(message?);
    }
    Ok(())
}

/// The track that begins at `path`.
pub(crate) fn of(path: &str) -> Option<Published> {
    TRACKS.into_iter().find(|track| track.path() == path)
}

/// Names that leave the token out, and names of each token's own.
pub(crate) fn names(random: &mut Random) -> EntryNames {
    if random.one_in(4) {
        return EntryNames::default();
    }
    without_tokens()
}

pub(crate) fn without_tokens() -> EntryNames {
    EntryNames::from_fn(|url| {
        let parts = url.path().split('/').filter(|part| !part.starts_with('t'));
        parts.collect::<Vec<_>>().join("/")
    })
}
