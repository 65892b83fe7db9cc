//! No more than two files import each other: what a file needs can be read without reading half the crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::rust_files;

/// Names of modules from the crate's root down.
type Module = Vec<String>;

/// The imports of one file, without comments, strings and inline tests.
struct Imports {
    /// The file, below `src`.
    file: String,
    /// Every path that starts at the crate, at a parent or at the file itself.
    paths: Vec<Module>,
    /// The names that `use` brings into the file, each with its path.
    names: Vec<(String, Module)>,
}

impl Imports {
    fn read(file: &str, text: &str) -> Self {
        let code = without_inline_modules(&without_words(text));
        let (mut paths, mut names, mut rest) = (Vec::new(), Vec::new(), String::new());
        let mut tail = code.as_str();
        while let Some(start) = find_word(tail, "use") {
            let (before, behind) = tail.split_at(start);
            let end = behind.find(';').unwrap_or(behind.len());
            rest.push_str(before);
            for (path, name) in use_tree(behind["use".len()..end].trim()) {
                paths.push(path.clone());
                names.extend(name.map(|name| (name, path)));
            }
            tail = &behind[end..];
        }
        rest.push_str(tail);
        // `pub(in crate::cache)` names who may see, not what is seen.
        let rest = rest.replace("in crate::", "");
        for head in ["crate::", "self::", "super::"] {
            for (at, _) in rest.match_indices(head) {
                let inside = rest[..at]
                    .chars()
                    .next_back()
                    .is_some_and(|symbol| is_word(symbol) || symbol == ':');
                if !inside {
                    let path: String = rest[at..]
                        .chars()
                        .take_while(|&symbol| is_word(symbol) || symbol == ':')
                        .collect();
                    paths.push(segments(&path));
                }
            }
        }
        Self {
            file: file.to_owned(),
            paths,
            names,
        }
    }
}

fn is_word(symbol: char) -> bool {
    symbol.is_alphanumeric() || symbol == '_'
}

fn segments(path: &str) -> Module {
    path.split("::")
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    text.match_indices(word).map(|(at, _)| at).find(|&at| {
        !text[..at].chars().next_back().is_some_and(is_word)
            && text[at + word.len()..].starts_with(char::is_whitespace)
    })
}

/// `text` without its comments and with empty strings.
fn without_words(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let mut quoted = false;
        let mut symbols = line.chars().peekable();
        while let Some(symbol) = symbols.next() {
            match symbol {
                '\\' => drop(symbols.next()),
                // A quote as a character is no beginning of a string.
                '\'' if symbols.peek() == Some(&'"') => drop(symbols.next()),
                '"' => quoted = !quoted,
                '/' if !quoted && symbols.peek() == Some(&'/') => break,
                symbol if !quoted => code.push(symbol),
                _ => {}
            }
        }
        code.push('\n');
    }
    code
}

