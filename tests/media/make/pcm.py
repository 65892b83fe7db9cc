#!/usr/bin/env python3
"""Writes pcm.json: samples of what ffmpeg's decoders, never kithara's, make of the clear HLS trees."""
import array
import json
import pathlib
import subprocess

from packets import MEDIA, read, streams

STRIDE = 2003


def decoded(data, channels):
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", "-f", "f32le", "-"]
    samples = array.array("f", subprocess.run(command, input=data, check=True, capture_output=True).stdout)
    return len(samples) // channels, samples


def describe(variant, parts):
    channels = variant["channels"]
    frames, samples = decoded(b"".join(map(read, parts)), channels)
    # Every so many frames one sample, of each channel in turn.
    picked = [samples[at * channels + at // STRIDE % channels] for at in range(0, frames, STRIDE)]
    return {"frames": frames, "stride": STRIDE, "samples": [round(sample, 6) for sample in picked]}


if __name__ == "__main__":
    rows = {variant["playlist"]: describe(variant, parts) for variant, parts in streams()}
    (MEDIA / "pcm.json").write_text(json.dumps(rows, separators=(",", ":")) + "\n")
