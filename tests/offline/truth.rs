//! What is said of a file or a track is what is there (O1), and its download brings the rest (O2, O3).

use kithara::file::OpenMode;
use kithara::hls::{HlsParams, HlsSource, VariantChoice};
use kithara::media::{Bypass, Total};
use kithara::stream::{Stream, StreamParams};
use kithara_test_support::Rule;
use std::fmt::Write as _;
use std::io::Read as _;

use crate::*;

const LEN: u64 = 3 * MIB + 77;

fn never_back(told: &[Progress]) {
    for pair in told.windows(2) {
        assert!(pair[1].bytes >= pair[0].bytes, "{pair:?}");
        assert!(pair[1].fraction() >= pair[0].fraction() - 0.05, "{pair:?}");
    }
    let (last, before) = told.split_last().unwrap();
    assert!(last.is_complete && last.fraction() >= 1.0);
    assert!(before.iter().all(|progress| progress.fraction() < 1.0));
}

/// O1, O3: a file's download ends when it is committed, and what is said of it is what is there.
#[test]
fn o1_a_file_is_complete_when_its_entry_is() {
    let stage = Stage::new();
    let source = stage.file("/a.bin");
    let stored = block_on(source.stored()).unwrap();
    assert!(!stored.is_complete() && stored.bytes == 0);
    let told = run(source.download()).unwrap();
    never_back(&told);
    assert_eq!(told.last().unwrap().total, Total::Exact(LEN));
    let stored = block_on(source.stored()).unwrap();
    assert!(stored.is_complete() && stored.bytes == LEN);
    let requests = stage.server.requests().len();
    never_back(&run(source.download()).unwrap());
    assert_eq!(stage.server.requests().len(), requests, "it is there");
    stage.server.stop();
    let mut reader = block_on(stage.file("/a.bin").open_reader(OpenMode::Offline)).unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(pattern().first_difference(0, &bytes), None);
    // Behind its back.
    drop(reader);
    for file in stage.entries("-a.bin") {
        std::fs::remove_file(file).unwrap();
    }
    assert!(!block_on(stage.file("/a.bin").stored()).unwrap().is_complete());
}

/// O2: dropped and asked for again, a download goes on with what is there.
#[test]
fn o2_a_dropped_file_download_goes_on() {
    let stage = Stage::new();
    let slow = stage.server.rule("/a.bin", Rule::new().trickle(MIB));
    let source = stage.file("/a.bin");
    let mut download = source.download();
    block_on(async {
        while let Some(progress) = download.next().await {
            if progress.unwrap().bytes > MIB {
                break;
            }
        }
    });
    drop((download, source));
    slow.remove();
    let source = stage.file("/a.bin");
    let stored = block_on(source.stored()).unwrap();
    assert!(
        stored.bytes >= MIB && stored.total == Total::Exact(LEN),
        "{stored:?}"
    );
    assert_eq!(stored.holes[0].bytes.clone().unwrap().end, LEN);
    let before = stage.server.bytes_sent();
    never_back(&run(source.download()).unwrap());
    let fetched = stage.server.bytes_sent() - before;
    assert!(fetched <= LEN - MIB + 256 * KIB, "{fetched}");
}

/// O1: a turned bit is found by `verify`, which names the block, and the download mends it.
#[test]
fn o1_verify_names_a_damaged_block_of_a_file() {
    let stage = Stage::new();
    let source = stage.file("/a.bin");
    run(source.download()).unwrap();
    let mut read = 0;
    let stored = block_on(source.verify(|done, all| {
        assert_eq!(all, LEN);
        read = done;
    }))
    .unwrap();
    assert!(stored.is_complete() && read == LEN);
    flip_a_bit(&stage.entries("-a.bin")[0], MIB as usize + 5);
    assert!(
        block_on(source.stored()).unwrap().is_complete(),
        "no byte was read"
    );
    let stored = block_on(source.verify(|_, _| ())).unwrap();
    let hole = &stored.holes[0];
    assert!(
        hole.is_damaged && hole.bytes.clone().unwrap().contains(&(MIB + 5)),
        "{hole}"
    );
    assert!(!block_on(source.stored()).unwrap().is_complete());
    run(source.download()).unwrap();
    assert!(block_on(source.verify(|_, _| ())).unwrap().is_complete());
}

