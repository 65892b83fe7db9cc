//! What was done to a fake disk, and what a power cut leaves of it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::time::SystemTime;

use bytes::Bytes;

use super::tree::{Node, Tree};
use crate::storage::durable::Kind;

/// Unsynced data is lost or kept in pieces of this many bytes.
const PIECE: usize = 64;

#[derive(Clone, Debug)]
pub(super) enum Action {
    /// A new file or directory.
    Make {
        dir: usize,
        name: OsString,
        node: usize,
        kind: Kind,
    },
    Rename {
        from: usize,
        old: OsString,
        to: usize,
        new: OsString,
    },
    Unlink {
        dir: usize,
        name: OsString,
    },
    Write {
        node: usize,
        offset: usize,
        data: Bytes,
    },
    Truncate {
        node: usize,
        len: usize,
    },
    Sync {
        node: usize,
    },
    /// A sync that failed: the kernel takes the data for written all the same, so that a later one does not write it.
    FailedSync {
        node: usize,
    },
    SyncDir {
        dir: usize,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) action: Action,
    pub(super) at: SystemTime,
}

impl Change {
    /// The directories whose names it changes.
    pub(super) fn dirs(&self) -> impl Iterator<Item = usize> + use<> {
        let (a, b) = match self.action {
            Action::Make { dir, .. } | Action::Unlink { dir, .. } => (Some(dir), None),
            Action::Rename { from, to, .. } => (Some(from), Some(to)),
            _ => (None, None),
        };
        a.into_iter().chain(b)
    }
}

/// What a machine could find that lost its power after these changes.
pub(super) fn power_cut(base: &Tree, changes: &[Change], dice: &mut Dice) -> Tree {
    // A journaling file system keeps all renames in one order; the standard promises no order between directories.
    let one_order = dice.coin(3);
    let durable = durable(changes, one_order);
    let luck = [0, 1, 5, 9, 10][usize::try_from(dice.below(5)).unwrap()];
    let mut tree = base.clone();
    // Every file and directory has a node, also one that no name leads to.
    for change in changes {
        if let Action::Make { kind, .. } = change.action {
            tree.nodes.push(Node::new(kind, change.at));
        }
    }
    let mut lost = HashSet::new();
    let mut all_lost = false;
    for (change, &durable) in changes.iter().zip(&durable) {
        if change.dirs().next().is_none() {
            continue;
        }
        let kept = durable
            || !(one_order && all_lost || change.dirs().any(|dir| lost.contains(&dir))) && dice.coin(luck);
        if kept {
            tree.apply(change);
        } else {
            all_lost = true;
            lost.extend(change.dirs());
        }
    }
    let luck = [0, 1, 5, 9, 10][usize::try_from(dice.below(5)).unwrap()];
    for (change, &durable) in changes.iter().zip(&durable) {
        match &change.action {
            Action::Write { node, offset, data } => {
                if durable {
                    tree.write(*node, *offset, data);
                    continue;
                }
                for (n, piece) in data.chunks(PIECE).enumerate() {
                    let offset = offset + n * PIECE;
                    if dice.coin(luck) {
                        tree.write(*node, offset, piece);
                    } else if dice.coin(3) {
                        // The length is recorded, the data is not.
                        tree.write(*node, offset, &vec![0; piece.len()]);
                    }
                }
                tree.nodes[*node].modified = change.at;
            }
            Action::Truncate { node, len } if durable || dice.coin(luck) => {
                tree.nodes[*node].data().resize(*len, 0);
            }
            _ => {}
        }
    }
    tree
}

/// Which changes no power cut can take back.
fn durable(changes: &[Change], one_order: bool) -> Vec<bool> {
    let mut durable = vec![false; changes.len()];
    let mut given_up = vec![false; changes.len()];
    for (at, change) in changes.iter().enumerate() {
        match change.action {
            Action::Sync { node: synced } | Action::FailedSync { node: synced } => {
                let failed = matches!(change.action, Action::FailedSync { .. });
                for (before, earlier) in changes[..at].iter().enumerate() {
                    if let Action::Write { node, .. } | Action::Truncate { node, .. } = earlier.action
                        && node == synced
                    {
                        if failed {
                            given_up[before] |= !durable[before];
                        } else {
                            durable[before] |= !given_up[before];
                        }
                    }
                }
            }
            Action::SyncDir { dir } => {
                let mut dirs = HashSet::from([dir]);
                for (before, earlier) in changes[..at].iter().enumerate().rev() {
                    if earlier.dirs().any(|dir| one_order || dirs.contains(&dir)) {
                        durable[before] = true;
                        dirs.extend(earlier.dirs());
                    }
                }
            }
            _ => {}
        }
    }
    durable
}

/// A small generator of random numbers whose seed says what was drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    /// True `tenths` times of ten.
    pub(crate) fn coin(&mut self, tenths: u64) -> bool {
        self.below(10) < tenths
    }
}
