#!/usr/bin/env python3
"""Writes segments/ and segments.json: small HLS trees for what the decoder has to join, and what ffmpeg hears in them.

Six seconds of the music, without noise substitution, so that every decoder gives the same samples.
"""
import array
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys

MEDIA = pathlib.Path(__file__).resolve().parent.parent
OUT = MEDIA / "segments"
STRIDE = 997
RATE = 44100


def run(*command, data=None):
    return subprocess.run(list(map(str, command)), check=True, input=data, stdout=subprocess.PIPE).stdout


def ffmpeg(*arguments, data=None):
    return run("ffmpeg", "-nostdin", "-v", "error", "-y", *arguments, data=data)


EXACT = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"]


def boxes(data):
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind.decode(), data[at : at + size]
        at += size


def durations(fragment):
    """The durations of a fragment's packets, in units of its track."""
    default, found = 0, []

    def walk(data):
        nonlocal default
        for kind, box in boxes(data):
            if kind in ("moof", "traf"):
                walk(box[8:])
            elif kind == "tfhd":
                flags = struct.unpack(">I", box[8:12])[0] & 0xFFFFFF
                at = 16 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
                default = struct.unpack(">I", box[at : at + 4])[0] if flags & 8 else default
            elif kind == "trun":
                flags, count = struct.unpack(">II", box[8:16])
                flags &= 0xFFFFFF
                at = 16 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
                width = 4 * bin(flags >> 8 & 15).count("1")
                for packet in range(count):
                    entry = box[at + packet * width :]
                    found.append(struct.unpack(">I", entry[:4])[0] if flags & 0x100 else default)

    walk(fragment)
    return found


def priming(init):
    """media_time of the edit list."""
    at = init.index(b"elst")
    return struct.unpack(">i", init[at + 16 : at + 20])[0]