/// O6: what cannot fit ends at once, and says so.
#[test]
fn o6_a_file_that_does_not_fit_is_told_at_once() {
    let stage = Stage::with_limit(2 * MIB);
    stage
        .server
        .serve("/big.bin", Content::pattern(&pattern(), 200 * MIB));
    let error = run(stage.file("/big.bin").download()).unwrap_err();
    assert!(error.not_kept().is_some_and(Bypass::is_full), "{error}");
    // What fits into the buffers of two sockets.
    assert!(stage.server.bytes_sent() < 50 * MIB);
}

fn variant(stage: &Stage, path: &str, index: usize) -> HlsSource {
    let params = HlsParams::with_access(stage.access()).variant(VariantChoice::Index(index));
    HlsSource::new(stage.url(path), params)
}

async fn plays_offline(source: HlsSource) -> u64 {
    let mut stream = Stream::new(source, StreamParams::default().offline_mode(true));
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await {
        bytes += chunk.unwrap().len() as u64;
    }
    bytes
}

/// O1, O3: a track is complete when each of its parts and keys is there, and not before.
#[test]
fn o1_a_track_is_complete_when_each_part_and_key_is_there() {
    for path in [TRACK, ENCRYPTED] {
        let stage = Stage::new();
        let source = stage.hls(path);
        let stored = block_on(source.stored()).unwrap();
        assert!(!stored.is_complete() && stored.duration.is_none());
        let told = run(source.download()).unwrap();
        never_back(&told);
        let stored = block_on(source.stored()).unwrap();
        assert!(stored.is_complete(), "{path}: {:?}", stored.holes);
        assert_eq!(stored.time, stored.duration);
        assert_eq!(stored.total, Total::Exact(stored.bytes));
        assert!(block_on(source.verify(|_, _| ())).unwrap().is_complete());
        stage.server.stop();
        assert!(block_on(plays_offline(stage.hls(path))) > 0);
        for end in [".m4s", "-key"] {
            if let Some(file) = stage.entries(end).first() {
                std::fs::rename(file, file.with_extension("away")).unwrap();
                let stored = block_on(stage.hls(path).stored()).unwrap();
                assert_eq!(stored.holes.len(), 1, "{path}: {end}");
                std::fs::rename(file.with_extension("away"), file).unwrap();
            }
        }
    }
}

/// O2: what is there is not fetched again, wherever the holes are.
#[test]
fn o2_a_track_with_holes_is_filled_and_nothing_else_is_fetched() {
    let stage = Stage::new();
    run(stage.hls(TRACK).download()).unwrap();
    let segments = stage.entries(".m4s");
    let removed = [&segments[0], &segments[2]];
    for file in removed {
        std::fs::remove_file(file).unwrap();
    }
    flip_a_bit(&segments[1], 100);
    let source = stage.hls(TRACK);
    let stored = block_on(source.verify(|_, _| ())).unwrap();
    let damaged = stored.holes.iter().filter(|hole| hole.is_damaged).count();
    assert_eq!((stored.holes.len(), damaged), (3, 1), "{:?}", stored.holes);
    let before = stage.server.requests().len();
    for progress in run(source.download()).unwrap() {
        assert!(progress.time <= stored.duration, "{progress:?}");
    }
    let requests = stage.server.requests();
    let media = requests[before..].iter().filter(|request| {
        request.path_only().ends_with(".m4s") && request.header("range") != Some("bytes=0-511")
    });
    let media: Vec<_> = media.map(|request| (&request.path, request.body_sent)).collect();
    assert_eq!(media.len(), 3, "{media:?} for {:?}", stored.holes);
    assert!(block_on(source.verify(|_, _| ())).unwrap().is_complete());
}

/// O5: the Variant Stream that was asked for, and no other.
#[test]
fn o5_the_chosen_variant_is_downloaded_and_no_other() {
    let stage = Stage::new();
    run(variant(&stage, TRACK, 2).download()).unwrap();
    assert!(
        block_on(variant(&stage, TRACK, 2).stored())
            .unwrap()
            .is_complete()
    );
    assert!(
        !block_on(variant(&stage, TRACK, 0).stored())
            .unwrap()
            .is_complete()
    );
    let others = stage
        .server
        .requests()
        .iter()
        .filter(|request| request.path_only().ends_with(".m4s") && !request.path.contains("aac-112"))
        .count();
    assert_eq!(others, 0);
    // Where the choice is open, offline plays what is there.
    stage.server.stop();
    assert!(block_on(plays_offline(stage.hls(TRACK))) > 0);
}

