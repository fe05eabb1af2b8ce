"""Image file directories (IFDs): the tables of tags that TIFF files and EXIF blocks consist of.

A directory holds a count, entries of one size and the position of the next directory. An entry holds a tag,
the type and the count of its values, and the values themselves or, where they do not fit, their position.

Sources: TIFF Revision 6.0 (Adobe 1992), section 2; BigTIFF as in libtiff; Exif 2.32 (JEITA CP-3451E), section
4.6.3, for the directories below the first.
"""

import enum
import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import BinaryIO, NamedTuple, TypeAlias


class Tag(enum.IntEnum):
    """Tags by their names in the specifications."""

    NEW_SUBFILE_TYPE = 0x00FE
    SUBFILE_TYPE = 0x00FF
    IMAGE_WIDTH = 0x0100
    IMAGE_LENGTH = 0x0101
    BITS_PER_SAMPLE = 0x0102
    COMPRESSION = 0x0103
    PHOTOMETRIC_INTERPRETATION = 0x0106
    IMAGE_DESCRIPTION = 0x010E
    MAKE = 0x010F
    MODEL = 0x0110
    STRIP_OFFSETS = 0x0111
    ORIENTATION = 0x0112
    SAMPLES_PER_PIXEL = 0x0115
    ROWS_PER_STRIP = 0x0116
    STRIP_BYTE_COUNTS = 0x0117
    X_RESOLUTION = 0x011A
    Y_RESOLUTION = 0x011B
    PLANAR_CONFIGURATION = 0x011C
    RESOLUTION_UNIT = 0x0128
    SOFTWARE = 0x0131
    DATE_TIME = 0x0132
    ARTIST = 0x013B
    HOST_COMPUTER = 0x013C
    PREDICTOR = 0x013D
    TILE_WIDTH = 0x0142
    TILE_OFFSETS = 0x0144
    TILE_BYTE_COUNTS = 0x0145
    EXTRA_SAMPLES = 0x0152
    SAMPLE_FORMAT = 0x0153
    XMP = 0x02BC
    RELATED_IMAGE_WIDTH = 0x1001
    RELATED_IMAGE_LENGTH = 0x1002
    RATING = 0x4746
    RATING_PERCENT = 0x4749
    COPYRIGHT = 0x8298
    MODEL_PIXEL_SCALE = 0x830E
    IPTC = 0x83BB
    MODEL_TIE_POINT = 0x8482
    MODEL_TRANSFORMATION = 0x85D8
    EXIF_IFD = 0x8769
    ICC_PROFILE = 0x8773
    GEO_KEY_DIRECTORY = 0x87AF
    GEO_DOUBLE_PARAMS = 0x87B0
    GEO_ASCII_PARAMS = 0x87B1
    GPS_IFD = 0x8825
    TIFF_EP_FOCAL_PLANE_X_RESOLUTION = 0x920E
    TIFF_EP_FOCAL_PLANE_Y_RESOLUTION = 0x920F
    SUBJECT_AREA = 0x9214
    IMAGE_SOURCE_DATA = 0x935C
    XP_TITLE = 0x9C9B
    XP_COMMENT = 0x9C9C
    XP_AUTHOR = 0x9C9D
    XP_KEYWORDS = 0x9C9E
    XP_SUBJECT = 0x9C9F
    PIXEL_X_DIMENSION = 0xA002
    PIXEL_Y_DIMENSION = 0xA003
    INTEROPERABILITY_IFD = 0xA005
    FOCAL_PLANE_X_RESOLUTION = 0xA20E
    FOCAL_PLANE_Y_RESOLUTION = 0xA20F
    SUBJECT_LOCATION = 0xA214
    GDAL_METADATA = 0xA480
    GDAL_NODATA = 0xA481
    DNG_VERSION = 0xC612
    RPC_COEFFICIENT = 0xC69C
    IMAGEJ_METADATA = 0xC697


class Type(enum.IntEnum):
    """Types of values by their names in the specifications."""

    BYTE = 1
    ASCII = 2
    SHORT = 3
    LONG = 4
    RATIONAL = 5
    SBYTE = 6
    UNDEFINED = 7
    SSHORT = 8
    SLONG = 9
    SRATIONAL = 10
    FLOAT = 11
    DOUBLE = 12
    IFD = 13
    LONG8 = 16
    SLONG8 = 17
    IFD8 = 18


