//! A cache from a terminal.
//!
//! ```text
//! cargo run --example cache_admin                                    a cache made up on the spot, each command once
//! cargo run --example cache_admin -- DIR ls                          assets with sizes, ages, pins
//! cargo run --example cache_admin -- DIR pin ASSET                   keep it, whatever happens
//! cargo run --example cache_admin -- DIR unpin ASSET
//! cargo run --example cache_admin -- DIR rm ASSET
//! cargo run --example cache_admin -- DIR evict --to 1GiB             the least recently used first, pinned ones never
//! cargo run --example cache_admin -- DIR verify                      every byte against its checksum; 1 if any differs
//!
//!   --json     for programs instead of people
//! ```
//!
//! ASSET is the beginning of an id that `ls` shows, or the URL or key the asset was stored under. The app that uses the cache
//! must be closed: a root is open once.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use kithara::cache::{AssetCache, AssetId, AssetInfo, BlockingCache, CachePath, CacheStats, Timestamp};
use serde_json::{Value as Json, json};

const USAGE: &str = "\
usage: cache_admin [--json] DIR COMMAND     without arguments: each command once, on a cache made up for it

  ls                 assets with sizes, ages, pins
  pin ASSET          keep it, whatever happens
  unpin ASSET
  rm ASSET
  evict --to SIZE    the least recently used first, pinned ones never; SIZE as 1GiB, 500MB, 4096
  verify             every byte against its checksum; exit code 1 if any differs

  --json             for programs instead of people

ASSET is the beginning of an id that `ls` shows, or the URL or key the asset was stored under.";

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let done = Options::parse().and_then(|options| match options {
        Some((root, command, json)) => command.run(Path::new(&root), json),
        None => show(),
    });
    match done {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("cache_admin: {}", in_one_line(&*failure));
            ExitCode::FAILURE
        }
    }
}

enum Command {
    Ls,
    Pin(String),
    Unpin(String),
    Rm(String),
    Evict(u64),
    Verify,
}

impl Command {
    fn run(&self, root: &Path, json: bool) -> Result<ExitCode, Failure> {
        if !root.is_dir() {
            return Err(format!("no such folder: {}", root.display()).into());
        }
        // Without a limit of its own: looking must not evict.
        let limit = if let Self::Evict(to) = self { *to } else { u64::MAX };
        let before = match self {
            Self::Evict(_) => Some(stats(root)?),
            _ => None,
        };
        let cache = AssetCache::builder(root).max_bytes(limit).open_blocking()?;
        let cache = cache.blocking().clone();
        let mut code = ExitCode::SUCCESS;
        match self {
            Self::Ls => ls(&cache, json)?,
            Self::Pin(asset) => cache.pin(&find(&cache, asset)?)?,
            Self::Unpin(asset) => cache.unpin(&find(&cache, asset)?)?,
            Self::Rm(asset) => drop(cache.remove(&find(&cache, asset)?)?),
            Self::Evict(to) => {
                // Opening with the limit has evicted; this waits for it.
                let (before, after) = (before.unwrap_or_default(), cache.stats()?);
                if json {
                    let gone = before.assets - after.assets;
                    println!("{}", json!({ "bytes": after.asset_bytes, "evicted": gone }));
                } else {
                    println!("{} -> {}", human(before.asset_bytes), human(after.asset_bytes));
                }
                if after.bytes > *to {
                    eprintln!("cache_admin: what is pinned needs more than that");
                    code = ExitCode::FAILURE;
                }
            }
            Self::Verify => {
                if !verify(&cache, json)? {
                    code = ExitCode::FAILURE;
                }
            }
        }
        // What was removed is gone from the disk too when this returns.
        cache.checkpoint()?;
        cache.close();
        Ok(code)
    }
}

fn stats(root: &Path) -> Result<CacheStats, Failure> {
    let cache = AssetCache::builder(root).max_bytes(u64::MAX).open_blocking()?;
    let stats = cache.blocking().stats()?;
    futures_lite::future::block_on(cache.close());
    Ok(stats)
}

/// The URL or key that an asset was stored under.
fn key(cache: &BlockingCache, asset: &AssetInfo) -> Option<String> {
    let entries = cache.entries(&asset.id).ok()?;
    entries.into_iter().find_map(|entry| entry.asset_key)
}

fn ls(cache: &BlockingCache, json: bool) -> Result<(), Failure> {
    let (assets, now) = (cache.assets()?, Timestamp::now());
    if json {
        let assets: Vec<Json> = assets
            .iter()
            .map(|asset| {
                json!({
                    "id": asset.id.name(), "key": key(cache, asset), "bytes": asset.bytes, "files": asset.files,
                    "age_seconds": asset.last_access.age(now).as_secs(), "pinned": asset.pinned,
                })
            })
            .collect();
        println!(
            "{}",
            json!({ "assets": assets, "bytes": cache.stats()?.asset_bytes })
        );
        return Ok(());
    }
    println!(
        "{:12} {:>11} {:>6}  {:14} pin  key",
        "id", "size", "files", "used"
    );
    for asset in &assets {
        let id: String = asset.id.name().chars().take(12).collect();
        let age = format!("{} ago", human_age(asset.last_access.age(now)));
        let (size, pin) = (human(asset.bytes), if asset.pinned { "yes" } else { "" });
        let key = key(cache, asset).unwrap_or_default();
        println!("{id:12} {size:>11} {:>6}  {age:14} {pin:3}  {key}", asset.files);
    }
    let stats = cache.stats()?;
    println!(
        "{} assets, {} files, {}",
        stats.assets,
        stats.entries,
        human(stats.asset_bytes)
    );
    Ok(())
}

