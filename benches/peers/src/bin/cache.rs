//! What the cache costs beside cacache, SQLite and a write by hand: the same bytes, the same disk, the same run.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml --bin cache` prints one line per bar:
//! `bar NAME figure=… limit=… ok|short`. Ratios are how many times faster the cache is; figures are medians over rounds
//! that alternate.

#[path = "../../../cache/measure.rs"]
#[allow(dead_code, reason = "the benches of the cache itself use the rest")]
mod measure;

use std::process::Command;

use cpu_time::ProcessTime;
use kithara::cache::Durability;
use rusqlite::{Connection, params};

use measure::{Limit, asset, bar, by_hand, content, disk, figure, medians, open, path};

const MAX_BYTES: u64 = 10 << 30;
const ROUNDS: usize = 200;

fn sqlite(file: &std::path::Path) -> Connection {
    let db = Connection::open(file).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.pragma_update(None, "synchronous", "FULL").unwrap();
    db.execute_batch(
        "CREATE TABLE entry (asset TEXT, path TEXT, bytes BLOB, PRIMARY KEY (asset, path)) WITHOUT ROWID",
    )
    .unwrap();
    db
}

/// Processor time of a round of work, system's included, in microseconds.
fn processor(rounds: usize, mut work: impl FnMut(usize)) -> f64 {
    let started = ProcessTime::now();
    for round in 0..rounds {
        work(round);
    }
    started.elapsed().as_secs_f64() * 1e6 / rounds as f64
}

fn main() {
    let dir = disk("peers");
    let full = open(&dir.join("full"), MAX_BYTES, Durability::Full);
    let ordered = open(&dir.join("ordered"), MAX_BYTES, Durability::Ordered);
    let (plain, theirs) = (dir.join("plain"), dir.join("cacache"));
    std::fs::create_dir(&plain).unwrap();
    let db = sqlite(&dir.join("sqlite"));

    for (size, name) in [(64 << 10, "64k"), (512 << 10, "512k")] {
        let bytes = content(size);
        let track = asset(size);
        // cacache keeps equal contents once: each of its is to be another.
        let distinct = |round: usize| {
            let mut bytes = bytes.to_vec();
            bytes[..8].copy_from_slice(&round.to_le_bytes());
            bytes
        };

        let mut next = 0;
        let mut ours = |_| {
            // Always a new entry, as the others' are.
            next += 1;
            full.blocking()
                .put_atomic(&track, &path(next), bytes.clone())
                .unwrap();
        };
        let mut hand = |round: usize| by_hand(&plain, &format!("{size}-{round}"), &bytes);
        let mut sql = |round: usize| {
            let (name, path) = (track.name(), path(round));
            let row = params![name, path.as_str(), &bytes[..]];
            db.execute("INSERT OR REPLACE INTO entry VALUES (?1, ?2, ?3)", row)
                .unwrap();
        };
        // What one leaves unwritten must not be written while another is timed: cacache never syncs. In turns with the
        // others, and not looked at.
        let mut settle = |_| drop(Command::new("sync").status().unwrap());
        let [put, other, _] = medians(ROUNDS, [&mut ours, &mut hand, &mut settle]);
        figure(&format!("put_full_{name}"), put, " us");
        bar(
            &format!("put_full_{name}_by_hand"),
            other / put,
            "x",
            Limit::AtLeast(0.9),
        );
        let [put, other, _] = medians(ROUNDS, [&mut ours, &mut sql, &mut settle]);
        if size == 512 << 10 {
            bar("put_full_512k_sqlite", other / put, "x", Limit::AtLeast(2.0));
        } else {
            figure("put_full_64k_sqlite", other / put, "x");
        }

        let put_ours = |round: usize| {
            ordered
                .blocking()
                .put_atomic(&track, &path(round), distinct(round).into())
                .unwrap()
        };
        let put_theirs = |round: usize| {
            drop(cacache::write_sync(&theirs, format!("{size}-{round}"), distinct(round)).unwrap())
        };
        let [ours, cacache, _] = medians(
            ROUNDS,
            [
                &mut |round| put_ours(round),
                &mut |round| put_theirs(round),
                &mut settle,
            ],
        );
        figure(&format!("put_ordered_{name}"), ours, " us");
        let (wall, processors) = (
            cacache / ours,
            processor(ROUNDS, |round| put_ours(round + ROUNDS))
                / processor(ROUNDS, |round| put_theirs(round + ROUNDS)),
        );
        if size == 512 << 10 {
            bar("put_ordered_512k_cacache", wall, "x", Limit::AtLeast(0.9));
            bar(
                "put_ordered_512k_cacache_processor",
                processors,
                "x",
                Limit::AtMost(0.5),
            );
        } else {
            figure("put_ordered_64k_cacache", wall, "x");
            figure("put_ordered_64k_cacache_processor", processors, "x");
        }

        // In pairs: what runs before leaves the allocator in one state or another.
        let paths: Vec<_> = (0..16).map(path).collect();
        let keys: Vec<_> = (0..16).map(|n| format!("{size}-{n}")).collect();
        let mut ours = |round: usize| {
            let read = ordered
                .blocking()
                .get(&track, &paths[round % 16])
                .unwrap()
                .unwrap();
            assert_eq!(read.len(), size);
        };
        let id = track.name();
        let files: Vec<_> = (0..16)
            .map(|n| dir.join(format!("ordered/assets/{}/{id}/v1+seg-{n}.m4s", &id[..2])))
            .collect();
        let mut hand = |round: usize| assert!(std::fs::read(&files[(round + 8) % 16]).unwrap().len() >= size);
        let mut theirs = |round: usize| {
            assert_eq!(
                cacache::read_sync(&theirs, &keys[(round + 8) % 16])
                    .unwrap()
                    .len(),
                size
            )
        };
        let mut select = db
            .prepare("SELECT bytes FROM entry WHERE asset = ?1 AND path = ?2")
            .unwrap();
        let mut sql = |round: usize| {
            let row = params![id, paths[round % 16].as_str()];
            let read: Vec<u8> = select.query_row(row, |row| row.get(0)).unwrap();
            assert_eq!(read.len(), size);
        };
        let [get, other] = medians(ROUNDS * 5, [&mut ours, &mut hand]);
        figure(&format!("get_{name}"), get, " us");
        bar(
            &format!("get_{name}_by_hand"),
            other / get,
            "x",
            Limit::AtLeast(0.9),
        );
        let [get, other] = medians(ROUNDS * 5, [&mut ours, &mut theirs]);
        bar(
            &format!("get_{name}_cacache"),
            other / get,
            "x",
            Limit::AtLeast(3.0),
        );
        let [get, other] = medians(ROUNDS * 5, [&mut ours, &mut sql]);
        figure(&format!("get_{name}_sqlite"), other / get, "x");
    }
    drop((full, ordered, db));
    let _ = std::fs::remove_dir_all(dir);
}
