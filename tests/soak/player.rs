//! A process that uses a cache in every way at once, and panics at the first byte that is wrong.

use std::error::Error;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{StreamExt as _, future};
use kithara::cache::{AssetCache, AssetId, CacheError, CachePath, Durability};
use kithara::file::{FileParams, FileSource, LookAhead, OpenMode, SameFile};
use kithara::hls::{HlsParams, HlsSource, VariantChoice};
use kithara::net::{HttpClient, RetryPolicy, Url};
use kithara::stream::{Source, Stream, StreamParams};
use kithara_test_support::{Pattern, Server, expected};

use crate::published;
use crate::random::Random;

/// Lengths of the files on the server. The last one changes from time to time.
pub(crate) const FILES: [u64; 6] = [40_000, 300_000, 1_000_000, 2_500_000, 262_144, 1_500_000];
pub(crate) const CHANGING: usize = FILES.len() - 1;
pub(crate) const VERSIONS: u64 = 4;
pub(crate) const TREES: [&str; 4] = ["plain", "encrypted", "byterange", "ts"];
/// Less than all of them together.
pub(crate) const MAX_BYTES: u64 = 6_000_000;

const THREADS: u64 = 4;
const TASKS: u64 = 8;
const SCENE: &str = "KITHARA_SOAK_SCENE";

pub(crate) fn path(index: usize) -> String {
    format!("/file{index}")
}

pub(crate) fn pattern(index: usize, version: u64) -> Pattern {
    Pattern::new(100 * index as u64 + version)
}

/// What a child is told.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) root: PathBuf,
    pub(crate) references: PathBuf,
    pub(crate) server: String,
    pub(crate) seed: u64,
    pub(crate) offline: bool,
}

impl Scene {
    pub(crate) fn command(&self) -> Command {
        let Self {
            root,
            references,
            server,
            seed,
            offline,
        } = self;
        let scene = format!(
            "{}\n{}\n{server}\n{seed}\n{offline}",
            root.display(),
            references.display()
        );
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "player::child",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
                "-q",
            ])
            .env(SCENE, scene);
        command
    }

    fn told() -> Option<Self> {
        let scene = std::env::var(SCENE).ok()?;
        let mut lines = scene.lines();
        let mut next = || lines.next().unwrap();
        Some(Self {
            root: next().into(),
            references: next().into(),
            server: next().to_owned(),
            seed: next().parse().unwrap(),
            offline: next().parse().unwrap(),
        })
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&self.server).unwrap().join(path).unwrap()
    }
}

#[test]
#[ignore = "the test beside it starts it as a process of its own"]
fn child() {
    let Some(scene) = Scene::told() else { return };
    let cache = open(&scene);
    let client = client([1, 2, 6][(scene.seed % 3) as usize]);
    let scene = &scene;
    std::thread::scope(|threads| {
        #[cfg(feature = "offline")]
        {
            let downloader = crate::downloader::Downloader {
                random: Random::new(scene.seed.wrapping_add(THREADS)),
                cache: cache.clone(),
                client: client.clone(),
                scene,
            };
            threads.spawn(move || downloader.run());
        }
        for thread in 0..THREADS {
            let mut player = Player {
                random: Random::new(scene.seed.wrapping_add(thread)),
                cache: cache.clone(),
                client: client.clone(),
                scene,
            };
            threads.spawn(move || {
                for _ in 0..TASKS {
                    let done = player.task();
                    println!(
                        "{}",
                        done.map_or_else(|error| chain(&*error), |()| "done".to_owned())
                    );
                }
            });
        }
    });
    future::block_on(cache.close());
}

fn open(scene: &Scene) -> AssetCache {
    let durability = if scene.seed.is_multiple_of(2) {
        Durability::Full
    } else {
        Durability::Ordered
    };
    AssetCache::builder(&scene.root)
        .max_bytes(MAX_BYTES)
        .durability(durability)
        .open_blocking()
        .unwrap()
}

fn client(connections: usize) -> HttpClient {
    let quick = RetryPolicy::default()
        .base_delay(Duration::from_millis(5))
        .max_attempts(3);
    HttpClient::builder()
        .retry(quick)
        .max_connections_per_host(connections)
        .queue_timeout(Duration::from_millis(500))
        .idle_timeout(Duration::from_millis(400))
        .head_timeout(Duration::from_millis(800))
        .build()
        .unwrap()
}

pub(crate) fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Where a tree begins.
pub(crate) fn start_of(tree: &str) -> String {
    let tree = &expected()["trees"][tree];
    let start = tree["master"]
        .as_str()
        .or(tree["variants"][0]["playlist"].as_str());
    format!("/{}", start.unwrap())
}

