"""How the pixels of a picture were compressed, which decides what a network finds in them."""

from typing import NamedTuple

from PIL import Image

from wdsr_jax.image.jpeg import quality_of

_LOSSY = {"WEBP": "WebP", "AVIF": "AVIF", "HEIF": "HEIC", "JXL": "JPEG XL", "JPEG2000": "JPEG 2000"}


class Compression(NamedTuple):
    """How pixels were compressed.

    Attributes:
        format: the name of a format with loss; empty where nothing was lost.
        quality: from 1 to 100, of JPEG alone: the other formats do not tell it.
    """

    format: str = ""
    quality: int | None = None


def compression_of(image: Image.Image, lossless: bool) -> Compression:
    """What a picture's file says; of AVIF, HEIC, JPEG XL and JPEG 2000 that there was loss, as is usual.

    Args:
        image: as Pillow opened it.
        lossless: whether it is known to be a WebP without loss.
    """
    tables = getattr(image, "quantization", None)
    if image.format in ("JPEG", "MPO") and tables:
        return Compression("JPEG", quality_of(tables[min(tables)]))
    if image.format == "TIFF" and image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp"):
        return Compression("TIFF with loss")
    return Compression("" if lossless else _LOSSY.get(image.format or "", ""))
