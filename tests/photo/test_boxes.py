"""The boxes of AVIF, HEIF and JPEG 2000, with numbers of every size; damage is bounded."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from wdsr_jax.photo.boxes import boxes, read_box, read_items


def box(kind, data):
    return struct.pack(">I4s", 8 + len(data), kind) + data


def meta(version, wide, first=2):
    """Items 1 and 2, of which the second has properties 2 and 3."""
    properties = box(b"ipco", box(b"pixi", b"1") + box(b"colr", b"own") + box(b"irot", b"3"))
    numbers = ">H" if wide else ">B"
    items = b""
    for item, owned in ((1, [1]), (2, [2, 0x8003 if wide else 0x83])):
        items += struct.pack(">I" if version else ">H", item) + bytes([len(owned)])
        items += b"".join(struct.pack(numbers, number) for number in owned)
    ipma = box(b"ipma", bytes([version, 0, 0, wide]) + struct.pack(">I", 2) + items)
    pitm = box(b"pitm", bytes([version, 0, 0, 0]) + struct.pack(">I" if version else ">H", first))
    entry = bytes([3 if version else 2, 0, 0, 0]) + struct.pack(">IH" if version else ">HH", 1, 0) + b"tmap\0"
    count = struct.pack(">I" if version else ">H", 1)
    iinf = box(b"iinf", bytes([version, 0, 0, 0]) + count + box(b"infe", entry))
    return box(b"ftyp", b"avif") + box(b"meta", bytes(4) + pitm + iinf + box(b"iprp", properties + ipma))


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("wide", [0, 1])
def test_items(version, wide):
    items = read_items(io.BytesIO(meta(version, wide)))
    assert items.types == (b"tmap",)
    assert items.properties == ((b"colr", b"own"), (b"irot", b"3"))
    assert [kind for kind, _ in items.all_properties] == [b"pixi", b"colr", b"irot"]
    assert items.colours() == [b"own"]
    assert read_items(io.BytesIO(meta(version, wide, first=1))).colours() == [b"own"]  # another item's


def test_a_file_of_another_program():
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(file, "AVIF")
    items = read_items(file)
    assert b"av01" in items.types
    assert dict(items.properties)[b"ispe"] == struct.pack(">III", 0, 16, 8)
    assert items.colours() == [b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0x80)]


def test_sizes_of_boxes():
    large = struct.pack(">I4sQ", 1, b"aaaa", 16 + 5) + b"large"
    last = struct.pack(">I4s", 0, b"last") + b"to the end"
    file = io.BytesIO(large + box(b"bbbb", b"data") + last)
    assert [read_box(file, kind) for kind in (b"aaaa", b"bbbb", b"last", b"none")] == [
        b"large",
        b"data",
        b"to the end",
        b"",
    ]


def test_damage_is_no_error_and_no_endless_loop():
    whole = meta(1, 1)
    for length in range(len(whole)):
        read_items(io.BytesIO(whole[:length]))
    for position in range(len(whole)):
        read_items(io.BytesIO(whole[:position] + b"\xff" + whole[position + 1 :]))
        read_items(io.BytesIO(whole[:position] + b"\0" + whole[position + 1 :]))
    assert read_box(io.BytesIO(struct.pack(">I4s", 7, b"aaaa") * 9), b"bbbb") == b""
    assert list(boxes(struct.pack(">I4s", 99, b"aaaa"))) == []
    assert len(list(boxes(box(b"aaaa", b"") * 20_000))) <= 10_000
