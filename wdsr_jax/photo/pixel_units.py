"""Metadata that count pixels, or say how large one is: what becomes of each in a picture of another size.

The tables are the list of all that is known here, for EXIF, TIFF and XMP. Each rule says how numbers follow
from the old and the new size. Coordinates of regions (the subject, faces) refer to the pixels as the old file
stored them; where those were turned upright, the regions are turned with them. What is given as a share of
the picture stays. So do dots per inch: they ask for a size on paper, and programs take them as that.

Sources: Exif 2.32 (CIPA DC-008-2016), 4.6; XMP specification part 2 (2022); MWG Guidelines 2.0, 5.9; Google's
Photo Sphere XMP; OGC GeoTIFF 1.1 (19-008r4), annex B; OME-XML 2016-06; ImageJ's TiffDecoder.
"""

import enum
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice
from typing import NamedTuple, TypeAlias

from wdsr_jax.photo.ifd import Tag

Number: TypeAlias = int | float | Fraction


class Rule(enum.Enum):
    """How numbers follow from the old and the new size of a picture."""

    WIDTH = "becomes the width"
    HEIGHT = "becomes the height"
    ACROSS = "counts pixels from left to right: grows with the width"
    DOWN = "counts pixels from top to bottom: grows with the height"
    AREA = "x, y, and a diameter, or a width and a height, in pixels"
    PIXEL_WIDTH = "is the width of a pixel: shrinks as the width grows"
    PIXEL_HEIGHT = "is the height of a pixel: shrinks as the height grows"
    PIXEL_SCALE = "the width, the height and the depth of a pixel"
    TIE_POINTS = "column, row and layer of a point, and three coordinates on the globe; and so on"
    MATRIX = "4 x 4, from column, row and layer to coordinates on the globe"


EXIF_RULES: dict[int, Rule] = {
    Tag.IMAGE_WIDTH: Rule.WIDTH,
    Tag.IMAGE_LENGTH: Rule.HEIGHT,
    Tag.PIXEL_X_DIMENSION: Rule.WIDTH,
    Tag.PIXEL_Y_DIMENSION: Rule.HEIGHT,
    Tag.RELATED_IMAGE_WIDTH: Rule.WIDTH,
    Tag.RELATED_IMAGE_LENGTH: Rule.HEIGHT,
    Tag.SUBJECT_AREA: Rule.AREA,
    Tag.SUBJECT_LOCATION: Rule.AREA,
    Tag.FOCAL_PLANE_X_RESOLUTION: Rule.ACROSS,
    Tag.FOCAL_PLANE_Y_RESOLUTION: Rule.DOWN,
    Tag.TIFF_EP_FOCAL_PLANE_X_RESOLUTION: Rule.ACROSS,
    Tag.TIFF_EP_FOCAL_PLANE_Y_RESOLUTION: Rule.DOWN,
}
# Of GeoTIFF, and of the files of microscopes, where a resolution is the size of what is seen.
TIFF_RULES: dict[int, Rule] = {
    Tag.X_RESOLUTION: Rule.ACROSS,
    Tag.Y_RESOLUTION: Rule.DOWN,
    Tag.MODEL_PIXEL_SCALE: Rule.PIXEL_SCALE,
    Tag.MODEL_TIE_POINT: Rule.TIE_POINTS,
    Tag.MODEL_TRANSFORMATION: Rule.MATRIX,
}
XMP_RULES: dict[str, Rule] = {
    "tiff:ImageWidth": Rule.WIDTH,
    "tiff:ImageLength": Rule.HEIGHT,
    "exif:PixelXDimension": Rule.WIDTH,
    "exif:PixelYDimension": Rule.HEIGHT,
    "exif:SubjectArea": Rule.AREA,
    "exif:SubjectLocation": Rule.AREA,
    "exif:FocalPlaneXResolution": Rule.ACROSS,
    "exif:FocalPlaneYResolution": Rule.DOWN,
    **{
        f"GPano:{name}": rule
        for rule, names in {
            Rule.ACROSS: (
                *("FullPanoWidthPixels", "CroppedAreaImageWidthPixels", "CroppedAreaLeftPixels"),
                *("LargestValidInteriorRectLeft", "LargestValidInteriorRectWidth"),
            ),
            Rule.DOWN: (
                *("FullPanoHeightPixels", "CroppedAreaImageHeightPixels", "CroppedAreaTopPixels"),
                *("LargestValidInteriorRectTop", "LargestValidInteriorRectHeight"),
            ),
        }.items()
        for name in names
    },
}
# Inside of the element that is named, where the unit is a pixel.
_XMP_REGIONS: dict[str, dict[str, Rule]] = {
    "mwg-rs:AppliedToDimensions": {"stDim:w": Rule.ACROSS, "stDim:h": Rule.DOWN},
    "mwg-rs:Area": {
        **{"stArea:x": Rule.ACROSS, "stArea:w": Rule.ACROSS, "stArea:d": Rule.ACROSS},
        **{"stArea:y": Rule.DOWN, "stArea:h": Rule.DOWN},
    },
}
_IPTC_REGIONS = b"Iptc4xmpExt:ImageRegion"
_OME_RULES: dict[str, Rule] = {
    "SizeX": Rule.WIDTH,
    "SizeY": Rule.HEIGHT,
    "PhysicalSizeX": Rule.PIXEL_WIDTH,
    "PhysicalSizeY": Rule.PIXEL_HEIGHT,
}
# Pairs whose numbers change places where width and height do.
EXIF_PAIRS = (
    (Tag.X_RESOLUTION, Tag.Y_RESOLUTION),
    (Tag.FOCAL_PLANE_X_RESOLUTION, Tag.FOCAL_PLANE_Y_RESOLUTION),
    (Tag.TIFF_EP_FOCAL_PLANE_X_RESOLUTION, Tag.TIFF_EP_FOCAL_PLANE_Y_RESOLUTION),
)
_OME_PAIRS = (("PhysicalSizeX", "PhysicalSizeY"), ("PhysicalSizeXUnit", "PhysicalSizeYUnit"))
_XMP_PAIRS = (
    ("tiff:XResolution", "tiff:YResolution"),
    ("exif:FocalPlaneXResolution", "exif:FocalPlaneYResolution"),
)
_MOST_ELEMENTS = 10_000
_MOST_OF_ELEMENT = 4096  # bytes of an element of XMP that is edited as a whole
_NUMBER = re.compile(r"\s*[-+]?\d{1,18}(\.\d{0,18}|/\d{1,18})?\s*")