def samples(pcm, frames, channels, skip):
    values = array.array("f", pcm)
    assert len(values) >= (skip + frames) * channels, (len(values) / channels, skip, frames)
    picked = [values[(skip + at) * channels + at // STRIDE % channels] for at in range(0, frames, STRIDE)]
    return [round(value, 6) for value in picked]


def decode(path, *options):
    return ffmpeg(*options, "-i", path, "-f", "f32le", "-")


def write(name, init, segments, suffix, row):
    folder = OUT / name
    folder.mkdir(parents=True)
    if init:
        (folder / "init.mp4").write_bytes(init)
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:3", "#EXT-X-PLAYLIST-TYPE:VOD"]
    lines += ['#EXT-X-MAP:URI="init.mp4"'] if init else []
    for number, (data, seconds) in enumerate(segments):
        (folder / f"seg-{number}.{suffix}").write_bytes(data)
        lines += [f"#EXTINF:{seconds:.6f},", f"seg-{number}.{suffix}"]
    (folder / "playlist.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    ROWS[name] = {
        "init": f"segments/{name}/init.mp4" if init else None,
        "segments": [
            {"path": f"segments/{name}/seg-{number}.{suffix}", "duration": f"{seconds:.6f}"}
            for number, (_, seconds) in enumerate(segments)
        ],
        "stride": STRIDE,
        **row,
    }


ROWS = {}


def fmp4(name, sound, codec, rate=RATE, scale=RATE, length="1.7", reference=None, channels=2, skip=None):
    """Fragments of a file with an edit list, as packagers write it: what is priming is no part of EXTINF."""
    whole = WORK / f"{name.replace('/', '-')}.mp4"
    micros = str(round(float(length) * 1_000_000))
    flags = ["-movflags", "+delay_moov+default_base_moof", "-frag_duration", micros]
    ffmpeg("-i", sound, *codec, *EXACT, *flags, whole)
    parts = list(boxes(whole.read_bytes()))
    init = b"".join(data for kind, data in parts if kind in ("ftyp", "moov"))
    fragments = [(data, parts[at + 1][1]) for at, (kind, data) in enumerate(parts) if kind == "moof"]
    start = priming(init)
    segments, total = [], -start
    for number, (moof, mdat) in enumerate(fragments):
        units = sum(durations(moof)) - (start if number == 0 else 0)
        total += sum(durations(moof))
        segments.append((moof + mdat, units / scale))
    frames = round(total * rate / scale)
    start = round(start * rate / scale)
    # Every packet decoded, and the priming left out by the edit list: ffmpeg itself ignores one in a fragmented file.
    pcm = reference(whole)
    write(name, init, segments, "m4s", {
        "container": "fmp4", "sample_rate": rate, "channels": channels, "frames": frames, "trim": start,
        "samples": samples(pcm, frames, channels, start if skip is None else skip),
    })


def bare(suffix, *options):
    """Decodes the packets alone, without the container's word on priming."""

    def decoded(whole):
        alone = WORK / f"bare.{suffix}"
        ffmpeg("-i", whole, "-c", "copy", *options, alone)
        return decode(alone)

    return decoded


def stream(name, sound, codec, suffix, muxer, skip=0, packets=None):
    """Segments as ffmpeg cuts them: nothing says what is priming."""
    cut = WORK / name.replace("/", "-")
    cut.mkdir()
    ffmpeg("-i", sound, *codec, *EXACT, "-f", "segment", "-segment_time", "1.7", "-segment_list", cut / "list.csv", *muxer, cut / f"%d.{suffix}")
    rows = [line.split(",") for line in (cut / "list.csv").read_text().split()]
    segments = [((cut / file).read_bytes(), float(end) - float(start)) for file, start, end in rows]
    whole = WORK / f"{name.replace('/', '-')}-whole.{packets}"
    ffmpeg("-i", sound, *codec, *EXACT, *(["-write_xing", "0"] if packets == "mp3" else []), whole)
    pcm = decode(whole)
    frames = len(pcm) // 8
    write(name, None, segments, suffix, {
        "container": "packed" if suffix in ("mp3", "aac") else "mpegts", "sample_rate": RATE, "channels": 2, "frames": frames,
        "trim": 0, "samples": samples(pcm, frames, 2, 0),
    })


def he_aac(version, rate, pcm):
    """By the Fraunhofer library, built once: tests/media/make/he_aac."""
    manifest = MEDIA / "make" / "he_aac" / "Cargo.toml"
    target = os.environ.get("HE_AAC_TARGET", WORK / "he_aac")
    return run("cargo", "run", "--quiet", "--manifest-path", manifest, "--target-dir", target, "--", version, rate, data=pcm)


def main(piece):
    shutil.rmtree(OUT, ignore_errors=True)
    sound, coarse = WORK / "six.wav", WORK / "coarse.wav"
    ffmpeg("-ss", "9", "-t", "6", "-i", piece, sound)
    # FLAC and ALAC are large: the lowest four bits are dropped.
    ffmpeg("-i", sound, "-af", "aformat=sample_fmts=s16,volume=0.0625:precision=fixed,volume=16:precision=fixed", coarse)
    aac = lambda rate: ["-c:a", "aac", "-aac_pns", "0", "-b:a", rate]
    fmp4("ladder/aac-64", sound, aac("64k"), reference=bare("aac"))
    fmp4("ladder/aac-128", sound, aac("128k"), reference=bare("aac"))
    fmp4("ladder/flac", coarse, ["-c:a", "flac", "-strict", "-2"], reference=bare("flac"), length="1.3")
    fmp4("alac", coarse, ["-c:a", "alac"], reference=lambda _: decode(coarse))
    fmp4("opus", sound, ["-c:a", "libopus", "-b:a", "64k"], rate=48000, scale=48000,
         reference=lambda whole: opus(whole), skip=0)
    stream("ts-aac", sound, aac("64k"), "ts", ["-segment_format", "mpegts"], packets="aac")
    mp3 = ["-c:a", "libmp3lame", "-b:a", "64k"]
    stream("ts-mp3", sound, mp3, "ts", ["-segment_format", "mpegts"], packets="mp3")
    # Each with an Info frame of its own.
    stream("packed-mp3", sound, mp3, "mp3", ["-segment_format", "mp3", "-segment_format_options", "id3v2_version=0"], packets="mp3")
    for version, rate in ((1, 48000), (2, 32000)):
        adts = WORK / f"he-{version}.aac"
        adts.write_bytes(he_aac(version, rate, ffmpeg("-ss", "9", "-t", "4", "-i", piece, "-f", "s16le", "-")))
        copy = ["-c:a", "copy"]
        # Neither says that there is replication: the packets do.
        stream(f"he-aac-{version}/ts", adts, copy, "ts", ["-segment_format", "mpegts"], packets="aac")
        stream(f"he-aac-{version}/packed", adts, copy, "aac", ["-segment_format", "adts"], packets="aac")
    (MEDIA / "segments.json").write_text(json.dumps(ROWS, separators=(",", ":")) + "\n")


def opus(whole):
    """libopus, whose pre-skip ffmpeg leaves out where Ogg says so."""
    ogg = WORK / "bare.opus"
    ffmpeg("-i", whole, "-c", "copy", ogg)
    return decode(ogg, "-request_sample_fmt", "flt", "-c:a", "libopus")


if __name__ == "__main__":
    WORK = pathlib.Path(sys.argv[1])
    main(WORK / "piece.wav")