# Bytes of one value, by its type.
TYPE_BYTES: dict[int, int] = {
    **dict.fromkeys((Type.BYTE, Type.ASCII, Type.SBYTE, Type.UNDEFINED), 1),
    **dict.fromkeys((Type.SHORT, Type.SSHORT), 2),
    **dict.fromkeys((Type.LONG, Type.SLONG, Type.FLOAT, Type.IFD), 4),
    **dict.fromkeys((Type.RATIONAL, Type.SRATIONAL, Type.DOUBLE, Type.LONG8, Type.SLONG8, Type.IFD8), 8),
}
_UNSIGNED: dict[int, str] = {  # letters of struct; a RATIONAL is two
    Type.BYTE: "B",
    Type.SHORT: "H",
    Type.LONG: "I",
    Type.RATIONAL: "I",
    Type.LONG8: "Q",
}
_LETTERS: dict[int, str] = _UNSIGNED | {
    **{Type.SBYTE: "b", Type.SSHORT: "h", Type.SLONG: "i", Type.SRATIONAL: "i", Type.SLONG8: "q"},
    **{Type.FLOAT: "f", Type.DOUBLE: "d"},
}
_RATIONALS = (Type.RATIONAL, Type.SRATIONAL)

# Tags whose value is the position of a directory, by the tag that led to the directory they are in; None is
# the first directory.
SUB_IFDS: dict[int | None, tuple[Tag, ...]] = {
    None: (Tag.EXIF_IFD, Tag.GPS_IFD),
    Tag.EXIF_IFD: (Tag.INTEROPERABILITY_IFD,),
    Tag.GPS_IFD: (),
    Tag.INTEROPERABILITY_IFD: (),
}
MAX_ENTRIES = 4096  # of a directory and those below it; more is damage, or an attack
_MAX_BYTES = 2**26  # of their values; more is damage, or an attack
_MAX_ENTRIES_COUNTED = 2**17  # of the directories that are looked through; more is an attack
_NOT_READ = (Tag.IMAGE_SOURCE_DATA,)  # Photoshop's layers: whether there are any is enough
_MAX_OFFSET = 2**63  # no file is longer


class Layout(NamedTuple):
    """How a file writes numbers.

    Attributes:
        order: byte order as in `struct`, "<" or ">".
        big: whether the file is a BigTIFF: 8 bytes for counts and positions.
    """

    order: str
    big: bool = False

    @property
    def count_format(self) -> struct.Struct:
        """Of the number of entries."""
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def entry_format(self) -> struct.Struct:
        """Of an entry: tag, type, count, values or their position."""
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))

    @property
    def offset_format(self) -> struct.Struct:
        """Of a position in the file. As many bytes of values fit in an entry."""
        return struct.Struct(self.order + ("Q" if self.big else "I"))

    def pack(self, kind: Type, *values: int) -> bytes:
        """Unsigned integers as values of a tag; a RATIONAL is a numerator and a denominator."""
        return struct.pack(f"{self.order}{len(values)}{_UNSIGNED[kind]}", *values)


MARKS = {
    b"II*\0": Layout("<"),
    b"MM\0*": Layout(">"),
    b"II+\0": Layout("<", big=True),
    b"MM\0+": Layout(">", big=True),
}


class Entry(NamedTuple):
    """An entry of a directory.

    Attributes:
        position: of the entry in the file.
        tag: its number.
        kind: number of the type of its values.
        length: how many values.
        field: the values, padded, or their position.
        offset: `field` read as a position.
    """

    position: int
    tag: int
    kind: int
    length: int
    field: bytes
    offset: int


class Table(NamedTuple):
    """The entries of a directory.

    Attributes:
        length: how many entries the directory says it has; a file that is cut short holds fewer.
        entries: those that were read.
        end: position behind the last entry, where the position of the next directory stands.
    """

    length: int
    entries: list[Entry]
    end: int


class Value(NamedTuple):
    """The value of a tag, as the file holds it.

    Attributes:
        kind: number of its type.
        data: its bytes, in the byte order of the file.
    """

    kind: int
    data: bytes


Tags: TypeAlias = "dict[int, Value | Tags]"


