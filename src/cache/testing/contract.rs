//! The contract of [`Store`], as checks that any store can be put through. Needs the feature `test-util`.
//!
//! ```
//! use kithara::cache::{MemoryStore, contract};
//!
//! contract::check(MemoryStore::new)?;
//! # Ok::<(), contract::Violation>(())
//! ```
//!
//! The suite checks what is absent, whole, listed, staged, removed and pinned, what an opened entry still reads, and eight
//! threads at once. What survives a restart is the store's own to test.

use std::fmt::Debug;
use std::thread;

use bytes::Bytes;

use crate::cache::error::CacheError;
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::store::{AssetInfo, Store};
pub use crate::violation::Violation;

/// Checks every rule, each on a store of its own, which is empty.
///
/// # Errors
///
/// The first rule that is broken.
pub fn check<S: Store>(mut make: impl FnMut() -> S) -> Result<(), Violation> {
    RULES.iter().try_for_each(|rule| keep(rule, &make()))
}

/// The rules, in the words that a [`Violation`] names them by.
pub fn rules() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(rule, _)| *rule)
}

/// Checks one of the [`rules`] on an empty store; one that is none of them is kept.
///
/// # Errors
///
/// The rule, if it is broken.
pub fn check_rule(rule: &str, store: &dyn Store) -> Result<(), Violation> {
    let mut of_this_name = RULES.iter().filter(|(name, _)| *name == rule);
    of_this_name.try_for_each(|rule| keep(rule, store))
}

fn keep((rule, test): &Rule, store: &dyn Store) -> Result<(), Violation> {
    test(store).map_err(|Broken(detail)| Violation { rule, detail })
}

/// What was seen instead.
struct Broken(String);

impl From<CacheError> for Broken {
    fn from(error: CacheError) -> Self {
        Self(format!("failed: {error}"))
    }
}

type Checked = Result<(), Broken>;

