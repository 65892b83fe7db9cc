//! A process of its own that plays a tree until it is killed, and what another one makes of what it left.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use futures_lite::{StreamExt, future};
use kithara::cache::AssetCache;
use kithara::hls::HlsSource;
use kithara::net::Url;
use kithara::stream::{Stream, StreamParams};

use crate::served::RATE;
use crate::tree::{Play, Tape, assert_same, open, params};

const KILLED: &str = "KITHARA_PACKAGERS_KILLED";

/// Plays a track slowly, and says again and again how many bytes of it were given out.
#[test]
#[ignore = "the tests start it as a process of its own"]
fn child() {
    let Ok(task) = std::env::var(KILLED) else { return };
    let task: Vec<&str> = task.split('\n').collect();
    let [root, url, variant, language, rate] = task[..] else {
        panic!("{task:?}")
    };
    let language = (!language.is_empty()).then_some(language);
    let params = params(&open(Path::new(root)), variant.parse().unwrap(), language).header(RATE, rate);
    let mut stream = Stream::new(
        HlsSource::new(Url::parse(url).unwrap(), params),
        StreamParams::default(),
    );
    let mut bytes = 0;
    while let Some(chunk) = future::block_on(stream.next()) {
        bytes += chunk.unwrap().len();
        println!("{bytes}");
    }
}

/// Kills a process in the middle of the track. What it kept is right as far as it goes, and the next one plays all of it.
/// Returns that one's cache, opened anew.
pub(crate) fn assert_goes_on(
    play: &Play<'_>,
    url: &str,
    expected: &[u8],
    root: &Path,
    what: &str,
) -> AssetCache {
    let len = expected.len();
    // A sixteenth at once on each connection, and another one with every second: each segment takes more than one.
    let rate = len.div_ceil(16);
    let at = len / 8 * 3;
    let (variant, language) = (play.variant.to_string(), play.language.unwrap_or_default());
    let task = [
        &root.display().to_string(),
        url,
        &variant,
        language,
        &rate.to_string(),
    ]
    .join("\n");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--ignored", "--nocapture", "-q"])
        .env(KILLED, task)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut heard = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // What the harness says of itself is no number.
        heard = line.unwrap().parse().unwrap_or(heard);
        if heard >= at {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        (at..len).contains(&heard),
        "{what}: killed after {heard} of {len} bytes"
    );

    let cache = open(root);
    let kept = Tape::of(url, play.params(&cache), true);
    let is_miss = kept
        .error
        .as_ref()
        .is_some_and(kithara::hls::HlsError::is_offline_miss);
    assert!(
        is_miss,
        "{what}: killed after {heard} of {len} bytes, then offline: {:?}",
        kept.error
    );
    // The first segment was there seconds ago.
    assert!(!kept.bytes.is_empty(), "{what}: nothing kept of {heard} bytes");
    assert_same(&kept.bytes, &expected[..kept.bytes.len().min(len)], what);
    let all = Tape::of(url, play.params(&cache), false);
    assert!(all.error.is_none(), "{what}, after a kill: {:?}", all.error);
    assert_same(&all.bytes, expected, &format!("{what}, after a kill"));
    future::block_on(cache.closed());
    open(root)
}