class Resize(NamedTuple):
    """A picture's sizes (H, W), upright, when it was read and when it is written."""

    old: tuple[int, int]
    new: tuple[int, int]

    @property
    def across(self) -> Fraction:
        """New pixels for an old one, from left to right."""
        return Fraction(self.new[1], self.old[1])

    @property
    def down(self) -> Fraction:
        """New pixels for an old one, from top to bottom."""
        return Fraction(self.new[0], self.old[0])


def resized(
    rule: Rule, numbers: Sequence[Number], resize: Resize, pixel_is_point: bool = False
) -> list[Number]:
    """The numbers of a picture of the new size.

    Args:
        rule: what they say.
        numbers: of the old size.
        resize: both sizes.
        pixel_is_point: of GeoTIFF: whether whole numbers name the centres of pixels, not their corners.
    """
    across, down = resize.across, resize.down
    match rule:
        case Rule.WIDTH | Rule.HEIGHT:
            return [resize.new[rule == Rule.WIDTH] for _ in numbers]
        case Rule.ACROSS:
            return [number * across for number in numbers]
        case Rule.DOWN:
            return [number * down for number in numbers]
        case Rule.PIXEL_WIDTH:
            return [number / across for number in numbers]
        case Rule.PIXEL_HEIGHT:
            return [number / down for number in numbers]
        case Rule.AREA:
            factors = (across, down, across, down)
            return [number * factor for number, factor in zip(numbers, factors, strict=False)]
        case Rule.PIXEL_SCALE:
            factors = (across, down, Fraction(1))
            return [float(number / factor) for number, factor in zip(numbers, factors, strict=False)]
        case Rule.TIE_POINTS:
            return _tie_points_resized(numbers, across, down, 0.5 * pixel_is_point)
        case Rule.MATRIX:
            return _matrix_resized(numbers, across, down, 0.5 * pixel_is_point)


def _tie_points_resized(
    numbers: Sequence[Number], across: Fraction, down: Fraction, centre: float
) -> list[Number]:
    points: list[Number] = list(numbers)
    for i in range(0, len(points) - 5, 6):
        points[i] = float((points[i] + centre) * across - centre)
        points[i + 1] = float((points[i + 1] + centre) * down - centre)
    return points


def _matrix_resized(
    numbers: Sequence[Number], across: Fraction, down: Fraction, centre: float
) -> list[Number]:
    matrix: list[Number] = list(numbers)
    for i in range(0, len(matrix) - 3, 4):
        x, y, _, shift = matrix[i : i + 4]
        matrix[i], matrix[i + 1] = float(x / across), float(y / down)
        # The old column of a new one is (column + centre) / across - centre.
        matrix[i + 3] = float(shift + centre * (x / across - x + y / down - y))
    return matrix


