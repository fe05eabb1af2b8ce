"""Safetensors files: as the library reads and writes them, and what headers may claim."""

import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from wdsr_jax.errors import UserError
from wdsr_jax.weights.safetensors_files import open_safetensors, write_safetensors


def sample():
    rng = np.random.default_rng(0)
    kinds = ("<f4", "<f8", "<f2", "<i8", "|u1", "|b1")
    tensors = {kind: (rng.normal(size=(2, 3)) * 9).astype(kind) for kind in kinds}
    return tensors | {"number": np.array(1.5), "none": np.zeros((3, 0), "<f4")}


def test_what_the_library_writes_is_read(tmp_path):
    tensors = sample()
    (tmp_path / "w").write_bytes(safetensors.numpy.save(tensors, metadata={"a": "β\n"}))
    with open_safetensors(tmp_path / "w") as file:
        assert file.metadata == {"a": "β\n"} and file.heads.keys() == tensors.keys()
        for name, array in tensors.items():
            read = file.read(name)
            assert (read.shape, read.dtype) == (array.shape, array.dtype) == file.heads[name][:2]
            np.testing.assert_array_equal(read, array)
    (tmp_path / "w").write_bytes(safetensors.numpy.save(tensors))
    with open_safetensors(tmp_path / "w") as file:
        assert file.metadata == {}


def test_bfloat16_is_read_as_float32(tmp_path):
    values = np.array([1.5, -0.25, 3e38], "<f4")
    header = json.dumps({"t": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    upper = (values.view("<u4") >> 16).astype("<u2")
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + upper.tobytes())
    with open_safetensors(tmp_path / "w") as file:
        assert file.heads["t"].dtype == "float32" and file.heads["t"].nbytes == 6
        np.testing.assert_allclose(file.read("t"), values, rtol=1e-2)


def test_what_is_written_the_library_reads(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        "b": rng.normal(size=(2, 3, 4)).astype("<f4").transpose(2, 0, 1),
        "a": np.float32(2),
        "half": rng.normal(size=(3, 1)).astype("<f2"),
        "z": np.zeros((0, 2), "<f4"),
        "β": np.asfortranarray(rng.normal(size=(3, 2)).astype("<f4")),
    }
    write_safetensors(tmp_path / "w", tensors, {"model": '{"x": 1}', "psnr_rgb": "30.5"})
    with safetensors.safe_open(tmp_path / "w", framework="numpy") as file:
        assert file.metadata() == {"model": '{"x": 1}', "psnr_rgb": "30.5"}
        assert set(file.keys()) == tensors.keys()
        for name, array in tensors.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
    assert (
        int.from_bytes((tmp_path / "w").read_bytes()[:8], "little") % 8 == 0
    )  # so that the tensors can be mapped


SAVE = """
import sys
import numpy as np
from wdsr_jax.weights.store import save_weights
params = {"tail": {"bias": np.ones(3, "f4")}, "head": {"kernel": np.arange(6, dtype="f4").reshape(2, 3)}}
config = {"name": "wdsr_a", "scale": 2, "mean": (0.5, 0.4, 0.3), "blocks": 1}
if sys.argv[2] == "turned":
    params, config = dict(reversed(params.items())), dict(reversed(config.items()))
save_weights(sys.argv[1], config, params, psnr_rgb=30.25)
"""


def test_the_same_parameters_make_the_same_file(tmp_path):
    """In whatever order they come, and in processes whose hashes differ."""
    for name, order, seed in (("a", "straight", "1"), ("b", "turned", "2")):
        arguments = [sys.executable, "-c", SAVE, str(tmp_path / name), order]
        subprocess.run(arguments, check=True, env=os.environ | {"PYTHONHASHSEED": seed})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "header, reason",
    [
        ({"a": entry(offsets=(0, 9))}, "does not lie where its shape needs it"),
        ({"a": entry(offsets=(4, 12))}, "does not lie where its shape needs it"),
        ({"a": entry(), "b": entry()}, "does not lie where its shape needs it"),  # the same bytes twice
        ({"a": entry((1 << 40,), (0, 1 << 42))}, "where its tensors end at"),
        ({"a": entry((-2,), (0, -8))}, "has no shape or place"),
        ({"a": entry((1 << 60,))}, "has no shape or place"),
        ({"a": entry((2.0,))}, "has no shape or place"),
        ({"a": entry((True, 2))}, "has no shape or place"),
        ({"a": entry((1,) * 9)}, "has no shape or place"),
        ({"a": entry((1 << 47,) * 50_000)}, "has no shape or place"),
        ({"a": entry(offsets=(0, 4, 8))}, "does not lie"),
        ({"a": entry("ab")}, "has no shape or place"),
        ({"a": entry(dtype="F8_E4M3")}, "elements of an unknown type"),
        ({"a": entry(dtype=["F32"])}, "its header is not that of one"),
        ({"a": [1]}, "its header is not that of one"),
        ({"a": {}}, "its header is not that of one"),
        ([1], "its header is not that of one"),
        (77, "its header is not that of one"),
        ({"__metadata__": {"model": 7}}, "its metadata are not texts"),
        ({"__metadata__": [7]}, "its header is not that of one"),
        ('{"a": 1, "a": 1}', "a name occurs twice"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' + "1" * 5000 + "}", "Exceeds the limit"),
        (b"\xff\xfe{}", "can't decode"),
        (" " * (1 << 20) + "{}", "a header of 1048578 bytes"),
        ({"\x1b[2J": entry(dtype="X")}, r"tensor \x1b[2J has"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_header_that_claims_what_is_not_there_is_refused(tmp_path, header, reason):
    text = header if isinstance(header, str | bytes) else json.dumps(header)
    text = text.encode() if isinstance(text, str) else text
    (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught, open_safetensors(tmp_path / "w"):
            pass
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'w'}: not a safetensors file that can be read (")
    assert reason in message and "\n" not in message and len(message) < 400


def test_a_length_beyond_the_file_is_not_read(tmp_path):
    for data in (b"", b"{", (1 << 62).to_bytes(8, "little") + b"{}", bytes(16)):
        (tmp_path / "w").write_bytes(data)
        with pytest.raises(UserError, match="no header, or ends within it"), open_safetensors(tmp_path / "w"):
            pass
