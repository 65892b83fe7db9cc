//! Power cuts (R3, faults B14 and C13), on a disk that forgets what was not synced.
//!
//! What is opened after a cut at any call must trust no byte that is not the one written, and must have kept what a
//! checkpoint or a commit promised.

mod disk;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;

use self::disk::FakeDisk;
use super::{Budget, Condition, Found, StreamingError, StreamingOptions, StreamingResource, Writer};

const LEN: usize = 64;
const VERSIONS: u8 = 15;
const TARGET: &str = "/track";
const FOOTER: [u8; 4] = *b"foot";

type Resource = StreamingResource<io::Error>;

/// The bytes of a version of the file: no two versions share one, and none is a hole's.
fn version(number: u8) -> Vec<u8> {
    (0..LEN)
        .map(|at| u8::try_from(at).unwrap() % 16 + 1 + number * 16)
        .collect()
}

fn open(disk: &FakeDisk) -> Result<Resource, StreamingError> {
    StreamingOptions::new(TARGET).disk(Arc::new(disk.clone())).open()
}

#[derive(Debug, Clone)]
enum Act {
    Write(Range<usize>),
    Put(Range<usize>),
    Flush,
    WriteAll,
    Checkpoint,
    Commit,
    NextVersion,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let range = (0..LEN, 1_usize..24).prop_map(|(start, len)| start..(start + len).min(LEN));
    prop_oneof![
        4 => range.clone().prop_map(Act::Write),
        3 => range.prop_map(Act::Put),
        1 => Just(Act::Flush),
        1 => Just(Act::WriteAll),
        3 => Just(Act::Checkpoint),
        2 => Just(Act::Commit),
        2 => Just(Act::NextVersion),
        1 => Just(Act::Restart),
    ]
}

/// What has been promised so far, and must be found after the cut.
#[derive(Default)]
struct Promises {
    /// A checkpoint that returned, of a version that has been neither discarded nor committed since.
    recorded: Option<(u8, Vec<Range<u64>>)>,
    /// A commit that returned.
    committed: Option<u8>,
}

/// Acts until the power goes, or the process is killed.
fn live(disk: &FakeDisk, acts: &[Act], promises: &mut Promises) -> Result<(), StreamingError> {
    let (mut track, mut writer, mut current) = resume(disk)?;
    for act in acts {
        match act {
            Act::Write(range) => {
                writer.write_at(range.start as u64, &version(current)[range.clone()])?;
            }
            Act::Put(range) => {
                let bytes = Bytes::copy_from_slice(&version(current)[range.clone()]);
                writer.put(range.start as u64, &[bytes])?;
            }
            Act::Flush => writer.flush()?,
            Act::WriteAll => {
                writer.write_at(0, &version(current))?;
            }
            Act::Checkpoint => {
                // What is shown and not written is not promised.
                let mut ranges = track.available();
                if !writer.is_flushed() {
                    ranges.clear();
                }
                writer.checkpoint().run()?;
                promises.recorded = Some((current, ranges));
            }
            Act::Commit if track.missing(0..LEN as u64).is_empty() => {
                // From here on the old or the new, until the call returns.
                *promises = Promises::default();
                writer.commit_with_footer(LEN as u64, |_| FOOTER)?;
                promises.committed = Some(current);
                drop((writer, track));
                (track, writer, current) = resume(disk)?;
            }
            Act::Commit => {}
            Act::NextVersion => {
                promises.recorded = None;
                writer.discard(io::Error::other("changed upstream"))?;
                drop(track);
                (track, writer, current) = resume(disk)?;
            }
            Act::Restart => {
                drop((writer, track));
                (track, writer, current) = resume(disk)?;
            }
        }
    }
    Ok(())
}

/// Opens what is there; a new one gets a version never seen before.
fn resume(disk: &FakeDisk) -> Result<(Resource, Writer<io::Error>, u8), StreamingError> {
    let track = open(disk)?;
    let mut writer = track.writer()?;
    let current = if let Some(tag) = track.tag().first() {
        *tag
    } else {
        assert!(track.available().is_empty());
        let mut platter = disk.platter();
        platter.versions = (platter.versions + 1) % VERSIONS;
        platter.versions
    };
    writer.set_tag([current])?;
    Ok((track, writer, current))
}

