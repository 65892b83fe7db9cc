"""Writes a minute of music as a WAV file: 44.1 kHz, stereo, 16 bit. Usage: compose.py OUT.wav

Twenty-four bars of four beats at 96 beats a minute, D minor. A choir (harmonics under the formants of a sung "ah",
vibrato, each voice doubled and spread), a harp (Karplus-Strong), a bass, a flute with breath, drums of swept sines and
filtered noise, a shaker that walks from ear to ear, and a room. It starts with the harp alone, grows, leaves the choir
by itself in bars 17 and 18, comes back in full and dies away. Python alone, a fixed seed: the same file every time.
"""

import array
import math
import random
import sys
import wave

RATE = 44_100
BEAT = RATE * 60 // 96
BAR = 4 * BEAT
BARS = 24
# A little short of sixty seconds, so that the priming of an AAC encoder does not spill into an eleventh segment.
TOTAL = BARS * BAR - RATE // 10
TABLE = 4096

dice = random.Random(20_240_229)
left, right, room = [0.0] * TOTAL, [0.0] * TOTAL, [0.0] * TOTAL

# Bass note, then the chord, as MIDI numbers.
CHORDS = [
    (38, (62, 65, 69, 76)),  # Dm9
    (34, (58, 62, 69, 74)),  # Bbmaj7
    (41, (60, 65, 69, 72)),  # F
    (36, (60, 64, 67, 74)),  # C9
    (43, (58, 62, 65, 70)),  # Gm7
    (41, (57, 62, 65, 69)),  # Dm/F
    (33, (57, 62, 64, 69)),  # A7sus4
    (33, (57, 61, 64, 67)),  # A7
]
# Beat within eight bars, length in beats, note.
MELODY = [
    (0, 3, 81), (3, 1, 79), (4, 2, 77), (6, 2, 74), (8, 3, 72), (11, 1, 74), (12, 3, 76), (15, 1, 79),
    (16, 2, 82), (18, 1, 81), (19, 1, 79), (20, 3, 77), (23, 1, 76), (24, 4, 74), (28, 2, 73), (30, 2, 76),
]  # fmt: skip


def hertz(note):
    return 440.0 * 2 ** ((note - 69) / 12)


def place(start, sound, gain, pan, echo=0.25):
    """Mixes a sound in; pan runs from -1 (left) to 1 (right), at equal power."""
    angle = (pan + 1) * math.pi / 4
    to_left, to_right, to_room = gain * math.cos(angle), gain * math.sin(angle), gain * echo
    for at, value in enumerate(sound[: max(0, TOTAL - start)], start):
        left[at] += value * to_left
        right[at] += value * to_right
        room[at] += value * to_room


def wavetable(weights):
    total = sum(weights)
    table = [
        sum(w * math.sin(2 * math.pi * k * i / TABLE + k * k) for k, w in enumerate(weights, 1)) / total
        for i in range(TABLE)
    ]
    return table


def tone(table, frequency, length, attack, release, vibrato=0.0, speed=5.0, phase=0.0):
    """A wave table at a pitch, with a swell, a fall, and a vibrato that sets in late."""
    out = []
    block = 64
    for start in range(0, length, block):
        t = start / RATE
        wobble = vibrato * min(1.0, t / 0.6) * math.sin(2 * math.pi * speed * t + phase)
        step = frequency * (1 + wobble) * TABLE / RATE
        level = min(1.0, start / attack, max(0.0, (length - start) / release))
        level *= level * (3 - 2 * level)
        size = min(block, length - start)
        out += [table[int(phase + step * i) & 4095] * level for i in range(size)]
        phase += step * size
    return out


def choir_table(frequency):
    """Harmonics of a voice under the formants of "ah"."""
    formants = ((730, 110, 1.0), (1_090, 130, 0.6), (2_440, 200, 0.22), (3_400, 300, 0.08))
    weights = []
    for k in range(1, int(5_000 / frequency) + 1):
        f = k * frequency
        peak = sum(g * math.exp(-(((f - centre) / width) ** 2) / 2) for centre, width, g in formants)
        weights.append((0.25 + 1.6 * peak) / k**0.9)
    return wavetable(weights)


def pluck(frequency, seconds, bright):
    """Karplus-Strong: a burst of noise in a delay line that averages itself."""
    size = max(2, round(RATE / frequency - 0.5))
    line = [dice.uniform(-1, 1) for _ in range(size)]
    for _ in range(bright):
        line = [(a + b) / 2 for a, b in zip(line, line[1:] + line[:1])]
    mean = sum(line) / size
    line = [value - mean for value in line]
    out = []
    while len(out) < seconds * RATE:
        out += line
        line = [0.4985 * (a + b) for a, b in zip(line, line[1:] + line[:1])]
    length = len(out)
    return [value * min(1.0, (length - i) / 4_000) for i, value in enumerate(out)]


def noise(seconds, decay, low, high):
    """A burst of noise between two one-pole filters."""
    out, smooth, slow = [], 0.0, 0.0
    for i in range(int(seconds * RATE)):
        smooth += high * (dice.uniform(-1, 1) - smooth)
        slow += low * (smooth - slow)
        out.append((smooth - slow) * math.exp(-i / (decay * RATE)))
    return out


def kick():
    out, phase = [], 0.0
    for i in range(int(0.32 * RATE)):
        t = i / RATE
        phase += 2 * math.pi * (46 + 110 * math.exp(-t * 38)) / RATE
        out.append(math.sin(phase) * math.exp(-t * 11))
    return out


