"""Files of Keras: plain numbers within the file are read, and nothing from elsewhere."""

import os
import re
import tracemalloc

import h5py
import numpy as np
import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.weights.keras_files import open_keras
from wdsr_jax.weights.tensors import check_heads

SECRET = np.arange(6, dtype="<f4")


def fixed(names):
    """Names as texts of one length, as Keras has them; h5py makes others of a list."""
    return np.array([name.encode() for name in names])


def save(path, change=lambda file: None, names=fixed):
    """Two layers, `a` of `kernel` (2, 3) and `bias` (3,), and `b` likewise."""
    with h5py.File(path, "w") as file:
        for layer in "ab":
            file[f"{layer}/{layer}/kernel:0"] = np.arange(6, dtype="<f4").reshape(2, 3)
            file[f"{layer}/{layer}/bias:0"] = np.ones(3, "<f8")
            file[layer].attrs["weight_names"] = names([f"{layer}/{leaf}:0" for leaf in ("kernel", "bias")])
        file.attrs["layer_names"] = names(["a", "b"])
        change(file)


def refusal(path, change, names=fixed):
    """The message for a file that was changed, without much memory."""
    save(path, change, names)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught, open_keras(path) as file:
            check_heads(path, file.heads, os.path.getsize(path))
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500
    return message


@pytest.mark.parametrize("names", [fixed, list])
def test_plain_data_sets_are_read_in_the_order_of_the_layers(tmp_path, names):
    save(tmp_path / "w.h5", names=names)
    with open_keras(tmp_path / "w.h5") as file:
        assert list(file.heads) == ["a/kernel", "a/bias", "b/kernel", "b/bias"]
        assert file.heads["b/bias"] == ((3,), np.dtype("<f8"), 8)
        np.testing.assert_array_equal(file.read("a/kernel"), np.arange(6).reshape(2, 3))


@pytest.mark.parametrize("options", [dict(chunks=(1, 2)), dict(chunks=(2, 3), maxshape=(None, 3))])
def test_chunks_are_read(tmp_path, options):
    def change(file):
        del file["a/a/kernel:0"]
        file["a"].create_dataset("a/kernel:0", data=np.arange(6, dtype="<f4").reshape(2, 3), **options)

    save(tmp_path / "w.h5", change)
    with open_keras(tmp_path / "w.h5") as file:
        np.testing.assert_array_equal(file.read("a/kernel"), np.arange(6).reshape(2, 3))


def replaced(make):
    def change(file):
        del file["a/a/kernel:0"]
        make(file["a/a"])

    return change


def external_storage(path):
    return replaced(
        lambda group: group.create_dataset("kernel:0", (2, 3), "<f4", external=[(str(path), 0, 24)])
    )


def test_bytes_of_other_files_are_not_copied(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET.tobytes())
    assert "lies in other files" in refusal(tmp_path / "w.h5", external_storage(tmp_path / "secret"))
    with h5py.File(tmp_path / "w.h5") as file:
        np.testing.assert_array_equal(file["a/a/kernel:0"][()].ravel(), SECRET)  # it would have been


def test_a_pipe_as_external_storage_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "lies in other files" in refusal(tmp_path / "w.h5", external_storage(tmp_path / "pipe"))