class Ifd(NamedTuple):
    """A directory in the chain of a TIFF file: a page, a thumbnail or a mask.

    Attributes:
        page: its number in the chain, from 0.
        layout: of the file.
        tags: what it holds.
        incomplete: whether something in it or below it was left out as damaged.
    """

    page: int
    layout: Layout
    tags: Tags
    incomplete: bool = False

    def number(self, tag: int, default: int) -> int:
        """The first number of a tag of unsigned integers; the default where there is no such tag."""
        value = self.tags.get(tag)
        if not isinstance(value, Value) or value.kind == Type.RATIONAL or value.kind not in _UNSIGNED:
            return default
        return struct.unpack_from(self.layout.order + _UNSIGNED[value.kind], value.data)[0]

    def bytes_of(self, tag: int) -> bytes:
        """The bytes of a tag's value; empty where there is no such tag."""
        value = self.tags.get(tag)
        return value.data if isinstance(value, Value) else b""


def read_header(head: bytes | bytearray) -> tuple[Layout, int]:
    """The layout of a TIFF file or an EXIF block, and the position of its first directory.

    Args:
        head: the first 16 bytes; 8 are enough where it is no BigTIFF.

    Raises:
        ValueError: it begins in another way.
        struct.error: it is cut short.
    """
    layout = MARKS.get(bytes(head[:4]))
    if layout is None:
        raise ValueError("not a TIFF file or EXIF block")
    (start,) = layout.offset_format.unpack_from(head, 8 if layout.big else 4)
    return layout, start


def pack_header(layout: Layout, start: int) -> bytes:
    """The 8 bytes (BigTIFF: 16) before everything else; `start` is the position of the first directory."""
    mark = b"II" if layout.order == "<" else b"MM"
    if layout.big:
        return mark + struct.pack(layout.order + "HHHQ", 43, 8, 0, start)  # 8 bytes for a position
    return mark + struct.pack(layout.order + "HI", 42, start)


