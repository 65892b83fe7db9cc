//! The media in `tests/media`, what is expected of it, an encrypted copy, and a scale for directories.

use std::path::{Path, PathBuf};
use std::{fs, io};

use aes::Aes128;
use cbc::Encryptor;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};

use crate::Server;

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
    bytes_in_units(path.as_ref(), 1)
}

/// As [`disk_bytes`], each file in the whole units of 4 KiB that it takes on the disk.
///
/// # Panics
///
/// As [`disk_bytes`].
pub fn disk_room(path: impl AsRef<Path>) -> u64 {
    bytes_in_units(path.as_ref(), 4096)
}

fn bytes_in_units(path: &Path, unit: u64) -> u64 {
    fn vanished<T>(path: &Path, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    fn count(path: &Path, unit: u64) -> u64 {
        let Some(metadata) = vanished(path, fs::symlink_metadata(path)) else {
            return 0;
        };
        if !metadata.is_dir() {
            return if metadata.is_file() {
                metadata.len().next_multiple_of(unit)
            } else {
                0
            };
        }
        let Some(entries) = vanished(path, fs::read_dir(path)) else {
            return 0;
        };
        entries
            .filter_map(|entry| vanished(path, entry))
            .map(|entry| count(&entry.path(), unit))
            .sum()
    }
    count(path, unit)
}

/// Serves the tree of the Media Playlist at the path `playlist` of the test media a second time, as `<to>/playlist.m3u8`:
/// encrypted with AES-128, the Media Sequence Numbers as IVs (RFC 8216, 5.2).
///
/// # Errors
///
/// If a file of the tree cannot be read.
pub fn serve_encrypted(server: &Server, playlist: &str, to: &str) -> io::Result<()> {
    let path = media().join(playlist.trim_start_matches('/'));
    let text = fs::read_to_string(&path)?;
    let key = [0x5a; 16];
    let first = text
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
    let first: u128 = first.and_then(|number| number.parse().ok()).unwrap_or(0);
    let segments = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for (number, segment) in (first..).zip(segments) {
        let clear = fs::read(path.with_file_name(segment))?;
        server.serve_bytes(format!("{to}/{segment}"), encrypted(&clear, key, number));
    }
    let keyed = text.replacen("#EXTINF", "#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n#EXTINF", 1);
    server.serve_bytes(format!("{to}/key"), key);
    server.serve_bytes(format!("{to}/playlist.m3u8"), keyed.into_bytes());
    Ok(())
}

/// A segment encrypted with AES-128, its Media Sequence Number as IV (RFC 8216, 5.2).
pub fn encrypted(clear: &[u8], key: [u8; 16], number: u128) -> Vec<u8> {
    let cipher = Encryptor::<Aes128>::new(&key.into(), &number.to_be_bytes().into());
    cipher.encrypt_padded_vec::<Pkcs7>(clear)
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