@pytest.mark.parametrize("kind", ["data set", "layer", "root", "soft"])
def test_links_to_elsewhere_are_not_followed(tmp_path, kind):
    save(tmp_path / "other.h5")

    def change(file):
        if kind == "data set":
            del file["a/a/kernel:0"]
            file["a/a/kernel:0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/a/a/kernel:0")
        elif kind == "layer":
            del file["a"]
            file["a"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/a")
        elif kind == "root":
            file["model_weights"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
        else:
            del file["a/a/kernel:0"]
            file["a/a/kernel:0"] = h5py.SoftLink("/b/b/kernel:0")

    assert "a link to elsewhere, which is not followed" in refusal(tmp_path / "w.h5", change)


def test_virtual_data_sets_are_not_read(tmp_path):
    save(tmp_path / "other.h5")

    def make(group):
        layout = h5py.VirtualLayout((2, 3), "<f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "/a/a/kernel:0", (2, 3))
        group.create_virtual_dataset("kernel:0", layout)

    assert "lies in other files" in refusal(tmp_path / "w.h5", replaced(make))


@pytest.mark.parametrize(
    "dtype", [[("x", "<f4"), ("y", "<i4")], "<c8", "<i4", "S5", h5py.string_dtype(), "?"]
)
def test_other_types_than_floats_are_refused(tmp_path, dtype):
    message = refusal(
        tmp_path / "w.h5", replaced(lambda group: group.create_dataset("kernel:0", (2, 3), dtype))
    )
    assert "a/kernel is not of floating-point numbers" in message


@pytest.mark.parametrize("options", [dict(compression="gzip"), dict(shuffle=True, chunks=(2, 3))])
def test_filters_are_refused(tmp_path, options):
    make = replaced(lambda group: group.create_dataset("kernel:0", data=np.zeros((2, 3), "<f4"), **options))
    assert "compressed or filtered" in refusal(tmp_path / "w.h5", make)


@pytest.mark.parametrize("chunks", [None, (1 << 20,)])
def test_room_that_was_never_filled_is_refused(tmp_path, chunks):
    make = replaced(lambda group: group.create_dataset("kernel:0", (1 << 32,), "<f4", chunks=chunks))
    assert "larger than the file" in refusal(tmp_path / "w.h5", make)


def test_one_data_set_under_many_names_is_refused(tmp_path):
    def change(file):
        file["a/a/k"] = np.ones(100_000, "<f4")
        for i in range(1000):
            file[f"a/a/{i}"] = file["a/a/k"]
        file["a"].attrs["weight_names"] = [f"a/{i}".encode() for i in range(1000)]

    assert "larger than the file" in refusal(tmp_path / "w.h5", change)


def test_many_pieces_many_names_and_names_twice_are_refused(tmp_path):
    path = tmp_path / "w.h5"
    make = replaced(lambda group: group.create_dataset("kernel:0", (5000,), "<f4", chunks=(1,)))
    assert "cut into too many pieces" in refusal(path, make)
    many = np.array([b"a"] * 5000)
    assert "no list of names" in refusal(path, lambda file: file.attrs.create("layer_names", many))
    assert "there twice" in refusal(path, lambda file: file.attrs.create("layer_names", [b"a", b"a"]))
    assert "no list of names" in refusal(path, lambda file: file.attrs.create("layer_names", 7))
    assert "no list of names" in refusal(path, lambda file: file.attrs.create("layer_names", [1.5, 2]))


def test_a_name_of_variable_length_may_not_fill_the_memory(tmp_path):
    """Names that all are the same megabyte of a heap: h5py gives each its own memory."""

    def change(file):
        file.attrs.create("layer_names", ["x" * (1 << 20)] + ["y"] * 1999, dtype=h5py.string_dtype())

    save(tmp_path / "w.h5", change)
    data = (tmp_path / "w.h5").read_bytes()
    first = re.search(rb"\0\0\x10\0(.{8})(.{4})", data, re.S)  # the length of the name, its heap, its index
    assert first
    names = re.compile(rb"\x01\0\0\0.{8}.{4}", re.S)
    (tmp_path / "w.h5").write_bytes(names.sub(first[0], data))
    tracemalloc.start()
    try:
        with pytest.raises(UserError), open_keras(tmp_path / "w.h5"):
            pass
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_names_of_variable_length_are_read_from_large_files(tmp_path):
    def change(file):
        file["optimizer_weights"] = np.zeros(10_000_000, "<f4")

    save(tmp_path / "w.h5", change, list)
    with open_keras(tmp_path / "w.h5") as file:
        assert len(file.heads) == 4


def test_a_sparse_file_is_refused(tmp_path):
    save(tmp_path / "w.h5")
    os.truncate(tmp_path / "w.h5", 6_000_000_000)
    with pytest.raises(UserError, match="of more than 1,073,741,824 bytes"), open_keras(tmp_path / "w.h5"):
        pass


def test_what_is_not_there_is_named(tmp_path):
    path = tmp_path / "w.h5"
    assert "not weights that Keras saved" in refusal(path, lambda file: file.attrs.pop("layer_names"))
    assert "a/bias:0 is not there" in refusal(path, lambda file: file.pop("a/a/bias:0"))
    assert "locate attribute: 'weight_names'" in refusal(
        path, lambda file: (file.pop("b"), file.create_dataset("b", (3,), "<f4"))
    )
    change = replaced(lambda group: group.create_group("kernel:0"))
    assert "a/kernel is a Group, not a data set" in refusal(path, change)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "w.h5")
    with (
        pytest.raises(UserError, match=r"w.h5: cannot be read \(not a regular file\)"),
        open_keras(tmp_path / "w.h5"),
    ):
        pass
