//! What was done to a fake disk, and what a power cut leaves of it.

use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::tree::{Node, Tree};
use crate::storage::durable::Kind;

/// After this time a file system has written everything by itself: on Linux after 5 (ext4) to 30 seconds (XFS, btrfs).
const WRITTEN_BACK: Duration = Duration::from_secs(60);
/// Unsynced data is lost or kept in pieces of this many bytes.
const PIECE: usize = 64;

/// What a power cut takes of what was not synced.
pub(super) struct Losses {
    order: Order,
    /// How many tenths of the changes of names are kept, if what goes before them is.
    names: u64,
    /// How many tenths of the data are kept.
    data: u64,
}

/// In which order changes of names reach the disk: what is lost is the end of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// One for all of them, as a journaling file system has it.
    One,
    /// One for each directory.
    EachDir,
    /// None, as the standard has it.
    Any,
}

impl Losses {
    /// Any half of all.
    pub(super) const HALF: Self = Self {
        order: Order::Any,
        names: 5,
        data: 5,
    };

    pub(super) fn any(dice: &mut Dice) -> Self {
        let tenths = [0, 1, 5, 9, 10];
        Self {
            order: dice.pick([Order::One, Order::EachDir, Order::Any]),
            names: dice.pick(tenths),
            data: dice.pick(tenths),
        }
    }
}

/// A change of names is about one node, whatever else has the name once some changes are lost.
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
        node: usize,
    },
    Unlink {
        dir: usize,
        name: OsString,
        node: usize,
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
pub(super) fn power_cut(base: &Tree, changes: &[Change], losses: &Losses, dice: &mut Dice) -> Tree {
    let mut tree = base.clone();
    // Every file and directory has a node, also one that no name leads to.
    for change in changes {
        if let Action::Make { kind, .. } = change.action {
            tree.nodes.push(Node::new(kind, change.at));
        }
    }
    let durable = durable(changes, losses.order, tree.nodes.len());
    let mut lost = vec![false; tree.nodes.len()];
    let mut any_lost = false;
    for (change, &durable) in changes.iter().zip(&durable) {
        if change.dirs().next().is_none() {
            continue;
        }
        let after_lost = match losses.order {
            Order::One => any_lost,
            Order::EachDir => change.dirs().any(|dir| lost[dir]),
            Order::Any => false,
        };
        if durable || !after_lost && dice.coin(losses.names) {
            tree.apply(change);
        } else {
            any_lost = true;
            change.dirs().for_each(|dir| lost[dir] = true);
        }
    }
    for (change, &durable) in changes.iter().zip(&durable) {
        match &change.action {
            Action::Write { node, offset, data } => {
                if durable {
                    tree.write(*node, *offset, data);
                    continue;
                }
                for (n, piece) in data.chunks(PIECE).enumerate() {
                    let offset = offset + n * PIECE;
                    if dice.coin(losses.data) {
                        tree.write(*node, offset, piece);
                    } else if dice.coin(3) {
                        // The length is recorded, the data is not.
                        tree.write(*node, offset, &vec![0; piece.len()]);
                    }
                }
                tree.nodes[*node].modified = change.at;
            }
            Action::Truncate { node, len } if durable || dice.coin(losses.data) => {
                tree.nodes[*node].data().resize(*len, 0);
            }
            _ => {}
        }
    }
    tree
}

/// Which changes no power cut can take back.
fn durable(changes: &[Change], order: Order, nodes: usize) -> Vec<bool> {
    let cut_at = changes.last().map(|change| change.at);
    let old = |change: &Change| cut_at.is_some_and(|cut| change.at + WRITTEN_BACK < cut);
    let mut durable: Vec<bool> = changes.iter().map(old).collect();
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
                let mut dirs = vec![order == Order::One; nodes];
                dirs[dir] = true;
                for (before, earlier) in changes[..at].iter().enumerate().rev() {
                    if earlier.dirs().any(|dir| dirs[dir]) {
                        durable[before] = true;
                        if order != Order::Any {
                            earlier.dirs().for_each(|dir| dirs[dir] = true);
                        }
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
pub struct Dice(
    /// The seed, and then where the generator stands.
    pub u64,
);

impl Dice {
    /// Any number.
    pub fn roll(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        from[usize::try_from(self.below(N as u64)).unwrap()]
    }

    /// True `tenths` times of ten.
    pub fn coin(&mut self, tenths: u64) -> bool {
        self.below(10) < tenths
    }
}
