"""TIFF files of 8 and 16 bits, and the directories of tags that TIFF and EXIF share.

Pillow writes no colour of 16 bits, and turns letters beyond ASCII in the tags into question marks. Pixels are
stored as differences to the left neighbour (Predictor 2), packed by Deflate, which readers since 1995 know.

Sources: TIFF Revision 6.0 (Adobe 1992), sections 2 and 14; its supplement 2 (2002) for Deflate; BigTIFF as in
libtiff; Exif 2.32 (JEITA CP-3451E) for the directories below the first.
"""

import functools
import io
import struct
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np

from wdsr_jax.photo.exif import EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD, TYPE_BYTES
from wdsr_jax.photo.rows import interleaved, map_ordered, row_ranges

IPTC, XMP, ICC_PROFILE = 0x83BB, 0x02BC, 0x8773
# What the first directory says about the photograph, not about how this file holds it.
_DESCRIPTIVE = {
    *(
        0x010E,
        0x010F,
        0x0110,
        0x0131,
        0x0132,
        0x013B,
        0x013C,
    ),  # description, camera, software, date, artist, host
    *(0x4746, 0x4749, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),  # rating, copyright, Windows' own
    *(EXIF_IFD, GPS_IFD),
}
_BELOW = {0: (EXIF_IFD, GPS_IFD), EXIF_IFD: (INTEROPERABILITY_IFD,), GPS_IFD: (), INTEROPERABILITY_IFD: ()}
_BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _LONG8 = 1, 3, 4, 5, 7, 16
_MOST_BYTES, _MOST_PAGES = 2**26, 10_000  # more is damage, or an attack


class Value(NamedTuple):
    """The value of a tag, as the file holds it.

    Attributes:
        kind: TIFF's number of its type.
        data: its bytes, in the byte order of the file.
    """

    kind: int
    data: bytes


Directory = dict[int, "Value | Directory"]


