//! Rows E1–E4 and E7–E9 of the fault list: what a line says of the segments behind it.

use std::ops::Range;

use super::*;

fn ranges(playlist: &MediaPlaylist) -> Vec<Option<Range<u64>>> {
    playlist
        .segments
        .iter()
        .map(|segment| segment.locator.range.clone())
        .collect()
}

/// E1: an implicit offset continues the previous range of the same resource, whatever EXT-X-MAP stands between.
#[test]
fn an_implicit_offset_continues_the_previous_segment() {
    let playlist = media(vod("#EXT-X-MAP:URI=\"a.mp4\",BYTERANGE=\"700@0\"\n\
         #EXTINF:6,\n#EXT-X-BYTERANGE:100@700\na.mp4\n\
         #EXT-X-MAP:URI=\"a.mp4\",BYTERANGE=\"50@5000\"\n\
         #EXTINF:6,\n#EXT-X-BYTERANGE:30\na.mp4\n\
         #EXTINF:6,\n#EXT-X-BYTERANGE:7\na.mp4"));
    assert_eq!(
        ranges(&playlist),
        [Some(700..800), Some(800..830), Some(830..837)]
    );
    let maps: Vec<_> = playlist
        .segments
        .iter()
        .map(|s| s.map.as_ref().unwrap().locator.range.clone())
        .collect();
    assert_eq!(maps, [Some(0..700), Some(5000..5050), Some(5000..5050)]);
}

/// E1: a MAP without an offset starts at 0, not where a segment ended; without BYTERANGE it is the whole resource.
#[test]
fn a_segments_range_does_not_leak_into_a_map() {
    let playlist = media(vod("#EXTINF:6,\n#EXT-X-BYTERANGE:100@700\na.mp4\n\
         #EXT-X-MAP:URI=\"a.mp4\",BYTERANGE=\"50\"\n#EXTINF:6,\n#EXT-X-BYTERANGE:1@0\na.mp4\n\
         #EXT-X-BYTERANGE:100@700\n#EXT-X-MAP:URI=\"a.mp4\"\n#EXTINF:6,\nb.mp4"));
    let maps: Vec<_> = playlist
        .segments
        .iter()
        .filter_map(|s| Some(s.map.as_ref()?.locator.range.clone()))
        .collect();
    assert_eq!(maps, [Some(0..50), None]);
    // The tag before the MAP still belongs to the segment after it.
    assert_eq!(playlist.segments[2].locator.range, Some(700..800));
}

/// E1: the previous segment must be a range of the same resource.
#[test]
fn an_implicit_offset_across_resources_is_refused() {
    let other = vod("#EXTINF:6,\n#EXT-X-BYTERANGE:100@0\na.mp4\n#EXTINF:6,\n#EXT-X-BYTERANGE:100\nb.mp4");
    assert_eq!(refused_line(&other), 7);
    let whole = vod("#EXTINF:6,\na.mp4\n#EXTINF:6,\n#EXT-X-BYTERANGE:100\na.mp4");
    assert_eq!(refused_line(&whole), 6);
    assert_eq!(refused_line(&vod("#EXTINF:6,\n#EXT-X-BYTERANGE:100\na.mp4")), 4);
}

fn ivs(playlist: &MediaPlaylist) -> Vec<Option<u128>> {
    playlist
        .segments
        .iter()
        .map(|s| s.encryption.as_ref().map(|e| u128::from_be_bytes(e.iv)))
        .collect()
}

/// E2: the same key under a new IV; and METHOD=NONE ends it.
#[test]
fn the_iv_is_that_of_the_last_key_tag() {
    let playlist = media(vod("#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x1\n#EXTINF:6,\na\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x2\n#EXTINF:6,\nb\n#EXTINF:6,\nc\n\
         #EXT-X-KEY:METHOD=NONE\n#EXTINF:6,\nd"));
    assert_eq!(ivs(&playlist), [Some(1), Some(2), Some(2), None]);
    assert_eq!(
        playlist.segments[0].encryption.as_ref().unwrap().key.url.as_str(),
        "http://host/music/k"
    );
}

