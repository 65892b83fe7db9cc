//! The media in `tests/media`, what is expected of it, and a scale for directories.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The folder `tests/media` of this repository.
pub fn media() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("media")
}

/// `tests/media/expected.json`: what ffmpeg, openssl and sha256sum say of the media. `tests/media/README.md` tells its
/// layout.
///
/// # Panics
///
/// If the file is missing or is not JSON.
pub fn expected() -> serde_json::Value {
    let path = media().join("expected.json");
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The bytes of all files under `path` (their lengths, not their blocks), symbolic links not followed.
///
/// A file or folder that vanishes while being counted counts nothing, so this may run beside a cache that evicts.
///
/// # Panics
///
/// If a directory cannot be read for any other reason.
pub fn disk_bytes(path: impl AsRef<Path>) -> u64 {
    fn vanished<T>(path: &Path, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    fn count(path: &Path) -> u64 {
        let Some(metadata) = vanished(path, fs::symlink_metadata(path)) else {
            return 0;
        };
        if !metadata.is_dir() {
            return if metadata.is_file() { metadata.len() } else { 0 };
        }
        let Some(entries) = vanished(path, fs::read_dir(path)) else {
            return 0;
        };
        entries
            .filter_map(|entry| vanished(path, entry))
            .map(|entry| count(&entry.path()))
            .sum()
    }
    count(path.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_weighs_what_its_files_hold() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(disk_bytes(dir.path()), 0);
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("one"), [0; 10]).unwrap();
        fs::write(dir.path().join("a/b/two"), [0; 7]).unwrap();
        assert_eq!(disk_bytes(dir.path()), 17);
        assert_eq!(disk_bytes(dir.path().join("one")), 10);
        assert_eq!(disk_bytes(dir.path().join("absent")), 0);
    }
}