/// `code` without its inline modules: what tests import ties no files together, and nothing else stands inline here.
fn without_inline_modules(code: &str) -> String {
    let mut left = String::new();
    let mut tail = code;
    while let Some(start) = find_word(tail, "mod") {
        let (before, behind) = tail.split_at(start);
        left.push_str(before);
        let end = behind.find([';', '{']).unwrap_or(behind.len());
        let mut depth = 0_usize;
        let mut length = end;
        if behind[end..].starts_with('{') {
            for symbol in behind[end..].chars() {
                length += symbol.len_utf8();
                match symbol {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        }
        tail = &behind[length..];
    }
    left.push_str(tail);
    left
}

/// The paths that a `use` names, each with the name it has afterwards; `*` has none.
fn use_tree(tree: &str) -> Vec<(Module, Option<String>)> {
    if let Some((head, group)) = tree.split_once('{') {
        let head = segments(head);
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
        for (at, symbol) in group.char_indices().chain([(group.len(), ',')]) {
            match symbol {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    for (path, name) in use_tree(group[start..at].trim()) {
                        found.push((head.iter().cloned().chain(path).collect(), name));
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return found;
    }
    let (path, alias) = tree
        .split_once(" as ")
        .map_or((tree, None), |(path, alias)| (path, Some(alias)));
    let mut path = segments(path);
    if path.last().is_some_and(|name| name == "self" || name == "*") {
        path.pop();
    }
    if path.is_empty() {
        return Vec::new();
    }
    let name = alias.map_or_else(|| path.last().cloned(), |alias| Some(alias.trim().to_owned()));
    vec![(path, name.filter(|_| !tree.ends_with('*')))]
}

/// The files of a crate by their modules.
struct Files(BTreeMap<Module, Imports>);

impl Files {
    fn new<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let module = |file: &str| -> Module {
            let parts = file.trim_end_matches(".rs").split('/');
            let parts = parts.filter(|part| !matches!(*part, "mod" | "lib"));
            parts.map(str::to_owned).collect()
        };
        let texts = texts.into_iter();
        Self(
            texts
                .map(|(file, text)| (module(file), Imports::read(file, text)))
                .collect(),
        )
    }

    /// Where a path that stands in `module` begins, and what of it is left; `None` if it leads to another crate.
    fn base(&self, module: &Module, path: &[String]) -> Option<(Module, Module)> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some((Module::new(), rest.to_vec())),
            "self" => Some((module.clone(), rest.to_vec())),
            "super" => {
                let climbs = path.iter().take_while(|name| *name == "super").count();
                let base = module.get(..module.len().checked_sub(climbs)?)?;
                Some((base.to_vec(), path[climbs..].to_vec()))
            }
            _ => {
                let child: Module = module.iter().chain([first]).cloned().collect();
                self.0
                    .contains_key(&child)
                    .then(|| (module.clone(), path.to_vec()))
            }
        }
    }

    /// The module whose file defines what a path names: through modules, and through what they import and re-export.
    fn defined_in(
        &self,
        mut module: Module,
        path: &[String],
        trail: &mut BTreeSet<(Module, String)>,
    ) -> Option<Module> {
        for (at, name) in path.iter().enumerate() {
            let child: Module = module.iter().chain([name]).cloned().collect();
            if self.0.contains_key(&child) {
                module = child;
                continue;
            }
            if !trail.insert((module.clone(), name.clone())) {
                return Some(module);
            }
            let names = &self.0.get(&module)?.names;
            let Some((_, import)) = names.iter().find(|(imported, _)| imported == name) else {
                return Some(module);
            };
            let (base, mut rest) = self.base(&module, import)?;
            rest.extend_from_slice(&path[at + 1..]);
            return self.defined_in(base, &rest, trail);
        }
        Some(module)
    }

    fn graph(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut graph = BTreeMap::new();
        for (module, imports) in &self.0 {
            let targets = imports.paths.iter().filter_map(|path| {
                let (base, rest) = self.base(module, path)?;
                let target = self.defined_in(base, &rest, &mut BTreeSet::new())?;
                Some(self.0.get(&target)?.file.as_str())
            });
            let file = imports.file.as_str();
            graph.insert(file, targets.filter(|target| *target != file).collect());
        }
        graph
    }

    /// Files that import each other, round by round, more than two at once.
    fn circles(&self) -> Vec<Vec<&str>> {
        let graph = self.graph();
        let reached: BTreeMap<&str, BTreeSet<&str>> = graph
            .keys()
            .map(|&file| {
                let (mut seen, mut next) = (BTreeSet::new(), vec![file]);
                while let Some(file) = next.pop() {
                    next.extend(graph[file].iter().filter(|target| seen.insert(**target)));
                }
                (file, seen)
            })
            .collect();
        let circle = |file: &str| -> Vec<&str> {
            let others = reached[file].iter().copied();
            others.filter(|other| reached[other].contains(file)).collect()
        };
        let circles: BTreeSet<Vec<&str>> = graph.keys().map(|file| circle(file)).collect();
        circles.into_iter().filter(|circle| circle.len() > 2).collect()
    }
}

#[test]
fn no_more_than_two_files_import_each_other() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    rust_files(&src, &mut paths);
    let texts: Vec<_> = paths
        .iter()
        .map(|path| {
            let file = path.strip_prefix(&src).unwrap().to_str().unwrap();
            (file.replace('\\', "/"), fs::read_to_string(path).unwrap())
        })
        .collect();
    let files = Files::new(texts.iter().map(|(file, text)| (file.as_str(), text.as_str())));
    let circles = files.circles();
    assert!(circles.is_empty(), "circles: {circles:#?}");
}

#[test]
fn a_circle_is_seen_through_re_exports_and_not_in_tests_or_docs() {
    let circles = |files: &[(&str, &str)]| Files::new(files.iter().copied()).circles().len();
    let root = ("lib.rs", "mod a; pub use a::A;");
    let (b, c) = (
        ("b.rs", "use crate::c::{self, C};"),
        ("c/mod.rs", "use super::A;"),
    );
    assert_eq!(circles(&[root, ("a.rs", "use super::b::B as X;"), b, c]), 1);
    assert_eq!(circles(&[root, ("a.rs", "fn f() -> crate::b::B {}"), b, c]), 1);
    assert_eq!(
        circles(&[root, ("a.rs", "use super::c::C;"), b, c]),
        0,
        "two are allowed"
    );
    for harmless in [
        "// use super::b::B;",
        "/// [`B`](super::b::B)",
        "#[cfg(test)] mod tests { use super::super::b::B; }",
        "const A: &str = \"super::b::B\";",
        "pub(in crate::b) struct A;",
        "use b::B;",
    ] {
        assert_eq!(circles(&[root, ("a.rs", harmless), b, c]), 0, "{harmless}");
    }
}
