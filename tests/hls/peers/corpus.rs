//! Playlists to hold against other parsers: a generator with fixed seeds, and some by hand.
//!
//! The first letter of a file's name says what it is: `p` a segment in plain text, `e` an encrypted one, `k` a key, `i` and
//! `j` a section plain and encrypted, `m` a Media Playlist, `r` that of a rendition.

use std::fmt::Write as _;

/// A reproducible sequence (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[usize::try_from(self.roll(choices.len() as u64)).unwrap()]
    }
}

/// How a file beside the playlist `number` is named, relative or not.
fn reference(dice: &mut Dice, number: usize, base: &str, name: &str) -> String {
    match dice.roll(8) {
        0 => format!("./{name}"),
        1 => format!("../{number}/{name}"),
        2 => format!("/{number}/{name}"),
        3 => format!("{base}{number}/{name}"),
        4 => format!("{name}?t={}&u=a,b", dice.roll(100)),
        _ => name.to_owned(),
    }
}

/// Lines that say nothing of what plays.
fn advice(dice: &mut Dice) -> &'static str {
    dice.pick(&[
        "#EXT-X-PROGRAM-DATE-TIME:2025-08-05T21:59:42.417Z",
        "#EXT-X-DATERANGE:ID=\"a\",START-DATE=\"2025-08-05T21:59:42Z\",X-COM=\"=,\"",
        "#EXT-X-BITRATE:128",
        "#EXT-X-UNKNOWN:URI=\"nothing\"",
        "#EXT-X-START:TIME-OFFSET=0",
        "#EXT-X-CUE-OUT-X:1",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-ALLOW-CACHE:YES",
        "# a comment, with = and \"quotes",
        "#EXTVLCOPT:network-caching=1000",
        "#",
        "",
        "   ",
    ])
}

fn key(dice: &mut Dice, number: usize, base: &str, has_map: bool) -> String {
    let name = format!("k{}.key", dice.roll(3));
    let uri = reference(dice, number, base, &name);
    // A comma ends a value without quotes.
    let quoteless = dice.one_in(5) && !uri.contains(',');
    let uri = if quoteless { uri } else { format!("\"{uri}\"") };
    let uri = match dice.roll(8) {
        0 => format!(" URI={uri}"),
        1 => format!("URI={uri},KEYFORMAT=\"identity\",KEYFORMATVERSIONS=\"1\""),
        2 => format!("URI={uri},NEW=0x5"),
        _ => format!("URI={uri}"),
    };
    let iv = if has_map || dice.one_in(2) {
        let digits = format!("{:032x}", u128::from(dice.roll(u64::MAX)));
        if dice.one_in(2) {
            format!(",IV=0x{digits}")
        } else {
            format!(",IV=0X{}", digits.to_uppercase())
        }
    } else {
        String::new()
    };
    format!("#EXT-X-KEY:METHOD=AES-128,{uri}{iv}")
}

fn section(dice: &mut Dice, number: usize, base: &str, encrypted: bool) -> String {
    let name = format!("{}{}.aac", if encrypted { 'j' } else { 'i' }, dice.roll(3));
    let uri = reference(dice, number, base, &name);
    match dice.roll(5) {
        0 if !uri.contains(',') => format!("#EXT-X-MAP:URI={uri}"),
        1 => format!(
            "#EXT-X-MAP:URI=\"{uri}\",BYTERANGE=\"{}@{}\"",
            100 + dice.roll(900),
            dice.roll(900)
        ),
        _ => format!("#EXT-X-MAP:URI=\"{uri}\""),
    }
}

