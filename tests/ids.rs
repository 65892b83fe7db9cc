//! The ids of promises and faults mean something: what sources and tests cite stands in `docs/design.md` or
//! `docs/faults.md`, and what stands there is cited by a test.
//!
//! A promise is cited by its id alone (a letter of `SRNFHPC` and a number), a fault of table C as *fault C5*; the
//! other tables of faults have letters of their own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

const PROMISES: &str = "SRNFHPO";
const FAULTS: &str = "ABDEW";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Promise(String),
    Fault(String),
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The Rust files below `folder`, relative to the package; target folders of nested crates left out.
fn sources(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "ids.rs" {
                let relative = path.strip_prefix(root()).unwrap();
                found.push(relative.to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

/// The letter and number that `text` begins with, if that is a whole word of that form.
fn leading_id(text: &str) -> Option<(char, u32, usize)> {
    let letter = text.chars().next().filter(char::is_ascii_uppercase)?;
    let digits: String = text[1..].chars().take_while(char::is_ascii_digit).collect();
    let after = text[1 + digits.len()..].chars().next();
    if digits.is_empty() || digits.len() > 2 || after.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    Some((letter, digits.parse().ok()?, 1 + digits.len()))
}

/// The ids that a comment cites. `A1–A3` and `A1 to A3` stand for all three.
fn cited(comment: &str) -> BTreeSet<Id> {
    let mut ids = BTreeSet::new();
    // After the word, ids of table C are faults until something else than an id comes.
    let mut faults = false;
    let mut last: Option<(char, u32)> = None;
    let mut at = 0;
    while let Some(rest) = comment.get(at..).filter(|rest| !rest.is_empty()) {
        let before = comment[..at].chars().next_back();
        let starts_word = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '-');
        if starts_word && let Some((letter, number, len)) = leading_id(rest) {
            let from = match (last, before) {
                (Some((same, from)), _) if same == letter && spans(&comment[..at]) => from,
                _ => number,
            };
            for number in from.min(number)..=number {
                let id = format!("{letter}{number}");
                if FAULTS.contains(letter) || (letter == 'C' && faults) {
                    ids.insert(Id::Fault(id));
                } else if PROMISES.contains(letter) || letter == 'C' {
                    ids.insert(Id::Promise(id));
                }
            }
            last = Some((letter, number));
            at += len;
            continue;
        }
        let word: String = rest.chars().take_while(|c| c.is_alphabetic()).collect();
        if starts_word && !word.is_empty() {
            match word.to_ascii_lowercase().as_str() {
                "fault" | "faults" => faults = true,
                "and" | "to" | "or" => {}
                _ => (faults, last) = (false, None),
            }
            at += word.len();
            continue;
        }
        let symbol = rest.chars().next().unwrap();
        if !" ,–/".contains(symbol) {
            faults = false;
        }
        at += symbol.len_utf8();
    }
    ids
}

/// Whether the text before an id makes it the end of a range.
fn spans(before: &str) -> bool {
    before.ends_with('–') || before.ends_with(" to ")
}

/// The comments of a file, one a paragraph.
fn comments(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for line in text.lines() {
        match line.find("//") {
            // A URL is no comment.
            Some(at) if !line[..at].ends_with(':') => {
                let words = line[at..].trim_start_matches(['/', '!']).trim();
                let last = found.last_mut().unwrap();
                last.push_str(words);
                last.push('\n');
            }
            _ => found.push(String::new()),
        }
    }
    found.retain(|comment| !comment.is_empty());
    found
}

fn cited_in(files: &[String]) -> BTreeMap<Id, BTreeSet<String>> {
    let mut by_id: BTreeMap<Id, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        for id in comments(&read(file)).iter().flat_map(|comment| cited(comment)) {
            by_id.entry(id).or_default().insert(file.clone());
        }
    }
    by_id
}

/// The rows of a page's tables whose first cell is an id: the id and the other cells.
fn rows(page: &str) -> Vec<(String, Vec<String>)> {
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.trim_end_matches('|').split(" | ");
        let id = cells.next()?.trim().to_owned();
        leading_id(&id).filter(|(_, _, len)| *len == id.len())?;
        Some((id, cells.map(|cell| cell.trim().to_owned()).collect()))
    });
    rows.collect()
}

#[test]
fn what_is_cited_stands_on_a_page() {
    let promises: BTreeSet<_> = rows(&read("docs/design.md"))
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    let faults: BTreeSet<_> = rows(&read("docs/faults.md"))
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    let mut files = sources("src");
    files.extend(sources("tests"));
    let strays: Vec<_> = cited_in(&files)
        .into_iter()
        .filter(|(id, _)| match id {
            Id::Promise(id) => !promises.contains(id),
            Id::Fault(id) => !faults.contains(id),
        })
        .map(|(id, files)| format!("{id:?} in {files:?}"))
        .collect();
    assert!(strays.is_empty(), "{}", strays.join("\n"));
}

