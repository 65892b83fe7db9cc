//! O7: what is being played goes first.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use futures_lite::future;
use kithara::file::OpenMode;
use kithara::offline::{DownloadRequest, Downloads, State};
use socket2::SockRef;

use crate::*;

/// A link of so many bytes a second, which all connections to a server share.
struct Link {
    addr: SocketAddr,
}

/// When the link is free again.
struct Bucket(Mutex<Instant>);

impl Bucket {
    fn take(&self, bytes: usize, rate: u32) {
        let mut free = self.0.lock().unwrap();
        let now = Instant::now();
        *free = (*free).max(now) + Duration::from_secs(1) * u32::try_from(bytes).unwrap() / rate;
        let wait = free.saturating_duration_since(now);
        drop(free);
        thread::sleep(wait);
    }
}

impl Link {
    fn to(server: SocketAddr, rate: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let bucket = Arc::new(Bucket(Mutex::new(Instant::now())));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, upstream) = (client.unwrap(), TcpStream::connect(server).unwrap());
                // As little as a real link holds: what waits in buffers has taken its time of the link already.
                SockRef::from(&client).set_send_buffer_size(4096).unwrap();
                let bucket = bucket.clone();
                let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                thread::spawn(move || {
                    let (mut client, mut upstream) = (client, upstream);
                    let mut buffer = [0; 1400];
                    while let Ok(count @ 1..) = upstream.read(&mut buffer) {
                        bucket.take(count, rate);
                        if client.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = upstream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { addr }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.addr)).unwrap()
    }
}

/// 1 Mbit/s.
const RATE: u32 = 125_000;
/// The song's: half of what the link carries.
const SONG: u32 = 62_500;
const LEN: u64 = 5 * SONG as u64;

/// Plays a song at its own pace, two seconds buffered. How late its bytes were, at worst.
fn play(source: &FileSource) -> Duration {
    let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    let mut buffer = vec![0; 2 * SONG as usize];
    reader.read_exact(&mut buffer).unwrap();
    let started = Instant::now();
    let (mut at, mut late) = (buffer.len() as u64, Duration::ZERO);
    let mut step = vec![0; SONG as usize / 10];
    while at < LEN {
        let len = step.len().min((LEN - at) as usize);
        reader.read_exact(&mut step[..len]).unwrap();
        // The second byte after the two seconds is heard when those are over.
        let due = started + Duration::from_secs(1) * (at as u32) / SONG;
        late = late.max(Instant::now().saturating_duration_since(due));
        at += len as u64;
        // As a sound card takes it: not before its time, less what is buffered.
        let ahead = due.saturating_duration_since(Instant::now());
        thread::sleep(ahead.saturating_sub(Duration::from_secs(2)));
    }
    late
}

/// O7: at 1 Mbit/s a song plays without a stall, from its first second, while ten downloads go on; and they go on after it.
#[test]
fn o7_a_song_plays_without_a_stall_while_ten_downloads_go_on() {
    let stage = Stage::new();
    let link = Link::to(stage.server.addr(), RATE);
    stage.server.serve("/song", Content::pattern(&pattern(), LEN));
    // One client: what it knows of its own requests is what they give way by.
    let access = stage.access();
    let downloads = block_on(Downloads::builder(access.clone()).parallel(10).open()).unwrap();
    let mut ids = Vec::new();
    for number in 0..10 {
        let path = format!("/d{number}");
        stage
            .server
            .serve(path.clone(), Content::pattern(&pattern(), 80_000));
        let request = DownloadRequest::file(link.url(&path));
        ids.push(block_on(downloads.add(request)).unwrap());
    }
    let song = FileSource::new(link.url("/song"), FileParams::with_access(access));
    let (asked, late) = thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let runner = downloads.clone();
        let run = scope.spawn(move || {
            let until = async {
                while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    async_io::Timer::after(Duration::from_millis(20)).await;
                }
            };
            block_on(future::or(async { runner.run().await.unwrap() }, until));
        });
        // They fill the link before the song begins.
        stage.server.wait_until(|log| {
            log.requests
                .iter()
                .filter(|request| request.path.starts_with("/d"))
                .count()
                >= 3
        });
        let asked = Instant::now();
        let late = play(&song);
        let asked = asked.elapsed();
        drop(stop);
        run.join().unwrap();
        (asked, late)
    });
    assert!(late < Duration::from_millis(100), "late by {late:?}");
    assert!(asked < Duration::from_secs(8), "{asked:?}");
    block_on(future::or(
        async { downloads.run().await.unwrap() },
        downloads.idle(),
    ));
    for id in &ids {
        assert_eq!(block_on(downloads.get(id)).unwrap().state, State::Completed);
        assert!(block_on(downloads.verify(id, |_, _| ())).unwrap().is_complete());
    }
}
