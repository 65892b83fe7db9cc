//! A music player: tracks one after another without a pause, the next one opened ahead, online and offline. Without a track
//! it starts the test server of this repository (`kithara-test-support`, which is not published); with one it needs none.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use futures_lite::future::block_on;
use kithara::decode::{DecodeEvent, DecodeParams, Decoder, OutputParams};
use kithara::{cache::AssetCache, media::Access, media::OpenMode, net::HttpClient};
use std::sync::mpsc::{TryRecvError, channel, sync_channel};
use std::{error::Error, process::ExitCode, thread, time::Duration};

const USAGE: &str = "\
usage: music_player [URL|FILE]... [options]     without a track: five bundled ones, online, then offline
  --cache DIR     keep the bytes here (default: music_player in the temporary directory)
  --offline       open no connection: play what --cache DIR holds
  --speed N       play so many times as fast (default: 1)
lines on standard input are commands: p pauses and goes on, s SECONDS seeks, n skips to the next track, q ends";
type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    run().unwrap_or_else(|failure| {
        eprintln!("music_player: {failure}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode, Failure> {
    use lexopt::{Arg, ValueExt as _};
    let (mut tracks, mut folder) = (Vec::new(), std::env::temp_dir().join("music_player"));
    let (mut mode, mut speed) = (OpenMode::Online, 1);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Value(track) => tracks.push(track.string()?),
            Arg::Long("cache") => folder = arguments.value()?.into(),
            Arg::Long("offline") => mode = OpenMode::Offline,
            Arg::Long("speed") => speed = arguments.value()?.parse()?,
            Arg::Long("help") => {
                println!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if tracks.is_empty() {
        return bundled::play_twice();
    }
    let cache = AssetCache::builder(folder).open_blocking()?;
    let (whole, frames) = play(&tracks, &cache, mode, speed)?;
    println!("{whole} of {} tracks, {frames} frames", tracks.len());
    Ok(ExitCode::from(u8::from(whole < tracks.len())))
}

/// Plays all tracks. Tells how many were heard to their end, and how many frames were heard.
fn play(urls: &[String], cache: &AssetCache, mode: OpenMode, speed: u16) -> Result<(usize, usize), Failure> {
    // The sound card's rate and channels: whatever a track is, it is brought to them.
    let params = DecodeParams::new().sample_rate(48_000).channels(2);
    let params = params.access(Access::new(HttpClient::new()?, cache.clone()));
    // Each track is opened while the one before it plays, and waits here until it is queued.
    let (sender, opened) = sync_channel(0);
    let locations = urls.to_owned();
    thread::spawn(move || {
        for track in locations {
            match block_on(Decoder::open(track.as_str(), &params, mode)) {
                Ok(decoder) => drop(sender.send((track, decoder))),
                Err(error) => eprintln!("music_player: {track}: {error}"),
            }
        }
    });
    let (sender, commands) = channel();
    thread::spawn(move || {
        let mut lines = std::io::stdin().lines().map_while(Result::ok);
        lines.try_for_each(|line| sender.send(line))
    });
    let (mut track, first) = opened.recv().map_err(|_| "no track can be opened")?;
    let params = OutputParams::new().ring(Duration::from_millis(200) * speed.into());
    let mut output = first.into_output(params)?;
    let (player, mut buffer) = (output.handle(), vec![0.0; 960 * usize::from(speed)]);
    let (mut events, mut queued, mut paused) = (player.events(), None, false);
    let (mut frames, mut begun, mut lost, mut over, mut failed) = (0, 1, 0, false, false);
    loop {
        // An app leaves these two lines to the sound card's callback, on a thread of its own.
        thread::sleep(Duration::from_millis(10));
        frames += if paused { 0 } else { output.pull(&mut buffer) / 2 };
        match events.try_next() {
            Ok(Some(DecodeEvent::FormatChanged(format))) => println!("{track}: {}", format.codec),
            Ok(Some(DecodeEvent::TrackChanged)) => {
                (track, over, begun) = (queued.take().unwrap_or_default(), false, begun + 1);
            }
            Ok(event) => over |= event == Some(DecodeEvent::Ended),
            Err(error) => {
                eprintln!("music_player: {track}: {error}");
                (failed, lost) = (true, lost + 1);
            }
        }
        if queued.is_none() {
            match opened.try_recv() {
                Ok((next, decoder)) => {
                    player.then(decoder);
                    queued = Some(next);
                }
                Err(TryRecvError::Disconnected) if over || failed => break,
                Err(_) => {}
            }
        }
        let command = commands.try_recv().unwrap_or_default();
        paused ^= command == "p";
        let done = match command.split_once(' ').unwrap_or((&command, "")) {
            ("s", to) => block_on(player.seek(Duration::from_secs(to.parse()?))),
            ("n", _) => block_on(player.skip()),
            ("q", _) => break,
            // Nothing is left of a track that failed: the next one.
            _ if queued.is_some() && std::mem::take(&mut failed) => block_on(player.skip()),
            _ => Ok(()),
        };
        done.unwrap_or_else(|error| eprintln!("music_player: {error}"));
    }
    Ok((begun - lost, frames))
}

/// The test server, and what it plays.
mod bundled {
    use std::process::ExitCode;

    use kithara::cache::AssetCache;
    use kithara::media::OpenMode;
    use kithara_test_support::{Server, media, serve_encrypted};

    use super::{Failure, play};

    /// Five tracks of different kinds, online and, with the server gone, from the cache; twenty times as fast as they play.
    pub(super) fn play_twice() -> Result<ExitCode, Failure> {
        let server = Server::start(media())?;
        serve_encrypted(&server, "/hls/ts/playlist.m3u8", "/encrypted")?;
        let tracks = [
            "/files/piece.mp3",
            "/files/piece.flac",
            "/files/piece-moov-at-end.m4a",
            "/hls/plain/master.m3u8",
            "/encrypted/playlist.m3u8",
        ]
        .map(|path| server.url(path));

        let folder = tempfile::tempdir()?;
        let cache = AssetCache::builder(folder.path()).open_blocking()?;
        let online = play(&tracks, &cache, OpenMode::Online, 20)?;
        server.stop();
        println!("The server is gone.");
        let offline = play(&tracks, &cache, OpenMode::Offline, 20)?;
        println!("{} tracks, {} frames online and offline", offline.0, offline.1);
        if online.0 < tracks.len() || online != offline {
            return Err(format!("{} tracks, {} frames online", online.0, online.1).into());
        }
        Ok(ExitCode::SUCCESS)
    }
}
