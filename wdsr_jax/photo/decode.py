"""Pixels of image files of every kind as grey or RGB of 8 or 16 bits, with or without alpha."""

import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFile

from wdsr_jax.errors import UserError
from wdsr_jax.image.files import open_image
from wdsr_jax.photo.ifd import Ifd, Tag
from wdsr_jax.photo.tiff import WHITE_IS_ZERO, split_grey_alpha


def read_channels(
    image: ImageFile.ImageFile, ifd: Ifd | None, reopen: Callable[[], ImageFile.ImageFile], name: str
) -> np.ndarray:
    """Loads the pixels as (H, W, C), uint8 or uint16: grey, grey and alpha, RGB, or RGB and alpha.

    Args:
        image: not loaded yet.
        ifd: of a TIFF, the directory that describes the image; else None.
        reopen: opens the image a second time.
        name: for messages.

    Raises:
        UserError: the pixels are no unsigned integers of up to 16 bits.
    """
    if image.format == "HEIF" and (bits := image.info.get("bit_depth", 8)) > 8:
        return _read_deep_heif(reopen, bits)
    mode = image.mode
    raw_mode = _raw_mode(image)
    if mode == "F":
        raise UserError(f"{name}: floating-point pixels; save it with 8 or 16 bits")
    if mode == "I" and image.format not in ("PPM", "PNG"):
        raise UserError(f"{name}: 32-bit or signed integers; save it with 8 or 16 bits")
    if mode.startswith("I"):
        pixels = np.asarray(image).astype(np.uint16)[..., None]  # (H, W, 1)
        if raw_mode == "I;12":
            pixels = pixels << 4 | pixels >> 8
        if ifd and _white_is_zero(ifd):  # Pillow inverts 8 bits, not 16
            pixels = ~pixels
        return _with_key(pixels, image.info.get("transparency"))
    if deep := re.fullmatch(r"(LA|RGB|RGBA|RGBX|RGBa);16([BLN])", raw_mode):
        pixels = _read_16_bits(image, reopen, *deep.groups())
        return _with_key(pixels, image.info.get("transparency"))
    if mode in ("1", "L", "RGB"):
        pixels = np.asarray(image.convert("L") if mode == "1" else image)
        key = image.info.get("transparency") if image.format == "PNG" else None
        if raw_mode in ("1", "L;2", "L;4") and key is not None:  # as Pillow scales the pixels
            key = {"1": 255 * bool(key), "L;2": 85 * key, "L;4": 17 * key}[raw_mode]
        return _with_key(pixels.reshape(*pixels.shape[:2], -1), key)  # (H, W, 1 or 3)
    if mode in ("CMYK", "LAB"):
        return np.asarray(_to_srgb(image))
    image.load()  # a GIF shows only then whether a colour is transparent
    if mode in ("La", "LA"):
        return np.asarray(image.convert("LA"))
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _with_key(pixels: np.ndarray, key: int | tuple[int, ...] | None) -> np.ndarray:
    """Adds an alpha channel where a colour (PNG's tRNS) stands for transparent."""
    if key is None:
        return pixels
    opaque = (pixels != np.asarray(key)).any(axis=-1, keepdims=True)  # (H, W, 1)
    return np.concatenate([pixels, opaque.astype(pixels.dtype) * np.iinfo(pixels.dtype).max], axis=-1)


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the pixels of a PNG or TIFF lie in the file, as Pillow names it."""
    if image.format not in ("PNG", "TIFF") or not image.tile:
        return ""
    arguments = image.tile[0].args
    return arguments if isinstance(arguments, str) else (arguments or ("",))[0]


def _unpacked(image: ImageFile.ImageFile, raw_mode: str) -> np.ndarray:
    """Loads an image as if its pixels lay in the file in another way."""
    image.tile = [
        tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *(tile.args or ())[1:]))
        for tile in image.tile
    ]
    return np.asarray(image)


def _read_16_bits(
    image: ImageFile.ImageFile, reopen: Callable[[], ImageFile.ImageFile], channels: str, order: str
) -> np.ndarray:
    """Loads colours of 16 bits, of which Pillow keeps the upper 8, as (H, W, C) uint16.

    Read in the wrong byte order, the file yields the lower 8.

    Args:
        image: not loaded yet.
        reopen: opens it a second time.
        channels: LA, RGB, RGBA, RGBX (X is ignored) or RGBa (colours multiplied by alpha).
        order: B for big-endian, L for little-endian, N for this machine's.
    """
    if channels == "LA":  # of PNG; four bytes a pixel, as RGBA has
        return np.ascontiguousarray(_unpacked(image, "RGBA")).view(">u2").astype(np.uint16)
    stored = channels.replace("a", "A")
    upper, lower = "BL" if order == "B" or (order == "N" and sys.byteorder == "big") else "LB"
    high = _unpacked(image, f"{stored};16{upper}")
    pixels = np.empty((*high.shape, 2), np.uint8)
    pixels[..., 1] = high
    del high
    with reopen() as other:
        pixels[..., 0] = _unpacked(other, f"{stored};16{lower}")
    pixels = pixels.view("<u2")[..., 0].astype(np.uint16, copy=False)  # (H, W, C)
    if channels == "RGBa":
        for row in pixels:
            alpha = row[:, 3:].astype(np.float64)
            colours = row[:, :3] * (65535 / np.maximum(alpha, 1))
            row[:, :3] = np.minimum(colours + 0.5, 65535)
    return pixels


def _read_deep_heif(reopen: Callable[[], ImageFile.ImageFile], bits: int) -> np.ndarray:
    """Loads a HEIF of 10 or 12 bits, of which Pillow keeps the upper 8, as (H, W, C) uint16."""
    import pillow_heif

    with reopen() as image:
        assert image.fp is not None  # it is None only once the pixels are loaded
        image.fp.seek(0)
        file = pillow_heif.open_heif(image.fp, convert_hdr_to_8bit=False, hdr_to_16bit=False)
        pixels = np.asarray(file)
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # (H, W, C)
    return pixels << 16 - bits | pixels >> 2 * bits - 16


def read_planar_channels(files: Sequence[BinaryIO], ifd: Ifd, name: str) -> np.ndarray:
    """The channels of `tiff.single_channel_files`: (H, W, C) uint16."""
    channels = []
    for file in files:
        with open_image(file, name) as image:
            channels.append(np.asarray(image).astype(np.uint16))
    pixels = split_grey_alpha(channels[0], ifd) if len(files) == 1 else np.stack(channels, axis=-1)
    if _white_is_zero(ifd):
        pixels[..., 0] = ~pixels[..., 0]
    return pixels


def _white_is_zero(ifd: Ifd) -> bool:
    return ifd.number(Tag.PHOTOMETRIC_INTERPRETATION, 1) == WHITE_IS_ZERO


def _to_srgb(image: Image.Image) -> Image.Image:
    """CMYK or Lab to sRGB; CMYK without a profile by its complement."""
    profile = image.info.get("icc_profile") or b""
    image.load()
    try:
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif profile[16:20] == b"CMYK":
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        else:
            return image.convert("RGB")
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        assert converted is not None  # it is None only where the image itself is changed
        return converted
    except (ImageCms.PyCMSError, OSError):  # a damaged profile
        return image.convert("RGB")
