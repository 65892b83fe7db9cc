//! Bytes that are shown before they are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use kithara::storage::testing::{Budget, with_budget};
use kithara::storage::{Found, StreamingOptions, StreamingResource, Waited};

type Resource = StreamingResource<std::io::Error>;

fn content(len: usize) -> Bytes {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn read(resource: &Resource, offset: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0xee; len];
    match resource.read_at(offset, &mut buffer).unwrap() {
        Found::Bytes(count) => buffer.truncate(count),
        other => panic!("{other:?} at {offset}"),
    }
    buffer
}

fn on_disk(dir: &tempfile::TempDir) -> Vec<u8> {
    std::fs::read(dir.path().join("track~part")).unwrap()
}

/// R2: shown at once. R3: recorded only when written.
#[test]
fn bytes_are_read_before_they_are_written_and_recorded_after() {
    let dir = tempfile::tempdir().unwrap();
    let resource: Resource = StreamingResource::open(dir.path().join("track")).unwrap();
    let bytes = content(3000);
    let mut writer = resource.writer().unwrap();
    assert_eq!(writer.put(0, &[bytes.slice(..1000)]).unwrap(), 1000);
    assert_eq!(writer.put(500, &[bytes.slice(500..2000)]).unwrap(), 1000);
    assert_eq!(
        resource.wait_range_blocking(0..2000).unwrap(),
        Waited::Present(0..2000)
    );
    assert_eq!(read(&resource, 0, 4000), bytes[..1000]);
    assert_eq!(read(&resource, 1500, 4000), bytes[1500..2000]);
    assert_eq!(on_disk(&dir), b"");
    assert!(!writer.is_flushed());
    writer.checkpoint().run().unwrap();
    drop((writer, resource));
    let resource: Resource = StreamingResource::open(dir.path().join("track")).unwrap();
    assert_eq!(resource.available(), []);

    let mut writer = resource.writer().unwrap();
    writer.put(0, &[bytes.slice(..2000)]).unwrap();
    writer.flush().unwrap();
    assert!(writer.is_flushed());
    assert_eq!(
        writer.memory_bytes(),
        0,
        "what is in the file is not kept in memory"
    );
    assert_eq!(on_disk(&dir), bytes[..2000]);
    assert_eq!(read(&resource, 0, 4000), bytes[..2000]);
    writer.put(2000, &[bytes.slice(2000..)]).unwrap();
    writer.commit(3000).unwrap();
    assert_eq!(std::fs::read(dir.path().join("track")).unwrap(), bytes);
    assert_eq!(read(&resource, 0, 4000), bytes);
}

/// Many bytes in a row are written without being asked for, at most a step late, and what jumps comes after them.
#[test]
fn long_runs_are_written_as_they_come() {
    let dir = tempfile::tempdir().unwrap();
    let resource: Resource = StreamingResource::open(dir.path().join("track")).unwrap();
    let bytes = content((3 << 20) - 1234);
    let mut writer = resource.writer().unwrap();
    let (chunk, mut at) = (100_003, 7);
    while at < bytes.len() {
        let end = bytes.len().min(at + chunk);
        writer.put(at as u64, &[bytes.slice(at..end)]).unwrap();
        assert!(
            writer.memory_bytes() < 1 << 20,
            "{} held at {end}",
            writer.memory_bytes()
        );
        at = end;
    }
    writer.put(0, &[bytes.slice(..7)]).unwrap();
    assert_eq!(on_disk(&dir).len(), bytes.len(), "the jump wrote what was left");
    writer.commit(bytes.len() as u64).unwrap();
    assert_eq!(std::fs::read(dir.path().join("track")).unwrap(), bytes);
}

/// Has room until it is told that there is none.
#[derive(Debug, Default)]
struct Room {
    full: AtomicBool,
}

impl Budget for Room {
    fn reserve(&self, _: u64) -> std::io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::QuotaExceeded.into());
        }
        Ok(())
    }

    fn release(&self, _: u64) {}
}

/// R4, C16: what the disk does not take is read from memory, and is never committed.
#[test]
fn what_cannot_be_written_stays_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let room = Arc::new(Room::default());
    let options = StreamingOptions::new(dir.path().join("track"));
    let resource: Resource = with_budget(options, room.clone()).open().unwrap();
    let bytes = content(2 << 20);
    let mut writer = resource.writer().unwrap();
    writer.put(0, &[bytes.slice(..1000)]).unwrap();
    writer.flush().unwrap();
    room.full.store(true, Ordering::Relaxed);
    assert!(writer.put(1000, &[bytes.slice(1000..)]).unwrap_err().is_full());
    assert!(writer.is_flushed(), "it is not tried again");
    let mut at = 0;
    while at < bytes.len() {
        let found = read(&resource, at as u64, 70_000);
        assert_eq!(found, bytes[at..at + found.len()]);
        at += found.len();
    }
    assert!(writer.commit(bytes.len() as u64).is_err());
    assert_eq!(on_disk(&dir), bytes[..1000]);
}

/// R2: whoever reads while bytes move from memory to the file never meets a wrong one, nor a hole.
#[test]
fn a_reader_beside_the_writing_never_reads_a_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    let resource: Resource = StreamingResource::open(dir.path().join("track")).unwrap();
    let bytes = content(24 << 20);
    let mut writer = resource.writer().unwrap();
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for lag in [0, 1000, 200_000_usize] {
            let (resource, bytes, done) = (&resource, &bytes, &done);
            scope.spawn(move || {
                let mut waiter = resource.reading(0);
                let mut buffer = vec![0; 90_001];
                let mut at = 0;
                while at < bytes.len() {
                    let ahead = bytes.len().min(at + 1 + lag) as u64;
                    waiter.wait_blocking(at as u64..ahead).unwrap();
                    let Found::Bytes(count) = waiter.read(at as u64, &mut buffer).unwrap() else {
                        panic!("a hole at {at}");
                    };
                    assert!(buffer[..count] == bytes[at..at + count], "a wrong byte at {at}");
                    at += count;
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        let mut at = 0;
        for round in 0.. {
            if at == bytes.len() {
                break;
            }
            let end = bytes.len().min(at + 1 + round * 7919 % 300_000);
            writer.put(at as u64, &[bytes.slice(at..end)]).unwrap();
            if round % 5 == 0 {
                writer.flush().unwrap();
            }
            at = end;
        }
    });
    assert_eq!(done.into_inner(), 3);
    writer.commit(bytes.len() as u64).unwrap();
}