type Rule = (&'static str, fn(&dyn Store) -> Checked);

const RULES: [Rule; 9] = [
    ("what is absent is none", absent),
    ("a put is read back whole", put),
    ("entries and assets are listed", listed),
    ("a staged entry is invisible until its commit", staged),
    ("a staged entry that is dropped leaves nothing", dropped),
    ("what is open reads on", reads_on),
    ("a removed asset is gone at once", removed),
    ("a pin is kept until it is cleared", pinned),
    ("threads do not mix entries up", threads),
];

fn asset(name: &str) -> Result<AssetId, Broken> {
    Ok(AssetId::from_key(name)?)
}

fn path(name: &str) -> Result<CachePath, Broken> {
    Ok(CachePath::parse(name)?)
}

/// Bytes that differ from those around them, and from those of another seed.
fn bytes(len: usize, seed: u8) -> Bytes {
    let pattern = (0..=250_u8).map(|n| n.wrapping_mul(7).wrapping_add(seed));
    pattern.cycle().take(len).collect()
}

fn equal<T: PartialEq + Debug>(what: &str, seen: T, due: T) -> Checked {
    if seen == due {
        return Ok(());
    }
    // Cut off: an entry may be long.
    let shown = |value: T| format!("{value:?}").chars().take(200).collect::<String>();
    Err(Broken(format!(
        "{what}: {} where {} is due",
        shown(seen),
        shown(due)
    )))
}

/// Reads the entry in each way there is.
fn read(store: &dyn Store, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, Broken> {
    let whole = store.get(asset, path)?;
    let entry = store.open(asset, path)?;
    equal("exists", store.exists(asset, path)?, entry.is_some())?;
    if let Some(entry) = &entry {
        equal("verify", entry.verify(asset, path)?, true)?;
    }
    let opened = entry.map(|entry| entry.read()).transpose()?;
    equal("get and open", &whole, &opened)?;
    Ok(whole)
}

/// Files and bytes of an asset, as it tells them and as the list does.
fn figures(store: &dyn Store, asset: &AssetId) -> Result<Option<(u64, u64)>, Broken> {
    let figures = |info: AssetInfo| (info.files, info.bytes);
    let told = store.asset(asset)?.map(figures);
    let listed = store.list()?.into_iter().find(|info| info.id == *asset);
    equal("asset and list", told, listed.map(figures))?;
    Ok(told)
}

fn absent(store: &dyn Store) -> Checked {
    let (a, x) = (asset("a")?, path("x")?);
    equal("an entry", read(store, &a, &x)?, None)?;
    equal("an asset", figures(store, &a)?, None)?;
    equal("all assets", store.list()?.len(), 0)?;
    equal("entries", store.entries(&a)?.len(), 0)?;
    equal("a removal", store.remove(&a)?.is_some(), false)?;
    equal("an entry's removal", store.remove_entry(&a, &x)?, None)?;
    store.set_pinned(&a, false)?;
    equal("after an unpin", store.list()?.len(), 0)
}

fn put(store: &dyn Store) -> Checked {
    let (a, x) = (asset("a")?, path("x")?);
    let mut before = None;
    for (seed, len) in (0..).zip([1000, 10, 300_000, 0, 1, 70_000]) {
        let committed = store.put(&a, &x, bytes(len, seed))?;
        equal("bytes told", committed.bytes >= len as u64, true)?;
        equal("bytes replaced", committed.replaced, before)?;
        before = Some(committed.bytes);
        equal("the entry", read(store, &a, &x)?, Some(bytes(len, seed)))?;
        equal("figures", figures(store, &a)?, Some((1, committed.bytes)))?;
    }
    equal("bytes removed", store.remove_entry(&a, &x)?, before)?;
    equal("a removed entry", read(store, &a, &x)?, None)?;
    equal("an asset without entries", figures(store, &a)?, None)
}

fn listed(store: &dyn Store) -> Checked {
    let (a, b) = (asset("a")?, asset("b")?);
    let mut sum = 0;
    for n in 0..20 {
        sum += store
            .put(&a, &path(&format!("dir/Seg {n}.m4s"))?, bytes(100 * n, 1))?
            .bytes;
    }
    // A path may be the beginning of another.
    store.put(&b, &path("dir")?, bytes(5, 1))?;
    store.put(&b, &path("dir/x")?, bytes(6, 1))?;
    equal("figures", figures(store, &a)?, Some((20, sum)))?;
    equal("all assets", store.list()?.len(), 2)?;
    let mut entries: Vec<_> = store
        .entries(&b)?
        .into_iter()
        .map(|entry| (entry.path, entry.len))
        .collect();
    entries.sort();
    equal("entries", entries, vec![(path("dir")?, 5), (path("dir/x")?, 6)])?;
    equal("many entries", store.entries(&a)?.len(), 20)
}

fn staged(store: &dyn Store) -> Checked {
    let (a, x) = (asset("a")?, path("x")?);
    store.put(&a, &x, bytes(50, 1))?;
    let mut staged = store.stage(&a, &x)?;
    staged.write(&[bytes(30, 2), Bytes::new(), bytes(40_000, 3)])?;
    staged.write(&[])?;
    equal("before the commit", read(store, &a, &x)?, Some(bytes(50, 1)))?;
    staged.commit()?;
    let all = [bytes(30, 2), bytes(40_000, 3)].concat();
    equal("after the commit", read(store, &a, &x)?, Some(all.into()))
}

fn dropped(store: &dyn Store) -> Checked {
    let (a, x) = (asset("a")?, path("x")?);
    for old in [None, Some(bytes(50, 1))] {
        if let Some(old) = &old {
            store.put(&a, &x, old.clone())?;
        }
        let before = figures(store, &a)?;
        let mut staged = store.stage(&a, &x)?;
        staged.write(&[bytes(40_000, 3)])?;
        drop(staged);
        equal("the entry", read(store, &a, &x)?, old)?;
        equal("figures", figures(store, &a)?, before)?;
    }
    Ok(())
}

fn reads_on(store: &dyn Store) -> Checked {
    let (a, x) = (asset("a")?, path("x")?);
    let long = bytes(600_000, 1);
    let open = |due: &Bytes| {
        store.put(&a, &x, due.clone())?;
        let entry = store.open(&a, &x)?;
        entry.ok_or_else(|| Broken("a put entry cannot be opened".into()))
    };
    let (first, second) = (open(&long)?, open(&bytes(10, 2))?);
    if let Some(trash) = store.remove(&a)? {
        trash.empty()?;
    }
    equal("after the removal", read(store, &a, &x)?, None)?;
    equal("the replaced version", first.read()?, long.clone())?;
    equal(
        "its last bytes",
        first.read_at(599_990, 100)?,
        long.slice(599_990..),
    )?;
    equal("behind its end", first.read_at(600_000, 1)?.len(), 0)?;
    equal("the removed version", second.read()?, bytes(10, 2))
}

fn removed(store: &dyn Store) -> Checked {
    let (a, x) = (asset("a")?, path("x")?);
    for round in 0..3 {
        store.put(&a, &x, bytes(10_000, round))?;
        store.put(&a, &path("y")?, bytes(10_000, round))?;
        let trash = store.remove(&a)?;
        equal("a removal", trash.is_some(), true)?;
        equal("the entry", read(store, &a, &x)?, None)?;
        equal("the asset", figures(store, &a)?, None)?;
        // Made anew while its trash is still there, which is another's.
        store.put(&a, &x, bytes(7, 9))?;
        if let Some(trash) = trash {
            trash.empty()?;
        }
        equal("made anew", read(store, &a, &x)?, Some(bytes(7, 9)))?;
        equal("figures", figures(store, &a)?.map(|(files, _)| files), Some(1))?;
        equal("the second removal", store.remove(&a)?.is_some(), true)?;
    }
    Ok(())
}

fn pinned(store: &dyn Store) -> Checked {
    let (bare, full) = (asset("bare")?, asset("full")?);
    match store.set_pinned(&bare, true) {
        Err(CacheError::NotSupported { .. }) => return Ok(()),
        set => set?,
    }
    store.set_pinned(&bare, true)?;
    store.put(&full, &path("x")?, bytes(9, 1))?;
    store.set_pinned(&full, true)?;
    let pin = |asset: &AssetId| -> Result<_, Broken> {
        Ok(store.asset(asset)?.map(|info| (info.files, info.pinned)))
    };
    equal("without entries", pin(&bare)?, Some((0, true)))?;
    equal("with an entry", pin(&full)?, Some((1, true)))?;
    store.set_pinned(&bare, false)?;
    store.set_pinned(&full, false)?;
    store.set_pinned(&full, false)?;
    equal("cleared, without entries", pin(&bare)?, None)?;
    equal("cleared, with an entry", pin(&full)?, Some((1, false)))
}

/// What one of several threads does: it puts and reads entries that the others put and read too.
fn thread(store: &dyn Store, seed: u8) -> Checked {
    for n in 0..40_u8 {
        let (a, x) = (
            asset(&format!("asset {}", n % 3))?,
            path(&format!("entry-{}", n % 5))?,
        );
        store.put(&a, &x, bytes(usize::from(n) * 10 + 1, seed))?;
        // Opened once: another thread may replace it between two reads.
        let entry = store.get(&a, &x)?.unwrap_or_default();
        let first = entry.first().copied();
        equal("an entry", &entry, &bytes(entry.len(), first.unwrap_or(0)))?;
        equal("an entry is there", first.is_some(), true)?;
    }
    Ok(())
}

fn threads(store: &dyn Store) -> Checked {
    let all: Vec<Checked> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|seed| scope.spawn(move || thread(store, seed)))
            .collect();
        let ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|ended| ended.unwrap_or_else(|_| Err(Broken("a thread panicked".into()))))
            .collect()
    });
    all.into_iter().collect::<Checked>()?;
    for n in 0..3 {
        let a = asset(&format!("asset {n}"))?;
        let entries = store.entries(&a)?;
        for entry in &entries {
            let len = read(store, &a, &entry.path)?.map(|bytes| bytes.len() as u64);
            equal("a length", len, Some(entry.len))?;
        }
        equal("entries", entries.len(), 5)?;
        equal("files", figures(store, &a)?.map(|(files, _)| files), Some(5))?;
    }
    Ok(())
}
