"""What the numbers of a photograph's pixels mean: one ICC profile, whatever way its file says it in.

Files describe their colours by an ICC profile, by codes (AVIF, HEIF, PNG's cICP), or by chromaticities and a
gamma (PNG). Here all become an ICC profile, which every format can hold that can hold any description; none
stands for sRGB. Pixels keep their numbers. There are three exceptions:

- Of pictures in linear light, 8 bits show bands in the shadows. JPEG, WebP and AVIF get them with sRGB's
  curve.
- BMP and PPM hold no profile, so they get sRGB.
- PQ and HLG, the curves of HDR, are refused by name: shown as SDR, such numbers would be wrong.

Sources: ITU-T H.273 (2021), tables 2 and 3, for the codes; PNG, third edition (W3C 2025), 4.3 and 11.3.2, for
which of its chunks counts; ISO/IEC 23000-22 (MIAF), 7.3.6.4, for files that say nothing.
"""

import io
import struct
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms

from wdsr_jax.errors import UserError
from wdsr_jax.image.pixels import from_float
from wdsr_jax.photo import icc
from wdsr_jax.photo.boxes import boxes, read_box, read_items
from wdsr_jax.photo.icc import D65, SRGB_CURVE, SRGB_PRIMARIES, Curve, Primaries
from wdsr_jax.photo.ifd import Ifd, Tag
from wdsr_jax.photo.png import read_chunks

