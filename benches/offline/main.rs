//! Downloads: what a large library costs to look at, to list and to remove, and how fast ten tracks come, beside curl.
//!
//! `cargo bench --features offline,hls --bench offline` (behind `--`: `state`, `list`, `removal`, `throughput`) prints a table, and
//! one line a bar, `bar NAME figure=… limit=… ok|short`. The cache lies in the temporary directory (`TMPDIR`). Figures are medians.
//!
//! What is downloaded is synced before it is said to be complete, which curl does not do. In a `TMPDIR` in memory a sync costs nothing,
//! and the figures beside curl's are of the work alone.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a bench prints, and may panic"
)]

mod fetched;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::{self, block_on};
use kithara::cache::{AssetCache, AssetId, CachePath, Durability};
use kithara::hls::{HlsParams, HlsSource, OpenMode};
use kithara::media::Access;
use kithara::net::{HttpClient, Url};
use kithara::offline::{DownloadId, DownloadRequest, Downloads, State};
use kithara_test_support::Server;

/// A server, and a cache in a folder of its own.
struct Library {
    server: Server,
    folder: tempfile::TempDir,
    cache: AssetCache,
}

/// As downloads are kept where a power cut may cost the last ones: curl syncs nothing at all.
fn open_cache(folder: &Path) -> AssetCache {
    AssetCache::builder(folder)
        .max_bytes(16 << 30)
        .durability(Durability::Ordered)
        .open_blocking()
        .unwrap()
}

impl Library {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = open_cache(folder.path());
        Self {
            server: Server::empty().unwrap(),
            folder,
            cache,
        }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&self.server.url(path)).unwrap()
    }

    fn downloads(&self) -> Downloads {
        let access = Access::new(HttpClient::new().unwrap(), self.cache.clone());
        block_on(Downloads::builder(access).open()).unwrap()
    }

    /// Keeps a track of so many segments, as if it had been fetched.
    fn keep_track(&self, name: &str, segments: usize, segment: usize) -> DownloadRequest {
        let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
        for number in 0..segments {
            writeln!(list, "#EXTINF:6,\n{name}/{number}.ts").unwrap();
        }
        list += "#EXT-X-ENDLIST\n";
        self.server
            .serve_bytes(format!("/{name}.m3u8"), list.into_bytes());
        let url = self.url(&format!("/{name}.m3u8"));
        let params = HlsParams::new(HttpClient::new().unwrap(), self.cache.clone());
        let source = HlsSource::new(url.clone(), params);
        block_on(source.inspect(OpenMode::Online)).unwrap();
        let bytes = Bytes::from([b"ID3".as_slice(), &vec![0x47; segment - 3]].concat());
        for number in 0..segments {
            let path = CachePath::from_url(&self.url(&format!("/{name}/{number}.ts")));
            let put = self
                .cache
                .blocking()
                .put_atomic(source.asset(), &path, bytes.clone());
            put.unwrap();
        }
        DownloadRequest::hls(url)
    }
}

