"""Boxes: what AVIF, HEIF and JPEG 2000 files consist of.

A box holds its size, its type of four letters, and data, which may be boxes. In AVIF and HEIF the box `meta`
lists the items of the file (pictures, masks, EXIF) and gives each its properties.

Sources: ISO/IEC 14496-12 (ISOBMFF), 4.2 and 8.11; ISO/IEC 23008-12 (HEIF), 6.5 and 9.3; ISO/IEC 15444-1,
annex I.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_MAX_BYTES = 2**24  # of a box that is read; more is damage, or an attack
_MAX_BOXES = 10_000  # of a file or box, as before
_TO_THE_END, _LARGE = 0, 1  # sizes with a meaning


class Items(NamedTuple):
    """What the box `meta` says.

    Attributes:
        types: of all items, four letters each.
        properties: (type, data) of the first picture's properties, such as `colr`.
        all_properties: of all items, each once.
    """

    types: tuple[bytes, ...] = ()
    properties: tuple[tuple[bytes, bytes], ...] = ()
    all_properties: tuple[tuple[bytes, bytes], ...] = ()

    def colours(self) -> list[bytes]:
        """The data of the boxes on the colour of the first picture; it may have taken those of its tiles."""
        own = [data for kind, data in self.properties if kind == b"colr"]
        return own or [data for kind, data in self.all_properties if kind == b"colr"]


def read_box(file: BinaryIO, kind: bytes) -> bytes:
    """The data of the first box of a type in a file; empty where there is none of up to 16 MB."""
    end = file.seek(0, 2)
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            break
        size, found = struct.unpack_from(">I4s", head)
        start = 8
        if size == _LARGE and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
            start = 16
        elif size == _TO_THE_END:
            size = end - position
        if size < start:
            break
        if found == kind and size <= _MAX_BYTES:
            file.seek(position + start)
            return file.read(size - start)
        position += size
    return b""


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of the boxes in the data of a box, up to where it is damaged."""
    position = 0
    for _ in range(_MAX_BOXES):
        if position + 8 > len(data):
            break
        size, kind = struct.unpack_from(">I4s", data, position)
        size = len(data) - position if size == _TO_THE_END else size
        if size < 8 or position + size > len(data):
            break
        yield kind, data[position + 8 : position + size]
        position += size


def read_items(file: BinaryIO) -> Items:
    """The items of an AVIF or HEIF file; none where it is damaged."""
    inner = dict(boxes(read_box(file, b"meta")[4:]))
    try:
        in_properties = dict(boxes(inner.get(b"iprp", b"")))
        everything = tuple(boxes(in_properties.get(b"ipco", b"")))
        first = inner[b"pitm"]
        first_item = int.from_bytes(first[4:] if first[0] else first[4:6])
        numbers = _associations(in_properties[b"ipma"]).get(first_item, [])
    except (KeyError, IndexError, struct.error):
        return Items()
    own = tuple(everything[number - 1] for number in numbers if 0 < number <= len(everything))
    return Items(tuple(_item_types(inner.get(b"iinf", b""))), own, everything)


def _associations(data: bytes) -> dict[int, list[int]]:
    """The numbers of the properties, from 1, of each item."""
    version, wide = data[0], data[3] & 1
    (count,) = struct.unpack_from(">I", data, 4)
    position, found = 8, {}
    for _ in range(min(count, _MAX_BOXES)):
        form = ">IB" if version else ">HB"
        item, length = struct.unpack_from(form, data, position)
        position += struct.calcsize(form)
        numbers = struct.unpack_from(f">{length}{'H' if wide else 'B'}", data, position)
        position += length * (1 + wide)
        found[item] = [number & (0x7FFF if wide else 0x7F) for number in numbers]
    return found


def _item_types(data: bytes) -> Iterator[bytes]:
    for kind, entry in boxes(data[8:] if data[:1] != b"\0" else data[6:]):
        if kind == b"infe" and entry[:1] in (b"\2", b"\3"):
            start = 8 if entry[0] == 2 else 10
            yield entry[start : start + 4]
