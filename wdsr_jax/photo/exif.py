"""EXIF and XMP of a photograph whose pixels are turned upright and upscaled.

The EXIF block is edited in place, not decoded and encoded anew: the notes of camera makers hold offsets
into the block, and what needs no change (GPS, serial numbers, unknown tags) stays as it is.
"""

import io
import re
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from wdsr_jax.photo.ifd import (
    MAX_ENTRIES,
    SUB_IFDS,
    TYPE_BYTES,
    Entry,
    Ifd,
    Layout,
    Table,
    Tag,
    Type,
    Value,
    bytes_of_values,
    pack_numbers,
    read_header,
    read_table,
    read_tags,
    unpack_numbers,
)
from wdsr_jax.photo.pixel_units import (
    EXIF_PAIRS,
    EXIF_RULES,
    Number,
    Resize,
    Rule,
    description_with_size,
    resized,
    turned_area,
    without_elements,
    xmp_turned,
)

PREFIX = b"Exif\0\0"  # before the block in JPEG, and in some WebP files


class _Directory(NamedTuple):
    """A directory of a block.

    Attributes:
        start: its position.
        table: its entries.
    """

    start: int
    table: Table


class _Block:
    """An EXIF block that is edited in place.

    Raises:
        ValueError: it is no EXIF, it is cut short, or its directories have more than 4,096 entries.
        struct.error: it is cut short.
    """

    def __init__(self, block: bytes) -> None:
        self.data = bytearray(block.removeprefix(PREFIX))
        self.layout, start = read_header(self.data)
        if self.layout.big or needs_much_memory(block):
            raise ValueError("not an EXIF block")
        self.directories = _directories(block.removeprefix(PREFIX), self.layout, start)

    @property
    def entries(self) -> list[Entry]:
        """Of all directories."""
        return [entry for directory in self.directories for entry in directory.table.entries]

    def value(self, entry: Entry) -> bytes:
        """The bytes of an entry's values."""
        size = TYPE_BYTES.get(entry.kind, 0) * entry.length
        return entry.field[:size] if size <= 4 else bytes(self.data[entry.offset : entry.offset + size])

    def numbers(self, entry: Entry) -> list[Number] | None:
        """An entry's numbers; None where it has none."""
        data = self.value(entry)
        whole = len(data) == TYPE_BYTES.get(entry.kind, 0) * entry.length > 0
        return unpack_numbers(Value(entry.kind, data), self.layout.order) if whole else None

    def set_value(self, entry: Entry, kind: int, data: bytes) -> None:
        """Gives an entry another value, behind the block where it is longer than the old one."""
        room = max(4, TYPE_BYTES.get(entry.kind, 0) * entry.length)
        offset = entry.offset if room > 4 else 0
        if len(data) > room:
            self.data += bytes(len(self.data) % 2)
            offset = len(self.data)
            self.data += data
        elif len(data) > 4:
            self.data[offset : offset + len(data)] = data
        field = data.ljust(4, b"\0") if len(data) <= 4 else self.layout.offset_format.pack(offset)
        count = len(data) // TYPE_BYTES[kind]
        self.layout.entry_format.pack_into(self.data, entry.position, entry.tag, kind, count, field)

    def remove(self, unwanted: Callable[[Entry], bool]) -> None:
        """Removes entries; no others are to be edited afterwards."""
        for start, table in self.directories:
            count, end = table.length, table.end
            for entry in reversed(table.entries):
                if unwanted(entry):
                    tail = self.data[entry.position + 12 : end + 4]
                    self.data[entry.position : entry.position + 12 + len(tail)] = tail + bytes(12)
                    count -= 1
                    end -= 12
            self.layout.count_format.pack_into(self.data, start, count)


def _directories(block: bytes, layout: Layout, start: int) -> list[_Directory]:
    """The directory at `start` and the Exif, GPS and interoperability directories below it, each once."""
    file = io.BytesIO(block)
    found: list[_Directory] = []
    left = MAX_ENTRIES
    seen = {start}
    todo: list[tuple[int | None, int]] = [(None, start)]
    while todo:
        parent_tag, start = todo.pop(0)
        table = read_table(file, layout, start, max_entries=left)
        left -= len(table.entries)
        if len(table.entries) < table.length:
            raise ValueError("the directory is cut short, or has too many entries")
        found.append(_Directory(start, table))
        for entry in table.entries:
            if entry.tag in SUB_IFDS[parent_tag] and entry.offset not in seen:
                seen.add(entry.offset)
                todo.append((entry.tag, entry.offset))
    return found


def needs_much_memory(block: bytes) -> bool:
    """Whether a program that reads all values of an EXIF block needs far more memory than the block has.

    So it is taken of a block with more than 4,096 entries.
    """
    block = block.removeprefix(PREFIX)
    try:
        layout, start = read_header(block)
    except (ValueError, struct.error):
        return False
    file, length = io.BytesIO(block), len(block)
    return bytes_of_values(file, layout, start, length, MAX_ENTRIES) > 4 * length + 2**20


