//! Where bytes go, and when they are written.

use std::io;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::storage::StreamingResource;
use crate::storage::testing::{FakeDisk, Fault, Later};
use crate::storage::{Budget, StreamingOptions};

/// Counts what is reserved.
#[derive(Debug, Default)]
struct Asked(AtomicUsize);

impl Budget for Asked {
    fn reserve(&self, _: u64) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn release(&self, _: u64) {}
}

/// A sink whose reservations are counted.
fn sink() -> (tempfile::TempDir, Arc<Asked>, StreamingResource<FileError>, Sink) {
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(Asked::default());
    let budget = Arc::clone(&asked) as Arc<dyn Budget>;
    let options = StreamingOptions::new(dir.path().join("a")).budget(budget);
    let resource = options.open::<FileError>().unwrap();
    // What is told is not read here.
    let (events, _) = async_channel::unbounded();
    let sink = Sink::new(resource.writer().unwrap(), None, events, Arc::default());
    (dir, asked, resource, sink)
}

/// W65: a reservation may evict, and a write may wait for the disk.
#[test]
fn w65_a_drop_neither_reserves_nor_writes() {
    let (_dir, asked, resource, mut sink) = sink();
    (sink.bypassed, sink.resumable) = (false, true);
    sink.write(0, &[Bytes::from_static(b"not flushed yet")]).unwrap();
    assert!(!sink.is_flushed());
    drop(sink);
    assert_eq!(asked.0.load(Ordering::SeqCst), 0);
    let mut found = [0; 15];
    resource.read_at(0, &mut found).unwrap();
    assert_eq!(&found, b"not flushed yet", "R4");
    let waited = resource.wait_range_blocking(15..16).unwrap_err();
    assert!(matches!(waited.cause(), Some(FileError::Stopped)));
}

/// C11: a sync ahead of the commit counts as any other. The kernel would call the next one a success.
#[test]
fn c11_what_could_not_be_synced_ahead_is_not_committed() {
    let disk = FakeDisk::default();
    let options = StreamingOptions::new("/a").on_disk(Arc::new(disk.clone()));
    let resource = options.open::<FileError>().unwrap();
    let mut writer = resource.writer().unwrap();
    writer.write_at(0, &[1; 100]).unwrap();
    let calls = disk.calls();
    writer.sync_ahead()().unwrap();
    assert_eq!(disk.calls(), calls + 1);
    assert_eq!(disk.call_name(calls), "sync");
    writer.write_at(100, &[1; 100]).unwrap();
    disk.set_fault(Some(Fault {
        at: disk.calls(),
        later: Later::Work,
        error: 5,
    }));
    writer.sync_ahead()().unwrap_err();
    assert!(matches!(writer.commit(200), Err(StreamingError::SyncLost { .. })));
}

/// A reader that fetches its own bytes waits for them, and not for the disk.
#[test]
fn what_a_reading_thread_stores_is_written_by_another() {
    let (_dir, asked, resource, mut sink) = sink();
    sink.bypassed = false;
    let long = Bytes::from(vec![7; 3 << 20]);
    shared_work::as_reader(|| {
        sink.write(10 << 20, std::slice::from_ref(&long)).unwrap();
        // Elsewhere, and over what is there.
        sink.write(0, &[Bytes::from_static(b"first")]).unwrap();
        sink.write(9 << 20, std::slice::from_ref(&long)).unwrap();
    });
    assert_eq!(asked.0.load(Ordering::SeqCst), 0);
    assert_eq!(resource.available(), [0..5, 9 << 20..13 << 20]);
    assert!(!sink.is_flushed());
    sink.flush();
    assert!(sink.is_flushed() && !sink.bypassed);
    assert_eq!(asked.0.load(Ordering::SeqCst), 3, "a run each");
    assert_eq!(sink.writer().unwrap().memory_bytes(), 0);
    let mut found = vec![0; 4 << 20];
    let mut at = 0;
    while at < found.len() {
        let crate::storage::Found::Bytes(read) =
            resource.read_at((9 << 20) + at as u64, &mut found[at..]).unwrap()
        else {
            panic!("present at {at}");
        };
        at += read;
    }
    assert!(found.iter().all(|byte| *byte == 7));
}

/// Without ranges a byte comes only once: it must stay until its reader has come to it. A paused reader keeps no more
/// than a window.
#[test]
fn what_comes_once_is_kept_for_the_foremost_reader() {
    let readers = [1000, 50];
    assert_eq!(ranges_to_keep(&readers, 100, 200, false), [900..1200, 0..250]);
    assert_eq!(ranges_to_keep(&readers, 100, 200, true), [900..u64::MAX, 0..250]);
    assert_eq!(ranges_to_keep(&[], 100, 200, true), []);
}
