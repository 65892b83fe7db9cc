//! From partial to final: R3, R5, and the faults at the end of a download.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;

use kithara::storage::testing::{Budget, FakeDisk, Payload, commit_with_footer, with_budget};
use kithara::storage::{Condition, Found, StreamingError, StreamingOptions};

use crate::stage::{Reset, Resource, Stage, content};

/// Fault B13: dropping an unfinished writer committed the partial file.
#[test]
fn b13_a_dropped_writer_commits_nothing_and_can_be_followed() {
    let stage = Stage::new();
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    writer.set_len(10).unwrap();
    writer.write_at(0, b"01234").unwrap();
    drop(writer);
    assert!(!stage.target().exists());
    let mut next = track.writer().unwrap();
    assert!(matches!(next.commit(10), Err(StreamingError::Incomplete { missing, .. }) if missing == (5..10)));
    assert!(!stage.target().exists());
    next.write_at(5, b"56789").unwrap();
    next.commit(10).unwrap();
    assert_eq!(std::fs::read(stage.target()).unwrap(), b"0123456789");
}

/// Fault B13, the whole resource dropped.
#[test]
fn b13_a_dropped_resource_commits_nothing() {
    let stage = Stage::new();
    let track = stage.open();
    track.writer().unwrap().write_at(0, b"01234").unwrap();
    drop(track);
    assert!(!stage.target().exists());
}

/// Fault B15: a second commit panicked.
#[test]
fn b15_a_second_commit_is_a_typed_error() {
    let stage = Stage::new();
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    writer.write_at(0, b"all").unwrap();
    writer.commit(3).unwrap();
    assert!(matches!(writer.commit(3), Err(StreamingError::Committed { .. })));
    assert!(matches!(
        writer.write_at(0, b"x"),
        Err(StreamingError::Committed { .. })
    ));
    assert!(matches!(
        writer.discard(Reset(0)),
        Err(StreamingError::Committed { .. })
    ));
    assert!(matches!(track.writer(), Err(StreamingError::Committed { .. })));
    assert!(matches!(track.status().condition, Condition::Complete));
    assert_eq!(std::fs::read(stage.target()).unwrap(), b"all");
}

/// A fetcher that fails whatever it drops must not spoil what it has finished.
#[test]
fn a_failure_after_the_commit_changes_nothing() {
    let stage = Stage::new();
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    writer.write_at(0, b"all").unwrap();
    writer.commit(3).unwrap();
    writer.fail(Reset(1));
    assert!(matches!(track.status().condition, Condition::Complete));
    assert!(matches!(track.writer(), Err(StreamingError::Committed { .. })));
}

/// R3: one rename leaves the final name alone, and readers read on.
#[test]
fn a_commit_leaves_the_final_name_and_nothing_else() {
    let stage = Stage::new();
    let track = stage.open();
    let bytes = content(300_000);
    let mut writer = track.writer().unwrap();
    writer.write_at(150_000, &bytes[150_000..]).unwrap();
    writer.checkpoint().run().unwrap();
    assert_eq!(stage.names(), ["track.flac~part", "track.flac~part~ranges"]);
    writer.write_at(0, &bytes[..150_000]).unwrap();
    writer.commit(300_000).unwrap();
    assert_eq!(stage.names(), ["track.flac"]);
    assert_eq!(std::fs::read(stage.target()).unwrap(), bytes);
    let mut buffer = vec![0; 300_000];
    assert_eq!(track.read_at(0, &mut buffer).unwrap(), Found::Bytes(300_000));
    assert!(buffer == bytes);
}

#[test]
fn an_empty_resource_can_be_committed() {
    let stage = Stage::new();
    let track = stage.open();
    track.writer().unwrap().commit(0).unwrap();
    assert_eq!(std::fs::read(stage.target()).unwrap(), b"");
    assert_eq!(track.read_at(0, &mut [0]).unwrap(), Found::End);
    let again = StreamingOptions::new(stage.target())
        .open_finished::<Reset>(None)
        .unwrap();
    assert_eq!(again.len(), Some(0));
}

/// The seam for a cache's entries: a footer, made when all is known, that no reader sees.
#[test]
fn a_footer_follows_the_content_and_is_never_read() {
    let stage = Stage::new();
    let track = stage.open();
    let bytes = content(1000);
    let mut writer = track.writer().unwrap();
    for start in [900, 0, 500, 200, 700, 100] {
        let end = [100, 200, 500, 700, 900, 1000]
            .into_iter()
            .find(|end| *end > start)
            .unwrap();
        writer.write_at(start as u64, &bytes[start..end]).unwrap();
    }
    let mut told = None;
    commit_with_footer(&mut writer, 1000, |payload: Payload| {
        told = Some(payload);
        b"FOOT".to_vec()
    })
    .unwrap();
    let told = told.unwrap();
    assert_eq!((told.len, told.blocks), (1000, vec![crc32(&bytes)]));
    assert_eq!(
        std::fs::read(stage.target()).unwrap(),
        [&bytes[..], b"FOOT"].concat()
    );
    assert_eq!(track.read_at(1000, &mut [0; 8]).unwrap(), Found::End);

    let again = StreamingOptions::new(stage.target())
        .open_finished::<Reset>(Some(1000))
        .unwrap();
    let mut buffer = [0; 2000];
    assert_eq!(again.read_at(0, &mut buffer).unwrap(), Found::Bytes(1000));
    assert_eq!(again.read_at(1000, &mut buffer).unwrap(), Found::End);
    assert!(matches!(again.writer(), Err(StreamingError::Committed { .. })));
    assert!(matches!(
        StreamingOptions::new(stage.target()).open_finished::<Reset>(Some(1005)),
        Err(StreamingError::Cut { offset: 1004, .. })
    ));
}

