"""EXIF and XMP of a photograph whose pixels are turned upright and upscaled.

The EXIF block is edited in place, not decoded and encoded anew: the notes of camera makers hold offsets
into the block, and what needs no change (GPS, serial numbers, unknown tags) stays as it is.
"""

import io
import re
import struct

from wdsr_jax.photo.ifd import SUB_IFDS, TYPE_BYTES, Layout, Table, Tag, Type, read_header, read_table

PREFIX = b"Exif\0\0"  # before the block in JPEG, and in some WebP files


def clean_exif(block: bytes) -> bytes:
    """The EXIF block of pixels that stand upright: no orientation, no thumbnail, all else untouched.

    Args:
        block: from the byte order mark on, `Exif\\0\\0` before it or not.

    Returns:
        The block without `Exif\\0\\0`; empty where it is no EXIF.
    """
    edited = bytearray(block.removeprefix(PREFIX))
    try:
        layout, start = _read_header(edited)
        table = _read_table(edited, layout, start)
        count, end = table.length, table.end
        thumbnail = 0
        if len(edited) >= end + 4:
            (thumbnail,) = layout.offset_format.unpack_from(edited, end)
            layout.offset_format.pack_into(edited, end, 0)
        if thumbnail >= _end(edited, layout, start, set()):
            del edited[thumbnail:]
        for entry in reversed(table.entries):
            if entry.tag == Tag.ORIENTATION:
                tail = edited[entry.position + 12 : end + 4]
                edited[entry.position : entry.position + 12 + len(tail)] = tail + bytes(12)
                count -= 1
                end -= 12
        layout.count_format.pack_into(edited, start, count)
    except (ValueError, struct.error):
        return b""
    return bytes(edited)


def exif_with_size(block: bytes, width: int, height: int) -> bytes:
    """A block of `clean_exif` with the size in pixels, where it gives one, set right."""
    if not block:
        return block
    edited = bytearray(block)
    layout, start = _read_header(edited)
    sizes = {
        Tag.IMAGE_WIDTH: width,
        Tag.IMAGE_LENGTH: height,
        Tag.PIXEL_X_DIMENSION: width,
        Tag.PIXEL_Y_DIMENSION: height,
    }
    try:
        entries = []
        for entry in _read_table(edited, layout, start).entries:
            entries.append(entry)
            if entry.tag == Tag.EXIF_IFD:
                entries += _read_table(edited, layout, entry.offset).entries
    except (ValueError, struct.error):
        return block
    for entry in entries:
        if entry.tag in sizes:  # as a LONG: 65,536 pixels and more do not fit in a SHORT
            value = layout.pack(Type.LONG, sizes[Tag(entry.tag)])
            layout.entry_format.pack_into(edited, entry.position, entry.tag, Type.LONG, 1, value)
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


def _read_header(block: bytearray) -> tuple[Layout, int]:
    """The layout of a block and the position of its first directory; ValueError where it is no EXIF."""
    layout, start = read_header(block)
    if layout.big:
        raise ValueError("not an EXIF block")
    return layout, start


def _read_table(block: bytearray, layout: Layout, start: int) -> Table:
    """All entries of the directory at `start`; ValueError where the block ends before."""
    table = read_table(io.BytesIO(block), layout, start, max_entries=2**16)
    if len(table.entries) < table.length:
        raise ValueError("the directory is cut short")
    return table


def _end(block: bytearray, layout: Layout, start: int, seen: set[int]) -> int:
    """The end of the directory at `start` with its values and the directories below it."""
    seen.add(start)
    end = start + 2
    for entry in _read_table(block, layout, start).entries:
        end = max(end, entry.position + 12 + 4)  # and the position of the next directory
        size = TYPE_BYTES.get(entry.kind, 1) * entry.length
        if size > 4:
            end = max(end, entry.offset + size)
        if entry.tag in SUB_IFDS and entry.offset not in seen:
            end = max(end, _end(block, layout, entry.offset, seen))
    return end