def turned_area(numbers: Sequence[Number], orientation: int, size: tuple[Number, Number]) -> list[Number]:
    """x, y, and a diameter or a width and a height, of a picture that is turned upright.

    Args:
        numbers: as the picture was stored.
        orientation: of EXIF, 1 to 8.
        size: the last column and the last row as stored; 1 and 1 where the numbers are shares.
    """
    (x, y), extent = numbers[:2], list(numbers[2:])
    last_x, last_y = size
    if orientation in (2, 3, 7, 8):
        x = last_x - x
    if orientation in (3, 4, 6, 7):
        y = last_y - y
    return [y, x, *reversed(extent)] if orientation > 4 else [x, y, *extent]


# XMP.


def xmp_with_size(packet: bytes, resize: Resize) -> bytes:
    """The XMP packet of a picture of the new size.

    Regions of the IPTC, which are of many shapes, are left out where they may count pixels.
    """
    if b"pixel" in packet:
        packet = without_elements(packet, _IPTC_REGIONS)
    for name, rule in XMP_RULES.items():
        packet = _property_changed(packet, name, lambda numbers, rule=rule: resized(rule, numbers, resize))
    for element, rules in _XMP_REGIONS.items():

        def change(found: bytes, rules: dict[str, Rule] = rules) -> bytes:
            for name, rule in rules.items() if b"pixel" in found else ():
                found = _property_changed(found, name, lambda n, rule=rule: resized(rule, n, resize))
            return found

        packet = _elements_changed(packet, element, change)
    return packet


def xmp_turned(packet: bytes, orientation: int, size: tuple[int, int]) -> bytes:
    """The XMP packet of a picture that is turned upright.

    What describes a panorama, and regions of the IPTC, are left out: they would no longer be true.

    Args:
        packet: of the picture as it was stored.
        orientation: of EXIF, 1 to 8.
        size: (H, W) as stored.
    """
    if orientation == 1:
        return packet
    packet = without_elements(packet, _IPTC_REGIONS)
    packet = re.sub(rb'\sGPano:\w+=(?:"[^"]*"|\'[^\']*\')|<GPano:(\w{1,99})>[^<]*</GPano:\1>', b"", packet)
    last = (size[1] - 1, size[0] - 1)
    for name in ("exif:SubjectArea", "exif:SubjectLocation"):
        packet = _property_changed(packet, name, lambda n: turned_area(n, orientation, last) if n[1:] else n)
    packet = _elements_changed(packet, "mwg-rs:Area", lambda found: _region_turned(found, orientation, last))
    packet = _property_changed(
        packet, "MPReg:Rectangle", lambda numbers: _rectangle_turned(numbers, orientation)
    )
    if orientation > 4:
        for first, second in (*_XMP_PAIRS, ("stDim:w", "stDim:h")):
            packet = _swapped(packet, first.encode(), second.encode())
    return packet


def without_elements(text: bytes, name: bytes) -> bytes:
    """XML without the elements of a name that hold others, and without all that is in them."""
    parts, position = [], 0
    for start in (match.start() for match in re.finditer(rb"<%s[\s>]" % re.escape(name), text)):
        if start < position:  # inside of the one before
            continue
        end = text.find(b"</%s>" % name, start)
        if end < 0:
            break
        parts.append(text[position:start])
        position = end + len(name) + 3
    return b"".join([*parts, text[position:]])


def _region_turned(area: bytes, orientation: int, last: tuple[int, int]) -> bytes:
    """A region of the Metadata Working Group: its centre, and a diameter or a width and a height."""
    found: dict[str, Number] = {}
    for name in ("stArea:x", "stArea:y", "stArea:w", "stArea:h"):
        _property_changed(area, name, lambda n, name=name: found.update({name: n[0]}) or n)
    if len(found) < 2 or not {"stArea:x", "stArea:y"} <= found.keys():
        return area
    size = last if b"pixel" in area else (1, 1)
    names = list(found)
    for name, number in zip(names, turned_area(list(found.values()), orientation, size), strict=True):
        area = _property_changed(area, name, lambda _, number=number: [number])
    return area


def _rectangle_turned(numbers: list[Number], orientation: int) -> list[Number]:
    """A region of Microsoft: the left, the top, the width and the height, as shares of the picture."""
    if len(numbers) != 4:
        return numbers
    x, y, width, height = numbers
    centre = [x + width / Fraction(2), y + height / Fraction(2), width, height]
    x, y, width, height = turned_area(centre, orientation, (1, 1))
    return [x - width / 2, y - height / 2, width, height]