/// O2: a server that goes away for a while ends no download.
#[test]
fn o2_an_outage_does_not_end_a_track_download() {
    let stage = Stage::new();
    let rule = stage.server.rule(
        "/hls/plain/aac-80/seg-001.m4s",
        Rule::new().first(4).answer(503, "busy"),
    );
    let told = run(stage.hls(TRACK).download()).unwrap();
    assert!(told.iter().any(|progress| progress.is_away));
    assert!(!told.last().unwrap().is_away && rule.hits() == 4);
    never_back(&told);
}

/// A live playlist is refused by name.
#[test]
fn o3_a_live_track_is_refused_by_name() {
    let stage = Stage::new();
    let live = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n0.ts\n";
    stage.server.serve_bytes("/live.m3u8", live.as_bytes());
    let error = run(stage.hls("/live.m3u8").download()).unwrap_err();
    assert!(error.to_string().contains("live"), "{error}");
}

/// O1: a stream that was read to its end tells that the track is kept, and only if it is.
#[test]
fn o1_a_stream_tells_that_the_track_is_kept_where_it_is() {
    use kithara::hls::HlsControl;
    use kithara::stream::Message;
    let is_told = |stage: &Stage| {
        let mut messages = Stream::new(stage.hls(TRACK), StreamParams::default()).into_messages();
        block_on(async {
            let mut is_told = false;
            while let Some(message) = messages.next().await {
                assert!(!is_told, "the last message");
                is_told = matches!(message.unwrap(), Message::Control(HlsControl::Cached));
            }
            is_told
        })
    };
    let stage = Stage::new();
    assert!(is_told(&stage));
    assert!(block_on(stage.hls(TRACK).stored()).unwrap().is_complete());
    assert!(!is_told(&Stage::with_limit(200 * KIB)), "no room for it");
}

/// Two Variant Streams with one group of audio Renditions, of which two are of one language.
fn serve_shared(stage: &Stage) {
    let names = [("first", "YES"), ("second", "NO")];
    let mut master = "#EXTM3U\n".to_owned();
    for (name, is_default) in names {
        let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
        for number in 0..3 {
            writeln!(list, "#EXTINF:6,\n{name}-{number}.ts").unwrap();
            let body = [b"ID3".as_slice(), name.as_bytes(), &[number; 1000]].concat();
            stage
                .server
                .serve_bytes(format!("/shared/{name}-{number}.ts"), body);
        }
        list += "#EXT-X-ENDLIST\n";
        stage
            .server
            .serve_bytes(format!("/shared/{name}.m3u8"), list.into_bytes());
        writeln!(
            master,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"{name}\",LANGUAGE=\"en\",DEFAULT={is_default},URI=\"{name}.m3u8\""
        )
        .unwrap();
    }
    for bandwidth in [100_000, 200_000] {
        writeln!(
            master,
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},AUDIO=\"a\"\nv{bandwidth}.m3u8"
        )
        .unwrap();
    }
    stage
        .server
        .serve_bytes("/shared/master.m3u8", master.into_bytes());
}

/// O3, O5: a Rendition that several Variant Streams share counts once; and one is selected by its NAME.
#[test]
fn o5_a_shared_rendition_counts_once_and_has_a_name() {
    use crate::queue::{hls, open, run_all};
    use kithara::offline::{Renditions, Selection, Variants};
    let stage = Stage::new();
    serve_shared(&stage);
    let downloads = open(&stage);
    let all = Selection::default().variants(Variants::All);
    let add = |selection: Selection| {
        let request = hls(&stage, "/shared/master.m3u8").selection(selection);
        let id = block_on(downloads.add(request)).unwrap();
        run_all(&downloads);
        block_on(downloads.state(&id)).unwrap()
    };
    let stored = add(all.clone());
    let whole = Duration::from_secs(18);
    assert!(stored.is_complete(), "{:?}", stored.holes);
    assert_eq!((stored.time, stored.duration), (Some(whole), Some(whole)));
    let asked = |name: &str| {
        stage
            .server
            .requests()
            .iter()
            .any(|request| request.path.contains(name))
    };
    assert!(asked("first-0") && !asked("second"));
    let stored = add(all.renditions(Renditions::Names(vec!["second".into()])));
    assert!(stored.is_complete() && asked("second-2"));
    assert_eq!((stored.time, stored.duration), (Some(whole * 2), Some(whole * 2)));
}
