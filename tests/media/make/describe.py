"""Writes expected.json: what ffmpeg, ffprobe, openssl and a sha256 say of the media. Run from tests/media.

It reads the playlists itself, knowing nothing of how they were made, and fails if ffmpeg does not hear the same in the
encrypted trees as in the plain ones.
"""

import hashlib
import json
import pathlib
import re
import subprocess
from decimal import Decimal


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def run(*command, **options):
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, **options).stdout


def pcm(path, channels):
    """As ffmpeg decodes it, to 16 bit."""
    options = ["-allowed_extensions", "ALL"] if path.suffix == ".m3u8" else []
    sound = run("ffmpeg", "-nostdin", "-v", "error", *options, "-i", path, "-bitexact", "-f", "s16le", "-")
    return {"samples": len(sound) // 2 // channels, "sha256": sha256(sound)}


def probe(path):
    options = ["-allowed_extensions", "ALL"] if path.suffix == ".m3u8" else []
    fields = "stream=codec_name,sample_rate,channels:format=duration"
    answer = json.loads(run("ffprobe", "-v", "error", *options, "-show_entries", fields, "-of", "json", path))
    stream = answer["streams"][0]
    return {
        "codec": stream["codec_name"],
        "sample_rate": int(stream["sample_rate"]),
        "channels": stream["channels"],
        "ffprobe_duration": answer["format"]["duration"],
    }


def attributes(text):
    return {name: value.strip('"') for name, value in re.findall(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)', text)}


def decrypt(data, key, sequence):
    if not key:
        return data
    folder, attrs = key
    iv = attrs.get("IV", f"0x{sequence:032x}")[2:]
    secret = (folder / attrs["URI"]).read_bytes().hex()
    return run("openssl", "enc", "-d", "-aes-128-cbc", "-K", secret, "-iv", iv, input=data)


def cut(path, place, ends):
    """The bytes of a range (n@o, or n behind the last range of the same file), and the range, half-open."""
    data = path.read_bytes()
    if not place:
        return data, None
    length, _, offset = place.partition("@")
    start = int(offset) if offset else ends[path]
    ends[path] = start + int(length)
    return data[start : ends[path]], [start, ends[path]]


def media_playlist(path):
    folder, ends = path.parent, {}
    key = duration = place = init = None
    sequence, total, stream, segments = 0, Decimal(0), b"", []
    keys = set()
    for line in path.read_text().splitlines():
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-MEDIA-SEQUENCE":
            sequence = first = int(value)
        elif tag == "#EXT-X-KEY":
            key = (folder, attributes(value))
            keys.add(attributes(value)["URI"])
        elif tag == "#EXT-X-MAP":
            attrs = attributes(value)
            wire, span = cut(folder / attrs["URI"], attrs.get("BYTERANGE"), ends)
            data = decrypt(wire, key, sequence)
            init = entry(folder / attrs["URI"], span, wire, data)
            stream += data
        elif tag == "#EXTINF":
            duration = value.rstrip(",")
        elif tag == "#EXT-X-BYTERANGE":
            place = value
        elif line and not line.startswith("#"):
            wire, span = cut(folder / line, place, ends)
            data = decrypt(wire, key, sequence)
            segments.append({**entry(folder / line, span, wire, data), "sequence": sequence, "duration": duration})
            stream += data
            total += Decimal(duration)
            sequence, place = sequence + 1, None
    about = probe(path)
    return {
        "playlist": str(path),
        "container": {".m4s": "fmp4", ".mp4": "fmp4", ".ts": "mpegts", ".aac": "packed"}[pathlib.Path(segments[0]["path"]).suffix],
        **about,
        "duration": str(total),
        "bytes": len(stream),
        "sha256": sha256(stream),
        "media_sequence": first,
        "segment_count": len(segments),
        "keys": len(keys),
        "init": init,
        "segments": segments,
        "pcm": pcm(path, about["channels"]),
    }, stream


def entry(path, span, wire, data):
    ranged = {"range": span} if span else {}
    return {"path": str(path), **ranged, "wire_bytes": len(wire), "bytes": len(data), "sha256": sha256(data)}


def tree(folder):
    """A tree with a master playlist, or with one media playlist."""
    path = folder / "master.m3u8"
    if not path.exists():
        return {"master": None, "variants": [media_playlist(folder / "playlist.m3u8")[0]]}
    variants, info = [], None
    for line in path.read_text().splitlines():
        if line.startswith("#EXT-X-STREAM-INF:"):
            info = attributes(line)
        elif line and not line.startswith("#"):
            described = media_playlist(folder / line)[0]
            variants.append({"codecs": info["CODECS"], "bandwidth": int(info["BANDWIDTH"]), **described})
    return {"master": str(path), "variants": variants}


def without_tags(described):
    """The packed tree once more, without the ID3 tag before each segment."""
    audio = b""
    for segment in described["segments"]:
        data = pathlib.Path(segment["path"]).read_bytes()
        size = 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0)))
        segment["id3_bytes"] = size
        audio += data[size:]
    described["without_id3"] = {"bytes": len(audio), "sha256": sha256(audio)}


trees = {folder.name: tree(folder) for folder in sorted(pathlib.Path("hls").iterdir())}
without_tags(trees["packed"]["variants"][0])
for one, other in zip(trees["plain"]["variants"], trees["encrypted"]["variants"], strict=True):
    for what in ("sha256", "pcm", "duration", "ffprobe_duration"):
        assert one[what] == other[what], f"{what} of {one['playlist']} and {other['playlist']} differ"

files = {}
for path in sorted(pathlib.Path("files").iterdir()):
    about = probe(path)
    data = path.read_bytes()
    described = {"bytes": len(data), "sha256": sha256(data), **about, "pcm": pcm(path, about["channels"])}
    files[path.name] = {"path": str(path), **described}
    if path.suffix == ".m4a":
        files[path.name]["moov_before_mdat"] = data.find(b"moov") < data.find(b"mdat")

versions = [run(*command).decode().splitlines()[0] for command in (("ffmpeg", "-version"), ("openssl", "version"))]
made = re.sub(r" Copyright.*", "", versions[0]), versions[1]
answer = {"made_with": made, "trees": trees, "files": files}
pathlib.Path("expected.json").write_text(json.dumps(answer, indent=1, ensure_ascii=False) + "\n")
