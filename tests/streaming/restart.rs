//! R3: what the next process finds. A "kill" here is a drop without any farewell, which is what a kill leaves of our
//! files; power cuts are simulated beside the code.

use kithara::storage::{Found, StreamingError, StreamingOptions, TAG_LIMIT};

use crate::stage::{Resource, Stage, content};

/// R3, fault B14: a file pre-sized at its final name showed zeros after a crash.
#[test]
fn b14_only_recorded_ranges_are_there_after_a_kill_and_never_under_the_final_name() {
    let stage = Stage::new();
    let bytes = content(10_000);
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    writer.set_len(10_000).unwrap();
    writer.set_tag(*b"\"etag-1\"").unwrap();
    writer.write_at(0, &bytes[..1000]).unwrap();
    writer.write_at(5000, &bytes[5000..6000]).unwrap();
    writer.checkpoint().run().unwrap();
    writer.write_at(1000, &bytes[1000..3000]).unwrap();
    writer.write_at(9000, &bytes[9000..]).unwrap();
    drop((writer, track));
    assert!(!stage.target().exists());

    let track = stage.open();
    assert_eq!(track.available(), [0..1000, 5000..6000]);
    assert_eq!(track.len(), Some(10_000));
    assert_eq!(track.tag(), b"\"etag-1\"");
    let on_disk = std::fs::metadata(stage.dir.path().join("track.flac~part")).unwrap();
    assert_eq!(
        on_disk.len(),
        6000,
        "what is not recorded takes no room behind it"
    );
    let mut buffer = vec![0; 10_000];
    assert_eq!(track.read_at(5000, &mut buffer).unwrap(), Found::Bytes(1000));
    assert_eq!(buffer[..1000], bytes[5000..6000]);
    assert_eq!(track.read_at(1000, &mut buffer).unwrap(), Found::Missing);

    let mut writer = track.writer().unwrap();
    assert_eq!(writer.write_at(0, &bytes).unwrap(), 8000);
    writer.commit(10_000).unwrap();
    assert_eq!(std::fs::read(stage.target()).unwrap(), bytes);
}

/// R3: a damaged, foreign or missing record, or a file shorter than its record, proves nothing.
#[test]
fn whatever_is_in_doubt_is_fetched_again() {
    type Harm = fn(&Stage);
    let harm: [(&str, Harm); 5] = [
        ("record gone", |stage| {
            std::fs::remove_file(record(stage)).unwrap();
        }),
        ("record cut", |stage| {
            let bytes = std::fs::read(record(stage)).unwrap();
            std::fs::write(record(stage), &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("record of lies", |stage| {
            std::fs::write(record(stage), [0xFF; 200]).unwrap();
        }),
        ("file cut", |stage| {
            let file = std::fs::OpenOptions::new().write(true).open(part(stage)).unwrap();
            file.set_len(999).unwrap();
        }),
        ("file gone", |stage| std::fs::remove_file(part(stage)).unwrap()),
    ];
    for (what, harm) in harm {
        let stage = Stage::new();
        let track = stage.open();
        let mut writer = track.writer().unwrap();
        writer.write_at(0, &content(1000)).unwrap();
        writer.checkpoint().run().unwrap();
        drop((writer, track));
        harm(&stage);
        let track = stage.open();
        assert!(track.available().is_empty(), "{what}");
        assert_eq!(track.len(), None, "{what}");
        assert_eq!(stage.names(), ["track.flac~part"], "{what}");
        drop(track);
        assert!(
            stage.open().available().is_empty(),
            "{what}: nor is it believed later"
        );
    }
}

fn part(stage: &Stage) -> std::path::PathBuf {
    stage.dir.path().join("track.flac~part")
}

fn record(stage: &Stage) -> std::path::PathBuf {
    stage.dir.path().join("track.flac~part~ranges")
}

/// R3: a checkpoint falls due by bytes, and covers what was written before it was taken.
#[test]
fn a_checkpoint_falls_due_after_so_many_new_bytes() {
    let stage = Stage::new();
    let bytes = content(1000);
    let track: Resource = StreamingOptions::new(stage.target())
        .checkpoint_every(100)
        .open()
        .unwrap();
    let mut writer = track.writer().unwrap();
    writer.write_at(0, &bytes[..99]).unwrap();
    assert!(writer.due_checkpoint().is_none());
    writer.write_at(0, &bytes[..99]).unwrap();
    assert!(writer.due_checkpoint().is_none(), "nothing was new");
    writer.write_at(99, &bytes[99..100]).unwrap();
    let due = writer.due_checkpoint().unwrap();
    assert!(writer.due_checkpoint().is_none());
    writer.write_at(100, &bytes[100..150]).unwrap();
    // On another thread, while the writer could go on; an older one run later changes nothing.
    let newer = writer.checkpoint();
    std::thread::spawn(move || newer.run()).join().unwrap().unwrap();
    due.run().unwrap();
    drop((writer, track));
    let track = stage.open();
    assert_eq!(track.available(), [0..150]);
}

#[test]
fn a_tag_has_a_limit() {
    let stage = Stage::new();
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    writer.set_tag(vec![7; TAG_LIMIT]).unwrap();
    assert!(matches!(
        writer.set_tag(vec![7; TAG_LIMIT + 1]),
        Err(StreamingError::TagTooLong { .. })
    ));
    writer.write_at(0, b"x").unwrap();
    writer.checkpoint().run().unwrap();
    drop((writer, track));
    assert_eq!(stage.open().tag(), [7; TAG_LIMIT]);
}

/// A file cut behind our back is an error; zero bytes there would be a false end.
#[test]
fn a_file_cut_behind_our_back_is_an_error_not_an_end() {
    let stage = Stage::new();
    let track = stage.open();
    track.writer().unwrap().write_at(0, &content(1000)).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(part(&stage))
        .unwrap()
        .set_len(10)
        .unwrap();
    let mut buffer = [0; 100];
    assert!(matches!(
        track.read_at(500, &mut buffer),
        Err(StreamingError::Cut { offset: 500, .. })
    ));
}

#[cfg(unix)]
#[test]
fn the_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::new();
    let track = stage.open();
    let mut writer = track.writer().unwrap();
    writer.write_at(0, b"x").unwrap();
    writer.checkpoint().run().unwrap();
    for file in [part(&stage), record(&stage)] {
        assert_eq!(
            std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