def snare():
    body, rattle = kick(), noise(0.25, 0.055, 0.12, 0.6)
    return [0.9 * n + 0.35 * b * math.exp(-i / 2_500) for i, (n, b) in enumerate(zip(rattle, body))]


def play_choir():
    sung = {}
    for bar in range(2, BARS):
        level = {2: 0.45, 3: 0.6, 16: 0.95, 17: 1.1}.get(bar, 0.7 if bar < 8 else 0.85)
        for part, note in enumerate(CHORDS[bar % 8][1]):
            length = BAR + BEAT // 2
            if note not in sung:
                table = choir_table(hertz(note))
                sung[note] = [
                    tone(table, hertz(note) * cents, length, BEAT * 0.7, BEAT * 0.9, 0.006, speed, part)
                    for cents, speed in ((0.9978, 4.7), (1.0024, 5.3))
                ]
            place(bar * BAR, sung[note][0], 0.11 * level, -0.9 + 0.3 * part, 0.5)
            place(bar * BAR, sung[note][1], 0.11 * level, 0.9 - 0.3 * part, 0.5)


def play_harp():
    strings = {}
    for bar in range(BARS):
        if bar in (16, 17):
            continue
        chord = CHORDS[bar % 8][1]
        notes = (*chord, chord[1] + 12, chord[3], chord[2], chord[1])
        for step, note in enumerate(notes):
            if bar == BARS - 1 and step > 4:
                break
            if note not in strings:
                strings[note] = pluck(hertz(note), 1.6, 3)
            loud = (0.5, 0.33, 0.4, 0.33)[step % 4] * (0.7 if bar < 2 else 1.0)
            place(bar * BAR + step * BEAT // 2, strings[note], loud, -0.5 + step / 7, 0.35)


def play_bass():
    table = wavetable([1, 0.45, 0.3, 0.12, 0.08])
    for bar in range(4, BARS - 1):
        if bar in (16, 17):
            continue
        root = CHORDS[bar % 8][0]
        for beat, length, note in ((0, 1.5, root), (1.5, 0.5, root), (2, 1, root + 7), (3, 1, root + 12)):
            sound = tone(table, hertz(note), int(length * BEAT), 400, BEAT * 0.4)
            place(bar * BAR + int(beat * BEAT), sound, 0.34, 0.0, 0.03)


def play_flute():
    table = wavetable([1, 0.32, 0.16, 0.05])
    for first in (8, 18):
        for beat, length, note in MELODY:
            start = first * BAR + beat * BEAT
            if start >= (BARS - 1) * BAR or (first == 8 and beat >= 32):
                continue
            size = int(length * BEAT * 0.97)
            place(start, tone(table, hertz(note), size, 2_600, 5_000, 0.008, 5.6), 0.21, 0.25, 0.6)
            breath = noise(size / RATE, 10.0, 0.25, 0.5)
            swell = [b * min(1, i / 3_000, (size - i) / 6_000) for i, b in enumerate(breath[:size])]
            place(start, swell, 0.016, 0.25, 0.3)


def play_drums():
    bass_drum, clap = kick(), snare()
    hats = [noise(0.09, 0.014, 0.55, 0.95) for _ in range(4)]
    shakers = [noise(0.12, 0.03, 0.4, 0.8) for _ in range(4)]
    for bar in range(4, BARS - 1):
        if bar in (16, 17):
            continue
        full = bar >= 8
        for beat in (0, 2.5) if full else (0, 2):
            place(bar * BAR + int(beat * BEAT), bass_drum, 0.62, 0.0, 0.04)
        for beat in (1, 3) if bar >= 6 else ():
            place(bar * BAR + beat * BEAT, clap, 0.3, -0.12, 0.3)
        for eighth in range(8):
            at = bar * BAR + eighth * BEAT // 2
            place(at, hats[eighth % 4], 0.12 if eighth % 2 else 0.075, 0.35, 0.1)
        for sixteenth in range(16) if full else ():
            at = bar * BAR + sixteenth * BEAT // 4
            walk = math.sin(2 * math.pi * at / (4 * BAR))
            place(at, shakers[sixteenth % 4], 0.09 if sixteenth % 4 == 2 else 0.045, 0.95 * walk, 0.1)
    fill = 15 * BAR + 3 * BEAT
    for stroke in range(4):
        place(fill + stroke * BEAT // 4, clap, 0.14 + 0.06 * stroke, -0.6 + 0.4 * stroke, 0.4)


def add_room():
    """Four combs a side, of different lengths, and a first reflection."""
    for side, lengths in ((left, (1_557, 1_617, 1_491, 1_422)), (right, (1_580, 1_640, 1_514, 1_445))):
        for length in lengths:
            line, low, at = [0.0] * length, 0.0, 0
            for i, dry in enumerate(room):
                wet = line[at]
                low += 0.6 * (wet - low)
                line[at] = dry + 0.79 * low
                side[i] += 0.11 * wet
                at += 1
                if at == length:
                    at = 0


def write(path):
    fade = 2 * BAR
    peak = max(max(map(abs, left)), max(map(abs, right)))
    scale = 1.5 / peak
    samples = array.array("h")
    for i, (l, r) in enumerate(zip(left, right)):
        level = min(1.0, (TOTAL - i) / fade)
        for value in (l, r):
            # A gentle limiter; 0.55 of full scale leaves the encoders head-room.
            samples.append(round(32_767 * 0.55 * level * math.tanh(scale * value) / math.tanh(1.5)))
    if sys.byteorder == "big":
        samples.byteswap()
    with wave.open(path, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())


if __name__ == "__main__":
    for play in (play_choir, play_harp, play_bass, play_flute, play_drums, add_room):
        play()
    write(sys.argv[1])