def _property_changed(packet: bytes, name: str, change: Callable[[list[Number]], Sequence[Number]]) -> bytes:
    """The packet with the numbers of a property replaced: an attribute, an element, or a list in one."""
    key = re.escape(name.encode())

    def changed(text: bytes) -> bytes:
        parts = text.decode("latin-1").split(",")
        if not all(map(_NUMBER.fullmatch, parts)):
            return text
        try:
            old = [Fraction(part.strip()) for part in parts]
        except ZeroDivisionError:
            return text
        new = change(list(old))
        return ", ".join(map(_written, new, parts)).encode()

    def of_list(match: re.Match[bytes]) -> bytes:
        items = re.findall(rb"<rdf:li>([^<]*)</rdf:li>", match[2])
        new = changed(b",".join(items)).split(b",") if items else []
        if len(new) != len(items):
            return match[0]
        return match[1] + b"".join(b"<rdf:li>%s</rdf:li>" % item.strip() for item in new) + match[3]

    packet = re.sub(rb"(\s%s=[\"'])([^\"']*)(?=[\"'])" % key, lambda m: m[1] + changed(m[2]), packet)
    packet = re.sub(rb"(<%s>)([^<]*)(?=<)" % key, lambda m: m[1] + changed(m[2]), packet)
    listed = rb"(<%s>\s{0,99}<rdf:Seq>)((?:\s{0,99}<rdf:li>[^<]{0,99}</rdf:li>){1,9}\s{0,99})(</rdf:Seq>)"
    return re.sub(listed % key, of_list, packet)


def _written(number: Number, like: str) -> str:
    """A number in the way of another: whole, as a fraction, or with digits behind the point."""
    number = Fraction(number)
    if "/" in like:
        short = number.limit_denominator(10**6)
        return f"{short.numerator}/{short.denominator}"
    return f"{float(number):.10g}" if "." in like else str(round(number))


def _elements_changed(text: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """XML with the first `_MOST_ELEMENTS` of a name replaced, but for those that are too long."""
    closing = b"</%s>" % name.encode()
    parts, position = [], 0
    opening = re.finditer(rb"<%s[\s/>]" % re.escape(name.encode()), text)
    for start in (match.start() for match in islice(opening, _MOST_ELEMENTS)):
        end = text.find(b">", start, start + _MOST_OF_ELEMENT) + 1
        if end and text[end - 2 : end - 1] != b"/":
            end = text.find(closing, end, start + _MOST_OF_ELEMENT) + 1
            end += (len(closing) - 1) * bool(end)
        if end and start >= position:
            parts += [text[position:start], change(text[start:end])]
            position = end
    return b"".join([*parts, text[position:]])


def _swapped(packet: bytes, first: bytes, second: bytes) -> bytes:
    """The packet in which two names have changed places."""
    return re.sub(
        rb"(?<![\w:])(?:%s|%s)(?![\w:])" % (first, second),
        lambda match: second if match[0] == first else first,
        packet,
    )


def aspect_with_size(aspect: tuple[int, int], resize: Resize) -> tuple[int, int] | None:
    """Pixels across and down that are as long as each other, in the new size; None where they are square."""
    (height, width), (new_height, new_width) = resize
    if abs(new_width * height - width * new_height) <= max(height, width):  # alike but for rounding
        return aspect
    changed = (Fraction(*aspect) * resize.across / resize.down).limit_denominator(1000)
    return None if changed == 1 else (changed.numerator, changed.denominator)


# Descriptions, whose text counts pixels in the files of some programs.


def is_calibrated(description: bytes) -> bool:
    """Whether TIFF's resolution is the size of what is seen, as in files of ImageJ and OME."""
    return description.startswith(b"ImageJ=") or b"<OME" in description[:1000]


def description_turned(description: bytes, orientation: int) -> bytes:
    """TIFF's description of a picture that is turned upright, by the orientation of EXIF, 1 to 8."""
    if orientation > 4 and b"<OME" in description[:1000]:
        for first, second in _OME_PAIRS:
            description = _swapped(description, first.encode(), second.encode())
    return description


def description_with_size(description: bytes, resize: Resize) -> bytes:
    """TIFF's description (OME-XML, or the shape that tifffile writes) of a picture of the new size.

    Regions of OME, which are of many shapes, are left out.
    """
    if b"<OME" in description[:1000]:
        for name, rule in _OME_RULES.items():
            description = _property_changed(
                description, name, lambda numbers, rule=rule: resized(rule, numbers, resize)
            )
        description = without_elements(description, b"ROI")
        description = _elements_changed(description, "ROIRef", lambda _: b"")
    if description.startswith(b'{"shape": ['):
        old, new = (b'{"shape": [%d, %d' % size for size in resize)
        description = re.sub(re.escape(old) + rb"(?=[,\]])", new, description)
    return description
