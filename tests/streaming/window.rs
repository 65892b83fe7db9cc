//! Bytes in memory instead of in the file.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kithara::storage::testing::has_freed_memory;
use kithara::storage::{Found, StreamingResource};

type Resource = StreamingResource<std::io::Error>;

fn read(resource: &Resource, offset: u64, len: usize) -> Result<Vec<u8>, Found> {
    let mut buffer = vec![0xee; len];
    match resource.read_at(offset, &mut buffer).unwrap() {
        Found::Bytes(count) => {
            buffer.truncate(count);
            Ok(buffer)
        }
        other => Err(other),
    }
}

/// R2, R4: held bytes and those of the file are one to a reader, and what was let go is missing, never zeros.
#[test]
fn held_bytes_are_read_like_others_until_they_are_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let resource: Resource = StreamingResource::open(dir.path().join("track")).unwrap();
    let mut writer = resource.writer().unwrap();
    writer.set_len(12).unwrap();
    writer.write_at(0, b"abcd").unwrap();
    writer.keep_in_memory(2, b"xxefgh").unwrap();
    writer.write_at(8, b"ij").unwrap();
    assert_eq!(resource.available(), [0..10]);
    assert_eq!(
        read(&resource, 0, 12).unwrap(),
        b"abcd",
        "the file's part of the run"
    );
    assert_eq!(read(&resource, 5, 12).unwrap(), b"fgh");
    assert_eq!(read(&resource, 8, 12).unwrap(), b"ij");
    assert_eq!(writer.memory_bytes(), 4);

    writer.free_memory(&[5..6]);
    assert_eq!(writer.memory_bytes(), 4, "near what is kept");
    assert!(!has_freed_memory(&resource));
    writer.free_memory(&[0..4, 8..12]);
    assert!(has_freed_memory(&resource));
    assert_eq!(resource.available(), [0..4, 8..10]);
    assert_eq!(read(&resource, 5, 12), Err(Found::Missing));
    assert_eq!(read(&resource, 0, 12).unwrap(), b"abcd");
    writer.write_at(4, b"EFGH").unwrap();
    assert_eq!(read(&resource, 4, 12).unwrap(), b"EFGHij");
}

/// What is held is not on the disk: it can be neither recorded nor committed.
#[test]
fn a_commit_of_held_bytes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("track");
    let resource: Resource = StreamingResource::open(&path).unwrap();
    let mut writer = resource.writer().unwrap();
    writer.write_at(0, b"ab").unwrap();
    writer.keep_in_memory(2, b"cd").unwrap();
    writer.checkpoint().run().unwrap();
    assert!(writer.commit(4).is_err());
    drop((writer, resource));
    assert!(!path.exists());
    let resource: Resource = StreamingResource::open(&path).unwrap();
    assert_eq!(resource.available(), [0..2]);
}

#[test]
fn a_resource_in_memory_has_no_files() {
    let resource: Resource = StreamingResource::in_memory("radio");
    let mut writer = resource.writer().unwrap();
    for at in 0..100_u64 {
        writer
            .keep_in_memory(at * 1000, &[u8::try_from(at).unwrap(); 1000])
            .unwrap();
        writer.free_memory(&[at.saturating_sub(3) * 1000..u64::MAX]);
        assert!(writer.memory_bytes() <= 5000);
    }
    assert_eq!(read(&resource, 99_500, 1000).unwrap(), [99; 500]);
    assert_eq!(read(&resource, 0, 1000), Err(Found::Missing));
    assert!(writer.write_at(200_000, b"x").is_err());
    writer.checkpoint().run().unwrap();
    writer.set_len(100_000).unwrap();
    assert_eq!(read(&resource, 100_000, 1), Err(Found::End));
    writer.discard(std::io::Error::other("over")).unwrap();
    assert_eq!(read(&resource, 99_999, 1).unwrap(), [99]);
}

/// A reader beside a window that moves under it reads right bytes or none.
#[test]
fn a_reader_beside_a_moving_window_never_reads_a_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    let resource: Resource = StreamingResource::open(dir.path().join("track")).unwrap();
    let mut writer = resource.writer().unwrap();
    let done = AtomicBool::new(false);
    // A busy machine may keep the readers waiting: the window moves until each of them has read something.
    let hits = [AtomicU32::new(0), AtomicU32::new(0)];
    let byte = |at: u64| u8::try_from(at / 16 % 251).unwrap() + 1;
    std::thread::scope(|scope| {
        for (start, hits) in (0_u64..).zip(&hits) {
            let (resource, done) = (resource.clone(), &done);
            scope.spawn(move || {
                let mut at = start * 7;
                while !done.load(Ordering::Relaxed) {
                    at = (at * 31 + 17) % 4096;
                    if let Ok(bytes) = read(&resource, at, 64) {
                        hits.fetch_add(1, Ordering::Relaxed);
                        for (i, found) in bytes.iter().enumerate() {
                            assert_eq!(*found, byte(at + i as u64), "at {at} + {i}");
                        }
                    }
                }
            });
        }
        let seen = || hits.iter().all(|hits| hits.load(Ordering::Relaxed) > 0);
        for round in (0_u64..).take_while(|round| *round < 3000 || !seen()) {
            let at = round * 48 % 4096;
            let bytes: Vec<u8> = (at..(at + 96).min(4096)).map(byte).collect();
            writer.keep_in_memory(at, &bytes).unwrap();
            writer.free_memory(&[at.saturating_sub(200)..at + 100]);
        }
        done.store(true, Ordering::Relaxed);
    });
}
