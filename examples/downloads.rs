//! A manager of downloads for a terminal: files and HLS tracks, with bars. Kill it, start it again with the same folder: it goes
//! on. Without a URL it downloads bundled tracks from the test server of this repository (`kithara-test-support`, which is not
//! published), slowly enough to watch; then it stops the server and proves that all of it is there.
//!
//! ```text
//! cargo run --example downloads --features offline,hls                          the bundled tracks
//! cargo run --example downloads --features offline,hls,tls -- --cache DIR URL…  files, and tracks that end in .m3u8
//! cargo run --example downloads --features offline,hls -- --cache DIR list      what there is
//!
//!   list | verify | export N FILE | remove N     one thing, and the end
//!   --cache DIR      keep the bytes here (default: a folder that is deleted at the end)
//!   --parallel N     so many at once (default: 3)
//!   --fast           the bundled tracks as fast as they come
//!   --picture FILE   write the screen, as it is half way, as an SVG
//!
//! While it runs, on lines of their own: p N pause, r N resume, x N remove, v N verify, P all, R all, q quit
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use futures_lite::future::{self, block_on};
use kithara::cache::{AssetCache, AssetId};
use kithara::file::OpenMode;
use kithara::media::{Access, EntryNames};
use kithara::net::{HttpClient, Url};
use kithara::offline::{DownloadInfo, DownloadRequest, Downloads, Kind, State, Total};
use kithara_test_support::{Rule, Server, media};

type Failure = Box<dyn Error>;

const USAGE: &str = "\
usage: downloads [list | verify | export N FILE | remove N] [URL…] [options]

  without a URL: bundled tracks, from a loopback server
  --cache DIR      keep the bytes here (default: a folder that is deleted at the end)
  --parallel N     so many at once (default: 3)
  --fast           the bundled tracks as fast as they come
  --picture FILE   write the screen, as it is half way, as an SVG
while it runs: p N pause, r N resume, x N remove, v N verify, P all, R all, q quit";

/// The bundled tracks, below the folder of the test media.
const BUNDLED: [&str; 5] = [
    "files/piece.mp3",
    "files/piece.flac",
    "hls/plain/master.m3u8",
    "hls/ts/playlist.m3u8",
    "hls/encrypted/master.m3u8",
];

