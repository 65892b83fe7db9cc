"""Builds the HLS trees from what ffmpeg cut. Usage: package.py WORK HLS

WORK holds one folder a rendition with init.mp4 (or none), seg-*.m4s and ffmpeg's cut.m3u8. Encryption is openssl's.
"""

import hashlib
import math
import pathlib
import re
import shutil
import subprocess
import sys

WORK, HLS = map(pathlib.Path, sys.argv[1:])
# Where players should start comes first (RFC 8216, 4.3.4.2 leaves the choice to the order), then down, up, lossless.
AAC = ["aac-80", "aac-48", "aac-112"]
# Below 2^32 for the first six segments, above it after: a default IV is a number of 128 bits.
FIRST_SEQUENCE = 2**32 - 6
# Of each segment: its key, and whether its IV is written or the Media Sequence Number. Segment 2 keeps the key of 1 and
# changes the IV; 8 and 9 come back to the first key.
ROTATION = [(0, "a"), (0, "a"), (0, "b"), (1, None), (1, None), (1, None), (2, "c"), (2, "c"), (0, None), (3, None)]


def digest16(text):
    return hashlib.sha256(f"kithara {text}".encode()).digest()[:16]


def encrypt(source, target, key, iv):
    command = ["openssl", "enc", "-aes-128-cbc", "-K", key.hex(), "-iv", iv.hex()]
    subprocess.run([*command, "-in", source, "-out", target], check=True)


def cuts(name):
    """(duration as ffmpeg wrote it, file) of each segment."""
    text = (WORK / name / "cut.m3u8").read_text()
    found = re.findall(r"#EXTINF:([0-9.]+),[^\n]*\n([^#\n]+)\n", text)
    return [(duration, WORK / name / file) for duration, file in found]


def playlist(target, durations, body, version=7, first=0):
    head = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{version}",
        f"#EXT-X-TARGETDURATION:{math.ceil(max(map(float, durations)))}",
        f"#EXT-X-MEDIA-SEQUENCE:{first}",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]
    target.write_text("\n".join([*head, *body, "#EXT-X-ENDLIST", ""]))


def plain(name, target, first=0, version=7):
    target.mkdir(parents=True)
    segments = cuts(name)
    body = []
    if (WORK / name / "init.mp4").exists():
        shutil.copy(WORK / name / "init.mp4", target)
        body.append('#EXT-X-MAP:URI="init.mp4"')
    for duration, path in segments:
        shutil.copy(path, target)
        body += [f"#EXTINF:{duration},", path.name]
    playlist(target / "playlist.m3u8", [d for d, _ in segments], body, version, first)


def key_line(key, iv, folder):
    line = f'#EXT-X-KEY:METHOD=AES-128,URI="{folder}k{key}.key"'
    return f"{line},IV=0x{iv.hex().upper()}" if iv else line


def encrypted(name, target):
    """The initialisation section in clear, before the first key; keys that rotate."""
    target.mkdir(parents=True)
    shutil.copy(WORK / name / "init.mp4", target)
    segments = cuts(name)
    body, before = ['#EXT-X-MAP:URI="init.mp4"'], None
    for number, ((duration, path), (key, label)) in enumerate(zip(segments, ROTATION, strict=True)):
        written = digest16(f"iv {name} {label}") if label else None
        if (key, written) != before:
            body.append(key_line(key, written, "../keys/"))
            before = (key, written)
        iv = written or (FIRST_SEQUENCE + number).to_bytes(16, "big")
        encrypt(path, target / path.name, digest16(f"key {key}"), iv)
        body += [f"#EXTINF:{duration},", path.name]
    playlist(target / "playlist.m3u8", [d for d, _ in segments], body, first=FIRST_SEQUENCE)


def encrypted_init(name, target):
    """The initialisation section encrypted as well, which takes a written IV (RFC 8216, 4.3.2.5)."""
    target.mkdir(parents=True)
    iv, key = digest16("iv init"), digest16("key init")
    (target / "k0.key").write_bytes(key)
    segments = cuts(name)
    body = [key_line(0, iv, ""), '#EXT-X-MAP:URI="init.mp4"']
    encrypt(WORK / name / "init.mp4", target / "init.mp4", key, iv)
    for duration, path in segments:
        encrypt(path, target / path.name, key, iv)
        body += [f"#EXTINF:{duration},", path.name]
    playlist(target / "playlist.m3u8", [d for d, _ in segments], body, first=3)


