#!/usr/bin/env bash
# Makes everything in this folder from nothing: composes the music, encodes, cuts, encrypts, and writes expected.json, packets.json, pcm.json, segments.json and table.json.
# Needs ffmpeg with ffprobe (made with Debian 12's, 5.1), openssl and python3; nothing else. Takes about a minute.
# The same ffmpeg gives the same files, but not every ffmpeg does: what is committed is what the tests are run on,
# so run this to change the media and not to run the tests.
set -euo pipefail
cd "$(dirname "$0")"

for tool in ffmpeg ffprobe openssl python3; do
    command -v "$tool" >/dev/null || { echo "make.sh needs $tool" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
exact=(-map_metadata -1 -fflags +bitexact -flags:a +bitexact)
make() { ffmpeg -nostdin -v error -y "$@"; }
excerpt() { make -ss 9 -t "$1" -i "$work/piece.wav" "$work/excerpt-$1.wav"; }

python3 make/compose.py "$work/piece.wav"
for seconds in 3 6 11.9 17.9 20; do excerpt "$seconds"; done
# FLAC is large: mono, half the rate, and the lowest three bits dropped.
make -i "$work/piece.wav" -af 'pan=mono|c0=.5*c0+.5*c1,aresample=22050,aformat=sample_fmts=s16,volume=0.125:precision=fixed,volume=8:precision=fixed' \
    "${exact[@]}" "$work/mono.wav"

# cut NAME SOUND TYPE ENCODER... : segments of six seconds below $work/NAME, with ffmpeg's own playlist.
cut() {
    local name=$1 sound=$2 type=$3 suffix=m4s
    shift 3
    [ "$type" = mpegts ] && suffix=ts
    mkdir -p "$work/$name"
    (cd "$work/$name" && make -i "$work/$sound" "$@" "${exact[@]}" -f hls -hls_time 6 -hls_playlist_type vod \
        -hls_segment_type "$type" -hls_fmp4_init_filename init.mp4 -hls_segment_filename "seg-%03d.$suffix" cut.m3u8)
}
for rate in 48 80 112; do cut "aac-$rate" piece.wav fmp4 -c:a aac -b:a "${rate}k"; done
cut flac mono.wav fmp4 -c:a flac -compression_level 12 -strict -2
cut ts excerpt-17.9.wav mpegts -c:a aac -b:a 48k
cut byterange excerpt-17.9.wav fmp4 -c:a aac -b:a 48k
cut encrypted-init excerpt-11.9.wav fmp4 -c:a aac -b:a 48k
make -i "$work/excerpt-17.9.wav" -c:a aac -b:a 48k "${exact[@]}" -f adts "$work/packed.aac"

rm -rf hls files
mkdir -p hls files
python3 make/package.py "$work" hls

make -i "$work/excerpt-20.wav" -c:a libmp3lame -b:a 80k "${exact[@]}" files/piece.mp3
make -i "$work/excerpt-20.wav" -c:a libvorbis -q:a 1 "${exact[@]}" -serial_offset 1 files/piece.ogg
make -i "$work/excerpt-20.wav" -c:a aac -b:a 64k "${exact[@]}" files/piece-moov-at-end.m4a
make -i "$work/excerpt-20.wav" -c:a aac -b:a 64k "${exact[@]}" -movflags +faststart files/piece-moov-at-start.m4a
make -i "$work/excerpt-6.wav" -ar 22050 -c:a flac -compression_level 12 "${exact[@]}" files/piece.flac
make -i "$work/excerpt-3.wav" -ar 22050 -c:a pcm_s16le "${exact[@]}" files/piece.wav

python3 make/describe.py
python3 make/packets.py
python3 make/pcm.py
python3 make/segments.py "$work"
# By encoders of other projects too.
missing=
for tool in lame flac oggenc opusenc; do command -v "$tool" >/dev/null || missing+=" $tool"; done
if [ -z "$missing" ]; then
    python3 make/table.py "$work"
else
    echo "table/ is left as it is: it needs$missing" >&2
fi
