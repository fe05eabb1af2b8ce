"""What a photograph loses on its way from one file to another, in a few words each.

Named is what somebody may miss: what the file holds and is not read, and what the new file's format cannot
hold. Not named: thumbnails, previews, dots per inch, and names of programs.

Sources: Ultra HDR 1.1 and ISO 21496-1 for gain maps in JPEG, AVIF and HEIF; CIPA DC-007 for several pictures
in a JPEG.
"""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from wdsr_jax.image.jpeg import read_segments
from wdsr_jax.photo.boxes import boxes, read_box, read_items
from wdsr_jax.photo.formats import FORMATS
from wdsr_jax.photo.ifd import Ifd, Tag
from wdsr_jax.photo.metadata import Metadata, fits_jpeg
from wdsr_jax.photo.tiff import is_georeferenced

DAMAGED_EXIF = "damaged EXIF"
_GAIN_MAP = "HDR gain map"
_MP_ENTRIES = 0xB002  # a tag of the multi-picture format
_GAIN_MAP_MARKS = (b"urn:iso:std:iso:ts:21496:-1", b"hdrgainmap", b"hdrgm:")
_LOST_BY_XMP = {
    rb"hdrgm:": _GAIN_MAP,
    rb'GCamera:(MotionPhoto|MicroVideo)="1"': "video of a motion photo",
    rb"GDepth:": "depth map",
    rb"xmpNote:HasExtendedXMP": "second part of the XMP",
}
_CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # by PHOTOMETRIC_INTERPRETATION
_PPM_HEADER = 1000  # bytes, with comments
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_TEXTS_OF_PROGRAMS = (b"Software\0", b"date:", b"CREATOR:", b"Created with", b"File written by")


def lost_in_reading(
    image: Image.Image, file: BinaryIO, ifd: Ifd | None, xmp: bytes, channels: np.ndarray, turned: bool
) -> tuple[str, ...]:
    """What a file holds that `read_photo` leaves out.

    Args:
        image: as Pillow loaded it.
        file: that it was read from.
        ifd: of a TIFF, the directory that was read; else None.
        xmp: the packet as the file holds it.
        channels: (H, W, C) that were read, uint8 or uint16.
        turned: whether they were turned upright.
    """
    found = [words for mark, words in _LOST_BY_XMP.items() if re.search(mark, xmp)]
    if image.format in ("JPEG", "MPO"):
        found += _lost_of_jpeg(image, file)
    elif image.format in ("AVIF", "HEIF"):
        found += _lost_of_items(image, file, 8 * channels.itemsize)
    elif image.format == "JPEG2000":
        header = dict(boxes(read_box(file, b"jp2h"))).get(b"ihdr", b"")
        found += _lost_bits((header[10] & 0x7F) + 1 if len(header) > 10 else 8, 8 * channels.itemsize)
    elif image.format == "PPM":
        file.seek(0)
        words = re.sub(rb"#[^\n]*", b"", file.read(_PPM_HEADER)).split()
        largest = int(words[3]) if len(words) > 3 and words[3].isdigit() else 255
        found += _lost_bits(largest.bit_length(), 8 * channels.itemsize)
    elif image.format == "JXL":
        found += _lost_bits(image.info.get("bit_depth", 8), 8 * channels.itemsize)
    if ifd:
        found += _lost_of_tiff(ifd, channels.shape[-1], turned)
    return tuple(dict.fromkeys(found))


def _lost_of_jpeg(image: Image.Image, file: BinaryIO) -> Iterator[str]:
    for segment in read_segments(file):
        if segment.marker == 0xE2 and segment.data.startswith(_GAIN_MAP_MARKS):
            yield _GAIN_MAP
        elif segment.marker == 0xEB and b"jumb" in segment.data[:100]:
            yield "content credentials"
    index: dict[int, Any] = getattr(image, "mpinfo", None) or {}
    for entry in index.get(_MP_ENTRIES, [])[1:100]:
        if "Thumbnail" in entry["Attribute"]["MPType"]:
            continue
        file.seek(entry["DataOffset"] + image.info.get("mpoffset", 0))
        start = file.read(2**16)
        yield _GAIN_MAP if any(mark in start for mark in _GAIN_MAP_MARKS) else "second picture"


def _lost_of_items(image: Image.Image, file: BinaryIO, depth: int) -> Iterator[str]:
    items = read_items(file)
    others = [data for kind, data in items.all_properties if kind == b"auxC"]
    if b"tmap" in items.types or any(b"hdrgainmap" in data for data in others):
        yield _GAIN_MAP
    if any(b"auxid:2\0" in data or b"auxiliary:depth" in data for data in others):
        yield "depth map"
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1:
        yield f"{pictures - 1} other picture{'s' * (pictures > 2)}"
    bits = max(dict(items.properties).get(b"pixi", b"")[5:], default=8)
    yield from _lost_bits(bits, depth)


def _lost_bits(bits: int, depth: int) -> list[str]:
    return [f"{bits} bits (read as {depth})"] if depth < bits <= 32 else []


def _lost_of_tiff(ifd: Ifd, channels: int, turned: bool) -> Iterator[str]:
    colours = _CHANNELS.get(ifd.number(Tag.PHOTOMETRIC_INTERPRETATION, 1), 0)
    extra = ifd.number(Tag.SAMPLES_PER_PIXEL, 1) - colours - (channels in (2, 4))
    if colours and extra > 0:
        yield f"{extra} extra channel{'s' * (extra > 1)}"
    if Tag.IMAGE_SOURCE_DATA in ifd.tags:
        yield "layers"
    if Tag.RPC_COEFFICIENT in ifd.tags or (turned and is_georeferenced(ifd.tags)):
        yield "georeference"
    if ifd.incomplete:
        yield DAMAGED_EXIF


def lost_in_writing(
    pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata, output_format: str
) -> tuple[str, ...]:
    """What a format cannot hold of a photograph.

    Args:
        pixels: (H, W, C), uint8 or uint16.
        alpha: (H, W) of the same type, or None.
        metadata: of the photograph.
        output_format: a key of `formats.FORMATS`.
    """
    found = []
    if alpha is not None and not FORMATS[output_format].has_alpha and alpha.min() < np.iinfo(alpha.dtype).max:
        found.append("transparency (shown on white)")
    if pixels.dtype == np.uint16 and output_format not in ("png", "tiff"):
        found.append("16 bits (written as 8)")
    has_metadata = output_format not in ("bmp", "ppm")
    for name, block in (("EXIF", metadata.exif), ("XMP", metadata.xmp)):
        if block and not has_metadata:
            found.append(name)
        elif block and output_format == "jpeg" and not fits_jpeg(name, block):
            found.append(f"{name} (too long for JPEG)")
    if metadata.iptc and output_format == "jpeg" and not fits_jpeg("IPTC", metadata.iptc):
        found.append("captions (IPTC, too long for JPEG)")
    elif metadata.iptc and output_format not in ("jpeg", "tiff"):
        found.append("captions (IPTC)")
    if metadata.comment and output_format != "jpeg" and not metadata.comment.startswith(_TEXTS_OF_PROGRAMS):
        found.append("comment")
    texts = (data for kind, data in metadata.png if kind in _PNG_TEXTS)
    if output_format != "png" and not all(data.startswith(_TEXTS_OF_PROGRAMS) for data in texts):
        found.append("texts of PNG")
    if metadata.aspect and output_format not in ("png", "tiff"):
        found.append("shape of the pixels ({}:{})".format(*metadata.aspect))
    if is_georeferenced(tag for tag, _ in metadata.tiff) and output_format != "tiff":
        found.append("georeference")
    return tuple(found)
