"""TIFF files of 8 and 16 bits: what Pillow reads or writes with a loss.

Pillow writes no colour of 16 bits, and turns letters beyond ASCII in the tags into question marks. Pixels are
stored as differences to the left neighbour (Predictor 2), packed by Deflate, which readers since 1995 know.

Sources: TIFF Revision 6.0 (Adobe 1992), sections 2 and 14; its supplement 2 (2002) for Deflate; BigTIFF as in
libtiff.
"""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from wdsr_jax.photo.ifd import (
    Ifd,
    Layout,
    Limits,
    Tag,
    Tags,
    Type,
    Value,
    bytes_of_values,
    pack_header,
    pack_numbers,
    pack_tags,
    read_header,
    read_table,
    read_tags,
    unpack_numbers,
)
from wdsr_jax.photo.pixel_units import TIFF_RULES, Resize, is_calibrated, resized
from wdsr_jax.photo.rows import interleaved, row_ranges
from wdsr_jax.system.pool import map_ordered

# What the first directory says about the photograph, not about how this file holds it.
_DESCRIPTIVE = {
    *(Tag.IMAGE_DESCRIPTION, Tag.MAKE, Tag.MODEL, Tag.SOFTWARE, Tag.DATE_TIME, Tag.ARTIST, Tag.HOST_COMPUTER),
    *(Tag.RATING, Tag.RATING_PERCENT, Tag.COPYRIGHT),
    *(Tag.XP_TITLE, Tag.XP_COMMENT, Tag.XP_AUTHOR, Tag.XP_KEYWORDS, Tag.XP_SUBJECT),
    *(Tag.EXIF_IFD, Tag.GPS_IFD),
}
# What TIFF alone can hold, of the picture in this size: GeoTIFF's, and GDAL's.
_GEO_TAGS = (
    *(Tag.MODEL_PIXEL_SCALE, Tag.MODEL_TIE_POINT, Tag.MODEL_TRANSFORMATION),
    *(Tag.GEO_KEY_DIRECTORY, Tag.GEO_DOUBLE_PARAMS, Tag.GEO_ASCII_PARAMS, Tag.GDAL_METADATA, Tag.GDAL_NODATA),
)
_RASTER_TYPE, _PIXEL_IS_POINT = 1025, 2  # a key of GEO_KEY_DIRECTORY and a value
_MAX_IFDS = 10_000  # more is damage, or an attack
_MAX_IFD_ENTRIES = 2**18  # of all directories in the chain; more is damage, or an attack

# Values of tags.
_REDUCED_OR_MASK = 0b101  # bits of NEW_SUBFILE_TYPE
_REDUCED = 2  # of SUBFILE_TYPE
WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # of PHOTOMETRIC_INTERPRETATION
_CHUNKY, _PLANAR = 1, 2  # of PLANAR_CONFIGURATION
_NO_PREDICTOR, _HORIZONTAL_DIFFERENCES = 1, 2  # of PREDICTOR
_UNSIGNED = 1  # of SAMPLE_FORMAT
_STRAIGHT_ALPHA = 2  # of EXTRA_SAMPLES
_DEFLATE = 8  # of COMPRESSION
_NO_UNIT, _INCH = 1, 2  # of RESOLUTION_UNIT


def exif_of_tiff(ifd: Ifd) -> bytes:
    """What a directory says about the photograph, as an EXIF block; empty where it says nothing."""
    tags: Tags = {tag: value for tag, value in ifd.tags.items() if tag in _DESCRIPTIVE}
    if not tags:
        return b""
    layout = Layout(ifd.layout.order)
    return pack_header(layout, 8) + pack_tags(tags, layout, 8)


