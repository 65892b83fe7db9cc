//! What the tests share: a small encrypted or plain track served from memory, and players that write everything down.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aes::Aes128;
use bytes::Bytes;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit, array::Array};
use futures_lite::{StreamExt, future};
use kithara::cache::AssetCache;
use kithara::hls::{HlsControl, HlsError, HlsParams, HlsSource, Origin};
use kithara::media::{Access, Verdict};
use kithara::net::{HttpClient, HttpClientBuilder, RetryPolicy, Url};
use kithara::stream::{Message, Source, SourceStream, Stream, StreamError, StreamParams};
use kithara_test_support::{Pattern, Recorded, Server};
use tempfile::TempDir;

pub(crate) fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// A client that waits no longer than a test should, and tries twice.
pub(crate) fn builder() -> HttpClientBuilder {
    let quick = RetryPolicy::default()
        .base_delay(Duration::from_millis(2))
        .max_attempts(2);
    HttpClient::builder()
        .retry(quick)
        .idle_timeout(Duration::from_millis(300))
}

/// A cache in a directory of its own.
pub(crate) struct Cache {
    pub(crate) cache: AssetCache,
    pub(crate) dir: TempDir,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self::of(1 << 30)
    }

    pub(crate) fn of(max_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = future::block_on(AssetCache::builder(dir.path()).max_bytes(max_bytes).open()).unwrap();
        Self { cache, dir }
    }

    pub(crate) fn params(&self) -> HlsParams {
        HlsParams::new(builder().build().unwrap(), self.cache.clone())
    }

    /// The same for tracks whose segments are words: a test that shows what it expects is easier to read. The crate would
    /// take them for text.
    pub(crate) fn word_params(&self) -> HlsParams {
        let access = Access::new(builder().build().unwrap(), self.cache.clone());
        HlsParams::with_access(access.judge(|_| Verdict::Media))
    }
}

/// Whether a request only asks what there is, by which editions are told: for its first bytes.
pub(crate) fn is_question(request: &Recorded) -> bool {
    request.header("range") == Some("bytes=0-511")
}

/// How many segments, sections and keys were asked for, whole.
pub(crate) fn media_requests(server: &Server) -> usize {
    let is_media = |request: &&Recorded| !request.path_only().contains(".m3u8") && !is_question(request);
    server.requests().iter().filter(is_media).count()
}

/// Files of playlists, keys, sections and segments. What the source notes for itself is left out.
pub(crate) fn resource_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = files_below(dir);
    files.retain(|file| {
        let name = file.to_str().unwrap();
        !["-witness", "-whole", "-editions"]
            .iter()
            .any(|end| name.ends_with(end))
    });
    files.sort();
    files
}

/// How many playlists, keys, sections and segments are kept.
pub(crate) fn files(cache: &Cache) -> usize {
    resource_files(&cache.dir.path().join("assets")).len()
}

/// All files below a folder.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

pub(crate) fn online() -> StreamParams {
    StreamParams::default()
}

pub(crate) fn offline() -> StreamParams {
    StreamParams::default().offline_mode(true)
}

/// Everything a stream said, in order.
#[derive(Default)]
pub(crate) struct Tape {
    pub(crate) bytes: Vec<u8>,
    pub(crate) controls: Vec<HlsControl>,
    /// The controls in short, each with the number of bytes before it.
    pub(crate) story: Vec<String>,
    pub(crate) error: Option<HlsError>,
    /// Whether it was told that all of the track is kept.
    pub(crate) is_cached: bool,
}

impl Tape {
    fn control(&mut self, control: HlsControl) {
        if matches!(control, HlsControl::Cached) {
            self.is_cached = true;
            return;
        }
        let at = self.bytes.len();
        // They tell of the moment, which is another in each run.
        if matches!(
            control,
            HlsControl::Buffered { .. } | HlsControl::Stalled | HlsControl::Resumed
        ) {
            self.controls.push(control);
            return;
        }
        self.story.push(match &control {
            HlsControl::VariantApplied { variant, .. } => format!("{at} variant {variant}"),
            HlsControl::InitializationSection { .. } => format!("{at} section"),
            HlsControl::SegmentStart {
                media_sequence,
                origin: Origin::Cache,
                ..
            } => {
                format!("{at} cached {media_sequence}")
            }
            HlsControl::SegmentStart { media_sequence, .. } => format!("{at} fetched {media_sequence}"),
            HlsControl::Gap { media_sequence, .. } => format!("{at} gap {media_sequence}"),
            HlsControl::Discontinuity { sequence, .. } => format!("{at} discontinuity {sequence}"),
            HlsControl::EditionChanged { .. } => format!("{at} edition"),
            HlsControl::CacheBypassed { resource, .. } => format!("{at} bypassed {:?}", resource.kind()),
            other => panic!("{other:?}"),
        });
        self.controls.push(control);
    }

    /// Fails the test unless the stream ended without an error.
    pub(crate) fn whole(self) -> Self {
        if let Some(error) = &self.error {
            panic!("after {} bytes: {}", self.bytes.len(), chain(error));
        }
        self
    }