/// Bit by bit, as RFC 1952 has it: not the code that is tested.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// R5, fault B12: a bogus length of 10^15 aborted the process.
#[test]
fn b12_an_announced_length_allocates_nothing() {
    let stage = Stage::new();
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    writer.set_len(1_000_000_000_000_000).unwrap();
    writer.write_at(0, &content(4096)).unwrap();
    writer.checkpoint().run().unwrap();
    let on_disk = std::fs::metadata(stage.dir.path().join("track.flac~part")).unwrap();
    assert_eq!(on_disk.len(), 4096);
    assert!(matches!(
        writer.commit(1_000_000_000_000_000),
        Err(StreamingError::Incomplete { .. })
    ));
    // Beyond any file, and beyond u64.
    assert!(matches!(
        writer.write_at(u64::MAX - 1, b"xyz"),
        Err(StreamingError::BeyondEnd { .. })
    ));
}

/// A resource that is given up for another version can be opened anew; who reads the old one reads on.
#[test]
fn a_discarded_resource_frees_its_names_and_keeps_its_readers() {
    let stage = Stage::new();
    let old = stage.open();
    let mut writer = old.writer().unwrap();
    writer.write_at(0, b"version one").unwrap();
    writer.checkpoint().run().unwrap();
    let late = writer.checkpoint();
    writer.discard(Reset(9)).unwrap();
    assert!(stage.names().is_empty());
    assert!(matches!(old.writer(), Err(StreamingError::Discarded { .. })));

    let new = stage.open();
    assert!(new.available().is_empty());
    new.writer().unwrap().write_at(0, b"v2").unwrap();
    late.run().unwrap();
    assert_eq!(
        stage.names(),
        ["track.flac~part"],
        "a late checkpoint of the old one writes no record"
    );
    let mut buffer = [0; 11];
    assert_eq!(old.read_at(0, &mut buffer).unwrap(), Found::Bytes(11));
    assert_eq!(&buffer, b"version one");
    assert!(old.wait_range_blocking(0..12).is_err());
}

/// A claim of the partial file: another resource on it would write over the same bytes.
#[test]
fn a_partial_file_belongs_to_one_resource() {
    let stage = Stage::new();
    let track = stage.open();
    assert!(matches!(
        Resource::open(stage.target()),
        Err(StreamingError::InUse { .. })
    ));
    drop(track);
    stage.open();
}

#[derive(Debug, Default)]
struct Purse(Mutex<(u64, u64)>);

impl Budget for Purse {
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut purse = self.0.lock().unwrap();
        if purse.0 + bytes > purse.1 {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "cache full"));
        }
        purse.0 += bytes;
        Ok(())
    }

    fn release(&self, bytes: u64) {
        self.0.lock().unwrap().0 -= bytes;
    }
}

/// The owner of the space knows of each byte before it is on the disk, and what is there already costs nothing.
#[test]
fn a_budget_is_asked_for_new_bytes_only_and_its_no_is_kept() {
    let purse = Arc::new(Purse(Mutex::new((0, 100))));
    // A disk that gives room in single bytes.
    let options = StreamingOptions::new("/track").disk(Arc::new(FakeDisk::default()));
    let track: Resource = with_budget(options, purse.clone()).open().unwrap();
    let bytes = content(200);
    let mut writer = track.writer().unwrap();
    writer.write_at(0, &bytes[..60]).unwrap();
    writer.write_at(0, &bytes[..80]).unwrap();
    assert_eq!(purse.0.lock().unwrap().0, 80);
    let full = writer.write_at(80, &bytes[80..]).unwrap_err();
    assert!(full.is_full(), "{full}");
    assert_eq!((purse.0.lock().unwrap().0, track.available()), (80, vec![0..80]));
    assert!(
        commit_with_footer(&mut writer, 80, |_| vec![0; 21])
            .unwrap_err()
            .is_full()
    );
    assert_eq!(purse.0.lock().unwrap().0, 80);
    commit_with_footer(&mut writer, 80, |_| vec![0; 20]).unwrap();
    assert_eq!(purse.0.lock().unwrap().0, 100);
}
