//! A track in each shape that HLS tracks have, a cache on a disk, and sessions that play the one through the other.

use std::fmt::Write as _;
use std::sync::Mutex;

use futures_lite::{StreamExt, future};
use kithara::cache::{AssetCache, Durability};
use kithara::hls::{HlsControl, HlsParams, HlsSource};
use kithara::media::EntryNames;
use kithara::stream::{Message, Source, StreamParams};
use kithara_test_support::{Recorded, Rule, RuleHandle, Server};
use tempfile::TempDir;

use crate::rig::{KEY, Tape, builder, encrypt, is_question, offline, online, play, url};

/// Segments of a track.
pub(crate) const SEGMENTS: usize = 4;
/// Of the section.
pub(crate) const IV: u128 = 9;

/// Plain or AES-128; transport stream, or fragmented MP4 with an initialization section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) is_encrypted: bool,
    pub(crate) has_section: bool,
}

pub(crate) const SHAPES: [Shape; 4] = [
    Shape::new(false, false),
    Shape::new(false, true),
    Shape::new(true, false),
    Shape::new(true, true),
];

impl Shape {
    const fn new(is_encrypted: bool, has_section: bool) -> Self {
        Self {
            is_encrypted,
            has_section,
        }
    }

    /// What its playlist names, and itself.
    pub(crate) fn targets(self) -> Vec<&'static str> {
        let mut targets = vec!["list.m3u8", "0.ts", "2.ts"];
        if self.has_section {
            targets.push("init");
        }
        if self.is_encrypted {
            targets.push("key");
        }
        targets
    }

    /// The initialization section of an edition; nothing where the shape has none.
    pub(crate) fn section(self, edition: &str) -> Vec<u8> {
        if self.has_section {
            // Of another length in each edition: the server of the tests dates all files alike.
            let len = 300 + edition.bytes().map(usize::from).sum::<usize>();
            body(b"\0\0\0\x18ftyp", &format!("section {edition}"), len)
        } else {
            Vec::new()
        }
    }

    pub(crate) fn segment(self, edition: &str, index: usize) -> Vec<u8> {
        let start: &[u8] = if self.has_section {
            b"\0\0\0\x18styp"
        } else {
            b"G\x40\x11\x10"
        };
        let len = 1000 + 100 * index + edition.bytes().map(usize::from).sum::<usize>();
        body(start, &format!("segment {index} {edition}"), len)
    }

    /// The section, and these segments.
    pub(crate) fn bytes(self, edition: &str, segments: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let mut bytes = self.section(edition);
        for index in segments {
            bytes.extend(self.segment(edition, index));
        }
        bytes
    }

    /// As its server has it.
    pub(crate) fn sent(self, plain: &[u8], key: [u8; 16], iv: u128) -> Vec<u8> {
        if self.is_encrypted {
            encrypt(plain, key, iv)
        } else {
            plain.to_vec()
        }
    }

    /// The tags in front of the first segment.
    pub(crate) fn tags(self, path: &str) -> String {
        let mut tags = String::new();
        if self.has_section {
            if self.is_encrypted {
                writeln!(tags, "#EXT-X-KEY:METHOD=AES-128,URI=\"{path}key\",IV=0x{IV:032x}").unwrap();
            }
            writeln!(tags, "#EXT-X-MAP:URI=\"{path}init\"").unwrap();
        }
        if self.is_encrypted {
            writeln!(tags, "#EXT-X-KEY:METHOD=AES-128,URI=\"{path}key\"").unwrap();
        }
        tags
    }
}

fn body(start: &[u8], name: &str, len: usize) -> Vec<u8> {
    let mut bytes = [start, name.as_bytes()].concat();
    let mut state = u32::try_from(len).unwrap();
    while bytes.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.push(state.to_be_bytes()[0]);
    }
    bytes
}

/// A server with the track under `/t/`, and a cache that can be closed and opened again.
pub(crate) struct Stage {
    pub(crate) shape: Shape,
    pub(crate) server: Server,
    /// What the app sets beside client and cache.
    pub(crate) names: EntryNames,
    pub(crate) max_playlist_bytes: usize,
    /// How the server answers all along, where no rule says otherwise.
    pub(crate) manner: Option<Rule>,
    /// What follows the playlist's URL.
    pub(crate) query: String,
    root: TempDir,
    cache: Option<AssetCache>,
    faults: Mutex<Vec<RuleHandle>>,
}

impl Stage {
    pub(crate) fn new(shape: Shape) -> Self {
        let root = tempfile::tempdir().unwrap();
        let stage = Self {
            shape,
            server: Server::empty().unwrap(),
            names: EntryNames::default(),
            max_playlist_bytes: 16 << 20,
            manner: None,
            query: String::new(),
            cache: Some(open(&root)),
            root,
            faults: Mutex::default(),
        };
        stage.publish("old", &[6; SEGMENTS], "", KEY);
        stage
    }

