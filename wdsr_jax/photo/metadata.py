"""What belongs to a photograph beside its pixels: EXIF, colour profile, captions, resolution."""

import struct
import zlib
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from wdsr_jax.photo.boxes import read_box
from wdsr_jax.photo.colour import PNG_COLOUR, read_profile
from wdsr_jax.photo.exif import clean_exif, clean_xmp, exif_with_size, orientation_of
from wdsr_jax.photo.icc import is_valid
from wdsr_jax.photo.ifd import Ifd, Tag, Value, unpack_numbers
from wdsr_jax.photo.pixel_units import Resize, aspect_with_size, is_calibrated, xmp_with_size
from wdsr_jax.photo.png import read_chunks
from wdsr_jax.photo.tiff import exif_of_tiff, tags_of_tiff, tiff_tags_with_size

SEGMENT = 65_533  # most bytes in a marker segment of JPEG
_PNG_KEPT = (*PNG_COLOUR, b"tEXt", b"zTXt", b"iTXt")
_XMP_KEY = b"XML:com.adobe.xmp\0"
_NO_UNIT, _INCH = 1, 2  # of TIFF's RESOLUTION_UNIT
_IPTC_RESOURCE = 0x0404  # number of Photoshop's resource


class Metadata(NamedTuple):
    """What belongs to a photograph beside its pixels; empty or None where the file has none.

    Attributes:
        exif: EXIF block without `Exif\\0\\0`, without orientation and thumbnail.
        icc: ICC profile that describes the colours (see `colour`); empty: sRGB.
        xmp: XMP packet.
        iptc: IPTC record (captions and credits of press photographs), of JPEG and TIFF.
        dpi: pixels an inch, across and down.
        aspect: pixels across and down that are as long as each other, where they are not square and that is
            all that is known.
        comment: of JPEG and GIF.
        png: (type, data) of chunks of PNG that only PNG keeps: texts, and those on colour, from which
            `icc` is made.
        tiff: tags that only TIFF keeps (see `tags_of_tiff`).
        lossless: whether it is a WebP without loss.
        size: (H, W), upright, of the picture that the other fields describe; None: of any.
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    dpi: tuple[float, float] | None = None
    aspect: tuple[int, int] | None = None
    comment: bytes = b""
    png: tuple[tuple[bytes, bytes], ...] = ()
    tiff: tuple[tuple[int, Value], ...] = ()
    lossless: bool = False
    size: tuple[int, int] | None = None


class Source(NamedTuple):
    """A file that a photograph is read from.

    Attributes:
        image: as Pillow opened it.
        file: that it is read from.
        ifd: of a TIFF, the directory that is read; else None.
        exif: EXIF block, damaged or not; empty: none.
        xmp: XMP packet.
        orientation: of EXIF, 1 to 8: how the pixels stand in the file.
    """

    image: Image.Image
    file: BinaryIO
    ifd: Ifd | None
    exif: bytes
    xmp: bytes
    orientation: int


def read_source(image: Image.Image, file: BinaryIO, ifd: Ifd | None, exif: bytes = b"") -> Source:
    """What a file says of its orientation, and what that is read from.

    Args:
        image: as Pillow loaded it.
        file: that it was read from.
        ifd: of a TIFF, the directory that was read; else None.
        exif: the block, where Pillow must not see it.
    """
    info = image.info
    xmp = ifd.bytes_of(Tag.XMP) if ifd else info.get("xmp")
    if image.format == "JXL" and not xmp:
        xmp = read_box(file, b"xml ")
    xmp = xmp if isinstance(xmp, bytes) else b""
    if ifd:
        number = ifd.number(Tag.ORIENTATION, 0)
        orientation = (number if 1 <= number <= 8 else 1) if number else orientation_of(b"", xmp)
        return Source(image, file, ifd, exif_of_tiff(ifd), xmp, orientation)
    exif = exif or info.get("exif") or b""
    if not exif and (text := info.get("Raw profile type exif") or info.get("Raw profile type APP1")):
        exif = _unhex(text)  # ImageMagick's way, from before PNG had a chunk for it
    exif = exif if isinstance(exif, bytes) else b""
    orientation = orientation_of(exif, xmp)
    if image.format == "HEIF":  # the plug-in turns the pixels and takes the orientation out of EXIF
        orientation = info.get("original_orientation") or 1
    return Source(image, file, ifd, exif, xmp, orientation)


def read_metadata(source: Source, size: tuple[int, int], channels: int, name: str) -> Metadata:
    """The metadata of a loaded image; what is damaged is left out.

    Args:
        source: what it was read from.
        size: (H, W), upright.
        channels: of colour: 1 (grey) or 3. A profile for another number is left out.
        name: for messages.

    Raises:
        UserError: the colours are those of HDR.
    """
    image, file, ifd, exif, xmp, orientation = source
    info = image.info
    stored = (size[1], size[0]) if orientation > 4 else size
    dpi = _pair(info.get("dpi"), orientation)
    aspect = _pair(_aspect(image, ifd), orientation)
    if ifd:
        iptc = ifd.bytes_of(Tag.IPTC)
        if Tag.X_RESOLUTION not in ifd.tags or is_calibrated(ifd.bytes_of(Tag.IMAGE_DESCRIPTION)):
            dpi = aspect = None
    else:
        iptc = (info.get("photoshop") or {}).get(_IPTC_RESOURCE) or b""
    comment = info.get("comment") or b""
    kept = ()
    if image.format == "PNG":
        kept = tuple(
            (kind, data)
            for kind, data in read_chunks(file, _PNG_KEPT)
            if not data.startswith((_XMP_KEY, b"Raw profile type "))
            and (kind != b"iCCP" or is_valid(info.get("icc_profile") or b"", channels))
        )
    return Metadata(
        exif=clean_exif(exif, orientation, stored),
        icc=read_profile(image, file, ifd, channels, name),
        xmp=clean_xmp(xmp, orientation, stored),
        iptc=iptc if isinstance(iptc, bytes) else b"",
        dpi=dpi,
        aspect=(round(aspect[0]), round(aspect[1])) if aspect and aspect[0] != aspect[1] else None,
        comment=comment if isinstance(comment, bytes) else b"",
        png=kept,
        tiff=tuple(tags_of_tiff(ifd, orientation).items()) if ifd else (),
        lossless=image.format == "WEBP" and _is_lossless_webp(file),
        size=size,
    )


def metadata_with_size(metadata: Metadata, size: tuple[int, int]) -> Metadata:
    """The metadata of a picture of the new size (H, W), by the tables of `pixel_units`.

    Metadata that say of no size are taken for those of the new one.
    """
    resize = Resize(metadata.size or size, size)
    return metadata._replace(
        exif=exif_with_size(metadata.exif, resize),
        xmp=xmp_with_size(metadata.xmp, resize),
        aspect=aspect_with_size(metadata.aspect, resize) if metadata.aspect else None,
        tiff=tuple(tiff_tags_with_size(dict(metadata.tiff), resize).items()),
        size=size,
    )


def _aspect(image: Image.Image, ifd: Ifd | None) -> Any:
    """What a file says of the shape of its pixels, without a unit."""
    if ifd and ifd.number(Tag.RESOLUTION_UNIT, _INCH) == _NO_UNIT:
        values = [ifd.tags.get(tag) for tag in (Tag.X_RESOLUTION, Tag.Y_RESOLUTION)]
        numbers = [unpack_numbers(v, ifd.layout.order) for v in values if isinstance(v, Value)]
        return [number[0] for number in numbers if number]
    if image.info.get("jfif_unit") == 0:
        return image.info.get("jfif_density")
    return image.info.get("aspect")


def _is_lossless_webp(file: BinaryIO) -> bool:
    """Whether the picture of a WebP file is in a chunk VP8L (RFC 9649, 2.6)."""
    position = 12
    for _ in range(100):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[:4] == b"VP8 ":
            break
        if head[:4] == b"VP8L":
            return True
        size = int.from_bytes(head[4:], "little")
        position += 8 + size + size % 2
    return False


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex("".join(str(text).split("\n")[3:]))
    except ValueError:
        return b""


def _pair(value: Any, orientation: int) -> tuple[float, float] | None:
    """Two numbers of pixels, across and down, of a picture that is turned upright; None: no such numbers."""
    try:
        across, down = (float(number) for number in value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    in_range = 1 <= across < 65536 and 1 <= down < 65536  # not so where a number is NaN
    if not in_range:
        return None
    return (down, across) if orientation > 4 else (across, down)


def png_chunks(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG that hold the metadata."""
    chunks = [chunk for chunk in metadata.png if chunk[0] in PNG_COLOUR]  # they come first
    if metadata.icc and not chunks:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        across, down = (round(dots / 0.0254) for dots in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    elif metadata.aspect:
        chunks.append((b"pHYs", struct.pack(">IIB", *metadata.aspect, 0)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP_KEY + b"\0\0\0\0" + metadata.xmp))
    return chunks + [chunk for chunk in metadata.png if chunk[0] not in PNG_COLOUR]


def fits_jpeg(name: str, block: bytes) -> bool:
    """Whether a block fits in a marker segment of JPEG; `name` is EXIF, XMP or IPTC."""
    return len(block) + len(block) % 2 <= SEGMENT - {"EXIF": 6, "XMP": 29, "IPTC": 26}[name]


def jpeg_iptc(record: bytes) -> bytes:
    """The marker segment of JPEG that holds an IPTC record; empty where the record is empty or too long."""
    if not record or not fits_jpeg("IPTC", record):
        return b""
    data = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(record))
    data += record + bytes(len(record) % 2)
    return b"\xff\xed" + struct.pack(">H", 2 + len(data)) + data