/// A Media Playlist.
fn media(dice: &mut Dice, number: usize, base: &str) -> String {
    let mut lines = vec!["#EXTM3U".to_owned()];
    lines.push(format!("#EXT-X-VERSION:{}", 3 + dice.roll(5)));
    lines.push(
        dice.pick(&[
            "#EXT-X-TARGETDURATION:7",
            "#EXT-X-TARGETDURATION:10",
            "#EXT-X-TARGETDURATION: 7",
        ])
        .into(),
    );
    if dice.one_in(2) {
        let first = dice.roll(5000);
        lines.push(format!("#EXT-X-MEDIA-SEQUENCE:{first}"));
    }
    if dice.one_in(4) {
        lines.push(
            dice.pick(&["#EXT-X-DISCONTINUITY-SEQUENCE:3", "#EXT-X-PLAYLIST-TYPE:VOD"])
                .into(),
        );
    }
    let has_map = dice.one_in(3);
    let (mut encrypted, mut end) = (false, None::<(String, u64)>);
    for index in 0..=dice.roll(7) {
        while dice.one_in(4) {
            lines.push(advice(dice).into());
        }
        if dice.one_in(5) {
            encrypted = !dice.one_in(3);
            lines.push(if encrypted {
                key(dice, number, base, has_map)
            } else {
                "#EXT-X-KEY:METHOD=NONE".into()
            });
        }
        if has_map && (index == 0 || dice.one_in(4)) {
            lines.push(section(dice, number, base, encrypted));
        }
        if index > 0 && dice.one_in(6) {
            lines.push("#EXT-X-DISCONTINUITY".into());
        }
        // Half a segment, and a line that is none.
        match dice.roll(25) {
            0 => lines.push("#EXTINF:4,lost".into()),
            1 => lines.push(dice.pick(&["x.aac", "http://stray.invalid/x.aac", "x"]).into()),
            _ => {}
        }
        let duration = dice.pick(&[
            "6.006,",
            "6,",
            "6",
            "5.99999,a title, with commas",
            " 4.5 ,",
            "0.255420,",
            "3.,",
            "6.0000,\u{e9}",
        ]);
        let duration = format!("#EXTINF:{duration}");
        let letter = if encrypted { 'e' } else { 'p' };
        let name = format!("{letter}{}.aac", dice.roll(4));
        let mut uri = reference(dice, number, base, &name);
        let range = dice.one_in(5).then(|| {
            let length = 16 * (10 + dice.roll(60));
            match &end {
                // Goes on where the one before it ended.
                Some((of, at)) if dice.one_in(2) => {
                    uri.clone_from(of);
                    (format!("#EXT-X-BYTERANGE:{length}"), at + length)
                }
                _ => {
                    let offset = dice.roll(9000);
                    (format!("#EXT-X-BYTERANGE:{length}@{offset}"), offset + length)
                }
            }
        });
        end = range.as_ref().map(|(_, end)| (uri.clone(), *end));
        let range = range.map(|(line, _)| line);
        if dice.one_in(2) {
            lines.extend([Some(duration), range].into_iter().flatten());
        } else {
            lines.extend([range, Some(duration)].into_iter().flatten());
        }
        if dice.one_in(8) {
            lines.push(advice(dice).into());
        }
        lines.push(uri);
    }
    match dice.roll(16) {
        0 => lines.push("#EXTINF:4,".into()),
        1 => lines.push("stray".into()),
        2 => lines.push("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x.aac\"".into()),
        _ => {}
    }
    lines.push("#EXT-X-ENDLIST".into());
    finish(dice, &lines)
}

/// A Multivariant Playlist.
fn multivariant(dice: &mut Dice, number: usize, base: &str) -> String {
    let mut lines = vec!["#EXTM3U".to_owned()];
    let groups = ["aac", "flac"];
    for index in 0..dice.roll(4) {
        let group = dice.pick(&groups);
        let uri = reference(dice, number, base, &format!("r{index}.m3u8"));
        let uri = match dice.roll(6) {
            0 => String::new(),
            1 if !uri.contains(',') => format!(",URI={uri}"),
            _ => format!(",URI=\"{uri}\""),
        };
        let flags = dice.pick(&[
            "",
            ",DEFAULT=YES",
            ",DEFAULT=NO,AUTOSELECT=YES",
            ",AUTOSELECT=YES,CHANNELS=\"2\"",
        ]);
        let language = dice.pick(&["", ",LANGUAGE=\"en\"", ",LANGUAGE=\"de-DE\""]);
        lines.push(format!(
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",NAME=\"n{index}\"{language}{flags}{uri}"
        ));
    }
    for index in 0..=dice.roll(5) {
        while dice.one_in(4) {
            lines.push(
                dice.pick(&[
                    "#EXT-X-SESSION-DATA:DATA-ID=\"a\",VALUE=\"b\"",
                    "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"iframes.m3u8\"",
                    "#EXT-X-CONTENT-STEERING:SERVER-URI=\"/steer\",PATHWAY-ID=\"x\"",
                    "#EXT-X-INDEPENDENT-SEGMENTS",
                    "#EXT-X-START:TIME-OFFSET=0.5,PRECISE=YES",
                    "# comment",
                    "",
                ])
                .into(),
            );
        }
        if dice.one_in(15) {
            lines.push(dice.pick(&["stray.m3u8", "#EXT-X-STREAM-INF:BANDWIDTH=5"]).into());
        }
        let bandwidth = 1000 * (1 + dice.roll(900));
        let bandwidth = match dice.roll(6) {
            0 => format!("{bandwidth}.5"),
            1 => format!("{bandwidth},AVERAGE-BANDWIDTH=1"),
            _ => bandwidth.to_string(),
        };
        let codecs = dice.pick(&[
            "",
            ",CODECS=\"mp4a.40.2\"",
            ",CODECS=\"avc1.64001f,mp4a.40.2\"",
            ", CODECS=\"fLaC\"",
        ]);
        let audio = if dice.one_in(2) {
            format!(",AUDIO=\"{}\"", dice.pick(&groups))
        } else {
            String::new()
        };
        let rest = dice.pick(&[
            "",
            ",RESOLUTION=1920x1080,FRAME-RATE=29.97",
            ",NAME=\"x\"",
            ",X-NEW=\"=,\"",
        ]);
        lines.push(format!(
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}{codecs}{audio}{rest}"
        ));
        if dice.one_in(10) {
            lines.push("# between".into());
        }
        lines.push(reference(dice, number, base, &format!("m{index}.m3u8")));
    }
    finish(dice, &lines)
}

