#!/usr/bin/env python3
"""Writes packets.json: what ffmpeg's demuxers, never kithara's, find in the clear HLS trees."""
import hashlib
import json
import pathlib
import re
import subprocess

MEDIA = pathlib.Path(__file__).resolve().parent.parent


def streams():
    expected = json.loads((MEDIA / "expected.json").read_text())
    for name in ("plain", "ts", "packed", "byterange"):
        for variant in expected["trees"][name]["variants"]:
            parts = [variant["init"]] if variant["init"] else []
            yield variant, parts + variant["segments"]


def read(part):
    data = (MEDIA / part["path"]).read_bytes()
    return data[slice(*part["range"])] if part.get("range") else data


def packets(variant, data):
    # ADTS headers are the container's, as TS and packed audio carry them.
    bare = ["-bsf:a", "aac_adtstoasc"] if variant["container"] != "fmp4" else []
    command = ["ffmpeg", "-v", "error", "-copyts", "-i", "pipe:0", "-map", "0:a", "-c", "copy", *bare]
    text = subprocess.run([*command, "-f", "framehash", "-hash", "crc32", "-"], input=data, check=True, capture_output=True).stdout.decode()
    scale = int(re.search(r"#tb 0: 1/(\d+)", text)[1])
    rows = [line.split(",")[:6] for line in text.splitlines() if not line.startswith("#")]
    return scale, [(int(pts), int(duration), int(size), crc.strip()) for _, _, pts, duration, size, crc in rows]


def declared(variant):
    """How many frames fMP4 says that it has: for AAC the playlist adds it up, padding left out; FLAC has no padding."""
    if variant["container"] != "fmp4":
        return None
    if variant["codec"] == "flac":
        return variant["pcm"]["samples"]
    return round(float(variant["duration"]) * variant["sample_rate"])


def describe(variant, parts):
    scale, rows = packets(variant, b"".join(map(read, parts)))
    first = rows[0][0]
    frames = 1024 if variant["codec"] == "aac" else 2304
    # Where a container does not give each packet a time, ffmpeg adds up rounded durations: the table says the number.
    for index, (pts, *_) in enumerate(rows):
        assert abs((pts - first) * variant["sample_rate"] / scale - index * frames) < frames / 2, (variant["playlist"], index)
    lines = "".join(f"{size} {crc}\n" for _, _, size, crc in rows)
    return {
        "container": variant["container"],
        "parts": [{key: part[key] for key in ("path", "range") if part.get(key)} for part in parts],
        "packets": len(rows),
        "frames": frames,
        "declared": declared(variant),
        "sample_rate": variant["sample_rate"],
        "first_pts": first if variant["container"] != "packed" else None,
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }


if __name__ == "__main__":
    rows = {variant["playlist"]: describe(variant, parts) for variant, parts in streams()}
    (MEDIA / "packets.json").write_text(json.dumps(rows, indent=1) + "\n")