def byterange(name, target):
    """One file: the initialisation section, sixteen bytes that belong to nobody, the segments.

    The offset of the second is left out: it follows the first.
    """
    target.mkdir(parents=True)
    whole = (WORK / name / "init.mp4").read_bytes()
    body = [f'#EXT-X-MAP:URI="all.mp4",BYTERANGE="{len(whole)}@0"']
    # A box of type "free".
    whole += (16).to_bytes(4, "big") + b"free" + bytes(8)
    segments = cuts(name)
    for number, (duration, path) in enumerate(segments):
        data = path.read_bytes()
        place = "" if number == 1 else f"@{len(whole)}"
        body += [f"#EXTINF:{duration},", f"#EXT-X-BYTERANGE:{len(data)}{place}", "all.mp4"]
        whole += data
    (target / "all.mp4").write_bytes(whole)
    playlist(target / "playlist.m3u8", [d for d, _ in segments], body)


def packed(source, target):
    """ADTS frames in segments of about six seconds, each behind an ID3 tag with its time (RFC 8216, 3.4)."""
    target.mkdir(parents=True)
    data = source.read_bytes()
    frames, at = [], 0
    while at < len(data):
        assert data[at] == 0xFF and data[at + 1] & 0xF6 == 0xF0, "an ADTS frame"
        size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        frames.append(data[at : at + size])
        at += size
    rate, a_segment = 44_100, 259
    body, durations = [], []
    for number, first in enumerate(range(0, len(frames), a_segment)):
        some = frames[first : first + a_segment]
        # 33 bits of a 90 kHz clock that starts at ten seconds.
        clock = (900_000 + first * 1024 * 90_000 // rate) % 2**33
        private = b"com.apple.streaming.transportStreamTimestamp\0" + clock.to_bytes(8, "big")
        frame = b"PRIV" + synchsafe(len(private)) + b"\0\0" + private
        tag = b"ID3\x04\0\0" + synchsafe(len(frame)) + frame
        (target / f"seg-{number:03}.aac").write_bytes(tag + b"".join(some))
        durations.append(f"{len(some) * 1024 / rate:.6f}")
        body += [f"#EXTINF:{durations[-1]},", f"seg-{number:03}.aac"]
    playlist(target / "playlist.m3u8", durations, body, version=3)


def synchsafe(number):
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def master(tree):
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="lossless",NAME="Lossless",LANGUAGE="zxx",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="1",'
        'URI="flac/playlist.m3u8"',
    ]
    for name in [*AAC, "flac"]:
        sizes = [((tree / name / path.name).stat().st_size * 8, float(duration)) for duration, path in cuts(name)]
        peak = math.ceil(max(bits / seconds for bits, seconds in sizes))
        mean = math.ceil(sum(bits for bits, _ in sizes) / sum(seconds for _, seconds in sizes))
        kind = 'CODECS="fLaC",AUDIO="lossless"' if name == "flac" else 'CODECS="mp4a.40.2"'
        lines += [f"#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={mean},{kind}", f"{name}/playlist.m3u8"]
    (tree / "master.m3u8").write_text("\n".join([*lines, ""]))


for rendition in [*AAC, "flac"]:
    plain(rendition, HLS / "plain" / rendition)
    encrypted(rendition, HLS / "encrypted" / rendition)
(HLS / "encrypted/keys").mkdir()
for number in range(4):
    (HLS / f"encrypted/keys/k{number}.key").write_bytes(digest16(f"key {number}"))
master(HLS / "plain")
master(HLS / "encrypted")
encrypted_init("encrypted-init", HLS / "encrypted-init")
byterange("byterange", HLS / "byterange")
plain("ts", HLS / "ts", first=1, version=3)
packed(WORK / "packed.aac", HLS / "packed")