def read_table(
    file: BinaryIO,
    layout: Layout,
    start: int,
    *,
    only: tuple[int, ...] = (),
    max_entries: int = MAX_ENTRIES,
) -> Table:
    """The entries of the directory at `start`, without the values that lie elsewhere.

    Args:
        file: a TIFF file or an EXIF block.
        layout: of the file.
        start: position in the file.
        only: the tags to read; empty: all.
        max_entries: to read.

    Raises:
        struct.error: the file ends before.
    """
    file.seek(start)
    head = layout.count_format
    (count,) = head.unpack(file.read(head.size))
    form, first = layout.entry_format, start + head.size
    table = file.read(min(count, max_entries) * form.size)
    whole = table[: len(table) // form.size * form.size]
    entries = [
        Entry(first + i * form.size, tag, kind, length, field, layout.offset_format.unpack(field)[0])
        for i, (tag, kind, length, field) in enumerate(form.iter_unpack(whole))
        if not only or tag in only
    ]
    return Table(count, entries, first + count * form.size)


def bytes_of_values(
    file: BinaryIO, layout: Layout, start: int, length: int, max_entries: int = _MAX_ENTRIES_COUNTED
) -> int:
    """The bytes that it would take to read all values of the directory at `start` and of those below it.

    In a file that is whole they are fewer than its bytes. Values may share their place, so that a small file
    can ask for any number.

    Args:
        file: a TIFF file or an EXIF block.
        layout: of the file.
        start: position in the file.
        length: of the file.
        max_entries: of the directories; where there are more, the result is above any limit.
    """
    total, entries, seen = 0, 0, {start}
    todo: list[tuple[int | None, int]] = [(None, start)]
    while todo:
        parent_tag, start = todo.pop()
        try:
            left = max_entries - entries
            table = read_table(file, layout, min(start, 2**62), max_entries=left + 1)
        except struct.error:
            continue
        entries += len(table.entries)
        if entries > max_entries:
            return 2**62
        for entry in table.entries:
            size = TYPE_BYTES.get(entry.kind, 0) * entry.length
            total += size if size <= length else 0  # else it lies outside
            if entry.tag in SUB_IFDS[parent_tag] and entry.offset not in seen:
                seen.add(entry.offset)
                todo.append((entry.tag, entry.offset))
    return total


class Limits:
    """What may still be read of a directory and of those below it.

    Attributes:
        entries: how many.
        bytes: of their values.
        seen: positions of the directories that were read; none is read twice.
        exceeded: whether something was left out for it.
    """

    def __init__(self) -> None:
        self.entries = MAX_ENTRIES
        self.bytes = _MAX_BYTES
        self.seen: set[int] = set()
        self.exceeded = False


def read_tags(
    file: BinaryIO,
    layout: Layout,
    start: int,
    *,
    parent_tag: int | None = None,
    only: tuple[int, ...] = (),
    limits: Limits | None = None,
) -> Tags:
    """The tags of the directory at `start`, and of the Exif, GPS and interoperability directories below it.

    Values that lie outside of the file are left out, and what is beyond the limits: of all these directories
    4,096 entries and 64 MB of values.

    Args:
        file: a TIFF file or an EXIF block.
        layout: of the file.
        start: position in the file.
        parent_tag: the tag that led to the directory; None for the first.
        only: the tags to read; empty: all.
        limits: is brought up to date.

    Raises:
        struct.error: there is no directory.
    """
    limits = limits or Limits()
    limits.seen.add(start)
    tags: Tags = {}
    below: list[Entry] = []
    table = read_table(file, layout, start, only=only, max_entries=limits.entries)
    limits.entries -= min(table.length, limits.entries)
    limits.exceeded |= len(table.entries) < table.length and not only
    for entry in table.entries:
        size = TYPE_BYTES.get(entry.kind, 0) * entry.length
        offset = entry.offset if entry.offset < _MAX_OFFSET else 0
        if entry.tag in SUB_IFDS[parent_tag]:
            below.append(entry._replace(offset=offset))
        elif 0 < size <= len(entry.field):
            tags[entry.tag] = Value(entry.kind, entry.field[:size])
        elif size and entry.tag in _NOT_READ:
            tags[entry.tag] = Value(entry.kind, b"")
        elif size > limits.bytes:
            limits.exceeded = True
        elif size > len(entry.field):
            limits.bytes -= size
            file.seek(offset)
            data = file.read(size)
            if len(data) == size:
                tags[entry.tag] = Value(entry.kind, data)
    for entry in below:
        if entry.offset in limits.seen or not limits.entries:
            limits.exceeded = True
            continue
        try:
            tags[entry.tag] = read_tags(file, layout, entry.offset, parent_tag=entry.tag, limits=limits)
        except struct.error:
            continue
    return tags


def unpack_numbers(value: Value, order: str) -> list[int | float | Fraction] | None:
    """The numbers of a value; None where it is text, of no known type or a fraction with the denominator 0.

    Args:
        value: of a tag.
        order: byte order, "<" or ">".
    """
    letter, size = _LETTERS.get(value.kind), TYPE_BYTES.get(value.kind, 1)
    if letter is None:
        return None
    parts = 2 if value.kind in _RATIONALS else 1
    numbers = struct.unpack(f"{order}{parts * (len(value.data) // size)}{letter}", value.data)
    if parts == 1:
        return list(numbers)
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    return [Fraction(*pair) for pair in pairs] if all(below for _, below in pairs) else None


def pack_numbers(kind: int, numbers: Iterable[int | float | Fraction], order: str) -> bytes | None:
    """`unpack_numbers` undone; whole numbers are rounded. None where one does not fit the type."""
    packed: Sequence[int | float]
    if kind in _RATIONALS:
        packed = [part for number in numbers for part in _as_fraction(Fraction(number))]
    elif kind in (Type.FLOAT, Type.DOUBLE):
        packed = [float(number) for number in numbers]
    else:
        packed = [round(number) for number in numbers]
    try:
        return struct.pack(f"{order}{len(packed)}{_LETTERS[kind]}", *packed)
    except struct.error:
        return None


def _as_fraction(number: Fraction) -> tuple[int, int]:
    """Numerator and denominator of 31 bits, so far as the number has 31 bits before the point."""
    largest = 2**31 - 1
    if max(abs(number.numerator), number.denominator) > largest:
        number = number.limit_denominator(max(1, int(largest / max(1, abs(number) + 1))))
    return number.numerator, number.denominator


def pack_tags(tags: Tags, layout: Layout, start: int) -> bytes:
    """The bytes of a directory, its values and the directories below it, to stand at `start` in a file."""
    offset_format = layout.offset_format
    inline = offset_format.size
    table = [layout.count_format.pack(len(tags))]
    size = layout.count_format.size + len(tags) * layout.entry_format.size + inline
    beyond = b""
    for tag, value in sorted(tags.items()):
        position = start + size + len(beyond)
        if isinstance(value, dict):
            beyond += pack_tags(value, layout, position)
            kind, count, data = Type.LONG8 if layout.big else Type.LONG, 1, offset_format.pack(position)
        else:
            kind, data = value
            count = len(data) // TYPE_BYTES[kind]
            if len(data) > inline:
                beyond += data
                data = offset_format.pack(position)
        beyond += bytes(len(beyond) % 2)
        table.append(layout.entry_format.pack(tag, kind, count, data.ljust(inline, b"\0")))
    return b"".join([*table, bytes(inline), beyond])
