//! From the drop of what plays to the moment at which its thread and its connection are seen gone.

use std::future::Future;
use std::io::Cursor;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use kithara::cache::{AssetCache, AssetId};
use kithara::decode::{DecodeParams, Decoder, OutputParams};
use kithara::media::{Access, OpenMode};
use kithara::net::HttpClient;
use kithara_test_support::{Content, Gate, Rule, Server};

use crate::made;
use crate::report::{Report, percentile};

const ROUNDS: usize = 50;
/// What a server gives of a file or a segment before it stalls.
const GIVEN: u64 = 60_000;

pub(crate) fn run(report: &mut Report) {
    type State = (&'static str, fn(&World, usize) -> Playing);
    let world = World::new();
    let states: [State; 8] = [
        ("decoding", World::decoding),
        ("full", World::full),
        ("ended", World::ended),
        ("blocks", World::blocks),
        ("file_stalled", World::file_stalled),
        ("file_seeking", World::file_seeking),
        ("hls_stalled", World::hls_stalled),
        ("hls_seeking", World::hls_seeking),
    ];
    let mut all = Vec::new();
    for (state, make) in states {
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let playing = make(&world, round);
            // Until the decode thread is where the state says.
            thread::sleep(Duration::from_millis(5));
            let started = Instant::now();
            drop(playing.what);
            while decode_threads() > 0 || world.is_open(playing.path.as_deref()) {
                assert!(started.elapsed() < Duration::from_secs(10), "{state}");
                thread::sleep(Duration::from_micros(100));
            }
            times.push(started.elapsed());
        }
        println!(
            "figure drop_{state} p50={:.2}ms p99={:.2}ms",
            percentile(&mut times, 50),
            percentile(&mut times, 99)
        );
        all.extend(times);
    }
    report.at_most("drop_p50", percentile(&mut all, 50), 10.0, "ms");
    report.at_most("drop_p99", percentile(&mut all, 99), 50.0, "ms");
}

/// How many decode threads this process has.
fn decode_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "kithara-decode")
        .count()
}

/// What plays, and the path of what it waits for.
struct Playing {
    what: Box<dyn std::any::Any>,
    path: Option<String>,
}

impl Playing {
    fn local(what: impl std::any::Any) -> Self {
        Self {
            what: Box::new(what),
            path: None,
        }
    }
}

struct World {
    server: Server,
    cache: AssetCache,
    client: HttpClient,
    file: Vec<u8>,
    segment: Vec<u8>,
    /// Never opened.
    gate: Gate,
    _root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let server = Server::empty().unwrap();
        let media = made::bundled("../hls/ts/seg-000.ts");
        Self {
            gate: server.gate(),
            server,
            cache: AssetCache::builder(root.path())
                .max_bytes(1 << 30)
                .open_blocking()
                .unwrap(),
            client: HttpClient::new().unwrap(),
            file: std::fs::read(made::bundled("piece.mp3")).unwrap(),
            segment: std::fs::read(media).unwrap(),
            _root: root,
        }
    }

    /// Whether the connection that last asked for a path is open.
    fn is_open(&self, path: Option<&str>) -> bool {
        let Some(path) = path else {
            return false;
        };
        let log = self.server.log();
        let last = log.to(path).last().map(|request| request.connection);
        last.is_some_and(|connection| log.connections[connection].closed_at.is_none())
    }

    fn in_memory(&self) -> Decoder {
        Decoder::from_reader(Cursor::new(self.file.clone()), &DecodeParams::new()).unwrap()
    }

    /// A ring that takes longer to be filled than the drop takes to come.
    fn decoding(&self, _: usize) -> Playing {
        let params = OutputParams::new().ring(Duration::from_secs(60));
        Playing::local(self.in_memory().into_output(params).unwrap())
    }

    fn full(&self, _: usize) -> Playing {
        Playing::local(self.in_memory().into_output(OutputParams::new()).unwrap())
    }

    fn ended(&self, _: usize) -> Playing {
        // All of it at once: a ring that is full for now makes the decode thread sleep.
        let params = OutputParams::new().ring(Duration::from_secs(60));
        let mut output = self.in_memory().into_output(params).unwrap();
        let mut block = [0.0; 4096];
        while !output.is_ended() {
            if output.pull(&mut block) == 0 {
                thread::yield_now();
            }
        }
        Playing::local(output)
    }

    fn blocks(&self, _: usize) -> Playing {
        Playing::local(self.in_memory().into_blocks().unwrap())
    }

    fn open(&self, path: &str) -> Decoder {
        let asset = AssetId::from_key(path).unwrap();
        let access = Access::new(self.client.clone(), self.cache.clone()).asset(asset);
        let params = DecodeParams::new().access(access);
        let url = self.server.url(path);
        block_on(Decoder::open(url.as_str(), &params, OpenMode::Online)).unwrap()
    }

    /// A file of which the server gives some, and then nothing.
    fn stalled_file(&self, path: &str) -> Decoder {
        self.server.serve(path, Content::bytes(self.file.clone()));
        self.server.rule(path, Rule::new().gate_after(GIVEN, &self.gate));
        self.open(path)
    }

    fn file_stalled(&self, round: usize) -> Playing {
        let path = format!("/stalled-{round}.mp3");
        Playing {
            what: Box::new(waiting(self.stalled_file(&path))),
            path: Some(path),
        }
    }

    fn file_seeking(&self, round: usize) -> Playing {
        let path = format!("/seeking-{round}.mp3");
        Playing {
            what: Box::new(seeking(self.stalled_file(&path))),
            path: Some(path),
        }
    }

    /// A track whose second segment the server gives some of, and then nothing.
    fn stalled_tree(&self, name: &str) -> (Decoder, String) {
        let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:7\n#EXT-X-VERSION:3\n\
            #EXTINF:6,\nfirst.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:6,\nsecond.ts\n#EXT-X-ENDLIST\n";
        let path = |file: &str| format!("/{name}/{file}");
        self.server.serve(
            path("playlist.m3u8"),
            Content::bytes(playlist.as_bytes().to_vec()),
        );
        for segment in ["first.ts", "second.ts"] {
            self.server
                .serve(path(segment), Content::bytes(self.segment.clone()));
        }
        let stalled = path("second.ts");
        let rule = Rule::new().gate_after(GIVEN / 4, &self.gate);
        self.server.rule(stalled.as_str(), rule);
        (self.open(&path("playlist.m3u8")), stalled)
    }

    fn hls_stalled(&self, round: usize) -> Playing {
        let (decoder, path) = self.stalled_tree(&format!("stalled-{round}"));
        Playing {
            what: Box::new(waiting(decoder)),
            path: Some(path),
        }
    }

    fn hls_seeking(&self, round: usize) -> Playing {
        let (decoder, path) = self.stalled_tree(&format!("seeking-{round}"));
        Playing {
            what: Box::new(seeking(decoder)),
            path: Some(path),
        }
    }
}

/// An output whose ring wants more than there is.
fn waiting(decoder: Decoder) -> kithara::decode::Output {
    let params = OutputParams::new().ring(Duration::from_secs(60));
    decoder.into_output(params).unwrap()
}

/// The same, with a seek under way to what has not come.
fn seeking(decoder: Decoder) -> kithara::decode::Output {
    let output = waiting(decoder);
    let handle = output.handle();
    let mut cx = Context::from_waker(Waker::noop());
    // Whether it is answered by then is another matter.
    drop(pin!(handle.seek(Duration::from_secs(7))).poll(&mut cx));
    output
}
