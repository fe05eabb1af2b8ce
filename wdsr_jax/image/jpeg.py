"""What JPEG files say of themselves: their segments, the number of their scans, the quality of their tables.

Source: ITU-T T.81, annex B.
"""

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

# A progressive picture has about 10 scans. A decoder goes through all blocks of the picture for each, so that
# a file of some kilobytes can keep it busy for minutes; libjpeg-turbo's own tests stop here as well.
MAX_SCANS = 500
_SIGNATURE = b"\xff\xd8\xff"
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_BLOCK = 2**12  # bytes of junk that are looked through at once
_WITHOUT_DATA = (0x01, *range(0xD0, 0xD9))  # markers
_SEQUENTIAL = (0xC0, 0xC1)
_FRAMES = tuple(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC})
# In the coded data, a marker is what is neither a stuffed byte nor the start of an interval.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
# ITU-T T.81, table K.1, as in libjpeg's jcparam.c: how coarse luma is at quality 50, row by row.
LUMA_TABLE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]


class Segment(NamedTuple):
    """A marker segment.

    Attributes:
        marker: its second byte, such as 0xE1 for APP1.
        position: of its first byte in the file.
        data: what follows its length.
    """

    marker: int
    position: int
    data: bytes


def read_segments(file: BinaryIO) -> Iterator[Segment]:
    """The segments of a JPEG file before its first scan; none of another file."""
    file.seek(0)
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        return
    position = 2
    while True:
        file.seek(position)
        head = file.read(4)
        if len(head) < 4:
            return
        if head[0] != 0xFF or head[1] == 0xFF:  # junk, or a byte of padding: to the next marker
            position += 1 + max(0, (head[1:] + file.read(_BLOCK)).find(b"\xff"))
            continue
        if head[1] == 0 or head[1] in _WITHOUT_DATA:
            position += 2
            continue
        length = int.from_bytes(head[2:])
        if head[1] in (_START_OF_SCAN, _END_OF_IMAGE) or length < 2:
            return
        yield Segment(head[1], position, file.read(length - 2))
        position += 2 + length


def count_scans(file: BinaryIO) -> int:
    """How many scans the first picture of a JPEG file has, counted to `MAX_SCANS` + 1; 0 of another file.

    Of a picture whose first scan is the whole picture, which decoders go through once, 1.
    """
    end, frame = 0, None
    for segment in read_segments(file):
        end = segment.position + 4 + len(segment.data)
        if segment.marker in _FRAMES:
            frame = segment
    if not end or frame is None:
        return 0
    file.seek(end)
    head = file.read(5)
    components = frame.data[5:6]
    if frame.marker in _SEQUENTIAL and head[4:5] == components:
        return 1
    file.seek(end)
    content = file.read()
    count, position = 0, 0
    while count <= MAX_SCANS and (match := _MARKER.search(content, position)):
        marker = match[1][0]
        if marker == _END_OF_IMAGE:
            break
        count += marker == _START_OF_SCAN
        position = match.end()
        if marker not in _WITHOUT_DATA:
            position += int.from_bytes(content[position : position + 2])
    return count


def quality_of(table: Sequence[int]) -> int:
    """The quality from 1 to 100 at which libjpeg's luma is quantised most nearly as by a table.

    Args:
        table: of 64 steps, row by row, such as `quantization[0]` of Pillow's.
    """
    standard = [step for row in LUMA_TABLE for step in row]

    def distance(quality: int) -> float:
        percent = 5000 // quality if quality < 50 else 200 - 2 * quality
        steps = [min(max((step * percent + 50) // 100, 1), 255) for step in standard]
        return sum(abs(a - b) for a, b in zip(steps, table, strict=True))

    return min(range(100, 0, -1), key=distance)


def without_segments(content: bytes, segments: list[Segment]) -> bytes:
    """A JPEG file without some of its segments.

    Args:
        content: of the file.
        segments: in the order of their positions.
    """
    parts, position = [], 0
    for segment in segments:
        parts.append(content[position : segment.position])
        position = segment.position + 4 + len(segment.data)
    return b"".join([*parts, content[position:]])