/// What is found after the cut is true, and what was promised is found.
fn verify(disk: &FakeDisk, promises: &Promises) {
    let target = disk.platter().names.get(Path::new(TARGET)).copied();
    let target = target.map(|inode| disk.platter().inodes[inode].live.clone());
    if let Some(bytes) = &target {
        let whole = |number| *bytes == [version(number), FOOTER.to_vec()].concat();
        assert!(
            (0..VERSIONS).any(whole),
            "a mixed or partial file under the final name"
        );
    }
    if let Some(number) = promises.committed {
        assert_eq!(target.unwrap(), [version(number), FOOTER.to_vec()].concat());
    }

    let track = open(disk).unwrap();
    let mut buffer = [0; LEN];
    for range in track.available() {
        let number = track.tag()[0];
        let len = usize::try_from(range.end - range.start).unwrap();
        assert_eq!(
            track.read_at(range.start, &mut buffer[..len]).unwrap(),
            Found::Bytes(len)
        );
        let from = usize::try_from(range.start).unwrap();
        assert_eq!(
            buffer[..len],
            version(number)[from..from + len],
            "version {number} at {range:?}"
        );
    }
    if let Some((number, ranges)) = &promises.recorded {
        assert_eq!(track.tag(), [*number]);
        for range in ranges {
            assert!(
                track.missing(range.clone()).is_empty(),
                "{range:?} was recorded and is gone"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// R3, B14, C13.
    #[test]
    fn after_a_power_cut_at_any_call_only_true_bytes_are_there(
        first in proptest::collection::vec(act(), 1..16),
        killed in 0_u32..150,
        second in proptest::collection::vec(act(), 1..16),
        cut in 0_u32..150,
        coins in any::<u64>(),
    ) {
        let disk = FakeDisk::default();
        let mut promises = Promises::default();
        // A killed process loses nothing that it had handed to the system; then the power goes.
        for (acts, calls) in [(first, killed), (second, cut)] {
            disk.platter().calls = Some(calls);
            if let Err(error) = live(&disk, &acts, &mut promises) {
                prop_assert!(matches!(error, StreamingError::Io { .. }), "{}", error);
            }
        }
        let after = disk.platter().after_power_cut(coins);
        let disk = FakeDisk::from(after);
        verify(&disk, &promises);
        // And once more, with the resource that was opened dropped without a word.
        let again = disk.platter().after_power_cut(coins.rotate_left(17));
        verify(&FakeDisk::from(again), &promises);
    }
}

/// R3: every call of two short lives, the first one killed, the second one cut off, each with some fates of what was
/// not synced. Random acts seldom meet the one call between a removal and its sync.
#[test]
fn a_record_is_never_believed_of_another_file() {
    use Act::{Checkpoint, Commit, NextVersion, Write, WriteAll};
    let lives: [(&[Act], &[Act]); 3] = [
        (
            &[Write(0..40), Checkpoint, NextVersion],
            &[Write(0..40), Checkpoint],
        ),
        (&[WriteAll, Checkpoint, Commit], &[Write(0..40), Checkpoint]),
        // Killed within the second checkpoint, the older record is only a lost rename away.
        (
            &[Write(0..20), Checkpoint, Write(20..40), Checkpoint],
            &[NextVersion, Write(0..40), Checkpoint],
        ),
    ];
    for (first, second) in lives {
        for (killed, cut) in (0..26).flat_map(|killed| (0..24).map(move |cut| (killed, cut))) {
            let disk = FakeDisk::default();
            let mut promises = Promises::default();
            for (acts, calls) in [(first, killed), (second, cut)] {
                disk.platter().calls = Some(calls);
                let _ = live(&disk, acts, &mut promises);
            }
            let platter = disk.platter().clone();
            for coins in 0..16_u64 {
                let after = platter.after_power_cut(coins.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                verify(&FakeDisk::from(after), &promises);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Purse(Mutex<u64>);

impl Budget for Purse {
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        *self.0.lock().unwrap() += bytes;
        Ok(())
    }

    fn release(&self, bytes: u64) {
        *self.0.lock().unwrap() -= bytes;
    }
}

/// What could not be written is given back, so that the owner's accounts stay true.
#[test]
fn a_budget_holds_what_is_present_after_a_failure_at_any_call() {
    for calls in 0..30 {
        let disk = FakeDisk::default();
        let purse = Arc::new(Purse::default());
        let options = StreamingOptions::new(TARGET)
            .disk(Arc::new(disk.clone()))
            .budget(purse.clone());
        let track: Resource = options.open().unwrap();
        let mut writer = track.writer().unwrap();
        disk.platter().calls = Some(calls);
        let lived = writer
            .write_at(8, &version(1)[8..24])
            .and_then(|_| writer.checkpoint().run())
            .and_then(|()| writer.write_at(0, &version(1)))
            .and_then(|_| writer.commit_with_footer(LEN as u64, |_| FOOTER));
        let committed = matches!(track.status().condition, Condition::Complete);
        assert!(lived.is_err() || committed);
        let footer = if committed { FOOTER.len() as u64 } else { 0 };
        assert_eq!(
            *purse.0.lock().unwrap(),
            track.stored_bytes() + footer,
            "after {calls} calls"
        );
    }
}

/// A failed sync is never asked again: the next one would say Ok of lost pages.
#[test]
fn after_a_failed_sync_nothing_more_is_recorded_or_committed() {
    let disk = FakeDisk::default();
    let track = open(&disk).unwrap();
    let mut writer = track.writer().unwrap();
    writer.write_at(0, &version(1)[..16]).unwrap();
    writer.checkpoint().run().unwrap();
    writer.write_at(16, &version(1)[16..]).unwrap();
    disk.platter().syncs_fail = true;
    assert!(matches!(
        writer.checkpoint().run(),
        Err(StreamingError::Io { action: "sync", .. })
    ));
    disk.platter().syncs_fail = false;
    assert!(matches!(
        writer.checkpoint().run(),
        Err(StreamingError::SyncLost { .. })
    ));
    assert!(matches!(
        writer.commit(LEN as u64),
        Err(StreamingError::SyncLost { .. })
    ));
    assert_eq!(
        track.read_at(16, &mut [0; 48]).unwrap(),
        Found::Bytes(48),
        "R4: readers go on"
    );
    drop((writer, track));

    let after = disk.platter().after_power_cut(0);
    let disk = FakeDisk::from(after);
    assert_eq!(
        open(&disk).unwrap().stored_bytes(),
        16,
        "what was recorded before is still true"
    );
}