def read_directory(
    file: BinaryIO, order: str, start: int, big: bool = False, of: int = 0, only: tuple[int, ...] = ()
) -> Directory:
    """The tags of the directory at `start`, and of the Exif, GPS and interoperability directories below it.

    Values that lie outside of the file are left out, and those after the first 64 MB.

    Args:
        file: a TIFF file or an EXIF block.
        order: "<" or ">".
        start: position in the file.
        big: BigTIFF.
        of: the tag that led to it; 0 for the first directory.
        only: the tags to read; empty: all.

    Raises:
        struct.error: there is no directory.
    """
    head, entry, inline = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 4)
    file.seek(start)
    (count,) = struct.unpack(order + head, file.read(struct.calcsize(order + head)))
    size = struct.calcsize(order + entry)
    table = file.read(min(count, 4096) * size)
    directory: Directory = {}
    left = _MOST_BYTES
    for tag, kind, count, data in struct.iter_unpack(order + entry, table[: len(table) // size * size]):
        if only and tag not in only:
            continue
        length = TYPE_BYTES.get(kind, 0) * count
        position = struct.unpack(order + ("Q" if big else "I"), data)[0]
        if position >= 2**63:  # farther than a file can be
            position = 0
        if tag in _BELOW[of]:
            try:
                directory[tag] = read_directory(file, order, position, big, tag)
            except struct.error:
                continue
        elif 0 < length <= inline:
            directory[tag] = Value(kind, data[:length])
        elif inline < length <= left:
            left -= length
            file.seek(position)
            data = file.read(length)
            if len(data) == length:
                directory[tag] = Value(kind, data)
    return directory


def packed_directory(directory: Directory, order: str, offset: int, big: bool = False) -> bytes:
    """The bytes of a directory, its values and those below it, to stand at `offset` in a file."""
    head, entry, inline, pointer = ("Q", "HHQ8s", 8, "Q") if big else ("H", "HHI4s", 4, "I")
    table = [struct.pack(order + head, len(directory))]
    size = struct.calcsize(order + head) + len(directory) * struct.calcsize(order + entry) + inline
    beyond = b""
    for tag, value in sorted(directory.items()):
        position = offset + size + len(beyond)
        if isinstance(value, dict):
            beyond += packed_directory(value, order, position, big)
            kind, count, data = _LONG8 if big else _LONG, 1, struct.pack(order + pointer, position)
        else:
            kind, data = value
            count = len(data) // TYPE_BYTES[kind]
            if len(data) > inline:
                beyond += data
                data = struct.pack(order + pointer, position)
        beyond += bytes(len(beyond) % 2)
        table.append(struct.pack(order + entry, tag, kind, count, data.ljust(inline, b"\0")))
    return b"".join([*table, bytes(inline), beyond])


class Page(NamedTuple):
    """A page of a TIFF file.

    Attributes:
        index: its number, from 0.
        order: byte order of the file, "<" or ">".
        big: whether the file is a BigTIFF.
        tags: its directory.
    """

    index: int
    order: str
    big: bool
    tags: Directory

    def number(self, tag: int, default: int) -> int:
        """The first number of an integer tag."""
        value = self.tags.get(tag)
        letters = {_BYTE: "B", _SHORT: "H", _LONG: "I", _LONG8: "Q"}
        if not isinstance(value, Value) or value.kind not in letters:
            return default
        return struct.unpack_from(self.order + letters[value.kind], value.data)[0]

    def bytes_of(self, tag: int) -> bytes:
        """The bytes of a tag's value; empty where the page has none."""
        value = self.tags.get(tag)
        return value.data if isinstance(value, Value) else b""

    def exif(self) -> bytes:
        """What the page says about the photograph, as an EXIF block; empty where it says nothing."""
        tags = {tag: value for tag, value in self.tags.items() if tag in _DESCRIPTIVE}
        if not tags:
            return b""
        mark = b"II*\0" if self.order == "<" else b"MM\0*"
        return mark + struct.pack(self.order + "I", 8) + packed_directory(tags, self.order, 8)


def first_page(file: BinaryIO) -> tuple[Page | None, int]:
    """The first page of a TIFF file that is a picture of full size, neither thumbnail nor mask; None without.

    Returns:
        The page, and how many such pages there are.

    Raises:
        struct.error: damage.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in head[2:4]
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    found, count, seen = None, 0, set()
    while 0 < start < 2**63 and start not in seen and len(seen) < _MOST_PAGES:
        page = Page(len(seen), order, big, read_directory(file, order, start, big, only=(254, 255)))
        if not page.number(254, 0) & 5 and page.number(255, 1) != 2:
            count += 1
            if found is None:
                found = page._replace(tags=read_directory(file, order, start, big))
        seen.add(start)
        file.seek(start)
        (entries,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
        file.seek(min(entries * (20 if big else 12), 2**62), 1)
        end = file.read(8 if big else 4)
        if len(end) < (8 if big else 4):
            break
        (start,) = struct.unpack(order + ("Q" if big else "I"), end)
    return found, count


def grey_pages(file: BinaryIO, page: Page) -> list[io.BytesIO]:
    """A TIFF of 16-bit channels as TIFFs of one channel, where Pillow cannot read it; else an empty list.

    Channels that are stored apart become a file each. Grey with alpha, pixel by pixel, becomes one grey image
    of twice the width, without the mention of a predictor: that is for `grey_alpha` to undo.
    """
    samples = page.number(277, 1)
    widths = page.bytes_of(258)
    if set(struct.unpack(f"{page.order}{len(widths) // 2}H", widths[: len(widths) // 2 * 2])) != {16}:
        return []
    if page.number(339, 1) != 1:  # not unsigned integers
        return []
    apart = page.number(284, 1) == 2
    offsets, sizes = (273, 279) if 273 in page.tags else (324, 325)
    if not (2 <= samples <= 4 and (apart or samples == 2) and page.number(262, 1) in (0, 1, 2)):
        return []
    if offsets not in page.tags or sizes not in page.tags:
        return []
    file.seek(0)
    content = file.read()
    content += bytes(len(content) % 2)

    gone = (274, XMP, 338)  # orientation, which XMP may give as well; extra samples
    tags = {tag: value for tag, value in page.tags.items() if tag not in gone}
    short = functools.partial(struct.pack, page.order + "H")
    tags |= {258: Value(_SHORT, short(16)), 262: Value(_SHORT, short(1)), 277: Value(_SHORT, short(1))}
    tags |= {284: Value(_SHORT, short(1)), 339: Value(_SHORT, short(1))}
    if not apart:
        for tag in (256, 322):  # width of the image, of a tile
            if tag in tags:
                tags[tag] = Value(_LONG, struct.pack(page.order + "I", 2 * page.number(tag, 1)))
        tags[317] = Value(_SHORT, short(1))
    files = []
    for channel in range(samples if apart else 1):
        for tag in (offsets, sizes):
            kind, data = page.tags[tag]
            part = len(data) // samples if apart else len(data)
            tags[tag] = Value(kind, data[channel * part : (channel + 1) * part])
        end = struct.pack(page.order + ("Q" if page.big else "I"), len(content))
        head = content[:8] + end if page.big else content[:4] + end
        directory = packed_directory(tags, page.order, len(content), page.big)
        files.append(io.BytesIO(head + content[len(head) :] + directory))
    return files


def grey_alpha(image: np.ndarray, page: Page) -> np.ndarray:
    """(H, 2 W) of `grey_pages` to (H, W, 2) uint16, the predictor undone."""
    image = image.reshape(len(image), -1, 2)  # (H, W, 2)
    if page.number(317, 1) != 2:
        return image
    step = page.number(322, image.shape[1])  # each tile, or each row, begins anew
    starts = range(0, image.shape[1], max(step, 1))
    parts = [np.cumsum(image[:, start : start + step], axis=1, dtype=np.uint16) for start in starts]
    return np.concatenate(parts, axis=1)


def write_tiff(
    file: BinaryIO,
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    *,
    exif: bytes = b"",
    dpi: tuple[float, float] | None = None,
    others: dict[int, bytes] | None = None,
) -> None:
    """Writes an image as TIFF, never holding more than a few megabytes beside it; BigTIFF from 4 GB on.

    Args:
        file: opened for writing and able to seek.
        pixels: (H, W, 1) grey or (H, W, 3) RGB, uint8 or uint16.
        alpha: (H, W) of the same type, straight; or None.
        exif: EXIF block of `clean_exif`. The file gets its byte order, on which notes of camera makers hang.
        dpi: pixels an inch, across and down.
        others: by tag, values that are bytes: ICC_PROFILE, XMP, IPTC.

    Raises:
        OSError: the file cannot be written.
    """
    height, width, channels = pixels.shape
    samples = channels + (alpha is not None)
    order = ">" if exif[:2] == b"MM" else "<"

    def encode(rows: tuple[int, int]) -> bytes:
        block = interleaved(pixels, alpha, *rows)
        differences = np.array(block, block.dtype.newbyteorder(order))
        differences[:, 1:] = block[:, 1:] - block[:, :-1]
        packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
        return packer.compress(differences) + packer.flush()

    file.write(bytes(16))  # the header, which needs the place of the directory, and that its size
    ranges = row_ranges(pixels)
    offsets, sizes, end = [], [], 16
    for strip in map_ordered(encode, ranges):
        offsets.append(end)
        sizes.append(len(strip))
        file.write(strip)
        end += len(strip)
    file.write(bytes(end % 2))
    end += end % 2

    def numbers(kind: int, *values: int) -> Value:
        letter = {_SHORT: "H", _LONG: "I", _RATIONAL: "I", _LONG8: "Q"}[kind]
        return Value(kind, struct.pack(f"{order}{len(values)}{letter}", *values))

    big = end > 2**32 - 2**27  # room for the directory
    tags: Directory = {tag: value for tag, value in _directory_of(exif).items() if tag in _DESCRIPTIVE}
    for tag, data in (others or {}).items():
        if data:
            tags[tag] = Value(_BYTE if tag == XMP else _UNDEFINED, data)
    tags |= {
        256: numbers(_LONG, width),
        257: numbers(_LONG, height),
        258: numbers(_SHORT, *[8 * pixels.itemsize] * samples),
        259: numbers(_SHORT, 8),  # Deflate
        262: numbers(_SHORT, 1 if channels == 1 else 2),  # black is zero, RGB
        273: numbers(_LONG8 if big else _LONG, *offsets),
        277: numbers(_SHORT, samples),
        278: numbers(_LONG, ranges[0][1]),  # rows of a strip
        279: numbers(_LONG8 if big else _LONG, *sizes),
        284: numbers(_SHORT, 1),  # samples of a pixel side by side
        317: numbers(_SHORT, 2),  # differences to the left
    }
    if alpha is not None:
        tags[338] = numbers(_SHORT, 2)  # straight
    if dpi:
        for tag, value in zip((282, 283), dpi, strict=True):
            tags[tag] = numbers(_RATIONAL, round(value * 1000), 1000)
        tags[296] = numbers(_SHORT, 2)  # inches
    file.write(packed_directory(tags, order, end, big))
    file.seek(0)
    mark = b"II" if order == "<" else b"MM"
    file.write(
        mark + (struct.pack(order + "HHHQ", 43, 8, 0, end) if big else struct.pack(order + "HI", 42, end))
    )
    file.seek(0, 2)


def _directory_of(exif: bytes) -> Directory:
    if not exif:
        return {}
    order = ">" if exif[:2] == b"MM" else "<"
    try:
        return read_directory(io.BytesIO(exif), order, struct.unpack_from(order + "I", exif, 4)[0])
    except struct.error:
        return {}