def tags_of_tiff(ifd: Ifd, orientation: int) -> dict[int, Value]:
    """What only a TIFF can hold of a photograph, in little-endian byte order.

    That is the georeference, and in files of ImageJ and OME the resolution, which is the size of what is
    seen.

    Args:
        ifd: the directory that was read.
        orientation: of EXIF, by which the pixels were turned; the georeference of turned ones is left out.
    """
    tags = [*_GEO_TAGS] if orientation == 1 else []
    if is_calibrated(ifd.bytes_of(Tag.IMAGE_DESCRIPTION)):
        tags += [Tag.X_RESOLUTION, Tag.Y_RESOLUTION, Tag.RESOLUTION_UNIT]
    kept: dict[int, Value] = {}
    for tag in tags:
        value = ifd.tags.get(tag)
        if isinstance(value, Value) and (data := _in_order(value, ifd.layout.order, "<")):
            kept[tag] = Value(value.kind, data)
    if orientation > 4 and {Tag.X_RESOLUTION, Tag.Y_RESOLUTION} <= kept.keys():
        across, down = kept[Tag.X_RESOLUTION], kept[Tag.Y_RESOLUTION]
        kept |= {Tag.X_RESOLUTION: down, Tag.Y_RESOLUTION: across}
    return kept


def is_georeferenced(tags: Iterable[int]) -> bool:
    """Whether tags say where on the globe the pixels lie."""
    places = (Tag.MODEL_PIXEL_SCALE, Tag.MODEL_TIE_POINT, Tag.MODEL_TRANSFORMATION, Tag.RPC_COEFFICIENT)
    return any(tag in places for tag in tags)


