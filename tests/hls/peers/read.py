"""What the package `m3u8` makes of playlists: one line for each segment, variant and rendition, fields between tabs.

Called with the folder of the playlists `0.m3u8`, `1.m3u8`, … and the URL that each one's folder `N/` has.
"""

import pathlib
import sys

import m3u8


def ranges(segments):
    """The byte range of each segment. The package leaves an offset that is not written to its callers."""
    ends = {}
    for segment in segments:
        if not segment.byterange:
            yield ""
            continue
        length, _, offset = segment.byterange.partition("@")
        start = int(offset) if offset else ends.get(segment.absolute_uri, 0)
        ends = {segment.absolute_uri: start + int(length)}
        yield f"{start}-{start + int(length)}"


def span(text):
    """The byte range of a section, whose offset is 0 if it is not written."""
    length, _, offset = (text or "").strip('"').partition("@")
    start = int(offset) if offset else 0
    return f"{start}-{start + int(length)}" if length else ""


def rows(text, url):
    playlist = m3u8.loads(text, uri=url)
    for variant in playlist.playlists:
        info = variant.stream_info
        yield ["V", variant.absolute_uri, info.bandwidth, info.codecs or "", info.audio or ""]
    for media in playlist.media:
        if media.type == "AUDIO":
            uri = media.absolute_uri if media.uri else ""
            yield ["R", uri, media.group_id, media.name or "", media.language or "", media.default or "NO"]
    # An EXTINF at the end becomes a segment without a URI.
    playlist.segments[:] = [segment for segment in playlist.segments if segment.uri]
    for segment, part in zip(playlist.segments, ranges(playlist.segments)):
        key, section = segment.key, segment.init_section
        method = key.method if key and key.method != "NONE" else ""
        yield [
            "S",
            segment.absolute_uri,
            part,
            f"{segment.duration:.6f}",
            method,
            key.absolute_uri if method else "",
            # The default of RFC 8216, 5.2.
            int(key.iv or hex(segment.media_sequence), 16) if method else "",
            section.absolute_uri if section else "",
            span(section.byterange) if section else "",
        ]


def main(folder, base):
    for number in range(len(list(pathlib.Path(folder).glob("*.m3u8")))):
        text = pathlib.Path(folder, f"{number}.m3u8").read_bytes().decode("utf-8", "replace")
        try:
            found = list(rows(text, f"{base}{number}/list.m3u8"))
        except Exception as error:  # The package's own way to refuse.
            found = [["E", type(error).__name__]]
        for row in found:
            print(number, *row, sep="\t")


main(sys.argv[1], sys.argv[2])
