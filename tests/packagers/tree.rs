//! A tree, and what is asked of each.

use std::path::Path;

use futures_lite::{StreamExt, future};
use kithara::cache::AssetCache;
use kithara::hls::{HlsControl, HlsError, HlsParams, HlsSource, VariantChoice};
use kithara::net::{HttpClient, Url};
use kithara::stream::{Message, Stream, StreamError, StreamParams};

use crate::served::Nginx;
use crate::{contents, heard, killed};

/// What is opened, and which Media Playlist of the tree plays then.
#[derive(Clone, Copy)]
pub(crate) struct Play<'a> {
    /// The playlist that is opened.
    pub(crate) start: &'a str,
    /// The number of the Variant Stream.
    pub(crate) variant: usize,
    pub(crate) language: Option<&'a str>,
    /// The Media Playlist.
    pub(crate) playlist: &'a str,
    /// Frames that ffmpeg makes of half a packet at its end.
    pub(crate) made_up: usize,
}

impl<'a> Play<'a> {
    /// A Media Playlist alone.
    pub(crate) fn media(playlist: &'a str) -> Self {
        Self {
            start: playlist,
            variant: 0,
            language: None,
            playlist,
            made_up: 0,
        }
    }

    /// A Variant Stream of a Multivariant Playlist.
    pub(crate) fn variant(start: &'a str, variant: usize, playlist: &'a str) -> Self {
        Self {
            start,
            variant,
            ..Self::media(playlist)
        }
    }

    /// The audio in this language.
    pub(crate) fn language(self, language: &'a str) -> Self {
        Self {
            language: Some(language),
            ..self
        }
    }

    pub(crate) fn params(&self, cache: &AssetCache) -> HlsParams {
        params(cache, self.variant, self.language)
    }
}

pub(crate) fn params(cache: &AssetCache, variant: usize, language: Option<&str>) -> HlsParams {
    let params = HlsParams::new(HttpClient::new().unwrap(), cache.clone());
    let params = params.variant(VariantChoice::Index(variant));
    match language {
        Some(language) => params.audio_language(language),
        None => params,
    }
}

pub(crate) fn open(root: &Path) -> AssetCache {
    future::block_on(AssetCache::builder(root).max_bytes(1 << 30).open()).unwrap()
}

/// All that a stream gave.
#[derive(Default)]
pub(crate) struct Tape {
    pub(crate) bytes: Vec<u8>,
    /// Whether all of the track was said to be kept.
    pub(crate) is_cached: bool,
    pub(crate) error: Option<HlsError>,
}

impl Tape {
    /// Plays a track to its end.
    pub(crate) fn of(url: &str, params: HlsParams, is_offline: bool) -> Self {
        let source = HlsSource::new(Url::parse(url).unwrap(), params);
        let mode = StreamParams::default().offline_mode(is_offline);
        let mut messages = Stream::new(source, mode).into_messages();
        let mut tape = Self::default();
        while let Some(message) = future::block_on(messages.next()) {
            match message {
                Ok(Message::Data(data)) => tape.bytes.extend_from_slice(&data),
                Ok(Message::Control(HlsControl::Cached)) => tape.is_cached = true,
                Ok(Message::Control(HlsControl::CacheBypassed { resource, reason, .. })) => {
                    panic!("{}: {reason:?}", resource.url())
                }
                Ok(Message::Control(HlsControl::EditionChanged { .. })) => panic!("another edition"),
                Ok(Message::Control(_)) => {}
                Err(StreamError::Source { source }) => tape.error = Some(source),
                Err(other) => panic!("{other}"),
            }
        }
        tape
    }
}

/// Fails unless these are the bytes, and says where they differ.
#[track_caller]
pub(crate) fn assert_same(bytes: &[u8], expected: &[u8], what: &str) {
    let differs = bytes
        .iter()
        .zip(expected)
        .position(|(ours, theirs)| ours != theirs);
    assert_eq!(differs, None, "{what}: differs there");
    assert_eq!(bytes.len(), expected.len(), "{what}");
}

/// H1, H5: what the packager wrote comes out, online and offline, whole and after a kill; and it is heard.
///
/// A kill takes some seconds. Where `KITHARA_KILLS` is set there is one for each play of a tree, else one for the first.
pub(crate) fn assert_plays(folder: &Path, plays: &[Play<'_>]) {
    let kills = if std::env::var_os("KITHARA_KILLS").is_some() {
        plays.len()
    } else {
        1
    };
    for (number, play) in plays.iter().enumerate() {
        let Some(server) = Nginx::start(folder) else {
            return;
        };
        let expected = contents::of(&folder.join(play.playlist));
        let url = server.url(play.start);
        let what = format!("{} of {} in {}", play.playlist, play.start, folder.display());
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path());
        let online = Tape::of(&url, play.params(&cache), false);
        assert!(online.error.is_none(), "{what}: {:?}", online.error);
        assert_same(&online.bytes, &expected, &what);
        assert!(online.is_cached, "{what}: not kept");

        let mut caches = vec![cache];
        let killed_root = tempfile::tempdir().unwrap();
        if number < kills {
            caches.push(killed::assert_goes_on(
                play,
                &url,
                &expected,
                killed_root.path(),
                &what,
            ));
        }
        let heard = heard::by_ffmpeg(&server.url(play.playlist), &online.bytes, &what);

        drop(server);
        for cache in caches {
            let offline = Tape::of(&url, play.params(&cache), true);
            assert!(offline.error.is_none(), "{what}, offline: {:?}", offline.error);
            assert_same(&offline.bytes, &expected, &format!("{what}, offline"));
            heard::assert_decodes(
                &url,
                play.params(&cache),
                &heard[..heard.len() - play.made_up * 2],
                &what,
            );
        }
        println!("{what}: {} bytes, {} samples", expected.len(), heard.len());
    }
}