/// E3: a Media Initialization Section is encrypted as its own line says, not as the segment's.
#[test]
fn a_map_takes_the_key_in_force_at_its_line() {
    let playlist = media(vod("#EXT-X-MAP:URI=\"plain\"\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k1\",IV=0x1\n#EXTINF:6,\na\n\
         #EXT-X-MAP:URI=\"secret\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"k2\"\n#EXTINF:6,\nb\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k2\",IV=0x3\n#EXTINF:6,\nc"));
    let maps: Vec<_> = playlist.segments.iter().map(|s| s.map.clone().unwrap()).collect();
    assert_eq!(maps[0].encryption, None);
    let encryption = maps[1].encryption.clone().unwrap();
    assert_eq!((encryption.key.url.path(), encryption.iv[15]), ("/music/k1", 1));
    assert_eq!(maps[1], maps[2]);
    assert_eq!(ivs(&playlist), [Some(1), Some(1), Some(3)]);
}

/// E3: RFC 8216, 4.3.2.5 requires the IV there.
#[test]
fn a_map_under_a_key_without_iv_is_refused() {
    assert_eq!(
        refused_line(&vod(
            "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-MAP:URI=\"m\"\n#EXTINF:6,\na"
        )),
        4
    );
}

/// E4: the default IV is the Media Sequence Number as 128 bits, big-endian.
#[test]
fn the_default_iv_holds_large_sequence_numbers() {
    let list = |first: u64| {
        vod(&format!(
            "#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:6,\na\n#EXTINF:6,\nb"
        ))
    };
    let playlist = media(list(u64::from(u32::MAX)));
    assert_eq!(ivs(&playlist), [Some(0xffff_ffff), Some(0x1_0000_0000)]);
    assert_eq!(
        playlist.segments[1].encryption.as_ref().unwrap().iv[10..],
        [0, 1, 0, 0, 0, 0]
    );
    assert_eq!(
        ivs(&media(list(u64::MAX - 1))),
        [Some(u128::from(u64::MAX) - 1), Some(u128::from(u64::MAX))]
    );
    assert!(matches!(
        refused(&list(u64::MAX)),
        PlaylistError::Malformed { .. }
    ));
}

/// E7, and several KEYs for one segment: the readable one is taken; without one the method is named.
#[test]
fn unreadable_encryption_is_refused_unless_a_readable_key_stands_beside_it() {
    let both = "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://x\",KEYFORMAT=\"com.example\"\n\
                #EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x9\n#EXTINF:6,\na";
    assert_eq!(ivs(&media(vod(both))), [Some(9)]);
    let sample = vod("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n#EXTINF:6,\na");
    let expected = PlaylistError::UnsupportedEncryption {
        line: 3,
        method: "SAMPLE-AES".into(),
        key_format: "identity".into(),
    };
    assert_eq!(refused(&sample), expected);
    let other = vod(
        "#EXTINF:6,\na\n#EXT-X-KEY:METHOD=AES-128,URI=\"data:x\",KEYFORMAT=\"com.example\"\n#EXTINF:6,\nb",
    );
    assert_eq!(refused_line(&other), 5);
    // Replaced before any segment: never in force.
    let replaced =
        "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:6,\na";
    assert_eq!(ivs(&media(vod(replaced))), [Some(0)]);
}

/// E8: durations are decimal.
#[test]
fn durations_are_exact() {
    let playlist = media(vod(
        "#EXTINF:0.255420,title, with commas\na\n#EXTINF: 9.009 ,\nb\n#EXTINF:4\nc",
    ));
    let micros: Vec<_> = playlist.segments.iter().map(|s| s.duration.as_micros()).collect();
    assert_eq!(micros, [255_420, 9_009_000, 4_000_000]);
}

/// E9, and discontinuities: both belong to the next segment only.
#[test]
fn gaps_and_discontinuities_mark_one_segment() {
    let playlist = media(vod(
        "#EXT-X-DISCONTINUITY-SEQUENCE:7\n#EXT-X-MEDIA-SEQUENCE:40\n#EXTINF:6,\na\n\
         #EXT-X-DISCONTINUITY\n#EXT-X-GAP\n#EXTINF:6,\nb\n#EXTINF:6,\nc",
    ));
    let marks: Vec<_> = playlist
        .segments
        .iter()
        .map(|s| (s.sequence, s.discontinuity_sequence, s.discontinuity, s.gap))
        .collect();
    assert_eq!(
        marks,
        [(40, 7, false, false), (41, 8, true, true), (42, 8, false, false)]
    );
}
