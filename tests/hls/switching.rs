//! The Variant Stream is changed while the track plays (H13).

use std::fmt::Write as _;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::hls::{HlsControl, HlsControls, HlsSource, Origin, VariantChoice};
use kithara::stream::{Message, Source, StreamParams};
use kithara_test_support::{Rule, Server};

use super::rig::{Cache, offline, online, url};

pub(crate) const SEGMENTS: usize = 80;

pub(crate) fn body(variant: usize, segment: usize) -> Vec<u8> {
    format!("ID3 of {variant} {segment} {}", "x".repeat(300 * (variant + 1))).into_bytes()
}

/// Three Variant Streams: two that are cut alike, and one whose segments are half as long.
pub(crate) fn server() -> Server {
    let server = Server::empty().unwrap();
    let mut master = "#EXTM3U\n".to_owned();
    for variant in 0..3 {
        let (segments, duration) = if variant == 2 {
            (2 * SEGMENTS, 2)
        } else {
            (SEGMENTS, 4)
        };
        write!(
            master,
            "#EXT-X-STREAM-INF:BANDWIDTH={}\n{variant}.m3u8\n",
            variant + 1
        )
        .unwrap();
        let mut list = format!("#EXTM3U\n#EXT-X-MAP:URI=\"init-{variant}\"\n");
        for segment in 0..segments {
            write!(list, "#EXTINF:{duration},\n{variant}-{segment}.ts\n").unwrap();
            server.serve_bytes(format!("/{variant}-{segment}.ts"), body(variant, segment));
        }
        list.push_str("#EXT-X-ENDLIST\n");
        server.serve_bytes(format!("/{variant}.m3u8"), list.into_bytes());
        server.serve_bytes(
            format!("/init-{variant}"),
            format!("ID3 init {variant}").into_bytes(),
        );
    }
    server.serve_bytes("/master.m3u8", master.into_bytes());
    server
}

/// What a stream told of its segments: the Variant Stream of each, and when it plays.
pub(crate) struct Heard {
    pub(crate) segments: Vec<(usize, Duration, Origin)>,
    pub(crate) end: Duration,
}

impl Heard {
    pub(crate) fn variants(&self) -> Vec<usize> {
        self.segments.iter().map(|(variant, ..)| *variant).collect()
    }

    /// How often the Variant Stream changed.
    pub(crate) fn switches(&self) -> usize {
        self.segments
            .windows(2)
            .filter(|pair| pair[0].0 != pair[1].0)
            .count()
    }
}

/// Plays to the end. Each segment that is heard is whole, of the Variant Stream that was told, behind that one's section, and
/// begins where the one before it ends, or in its middle where the cuts differ.
pub(crate) fn listen(source: &mut HlsSource, mode: &StreamParams, mut each: impl FnMut(Duration)) -> Heard {
    let mut stream = source.open(mode).unwrap();
    let (mut variant, mut end, mut is_section, mut bytes) = (None, None, false, Vec::new());
    let (mut expected, mut segments) = (Vec::new(), Vec::new());
    let mut log: Vec<String> = Vec::new();
    future::block_on(async {
        while let Some(message) = stream.next().await {
            let message = message.unwrap();
            if let Message::Control(control) = &message {
                log.push(format!("{control:?}"));
            }
            match message {
                Message::Data(data) => bytes.extend_from_slice(&data),
                Message::Control(HlsControl::VariantApplied { variant: now, .. }) => {
                    variant = Some(now);
                    is_section = false;
                }
                Message::Control(HlsControl::InitializationSection { variant: of, .. }) => {
                    assert_eq!(Some(of), variant);
                    is_section = true;
                    expected.extend(format!("ID3 init {of}").into_bytes());
                }
                Message::Control(HlsControl::SegmentStart {
                    variant: of,
                    time,
                    duration,
                    media_sequence,
                    origin,
                    ..
                }) => {
                    assert!(is_section && Some(of) == variant);
                    // What comes of a longer segment begins no later than what was heard has ended.
                    assert!(
                        end.is_none_or(|end| time <= end && time + duration > end),
                        "{time:?} behind {end:?} {:#?}",
                        &log[log.len().saturating_sub(14)..]
                    );
                    end = Some(time + duration);
                    expected.extend(body(of, usize::try_from(media_sequence).unwrap()));
                    segments.push((of, time, origin));
                    each(time);
                }
                Message::Control(_) => {}
            }
        }
    });
    assert!(bytes == expected);
    Heard {
        segments,
        end: end.unwrap_or_default(),
    }
}

#[test]
fn a_thousand_switches_lose_and_double_nothing() {
    let server = server();
    let cache = Cache::new();
    let (mut switches, mut random) = (0, 1_u64);
    let url = url(&server.url("/master.m3u8"));
    // Offline one that is not whole is not gone over to.
    let half = HlsControls::new();
    half.set_variant(1);
    super::rig::play(url.as_str(), cache.params(), online()).whole();
    let tape = super::rig::play(url.as_str(), cache.params().controls(half), offline()).whole();
    assert!(tape.story.iter().all(|line| !line.contains("variant 1")));
    for play in 0..32 {
        let controls = HlsControls::new();
        let mut source = HlsSource::new(url.clone(), cache.params().controls(controls.clone()));
        if play == 20 {
            // All is there from now on.
            for variant in 0..3 {
                let params = cache.params().variant(VariantChoice::Index(variant));
                super::rig::play(url.as_str(), params, online()).whole();
            }
        }
        let mode = if play < 20 { online() } else { offline() };
        let heard = listen(&mut source, &mode, |_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            controls.set_variant(usize::try_from((random >> 33) % 3).unwrap());
        });
        switches += heard.switches();
        assert_eq!(heard.end.as_secs(), 4 * SEGMENTS as u64);
    }
    assert!(switches >= 1000, "{switches}");
}

/// One that does not exist, and one whose playlist is not to be had, change nothing.
#[test]
fn what_is_not_there_changes_nothing() {
    for (number, path) in [(7, None), (1, Some("/1.m3u8"))] {
        let server = server();
        if let Some(path) = path {
            server.rule(path, Rule::new().answer(404, ""));
        }
        let cache = Cache::new();
        let controls = HlsControls::new();
        controls.set_variant(number);
        assert_eq!(controls.variant(), Some(number));
        let params = cache.params().controls(controls);
        let tape = super::rig::play(&server.url("/master.m3u8"), params, online()).whole();
        let whole: Vec<_> = (0..SEGMENTS).flat_map(|segment| body(0, segment)).collect();
        assert!(tape.bytes == [b"ID3 init 0".as_slice(), &whole].concat());
    }
}
