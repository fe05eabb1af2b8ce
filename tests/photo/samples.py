"""Photographs to test with: their pixels, their metadata, and codecs written from the specifications."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image, ImageCms

from wdsr_jax.image.files import write_image
from wdsr_jax.photo.photos import Photo, encode_photo, read_photo
from wdsr_jax.photo.record import RECORD_FILE

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:24, :40]
# Smooth, so that lossy formats stay near; every corner differs from the others.
RGB = np.stack([COLUMNS * 6, ROWS * 10, 255 - COLUMNS * 3 - ROWS * 4], -1).astype(np.uint8)  # (24, 40, 3)
ALPHA = np.clip(COLUMNS * 9 - 40, 0, 255).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (24, 40, 4), dtype=np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a exif:PixelXDimension="7" b="kept"/></x:xmpmeta>'


def exif_block(order="<", orientation=6):
    """EXIF of a camera: a maker's note that holds an absolute offset, GPS, a thumbnail."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "Maker"
    exif[0x0112] = orientation
    exif[0x0100] = 5
    photograph = exif.get_ifd(0x8769)
    photograph[0x927C] = b"NOTE\0\1\2\3"
    photograph[0xA002] = 11
    photograph[0xA003] = 7
    photograph[0x829A] = 0.01
    place = exif.get_ifd(0x8825)
    place[1], place[2] = "N", (48.0, 8.0, 0.25)
    block = bytearray(exif.tobytes()[6:])
    thumbnail = len(block)
    start = struct.unpack_from(order + "I", block, 4)[0]
    count = struct.unpack_from(order + "H", block, start)[0]
    struct.pack_into(order + "I", block, start + 2 + 12 * count, thumbnail)
    entries = [(0x0201, 4, 1, thumbnail + 30), (0x0202, 4, 1, 9)]
    block += (
        struct.pack(order + "H", 2) + b"".join(struct.pack(order + "HHII", *e) for e in entries) + bytes(4)
    )
    return bytes(block) + b"THUMBNAIL"


def encoded(image, image_format, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def read(content):
    return read_photo(io.BytesIO(content), "a")


def written(photo, image_format, **options):
    file = io.BytesIO()
    encode_photo(file, photo, format=image_format, **options)
    return file.getvalue()


@st.composite
def noise_photos(draw):
    """Photographs of noise of every kind that PNG and TIFF hold, with and without alpha."""
    size = draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    channels, dtype = draw(st.sampled_from([1, 3])), draw(st.sampled_from([np.uint8, np.uint16]))
    alpha = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    most = np.iinfo(dtype).max + 1
    pixels = rng.integers(0, most, (*size, channels), dtype=dtype)
    return Photo(pixels, rng.integers(0, most, size, dtype=dtype) if alpha else None)


def with_alpha(photo):
    """Pixels and alpha as one array (H, W, C)."""
    assert photo.pixels.flags.c_contiguous
    if photo.alpha is None:
        return photo.pixels
    assert photo.alpha.dtype == photo.pixels.dtype
    return np.concatenate([photo.pixels, photo.alpha[..., None]], -1)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels, interlaced=False, extra=()):
    """PNG without filters, written from the specification."""
    height, width, channels = pixels.shape
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    rows = b""
    for x, y, across, down in passes if interlaced else [(0, 0, 1, 1)]:
        for row in pixels[y::down, x::across]:
            rows += b"\0" + row.astype(f">u{pixels.itemsize}").tobytes() if row.size else b""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, kind, 0, 0, interlaced)
    chunks = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_pixels(content):
    """Decodes a PNG that is not interlaced, by the specification; checks every checksum."""
    position, data, head = 8, b"", None
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kind, body = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", content, position + 8 + length)[0]
        position += 12 + length
        head = struct.unpack(">IIBBBBB", body) if kind == b"IHDR" else head
        data += body if kind == b"IDAT" else b""
    assert kind == b"IEND"
    width, height, depth, colour = head[:4]
    pixel = {0: 1, 4: 2, 2: 3, 6: 4}[colour] * depth // 8
    raw = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + width * pixel).astype(int)
    out = np.zeros((height + 1, (width + 1) * pixel), int)
    for y in range(height):
        for x in range(pixel, (width + 1) * pixel):
            a, b, c = out[y + 1, x - pixel], out[y, x], out[y, x - pixel]
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            predicted = [0, a, b, (a + b) // 2, paeth][raw[y, 0]]
            out[y + 1, x] = (raw[y, 1 + x - pixel] + predicted) % 256
    bytes_ = out[1:, pixel:].astype(np.uint8)
    return bytes_.view(f">u{depth // 8}").reshape(height, width, -1).astype(f"u{depth // 8}")


def photo_file(path, height=6, width=8):
    """Writes a photograph of noise and gives its pixels."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    write_image(path, image)
    return image


def files(folder):
    """The files below a folder, by their paths in it."""
    found = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != RECORD_FILE)
    return sorted(str(path.relative_to(folder)) for path in found)