/// Plays a tree from a server that does as it should, for comparison.
pub(crate) fn keep_reference(tree: &str, server: &Server, dir: &Path) {
    let url = Url::parse(&server.url(&start_of(tree))).unwrap();
    let source = HlsSource::new(url, HlsParams::new(client(6), AssetCache::memory(1 << 26)));
    let mut stream = Stream::new(source, StreamParams::default());
    let mut bytes = Vec::new();
    while let Some(chunk) = future::block_on(stream.next()) {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(
        bytes.len() as u64,
        expected()["trees"][tree]["variants"][0]["bytes"]
            .as_u64()
            .unwrap()
    );
    fs::write(dir.join(tree), bytes).unwrap();
}

/// Which bytes are right: those of one of these, the same one all along.
pub(crate) struct Right {
    candidates: Vec<Pattern>,
    len: u64,
}

impl Right {
    pub(crate) fn of_file(index: usize) -> Self {
        let versions = if index == CHANGING { VERSIONS } else { 1 };
        Self {
            candidates: (0..versions).map(|version| pattern(index, version)).collect(),
            len: FILES[index],
        }
    }

    #[track_caller]
    pub(crate) fn check(&mut self, at: u64, bytes: &[u8]) {
        assert!(
            at + bytes.len() as u64 <= self.len,
            "bytes after the end, at {at}"
        );
        self.candidates
            .retain(|pattern| pattern.first_difference(at, bytes).is_none());
        assert!(!self.candidates.is_empty(), "wrong bytes at {at}");
    }

    #[track_caller]
    pub(crate) fn check_end(&self, at: u64) {
        assert!(at >= self.len, "a false end at {at} of {}", self.len);
    }
}

type Done = Result<(), Box<dyn Error>>;

struct Player<'a> {
    random: Random,
    cache: AssetCache,
    client: HttpClient,
    scene: &'a Scene,
}

