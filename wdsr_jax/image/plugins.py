"""HEIC and JPEG XL: Pillow reads them by plug-ins, which are imported when such a file is met.

Source of the header of JPEG XL: ISO/IEC 18181-1:2022, annexes B and D.
"""

import importlib
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

from wdsr_jax.errors import UserError

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_JXL_CODESTREAM, _JXL_CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
# Width for a height, by the number in the file.
_JXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_MAX_BOXES = 1000


def open_by_plugin(file: BinaryIO, head: bytes, name: str, max_pixels: int) -> ImageFile.ImageFile | None:
    """Pillow's image of a HEIC or JPEG XL file; None for a file of another format.

    Args:
        file: a file that can seek.
        head: its first 32 bytes.
        name: for messages.
        max_pixels: of the picture; the plug-in for JPEG XL decodes as it opens, so it is checked before.

    Raises:
        UserError: the plug-in is not installed, or the file is an animation.
        Image.DecompressionBombError: the picture is larger.
        Exception: damage.
    """
    header = None
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        _import(
            "pillow_heif", name, "HEIC is read where pillow-heif is installed", "heif"
        ).register_heif_opener()
        image_format = "HEIF"
    elif head.startswith((_JXL_CODESTREAM, _JXL_CONTAINER)):
        _import("pillow_jxl", name, "JPEG XL is read where pillow-jxl-plugin is installed", "jxl")
        image_format = "JXL"
        header = read_jxl_header(file)
        if header.width * header.height > max_pixels:
            raise Image.DecompressionBombError
        if header.is_animation:
            raise UserError(f"{name}: animations are not enlarged, save the frame you want")
    else:
        return None
    file.seek(0)
    try:
        image = Image.open(file, formats=(image_format,))
    except UnidentifiedImageError:
        raise ValueError("damaged or cut short") from None
    if header:
        image.info["bit_depth"] = header.bits
    return image


def turns_itself(image: Image.Image) -> bool:
    """Whether a plug-in turns the pixels upright as it decodes; EXIF's orientation counts no longer then.

    That for JPEG XL does not where the file holds a JPEG that was packed without loss.
    """
    return image.format == "HEIF" or (image.format == "JXL" and not getattr(image, "jpeg", None))


def _import(module: str, name: str, words: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f"{name}: {words}: pip install 'wdsr_jax[{extra}]'") from None


class JxlHeader(NamedTuple):
    """What a JPEG XL file says before its picture.

    Attributes:
        width: pixels as stored.
        height: pixels as stored.
        bits: of a sample; 0 where that is not found out.
        is_animation: whether it has frames.
    """

    width: int
    height: int
    bits: int = 0
    is_animation: bool = False


def read_jxl_header(file: BinaryIO) -> JxlHeader:
    """The header of a JPEG XL file.

    Raises:
        ValueError: the file is damaged.
    """
    bits = int.from_bytes(_jxl_start(file)[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & (1 << count) - 1
        bits >>= count
        return value

    width, height = _jxl_size(take)
    if take(1):  # all as usual
        return JxlHeader(width, height, 8)
    if take(1):  # more fields
        take(3)  # orientation
        if take(1):  # another size for showing it
            _jxl_size(take)
        if take(1):  # a preview, whose size is written in another way
            return JxlHeader(width, height)
        if take(1):
            return JxlHeader(width, height, is_animation=True)
    if take(1):  # floating point
        return JxlHeader(width, height)
    depth = take(2)
    return JxlHeader(width, height, (8, 10, 12)[depth] if depth < 3 else 1 + take(6))


def _jxl_size(take: Callable[[int], int]) -> tuple[int, int]:
    """Width and height; `take` gives the next bits as a number."""
    by_8 = take(1)

    def side() -> int:
        return 8 * (1 + take(5)) if by_8 else 1 + take((9, 13, 18, 30)[take(2)])

    height = side()
    ratio = take(3)
    if ratio:
        across, down = _JXL_RATIOS[ratio]
        return height * across // down, height
    return side(), height


def _jxl_start(file: BinaryIO) -> bytes:
    """The first bytes of the codestream, which may lie in a container."""
    file.seek(0)
    head = file.read(32)
    position = 0
    for _ in range(_MAX_BOXES):
        if head.startswith(_JXL_CODESTREAM):
            return head
        if len(head) < 16:
            break
        size, kind = struct.unpack_from(">I4s", head)
        start = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", head, 8)
            start = 16
        if kind in (b"jxlc", b"jxlp"):
            return head[start + 4 * (kind == b"jxlp") :]
        if size < start:
            break
        position += size
        file.seek(position)
        head = file.read(32)
    raise ValueError("damaged or cut short")
