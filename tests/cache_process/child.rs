//! The child: this test binary, started again to play one scene.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scene::{SCENES, Scene, asset, close, content, open, path, prepare};

const SCENE: &str = "KITHARA_SCENE";
const ROOT: &str = "KITHARA_ROOT";
/// A path that is asked for and never there, so that it shows in the trace.
pub(crate) const BEGIN: &str = "kithara-scene-begins";
pub(crate) const END: &str = "kithara-scene-ends";
/// Enough calls that the main thread, which starts the test's, never makes as many.
const AHEAD: usize = 80;

/// The command that plays a scene on a root.
pub(crate) fn command(scene: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "child::child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
            "-q",
        ])
        .env(SCENE, scene)
        .env(ROOT, root)
        .env_remove("RUST_BACKTRACE");
    command
}

/// Injected faults count the calls of each thread. This one's are to be out of reach of the others'.
fn get_ahead() {
    for _ in 0..AHEAD {
        let mut file = File::options().read(true).write(true).open("/dev/null").unwrap();
        file.write_all(b"x").unwrap();
        let _ = file.read(&mut [0]).unwrap();
        file.metadata().unwrap();
        std::fs::metadata("/dev/null").unwrap();
    }
}

#[test]
#[ignore = "the tests beside it start it as a process of its own"]
fn child() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else {
        return;
    };
    let scene = std::env::var(SCENE).unwrap();
    get_ahead();
    if let Some(scene) = SCENES.into_iter().find(|known| format!("{known:?}") == scene) {
        play(scene, &root);
    } else {
        special(&scene, &root);
    }
}

fn play(scene: Scene, root: &Path) {
    if scene != Scene::Create {
        let cache = open(root).unwrap();
        // After its scan the maintenance thread makes no calls in between.
        futures_lite::future::block_on(cache.progress().finished());
        prepare(cache.blocking());
        cache.blocking().checkpoint().unwrap();
        if scene == Scene::Open {
            close(cache);
        } else {
            mark(BEGIN);
            let played = scene.play(&cache);
            mark(END);
            answer(&played);
            report(&cache);
            return;
        }
    }
    mark(BEGIN);
    let opened = open(root);
    let closed = opened
        .as_ref()
        .map(|cache| cache.blocking().get(&asset("new"), &path("a")));
    let result = match closed {
        Ok(Ok(_)) => "ok".to_owned(),
        Ok(Err(error)) => format!("error {error:?}"),
        Err(error) => format!("error {error:?}"),
    };
    drop(opened);
    mark(END);
    println!("\nplayed {result}");
}

/// What the process itself believes when it goes on after an error.
fn report(cache: &kithara::cache::AssetCache) {
    let cache = cache.blocking();
    // Tries again what could not be done.
    let _ = cache.checkpoint();
    let stats = cache.stats();
    // Twice: the fault may come only now.
    let read =
        || matches!(cache.get(&asset("kept"), &path("b")), Ok(Some(bytes)) if bytes == content(1, 40_000));
    let readable = read() || read();
    // What is on disk the parent measures: here looking could fail too.
    match stats {
        Ok(stats) => println!("\naccounts {} {}", stats.asset_bytes, stats.bytes),
        Err(error) => println!("\nno accounts {error:?}"),
    }
    println!("\nreadable {readable}");
}

fn answer(played: &Result<(), kithara::cache::CacheError>) {
    match played {
        Ok(()) => println!("\nplayed ok"),
        Err(error) => println!("\nplayed error {error:?}"),
    }
}

fn mark(name: &str) {
    assert!(std::fs::metadata(name).is_err());
}

/// Children that need no trace.
fn special(scene: &str, root: &Path) {
    match scene {
        // Holds the lock until it is killed.
        "hold" => {
            let cache = open(root).unwrap();
            prepare(cache.blocking());
            let lease = cache.lease(&asset("old"));
            println!("\nholding");
            std::io::stdout().flush().unwrap();
            let _ = std::io::stdin().read(&mut [0]);
            drop(lease);
        }
        other => crate::machine::child(other, root),
    }
}
