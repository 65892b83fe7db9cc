//! P3, H13: Variant Streams follow each other without a frame lost, doubled or noise.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::decode::{DecodeEvent, DecodeParams, Decoder};
use kithara::hls::HlsParams;
use kithara::hls::selection::{Lowest, SegmentTransfer, Situation, VariantSelector};
use kithara::media::{Access, OpenMode};
use kithara::net::{HttpClient, Url};
use kithara_test_support::{Rule, Server};
use tempfile::{TempDir, tempdir};

use crate::pcm::{bundled, ffmpeg, ffmpeg_pcm, has};

/// How many switches are heard: 100, unless `KITHARA_SWITCHES` says another number.
fn switches() -> usize {
    let said = std::env::var("KITHARA_SWITCHES").ok();
    said.and_then(|said| said.parse().ok()).unwrap_or(100)
}

fn source() -> Option<&'static (TempDir, PathBuf)> {
    static SOURCE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    if !has("ffmpeg") {
        return None;
    }
    Some(SOURCE.get_or_init(|| {
        let dir = tempdir().unwrap();
        let wav = dir.path().join("source.wav");
        let (piece, seconds) = (bundled("piece.flac"), (switches() * 2 / 3).to_string());
        let piece = piece.to_str().unwrap();
        let arguments = ["-stream_loop", "-1", "-i", piece, "-ar", "44100", "-t", &seconds];
        ffmpeg(&[&arguments[..], &["-c:a", "pcm_s16le"]].concat(), &wav);
        (dir, wav)
    }))
}

/// One Variant Stream: its folder, what ffmpeg is told, and how long a segment is.
struct Rung(&'static str, &'static [&'static str], &'static str);

/// A tree of these, behind a Multivariant Playlist.
fn tree(name: &str, rungs: &[Rung]) -> Option<PathBuf> {
    let (dir, wav) = source()?;
    let root = dir.path().join(name);
    let mut master = "#EXTM3U\n".to_owned();
    for (number, Rung(folder, encoder, segment)) in rungs.iter().enumerate() {
        let folder_path = root.join(folder);
        fs::create_dir_all(&folder_path).unwrap();
        let init = ["-hls_fmp4_init_filename", "init.mp4"];
        let list = [
            "-i",
            wav.to_str().unwrap(),
            "-f",
            "hls",
            "-hls_time",
            segment,
            "-hls_playlist_type",
            "vod",
        ];
        let arguments = [&list[..], encoder, &init[..]].concat();
        ffmpeg(&arguments, &folder_path.join("list.m3u8"));
        let bandwidth = (number + 1) * 100_000;
        writeln!(
            master,
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"mp4a.40.2\"\n{folder}/list.m3u8"
        )
        .unwrap();
    }
    fs::write(root.join("master.m3u8"), master).unwrap();
    Some(root)
}

/// Another Variant Stream for each segment, at random.
#[derive(Clone)]
struct Random(u64);

impl VariantSelector for Random {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let others = situation.ladder.len() as u64 - 1;
        let step = 1 + (self.0 >> 33) % others.max(1);
        let next = situation.current.unwrap_or(0) as u64 + step;
        usize::try_from(next % (others + 1)).unwrap()
    }
}

fn new_cache() -> (AssetCache, TempDir) {
    let dir = tempdir().unwrap();
    let cache = block_on(AssetCache::builder(dir.path()).max_bytes(1 << 30).open()).unwrap();
    (cache, dir)
}

struct Heard {
    samples: Vec<f32>,
    switches: usize,
}