fn main() -> ExitCode {
    match Options::parse().and_then(|options| block_on(run(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("downloads: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    // Deleted when it is dropped, which is why it must outlive the cache.
    let fresh = match &options.cache {
        Some(_) => None,
        None => Some(tempfile::tempdir()?),
    };
    let folder = options
        .cache
        .as_deref()
        .or(fresh.as_ref().map(tempfile::TempDir::path));
    let folder = folder.ok_or("no cache folder")?;
    let cache = AssetCache::builder(folder).max_bytes(8 << 30).open().await?;
    let client = HttpClient::new()?;
    let mut access = Access::new(client.clone(), cache);
    if options.urls.is_empty() {
        // The test server has another port each time. Under these names a track is the same one after a restart.
        access = access.entry_names(EntryNames::from_fn(|url| url.path().to_owned()));
    }
    let downloads = Downloads::builder(access)
        .parallel(options.parallel)
        .open()
        .await?;
    match &options.command {
        Some(Command::List) => {
            for (number, info) in downloads.list().await?.iter().enumerate() {
                println!("{}", line(number, info));
            }
            return Ok(());
        }
        Some(Command::Verify) => return verify(&downloads).await,
        Some(Command::Export(number, file)) => return export(&downloads, *number, file).await,
        Some(Command::Remove(number)) => {
            return Ok(downloads.remove(&at(&downloads, *number).await?.id).await?);
        }
        None => {}
    }
    let server = if options.urls.is_empty() {
        Some(add_bundled(&downloads, options.fast).await?)
    } else {
        for url in &options.urls {
            downloads.add(request(url.clone())).await?;
        }
        None
    };
    let mut screen = Screen::new(options.picture);
    future::or(
        async { Ok(downloads.run().await?) },
        watch(&downloads, &mut screen),
    )
    .await?;
    if let Some(server) = server {
        // The network is gone. What is said to be there is there.
        server.stop();
        let before = client.traffic().connections;
        verify(&downloads).await?;
        println!(
            "connections since the network is gone: {}",
            client.traffic().connections - before
        );
    }
    Ok(())
}

fn request(url: Url) -> DownloadRequest {
    if url.path().to_ascii_lowercase().ends_with(".m3u8") {
        DownloadRequest::hls(url)
    } else {
        DownloadRequest::file(url)
    }
}

async fn add_bundled(downloads: &Downloads, fast: bool) -> Result<Server, Failure> {
    let server = Server::start(media())?;
    if !fast {
        server.rule("/*", Rule::new().trickle(60_000));
    }
    for path in BUNDLED {
        if !media().join(path).exists() {
            return Err(format!("{path} is missing").into());
        }
        // For the same reason: an app's own names of its assets.
        let request = request(server.url(&format!("/{path}")).parse()?)
            .asset(AssetId::from_key(&format!("bundled {path}"))?);
        downloads.add(request).await?;
    }
    Ok(server)
}

/// Shows how far they are, and does what the user types, until there is nothing to do.
async fn watch(downloads: &Downloads, screen: &mut Screen) -> Result<(), Failure> {
    let keys = keys();
    let ended = async {
        downloads.idle().await;
        Ok(true)
    };
    let shown = async {
        loop {
            let infos = downloads.list().await?;
            screen.show(&infos)?;
            while let Ok(typed) = keys.try_recv() {
                if typed.trim() == "q" {
                    return Ok(false);
                }
                if let Err(failure) = obey(downloads, &infos, &typed).await {
                    eprintln!("{failure}");
                }
            }
            async_io::Timer::after(Duration::from_millis(100)).await;
        }
    };
    let is_idle: Result<bool, Failure> = future::or(ended, shown).await;
    is_idle?;
    screen.show(&downloads.list().await?)
}

async fn obey(downloads: &Downloads, infos: &[DownloadInfo], typed: &str) -> Result<(), Failure> {
    let mut words = typed.split_whitespace();
    let (key, number) = (words.next(), words.next());
    let one = || {
        let number: usize = number.ok_or("which one?")?.parse()?;
        Ok::<_, Failure>(&infos.get(number).ok_or("there is no such download")?.id)
    };
    match key {
        Some("p") => downloads.pause(one()?).await?,
        Some("r") => downloads.resume(one()?).await?,
        Some("x") => downloads.remove(one()?).await?,
        Some("P") => downloads.pause_all().await?,
        Some("R") => downloads.resume_all().await?,
        Some("v") => {
            let stored = downloads.verify(one()?, |_, _| ()).await?;
            eprintln!("{} holes", stored.holes.len());
        }
        _ => eprintln!("{USAGE}"),
    }
    Ok(())
}

/// Lines that the user types. Whether any come or not, the downloads go on.
fn keys() -> Receiver<String> {
    let (sender, keys) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || line.is_ok_and(|line| sender.send(line).is_err()) {
                return;
            }
        }
    });
    keys
}

async fn at(downloads: &Downloads, number: usize) -> Result<DownloadInfo, Failure> {
    let infos = downloads.list().await?;
    Ok(infos.into_iter().nth(number).ok_or("there is no such download")?)
}

/// Reads all of them against their checksums.
async fn verify(downloads: &Downloads) -> Result<(), Failure> {
    let mut holes = 0;
    for info in downloads.list().await? {
        let stored = downloads.verify(&info.id, |_, _| ()).await?;
        println!(
            "{:9} KiB  {}  {}",
            stored.bytes / 1024,
            if stored.is_complete() { "right" } else { "holes" },
            name(&info)
        );
        for hole in &stored.holes {
            println!("               {hole}");
        }
        holes += stored.holes.len();
    }
    if holes > 0 {
        return Err(format!("{holes} holes").into());
    }
    Ok(())
}

/// Writes what was downloaded as a file: of a track its sections and segments, one after another.
async fn export(downloads: &Downloads, number: usize, file: &PathBuf) -> Result<(), Failure> {
    let info = at(downloads, number).await?;
    let mut reader: Box<dyn std::io::Read> = match info.request.kind() {
        Kind::File => Box::new(downloads.file(&info.id)?.open_reader(OpenMode::Offline).await?),
        _ => Box::new(
            downloads
                .track(&info.id)
                .await?
                .open_reader(OpenMode::Offline)
                .await?,
        ),
    };
    let (mut out, mut buffer) = (std::fs::File::create(file)?, vec![0; 64 << 10]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => out.write_all(buffer.get(..count).unwrap_or_default())?,
        }
    }
}

