"""Directories of tags: what is packed is read again, in every byte order and size; damage is bounded."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wdsr_jax.photo.ifd import (
    MARKS,
    TYPE_BYTES,
    Ifd,
    Layout,
    Tag,
    Type,
    Value,
    pack_header,
    pack_tags,
    read_header,
    read_table,
    read_tags,
)

LAYOUTS = [Layout(order, big) for order in "<>" for big in (False, True)]
values = st.tuples(st.sampled_from(sorted(TYPE_BYTES)), st.binary(min_size=1, max_size=5)).map(
    lambda drawn: Value(drawn[0], drawn[1] * TYPE_BYTES[drawn[0]])
)
plain_tags = st.dictionaries(st.sampled_from([Tag.MAKE, Tag.ARTIST, Tag.XMP, 7, 65535]), values)


def file_of(tags, layout, before=b""):
    start = len(pack_header(layout, 0)) + len(before)
    return io.BytesIO(pack_header(layout, start) + before + pack_tags(tags, layout, start))


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(deadline=None, max_examples=30)
@given(first=plain_tags, exif=plain_tags, interoperability=plain_tags)
def test_what_is_packed_is_read(layout, first, exif, interoperability):
    tags = first | {Tag.EXIF_IFD: exif | {Tag.INTEROPERABILITY_IFD: interoperability}}
    file = file_of(tags, layout, before=b"pixels")
    found, start = read_header(file.getvalue()[:16])
    assert (found, start) == (layout, len(pack_header(layout, 0)) + 6)
    assert read_tags(file, layout, start) == tags
    makes = {tag: value for tag, value in tags.items() if tag == Tag.MAKE}
    assert read_tags(file, layout, start, only=(Tag.MAKE,)) == makes


def test_headers():
    assert {mark: read_header(mark + bytes(12))[0] for mark in MARKS} == MARKS
    assert pack_header(Layout("<"), 8) == b"II*\0\x08\0\0\0"
    assert pack_header(Layout(">", big=True), 16) == b"MM\0+\0\x08\0\0" + bytes(7) + b"\x10"
    with pytest.raises(ValueError, match="not a TIFF file or EXIF block"):
        read_header(b"GIF89a..")
    with pytest.raises(struct.error):
        read_header(b"II*\0\x08")


def test_numbers_of_a_directory():
    layout = Layout(">")
    tags = {
        Tag.IMAGE_WIDTH: Value(Type.LONG, layout.pack(Type.LONG, 70_000)),
        Tag.BITS_PER_SAMPLE: Value(Type.SHORT, layout.pack(Type.SHORT, 16, 16, 16)),
        Tag.X_RESOLUTION: Value(Type.RATIONAL, layout.pack(Type.RATIONAL, 300, 1)),
        Tag.MAKE: Value(Type.ASCII, b"Maker\0"),
        Tag.EXIF_IFD: {},
    }
    ifd = Ifd(0, layout, tags)
    assert [ifd.number(tag, -1) for tag in tags] == [70_000, 16, -1, -1, -1]
    assert ifd.bytes_of(Tag.MAKE) == b"Maker\0"
    assert ifd.bytes_of(Tag.EXIF_IFD) == ifd.bytes_of(Tag.COPYRIGHT) == b""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_beyond_the_file_and_endless_directories_are_left_out(layout):
    entry = layout.entry_format.pack
    far = layout.offset_format.pack(2**30)
    inline = b"ab".ljust(layout.offset_format.size, b"\0")
    table = entry(Tag.MAKE, Type.ASCII, 1000, far) + entry(Tag.MODEL, Type.ASCII, 2, inline)
    table += entry(Tag.ARTIST, 99, 1, inline) + entry(Tag.SOFTWARE, Type.ASCII, 0, inline)
    table += entry(Tag.EXIF_IFD, Type.LONG, 1, far)
    for count in (5, 2**16 - 1):  # the second is more than the file holds
        file = io.BytesIO(layout.count_format.pack(count) + table)
        assert read_tags(file, layout, 0) == {Tag.MODEL: Value(Type.ASCII, b"ab")}
        assert read_table(file, layout, 0).length == count
        assert len(read_table(file, layout, 0).entries) == 5
        with pytest.raises(struct.error):
            read_tags(file, layout, 2**40)
    many = io.BytesIO(layout.count_format.pack(2**16 - 1) + bytes(2**16 * layout.entry_format.size))
    assert len(read_table(many, layout, 0).entries) < 5000