fn play(
    selector: impl VariantSelector + Clone + Sync + 'static,
    mode: OpenMode,
    cache: &AssetCache,
    server: &Server,
) -> Heard {
    let access = Access::new(HttpClient::new().unwrap(), cache.clone());
    let hls = HlsParams::with_access(access).selector(selector);
    let params = DecodeParams::new().hls(hls);
    let url = Url::parse(&server.url("/master.m3u8")).unwrap();
    let mut decoder = block_on(Decoder::open(url.as_str(), &params, mode)).unwrap();
    let (mut samples, mut switches, mut variant) = (Vec::new(), 0, None);
    while let Some(block) = decoder.next_block().unwrap() {
        let frames = samples.len() / usize::from(block.spec().channels.count());
        assert_eq!(block.position(), frames as u64, "a place twice, or none");
        samples.extend_from_slice(block.samples());
        while let Some(event) = decoder.next_event() {
            match event {
                DecodeEvent::VariantChanged { variant: now, .. } => {
                    switches += usize::from(variant.is_some_and(|before| before != now));
                    variant = Some(now);
                }
                DecodeEvent::Damaged { .. } | DecodeEvent::Gap { .. } => panic!("{event:?}"),
                _ => {}
            }
        }
    }
    Heard { samples, switches }
}

struct Tree {
    /// Online, and then offline.
    switched: [Vec<f32>; 2],
    /// The lowest Variant Stream from its start to its end.
    lowest: Vec<f32>,
    /// The sound that it was made of.
    truth: Vec<f32>,
}

/// Plays a tree, another Variant Stream for each segment.
fn heard(name: &str, rungs: &[Rung]) -> Option<Tree> {
    let root = tree(name, rungs)?;
    let (_, wav) = source()?;
    let server = Server::start(&root).unwrap();
    let (cache, _dir) = new_cache();
    let online = play(Random(7), OpenMode::Online, &cache, &server);
    assert!(
        online.switches >= switches(),
        "{name}: {} switches",
        online.switches
    );
    // Where the cuts differ two of them may be there for one instant.
    let offline = play(Random(7), OpenMode::Offline, &cache, &server);
    let (cache, _own) = new_cache();
    let lowest = play(Lowest, OpenMode::Online, &cache, &server);
    let switched = [online.samples, offline.samples];
    for switched in &switched {
        // ffmpeg says of AAC in fragments neither its priming nor its padding: it ends up to two packets later than FLAC.
        let off = switched.len().abs_diff(lowest.samples.len());
        assert!(
            off == 0 || name == "codecs" && off <= 2 * 2048,
            "{name}: {off} samples off"
        );
    }
    Some(Tree {
        switched,
        lowest: lowest.samples,
        truth: ffmpeg_pcm(wav),
    })
}

/// The loudest difference of 1 024 frames, as its root of the mean square.
fn noise(ours: &[f32], truth: &[f32]) -> f64 {
    let windows = ours.chunks(2048).zip(truth.chunks(2048));
    let loudness = windows.map(|(ours, truth)| {
        let squares = ours
            .iter()
            .zip(truth)
            .map(|(one, other)| f64::from(one - other).powi(2));
        (squares.sum::<f64>() / truth.len() as f64).sqrt()
    });
    loudness.fold(0.0, f64::max)
}

/// A thousand switches between lossless ones, aligned and not, give the sample that was encoded at each place.
#[test]
fn p3_h13_a_thousand_switches_of_lossless_sound_are_exact() {
    let rungs = [
        Rung(
            "small",
            &[
                "-strict",
                "-2",
                "-c:a",
                "flac",
                "-compression_level",
                "8",
                "-hls_segment_type",
                "fmp4",
            ],
            "0.5",
        ),
        Rung(
            "middle",
            &[
                "-strict",
                "-2",
                "-c:a",
                "flac",
                "-compression_level",
                "2",
                "-hls_segment_type",
                "fmp4",
            ],
            "0.5",
        ),
        Rung(
            "large",
            &[
                "-strict",
                "-2",
                "-c:a",
                "flac",
                "-compression_level",
                "0",
                "-hls_segment_type",
                "fmp4",
            ],
            "0.7",
        ),
    ];
    let Some(tree) = heard("lossless", &rungs) else {
        return;
    };
    for ours in tree.switched {
        assert_eq!(ours.len(), tree.truth.len());
        let worst = ours
            .iter()
            .zip(&tree.truth)
            .map(|(one, other)| (one - other).abs());
        assert!(worst.fold(0.0, f32::max) < 1e-6);
    }
}

