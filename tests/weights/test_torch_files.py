"""Files of torch.save: read to the bit without PyTorch, and bombs that do not go off."""

import argparse
import collections
import io
import os
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from tests.weights.torch_writer import NEEDS_TORCH, Bomb, torch_bytes
from wdsr_jax.errors import UserError
from wdsr_jax.weights.torch_files import LEGACY_START, Tensor, open_torch


def zip_of(pickled, **members):
    """An archive in the manner of torch.save."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def legacy_of(pickled, *, little_endian=True):
    version, system = pickle.dumps(1001, 2), pickle.dumps({"little_endian": little_endian}, 2)
    return LEGACY_START + version + system + pickled + pickle.dumps([], 2)


def read_all(path):
    with open_torch(path) as file:
        return {key: file.read(value) for key, value in file.content.items()}


def refusal(path, data):
    """The message for a file of this content: one line that names the file."""
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_all(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


# --- against PyTorch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_every_kind_of_tensor_is_read_as_pytorch_reads_it(tmp_path, new):
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 4, 5, generator=generator)
    tensors = {
        **{str(t): base.to(t) for t in (torch.float16, torch.float32, torch.float64, torch.bfloat16)},
        **{str(t): (base * 100).to(t) for t in (torch.int64, torch.int32, torch.int16, torch.int8)},
        "uint8": base.abs().to(torch.uint8),
        "bool": base > 0,
        "transposed": base.permute(2, 0, 1),
        "part": base[1:5, 2, ::2],  # another offset and strides, of the same storage
        "channels_last": torch.randn(2, 3, 4, 5, generator=generator).to(memory_format=torch.channels_last),
        "number": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(base[0]),
        "nan": torch.tensor([float("nan"), float("inf")]),
    }
    torch.save(tensors, tmp_path / "file", _use_new_zipfile_serialization=new)
    arrays = read_all(tmp_path / "file")
    assert arrays.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = tensor.detach()
        expected = (expected.float() if expected.dtype == torch.bfloat16 else expected).numpy()
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_what_lies_beside_the_weights_in_a_checkpoint_is_no_obstacle(tmp_path, new):
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    layer = torch.nn.Conv2d(3, 4, 3)
    adam = torch.optim.Adam(layer.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, (20, 25), 0.2)  # holds a Counter
    layer(torch.ones(1, 3, 8, 8)).sum().backward()
    adam.step()
    beside = {
        "optimizer": adam.state_dict(),
        "schedule": schedule.state_dict(),
        "args": argparse.Namespace(scale=4, mean=[0.5]),
        "best": np.float64(32.5),
        "history": collections.defaultdict(list, {"loss": [0.1, None, True, -1, 2**40, 70000]}),
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "set": {1, 2},
    }
    checkpoint = {"epoch": 3, "weights": layer.state_dict(), **beside}
    torch.save(checkpoint, tmp_path / "file", _use_new_zipfile_serialization=new)
    with open_torch(tmp_path / "file") as file:
        assert file.content["epoch"] == 3 and file.content.keys() == checkpoint.keys()
        bias = file.read(file.content["weights"]["bias"])
    np.testing.assert_array_equal(bias, layer.bias.detach().numpy())


def test_pytorch_reads_the_files_of_these_tests(tmp_path):
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    content = sample_content()
    (tmp_path / "file.pth").write_bytes(torch_bytes(content))
    loaded = torch.load(tmp_path / "file.pth", weights_only=True)
    for name, array in content["state"].items():
        assert loaded["state"][name].dtype == torch.float32
        np.testing.assert_array_equal(loaded["state"][name].numpy(), array)
    assert loaded["plain"] == content["plain"]


# --- without PyTorch ----------------------------------------------------------------------------------------


def sample_content():
    rng = np.random.default_rng(0)
    return {
        "state": {
            "matrix": rng.normal(size=(3, 4)).astype(np.float32),
            "transposed": rng.normal(size=(2, 3, 4)).astype(np.float32).transpose(2, 0, 1),
            "number": np.array(1.5, np.float32),
        },
        "plain": {"a": [1, -2, 2.5, True, False], "β": ("x", ()), "empty": {}},
    }


def test_tensors_and_what_is_beside_them_are_read(tmp_path):
    content = sample_content()
    (tmp_path / "file.pth").write_bytes(torch_bytes(content))
    with open_torch(tmp_path / "file.pth") as file:
        assert file.content["plain"] == content["plain"]
        for name, array in content["state"].items():
            assert isinstance(file.content["state"][name], Tensor)
            np.testing.assert_array_equal(file.read(file.content["state"][name]), array)


class HiddenBomb(Bomb):
    """The call is the state of an object that is harmless itself."""

    def __reduce__(self):
        return collections.OrderedDict, (), {"_metadata": Bomb(self.path)}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("wrap", [zip_of, legacy_of], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", [Bomb, HiddenBomb, lambda p: {"state_dict": [({"a": Bomb(p)},)]}])
def test_a_bomb_does_not_go_off(tmp_path, place, wrap, protocol):
    crater = tmp_path / "crater"
    pickled = pickle.dumps(place(crater), protocol)
    message = refusal(tmp_path / "file", wrap(pickled))
    assert not crater.exists()
    if protocol == 2:  # what torch.save writes
        assert message.startswith("refused, and nothing was run: it refers to posix.mkdir")
    pickle.loads(pickled)
    assert crater.exists()  # it was a live one


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cbuiltins\neval\n(X\x03\x00\x00\x001+1tR.",
        b"ctorch.jit\nload\n.",
        b"(S'1+1'\nibuiltins\neval\n.",  # INST
        b"(cbuiltins\neval\nX\x03\x00\x00\x001+1o.",  # OBJ
        b"\x82\x01.",  # EXT1, of copyreg's registry
        b"X\x08\x00\x00\x00builtinsX\x04\x00\x00\x00eval\x93.",  # STACK_GLOBAL
    ],
)
def test_other_ways_to_call_are_refused(tmp_path, opcodes):
    refusal(tmp_path / "file", zip_of(b"\x80\x02" + opcodes))


def storage(count=4, key="0", kind="torch\nFloatStorage"):
    text = f"{len(key):c}".encode() + b"\0\0\0" + key.encode()
    count = b"\x8a\x09" + count.to_bytes(9, "little", signed=True)
    return b"(X\x07\0\0\0storagec" + kind.encode() + b"\nX" + text + b"X\x03\0\0\0cpu" + count + b"tQ"


def tensor(offset=0, shape=(4,), stride=(1,), **of_storage):
    def number(n):
        return b"\x8a\x09" + n.to_bytes(9, "little", signed=True)

    numbers = number(offset) + b"(" + b"".join(map(number, shape)) + b"t("
    numbers += b"".join(map(number, stride)) + b"t"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(**of_storage) + numbers
    return b"\x80\x02}X\x01\0\0\0t" + call + b"\x89}tRs."


DATA = np.arange(4, dtype="<f4").tobytes()


def test_a_tensor_made_by_hand_is_read(tmp_path):
    (tmp_path / "file").write_bytes(zip_of(tensor(1, (2,), (2,)), **{"data/0": DATA}))
    np.testing.assert_array_equal(read_all(tmp_path / "file")["t"], [1, 3])


@pytest.mark.parametrize(
    "arguments",
    [
        dict(offset=1),
        dict(offset=-1),
        dict(offset=2**70),
        dict(shape=(5,)),
        dict(shape=(-4,)),
        dict(shape=(2, 2)),  # without a second stride
        dict(stride=(2,)),
        dict(stride=(-1,)),
        dict(shape=(2**40,), stride=(0,)),  # 4 TiB, all the same element
        dict(shape=(2**40, 0), stride=(0, 0), offset=5),
        dict(shape=(2,) * 70, stride=(0,) * 70),
        dict(count=2**60, shape=(2**60,)),
        dict(count=-1),
        dict(count=3, shape=(3,)),
        dict(key="1"),
        dict(key="../../../etc/passwd"),
        dict(kind="torch\nComplexFloatStorage"),
    ],
    ids=str,
)
def test_a_tensor_that_claims_what_is_not_there_is_refused(tmp_path, arguments):
    refusal(tmp_path / "file", zip_of(tensor(**arguments), **{"data/0": DATA}))


@pytest.mark.parametrize(
    "opcodes",
    [
        b"X\xff\xff\xff\x7fabc.",  # a text of 2 GiB
        b"\x8b\xff\xff\xff\x7f\x01.",  # a number of 2 GiB
        b"}" + b"(" * 1000 + b"t" * 999 + b"K\x01s.",  # a key that is tuples in tuples
        b"0.",
        b"t.",
        b"]K\x01a",  # no end
        b"}K\x01u.",
        b"h\x05.",
    ],
)
def test_a_pickle_that_claims_much_or_makes_no_sense_is_refused(tmp_path, opcodes):
    refusal(tmp_path / "file", zip_of(b"\x80\x02" + opcodes))


def test_a_memo_of_four_billion_entries_is_none_here(tmp_path):
    # LONG_BINPUT with this index makes C's unpickler allocate and clear 64 GiB.
    (tmp_path / "file").write_bytes(zip_of(b"\x80\x02}r\xff\xff\xff\xff."))
    with open_torch(tmp_path / "file") as file:
        assert file.content == {}


def test_compressed_data_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor(count=2**24, shape=(2**24,)), zipfile.ZIP_STORED)
        archive.writestr("archive/data/0", bytes(2**26))  # 64 KiB in the file
    assert "data/0 is compressed" in refusal(tmp_path / "file", buffer.getvalue())


def test_big_endian_is_refused(tmp_path):
    for data in (
        zip_of(tensor(), byteorder=b"big", **{"data/0": DATA}),
        legacy_of(b"\x80\x02}.", little_endian=False),
    ):
        assert "big-endian" in refusal(tmp_path / "file", data)


def test_a_zip_of_something_else_is_named_so(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    assert refusal(tmp_path / "file", buffer.getvalue()) == "a zip file, but not of torch.save"


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_damage_anywhere_is_refused_or_harmless(tmp_path, new):
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    torch.save(
        {"a": torch.ones(3, 2), "b": torch.zeros(5)}, tmp_path / "file", _use_new_zipfile_serialization=new
    )
    whole = (tmp_path / "file").read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[position] = rng.integers(0, 256)
        end = rng.integers(0, len(whole) + 1) if rng.random() < 0.3 else len(whole)
        (tmp_path / "file").write_bytes(damaged[:end])
        try:
            with open_torch(tmp_path / "file") as file:
                for value in file.content.values() if isinstance(file.content, dict) else ():
                    assert file.read(value).nbytes <= len(whole)
        except UserError:
            refused += 1
    assert 0 < refused < 300  # a byte of a tensor's data is harmless


def test_every_truncation_is_refused(tmp_path):
    whole = torch_bytes({"a": np.ones((3, 2), np.float32)})
    for end in range(len(whole)):
        refusal(tmp_path / "file", whole[:end])


# --- what asks for too much ---------------------------------------------------------------------------------


def test_opcodes_are_counted_and_marks_too(tmp_path):
    began = time.process_time()
    for opcodes in (
        b"}" + b"q\x00" * 600_000 + b".",
        b"(" * 200 + b"t" * 200 + b".",
        # An OrderedDict of 10,000 pairs, made a thousand times over.
        b"(" + b"(K\x01K\x02t" * 10_000 + b"lq\x00" + b"ccollections\nOrderedDict\n(h\x00tR" * 1000 + b".",
        b"]q\x00(" + b"(K\x01K\x02t" * 10_000 + b"e" + b"ccollections\nOrderedDict\n(h\x00tR" * 1000 + b".",
    ):
        refusal(tmp_path / "file", zip_of(b"\x80\x02" + opcodes))
    assert time.process_time() - began < 10


@pytest.mark.parametrize("wrap", [zip_of, legacy_of], ids=["zip", "legacy"])
def test_a_long_pickle_is_not_read(tmp_path, wrap):
    """Sparse: it costs its author nothing."""
    data = wrap(b"\x80\x02X" + (1 << 30).to_bytes(4, "little"))
    (tmp_path / "file").write_bytes(data)
    os.truncate(tmp_path / "file", 3_000_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(UserError), open_torch(tmp_path / "file"):
            pass
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()


def test_a_long_list_of_members_is_not_read(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    whole = bytearray(buffer.getvalue())
    (tmp_path / "file").write_bytes(b"PK\x03\x04" + bytes(60_000_000))
    with open(tmp_path / "file", "ab") as file:  # an end record whose list is all that is before it
        end = whole[-22:]
        end[12:16], end[16:20] = (60_000_004).to_bytes(4, "little"), bytes(4)
        file.write(end)
    with pytest.raises(UserError, match="list of its members"), open_torch(tmp_path / "file"):
        pass


def views(count, size, of):
    """`count` tensors that all are the first `of` elements of one storage."""
    number = lambda n: b"J" + n.to_bytes(4, "little")  # noqa: E731
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(count=size) + b"q\x01" + b"K\x00("
    rest = number(of) + b"t(K\x01t\x89}tR"
    again = b"ctorch._utils\n_rebuild_tensor_v2\n(h\x01K\x00(" + rest
    names = [b"X\x04\0\0\0%04d" % i for i in range(count)]
    pickled = b"\x80\x02}(" + names[0] + call + rest + b"".join(name + again for name in names[1:]) + b"u."
    return zip_of(pickled, **{"data/0": bytes(4 * size)})


def test_views_of_one_storage_read_it_once(tmp_path):
    (tmp_path / "file").write_bytes(views(500, 1_000_000, 500_000))
    tracemalloc.start()
    try:
        arrays = read_all(tmp_path / "file")
        assert len(arrays) == 500 and all(array.shape == (500_000,) for array in arrays.values())
        assert tracemalloc.get_traced_memory()[1] < 50e6  # not 2 GB
    finally:
        tracemalloc.stop()


def test_a_storage_that_is_larger_than_weights_is_not_read(tmp_path):
    data = legacy_of(tensor(count=1 << 29, shape=(1,)))
    data = data[: -len(pickle.dumps([], 2))] + pickle.dumps(["0"], 2) + (1 << 29).to_bytes(8, "little")
    (tmp_path / "file").write_bytes(data)
    os.truncate(tmp_path / "file", len(data) + (1 << 31))
    with pytest.raises(UserError, match="more than 268,435,456 bytes"):
        read_all(tmp_path / "file")


def test_a_wrong_checksum_is_found(tmp_path):
    data = zip_of(tensor(), **{"data/0": DATA})
    assert "checksum" in refusal(tmp_path / "file", data.replace(DATA, DATA[::-1], 1))


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "file")
    with pytest.raises(UserError, match="not a regular file"), open_torch(tmp_path / "file"):
        pass
