#!/usr/bin/env python3
"""Writes table/ and table.json: one small file of each kind that encoders write, and what is in it.

A row says how many frames its encoder was given, and what a decoder that is not kithara's makes of them: the SHA-256 of the
samples as floats where the codec is lossless, every 499 frames one sample where it is not.
"""
import array
import hashlib
import json
import pathlib
import shutil
import struct
import subprocess
import sys

MEDIA = pathlib.Path(__file__).resolve().parent.parent
OUT = MEDIA / "table"
STRIDE = 499
EXACT = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"]


def run(*command):
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout


def ffmpeg(*arguments):
    return run("ffmpeg", "-nostdin", "-v", "error", "-y", *arguments)


def decoded(path, *options):
    return array.array("f", ffmpeg(*options, "-i", path, "-f", "f32le", "-c:a", "pcm_f32le", "-"))


ROWS = {}


def row(name, codec, container, rate, channels, frames, rule, pcm, skip=0, feature=None, lossless=False):
    """`pcm` is the reference; its frame `skip` is the track's first."""
    pcm = pcm[skip * channels : (skip + frames) * channels]
    # What ffmpeg cuts from the end it cannot be asked about.
    assert len(pcm) >= (frames - 3000) * channels, (name, len(pcm) / channels, frames)
    assert not lossless or len(pcm) == frames * channels, (name, len(pcm) / channels, frames)
    data = (OUT / name).read_bytes()
    ROWS[name] = {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "codec": codec.title() if codec == "PCM" else codec,
        "container": container,
        "sample_rate": rate,
        "channels": channels,
        "frames": frames,
        "rule": rule,
        "feature": feature,
    }
    if lossless:
        ROWS[name]["pcm"] = hashlib.sha256(pcm.tobytes()).hexdigest()
    else:
        places = range(0, len(pcm) // channels, STRIDE)
        picked = [pcm[at * channels + at // STRIDE % channels] for at in places]
        ROWS[name]["stride"] = STRIDE
        ROWS[name]["samples"] = [round(value, 6) for value in picked]


def sound(seconds, rate, channels=2):
    """The music from its middle on, spread over more channels, each with a level of its own."""
    path = WORK / f"sound-{seconds}-{rate}-{channels}.wav"
    if not path.exists():
        pan = []
        if channels > 2:
            layout = {4: "quad", 6: "5.1", 8: "7.1"}[channels]
            mixed = "|".join(f"c{at}={0.9 - at * 0.1:.1f}*c{at % 2}" for at in range(channels))
            pan = ["-af", f"aresample={rate},pan={layout}|{mixed}"]
        elif channels == 1:
            pan = ["-ac", "1"]
        # Half a second more, as a resampler ends early.
        wide = WORK / "wide.wav"
        ffmpeg("-ss", "12", "-t", seconds + 0.5, "-i", PIECE, *pan, "-ar", rate, "-c:a", "pcm_s24le", wide)
        ffmpeg("-i", wide, "-af", f"atrim=end_sample={round(seconds * rate)}", "-c:a", "pcm_s24le", *EXACT, path)
    return path


def made(name, source, *arguments):
    ffmpeg("-i", source, *EXACT, *arguments, OUT / name)
    return OUT / name


def pcm(name, container, arguments, seconds=0.25, rate=22050, channels=2):
    path = made(name, sound(seconds, rate, channels), *arguments)
    row(name, "PCM", container, rate, channels, round(seconds * rate), "None", decoded(path), lossless=True)


def lossless(name, codec, container, arguments, seconds=0.3, rate=44100, channels=2, rule="None", sample="s16"):
    source = sound(seconds, rate, channels)
    path = made(name, source, *arguments, *(["-sample_fmt", sample] if sample else []))
    row(name, codec, container, rate, channels, round(seconds * rate), rule, decoded(path), lossless=True)


def lossy(name, codec, container, arguments, rule, seconds=2.0, rate=44100, channels=2, frames=None, skip=0,
          reference=decoded, feature=None, out_rate=None):
    path = made(name, sound(seconds, rate, channels), *arguments)
    count = round(seconds * (out_rate or rate)) if frames is None else frames
    row(name, codec, container, out_rate or rate, channels, count, rule, reference(path), skip, feature)


def tool(name, command, codec, container, rule, seconds=2.0, rate=44100, frames=None, out_rate=None, feature=None,
         is_lossless=False, reference=decoded, source=None):
    """By an encoder that is no part of ffmpeg. `command` names its input `IN` and its output `OUT`."""
    given = source or WORK / f"given-{seconds}-{rate}.wav"
    ffmpeg("-i", sound(seconds, rate), "-c:a", "pcm_s16le", *EXACT, given)
    run(*[given if word == "IN" else OUT / name if word == "OUT" else word for word in command])
    count = round(seconds * (out_rate or rate)) if frames is None else frames
    row(name, codec, container, out_rate or rate, 2, count, rule, reference(OUT / name), 0, feature, is_lossless)


def libopus(path):
    return decoded(path, "-request_sample_fmt", "flt", "-c:a", "libopus")


def alone(suffix, *options):
    """The packets without the container's word on what is to be heard."""

    def reference(path):
        bare = WORK / f"alone.{suffix}"
        ffmpeg("-i", path, "-c", "copy", *options, bare)
        return decoded(bare)

    return reference


def box(data, *path):
    """Where a box begins in `data`, found by its kinds from the outermost on."""
    at, end = 0, len(data)
    for depth, kind in enumerate(path):
        while True:
            size, found = struct.unpack(">I4s", data[at : at + 8])
            if found == kind:
                break
            at += size
            assert at < end, path
        if depth + 1 < len(path):
            end, at = at + size, at + 8
    return at


def edit(data, start, duration):
    """Another edit list: frames from `start` on."""
    data = bytearray(data)
    elst = box(data, b"moov", b"trak", b"edts", b"elst")
    scale = struct.unpack(">I", data[box(data, b"moov", b"mvhd") + 20 :][:4])[0]
    assert struct.unpack(">I", data[elst + 12 :][:4])[0] == 1
    data[elst + 16 : elst + 24] = struct.pack(">Ii", round(duration * scale), start)
    return bytes(data)


def derived(name, of, data, **changes):
    """A file with the sound of another one."""
    (OUT / name).write_bytes(data)
    ROWS[name] = {**ROWS[of], "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changes}


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    volume = ["-af", "volume=0.77"]

    # WAVE and AIFF: every depth, places of channels, the long header, companded sound.
    pcm("u8-mono-8k.wav", "Wav", ["-c:a", "pcm_u8"], rate=8000, channels=1)
    pcm("s16.wav", "Wav", ["-c:a", "pcm_s16le"])
    pcm("s24.wav", "Wav", ["-c:a", "pcm_s24le", *volume])
    pcm("s32.wav", "Wav", ["-c:a", "pcm_s32le", *volume])
    pcm("f32.wav", "Wav", ["-c:a", "pcm_f32le", *volume])
    pcm("f64.wav", "Wav", ["-c:a", "pcm_f64le", *volume])
    pcm("alaw.wav", "Wav", ["-c:a", "pcm_alaw"], rate=8000)
    pcm("mulaw.wav", "Wav", ["-c:a", "pcm_mulaw"], rate=8000)
    pcm("rf64.wav", "Wav", ["-c:a", "pcm_s16le", "-rf64", "always"])
    pcm("four-channels.wav", "Wav", ["-c:a", "pcm_s16le"], rate=11025, channels=4)
    pcm("six-channels.wav", "Wav", ["-c:a", "pcm_s24le"], rate=8000, channels=6)
    pcm("eight-channels.wav", "Wav", ["-c:a", "pcm_s16le"], rate=8000, channels=8)
    pcm("s8.aiff", "Aiff", ["-c:a", "pcm_s8"], rate=8000)
    pcm("s16.aiff", "Aiff", ["-c:a", "pcm_s16be"])
    pcm("s24.aiff", "Aiff", ["-c:a", "pcm_s24be", *volume])
    pcm("s32.aiff", "Aiff", ["-c:a", "pcm_s32be", *volume])
    pcm("sowt.aifc", "Aiff", ["-c:a", "pcm_s16le", "-f", "aiff"])
    pcm("f32.aifc", "Aiff", ["-c:a", "pcm_f32be", "-f", "aiff", *volume])

    # FLAC and ALAC.
    flac = ["-c:a", "flac"]
    lossless("mono-8k.flac", "Flac", "Flac", flac, rate=8000, channels=1)
    lossless("s24-96k.flac", "Flac", "Flac", flac, rate=96000, seconds=0.1, sample="s32")
    lossless("six-channels.flac", "Flac", "Flac", flac, rate=22050, channels=6)
    lossless("eight-channels.flac", "Flac", "Flac", flac, rate=22050, channels=8, seconds=0.2)
    lossless("flac.oga", "Flac", "Ogg", flac)
    lossless("flac.mp4", "Flac", "Mp4", [*flac, "-strict", "-2"], rule="EditList")
    lossless("alac.m4a", "Alac", "Mp4", ["-c:a", "alac"], rule="EditList", sample="s16p")
    lossless("alac-s24.m4a", "Alac", "Mp4", ["-c:a", "alac"], rule="EditList", sample="s32p")
    lossless("alac-mono.m4a", "Alac", "Mp4", ["-c:a", "alac"], rule="EditList", sample="s16p", channels=1)
    lossless("alac-six-channels.m4a", "Alac", "Mp4", ["-c:a", "alac"], rule="EditList", sample="s16p", channels=6, rate=22050)
    tool("flac-tool.flac", ["flac", "-s", "-8", "-f", "--no-preserve-modtime", "-S", "0.1s", "-o", "OUT", "IN"], "Flac", "Flac", "None",
         seconds=0.5, is_lossless=True)
    tool("flac-tool.oga", ["flac", "-s", "--ogg", "-f", "--serial-number=3", "-o", "OUT", "IN"], "Flac", "Ogg", "None", seconds=0.3,
         is_lossless=True)
    data = (OUT / "flac-tool.flac").read_bytes()
    derived("id3-around.flac", "flac-tool.flac", b"ID3\x04\0\0\0\0\x08\0" + bytes(1024) + data + b"TAG" + b" " * 125)

    # MP3: every version, constant and variable, with and without LAME's word, tags around it.
    mp3 = ["-c:a", "libmp3lame"]
    lossy("cbr-128.mp3", "Mp3", "Mpeg", [*mp3, "-b:a", "128k"], "Lame")
    lossy("cbr-320.mp3", "Mp3", "Mpeg", [*mp3, "-b:a", "320k"], "Lame", seconds=1.0)
    lossy("vbr.mp3", "Mp3", "Mpeg", [*mp3, "-q:a", "4"], "Lame")
    lossy("mono-16k.mp3", "Mp3", "Mpeg", [*mp3, "-b:a", "32k"], "Lame", rate=16000, channels=1)
    lossy("mono-8k.mp3", "Mp3", "Mpeg", [*mp3, "-b:a", "16k"], "Lame", rate=8000, channels=1)
    lossy("48k.mp3", "Mp3", "Mpeg", [*mp3, "-b:a", "96k"], "Lame", rate=48000)
    lossy("mp3.mp4", "Mp3", "Mp4", [*mp3, "-b:a", "64k"], "EditList", skip=0)
    # Nothing says how much of it is priming: all of it is heard.
    for name, quality in (("tagless-cbr.mp3", ["-b:a", "64k"]), ("tagless-vbr.mp3", ["-q:a", "6"])):
        path = made(name, sound(2.0, 44100), *mp3, *quality, "-write_xing", "0")
        reference = decoded(path)
        row(name, "Mp3", "Mpeg", 44100, 2, len(reference) // 2, "None", reference)
    tool("lame-v2.mp3", ["lame", "--quiet", "-V", "2", "IN", "OUT"], "Mp3", "Mpeg", "Lame")
    tool("lame-abr.mp3", ["lame", "--quiet", "--abr", "150", "IN", "OUT"], "Mp3", "Mpeg", "Lame")
    data = (OUT / "vbr.mp3").read_bytes()
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 23, 1, 0x80000000) + bytes(8)
    item = struct.pack("<II", 6, 0) + b"Artist\0" + b"nobody"
    footer = b"APETAGEX" + struct.pack("<IIII", 2000, 32 + len(item), 1, 0) + bytes(8)
    derived("ape-and-id3v1.mp3", "vbr.mp3", data + ape + item + footer + b"TAG" + b" " * 125)
    derived("id3v2.mp3", "vbr.mp3", b"ID3\x03\0\0\0\0\x10\0" + bytes(2048) + data)
    derived("garbage-before.mp3", "vbr.mp3", bytes(range(1, 200)) * 3 + data)

    # AAC.
    aac = ["-c:a", "aac", "-aac_pns", "0"]
    bare = alone("aac")
    lossy("moov-at-end.m4a", "AacLc", "Mp4", [*aac, "-b:a", "96k"], "EditList", skip=1024, reference=bare)
    lossy("moov-at-start.m4a", "AacLc", "Mp4", [*aac, "-b:a", "96k", "-movflags", "+faststart"], "EditList", skip=1024, reference=bare)
    lossy("mono.m4a", "AacLc", "Mp4", [*aac, "-b:a", "48k"], "EditList", channels=1, skip=1024, reference=bare)
    lossy("8k.m4a", "AacLc", "Mp4", [*aac, "-b:a", "24k"], "EditList", rate=8000, channels=1, skip=1024, reference=bare)
    lossy("96k.m4a", "AacLc", "Mp4", [*aac, "-b:a", "128k"], "EditList", rate=96000, seconds=1.0, skip=1024, reference=bare)
    lossy("six-channels.m4a", "AacLc", "Mp4", [*aac, "-b:a", "192k"], "EditList", channels=6, seconds=1.0, skip=1024, reference=bare,
          feature="he-aac")
    lossy("fragmented.mp4", "AacLc", "FragmentedMp4",
          [*aac, "-b:a", "96k", "-movflags", "+delay_moov+default_base_moof", "-frag_duration", "500000"], "EditList", skip=1024,
          reference=bare)
    for name, container in (("adts.aac", "Adts"), ("aac.ts", "MpegTs")):
        path = made(name, sound(2.0, 44100), *aac, "-b:a", "96k")
        reference = decoded(path)
        row(name, "AacLc", container, 44100, 2, len(reference) // 2, "None", reference)
    # A long priming, and an end before the packets': what an editor leaves of a track.
    data = edit((OUT / "moov-at-start.m4a").read_bytes(), 2112, 1.5)
    (OUT / "edited.m4a").write_bytes(data)
    row("edited.m4a", "AacLc", "Mp4", 44100, 2, 66150, "EditList", bare(OUT / "moov-at-start.m4a"), skip=2112)

    # HE-AAC, which nothing but its packets announces. From the bundled segments, put together.
    for version in (1, 2):
        folder = MEDIA / "segments" / f"he-aac-{version}"
        adts = b"".join((folder / "packed" / f"seg-{number}.aac").read_bytes() for number in range(3))
        (WORK / "he.aac").write_bytes(adts)
        name = f"he-aac-{version}.m4a"
        ffmpeg("-i", WORK / "he.aac", "-t", "2", "-c", "copy", *EXACT, OUT / name)
        reference = decoded(OUT / name)
        row(name, "HeAac", "Mp4", 44100, 2, len(reference) // 2, "EditList", reference, feature="he-aac")

    # Vorbis.
    vorbis = ["-c:a", "libvorbis", "-serial_offset", "1"]
    lossy("vorbis.ogg", "Vorbis", "Ogg", [*vorbis, "-q:a", "4"], "OggGranule")
    lossy("vorbis-mono-8k.ogg", "Vorbis", "Ogg", [*vorbis, "-q:a", "1"], "OggGranule", rate=8000, channels=1)
    lossy("vorbis-48k.ogg", "Vorbis", "Ogg", [*vorbis, "-q:a", "2"], "OggGranule", rate=48000)
    tool("oggenc.ogg", ["oggenc", "-Q", "-q", "3", "-s", "5", "-o", "OUT", "IN"], "Vorbis", "Ogg", "OggGranule")

    # Opus: every length of packet, speech, surround, and MP4.
    opus = lambda *more: ["-c:a", "libopus", "-serial_offset", "1", *more]
    for length in ("2.5", "5", "10", "20", "40", "60"):
        lossy(f"opus-{length}ms.opus", "Opus", "Ogg", opus("-b:a", "64k", "-frame_duration", length), "OpusPreSkip", rate=48000, seconds=1.0,
              reference=libopus, feature="opus")
    lossy("opus-speech.opus", "Opus", "Ogg", opus("-b:a", "16k", "-application", "voip"), "OpusPreSkip", rate=48000, channels=1,
          reference=libopus, feature="opus")
    lossy("opus-six-channels.opus", "Opus", "Ogg", opus("-b:a", "160k", "-mapping_family", "1"), "OpusPreSkip", rate=48000, channels=6, seconds=1.0,
          reference=libopus, feature="opus")
    lossy("opus-eight-channels.opus", "Opus", "Ogg", opus("-b:a", "200k", "-mapping_family", "1"), "OpusPreSkip", rate=48000, channels=8, seconds=1.0,
          reference=libopus, feature="opus")
    lossy("opus.mp4", "Opus", "Mp4", [*opus("-b:a", "64k"), "-strict", "-2"], "EditList", rate=48000, reference=libopus, feature="opus")
    tool("opusenc.opus", ["opusenc", "--quiet", "--serial", "5", "--bitrate", "64", "IN", "OUT"], "Opus", "Ogg", "OpusPreSkip", out_rate=48000,
         reference=libopus, feature="opus")

    (MEDIA / "table.json").write_text(json.dumps(ROWS, separators=(",", ":")) + "\n")
    print(len(ROWS), "files,", sum(row["bytes"] for row in ROWS.values()), "bytes,", (MEDIA / "table.json").stat().st_size, "of table")


if __name__ == "__main__":
    WORK = pathlib.Path(sys.argv[1])
    PIECE = WORK / "piece.wav"
    main()
