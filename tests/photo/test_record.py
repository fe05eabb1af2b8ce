"""The record of what made a result."""

import os
from pathlib import Path

import pytest

from wdsr_jax.photo.record import RECORD_FILE, add_to_record, entry_of, is_same, options_of, read_record


def test_the_latest_entry_of_a_name_counts_and_damage_does_not(tmp_path):
    source = tmp_path / "a.png"
    source.write_bytes(b"12345")
    for scale in (2, 3):
        add_to_record(tmp_path / "big.png", entry_of(source, {"scale": scale}))
        with open(tmp_path / RECORD_FILE, "ab") as file:
            file.write(b'\n{"name": 3}\n[1]\nnull\n{"name": "cut", "sou\n\xff\xfe\n' + b"[" * 100_000 + b"\n")
    record = read_record(tmp_path)
    assert list(record) == ["big.png"]
    assert is_same(record["big.png"], entry_of(source, {"scale": 3}))
    assert not is_same(record["big.png"], entry_of(source, {"scale": 2}))
    os.utime(source, (1, 1))
    assert not is_same(record["big.png"], entry_of(source, {"scale": 3}))


def test_a_name_that_is_no_utf8_is_recorded(tmp_path):
    target = tmp_path / os.fsdecode(b"\xe9.png")
    target.write_bytes(b"")
    add_to_record(target, entry_of(target, {}))
    assert target.name in read_record(tmp_path)


def test_without_a_record_or_a_folder_to_write_nothing_is_known(tmp_path):
    assert read_record(tmp_path / "missing") == {}
    add_to_record(tmp_path / "missing" / "a.png", {"options": {}})
    assert not Path(tmp_path / "missing").exists()


def test_weights_are_known_by_their_time(tmp_path, weights):
    names = ("scale", "width", "height", "megapixels", "perceptual", "ensemble", "consistent", "quality")
    names += ("samples", "temperature", "seed")
    args = type("Args", (), dict.fromkeys(names) | {"model": weights, "scale": 2.0})
    before = options_of(args)
    assert options_of(args) == before and before["scale"] == 2.0
    os.utime(weights, (1, 1))
    assert options_of(args) != before


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"weights")
    return str(path)
