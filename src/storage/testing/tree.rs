//! What stands on a fake disk at one moment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::time::SystemTime;

use super::history::{Action, Change};
use crate::storage::durable::{Kind, Meta};

#[derive(Clone)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) modified: SystemTime,
}

#[derive(Clone)]
pub(super) enum Content {
    File(Vec<u8>),
    Dir(BTreeMap<OsString, usize>),
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(Kind::Dir, SystemTime::UNIX_EPOCH)],
        }
    }
}

impl Node {
    pub(super) fn new(kind: Kind, modified: SystemTime) -> Self {
        let content = match kind {
            Kind::Dir => Content::Dir(BTreeMap::new()),
            _ => Content::File(Vec::new()),
        };
        Self { content, modified }
    }

    pub(super) fn names(&mut self) -> &mut BTreeMap<OsString, usize> {
        match &mut self.content {
            Content::Dir(names) => names,
            Content::File(_) => panic!("no directory"),
        }
    }

    pub(super) fn data(&mut self) -> &mut Vec<u8> {
        match &mut self.content {
            Content::File(data) => data,
            Content::Dir(_) => panic!("no file"),
        }
    }

    pub(super) fn meta(&self) -> Meta {
        let (kind, len) = match &self.content {
            Content::File(data) => (Kind::File, data.len() as u64),
            Content::Dir(_) => (Kind::Dir, 0),
        };
        Meta {
            kind,
            len,
            modified: Some(self.modified),
            links: 1,
        }
    }
}

impl Tree {
    pub(super) fn find(&self, path: &Path) -> io::Result<usize> {
        let mut at = 0;
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            match &self.nodes[at].content {
                Content::Dir(names) => at = *names.get(name).ok_or(ErrorKind::NotFound)?,
                Content::File(_) => return Err(ErrorKind::NotADirectory.into()),
            }
        }
        Ok(at)
    }

    /// The directory a path's last name is in, and that name.
    pub(super) fn parent<'a>(&self, path: &'a Path) -> io::Result<(usize, &'a OsStr)> {
        let dir = self.find(path.parent().unwrap())?;
        match self.nodes[dir].content {
            Content::Dir(_) => Ok((dir, path.file_name().unwrap())),
            Content::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn get(&self, dir: usize, name: &OsStr) -> Option<usize> {
        match &self.nodes[dir].content {
            Content::Dir(names) => names.get(name).copied(),
            Content::File(_) => None,
        }
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match &change.action {
            Action::Make {
                dir,
                name,
                node,
                kind,
            } => {
                if *node == self.nodes.len() {
                    self.nodes.push(Node::new(*kind, change.at));
                }
                self.nodes[*dir].names().insert(name.clone(), *node);
            }
            Action::Rename {
                from,
                old,
                to,
                new,
                node,
            } => {
                self.forget(*from, old, *node);
                self.nodes[*to].names().insert(new.clone(), *node);
            }
            Action::Unlink { dir, name, node } => self.forget(*dir, name, *node),
            Action::Write { node, offset, data } => {
                self.write(*node, *offset, data);
                self.nodes[*node].modified = change.at;
            }
            Action::Truncate { node, len } => {
                self.nodes[*node].data().resize(*len, 0);
                self.nodes[*node].modified = change.at;
            }
            Action::Sync { .. } | Action::FailedSync { .. } | Action::SyncDir { .. } => {}
        }
        for dir in change.dirs() {
            self.nodes[dir].modified = change.at;
        }
    }

    fn forget(&mut self, dir: usize, name: &OsStr, node: usize) {
        if self.get(dir, name) == Some(node) {
            self.nodes[dir].names().remove(name);
        }
    }

    pub(super) fn write(&mut self, node: usize, offset: usize, bytes: &[u8]) {
        let data = self.nodes[node].data();
        if data.len() < offset + bytes.len() {
            data.resize(offset + bytes.len(), 0);
        }
        data[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Bytes of all files that have a name, in whole units.
    pub(super) fn bytes(&self, at: usize, unit: u64) -> u64 {
        match &self.nodes[at].content {
            Content::File(data) => (data.len() as u64).next_multiple_of(unit),
            Content::Dir(names) => names.values().map(|&node| self.bytes(node, unit)).sum(),
        }
    }

    pub(super) fn files(&self, at: usize, path: &str, found: &mut Vec<String>) {
        match &self.nodes[at].content {
            Content::File(_) => found.push(path.to_owned()),
            Content::Dir(names) => {
                for (name, &node) in names {
                    self.files(node, &format!("{path}/{}", name.display()), found);
                }
            }
        }
    }
}
