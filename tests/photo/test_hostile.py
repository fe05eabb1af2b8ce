"""Files that are made to take much time or memory take little; pictures that are whole are kept."""

import io
import resource
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from wdsr_jax.errors import UserError
from wdsr_jax.photo.exif import clean_exif, clean_xmp, needs_much_memory, orientation_of
from wdsr_jax.photo.formats import OUTPUT_FORMATS
from wdsr_jax.photo.photos import encode_photo, read_photo
from wdsr_jax.photo.pixel_units import Resize, description_with_size, xmp_with_size
from wdsr_jax.photo.png import read_chunks

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
EXIF_IFD, INTEROPERABILITY_IFD = 0x8769, 0xA005


def directory(entries, following=0):
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + table + struct.pack("<I", following)


def many_pointers(count):
    """`count` pointers to one directory of `count` entries."""
    second = 8 + 2 + 12 * count + 4
    first = directory([(EXIF_IFD, 4, 1, second)] * count)
    return b"II*\0\x08\0\0\0" + first + directory([(0x9000 + i, 3, 1, 0) for i in range(count)])


def overlapping(count):
    """`count` pointers to directories that overlap, each of `count` entries."""
    body = 8 + 2 + 12 * count + 4
    first = directory([(EXIF_IFD, 4, 1, body + 12 * i) for i in range(count)])
    # At each 12th byte the number of entries, which is a tag of the entry before.
    return b"II*\0\x08\0\0\0" + first + struct.pack("<HHII", count, 3, 1, 0) * (2 * count)


def chain(count):
    """Exif directories that each lead to the next by a pointer to interoperability."""
    block = b"II*\0\x08\0\0\0" + directory([(EXIF_IFD, 4, 1, 26)])
    for _ in range(count):
        block += directory([(EXIF_IFD, 4, 1, len(block) + 30), (INTEROPERABILITY_IFD, 4, 1, len(block) + 30)])
    return block + directory([])


def one_value_for_all(length=60_000):
    """Entries whose values all are the whole block: read one by one, some hundred megabytes."""
    count = (length - 20) // 12
    entries = [(0x1000 + i, 1, length - 8, 8) for i in range(count)]
    return (b"II*\0\x08\0\0\0" + directory(entries)).ljust(length + 100, b"\0")


BLOCKS = {
    "pointers": many_pointers(2200),
    "overlapping": overlapping(1500),
    "chain": chain(2000),
    "one value": one_value_for_all(),
}


def jpeg(exif=b"", **options):
    file = io.BytesIO()
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(exif)) + b"Exif\0\0" + exif if exif else b""
    Image.fromarray(RGB).save(file, "JPEG", **options)
    return file.getvalue()[:2] + segment + file.getvalue()[2:]


def png(exif, raw_profile=False):
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG")
    kind, data = b"eXIf", exif
    if raw_profile:
        text = b"\nexif\n%8d\n" % len(exif) + exif.hex().encode()
        kind, data = b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return file.getvalue()[:33] + chunk + file.getvalue()[33:]


def tiff(exif_pointers):
    """A picture whose first directory has these more entries."""
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "TIFF")
    content = bytearray(file.getvalue())
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    old = [struct.unpack_from("<HHII", content, start + 2 + 12 * i) for i in range(count)]
    struct.pack_into("<I", content, 4, len(content))
    after = len(content) + 2 + 12 * (count + len(exif_pointers)) + 4
    entries = [*old, *((tag, 4, 1, after + place) for tag, place in exif_pointers)]
    return bytes(content) + directory(entries)