impl Player<'_> {
    fn task(&mut self) -> Done {
        match self.random.below(8) {
            0 | 1 => self.read(),
            2 => self.stream(),
            3 => self.play(),
            4 | 5 => self.play_published(),
            6 => Ok(self.keep()?),
            _ => Ok(self.tidy()?),
        }
    }

    fn source(&mut self, index: usize) -> FileSource {
        let client = self.client.clone();
        let params = match self.random.below(8) {
            0 => FileParams::uncached(client),
            1 => FileParams::new(client, AssetCache::memory(1 << 21)),
            _ => FileParams::new(client, self.cache.clone()),
        };
        let params = match self.random.below(4) {
            0 => params.look_ahead(LookAhead::Bytes(self.random.below(400_000))),
            1 => params.window_bytes(100_000 + self.random.below(1 << 20)),
            2 => params.revalidate(true),
            _ => params,
        };
        let params = match self.random.below(4) {
            0 if index != CHANGING => params.same_file(SameFile::by_length()),
            1 => params.outage_limit(Duration::from_millis(self.random.below(500))),
            2 => params.respect_no_store(true),
            _ => params,
        };
        FileSource::new(self.scene.url(&path(index)), params)
    }

    /// A file by `Read + Seek`.
    fn read(&mut self) -> Done {
        let index = self.random.below(FILES.len() as u64) as usize;
        let mut right = Right::of_file(index);
        let mode = if self.scene.offline {
            OpenMode::Offline
        } else {
            OpenMode::Online
        };
        let mut reader = future::block_on(self.source(index).open_reader(mode))?;
        let len = reader.len();
        assert!(
            len.is_none_or(|len| len == right.len),
            "file{index} has {} bytes, not {len:?}",
            right.len
        );
        let interrupter = reader.interrupter();
        if self.random.one_in(8) {
            // The first wait for bytes ends with it.
            interrupter.interrupt();
        }
        let whole = self.random.one_in(3);
        let reads = if whole {
            u64::MAX
        } else {
            1 + self.random.below(12)
        };
        let (mut at, mut buffer) = (0, vec![0; 70_000]);
        for _ in 0..reads {
            if !whole && self.random.one_in(2) {
                at = reader.seek(SeekFrom::Start(self.random.below(right.len + 10)))?;
            }
            let wanted = 1 + self.random.below(buffer.len() as u64) as usize;
            match reader.read(&mut buffer[..wanted])? {
                0 => {
                    right.check_end(at);
                    if whole {
                        break;
                    }
                }
                count => {
                    right.check(at, &buffer[..count]);
                    at += count as u64;
                }
            }
        }
        Ok(())
    }

    fn run<S: Source>(&mut self, source: S) -> Stream<S> {
        let params = StreamParams::default().offline_mode(self.scene.offline);
        let params = match self.random.below(3) {
            0 => params.max_chunks(NonZeroU16::MIN),
            _ => params,
        };
        match self.random.below(3) {
            0 => Stream::inline(source, params),
            1 => {
                let (stream, driver) = Stream::with_driver(source, params);
                std::thread::spawn(move || future::block_on(driver));
                stream
            }
            _ => Stream::new(source, params),
        }
    }

    /// Reads a stream, with seeks, polls that are given up, and stops at any place.
    async fn listen<S: Source>(
        &mut self,
        mut stream: Stream<S>,
        len: u64,
        mut check: impl FnMut(u64, &[u8]),
    ) -> Result<u64, Box<dyn Error>> {
        let stop = if self.random.one_in(2) {
            u64::MAX
        } else {
            self.random.below(len)
        };
        let mut at = 0;
        while at < stop {
            if stop != u64::MAX && self.random.one_in(8) {
                at = self.random.below(len);
                stream.handle().seek_bytes(at).await?;
            }
            let next = if self.random.one_in(6) {
                future::poll_once(stream.next()).await
            } else {
                Some(stream.next().await)
            };
            match next {
                None => {}
                Some(None) => return Ok(at),
                Some(Some(bytes)) => {
                    let bytes = bytes?;
                    check(at, &bytes);
                    at += bytes.len() as u64;
                }
            }
        }
        Ok(u64::MAX)
    }

    /// A file as a stream.
    fn stream(&mut self) -> Done {
        let index = self.random.below(FILES.len() as u64) as usize;
        let mut right = Right::of_file(index);
        let source = self.source(index);
        let stream = self.run(source);
        let end = future::block_on(self.listen(stream, FILES[index], |at, bytes| right.check(at, bytes)))?;
        right.check_end(end);
        Ok(())
    }

    /// An HLS track.
    fn play(&mut self) -> Done {
        let tree = TREES[self.random.below(TREES.len() as u64) as usize];
        let whole = fs::read(self.scene.references.join(tree)).unwrap();
        // Under its number: where a server fails no other Variant Stream may play in its place, of which other bytes are right.
        let params = HlsParams::new(self.client.clone(), self.cache.clone()).variant(VariantChoice::Index(0));
        let stream = self.run(HlsSource::new(self.scene.url(&start_of(tree)), params));
        let check = |at: u64, bytes: &[u8]| {
            let at = at as usize;
            assert_eq!(
                whole.get(at..at + bytes.len()),
                Some(bytes),
                "wrong bytes of {tree} at {at}"
            );
        };
        let end = future::block_on(self.listen(stream, whole.len() as u64, check))?;
        assert!(end >= whole.len() as u64, "a false end of {tree} at {end}");
        Ok(())
    }

    /// An HLS track that is published anew, or whose URLs expire.
    fn play_published(&mut self) -> Done {
        let track = published::TRACKS[self.random.below(2) as usize];
        let params = HlsParams::new(self.client.clone(), self.cache.clone())
            .entry_names(published::names(&mut self.random));
        let source = HlsSource::new(self.scene.url(&track.path()), params);
        let params = StreamParams::default().offline_mode(self.scene.offline);
        published::listen(track, source, &params, &mut self.random)
    }

    fn own_asset(&mut self) -> AssetId {
        AssetId::from_key(&format!("own {}", self.random.below(6))).unwrap()
    }

    /// Entries of the application's own; the first bytes of each say what the others are.
    fn keep(&mut self) -> Result<(), CacheError> {
        let asset = self.own_asset();
        let path = CachePath::parse(&format!("entry {}", self.random.below(4)))?;
        let seed = self.random.next();
        let pattern = Pattern::new(seed);
        let head = Bytes::copy_from_slice(&seed.to_le_bytes());
        match self.random.below(3) {
            0 => {
                let rest = pattern.range(0, self.random.below(600_000) as usize);
                let entry = [&head[..], &rest].concat();
                self.cache.blocking().put_atomic(&asset, &path, entry.into())
            }
            1 => future::block_on(async {
                let mut writer = self.cache.writer(&asset, &path).await?;
                writer.write(head).await?;
                let mut at = 0;
                for _ in 0..self.random.below(20) {
                    let part = pattern.range(at, self.random.below(40_000) as usize);
                    at += part.len() as u64;
                    writer.write(part.into()).await?;
                }
                if self.random.one_in(4) {
                    return Ok(());
                }
                writer.commit().await
            }),
            _ => {
                if let Some(entry) = self.cache.blocking().get(&asset, &path)? {
                    let (head, rest) = entry.split_first_chunk().unwrap();
                    let pattern = Pattern::new(u64::from_le_bytes(*head));
                    assert_eq!(pattern.first_difference(0, rest), None, "a wrong entry");
                }
                Ok(())
            }
        }
    }

    fn tidy(&mut self) -> Result<(), CacheError> {
        let asset = self.own_asset();
        let cache = self.cache.blocking();
        match self.random.below(6) {
            0 => cache.pin(&asset),
            1 | 2 => cache.unpin(&asset),
            3 => cache.remove(&asset).map(drop),
            4 => cache.checkpoint(),
            _ => {
                let lease = self.cache.lease(&asset);
                let listed = cache.assets();
                drop(lease);
                listed.map(drop)
            }
        }
    }
}