# Chunks of PNG on colour.
PNG_COLOUR = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
_C = (0.310, 0.316)  # white of NTSC of 1953 and of films
_SMPTE_170M = Primaries(D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
# By the codes of H.273; 2 says nothing.
_PRIMARIES = {
    4: Primaries(_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: Primaries(D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: _SMPTE_170M,
    7: _SMPTE_170M,
    8: Primaries(_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: Primaries(D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    10: Primaries((1 / 3, 1 / 3), (1, 0), (0, 1), (0, 0)),
    11: Primaries((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: Primaries(D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Primaries(D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
_NAMES = {9: "BT.2020", 11: "DCI P3", 12: "Display P3"}
# The curves of video (1, 6, 14, 15 and others) count as sRGB's, as browsers show them.
_CURVES: dict[int, Curve] = {
    4: (2.2,),
    5: (2.8,),
    7: (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0912),
    8: (1.0,),
    17: (2.6,),
}
_REFUSED = {9: "logarithmic", 10: "logarithmic", 16: "HDR (PQ)", 18: "HDR (HLG)"}
_SRGB_GAMMA = (0.44, 0.47)  # of PNG: values that stand for sRGB, which has no single one
# Below, 8 bits show bands in the shadows. sRGB gives 0.21 at half of the range, a gamma of 1.8 0.29.
_MOST_LIGHT_AT_HALF = 0.4


def read_profile(image: Image.Image, file: BinaryIO, ifd: Ifd | None, channels: int, name: str) -> bytes:
    """The ICC profile of a photograph's colours; empty for sRGB.

    A profile that is damaged or for another number of channels is left out.

    Args:
        image: as Pillow opened it.
        file: that it was read from.
        ifd: of a TIFF, the directory that was read; else None.
        channels: of colour: 1 (grey) or 3.
        name: for messages.

    Raises:
        UserError: the colours are those of HDR (PQ or HLG) or logarithmic.
    """
    if ifd:
        profile = ifd.bytes_of(Tag.ICC_PROFILE)
    elif image.format == "PNG":
        return _profile_of_png(file, image.info.get("icc_profile") or b"", channels, name)
    elif image.format in ("AVIF", "HEIF"):
        profile = _profile_of_boxes(read_items(file).colours(), channels, name)
    elif image.format == "JPEG2000":
        colours = [data for kind, data in boxes(read_box(file, b"jp2h")) if kind == b"colr"]
        profile = _profile_of_boxes(colours, channels, name)
    elif image.format == "BMP":
        profile = _profile_of_bmp(file)
    else:
        profile = image.info.get("icc_profile") or b""
    _refuse(icc.transfer_code(profile), name)
    return profile if icc.is_valid(profile, channels) else b""


def coded_profile(primaries: int, transfer: int, channels: int, name: str) -> bytes:
    """The profile of colours that are given by the codes of H.273; empty for sRGB.

    Args:
        primaries: table 2.
        transfer: table 3.
        channels: 1 (grey) or 3.
        name: for messages.

    Raises:
        UserError: the curve is one of HDR (PQ or HLG) or logarithmic.
    """
    _refuse(transfer, name)
    curve = _CURVES.get(transfer, SRGB_CURVE)
    words = _NAMES.get(primaries, f"H.273 primaries {primaries}")
    if curve != SRGB_CURVE:
        words += f", H.273 curve {transfer}"
    return _profile(_PRIMARIES.get(primaries, SRGB_PRIMARIES), curve, channels, words)


def for_8_bits(profile: bytes, depth: np.dtype) -> tuple[bytes, np.ndarray | None]:
    """What to do with colours in formats of 8 bits that hold a profile.

    Args:
        profile: of the photograph; may be empty.
        depth: type of the pixels, uint8 or uint16.

    Returns:
        The profile to write, and for each value of that type the value of 8 bits to write; None: the value as
        it is.
    """
    levels = np.iinfo(depth).max + 1
    curve = icc.light(profile, np.linspace(0, 1, levels)) if profile else None
    if curve is None or curve[levels // 2] < _MOST_LIGHT_AT_HALF:
        return profile, None
    return icc.with_srgb_curve(profile), from_float(_srgb_encoded(curve), np.uint8)


def grey_to_srgb(profile: bytes, depth: np.dtype) -> np.ndarray | None:
    """For each grey of a profile that of sRGB, of 8 bits; None where the profile is damaged.

    Args:
        profile: for grey.
        depth: type of the pixels, uint8 or uint16, whose values index the result.
    """
    curve = icc.light(profile, np.linspace(0, 1, np.iinfo(depth).max + 1))
    return None if curve is None else from_float(_srgb_encoded(curve), np.uint8)


def rgb_to_srgb(profile: bytes) -> Callable[[Image.Image], Image.Image] | None:
    """A function that converts images of 8-bit RGB to sRGB; None where the profile is damaged."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.buildTransform(source, target, "RGB", "RGB", intent)
    except (ImageCms.PyCMSError, OSError):
        return None

    def convert(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # it is None only where the image itself is changed
        return converted

    return convert


def _refuse(transfer: int | None, name: str) -> None:
    if transfer in _REFUSED:
        raise UserError(f"{name}: {_REFUSED[transfer]} colours are not read; save it as SDR first")


def _profile(primaries: Primaries, curve: Curve, channels: int, name: str) -> bytes:
    """A new profile; empty for sRGB, and where the primaries span no colours."""
    if channels == 1:
        return b"" if curve == SRGB_CURVE else icc.make_profile(None, curve, name)
    if curve == SRGB_CURVE and _are_srgb(primaries):
        return b""
    try:
        return icc.make_profile(primaries, curve, name)
    except ValueError:
        return b""


def _are_srgb(primaries: Primaries) -> bool:
    return np.allclose(primaries, SRGB_PRIMARIES, atol=1e-3)


def _profile_of_boxes(colours: list[bytes], channels: int, name: str) -> bytes:
    """By the boxes `colr` of AVIF, HEIF and JPEG 2000; a profile counts before codes."""
    coded = embedded = b""
    for data in colours:
        if data[:4] == b"nclx" and len(data) >= 8:
            coded = coded_profile(*struct.unpack_from(">HH", data, 4), channels, name)
        elif data[:4] in (b"prof", b"rICC"):
            embedded = data[4:]
        elif data[:1] == b"\2":  # of JPEG 2000: method 2, a profile
            embedded = data[3:]
    return embedded if icc.is_valid(embedded, channels) else coded


def _profile_of_png(file: BinaryIO, embedded: bytes, channels: int, name: str) -> bytes:
    """By the chunk that counts most: cICP, iCCP, sRGB, gAMA and cHRM."""
    chunks = dict(read_chunks(file, PNG_COLOUR))
    if len(codes := chunks.get(b"cICP", b"")) == 4:
        if not codes[3]:
            raise UserError(f"{name}: narrow-range RGB is not read; save it with full range")
        return coded_profile(codes[0], codes[1], channels, name)
    if icc.is_valid(embedded, channels):
        _refuse(icc.transfer_code(embedded), name)
        return embedded
    if b"sRGB" in chunks or not chunks.keys() & {b"gAMA", b"cHRM"}:
        return b""
    primaries = SRGB_PRIMARIES
    if len(chunks.get(b"cHRM", b"")) == 32:
        x_and_y = np.array(struct.unpack(">8I", chunks[b"cHRM"])).reshape(4, 2) / 1e5
        primaries = Primaries(*((x, y) for x, y in x_and_y.tolist()))
    gamma = int.from_bytes(chunks.get(b"gAMA", b"")[:4]) / 1e5
    of_srgb = gamma == 0 or (_SRGB_GAMMA[0] < gamma < _SRGB_GAMMA[1] and _are_srgb(primaries))
    curve = SRGB_CURVE if of_srgb else (1 / gamma,)
    return _profile(primaries, curve, channels, f"PNG, gamma {gamma:.5f}")


def _profile_of_bmp(file: BinaryIO) -> bytes:
    """The profile that a BMP of version 5 may hold."""
    file.seek(0)
    head = file.read(14 + 124)
    if len(head) < 138 or head[14:18] != b"\x7c\0\0\0" or head[70:74] != b"DEBM":  # "MBED", little-endian
        return b""
    start, size = struct.unpack_from("<II", head, 14 + 112)
    file.seek(14 + start)
    return file.read(min(size, 2**24))


def _srgb_encoded(light: np.ndarray) -> np.ndarray:
    """Light to the values of sRGB, both 0 to 1 (IEC 61966-2-1)."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)
