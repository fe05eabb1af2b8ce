"""Metadata that count pixels are right for the new size: by our own reading, tifffile and exiftool."""

import io
import json
import shutil
import struct
import subprocess

import numpy as np
import pytest
import tifffile
from PIL import Image

from wdsr_jax.image.pixels import dihedral
from wdsr_jax.photo.ifd import Layout, Tag, Type, Value, pack_header, pack_tags
from wdsr_jax.photo.metadata import Metadata
from wdsr_jax.photo.photos import EXIF_ORIENTATION, Photo, encode_photo, read_photo, write_photo
from wdsr_jax.photo.pixel_units import (
    Resize,
    aspect_with_size,
    description_with_size,
    turned_area,
    without_elements,
    xmp_turned,
    xmp_with_size,
)

HEIGHT, WIDTH = 24, 40
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
TWICE_AND_THRICE = Resize((HEIGHT, WIDTH), (3 * HEIGHT, 2 * WIDTH))
needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")


def read(content):
    return read_photo(io.BytesIO(content), "a")


def written(photo, image_format):
    file = io.BytesIO()
    encode_photo(file, photo, format=image_format)
    return file.getvalue()


def enlarged(photo, down=3, across=2):
    return photo._replace(pixels=photo.pixels.repeat(down, 0).repeat(across, 1))


def exiftool(path):
    result = subprocess.run(
        ["exiftool", "-json", "-n", "-G1", "-struct", path], capture_output=True, check=True
    )
    return json.loads(result.stdout)[0]


def exif_block(order="<", orientation=1):
    layout = Layout(order)

    def value(kind, *numbers):
        return Value(kind, layout.pack(kind, *numbers))

    inner = {
        Tag.PIXEL_X_DIMENSION: value(Type.SHORT, WIDTH),
        Tag.PIXEL_Y_DIMENSION: value(Type.SHORT, HEIGHT),
        Tag.SUBJECT_AREA: value(Type.SHORT, 10, 4, 6, 2),
        Tag.SUBJECT_LOCATION: value(Type.SHORT, 10, 4),
        Tag.FOCAL_PLANE_X_RESOLUTION: value(Type.RATIONAL, 1000, 1),
        Tag.FOCAL_PLANE_Y_RESOLUTION: value(Type.RATIONAL, 4001, 2),
        Tag.INTEROPERABILITY_IFD: {
            Tag.RELATED_IMAGE_WIDTH: value(Type.SHORT, WIDTH),
            Tag.RELATED_IMAGE_LENGTH: value(Type.SHORT, HEIGHT),
        },
    }
    tags = {
        Tag.IMAGE_WIDTH: value(Type.SHORT, WIDTH),
        Tag.IMAGE_LENGTH: value(Type.SHORT, HEIGHT),
        Tag.X_RESOLUTION: value(Type.RATIONAL, 300, 1),
        Tag.Y_RESOLUTION: value(Type.RATIONAL, 200, 1),
        Tag.ORIENTATION: value(Type.SHORT, orientation),
        Tag.MAKE: Value(Type.ASCII, b"Maker\0"),
        Tag.EXIF_IFD: inner,
    }
    return pack_header(layout, 8) + pack_tags(tags, layout, 8)


def jpeg(**options):
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG", **options)
    return file.getvalue()


