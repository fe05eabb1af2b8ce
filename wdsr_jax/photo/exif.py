"""EXIF and XMP of a photograph whose pixels are turned upright and enlarged.

The EXIF block is edited in place, not decoded and encoded anew: the notes of camera makers hold offsets
into the block, and what nobody needs to touch (GPS, serial numbers, unknown tags) stays as it is.
"""

import re
import struct
from collections.abc import Iterator

PREFIX = b"Exif\0\0"  # before the block in JPEG, and in some WebP files

IMAGE_WIDTH, IMAGE_LENGTH, ORIENTATION = 0x0100, 0x0101, 0x0112
EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD = 0x8769, 0x8825, 0xA005
PIXEL_X, PIXEL_Y = 0xA002, 0xA003
_LONG = 4
# Of one value, by the number of its type in TIFF.
TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}


def clean_exif(block: bytes) -> bytes:
    """The EXIF block of pixels that stand upright: no orientation, no thumbnail, all else untouched.

    Args:
        block: from the byte order mark on, `Exif\\0\\0` before it or not.

    Returns:
        The block without `Exif\\0\\0`; empty where it is no EXIF.
    """
    edited = bytearray(block.removeprefix(PREFIX))
    try:
        order = _order(edited)
        (start,) = struct.unpack_from(order + "I", edited, 4)
        (count,) = struct.unpack_from(order + "H", edited, start)
        table_end = start + 2 + 12 * count
        thumbnail = 0
        if len(edited) >= table_end + 4:
            (thumbnail,) = struct.unpack_from(order + "I", edited, table_end)
            struct.pack_into(order + "I", edited, table_end, 0)
        if thumbnail >= _end(edited, order, start, set()):
            del edited[thumbnail:]
        for position, tag, _, _ in reversed(list(_entries(edited, order, start))):
            if tag == ORIENTATION:
                tail = edited[position + 12 : table_end + 4]
                edited[position : position + 12 + len(tail)] = tail + bytes(12)
                count -= 1
                table_end -= 12
        struct.pack_into(order + "H", edited, start, count)
    except (ValueError, struct.error):
        return b""
    return bytes(edited)


def exif_with_size(block: bytes, width: int, height: int) -> bytes:
    """A block of `clean_exif` with the size in pixels, where it gives one, set right."""
    if not block:
        return block
    edited = bytearray(block)
    order = _order(edited)
    (start,) = struct.unpack_from(order + "I", edited, 4)
    sizes = {IMAGE_WIDTH: width, IMAGE_LENGTH: height, PIXEL_X: width, PIXEL_Y: height}
    try:
        for position, tag, _, _ in list(_all_entries(edited, order, start)):
            if tag in sizes:  # as a LONG: 65,536 pixels and more do not fit in a SHORT
                struct.pack_into(order + "HHII", edited, position, tag, _LONG, 1, sizes[tag])
    except (ValueError, struct.error):
        return block
    return bytes(edited)


def clean_xmp(packet: bytes) -> bytes:
    """The XMP packet without the orientation and without mention of what the new file does not hold.

    That is: the gain map of HDR photographs, the video of motion photographs, the second part of a packet of
    more than 64 KB.
    """
    packet = re.sub(
        rb'\s(tiff:Orientation|hdrgm:\w+|GCamera:\w+|xmpNote:HasExtendedXMP)="[^"]*"', b"", packet
    )
    packet = re.sub(rb"<tiff:Orientation>[^<]*</tiff:Orientation>", b"", packet)
    start, end = packet.find(b"<Container:Directory>"), packet.find(b"</Container:Directory>")
    if 0 <= start < end:
        packet = packet[:start] + packet[end + len(b"</Container:Directory>") :]
    return packet


def xmp_with_size(packet: bytes, width: int, height: int) -> bytes:
    """The XMP packet with the size in pixels, where it gives one, set right."""
    for names, size in (
        (rb"tiff:ImageWidth|exif:PixelXDimension", width),
        (rb"tiff:ImageLength|exif:PixelYDimension", height),
    ):
        packet = re.sub(rb'(%s)(="|>)\d+' % names, rb"\g<1>\g<2>%d" % size, packet)
    return packet


def _order(block: bytes) -> str:
    """struct's mark of the byte order."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None:
        raise ValueError("not an EXIF block")
    return order


def _entries(block: bytes, order: str, start: int) -> Iterator[tuple[int, int, int, int]]:
    """(position, tag, type, count) of each entry of the directory at `start`."""
    (count,) = struct.unpack_from(order + "H", block, start)
    for position in range(start + 2, start + 2 + 12 * count, 12):
        yield position, *struct.unpack_from(order + "HHI", block, position)


def _all_entries(block: bytes, order: str, start: int) -> Iterator[tuple[int, int, int, int]]:
    """The entries of the first directory and of the Exif directory."""
    for entry in _entries(block, order, start):
        yield entry
        if entry[1] == EXIF_IFD:
            (below,) = struct.unpack_from(order + "I", block, entry[0] + 8)
            yield from _entries(block, order, below)


def _end(block: bytes, order: str, start: int, seen: set[int]) -> int:
    """The end of the directory at `start` with its values and the directories below it."""
    seen.add(start)
    end = start + 2
    for position, tag, kind, count in _entries(block, order, start):
        end = max(end, position + 12 + 4)
        size = TYPE_BYTES.get(kind, 1) * count
        (value,) = struct.unpack_from(order + "I", block, position + 8)
        if size > 4:
            end = max(end, value + size)
        if tag in (EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD) and value not in seen:
            end = max(end, _end(block, order, value, seen))
    return end