    pub(crate) fn failed(&self) -> &HlsError {
        self.error
            .as_ref()
            .unwrap_or_else(|| panic!("a clean end after {} bytes", self.bytes.len()))
    }

    pub(crate) fn bypasses(&self) -> usize {
        self.story.iter().filter(|line| line.contains("bypassed")).count()
    }
}

/// An error with everything below it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        write!(text, ": {source}").unwrap();
        next = source.source();
    }
    text
}

pub(crate) type Opened = SourceStream<HlsControl, HlsError>;

/// Opens the source at a position, as a driver does after a seek.
pub(crate) fn open_at(source: &mut HlsSource, position: u64, params: &StreamParams) -> Opened {
    source.seek_bytes(position).unwrap();
    source.open(params).unwrap()
}

/// Opens the source at a time, as a driver does after a seek.
pub(crate) fn open_at_time(source: &mut HlsSource, seconds: f64, params: &StreamParams) -> Opened {
    source.seek_time(Duration::from_secs_f64(seconds)).unwrap();
    source.open(params).unwrap()
}

/// Reads an opened source to its end.
pub(crate) async fn drain(mut stream: Opened) -> Tape {
    let mut tape = Tape::default();
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Data(data)) => tape.bytes.extend_from_slice(&data),
            Ok(Message::Control(control)) => tape.control(control),
            Err(StreamError::Source { source }) => tape.error = Some(source),
            Err(other) => panic!("{other}"),
        }
    }
    tape
}

/// Plays from the beginning to the end through a `Stream` with its own driver task.
pub(crate) fn play(url: &str, params: HlsParams, mode: StreamParams) -> Tape {
    let source = HlsSource::new(Url::parse(url).unwrap(), params);
    let mut messages = Stream::new(source, mode).into_messages();
    future::block_on(async {
        let mut tape = Tape::default();
        while let Some(message) = messages.next().await {
            match message {
                Ok(Message::Data(data)) => tape.bytes.extend_from_slice(&data),
                Ok(Message::Control(control)) => tape.control(control),
                Err(StreamError::Source { source }) => tape.error = Some(source),
                Err(other) => panic!("{other}"),
            }
        }
        tape
    })
}

pub(crate) const KEY: [u8; 16] = *b"sixteen  letters";

/// AES-128-CBC with PKCS#7.
pub(crate) fn encrypt(plain: &[u8], key: [u8; 16], iv: u128) -> Vec<u8> {
    let mut cipher = cbc::Encryptor::<Aes128>::new(&Array(key), &Array(iv.to_be_bytes()));
    let padding = u8::try_from(16 - plain.len() % 16).unwrap();
    let mut buffer = [plain, &vec![padding; padding.into()]].concat();
    cipher.encrypt_blocks(Array::slice_as_chunks_mut(&mut buffer).0);
    buffer
}

/// A track served from memory under `/t/`.
pub(crate) struct Track {
    pub(crate) server: Server,
    pub(crate) segments: Vec<Bytes>,
}

impl Track {
    /// Plain segments of these lengths: `/t/list.m3u8` and `/t/0.ts`, `/t/1.ts`, …
    pub(crate) fn plain(lengths: &[usize]) -> Self {
        Self::build(lengths, |_| String::new(), |_, plain| plain.to_vec())
    }

    /// The same encrypted under `/t/key`, with default IVs.
    pub(crate) fn encrypted(lengths: &[usize]) -> Self {
        let key = |index| {
            if index == 0 {
                "#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n".into()
            } else {
                String::new()
            }
        };
        let track = Self::build(lengths, key, |index, plain| encrypt(plain, KEY, index as u128));
        track.server.serve_bytes("/t/key", KEY);
        track
    }

    /// Tags above each segment, and what becomes of its bytes.
    pub(crate) fn build(
        lengths: &[usize],
        tags: impl Fn(usize) -> String,
        served: impl Fn(usize, &[u8]) -> Vec<u8>,
    ) -> Self {
        let host = Server::empty().unwrap();
        let pattern = Pattern::new(11);
        let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
        let mut at = 0;
        let mut segments = Vec::new();
        for (index, length) in lengths.iter().enumerate() {
            let mut bytes = pattern.range(at, *length);
            // As packed audio begins. Decrypted bytes that begin as nothing known are held until their end is right.
            if let Some(start) = bytes.get_mut(..3) {
                start.copy_from_slice(b"ID3");
            }
            at += *length as u64;
            host.serve_bytes(format!("/t/{index}.ts"), served(index, &bytes));
            write!(list, "{}#EXTINF:6.006,\n{index}.ts\n", tags(index)).unwrap();
            segments.push(bytes.into());
        }
        list.push_str("#EXT-X-ENDLIST\n");
        host.serve_bytes("/t/list.m3u8", list.into_bytes());
        Self {
            server: host,
            segments,
        }
    }

    pub(crate) fn list(&self) -> String {
        self.server.url("/t/list.m3u8")
    }

    /// The stream's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.segments.concat()
    }

    /// How many requests there were for a path.
    pub(crate) fn requests(&self, path: &str) -> usize {
        self.server.log().to(path).count()
    }
}