def tiff_tags_with_size(tags: dict[int, Value], resize: Resize) -> dict[int, Value]:
    """Tags of `tags_of_tiff` for a picture of the new size, by the table of `pixel_units`."""
    keys = tags[Tag.GEO_KEY_DIRECTORY].data if Tag.GEO_KEY_DIRECTORY in tags else b""
    keys = struct.iter_unpack("<4H", keys[: len(keys) // 8 * 8])
    is_point = any(key == _RASTER_TYPE and value == _PIXEL_IS_POINT for key, _, _, value in keys)
    changed = dict(tags)
    for tag, value in tags.items():
        numbers = unpack_numbers(value, "<") if tag in TIFF_RULES else None
        if numbers:
            data = pack_numbers(value.kind, resized(TIFF_RULES[tag], numbers, resize, is_point), "<")
            changed[tag] = value if data is None else Value(value.kind, data)
    return changed


def _in_order(value: Value, old: str, new: str) -> bytes:
    """The bytes of a value in another byte order; empty where its type is unknown."""
    numbers = None if value.kind in (Type.ASCII, Type.UNDEFINED) else unpack_numbers(value, old)
    if numbers is None:
        return value.data if value.kind in (Type.ASCII, Type.UNDEFINED) else b""
    return pack_numbers(value.kind, numbers, new) or b""


def full_size_ifd(file: BinaryIO) -> tuple[Ifd | None, int]:
    """The first directory of a TIFF file with a picture of full size, neither thumbnail nor mask.

    Returns:
        The directory, None where there is none, and how many such directories there are.

    Raises:
        ValueError: the file is no TIFF, or its directories are so large as none are.
        struct.error: damage.
    """
    length = file.seek(0, 2)
    file.seek(0)
    layout, start = read_header(file.read(16))
    found, count, seen = None, 0, set()
    entries, bytes_left = _MAX_IFD_ENTRIES, 4 * length + 2**20
    while 0 < start < 2**63 and start not in seen and len(seen) < _MAX_IFDS:
        table = read_table(file, layout, start, max_entries=0)
        entries -= table.length
        if found is None and entries >= 0:  # those that Pillow goes through
            bytes_left -= bytes_of_values(file, layout, start, length)
        if entries < 0 or bytes_left < 0:
            raise ValueError("its directories are damaged")
        kinds = read_tags(file, layout, start, only=(Tag.NEW_SUBFILE_TYPE, Tag.SUBFILE_TYPE))
        ifd = Ifd(len(seen), layout, kinds)
        reduced = ifd.number(Tag.NEW_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK
        if not reduced and ifd.number(Tag.SUBFILE_TYPE, 1) != _REDUCED:
            count += 1
            if found is None:
                limits = Limits()
                tags = read_tags(file, layout, start, limits=limits)
                found = ifd._replace(tags=tags, incomplete=limits.exceeded)
        seen.add(start)
        file.seek(min(table.end, 2**62))
        end = file.read(layout.offset_format.size)
        if len(end) < layout.offset_format.size:
            break
        (start,) = layout.offset_format.unpack(end)
    return found, count


def single_channel_files(file: BinaryIO, ifd: Ifd) -> list[io.BytesIO]:
    """A TIFF of 16-bit channels as TIFFs of one channel, where Pillow cannot read it; else an empty list.

    Each of several planar channels becomes a file. Grey with alpha, pixel by pixel, becomes one grey image of
    twice the width without a predictor, which `split_grey_alpha` makes two channels of again.
    """
    samples = ifd.number(Tag.SAMPLES_PER_PIXEL, 1)
    depths = ifd.bytes_of(Tag.BITS_PER_SAMPLE)
    if set(struct.unpack(f"{ifd.layout.order}{len(depths) // 2}H", depths[: len(depths) // 2 * 2])) != {16}:
        return []
    if ifd.number(Tag.SAMPLE_FORMAT, _UNSIGNED) != _UNSIGNED:
        return []
    planar = ifd.number(Tag.PLANAR_CONFIGURATION, _CHUNKY) == _PLANAR
    if not (2 <= samples <= 4 and (planar or samples == 2)):
        return []
    colours = ifd.number(Tag.PHOTOMETRIC_INTERPRETATION, _BLACK_IS_ZERO)
    if colours not in (WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        return []
    offsets, sizes = Tag.STRIP_OFFSETS, Tag.STRIP_BYTE_COUNTS
    if offsets not in ifd.tags:
        offsets, sizes = Tag.TILE_OFFSETS, Tag.TILE_BYTE_COUNTS
    strips = {tag: value for tag in (offsets, sizes) if isinstance(value := ifd.tags.get(tag), Value)}
    if len(strips) < 2:
        return []
    file.seek(0)
    content = file.read()
    content += bytes(len(content) % 2)

    layout, tags = ifd.layout, _single_channel_tags(ifd, planar)
    files = []
    for channel in range(samples if planar else 1):
        for tag, value in strips.items():
            size = len(value.data) // samples if planar else len(value.data)
            tags[tag] = Value(value.kind, value.data[channel * size : (channel + 1) * size])
        head = pack_header(layout, len(content))
        directory = pack_tags(tags, layout, len(content))
        files.append(io.BytesIO(head + content[len(head) :] + directory))
    return files


def _single_channel_tags(ifd: Ifd, planar: bool) -> Tags:
    """The tags of a file of `single_channel_files`, but for where its strips or tiles are."""

    def short(value: int) -> Value:
        return Value(Type.SHORT, ifd.layout.pack(Type.SHORT, value))

    dropped = (Tag.ORIENTATION, Tag.XMP, Tag.EXTRA_SAMPLES)  # XMP may give the orientation as well
    tags: Tags = {tag: value for tag, value in ifd.tags.items() if tag not in dropped}
    tags |= {
        Tag.BITS_PER_SAMPLE: short(16),
        Tag.PHOTOMETRIC_INTERPRETATION: short(_BLACK_IS_ZERO),
        Tag.SAMPLES_PER_PIXEL: short(1),
        Tag.PLANAR_CONFIGURATION: short(_CHUNKY),
        Tag.SAMPLE_FORMAT: short(_UNSIGNED),
    }
    if not planar:
        for tag in (Tag.IMAGE_WIDTH, Tag.TILE_WIDTH):
            if tag in tags:
                tags[tag] = Value(Type.LONG, ifd.layout.pack(Type.LONG, 2 * ifd.number(tag, 1)))
        tags[Tag.PREDICTOR] = short(_NO_PREDICTOR)
    return tags


def split_grey_alpha(image: np.ndarray, ifd: Ifd) -> np.ndarray:
    """(H, 2 W) of `single_channel_files` to (H, W, 2) uint16, the predictor undone."""
    image = image.reshape(len(image), -1, 2)  # (H, W, 2)
    if ifd.number(Tag.PREDICTOR, _NO_PREDICTOR) != _HORIZONTAL_DIFFERENCES:
        return image
    step = ifd.number(Tag.TILE_WIDTH, image.shape[1])  # each tile, or each row, begins anew
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
    aspect: tuple[int, int] | None = None,
    kept: dict[int, Value] | None = None,
    others: dict[Tag, bytes] | None = None,
) -> None:
    """Writes an image as TIFF, never holding more than a few megabytes beside it; BigTIFF from 4 GB on.

    Args:
        file: opened for writing and able to seek.
        pixels: (H, W, 1) grey or (H, W, 3) RGB, uint8 or uint16.
        alpha: (H, W) of the same type, straight; or None.
        exif: EXIF block of `clean_exif`. The file gets its byte order, which the notes of camera makers need.
        dpi: pixels an inch, across and down.
        aspect: pixels across and down that are as long as each other, where that is all that is known.
        kept: tags of `tags_of_tiff`.
        others: by tag, values that are bytes: ICC_PROFILE, XMP, IPTC.

    Raises:
        OSError: the file cannot be written.
    """
    order = ">" if exif[:2] == b"MM" else "<"

    def encode(rows: tuple[int, int]) -> bytes:
        block = interleaved(pixels, alpha, *rows)
        differences = np.array(block, block.dtype.newbyteorder(order))
        differences[:, 1:] = block[:, 1:] - block[:, :-1]
        packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
        return packer.compress(differences.data) + packer.flush()

    file.write(bytes(16))  # the header, which is known at the end: the place of the directory
    ranges = row_ranges(pixels)
    offsets, sizes, end = [], [], 16
    for strip in map_ordered(encode, ranges):
        offsets.append(end)
        sizes.append(len(strip))
        file.write(strip)
        end += len(strip)
    file.write(bytes(end % 2))
    end += end % 2

    layout = Layout(order, big=end > 2**32 - 2**27)  # room for the directory
    position = Type.LONG8 if layout.big else Type.LONG

    def value(kind: Type, *numbers: int) -> Value:
        return Value(kind, layout.pack(kind, *numbers))

    tags = _descriptive_tags(exif)
    for tag, data in (others or {}).items():
        if data:
            tags[tag] = Value(Type.BYTE if tag == Tag.XMP else Type.UNDEFINED, data)
    height, width, channels = pixels.shape
    samples = channels + (alpha is not None)
    tags |= {
        Tag.IMAGE_WIDTH: value(Type.LONG, width),
        Tag.IMAGE_LENGTH: value(Type.LONG, height),
        Tag.BITS_PER_SAMPLE: value(Type.SHORT, *[8 * pixels.itemsize] * samples),
        Tag.COMPRESSION: value(Type.SHORT, _DEFLATE),
        Tag.PHOTOMETRIC_INTERPRETATION: value(Type.SHORT, _BLACK_IS_ZERO if channels == 1 else _RGB),
        Tag.STRIP_OFFSETS: value(position, *offsets),
        Tag.SAMPLES_PER_PIXEL: value(Type.SHORT, samples),
        Tag.ROWS_PER_STRIP: value(Type.LONG, ranges[0][1]),
        Tag.STRIP_BYTE_COUNTS: value(position, *sizes),
        Tag.PLANAR_CONFIGURATION: value(Type.SHORT, _CHUNKY),
        Tag.PREDICTOR: value(Type.SHORT, _HORIZONTAL_DIFFERENCES),
    }
    if alpha is not None:
        tags[Tag.EXTRA_SAMPLES] = value(Type.SHORT, _STRAIGHT_ALPHA)
    if dpi:
        for tag, dots in zip((Tag.X_RESOLUTION, Tag.Y_RESOLUTION), dpi, strict=True):
            tags[tag] = value(Type.RATIONAL, round(dots * 1000), 1000)
        tags[Tag.RESOLUTION_UNIT] = value(Type.SHORT, _INCH)
    elif aspect:
        for tag, dots in zip((Tag.X_RESOLUTION, Tag.Y_RESOLUTION), aspect, strict=True):
            tags[tag] = value(Type.RATIONAL, dots, 1)
        tags[Tag.RESOLUTION_UNIT] = value(Type.SHORT, _NO_UNIT)
    for tag, old in (kept or {}).items():
        tags[tag] = Value(old.kind, _in_order(old, "<", order))
    file.write(pack_tags(tags, layout, end))
    file.seek(0)
    file.write(pack_header(layout, end))
    file.seek(0, 2)


def _descriptive_tags(exif: bytes) -> Tags:
    """What an EXIF block says about the photograph; nothing where it is damaged."""
    try:
        layout, start = read_header(exif)
        tags = read_tags(io.BytesIO(exif), layout, start)
    except (ValueError, struct.error):
        return {}
    return {tag: value for tag, value in tags.items() if tag in _DESCRIPTIVE}