def within(content, seconds=2.0, megabytes=30):
    """Reads a photograph and writes it in every format, in little time and memory."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    photo = read_photo(io.BytesIO(content), "a")
    for output_format in OUTPUT_FORMATS:
        encode_photo(io.BytesIO(), photo, format=output_format)
    assert time.process_time() - start < seconds
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < megabytes
    return photo


@pytest.fixture(autouse=True, scope="module")
def warm():
    """Whatever is loaded with the first file counts for none of them."""
    within(jpeg(), 60, 1000)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("wrap", [jpeg, png, lambda block: png(block, raw_profile=True)])
def test_exif(kind, wrap):
    photo = within(wrap(BLOCKS[kind]))
    assert photo.pixels.shape == RGB.shape
    if kind == "chain":  # no more than two directories of it are followed
        assert photo.lost == ()
    else:
        assert photo.lost == ("damaged EXIF",)
        assert photo.metadata.exif == b""


def test_a_picture_is_turned_by_an_exif_that_is_dropped():
    count = 2200
    second = 8 + 2 + 12 * (count + 1) + 4
    block = b"II*\0\x08\0\0\0" + directory([(0x0112, 3, 1, 6), *[(EXIF_IFD, 4, 1, second)] * count])
    block += directory([(0x9000 + i, 3, 1, 0) for i in range(count)])
    photo = within(jpeg(block))
    assert photo.pixels.shape == (32, 24, 3)
    assert photo.lost == ("damaged EXIF",)
    heavy = bytearray(one_value_for_all())
    heavy[10:22] = struct.pack("<HHII", 0x0112, 3, 1, 6)
    assert needs_much_memory(bytes(heavy))
    assert orientation_of(bytes(heavy)) == 6
    assert within(jpeg(bytes(heavy))).pixels.shape == (32, 24, 3)


def test_exif_of_several_segments_is_joined_and_then_weighed():
    block = one_value_for_all(150_000)
    content = jpeg()
    parts = b"".join(
        b"\xff\xe1" + struct.pack(">H", 8 + len(part)) + b"Exif\0\0" + part
        for part in (block[i : i + 60_000] for i in range(0, len(block), 60_000))
    )
    assert within(content[:2] + parts + content[2:]).lost == ("damaged EXIF",)


def test_an_index_of_pictures_that_needs_much_memory_is_left_out():
    data = b"MPF\0" + one_value_for_all(60_000)
    content = jpeg()
    content = content[:2] + b"\xff\xe2" + struct.pack(">H", 2 + len(data)) + data + content[2:]
    assert within(content).pixels.shape == RGB.shape


def test_avif():
    file = io.BytesIO()
    block = one_value_for_all(60_000)
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_090
    Image.fromarray(RGB).save(file, "AVIF", exif=exif.tobytes())
    old = exif.tobytes()[6:]
    assert file.getvalue().count(old) == 1
    content = file.getvalue().replace(old, block.ljust(len(old), b"\0")[: len(old)])
    photo = within(content)
    assert photo.lost == ("damaged EXIF",)
    with Image.open(file) as image:
        np.testing.assert_array_equal(photo.pixels, np.asarray(image))
    marks = file.getvalue().replace(old, (b"II*\0" * 20_000)[: len(old)])
    with pytest.raises(UserError, match=r"^a: cannot be read \(its EXIF is damaged\)$"):
        within(marks)


def test_directories_of_tiff():
    count = 300
    pointers = [(EXIF_IFD, 12 * i) for i in range(count)]
    body = struct.pack("<HHII", count, 3, 1, 0)[:2] + struct.pack("<HII", 4, 1, 0)
    content = tiff(pointers) + body * (2 * count)
    photo = within(content)
    np.testing.assert_array_equal(photo.pixels, RGB)
    assert photo.lost == ("damaged EXIF",)


def test_values_of_tiff_that_share_their_place():
    base = tiff([])
    content = bytearray(base + bytes(60_000))
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    old = [struct.unpack_from("<HHII", content, start + 2 + 12 * i) for i in range(count)]
    entries = old + [(50_000 + i, 1, 60_000, 8) for i in range(4000)]
    struct.pack_into("<I", content, 4, len(content))
    with pytest.raises(UserError, match=r"^a: cannot be read \(its directories are damaged\)$"):
        within(bytes(content) + directory(entries))


def test_a_chain_of_pages_that_overlap():
    count, entries = 4000, 3000
    content = bytearray(b"II*\0\x08\0\0\0")
    table = struct.pack("<HHII", entries, 3, 1, 0)
    content += table * (count + entries)
    start = time.process_time()
    with pytest.raises(UserError, match=r"^a: "):
        read_photo(io.BytesIO(bytes(content)), "a")
    assert time.process_time() - start < 2


def test_text_chunks_of_png_are_written_once_each_in_linear_time():
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG")
    texts = b""
    for i in range(20_000):
        data = b"tEXt" + b"Title\0%d" % (i // 2)
        texts += struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    content = file.getvalue()[:33] + texts + file.getvalue()[33:]
    start = time.process_time()
    photo = read_photo(io.BytesIO(content), "a")
    again = io.BytesIO()
    encode_photo(again, photo, format="png")
    assert time.process_time() - start < 5
    assert len(read_chunks(again, (b"tEXt",))) == 20_000


def test_random_damage_to_exif_is_no_error():
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769)[0xA214] = (10, 4)
    block = exif.tobytes()[6:]
    tracemalloc.start()
    for _ in range(500):
        damaged = bytearray(block)
        for position in rng.integers(0, len(block), 3):
            damaged[position] = rng.integers(0, 256)
        clean_exif(bytes(damaged), orientation_of(bytes(damaged)), (24, 32))
    assert tracemalloc.get_traced_memory()[1] < 2e7
    tracemalloc.stop()


@pytest.mark.parametrize(
    "packet",
    [
        b"<mwg-rs:Area>",
        b"<mwg-rs:Area ",
        b"<Iptc4xmpExt:ImageRegion>",
        b"<exif:SubjectArea><rdf:Seq>",
        b"<exif:SubjectArea><rdf:Seq><rdf:li>1</rdf:li>",
        b" stArea:x='",
        b' GPano:a="',
        b"<GPano:a>",
        b"<Container:Directory>",
    ],
)
def test_xmp_that_is_never_closed_takes_no_time(packet):
    packet = b"<a pixel/>" + packet * (2**20 // len(packet))
    start = time.process_time()
    xmp_with_size(clean_xmp(packet, 6, (24, 32)), Resize((32, 24), (64, 48)))
    description_with_size(b"<OME>" + packet.replace(b"mwg-rs:Area", b"ROIRef"), Resize((32, 24), (64, 48)))
    assert time.process_time() - start < 3
