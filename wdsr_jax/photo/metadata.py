"""What belongs to a photograph beside its pixels: EXIF, colour profile, captions, resolution."""

import struct
import zlib
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from wdsr_jax.photo.colour import PNG_COLOUR, read_profile
from wdsr_jax.photo.exif import clean_exif, clean_xmp
from wdsr_jax.photo.icc import is_valid
from wdsr_jax.photo.ifd import Ifd, Tag
from wdsr_jax.photo.png import read_chunks
from wdsr_jax.photo.tiff import exif_of_tiff

SEGMENT = 65_533  # most bytes in a marker segment of JPEG
_PNG_KEPT = (*PNG_COLOUR, b"tEXt", b"zTXt", b"iTXt")
_XMP_KEY = b"XML:com.adobe.xmp\0"
_IPTC_RESOURCE = 0x0404  # number of Photoshop's resource


class Metadata(NamedTuple):
    """What belongs to a photograph beside its pixels; empty or None where the file has none.

    Attributes:
        exif: EXIF block without `Exif\\0\\0`, without orientation and thumbnail.
        icc: ICC profile that describes the colours (see `colour`); empty: sRGB.
        xmp: XMP packet.
        iptc: IPTC record (captions and credits of press photographs), of JPEG and TIFF.
        dpi: pixels an inch, across and down.
        comment: of JPEG and GIF.
        png: (type, data) of chunks of PNG that only PNG keeps: texts, and those on colour, from which
            `icc` is made.
        lossless: whether it is a WebP without loss.
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    dpi: tuple[float, float] | None = None
    comment: bytes = b""
    png: tuple[tuple[bytes, bytes], ...] = ()
    lossless: bool = False


def read_metadata(image: Image.Image, file: BinaryIO, ifd: Ifd | None, channels: int, name: str) -> Metadata:
    """The metadata of a loaded image; what is damaged is left out.

    Args:
        image: as Pillow loaded it.
        file: that it was read from.
        ifd: of a TIFF, the directory that was read; else None.
        channels: of colour: 1 (grey) or 3. A profile for another number is left out.
        name: for messages.

    Raises:
        UserError: the colours are those of HDR.
    """
    info = image.info
    if ifd:
        exif = exif_of_tiff(ifd)
        xmp, iptc = ifd.bytes_of(Tag.XMP), ifd.bytes_of(Tag.IPTC)
    else:
        exif = info.get("exif") or b""
        if not exif and (text := info.get("Raw profile type exif") or info.get("Raw profile type APP1")):
            exif = _unhex(text)  # ImageMagick's way, from before PNG had a chunk for it
        xmp = info.get("xmp") or b""
        iptc = (info.get("photoshop") or {}).get(_IPTC_RESOURCE) or b""
    comment = info.get("comment") or b""
    icc = read_profile(image, file, ifd, channels, name)
    kept = ()
    if image.format == "PNG":
        kept = tuple(
            (kind, data)
            for kind, data in read_chunks(file, _PNG_KEPT)
            if not data.startswith((_XMP_KEY, b"Raw profile type "))
            and (kind != b"iCCP" or is_valid(info.get("icc_profile") or b"", channels))
        )
    return Metadata(
        exif=clean_exif(exif) if isinstance(exif, bytes) else b"",
        icc=icc,
        xmp=clean_xmp(xmp) if isinstance(xmp, bytes) else b"",
        iptc=iptc if isinstance(iptc, bytes) else b"",
        dpi=_dpi(info.get("dpi")) if not ifd or Tag.X_RESOLUTION in ifd.tags else None,
        comment=comment if isinstance(comment, bytes) else b"",
        png=kept,
        lossless=image.format == "WEBP" and _is_lossless_webp(file),
    )


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


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(number) for number in value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    in_range = 1 <= across < 65536 and 1 <= down < 65536  # not so where a number is NaN
    return (across, down) if in_range else None


def png_chunks(metadata: Metadata, exif: bytes, xmp: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG that hold the metadata, with `exif` and `xmp` made right for the image's size."""
    chunks = [chunk for chunk in metadata.png if chunk[0] in PNG_COLOUR]  # they come first
    if metadata.icc and not chunks:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        across, down = (round(dots / 0.0254) for dots in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if exif:
        chunks.append((b"eXIf", exif))
    if xmp:
        chunks.append((b"iTXt", _XMP_KEY + b"\0\0\0\0" + xmp))
    return chunks + [chunk for chunk in metadata.png if chunk[0] not in PNG_COLOUR]


def jpeg_iptc(record: bytes) -> bytes:
    """The marker segment of JPEG that holds an IPTC record; empty where the record is empty or too long."""
    data = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(record))
    data += record + bytes(len(record) % 2)
    return b"\xff\xed" + struct.pack(">H", 2 + len(data)) + data if record and len(data) <= SEGMENT else b""
