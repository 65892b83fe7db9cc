//! The fixture cannot rot: the files of `tests/media` still are what `expected.json` says, and stay small.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kithara_test_support::{disk_bytes, expected, media};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The bytes an entry of `expected.json` stands for, as they lie on the disk.
fn wire(entry: &Value) -> Vec<u8> {
    let path = media().join(entry["path"].as_str().unwrap());
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let index = |at: usize| usize::try_from(entry["range"][at].as_u64().unwrap()).unwrap();
    if entry["range"].is_null() {
        bytes
    } else {
        bytes[index(0)..index(1)].to_vec()
    }
}

fn parts(variant: &Value) -> impl Iterator<Item = &Value> {
    [&variant["init"]]
        .into_iter()
        .chain(variant["segments"].as_array().unwrap())
        .filter(|part| !part.is_null())
}

fn segments() -> Value {
    serde_json::from_slice(&fs::read(media().join("segments.json")).unwrap()).unwrap()
}

fn variants(tree: &Value) -> &Vec<Value> {
    tree["variants"].as_array().unwrap()
}

#[test]
fn clear_streams_are_the_files_one_after_the_other() {
    let expected = expected();
    for tree in ["plain", "ts", "packed", "byterange"] {
        for variant in variants(&expected["trees"][tree]) {
            let mut stream = Vec::new();
            for part in parts(variant) {
                let bytes = wire(part);
                assert_eq!(part["sha256"], sha256(&bytes), "{part}");
                assert_eq!(part["wire_bytes"], bytes.len(), "{part}");
                stream.extend(bytes);
            }
            assert_eq!(variant["bytes"], stream.len(), "{}", variant["playlist"]);
            assert_eq!(variant["sha256"], sha256(&stream), "{}", variant["playlist"]);
        }
    }
}

#[test]
fn the_encrypted_tree_is_the_plain_one_in_another_coat() {
    let expected = expected();
    let (plain, encrypted) = (&expected["trees"]["plain"], &expected["trees"]["encrypted"]);
    assert_eq!(variants(plain).len(), 4);
    for (plain, encrypted) in variants(plain).iter().zip(variants(encrypted)) {
        for what in ["sha256", "bytes", "duration", "segment_count", "pcm", "codecs"] {
            assert_eq!(plain[what], encrypted[what], "{}", plain["playlist"]);
        }
        for (plain, encrypted) in parts(plain).zip(parts(encrypted)).skip(1) {
            let (clear, secret) = (wire(plain), wire(encrypted));
            assert_eq!(
                secret.len(),
                (clear.len() / 16 + 1) * 16,
                "padded by PKCS#7: {encrypted}"
            );
            assert_eq!(encrypted["wire_bytes"], secret.len(), "{encrypted}");
            assert_ne!(clear[..16], secret[..16], "{encrypted}");
        }
    }
    for part in parts(&expected["trees"]["encrypted-init"]["variants"][0]) {
        assert_eq!(part["wire_bytes"], wire(part).len());
        assert!(!wire(part)[4..].starts_with(b"ftyp"), "{part}");
    }
}

#[test]
fn plain_files_are_what_they_were() {
    let expected = expected();
    let files = expected["files"].as_object().unwrap();
    assert_eq!(files.len(), 6);
    for (name, file) in files {
        let bytes = wire(file);
        assert_eq!(
            (&file["bytes"], &file["sha256"]),
            (&bytes.len().into(), &sha256(&bytes).into()),
            "{name}"
        );
    }
}

fn table() -> Value {
    serde_json::from_slice(&fs::read(media().join("table.json")).unwrap()).unwrap()
}

#[test]
fn the_table_s_files_are_what_they_were() {
    for (name, row) in table().as_object().unwrap() {
        let bytes = fs::read(media().join("table").join(name)).unwrap();
        assert_eq!(
            (&row["bytes"], &row["sha256"]),
            (&bytes.len().into(), &sha256(&bytes).into()),
            "{name}"
        );
    }
}

#[test]
fn no_file_is_there_for_nothing() {
    let expected = expected();
    let mut known = BTreeSet::new();
    known.extend(
        table()
            .as_object()
            .unwrap()
            .keys()
            .map(|name| format!("table/{name}")),
    );
    for file in expected["files"].as_object().unwrap().values() {
        known.insert(file["path"].as_str().unwrap().to_owned());
    }
    for tree in expected["trees"].as_object().unwrap().values() {
        known.extend(tree["master"].as_str().map(str::to_owned));
        for variant in variants(tree) {
            known.insert(variant["playlist"].as_str().unwrap().to_owned());
            known.extend(parts(variant).map(|part| part["path"].as_str().unwrap().to_owned()));
        }
    }
    let mut found = BTreeSet::new();
    for (name, tree) in segments().as_object().unwrap() {
        known.insert(format!("segments/{name}/playlist.m3u8"));
        known.extend(tree["init"].as_str().map(str::to_owned));
        let segments = tree["segments"].as_array().unwrap();
        known.extend(
            segments
                .iter()
                .map(|segment| segment["path"].as_str().unwrap().to_owned()),
        );
    }
    list(&media().join("segments"), &mut found);
    list(&media().join("hls"), &mut found);
    list(&media().join("files"), &mut found);
    list(&media().join("table"), &mut found);
    found.retain(|path| {
        Path::new(path)
            .extension()
            .is_none_or(|extension| extension != "key")
    });
    assert_eq!(found, known);
}

fn list(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, found);
        } else {
            let relative = path.strip_prefix(media()).unwrap();
            found.insert(relative.to_str().unwrap().replace('\\', "/"));
        }
    }
}

#[test]
fn the_media_stays_below_twelve_megabytes() {
    let bytes = disk_bytes(media());
    assert!((1_000_000..12_000_000).contains(&bytes), "{bytes} bytes");
}