# EXIF


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp", "avif", "tiff"])
def test_exif_of_the_new_size(order, image_format):
    photo = enlarged(read(jpeg(exif=b"Exif\0\0" + exif_block(order))))
    with Image.open(io.BytesIO(written(photo, image_format))) as image:
        exif = image.getexif()
        inner, interoperability = exif.get_ifd(0x8769), exif.get_ifd(0xA005)
    assert (exif[0x100], exif[0x101]) == (80, 72)
    assert (inner[0xA002], inner[0xA003]) == (80, 72)
    assert inner[0x9214] == (20, 12, 12, 6)
    assert inner[0xA214] == (20, 12)
    assert (inner[0xA20E], inner[0xA20F]) == (2000, 4001 * 1.5)
    if image_format != "tiff":  # where dots per inch stand in the first directory, and no interoperability
        assert (exif[0x11A], exif[0x11B]) == (300, 200)
    assert (interoperability[0x1001], interoperability[0x1002]) == (80, 72)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_subject_turns_with_the_pixels(orientation):
    """A white pixel where the file says that the subject is."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[4, 10] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif_block(orientation=orientation))
    photo = read(file.getvalue())
    with Image.open(io.BytesIO(written(photo, "png"))) as image:
        inner = image.getexif().get_ifd(0x8769)
        dots = image.getexif()[0x11A], image.getexif()[0x11B]
    x, y = inner[0xA214]
    assert photo.pixels[y, x, 0] == 255
    assert inner[0x9214] == (x, y, *((2, 6) if orientation > 4 else (6, 2)))
    resolutions = (inner[0xA20E], inner[0xA20F])
    assert resolutions == ((2000.5, 1000) if orientation > 4 else (1000, 2000.5))
    assert dots == ((200, 300) if orientation > 4 else (300, 200))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_area_is_the_symmetry_of_the_pixels(orientation):
    pixels = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    turned = dihedral(pixels, EXIF_ORIENTATION.get(orientation, 0))
    for x, y in ((0, 0), (39, 0), (7, 20)):
        new_x, new_y = turned_area([x, y], orientation, (WIDTH - 1, HEIGHT - 1))
        assert turned[new_y, new_x] == pixels[y, x]


def test_what_does_not_fit_in_its_type_goes():
    photo = read(jpeg(exif=b"Exif\0\0" + exif_block()))
    huge = photo._replace(pixels=np.zeros((1, 40 * 20_000, 3), np.uint8))
    exif = Image.Exif()
    exif.load(written(huge, "png").partition(b"eXIf")[2])
    inner = exif.get_ifd(0x8769)
    assert 0x9214 not in inner
    assert 0xA214 not in inner
    assert inner[0xA002] == 800_000
    assert inner[0xA20E] == 20_000_000
    assert exif.get_ifd(0xA005)[0x1001] == 800_000


def test_a_fraction_over_zero_stays():
    layout = Layout("<")
    inner = {Tag.FOCAL_PLANE_X_RESOLUTION: Value(Type.RATIONAL, layout.pack(Type.RATIONAL, 0, 0))}
    block = pack_header(layout, 8) + pack_tags({Tag.EXIF_IFD: inner}, layout, 8)
    assert enlarged(read(jpeg(exif=b"Exif\0\0" + block))).metadata.exif == block
    assert block in written(enlarged(read(jpeg(exif=b"Exif\0\0" + block))), "jpeg")


# XMP


@pytest.mark.parametrize(
    "old, new",
    [
        ('<a exif:PixelXDimension="40"/>', '<a exif:PixelXDimension="80"/>'),
        ("<a exif:PixelYDimension='24'/>", "<a exif:PixelYDimension='72'/>"),
        ("<tiff:ImageWidth>7</tiff:ImageWidth>", "<tiff:ImageWidth>80</tiff:ImageWidth>"),
        ('<a exif:FocalPlaneXResolution="1000/3"/>', '<a exif:FocalPlaneXResolution="2000/3"/>'),
        (
            "<exif:SubjectArea><rdf:Seq><rdf:li>10</rdf:li><rdf:li>4</rdf:li>\n</rdf:Seq></exif:SubjectArea>",
            "<exif:SubjectArea><rdf:Seq><rdf:li>20</rdf:li><rdf:li>12</rdf:li></rdf:Seq></exif:SubjectArea>",
        ),
        (
            '<a GPano:FullPanoWidthPixels="40" GPano:CroppedAreaTopPixels="3" GPano:PoseHeadingDegrees="5"/>',
            '<a GPano:FullPanoWidthPixels="80" GPano:CroppedAreaTopPixels="9" GPano:PoseHeadingDegrees="5"/>',
        ),
        (
            '<mwg-rs:AppliedToDimensions stDim:w="40" stDim:h="24" stDim:unit="pixel"/>',
            '<mwg-rs:AppliedToDimensions stDim:w="80" stDim:h="72" stDim:unit="pixel"/>',
        ),
        (
            '<mwg-rs:AppliedToDimensions rdf:parseType="Resource"><stDim:w>40</stDim:w>'
            "<stDim:unit>pixel</stDim:unit></mwg-rs:AppliedToDimensions>",
            '<mwg-rs:AppliedToDimensions rdf:parseType="Resource"><stDim:w>80</stDim:w>'
            "<stDim:unit>pixel</stDim:unit></mwg-rs:AppliedToDimensions>",
        ),
        (
            '<mwg-rs:Area stArea:x="0.5" stArea:w="0.25" stArea:unit="normalized"/>',
            '<mwg-rs:Area stArea:x="0.5" stArea:w="0.25" stArea:unit="normalized"/>',
        ),
        (
            '<mwg-rs:Area stArea:x="10" stArea:y="5" stArea:unit="pixel"/>',
            '<mwg-rs:Area stArea:x="20" stArea:y="15" stArea:unit="pixel"/>',
        ),
        # Not pixels, and not numbers.
        ('<xmpTPg:MaxPageSize stDim:w="40"/> a pixel', '<xmpTPg:MaxPageSize stDim:w="40"/> a pixel'),
        ('<a exif:PixelXDimension="many" tiff:ImageWidth=""/>',) * 2,
        ('<a exif:FocalPlaneXResolution="1/0"/>',) * 2,
    ],
)  # fmt: skip
def test_xmp_of_the_new_size(old, new):
    assert xmp_with_size(old.encode(), TWICE_AND_THRICE).decode() == new


def test_xmp_that_is_turned():
    region = (
        '<mwg-rs:Area stArea:x="0.2" stArea:y="0.7" stArea:w="0.1" stArea:h="0.3" stArea:unit="normalized"/>'
    )
    turned = xmp_turned(region.encode(), 6, (HEIGHT, WIDTH)).decode()
    assert turned == (
        '<mwg-rs:Area stArea:x="0.3" stArea:y="0.2" stArea:w="0.3" stArea:h="0.1" stArea:unit="normalized"/>'
    )
    assert xmp_turned(region.encode(), 1, (HEIGHT, WIDTH)).decode() == region
    packet = b'<a stDim:w="40" stDim:h="24" GPano:FullPanoWidthPixels="9" exif:SubjectLocation="10, 4"/>'
    assert xmp_turned(packet, 8, (HEIGHT, WIDTH)) == (
        b'<a stDim:h="40" stDim:w="24" exif:SubjectLocation="4, 29"/>'
    )
    assert xmp_turned(b'<a MPReg:Rectangle="0.1, 0.2, 0.3, 0.4"/>', 3, (HEIGHT, WIDTH)) == (
        b'<a MPReg:Rectangle="0.6, 0.4, 0.3, 0.4"/>'
    )
    packet = b"<b/><Iptc4xmpExt:ImageRegion><c>pixel</c></Iptc4xmpExt:ImageRegion><d/>"
    assert xmp_turned(packet, 2, (HEIGHT, WIDTH)) == b"<b/><d/>"
    assert xmp_with_size(packet, TWICE_AND_THRICE) == b"<b/><d/>"


def test_elements_are_cut_out_whole():
    assert without_elements(b"a<b>c</b>d<b x='1'>e</b><bc>f</bc>", b"b") == b"ad<bc>f</bc>"
    assert without_elements(b"a<b>c", b"b") == b"a<b>c"
    assert without_elements(b"<b><b>c</b></b>", b"b") == b"</b>"


@needs_exiftool
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_exiftool_wrote(tmp_path, suffix, orientation):
    source, target = tmp_path / "a.jpg", tmp_path / f"b.{suffix}"
    source.write_bytes(jpeg())
    command = ["exiftool", "-n", "-q", "-overwrite_original", f"-Orientation={orientation}"]
    command += ["-ExifIFD:SubjectArea=10 4 6 2", "-FocalPlaneXResolution=1000", "-FocalPlaneYResolution=500"]
    command += ["-XMP-GPano:FullPanoWidthPixels=40", "-ExifImageWidth=40", "-RelatedImageWidth=40"]
    command += [
        "-RegionInfo={AppliedToDimensions={W=40,H=24,Unit=pixel},"
        "RegionList=[{Area={X=0.25,Y=0.5,W=0.1,H=0.2,Unit=normalized},Name=Ann,Type=Face}]}"
    ]
    subprocess.run([*command, str(source)], check=True)
    write_photo(target, enlarged(read_photo(source), 2, 2))
    found = exiftool(target)
    turned = orientation == 6
    assert found["ExifIFD:SubjectArea"] == ("38 20 4 12" if turned else "20 8 12 4")
    resolutions = found["ExifIFD:FocalPlaneXResolution"], found["ExifIFD:FocalPlaneYResolution"]
    assert resolutions == ((1000, 2000) if turned else (2000, 1000))
    assert found["ExifIFD:ExifImageWidth"] == (48 if turned else 80)
    if suffix != "tif":
        assert found["InteropIFD:RelatedImageWidth"] == (48 if turned else 80)
    assert found.get("XMP-GPano:FullPanoWidthPixels") == (None if turned else 80)
    regions = found["XMP-mwg-rs:RegionInfo"]
    size = regions["AppliedToDimensions"]
    assert (size["W"], size["H"]) == ((48, 80) if turned else (80, 48))
    area = regions["RegionList"][0]["Area"]
    expected = (0.5, 0.25, 0.2, 0.1) if turned else (0.25, 0.5, 0.1, 0.2)
    assert tuple(area[name] for name in "XYWH") == pytest.approx(expected)
    assert not found.get("ExifTool:Warning")


# TIFF


def geotiff(raster_type, transformation=None, orientation=1):
    doubles = [
        (33550, "d", 3, (10.0, 20.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0, 5_000_000.0, 0.0), True),
    ]
    if transformation is not None:
        doubles = [(34264, "d", 16, tuple(transformation.ravel()), True)]
    keys = (1, 1, 0, 2, 1024, 0, 1, 1, 1025, 0, 1, raster_type)
    extra = [*doubles, (34735, "H", len(keys), keys, True), (42113, "s", 0, "-9999", True)]
    file = io.BytesIO()
    extra.append((274, "H", 1, orientation, True))
    tifffile.imwrite(file, RGB, photometric="rgb", extratags=extra, metadata=None, byteorder=">")
    return file.getvalue()


@pytest.mark.parametrize("raster_type", [1, 2])
def test_georeference(raster_type):
    photo = read(geotiff(raster_type))
    assert photo.lost == ()
    with tifffile.TiffFile(io.BytesIO(written(enlarged(photo), "tiff"))) as tiff:
        tags = tiff.pages[0].tags
        assert tags[33550].value == (5, 20 / 3, 0)
        x, y, *rest = tags[33922].value
        assert tags[34735].value[-1] == raster_type
        assert tags[42113].value == "-9999"
    assert rest == [0, 500_000, 5_000_000, 0]
    # The outer corner of the first pixel lies where it lay: at 0, 0, or half of a pixel before the first.
    corner = 0 if raster_type == 1 else -0.5
    assert (corner - x) * 5 == pytest.approx(corner * 10)
    assert (corner - y) * 20 / 3 == pytest.approx(corner * 20)


@pytest.mark.parametrize("raster_type", [1, 2])
def test_georeference_by_a_matrix(raster_type):
    old = np.array([[10.0, 1, 0, 500_000], [2, -20, 0, 5_000_000], [0, 0, 0, 0], [0, 0, 0, 1]])
    with tifffile.TiffFile(io.BytesIO(written(enlarged(read(geotiff(raster_type, old))), "tiff"))) as tiff:
        new = np.reshape(tiff.pages[0].tags[34264].value, (4, 4))
    corner = 0 if raster_type == 1 else -0.5
    for x, y in ((0, 0), (40, 0), (13, 24)):  # corners of pixels
        here = old @ [x + corner, y + corner, 0, 1]
        np.testing.assert_allclose(new @ [2 * x + corner, 3 * y + corner, 0, 1], here)


def test_a_georeference_that_cannot_stay_is_named():
    turned = read(geotiff(1, orientation=6))
    assert turned.lost == ("georeference",)
    assert turned.metadata.tiff == ()
    file = io.BytesIO()
    tifffile.imwrite(file, RGB, photometric="rgb", extratags=[(50844, "d", 92, (1.0,) * 92, True)])
    assert read(file.getvalue()).lost == ("georeference",)


def test_ome_tiff():
    file = io.BytesIO()
    metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.75}
    tifffile.imwrite(file, RGB[..., 0], ome=True, metadata=metadata, resolution=(20_000, 13_333))
    with tifffile.TiffFile(io.BytesIO(written(enlarged(read(file.getvalue())), "tiff"))) as tiff:
        assert tiff.series[0].shape == (72, 80)
        assert tiff.is_ome
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        tags = tiff.pages[0].tags
        assert tags["XResolution"].value == (40_000, 1)
        assert tags["YResolution"].value == (39_999, 1)
    sizes = [pixels[name] for name in ("SizeX", "SizeY", "PhysicalSizeX", "PhysicalSizeY")]
    assert sizes == [80, 72, 0.25, 0.25]


def test_imagej_tiff():
    file = io.BytesIO()
    metadata = {"axes": "YX", "unit": "um"}
    tifffile.imwrite(file, RGB[..., 0], imagej=True, metadata=metadata, resolution=(2.5, 4))
    with tifffile.TiffFile(io.BytesIO(written(enlarged(read(file.getvalue())), "tiff"))) as tiff:
        assert tiff.is_imagej
        assert tiff.imagej_metadata["unit"] == "um"
        assert [np.divide(*tiff.pages[0].tags[name].value) for name in ("XResolution", "YResolution")] == [
            5,
            12,
        ]
        assert tiff.pages[0].tags["ResolutionUnit"].value == 1


def test_descriptions():
    assert description_with_size(b'{"shape": [24, 40, 3]}', TWICE_AND_THRICE) == b'{"shape": [72, 80, 3]}'
    assert description_with_size(b'{"shape": [7, 24, 40]}', TWICE_AND_THRICE) == b'{"shape": [7, 24, 40]}'
    text = b'<OME><Pixels SizeX="40"/><ROIRef ID="R"/></Image><ROI ID="R"><Point X="3"/></ROI></OME>'
    assert description_with_size(text, TWICE_AND_THRICE) == b'<OME><Pixels SizeX="80"/></Image></OME>'
    assert description_with_size(b"SizeX=40, a view", TWICE_AND_THRICE) == b"SizeX=40, a view"


# Shape of the pixels


def test_the_shape_of_pixels_stays(tmp_path):
    chunk = b"pHYs" + struct.pack(">IIB", 2, 1, 0)
    photo = Photo(RGB, None, Metadata(aspect=(2, 1), size=(HEIGHT, WIDTH)))
    content = written(enlarged(photo, 2, 2), "png")
    assert chunk in content
    assert read(content).metadata.aspect == (2, 1)
    again = read(written(enlarged(photo, 2, 2), "tiff")).metadata
    assert (again.aspect, again.dpi) == ((2, 1), None)
    assert b"pHYs" not in written(enlarged(photo, 2, 1), "png")  # square now
    jfif = bytearray(jpeg(dpi=(2, 1)))
    assert jfif[13] == 1  # dots per inch
    jfif[13] = 0
    assert read(bytes(jfif)).metadata.aspect == (2, 1)
    assert read(jpeg()).metadata.aspect is None


def test_the_shape_of_pixels_by_size():
    assert aspect_with_size((2, 1), Resize((5, 3), (8, 5))) == (2, 1)  # x 1.5, rounded
    assert aspect_with_size((2, 1), Resize((24, 40), (72, 80))) == (4, 3)
    assert aspect_with_size((2, 1), Resize((24, 40), (48, 40))) is None