fn finish(dice: &mut Dice, lines: &[String]) -> String {
    let (mark, end) = (
        dice.pick(&["\u{feff}", "", "", "", "", "", "", "", "", ""]),
        dice.pick(&["\r\n", "\n", "\n", " \n", "\t\r\n"]),
    );
    let mut text = mark.to_owned();
    for line in lines {
        write!(text, "{line}{end}").unwrap();
    }
    if dice.one_in(8) {
        text.trim_end().to_owned()
    } else {
        text
    }
}

/// All of them: the same ones each time. `base` is the URL below which each has a folder of its own, named by its number.
pub(super) fn all(base: &str) -> Vec<String> {
    let mut texts: Vec<String> = BY_HAND.iter().map(|text| (*text).to_owned()).collect();
    for seed in 0..400 {
        let (mut dice, number) = (Dice(seed), texts.len());
        let kind = if seed % 4 == 3 { multivariant } else { media };
        texts.push(kind(&mut dice, number, base));
    }
    texts
}

/// Kinds of mistakes and liberties, one each.
pub(super) const BY_HAND: &[&str] = &[
    "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXT-X-KEY:METHOD=AES-128,URI=k0.key,IV=0x01\n#EXTINF:4,\ne0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:4,\np0.aac\n#EXTINF:4,\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH = 128000,CODECS = \"mp4a.40.2\"\nm0.m3u8\n",
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=128000.5\nm0.m3u8\n",
    "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",DEFAULT=YES,URI=\"r0.m3u8\"\nm0.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=128000,AUDIO=\"a\"\nm0.m3u8\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"iframes.m3u8\"\niframes.m3u8\n",
    // No tag but EXTINF.
    "#EXTM3U\n#EXTINF:6,\np0.aac\n#EXTINF:6,\np1.aac\n#EXT-X-ENDLIST",
    // The end in the middle.
    "#EXTM3U\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n#EXTINF:6,\np1.aac\n",
    // Two durations; a duration without its comma; one that is none.
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n#EXTINF:5,\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:-1,radio\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6e0,\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:,\np0.aac\n#EXT-X-ENDLIST\n",
    // A range that goes on from nothing, and one across resources.
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n#EXT-X-BYTERANGE:1600\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n#EXT-X-BYTERANGE:1600@0\np0.aac\n#EXTINF:6,\n#EXT-X-BYTERANGE:1600\np1.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n#EXT-X-BYTERANGE:0@0\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-BYTERANGE:1600@0\n#EXTINF:6,\np0.aac\n#EXTINF:6,\np1.aac\n#EXT-X-ENDLIST\n",
    // Keys: none, twice, of another system, unknown.
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=AES-128\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=AES-128,URI=\"k0.key\",URI=\"k1.key\"\n#EXTINF:6,\ne0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k0.key\"\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=AES-256,URI=\"k0.key\"\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=AES-128,URI=\"k0.key\n#EXTINF:6,\ne0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=AES-128,URI=\"k0.key\",IV=0x1\n#EXTINF:6,\ne0.aac\n#EXT-X-KEY:METHOD=NONE,URI=\"k1.key\"\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    // Sections: without a URI, under a key without an IV.
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MAP:BYTERANGE=\"10@0\"\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=AES-128,URI=\"k0.key\"\n#EXT-X-MAP:URI=\"j0.aac\"\n#EXTINF:6,\ne0.aac\n#EXT-X-ENDLIST\n",
    // Sequence numbers: late, with a fraction, negative.
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\np0.aac\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:7.0\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:-7\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-DISCONTINUITY-SEQUENCE:x\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    // Gaps, parts, variables.
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\np0.aac\n#EXT-X-GAP\n#EXTINF:6,\np1.aac\n#EXTINF:6,\np2.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-PART:DURATION=1,URI=\"p9.aac\"\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"p0\"\n#EXTINF:6,\n{$v}.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-DEFINE:broken\n#EXT-X-START:TIME-OFFSET=soon\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    // Both kinds in one.
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\np0.aac\n#EXT-X-STREAM-INF:BANDWIDTH=1\nm0.m3u8\n#EXT-X-ENDLIST\n",
    // Multivariant Playlists: nothing pending, nothing named, broken quotes, a rendition in no group.
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nm0.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\n",
    "#EXTM3U\n#EXT-X-STREAM-INF:PROGRAM-ID=1\nm0.m3u8\n",
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=\"7000\"\nm0.m3u8\n",
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"mp4a\nm0.m3u8\n",
    "#EXTM3U\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"s\n#EXT-X-STREAM-INF:BANDWIDTH=1\nm0.m3u8\n",
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=fast\nm0.m3u8\n",
    // Stray lines: before, between, behind; in front of a discontinuity; sections without quotes.
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\nx0.aac\n#EXTINF:6,\np0.aac\nx1.aac\n#EXTINF:6,\np1.aac\nx2.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\np0.aac\n#EXT-X-DISCONTINUITY\nx1.aac\n#EXTINF:6,\np1.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-BYTERANGE:1600@0\nx0.aac\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MAP:URI=i0.aac,BYTERANGE=700@10\n#EXTINF:6,\np0.aac\n#EXT-X-ENDLIST\n",
    // No playlist.
    "<html></html>",
    "#EXTM3U\n",
];
