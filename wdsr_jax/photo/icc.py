"""ICC profiles: made from primaries and a curve, and looked into.

Source: ICC.1:2022 (profile version 4.4), sections 7 (header, table of tags), 9 and 10 (tags and their types),
annex E (chromatic adaptation).
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

_D50 = (0.9642, 1.0, 0.8249)  # X, Y, Z of the white that profiles are relative to
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_HEADER = 128  # bytes
_MAX_TAGS = 100  # more is damage
_CURVES = (b"rTRC", b"gTRC", b"bTRC", b"kTRC")
_COLORANTS = (b"rXYZ", b"gXYZ", b"bXYZ")
_TABLES = (b"A2B0", b"A2B1", b"A2B2")  # of profiles that need more than a matrix and curves
_POINTS = 1024  # of a curve as a table
# How many parameters a parametric curve has, by its type.
_PARAMETERS = (1, 3, 4, 5, 7)


class Primaries(NamedTuple):
    """Chromaticities x and y of white and of the three primaries."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


# A parametric curve of ICC from the stored value to light, both 0 to 1: (g,) for x ** g, or (g, a, b, c, d)
# for (a x + b) ** g from d on and c x below.
Curve = tuple[float, ...]

D65 = (0.3127, 0.3290)
SRGB_PRIMARIES = Primaries(D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def make_profile(primaries: Primaries | None, curve: Curve, name: str) -> bytes:
    """A profile of version 4: a matrix and a curve for RGB, or a curve for grey.

    Args:
        primaries: of RGB; None: grey.
        curve: of every channel.
        name: what programs show.

    Raises:
        ValueError: the primaries span no colours.
    """
    white = primaries.white if primaries else D65
    tags = {
        b"desc": _text(name),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(_D50),
        b"chad": b"sf32" + bytes(4) + _fixed(_adaptation(white).ravel()),
    }
    if primaries:
        columns = colorants(primaries).T
        tags |= {tag: _xyz(column) for tag, column in zip(_COLORANTS, columns, strict=True)}
    kind = 0 if len(curve) == 1 else 3
    packed = b"para" + struct.pack(">IHH", 0, kind, 0) + _fixed(curve)
    tags |= dict.fromkeys(_CURVES[:3] if primaries else _CURVES[3:], packed)
    header = struct.pack(
        ">IIII4s4s6H4s28x3i48x",
        *(0, 0, 0x04400000, 0x6D6E7472),  # size (below), no CMM, version 4.4, "mntr": a display
        *(b"RGB " if primaries else b"GRAY", b"XYZ "),
        *(2024, 1, 1, 0, 0, 0),  # a date, which has to be one
        b"acsp",
        *(63190, 65536, 54061),  # D50 of the header
    )
    return _packed(header, tags)


def colorants(primaries: Primaries) -> np.ndarray:
    """(3, 3): X, Y and Z, relative to D50, of full red, green and blue (the columns).

    Raises:
        ValueError: the primaries span no colours.
    """
    xyz = np.array([(x, y, 1 - x - y) for x, y in primaries[1:]]).T  # columns: the primaries
    try:
        scale = np.linalg.solve(xyz, _white_xyz(primaries.white))
        adapted = _adaptation(primaries.white) @ (xyz * scale)
    except np.linalg.LinAlgError:
        raise ValueError("these primaries span no colours") from None
    if not np.isfinite(adapted).all() or np.abs(adapted).max() > 100:
        raise ValueError("these primaries span no colours")
    return adapted


def is_valid(profile: bytes, channels: int) -> bool:
    """Whether the head is that of a profile for 1 (grey) or 3 channels (RGB)."""
    return profile[16:20] == (b"GRAY" if channels == 1 else b"RGB ") and profile[36:40] == b"acsp"


def transfer_code(profile: bytes) -> int | None:
    """The transfer function that a profile names by its code in ITU-T H.273; None: it names none."""
    data = _tags(profile).get(b"cicp", b"")
    return data[9] if len(data) >= 12 else None


def light(profile: bytes, values: np.ndarray) -> np.ndarray | None:
    """The light, 0 to 1, that stored values from 0 to 1 stand for.

    Returns:
        An array like `values`; None for a profile of more than a matrix and one curve for all channels, or a
        damaged one.
    """
    tags = _tags(profile)
    curves = {tags[tag] for tag in _CURVES if tag in tags}
    has_matrix = is_valid(profile, 1) or all(len(tags.get(tag, b"")) >= 20 for tag in _COLORANTS)
    if len(curves) != 1 or not has_matrix or tags.keys() & _TABLES:
        return None
    return _decoded(curves.pop(), values)


def with_srgb_curve(profile: bytes) -> bytes:
    """The profile of the same primaries with the curve of sRGB; empty where it is sRGB then.

    Args:
        profile: one for which `light` gives an array.
    """
    tags = _tags(profile)
    if profile[8] >= 4:
        curve = b"para" + struct.pack(">IHH", 0, 3, 0) + _fixed(SRGB_CURVE)
    else:
        points = _parametric(SRGB_CURVE, np.linspace(0, 1, _POINTS))
        curve = b"curv" + struct.pack(">II", 0, _POINTS) + np.rint(points * 65535).astype(">u2").tobytes()
    if is_valid(profile, 1):
        return b""  # grey of sRGB's curve
    found = np.array([struct.unpack(">3i", tags[tag][8:20]) for tag in _COLORANTS]).T
    if np.abs(found / 65536 - colorants(SRGB_PRIMARIES)).max() < 1e-3:
        return b""
    return _packed(profile[:_HEADER], tags | dict.fromkeys(_CURVES[:3], curve))


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """The tags of a profile; none where it is damaged."""
    if len(profile) < _HEADER + 4:
        return {}
    (count,) = struct.unpack_from(">I", profile, _HEADER)
    if count > _MAX_TAGS or len(profile) < _HEADER + 4 + 12 * count:
        return {}
    entries = struct.iter_unpack(">4sII", profile[_HEADER + 4 : _HEADER + 4 + 12 * count])
    return {tag: profile[start : start + size] for tag, start, size in entries}


def _packed(header: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of these tags; equal data is stored once."""
    start = _HEADER + 4 + 12 * len(tags)
    table, body, places = struct.pack(">I", len(tags)), b"", {}
    for tag, data in tags.items():
        if data not in places:
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", tag, places[data], len(data))
    # The identifier (a checksum of the old content) goes.
    head = struct.pack(">I", start + len(body)) + header[4:84] + bytes(16) + header[100:_HEADER]
    return head + table + body


def _decoded(data: bytes, values: np.ndarray) -> np.ndarray | None:
    """Values through a curve as a profile holds it; None where it is damaged."""
    try:
        if data[:4] == b"curv":
            (count,) = struct.unpack_from(">I", data, 8)
            if count < 2:
                return values ** (struct.unpack_from(">H", data, 12)[0] / 256 if count else 1)
            table = np.frombuffer(data, ">u2", count, 12) / 65535
            return np.interp(values, np.linspace(0, 1, count), table)
        if data[:4] == b"para":
            kind = struct.unpack_from(">H", data, 8)[0]
            numbers = struct.unpack_from(f">{_PARAMETERS[kind]}i", data, 12)
            return _parametric(tuple(number / 65536 for number in numbers), values)
    except (struct.error, ValueError, IndexError):
        pass
    return None


def _parametric(curve: Curve, values: np.ndarray) -> np.ndarray:
    """Values through a parametric curve of 1, 3, 4, 5 or 7 parameters."""
    g, a, b, c, d, e, f = (*curve, *(1, 0, 0, 0, 0, 0)[len(curve) - 1 :])
    if len(curve) in (3, 4):  # their third number is added; below -b / a the curve is flat
        e, f, c, d = c, c, 0, -b / a if a else 0
    with np.errstate(divide="ignore", over="ignore"):  # of damaged curves: infinity becomes 1
        power = np.maximum(a * values + b, 0) ** g + e
    return np.clip(np.where(values >= d, power, c * values + f), 0, 1)


def _white_xyz(white: tuple[float, float]) -> np.ndarray:
    x, y = white
    if not y:
        raise ValueError("these primaries span no colours")
    return np.array([x / y, 1, (1 - x - y) / y])


def _adaptation(white: tuple[float, float]) -> np.ndarray:
    """(3, 3): from colours seen beside a white to those seen beside D50, by Bradford's cone responses."""
    gains = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ _white_xyz(white))
    return np.linalg.inv(_BRADFORD) @ (gains[:, None] * _BRADFORD)


def _fixed(numbers: Iterable[float]) -> bytes:
    """Numbers with 16 bits behind the point."""
    whole = [round(float(number) * 65536) for number in numbers]
    return struct.pack(f">{len(whole)}i", *whole)


def _xyz(numbers: Iterable[float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(numbers)


def _text(words: str) -> bytes:
    data = words.encode("utf-16-be")
    return b"mluc" + struct.pack(">III4sII", 0, 1, 12, b"enUS", len(data), 28) + data
