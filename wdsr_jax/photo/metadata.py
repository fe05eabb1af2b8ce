"""What belongs to a photograph beside its pixels: EXIF, colour profile, captions, resolution."""

import struct
import zlib
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from wdsr_jax.photo.exif import clean_exif, clean_xmp
from wdsr_jax.photo.ifd import Ifd, Tag
from wdsr_jax.photo.png import SIGNATURE, read_chunks
from wdsr_jax.photo.tiff import exif_of_tiff

SEGMENT = 65_533  # most bytes in a marker segment of JPEG
_PNG_KEPT = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"tEXt", b"zTXt", b"iTXt")
_XMP_KEY = b"XML:com.adobe.xmp\0"
_IPTC_RESOURCE = 0x0404  # number of Photoshop's resource


class Metadata(NamedTuple):
    """What belongs to a photograph beside its pixels; empty or None where the file has none.

    Attributes:
        exif: EXIF block without `Exif\\0\\0`, without orientation and thumbnail.
        icc: ICC profile, if it fits the channels.
        xmp: XMP packet.
        iptc: IPTC record (captions and credits of press photographs), of JPEG and TIFF.
        dpi: pixels an inch, across and down.
        comment: of JPEG and GIF.
        png: (type, data) of chunks of PNG that only PNG keeps: texts, gamma, primaries.
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    dpi: tuple[float, float] | None = None
    comment: bytes = b""
    png: tuple[tuple[bytes, bytes], ...] = ()


def read_metadata(image: Image.Image, file: BinaryIO, ifd: Ifd | None, channels: int) -> Metadata:
    """The metadata of a loaded image; what is damaged is left out.

    Args:
        image: as Pillow loaded it.
        file: that it was read from.
        ifd: of a TIFF, the directory that was read; else None.
        channels: of colour: 1 (grey) or 3. A profile for another number is left out.
    """
    info = image.info
    if ifd:
        exif = exif_of_tiff(ifd)
        icc, xmp, iptc = (ifd.bytes_of(tag) for tag in (Tag.ICC_PROFILE, Tag.XMP, Tag.IPTC))
    else:
        exif = info.get("exif") or b""
        if not exif and (text := info.get("Raw profile type exif") or info.get("Raw profile type APP1")):
            exif = _unhex(text)  # ImageMagick's way, from before PNG had a chunk for it
        icc, xmp = info.get("icc_profile") or b"", info.get("xmp") or b""
        iptc = (info.get("photoshop") or {}).get(_IPTC_RESOURCE) or b""
    comment = info.get("comment") or b""
    kept = ()
    file.seek(0)
    if file.read(len(SIGNATURE)) == SIGNATURE:
        kept = tuple(
            (kind, data)
            for kind, data in read_chunks(file, _PNG_KEPT)
            if not data.startswith((_XMP_KEY, b"Raw profile type "))
        )
    return Metadata(
        exif=clean_exif(exif) if isinstance(exif, bytes) else b"",
        icc=icc if icc[16:20] == (b"GRAY" if channels == 1 else b"RGB ") and icc[36:40] == b"acsp" else b"",
        xmp=clean_xmp(xmp) if isinstance(xmp, bytes) else b"",
        iptc=iptc if isinstance(iptc, bytes) else b"",
        dpi=_dpi(info.get("dpi")) if not ifd or Tag.X_RESOLUTION in ifd.tags else None,
        comment=comment if isinstance(comment, bytes) else b"",
        png=kept,
    )


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
    chunks = [chunk for chunk in metadata.png if chunk[0][1:] != b"TXt"]  # those on colour come first
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        across, down = (round(dots / 0.0254) for dots in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if exif:
        chunks.append((b"eXIf", exif))
    if xmp:
        chunks.append((b"iTXt", _XMP_KEY + b"\0\0\0\0" + xmp))
    return chunks + [chunk for chunk in metadata.png if chunk not in chunks]


def jpeg_iptc(record: bytes) -> bytes:
    """The marker segment of JPEG that holds an IPTC record; empty where the record is empty or too long."""
    data = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(record))
    data += record + bytes(len(record) % 2)
    return b"\xff\xed" + struct.pack(">H", 2 + len(data)) + data if record and len(data) <= SEGMENT else b""