#[test]
fn a_promise_that_is_not_planned_is_cited_by_a_test() {
    // Tests stand in `tests`, and beside the code they test.
    let mut files = sources("tests");
    files.extend(sources("src"));
    let cited = cited_in(&files);
    let unproven: Vec<_> = rows(&read("docs/design.md"))
        .into_iter()
        .filter(|(_, cells)| !cells.iter().any(|cell| cell.starts_with("*Planned.*")))
        .filter(|(id, _)| !cited.contains_key(&Id::Promise(id.clone())))
        .map(|(id, _)| id)
        .collect();
    assert!(unproven.is_empty(), "no test cites {unproven:?}");
}

#[test]
fn a_fault_is_held_by_the_files_its_row_names() {
    let mut files = sources("tests");
    files.extend(sources("src"));
    let cited = cited_in(&files);
    let mut wrong = Vec::new();
    for (id, cells) in rows(&read("docs/faults.md")) {
        let held = cells.last().cloned().unwrap_or_default();
        let by = cited.get(&Id::Fault(id.clone()));
        if held == "open" {
            if let Some(files) = by {
                wrong.push(format!("{id} is called open, and cited by {files:?}"));
            }
            continue;
        }
        let named: Vec<_> = held.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            wrong.push(format!("{id} names no file"));
        }
        for file in named {
            if !by.is_some_and(|files| files.contains(file)) {
                wrong.push(format!("{id}: {file} does not cite it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the item that stands after a doc comment can be named by a user of the crate.
fn is_public(item: &str) -> bool {
    item.trim_start().starts_with("pub ")
}

/// The ids in the docs of public items and of public modules: lines of `text` and what they cite.
fn ids_in_public_docs(text: &str, public_module: bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut doc: Vec<(usize, &str)> = Vec::new();
    // Tests at a file's end are nobody's documentation.
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    for (number, line) in code.lines().enumerate() {
        let bare = line.trim_start();
        if let Some(words) = bare.strip_prefix("//!").filter(|_| public_module) {
            found.extend((!cited(words).is_empty()).then(|| (number + 1, words.to_owned())));
        } else if let Some(words) = bare.strip_prefix("///") {
            doc.push((number + 1, words));
        } else if !bare.starts_with("#[") {
            if is_public(line) {
                let with_id = doc.iter().filter(|(_, words)| !cited(words).is_empty());
                found.extend(with_id.map(|(number, words)| (*number, (*words).to_owned())));
            }
            doc.clear();
        }
    }
    found
}

#[test]
fn public_docs_cite_no_ids() {
    let mut found = Vec::new();
    for file in sources("src") {
        let parts = file.split('/').count();
        let public_module = parts == 2 || (parts == 3 && file.ends_with("/mod.rs"));
        for (line, words) in ids_in_public_docs(&read(&file), public_module && file != "src/rt.rs") {
            found.push(format!("{file}:{line}:{words}"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_checks_see_what_they_must_see() {
    let promise = |id: &str| Id::Promise(id.to_owned());
    let fault = |id: &str| Id::Fault(id.to_owned());
    let set = |ids: &[Id]| ids.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        cited("C2, faults C13, C20: a folder"),
        set(&[promise("C2"), fault("C13"), fault("C20")])
    );
    assert_eq!(cited("Fault C5. C6 holds"), set(&[fault("C5"), promise("C6")]));
    assert_eq!(
        cited("B1–B3, S4"),
        set(&[fault("B1"), fault("B2"), fault("B3"), promise("S4")])
    );
    assert_eq!(cited("A1 to A2"), set(&[fault("A1"), fault("A2")]));
    assert_eq!(cited("MP3, H264, E_2, x-C5"), set(&[]));
    assert_eq!(
        comments("let x = 1; // C5\n\n/// S1\n/// goes on\nlet url = \"http://S1\";").len(),
        2
    );
    let docs = "/// Holds C5.\n#[must_use]\npub fn a() {}\n/// C6.\nfn b() {}\n";
    assert_eq!(ids_in_public_docs(docs, false).len(), 1);
    assert_eq!(ids_in_public_docs("//! C5\n", true).len(), 1);
    assert_eq!(
        rows("| A1 | what | `x.rs` |\n| id | what |\n| -- | -- |").len(),
        1
    );
}
