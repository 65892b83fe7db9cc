//! Modules import only from floors below their own, files do not import in circles, and three packages are each named in
//! one file.
//!
//! The check reads the sources as text: every `crate::…` path, and every `super::…` path that climbs out to the crate
//! root, must lead to a lower floor. Doc links count too: documentation that points up would tie the modules just so.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// Each module with its floor. A module missing here fails the test, so that a new one gets its floor on purpose.
const FLOORS: [(&str, u8); 12] = [
    ("rt", 0),
    ("violation", 0),
    ("stream", 1),
    ("storage", 1),
    ("net", 1),
    ("cache", 2),
    ("io", 2),
    ("media", 3),
    ("file", 4),
    ("hls", 4),
    ("decode", 5),
    ("offline", 5),
];

/// Packages that are discontinued or awkward, or a codec's (P8), each with the one file that may name it.
const CONFINED: [(&str, &str); 7] = [
    ("async_executor", "rt.rs"),
    ("async_std", "rt.rs"),
    ("bincode", "cache/codec.rs"),
    ("atomicwrites", "storage/durable.rs"),
    ("rubato", "decode/resample.rs"),
    ("opus_pure", "decode/codec/opus.rs"),
    ("syom", "decode/codec/he_aac.rs"),
];

fn floor(module: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, floor)| *floor)
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The top-level modules that `text` names, each with its line, when it stands `depth` modules below the crate root.
fn modules_named(text: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let climb = "super::".repeat(depth);
    for prefix in ["crate::", &climb] {
        for (at, _) in text.match_indices(prefix) {
            let line = text[..at].lines().count().max(1);
            found.extend(
                heads(&text[at + prefix.len()..])
                    .into_iter()
                    .map(|name| (line, name)),
            );
        }
    }
    found
}

/// The first names of the path or of the braced group of paths that `tail` begins with.
fn heads(tail: &str) -> Vec<String> {
    let mut named = Vec::new();
    match tail.strip_prefix('{') {
        // `use crate::{cache::Lease, net}`
        Some(group) => {
            let mut nesting = 0_usize;
            let mut start = true;
            let mut word = String::new();
            for symbol in group.chars() {
                match symbol {
                    '{' => nesting += 1,
                    '}' if nesting == 0 => break,
                    '}' => nesting -= 1,
                    ',' if nesting == 0 => {
                        named.push(std::mem::take(&mut word));
                        start = true;
                    }
                    _ if nesting == 0 && start && (symbol.is_alphanumeric() || symbol == '_') => {
                        word.push(symbol);
                    }
                    _ if !word.is_empty() => start = false,
                    _ => {}
                }
            }
            named.push(word);
        }
        None => named.push(
            tail.chars()
                .take_while(|symbol| symbol.is_alphanumeric() || *symbol == '_')
                .collect(),
        ),
    }
    named.retain(|name| !name.is_empty());
    named
}

fn upward_imports(relative: &Path, text: &str) -> Vec<String> {
    let mut parts: Vec<_> = relative.iter().map(|part| part.to_str().unwrap()).collect();
    let file = parts.pop().unwrap();
    let module = parts
        .first()
        .copied()
        .unwrap_or_else(|| file.trim_end_matches(".rs"));
    let depth = parts.len() + usize::from(file != "mod.rs");
    let Some(own) = floor(module) else {
        return vec![format!("src/{module} has no floor")];
    };
    modules_named(text, depth)
        .into_iter()
        .filter(|(_, named)| named != module && floor(named).is_some_and(|named_floor| named_floor >= own))
        .map(|(line, named)| format!("{}:{line} reaches up to `{named}`", relative.display()))
        .collect()
}

fn names_package(text: &str, package: &str) -> bool {
    text.match_indices(package).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + package.len()..].chars().next();
        let is_word =
            |symbol: Option<char>| symbol.is_some_and(|symbol| symbol.is_alphanumeric() || symbol == '_');
        !is_word(before) && !is_word(after)
    })
}

#[test]
fn no_module_imports_from_its_own_floor_or_above() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 5, "the sources were found");
    let faults: Vec<_> = files
        .iter()
        .filter(|path| **path != src.join("lib.rs"))
        .flat_map(|path| {
            upward_imports(
                path.strip_prefix(&src).unwrap(),
                &fs::read_to_string(path).unwrap(),
            )
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_confined_package_is_named_in_its_one_file() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    for (package, home) in CONFINED {
        let strays: Vec<_> = files
            .iter()
            .filter(|path| **path != src.join(home))
            .filter(|path| {
                // Words about a package are no use of it: only code counts.
                let text = fs::read_to_string(path).unwrap();
                let code: String = text
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .collect::<Vec<_>>()
                    .join("\n");
                names_package(&code, package)
            })
            .collect();
        assert!(
            strays.is_empty(),
            "`{package}` belongs in src/{home} alone, found in {strays:?}"
        );
    }
}

#[test]
fn the_check_sees_what_it_must_see() {
    let faults = |file: &str, line: &str| upward_imports(Path::new(file), line).len();
    assert_eq!(faults("stream/driver.rs", "use crate::cache::AssetCache;"), 1);
    assert_eq!(
        faults("stream/driver.rs", "use crate::storage::durable;"),
        1,
        "the same floor is not below"
    );
    assert_eq!(faults("stream/driver.rs", "use super::super::hls::HlsSource;"), 1);
    assert_eq!(faults("net/mod.rs", "use super::cache;"), 1);
    assert_eq!(
        faults(
            "net/pool.rs",
            "use crate::{rt, cache::{Lease, net}, stream as s};"
        ),
        2
    );
    assert_eq!(
        faults(
            "net/pool.rs",
            "use crate::{\n    cache::{Lease, net},\n    rt,\n    hls,\n};"
        ),
        2
    );
    assert_eq!(faults("unheard_of/mod.rs", ""), 1);
    assert_eq!(
        faults(
            "hls/source.rs",
            "use crate::{cache::AssetCache, net, stream::Source};"
        ),
        0
    );
    assert_eq!(
        faults(
            "hls/source.rs",
            "use super::playlist; use crate::hls::crypt; use crate::rt;"
        ),
        0
    );
    assert!(names_package("use bincode::config;", "bincode"));
    assert!(!names_package("use my_bincode_like::config;", "bincode"));
}
