"""MP3 streams that do not say how long they are.

libsndfile takes the length of an MP3 from its Xing/Info tag and, where there is none (encoders that write to a pipe
leave it out), guesses it from the first frame's bit rate; a VBR file is then cut short without an error. `with_length`
counts the frames and puts the missing tag before them.
"""

from collections.abc import Iterator
from typing import Final

# Kilobits a second by index, and Hz by (version, index): ISO 11172-3 and 13818-3, layer III.
_BITRATES_1: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_2: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_TAGS: Final = (b"Xing", b"Info", b"VBRI")


def with_length(data: bytes) -> bytes:
    """The file with its number of frames in front, where it was lacking; all else than MP3 is returned as it is."""
    start = _first_frame(data)
    frames = _frames(data, start)
    first = next(frames, None)
    if first is None:
        return data
    count = 1 + sum(1 for _ in frames)
    if count < 2 or any(tag in data[start : start + first] for tag in _TAGS):
        return data
    return data[:start] + _tag_frame(data[start : start + 4], count) + data[start:]


def _first_frame(data: bytes) -> int:
    """Where the first frame begins: after an ID3v2 tag (its length is in 7-bit bytes), if there is one."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _frames(data: bytes, position: int) -> Iterator[int]:
    """The lengths of consecutive frames in bytes, up to the first that is none or that is cut off."""
    while length := _frame_length(data[position : position + 4]):
        if position + length > len(data):
            return
        yield length
        position += length


def _frame_length(header: bytes) -> int:
    """Bytes of a layer III frame, its header included; 0 where the header is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return 0
    kilobits = (_BITRATES_1 if version == 3 else _BITRATES_2)[bitrate]
    return (144 if version == 3 else 72) * 1000 * kilobits // _RATES[version][rate] + (header[2] >> 1 & 1)


def _tag_frame(header: bytes, count: int) -> bytes:
    """A silent frame like the first one that holds a Xing tag with nothing but the number of frames."""
    version_1, mono = header[1] >> 3 & 3 == 3, header[3] >> 6 == 3
    side_information = (17 if mono else 32) if version_1 else (9 if mono else 17)
    # No checksum, no padding, and a bit rate that leaves room for the tag at every sample rate.
    plain = bytes([0xFF, header[1] | 1, 0x80 | header[2] & 0x0C, header[3]])
    body = bytes(side_information) + b"Xing" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
    return (plain + body).ljust(_frame_length(plain), b"\0")