fn name(info: &DownloadInfo) -> String {
    let path = info.request.url().path();
    let parts: Vec<_> = path.rsplit('/').take(2).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

/// A download in a line.
fn line(number: usize, info: &DownloadInfo) -> String {
    const WIDTH: usize = 24;
    let progress = &info.progress;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bar")]
    let done = (progress.fraction() * 24.0) as usize;
    let bar = "█".repeat(done.min(WIDTH)) + &"░".repeat(WIDTH.saturating_sub(done));
    let total = match progress.total {
        Total::Exact(bytes) => format!("{}", bytes / 1024),
        Total::Estimated(bytes) => format!("~{}", bytes / 1024),
        _ => "?".to_owned(),
    };
    let state = match info.state {
        State::Downloading if progress.is_away => "no network".to_owned(),
        State::Queued if !info.closed_gates.is_empty() => {
            format!("waits for {}", info.closed_gates.join(", "))
        }
        state => format!("{state:?}").to_lowercase(),
    };
    let mut text = format!(
        "{number:>3}  {bar}  {:>5}/{total:<6} KiB  {state:11} {}",
        progress.bytes / 1024,
        name(info)
    );
    if info.state == State::Downloading && progress.rate > 0 {
        let left = progress
            .remaining()
            .map_or(String::new(), |left| format!(", {} s", left.as_secs()));
        text = format!("{text}  {} KiB/s{left}", progress.rate / 1024);
    }
    if let Some(failure) = &info.failure {
        text = format!("{text}  {failure}");
    }
    text
}

/// The lines on the terminal, written over again and again. Elsewhere each state is told once.
struct Screen {
    is_terminal: bool,
    lines: usize,
    told: Vec<(String, State)>,
    picture: Option<PathBuf>,
}

impl Screen {
    fn new(picture: Option<PathBuf>) -> Self {
        Self {
            is_terminal: std::io::stdout().is_terminal(),
            lines: 0,
            told: Vec::new(),
            picture,
        }
    }

    fn show(&mut self, infos: &[DownloadInfo]) -> Result<(), Failure> {
        let lines: Vec<_> = infos
            .iter()
            .enumerate()
            .map(|(number, info)| line(number, info))
            .collect();
        let fraction: f64 = infos.iter().map(|info| info.progress.fraction()).sum();
        if fraction >= 2.0
            && let Some(file) = self.picture.take()
        {
            std::fs::write(file, svg(&lines)?)?;
        }
        if self.is_terminal {
            let mut out = std::io::stdout().lock();
            if self.lines > 0 {
                write!(out, "\x1b[{}A", self.lines)?;
            }
            for line in &lines {
                writeln!(out, "{line}\x1b[K")?;
            }
            self.lines = lines.len();
            return Ok(out.flush()?);
        }
        for (info, line) in infos.iter().zip(&lines) {
            let told = (info.id.to_string(), info.state);
            if !self.told.contains(&told) {
                println!("{line}");
                self.told.push(told);
            }
        }
        Ok(())
    }
}

/// The lines as a picture of a terminal.
fn svg(lines: &[String]) -> Result<String, Failure> {
    let height = 20 * lines.len() + 60;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"{height}\" font-family=\"monospace\" \
         font-size=\"13\"><rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1b1f27\"/>\n"
    );
    let prompt = "$ cargo run --example downloads --features offline,hls".to_owned();
    for (number, line) in [&prompt].into_iter().chain(lines).enumerate() {
        let line = line.replace('&', "&amp;").replace('<', "&lt;");
        let (y, fill) = (30 + 20 * number, if number == 0 { "#8fbf7f" } else { "#d7dae0" });
        writeln!(
            text,
            "<text x=\"16\" y=\"{y}\" fill=\"{fill}\" xml:space=\"preserve\">{line}</text>"
        )?;
    }
    text += "</svg>\n";
    Ok(text)
}

enum Command {
    List,
    Verify,
    Export(usize, PathBuf),
    Remove(usize),
}

struct Options {
    urls: Vec<Url>,
    command: Option<Command>,
    cache: Option<PathBuf>,
    parallel: usize,
    fast: bool,
    picture: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Self, Failure> {
        use lexopt::prelude::{Long, Short, Value, ValueExt};

        let mut options = Self {
            urls: Vec::new(),
            command: None,
            cache: None,
            parallel: 3,
            fast: false,
            picture: None,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("cache") => options.cache = Some(arguments.value()?.into()),
                Long("parallel") => options.parallel = arguments.value()?.parse()?,
                Long("picture") => options.picture = Some(arguments.value()?.into()),
                Long("fast") => options.fast = true,
                Long("help") | Short('h') => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                Value(word) => match &*word.string()? {
                    "list" => options.command = Some(Command::List),
                    "verify" => options.command = Some(Command::Verify),
                    "remove" => options.command = Some(Command::Remove(arguments.value()?.parse()?)),
                    "export" => {
                        let number = arguments.value()?.parse()?;
                        options.command = Some(Command::Export(number, arguments.value()?.into()));
                    }
                    url => options
                        .urls
                        .push(Url::parse(url).map_err(|error| format!("not a URL: {url:?}: {error}"))?),
                },
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }
}
