//! A reader beside a window of memory pieces that moves (R2, R4, fault B1): it reads the file's own bytes, or none.

use bytes::Bytes;
use loom::sync::Arc;
use loom::thread;

use super::file::NamedFile;
use super::status::Found;
use super::{memory, presence};

type Presence = presence::Presence<&'static str>;

/// A resource as far as a reader and a writer share it.
struct Scene {
    presence: Presence,
    memory: memory::MemoryPieces,
    file: NamedFile,
}

/// What the file has upstream.
const CONTENT: &[u8; 16] = b"abcdefghijklmnop";

impl Scene {
    fn new() -> Self {
        Self {
            presence: Presence::new(rangemap::RangeSet::new(), None, false),
            memory: memory::MemoryPieces::default(),
            file: NamedFile::new(),
        }
    }

    fn hold(&self, from: u64, to: u64) {
        self.memory.copy_in(&self.presence, from, part(from, to));
    }

    /// Shows before it writes, in two steps.
    fn put(&self, from: u64, to: u64) {
        let bytes = Bytes::from_static(part(from, to));
        self.memory
            .take_in(&self.presence, from..to, &[(from, bytes.clone())]);
        let (half, rest) = (from + 1, bytes.slice(1..));
        self.file.write_at(from, part(from, half));
        self.memory.shorten(from, (half, rest));
        self.file.write_at(half, part(half, to));
        self.memory.written(half);
    }

    fn write(&self, from: u64, to: u64) {
        self.file.write_at(from, part(from, to));
        self.presence.insert(from..to);
    }

    /// Reads as a reader does, and asserts that what it finds is right. How much it was.
    fn read(&self, offset: u64) -> usize {
        let mut buffer = [0xee; 16];
        let ahead = self.presence.ahead(offset, buffer.len() as u64);
        let found = self
            .memory
            .read(&self.presence, &self.file, ahead, offset, &mut buffer, false);
        match found.expect("a file that can be read") {
            Found::Bytes(count) => {
                let end = offset + count as u64;
                assert_eq!(&buffer[..count], part(offset, end), "{offset}..{end}");
                count
            }
            Found::Missing => 0,
            Found::End => panic!("no end was proven"),
        }
    }
}

fn part(from: u64, to: u64) -> &'static [u8] {
    &CONTENT[usize::try_from(from).expect("small")..usize::try_from(to).expect("small")]
}

fn model(
    write: impl Fn(&Scene) + Send + Sync + Clone + 'static,
    read: impl Fn(&Scene) + Send + Sync + 'static,
) {
    let mut builder = loom::model::Builder::new();
    // Two threads; more switches than this find nothing new and cost minutes.
    builder.preemption_bound = Some(4);
    builder.check(move || {
        let scene = Arc::new(Scene::new());
        let (write, writing) = (write.clone(), scene.clone());
        let writer = thread::spawn(move || write(&writing));
        read(&scene);
        writer.join().expect("a writer that ends");
        read(&scene);
    });
}

/// What is let go is missing, and never a hole of the file.
#[test]
fn a_piece_that_goes_is_read_whole_or_not_at_all() {
    model(
        |scene| {
            scene.hold(0, 4);
            scene.memory.free(&scene.presence, &[]);
        },
        |scene| {
            scene.read(1);
        },
    );
}

/// The same place held, let go, and then in the file.
#[test]
fn a_piece_may_come_back_in_the_file() {
    model(
        |scene| {
            scene.hold(4, 8);
            scene.memory.free(&scene.presence, &[]);
            scene.write(4, 8);
        },
        |scene| {
            scene.read(4);
        },
    );
}

/// A run of which one part is in the file and the next is held and goes.
#[test]
fn a_run_across_file_and_window_is_read_piece_by_piece() {
    model(
        |scene| {
            scene.write(0, 4);
            scene.hold(4, 8);
            scene.write(8, 12);
            scene.memory.free(&scene.presence, &[]);
        },
        |scene| {
            scene.read(2);
            scene.read(5);
        },
    );
}

/// R4: what is in the file stays readable whatever the window does.
#[test]
fn the_window_takes_nothing_of_the_file_with_it() {
    model(
        |scene| {
            scene.write(0, 4);
            scene.hold(4, 8);
            scene.memory.free(&scene.presence, &[]);
        },
        |scene| {
            let before = scene.presence.available().iter().any(|there| there.contains(&0));
            assert!(!before || scene.read(0) >= 4);
        },
    );
}

/// What moves from memory to the file is there all the time.
#[test]
fn a_piece_that_is_written_is_never_missing_again() {
    model(
        |scene| scene.put(4, 8),
        |scene| {
            let before = scene.presence.available().iter().any(|there| there.contains(&4));
            let read = scene.read(4);
            assert!(!before || read > 0);
        },
    );
}

/// Some moves to the file while other bytes go.
#[test]
fn a_piece_is_written_beside_a_window_that_moves() {
    model(
        |scene| {
            scene.hold(0, 4);
            scene.put(4, 8);
            scene.memory.free(&scene.presence, &[]);
        },
        |scene| {
            scene.read(2);
            scene.read(5);
        },
    );
}