/// The one asset that `text` means.
fn find(cache: &BlockingCache, text: &str) -> Result<AssetId, Failure> {
    let named =
        |asset: &AssetInfo| asset.id.name().starts_with(text) || key(cache, asset).as_deref() == Some(text);
    let found: Vec<AssetInfo> = cache.assets()?.into_iter().filter(named).collect();
    match <[AssetInfo; 1]>::try_from(found) {
        Ok([asset]) => Ok(asset.id),
        Err(found) => Err(format!("{text:?} means {} assets", found.len()).into()),
    }
}

/// Reads everything. `false`: something is not what was stored.
fn verify(cache: &BlockingCache, json: bool) -> Result<bool, Failure> {
    let (mut entries, mut damaged) = (0_u64, Vec::new());
    for asset in cache.assets()? {
        for info in cache.entries(&asset.id)? {
            let Some(entry) = cache.open(&asset.id, &info.path)? else {
                continue;
            };
            if !entry.verify(&asset.id, &info.path)? {
                damaged.push(format!("{}/{}", asset.id, info.path));
            }
            entries += 1;
        }
    }
    if json {
        println!("{}", json!({ "entries": entries, "damaged": damaged }));
    } else {
        for entry in &damaged {
            println!("damaged: {entry}");
        }
        println!("{entries} entries read, {} damaged", damaged.len());
    }
    Ok(damaged.is_empty())
}

/// Each command once, on a cache made up for it.
fn show() -> Result<ExitCode, Failure> {
    let folder = tempfile::tempdir()?;
    let cache = AssetCache::builder(folder.path()).open_blocking()?;
    for (n, name) in [
        "https://host/one.m3u8",
        "https://host/two.m3u8",
        "https://host/three.m3u8",
    ]
    .iter()
    .enumerate()
    {
        let track = AssetId::from_url(&url::Url::parse(name)?);
        for segment in 0..4 {
            let bytes = vec![7_u8; 100_000 * (n + 1)];
            cache.blocking().put_atomic(
                &track,
                &CachePath::parse(&format!("seg-{segment}.m4s"))?,
                bytes.into(),
            )?;
        }
    }
    futures_lite::future::block_on(cache.close());
    let script = [
        ("ls", Command::Ls),
        (
            "pin https://host/one.m3u8",
            Command::Pin("https://host/one.m3u8".into()),
        ),
        (
            "rm https://host/two.m3u8",
            Command::Rm("https://host/two.m3u8".into()),
        ),
        ("evict --to 1MiB", Command::Evict(1 << 20)),
        ("verify", Command::Verify),
        ("ls", Command::Ls),
        ("--json ls", Command::Ls),
    ];
    for (typed, command) in script {
        println!("\n$ cache_admin DIR {typed}");
        if command.run(folder.path(), typed.starts_with("--json"))? != ExitCode::SUCCESS {
            return Err(format!("{typed} failed").into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `15 GiB`, `300 KiB`, `12 B`: the unit that leaves two digits or more.
fn human(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 10 * 1024 {
            break;
        }
        (value, unit) = (value / 1024, larger);
    }
    format!("{value} {unit}")
}

/// `3 days`, `20 s`.
fn human_age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `1GiB`, `500MB`, `4096`.
fn size(text: &str) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text
        .get(digits.len()..)
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_str()
    {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        unit => return Err(format!("not a unit: {unit:?}").into()),
    };
    let number: u64 = digits.trim().parse()?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "more than there is".into())
}

/// An error and its causes, in one line.
fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // A transparent error has the text of its cause.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

struct Options;

impl Options {
    /// The root, what to do there, and whether to say it in JSON; `None` without arguments.
    fn parse() -> Result<Option<(String, Command, bool)>, Failure> {
        use lexopt::prelude::{Long, Short, Value, ValueExt};

        let (mut words, mut json, mut to) = (Vec::new(), false, None);
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("json") => json = true,
                Long("to") => to = Some(size(&arguments.value()?.string()?)?),
                Long("help") | Short('h') => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                Value(word) => words.push(word.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (root, command) = match (words.as_slice(), to) {
            ([], None) => return Ok(None),
            ([root, "ls"], None) => (root, Command::Ls),
            ([root, "pin", asset], None) => (root, Command::Pin((*asset).into())),
            ([root, "unpin", asset], None) => (root, Command::Unpin((*asset).into())),
            ([root, "rm", asset], None) => (root, Command::Rm((*asset).into())),
            ([root, "evict"], Some(to)) => (root, Command::Evict(to)),
            ([root, "verify"], None) => (root, Command::Verify),
            _ => return Err("no such command; --help lists them".into()),
        };
        Ok(Some(((*root).into(), command, json)))
    }
}