/// The same of lossy ones: no more noise than the worst of them makes.
#[test]
fn p3_h13_switches_of_lossy_sound_add_no_noise() {
    for (name, rungs) in [
        (
            "aac",
            [
                Rung(
                    "64",
                    &["-c:a", "aac", "-b:a", "64k", "-hls_segment_type", "fmp4"],
                    "0.5",
                ),
                Rung(
                    "128",
                    &["-c:a", "aac", "-b:a", "128k", "-hls_segment_type", "fmp4"],
                    "0.5",
                ),
                Rung(
                    "256",
                    &["-c:a", "aac", "-b:a", "256k", "-hls_segment_type", "fmp4"],
                    "0.8",
                ),
            ],
        ),
        (
            "ts",
            [
                Rung("64", &["-c:a", "aac", "-b:a", "64k"], "0.5"),
                Rung("128", &["-c:a", "aac", "-b:a", "128k"], "0.5"),
                Rung("256", &["-c:a", "aac", "-b:a", "256k"], "0.8"),
            ],
        ),
        (
            "codecs",
            [
                Rung(
                    "64",
                    &["-c:a", "aac", "-b:a", "64k", "-hls_segment_type", "fmp4"],
                    "0.5",
                ),
                Rung(
                    "128",
                    &["-c:a", "aac", "-b:a", "128k", "-hls_segment_type", "fmp4"],
                    "0.5",
                ),
                Rung(
                    "flac",
                    &["-strict", "-2", "-c:a", "flac", "-hls_segment_type", "fmp4"],
                    "0.6",
                ),
            ],
        ),
    ] {
        let Some(tree) = heard(name, &rungs) else {
            return;
        };
        let limit = noise(&tree.lowest, &tree.truth) * 1.1;
        for ours in tree.switched {
            let ours = noise(&ours, &tree.truth);
            assert!(ours <= limit, "{name}: {ours} of {limit}");
        }
    }
}

/// The second one, but where a segment stops: that is taken from the first one.
#[derive(Clone)]
struct GivesUp;

impl VariantSelector for GivesUp {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        situation.ladder.len() - 1
    }

    fn give_up(&mut self, _: &Situation<'_>, transfer: &SegmentTransfer) -> Option<usize> {
        let has_stopped = transfer.rung > 0 && transfer.elapsed > Duration::from_millis(300);
        has_stopped.then_some(0)
    }
}

/// What had come of a segment that is given up is heard once.
#[test]
fn p3_h12_a_segment_that_is_given_up_is_heard_once() {
    for (name, encoder, segment, limit) in [
        (
            "given-up-flac",
            &["-strict", "-2", "-c:a", "flac", "-hls_segment_type", "fmp4"][..],
            "list9.m4s",
            1e-6,
        ),
        (
            "given-up-aac",
            &["-c:a", "aac", "-hls_segment_type", "fmp4"][..],
            "list9.m4s",
            0.1,
        ),
        ("given-up-ts", &["-c:a", "aac"][..], "list9.ts", 0.1),
    ] {
        let rungs = [Rung("low", encoder, "2"), Rung("high", encoder, "2")];
        let Some(root) = tree(name, &rungs) else {
            return;
        };
        let server = Server::start(&root).unwrap();
        let (cache, _dir) = new_cache();
        let whole = play(Lowest, OpenMode::Online, &cache, &server);
        let size = fs::metadata(root.join("high").join(segment)).unwrap().len();
        let gate = server.gate();
        let stops = Rule::new().gate_after(size * 2 / 3, &gate);
        server.rule(format!("/high/{segment}"), stops);
        let (cache, _dir) = new_cache();
        let switched = play(GivesUp, OpenMode::Online, &cache, &server);
        drop(gate);
        assert!(switched.switches >= 2, "{name}");
        assert_eq!(switched.samples.len(), whole.samples.len(), "{name}");
        let off = noise(&switched.samples, &whole.samples);
        assert!(off < limit, "{name}: {off}");
    }
}