def orientation_of(block: bytes, xmp: bytes = b"") -> int:
    """The orientation, 1 to 8, that EXIF gives, or else XMP; 1 where neither does."""
    block = block.removeprefix(PREFIX)
    try:
        layout, start = read_header(block)
        tags = read_tags(io.BytesIO(block), layout, start, only=(Tag.ORIENTATION,))
        number = Ifd(0, layout, tags).number(Tag.ORIENTATION, 0)
    except (ValueError, struct.error):
        number = 0
    if number:
        return number if number <= 8 else 1
    match = re.search(rb"tiff:Orientation(?:=[\"']|>)([1-8])", xmp)
    return int(match[1]) if match else 1


def clean_exif(block: bytes, orientation: int = 1, size: tuple[int, int] = (1, 1)) -> bytes:
    """The EXIF block of pixels that stand upright: no orientation, no thumbnail, all else untouched.

    Where the pixels were turned, so is the place of the subject.

    Args:
        block: from the byte order mark on, `Exif\\0\\0` before it or not.
        orientation: of EXIF, 1 to 8, by which the pixels were turned.
        size: (H, W) as stored.

    Returns:
        The block without `Exif\\0\\0`; empty where it is no EXIF, damaged, or so large as none is.
    """
    try:
        edited = _Block(block)
        end = edited.directories[0].table.end
        thumbnail = 0
        if len(edited.data) >= end + 4:
            (thumbnail,) = edited.layout.offset_format.unpack_from(edited.data, end)
            edited.layout.offset_format.pack_into(edited.data, end, 0)
        if thumbnail >= _end(edited):
            del edited.data[thumbnail:]
        if orientation != 1:
            _turn(edited, orientation, size)
        edited.remove(lambda entry: entry.tag == Tag.ORIENTATION)
    except (ValueError, struct.error):
        return b""
    return bytes(edited.data)


def _end(block: _Block) -> int:
    """The end of the directories and their values."""
    end = max(table.end + 4 for _, table in block.directories)  # and the position of the next directory
    for entry in block.entries:
        size = TYPE_BYTES.get(entry.kind, 1) * entry.length
        end = max(end, entry.offset + size if size > 4 else 0)
    return end


def _turn(block: _Block, orientation: int, size: tuple[int, int]) -> None:
    last = (size[1] - 1, size[0] - 1)
    first = {entry.tag: entry for entry in reversed(block.entries)}
    for tag, entry in first.items():
        numbers = block.numbers(entry) if EXIF_RULES.get(tag) == Rule.AREA else None
        if numbers and len(numbers) >= 2:
            _set_numbers(block, entry, turned_area(numbers, orientation, last))
    if orientation > 4:
        for pair in EXIF_PAIRS:
            across, down = (first.get(tag) for tag in pair)
            if across and down:
                values = block.value(across), block.value(down)
                block.set_value(across, down.kind, values[1])
                block.set_value(down, across.kind, values[0])


def _set_numbers(block: _Block, entry: Entry, numbers: Sequence[Number]) -> bool:
    """Gives an entry other numbers of its type; False where one does not fit."""
    data = pack_numbers(entry.kind, numbers, block.layout.order)
    if data is None:
        return False
    block.set_value(entry, entry.kind, data)
    return True


def exif_with_size(block: bytes, resize: Resize) -> bytes:
    """A block of `clean_exif` for a picture of the new size, by the table of `pixel_units`."""
    if not block:
        return block
    try:
        edited = _Block(block)
    except (ValueError, struct.error):
        return block
    too_large = set()
    for entry in edited.entries:
        rule = EXIF_RULES.get(entry.tag)
        if rule in (Rule.WIDTH, Rule.HEIGHT):  # as a LONG: 65,536 pixels and more do not fit in a SHORT
            size = edited.layout.pack(Type.LONG, resize.new[rule == Rule.WIDTH])
            edited.set_value(entry, Type.LONG, size)
        elif rule and (numbers := edited.numbers(entry)):
            if not _set_numbers(edited, entry, resized(rule, numbers, resize)):
                too_large.add(entry.position)
        elif entry.tag == Tag.IMAGE_DESCRIPTION:
            text = edited.value(entry)
            if (new := description_with_size(text, resize)) != text:
                edited.set_value(entry, entry.kind, new)
    edited.remove(lambda entry: entry.position in too_large)
    return bytes(edited.data)


def clean_xmp(packet: bytes, orientation: int = 1, size: tuple[int, int] = (1, 1)) -> bytes:
    """The XMP packet without the orientation and without mention of what the new file does not hold.

    That is: the gain map of HDR photographs, the video of motion photographs, the second part of a packet of
    more than 64 KB.

    Args:
        packet: of the picture as it was stored.
        orientation: of EXIF, 1 to 8, by which the pixels were turned.
        size: (H, W) as stored.
    """
    names = rb"tiff:Orientation|hdrgm:\w+|GCamera:\w+|xmpNote:HasExtendedXMP"
    packet = re.sub(rb"\s(?:%s)=(?:\"[^\"]*\"|'[^']*')" % names, b"", packet)
    packet = re.sub(rb"<tiff:Orientation>[^<]*</tiff:Orientation>", b"", packet)
    packet = without_elements(packet, b"Container:Directory")
    return xmp_turned(packet, orientation, size)