    /// Publishes an edition with segments of these durations, in seconds, under `/t/` and `path`.
    pub(crate) fn publish(&self, edition: &str, durations: &[u64], path: &str, key: [u8; 16]) {
        self.serve_media(edition, durations.len(), path, key);
        let mut list = format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n{}", self.shape.tags(path));
        for (index, duration) in durations.iter().enumerate() {
            write!(list, "#EXTINF:{duration},\n{path}{index}.ts\n").unwrap();
        }
        list.push_str("#EXT-X-ENDLIST\n");
        self.serve("list.m3u8", list.as_bytes());
    }

    /// All that a playlist names.
    pub(crate) fn serve_media(&self, edition: &str, segments: usize, path: &str, key: [u8; 16]) {
        let shape = self.shape;
        for index in 0..segments {
            let plain = shape.segment(edition, index);
            self.serve(
                &format!("{path}{index}.ts"),
                &shape.sent(&plain, key, index as u128),
            );
        }
        let section = shape.section(edition);
        self.serve(&format!("{path}init"), &shape.sent(&section, key, IV));
        self.serve(&format!("{path}key"), &key);
    }

    pub(crate) fn serve(&self, name: &str, bytes: &[u8]) {
        self.server.serve_bytes(format!("/t/{name}"), bytes);
    }

    /// From now until [`recover`](Self::recover).
    pub(crate) fn fault(&self, name: &str, rule: Rule) {
        let rule = self.server.rule(format!("/t/{name}"), rule);
        self.faults.lock().unwrap().push(rule);
        if let Some(manner) = &self.manner {
            self.server.rule("/t/*", manner.clone());
        }
    }

    pub(crate) fn recover(&self) {
        for fault in self.faults.lock().unwrap().drain(..) {
            fault.remove();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}{}", self.server.url("/t/list.m3u8"), self.query)
    }

    pub(crate) fn params(&self) -> HlsParams {
        let cache = self.cache.clone().unwrap();
        HlsParams::new(builder().build().unwrap(), cache)
            .entry_names(self.names.clone())
            .max_playlist_bytes(self.max_playlist_bytes)
    }

    pub(crate) fn play(&self, mode: StreamParams) -> Tape {
        play(&self.url(), self.params(), mode)
    }

    /// Closes the cache, and opens what is on the disk.
    pub(crate) fn restart(&mut self) {
        if let Some(cache) = self.cache.take() {
            future::block_on(cache.closed());
        }
        self.cache = Some(open(&self.root));
    }

    /// Plays two segments and no more. They are kept.
    pub(crate) fn hear_half(&self) {
        self.hear_half_of(&self.server);
    }

    /// The same of a track whose media another server has.
    pub(crate) fn hear_half_of(&self, media: &Server) {
        let gate = media.gate();
        let held = media.rule("/t/2.ts", Rule::new().gate(&gate));
        // Of a path's rules the first one wins: this one comes behind.
        let manner = self.manner.clone().map(|rule| self.server.rule("/t/*", rule));
        let wanted = self.shape.bytes("old", 0..2);
        let mut stream = HlsSource::new(url(&self.url()), self.params())
            .open(&online())
            .unwrap();
        let mut heard = Vec::new();
        future::block_on(async {
            while heard.len() < wanted.len() {
                if let Message::Data(data) = stream.next().await.unwrap().unwrap() {
                    heard.extend_from_slice(&data);
                }
            }
            // Commits go on while the stream is polled, which waits for the next segment.
            while self.play(offline()).bytes.len() < wanted.len() {
                let polled = future::poll_once(stream.next()).await;
                let is_silent = matches!(
                    polled,
                    None | Some(Some(Ok(Message::Control(HlsControl::Stalled))))
                );
                assert!(is_silent, "{polled:?}");
            }
        });
        assert!(heard == wanted);
        drop(stream);
        held.remove();
        manner.iter().for_each(RuleHandle::remove);
    }

    /// Bodies sent of what playlists name.
    pub(crate) fn media_bodies(&self) -> usize {
        let is_body = |request: &&Recorded| {
            let is_list = request.path_only().contains(".m3u8");
            !is_list && !is_question(request) && request.status == Some(200)
        };
        self.server.requests().iter().filter(is_body).count()
    }

    /// How many there are to be sent.
    pub(crate) fn media_names(&self) -> usize {
        SEGMENTS + usize::from(self.shape.has_section) + usize::from(self.shape.is_encrypted)
    }
}

fn open(root: &TempDir) -> AssetCache {
    future::block_on(
        AssetCache::builder(root.path())
            .durability(Durability::Ordered)
            .open(),
    )
    .unwrap()
}