fn run_all(downloads: &Downloads) {
    block_on(future::or(
        async { downloads.run().await.unwrap() },
        downloads.idle(),
    ));
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begin = Instant::now();
    let value = work();
    (value, begin.elapsed().as_secs_f64() * 1000.0)
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn bar(name: &str, figure: f64, limit: f64, is_met: bool) {
    let verdict = if is_met { "ok" } else { "short" };
    println!("bar offline.{name} figure={figure:.3} limit={limit:.3} {verdict}");
}

fn at_most(name: &str, figure: f64, limit: f64) {
    bar(name, figure, limit, figure <= limit);
}

fn at_least(name: &str, figure: f64, limit: f64) {
    bar(name, figure, limit, figure >= limit);
}

/// Until folders' times of now are trusted.
fn settle() {
    std::thread::sleep(Duration::from_millis(2600));
}

/// A look at a track of 10 000 segments: the first one of a session, one where nothing that was found before holds, the next ones,
/// and one after a file was deleted.
fn state() {
    let mut library = Library::new();
    let request = library.keep_track("long", 10_000, 188);
    let downloads = library.downloads();
    let id = block_on(downloads.add(request)).unwrap();
    run_all(&downloads);
    settle();
    drop(downloads);
    let mut firsts = Vec::new();
    for _ in 0..9 {
        // After a start: what was found when it was complete answers, held against the folder.
        block_on(library.cache.close());
        library.cache = open_cache(library.folder.path());
        block_on(library.cache.progress().finished());
        let downloads = library.downloads();
        let (stored, first) = timed(|| block_on(downloads.state(&id)).unwrap());
        assert!(stored.is_complete());
        firsts.push(first);
    }
    let downloads = library.downloads();
    let look = || block_on(downloads.state(&id)).unwrap();
    let file = files_below(library.folder.path())
        .into_iter()
        .find(|file| file.to_str().unwrap().contains(".ts"))
        .unwrap();
    let mut anew = Vec::new();
    for hours in 1..10 {
        // Another time of the folder: what was found before does not answer.
        let then = std::time::SystemTime::now() - Duration::from_secs(3600 * hours);
        let folder = std::fs::File::open(file.parent().unwrap()).unwrap();
        folder.set_modified(then).unwrap();
        let (stored, took) = timed(look);
        assert!(stored.is_complete());
        anew.push(took);
    }
    let mut later: Vec<_> = (0..1001).map(|_| timed(look).1 * 1000.0).collect();
    println!("\na track of 10 000 segments");
    at_most("state_first_ms", median(&mut firsts), 30.0);
    at_most("state_anew_ms", median(&mut anew), 30.0);
    at_most("state_later_us", median(&mut later), 100.0);
    std::fs::remove_file(file).unwrap();
    assert_eq!(look().holes.len(), 1, "noticed at the next call");
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The list of so many completed downloads, each of which is looked at, and the start of a session with them.
fn list_of(count: usize) -> [f64; 2] {
    let library = Library::new();
    let downloads = library.downloads();
    let bytes = Bytes::from_static(&[0x55; 64]);
    for number in 0..count {
        let url = library.url(&format!("/{number}.mp3"));
        let put = library.cache.blocking();
        put.put_atomic(
            &AssetId::from_url(&url),
            &CachePath::from_url(&url),
            bytes.clone(),
        )
        .unwrap();
        block_on(downloads.add(DownloadRequest::file(url))).unwrap();
    }
    run_all(&downloads);
    settle();
    // Once, so that what was found is believed, and kept.
    block_on(downloads.list()).unwrap();
    let listed = |downloads: &Downloads| {
        let (list, time) = timed(|| block_on(downloads.list()).unwrap());
        assert_eq!(list.len(), count);
        assert!(list.iter().all(|info| info.state == State::Completed));
        time
    };
    let list = median(&mut (0..21).map(|_| listed(&downloads)).collect::<Vec<_>>());
    let open = |_| {
        let (downloads, time) = timed(|| library.downloads());
        listed(&downloads);
        time
    };
    [list, median(&mut (0..5).map(open).collect::<Vec<_>>())]
}

fn list() {
    println!("\n{:>10} {:>9} {:>9}", "downloads", "list ms", "open ms");
    let [few, many] = [1_000, 10_000].map(|count| {
        let [list, open] = list_of(count);
        println!("{count:>10} {list:>9.2} {open:>9.2}");
        [list, open]
    });
    // One picture of a screen at 60 Hz.
    at_most("list_1000_ms", few[0], 16.0);
    at_most("list_10000_ms", many[0], 50.0);
    at_most("open_10000_ms", many[1], 1000.0);
}

/// The removal of 1 GB in 5 000 files, until it is gone: the bytes leave the disk behind it.
fn removal() {
    let library = Library::new();
    let downloads = library.downloads();
    let mut figures = Vec::new();
    for round in 0..3 {
        let request = library.keep_track(&format!("large{round}"), 5_000, 200_000);
        let id: DownloadId = block_on(downloads.add(request)).unwrap();
        run_all(&downloads);
        figures.push(timed(|| block_on(downloads.remove(&id)).unwrap()).1);
        assert!(block_on(downloads.get(&id)).is_err());
        // The trash empties behind it, and would be in the way of the next round.
        block_on(library.cache.checkpoint()).unwrap();
    }
    println!("\nremoval of 1 GB in 5 000 files: {figures:.2?} ms");
    at_most("removal_ms", median(&mut figures), 10.0);
}

fn main() {
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if let [job, urls, folder, parallel] = arguments.as_slice()
        && job == "fetch"
    {
        return fetched::fetch(urls, folder.as_ref(), parallel.parse().unwrap());
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load {}", load.trim());
    let sections: [(&str, fn()); 4] = [
        ("state", state),
        ("list", list),
        ("removal", removal),
        ("throughput", fetched::throughput),
    ];
    for (name, section) in sections {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            section();
        }
    }
}
