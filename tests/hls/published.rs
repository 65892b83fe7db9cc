//! A track that is published under the same URLs again and again, and what stands in it.

use std::fmt::Write as _;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::cache::{AssetId, EntryInfo};
use kithara::hls::{HlsControl, HlsSource};
use kithara::stream::{Message, Source};
use kithara_test_support::{Rule, Server};

use crate::rig::{Cache, online, url};

pub(crate) fn body(edition: &str, index: usize) -> Vec<u8> {
    // As packed audio begins, and as long as no other segment.
    let mut bytes = format!("ID3{edition} {index} ").into_bytes();
    bytes.resize(2000 + 10 * index, 0x11);
    bytes
}

pub(crate) fn whole(edition: &str, segments: impl IntoIterator<Item = usize>) -> Vec<u8> {
    segments
        .into_iter()
        .flat_map(|index| body(edition, index))
        .collect()
}

/// A track that is published under the same URLs again and again.
pub(crate) struct Published {
    pub(crate) server: Server,
}

impl Published {
    pub(crate) fn new() -> Self {
        Self {
            server: Server::empty().unwrap(),
        }
    }

    /// Segments of these durations, in seconds.
    pub(crate) fn publish(&self, edition: &str, durations: &[u64]) {
        let mut list = "#EXTM3U\n#EXT-X-MAP:URI=\"init\"\n".to_owned();
        for (index, duration) in durations.iter().enumerate() {
            write!(list, "#EXTINF:{duration},\n{index}.ts\n").unwrap();
            self.server
                .serve_bytes(format!("/{index}.ts"), body(edition, index));
        }
        list.push_str("#EXT-X-ENDLIST\n");
        self.server.serve_bytes("/list.m3u8", list.into_bytes());
        self.server.serve_bytes("/init", init(edition));
    }

    pub(crate) fn url(&self) -> String {
        self.server.url("/list.m3u8")
    }

    /// Plays `segments`, and no further. They are kept, in so many editions.
    pub(crate) fn hear(&self, cache: &Cache, segments: usize, editions: usize) -> Vec<u8> {
        let gate = self.server.gate();
        let held = self
            .server
            .rule(format!("/{segments}.ts"), Rule::new().gate(&gate));
        // What is heard is what is kept, and no more.
        let params = cache.params().look_ahead(Duration::ZERO);
        let mut stream = HlsSource::new(url(&self.url()), params).open(&online()).unwrap();
        let expected: usize = (0..segments).map(|index| body("any", index).len()).sum();
        let mut bytes = Vec::new();
        future::block_on(async {
            while bytes.len() < expected {
                if let Message::Data(data) = stream.next().await.unwrap().unwrap() {
                    bytes.extend_from_slice(&data);
                }
            }
            // Commits go on while the stream is polled, which waits for the next segment.
            let asset = AssetId::from_url(&url(&self.url()));
            let is_kept = |index: usize, entries: &[EntryInfo]| {
                let end = format!("-{index}.ts");
                let named = |entry: &&EntryInfo| entry.path.as_str().ends_with(&end);
                entries.iter().filter(named).count() == editions
            };
            loop {
                let polled = future::poll_once(stream.next()).await;
                assert!(
                    matches!(
                        polled,
                        None | Some(Some(Ok(Message::Control(HlsControl::Stalled))))
                    ),
                    "{polled:?}"
                );
                let entries = cache.cache.entries(&asset).await.unwrap();
                if (0..segments).all(|index| is_kept(index, &entries)) {
                    break;
                }
            }
        });
        drop(stream);
        held.remove();
        bytes
    }
}

/// Of another length in each edition: the server that the tests run dates all files alike, and of two files of one date and
/// length the tags alone do not tell that they differ.
pub(crate) fn init(edition: &str) -> Vec<u8> {
    let sum = edition.bytes().map(usize::from).sum::<usize>();
    format!("ID3 init of {edition}{}", ".".repeat(sum % 17)).into_bytes()
}
