//! The same selector in a real stream: from a server on loopback whose rate follows a written network, into a cache, at the
//! pace of a listener.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::{StreamExt, future};
use kithara::cache::AssetCache;
use kithara::hls::selection::Adaptive;
use kithara::hls::{HlsControl, HlsParams, HlsSource};
use kithara::net::{HttpClient, Url};
use kithara::stream::{Message, Source, StreamParams};

use super::listener::Listener;
use super::session::{Outcome, Track};
use super::trace::Trace;

/// What is read before it is heard, in seconds: a decoder's queue.
const READ_AHEAD: f64 = 3.0;
/// The server sends so often, in seconds.
const TICK: f64 = 0.02;

/// One link for all connections: bytes that may be sent by now.
struct Link {
    trace: Trace,
    began: Instant,
    sent_until: Mutex<f64>,
    /// In bytes.
    sent: AtomicU64,
}

impl Link {
    /// Waits until so many bits have gone over the link.
    fn send(&self, bits: f64) {
        let now = self.began.elapsed().as_secs_f64();
        let end = {
            let mut sent = self.sent_until.lock().unwrap();
            *sent = self.trace.arrival(sent.max(now), bits);
            *sent
        };
        self.sent.fetch_add((bits / 8.0) as u64, Ordering::Relaxed);
        thread::sleep(Duration::from_secs_f64((end - now).max(0.0)));
    }

    /// The bytes of a tick, at the rate of now.
    fn piece(&self) -> usize {
        let (rate, _) = self.trace.at(self.began.elapsed().as_secs_f64());
        ((rate * TICK / 8.0) as usize).clamp(200, 16 << 10)
    }
}

fn body(track: &Track, rung: usize) -> usize {
    (track.bits[rung] * track.segment / 8.0) as usize
}

fn list(track: &Track, rung: usize) -> String {
    let mut list = format!("#EXTM3U\n#EXT-X-TARGETDURATION:{}\n", track.segment.ceil());
    for segment in 0..track.segments {
        list += &format!("#EXTINF:{},\n{rung}-{segment}.ts\n", track.segment);
    }
    list + "#EXT-X-ENDLIST\n"
}

fn master(track: &Track) -> String {
    let mut master = "#EXTM3U\n".to_owned();
    for (rung, said) in track.ladder.iter().enumerate() {
        let codecs = said.codecs.as_deref().unwrap_or_default();
        let bandwidth = said.bandwidth;
        master += &format!("#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"{codecs}\"\n{rung}.m3u8\n");
    }
    master
}

fn answer(track: &Track, path: &str) -> Vec<u8> {
    let name = path.trim_start_matches('/');
    if name == "master.m3u8" {
        return master(track).into_bytes();
    }
    if let Some(rung) = name.strip_suffix(".m3u8") {
        return list(track, rung.parse().unwrap()).into_bytes();
    }
    let (rung, _) = name.split_once('-').unwrap();
    let mut bytes = vec![b'x'; body(track, rung.parse().unwrap())];
    bytes[..3].copy_from_slice(b"ID3");
    bytes
}

/// Answers requests on one connection, until it closes.
fn serve(stream: &TcpStream, track: &Track, link: &Link) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let mut out = stream;
    loop {
        let first = lines.next()?.ok()?;
        let (mut from, mut to) = (0, None);
        loop {
            let line = lines.next()?.ok()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(range) = line.strip_prefix("range: bytes=") {
                let (start, end) = range.split_once('-')?;
                from = start.parse().ok()?;
                to = end.parse::<usize>().ok().map(|last| last + 1);
            }
        }
        let all = answer(track, first.split(' ').nth(1)?);
        let part = &all[from..to.unwrap_or(all.len()).min(all.len())];
        let head = if from == 0 && part.len() == all.len() {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", all.len())
        } else {
            format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\nContent-Length: {}\r\n\r\n",
                from + part.len() - 1,
                all.len(),
                part.len()
            )
        };
        thread::sleep(Duration::from_secs_f64(link.trace.latency));
        out.write_all(head.as_bytes()).ok()?;
        let mut rest = part;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(link.piece().min(rest.len()));
            link.send(piece.len() as f64 * 8.0);
            out.write_all(piece).ok()?;
            rest = behind;
        }
    }
}

/// Plays a track over a network, in real time.
pub fn play(track: &Track, trace: &Trace) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let link = Arc::new(Link {
        trace: trace.clone(),
        began: Instant::now(),
        sent_until: Mutex::new(0.0),
        sent: AtomicU64::new(0),
    });
    let (served, for_server) = (track.clone(), link.clone());
    // Ends with the process.
    thread::spawn(move || {
        let served = Arc::new(served);
        for stream in listener.incoming().map_while(Result::ok) {
            let (served, link) = (served.clone(), for_server.clone());
            thread::spawn(move || serve(&stream, &served, &link));
        }
    });
    let dir = tempfile::tempdir().unwrap();
    future::block_on(async {
        let cache = AssetCache::builder(dir.path())
            .max_bytes(1 << 30)
            .open()
            .await
            .unwrap();
        let params = HlsParams::new(HttpClient::new().unwrap(), cache)
            .selector(Adaptive::new())
            .look_ahead(Duration::from_secs_f64(track.cap));
        let url = Url::parse(&format!("http://{address}/master.m3u8")).unwrap();
        let mut source = HlsSource::new(url, params);
        let mut outcome = listen(&mut source, track).await;
        // With the playlists.
        outcome.fetched = link.sent.load(Ordering::Relaxed) as f64 * 8.0;
        outcome.wasted = (outcome.fetched - outcome.bits).max(0.0);
        outcome
    })
}

async fn listen(source: &mut HlsSource, track: &Track) -> Outcome {
    let mut stream = source.open(&StreamParams::default()).unwrap();
    let mut listener: Listener = track.listener();
    let began = Instant::now();
    let mut outcome = Outcome {
        heard: track.end(),
        ..Outcome::default()
    };
    let mut rung: Option<usize> = None;
    let mut is_read = false;
    while !listener.is_over() {
        let now = began.elapsed().as_secs_f64();
        listener.run((now - listener.time).max(0.0), 0.0);
        if is_read || listener.arrived > listener.heard + READ_AHEAD {
            thread::sleep(Duration::from_millis(20));
            continue;
        }
        let tick = async {
            async_io::Timer::after(Duration::from_millis(20)).await;
            None
        };
        let Some(message) = future::or(async { Some(stream.next().await) }, tick).await else {
            continue;
        };
        let Some(message) = message else {
            is_read = true;
            listener.arrive(track.end());
            continue;
        };
        match message.unwrap() {
            Message::Control(HlsControl::SegmentStart { variant, time, .. }) => {
                outcome.switches += u32::from(rung.is_some_and(|before| before != variant));
                rung = Some(variant);
                outcome.utility += track.utilities[variant] * track.segment;
                outcome.bits += track.bits[variant] * track.segment;
                listener.arrived = listener.arrived.max(time.as_secs_f64());
            }
            Message::Data(data) => {
                let share = data.len() as f64 / body(track, rung.unwrap()) as f64;
                listener.arrived = (listener.arrived + share * track.segment).min(track.end());
            }
            Message::Control(_) => {}
        }
    }
    outcome.start = listener.started.unwrap_or(listener.time);
    (outcome.stalled, outcome.stalls) = (listener.stalled, listener.stalls);
    outcome
}
