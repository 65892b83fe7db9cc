//! Nicknames stay out: names that the glossary has replaced by the field's terms must not come back as a type, a
//! module, a function or a field of the folder they were replaced in.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Each folder of `src` with the words that name nothing there.
const REPLACED: [(&str, &[&str]); 5] = [
    (
        "file",
        &[
            "desk",
            "shelf",
            "pen",
            "fetch",
            "manner",
            "over",
            "plan",
            "scene",
            "step",
            "which",
            "stride",
            "lane",
            "lanes",
            "lines",
            "call_off",
            "join",
            "company",
            "dials",
            "invitation",
            "invite",
            "opening",
            "mend",
            "fresh",
            "said",
            "words",
        ],
    ),
    (
        "storage",
        &[
            "seat", "seats", "sit", "want", "place", "bell", "ring", "after", "held", "late", "alarm",
            "trouble",
        ],
    ),
    (
        "cache",
        &[
            "bin", "keeper", "look", "news", "settle", "fan", "fans", "promise", "stamp", "turn", "turns",
            "seat", "notice",
        ],
    ),
    ("net", &["raw", "long", "hang_up", "accept", "case", "alarm"]),
    ("hls", &["reading", "session", "writes", "piece", "pieces"]),
];

/// One name, several meanings: each may be the name of one type in all of `src`, but for those the glossary keeps.
const ONE_MEANING: [&str; 9] = [
    "Seat", "Turn", "Shared", "Session", "Lease", "Origin", "Lines", "Place", "Record",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Code without comments and string literals.
fn code(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        // Every other part of a line split at quotes is a literal.
        let bare: Vec<_> = line.split('"').step_by(2).collect();
        code.push_str(&bare.join(" "));
        code.push('\n');
    }
    code
}

fn words(line: &str) -> Vec<&str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.split(|c| !word(c)).filter(|word| !word.is_empty()).collect()
}

/// `CamelCase` as `snake_case`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (at, c) in name.char_indices() {
        if c.is_uppercase() && at > 0 && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

/// What a file defines: types, modules, functions and fields.
fn defined(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in code(text).lines() {
        let parts = words(line);
        for pair in parts.windows(2) {
            if ["struct", "enum", "trait", "type", "mod", "fn"].contains(&pair[0]) {
                names.push(pair[1].to_owned());
            }
        }
        // A field stands alone on its line: a visibility, a name, a colon.
        let line = line.trim();
        let field = line
            .strip_prefix("pub(super) ")
            .or_else(|| line.strip_prefix("pub(crate) "))
            .or_else(|| line.strip_prefix("pub "))
            .unwrap_or(line);
        if let Some((name, rest)) = field.split_once(": ")
            && line.ends_with(',')
            && words(name) == [name]
            && !rest.is_empty()
        {
            names.push(name.to_owned());
        }
    }
    names
}

fn types(text: &str) -> Vec<String> {
    let code = code(text);
    let pairs = code.lines().flat_map(|line| {
        let parts = words(line);
        let pairs: Vec<_> = parts
            .windows(2)
            .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
            .collect();
        pairs
    });
    pairs
        .filter(|(keyword, _)| ["struct", "enum", "trait", "type"].contains(&keyword.as_str()))
        .map(|(_, name)| name)
        .collect()
}

#[test]
fn replaced_names_define_nothing() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for (folder, replaced) in REPLACED {
        for path in sources(&src.join(folder)) {
            let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let mut names = defined(&fs::read_to_string(&path).unwrap());
            names.push(file);
            for name in names.iter().map(|name| snake(name)) {
                if replaced.contains(&name.as_str()) {
                    found.push(format!("{}: {name}", path.strip_prefix(&src).unwrap().display()));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn one_name_is_one_type() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found: Vec<(String, String)> = Vec::new();
    for path in sources(&src) {
        for name in types(&fs::read_to_string(&path).unwrap()) {
            if ONE_MEANING.contains(&name.as_str()) {
                found.push((name, path.strip_prefix(&src).unwrap().display().to_string()));
            }
        }
    }
    found.sort();
    let twice: Vec<_> = found.windows(2).filter(|pair| pair[0].0 == pair[1].0).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn the_check_sees_what_it_must_see() {
    let text = "pub(super) struct Desk {\n    said: Words, // lane: no\n    text: \"pen: x\",\n}\nfn call_off() {}\n";
    let names = defined(text);
    assert_eq!(names, ["Desk", "said", "text", "call_off"]);
    assert_eq!(snake("HangUp"), "hang_up");
    assert_eq!(types("type Look<S> = fn();\nenum A {}"), ["Look", "A"]);
}
