"""Weight files: what is saved comes back to the bit, and what is damaged is named."""

import contextlib
import functools
import json
import os
import resource
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import safetensors.numpy
from absl import logging
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weights.networks import CONFIG, params_like
from wdsr_jax.errors import UserError
from wdsr_jax.models import count_params, create_model, fold_weight_norm
from wdsr_jax.models.layers import pixel_shuffle
from wdsr_jax.weights import files, tensors
from wdsr_jax.weights.store import (
    list_pretrained,
    load_between,
    load_pretrained,
    param_shapes,
    save_weights,
    start_from,
)


def assert_same_bits(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, CONFIG, params_like())
    return path


@pytest.mark.parametrize(
    "fields",
    [
        {},
        dict(name="wdsr_b", scale=3, mean=(0.5, 0.25, 0.125), dtype="bfloat16", res_scale=0.3, norm="none"),
        dict(norm="batch"),
        dict(name="edsr", scale=4, norm="batch"),
    ],
)
def test_round_trip_is_exact(tmp_path, fields):
    config = CONFIG | fields
    path, params = tmp_path / "a.safetensors", params_like(**fields)
    save_weights(str(path), ml_collections.ConfigDict(config), params)
    module, loaded = load_pretrained(str(path))
    assert module == create_model(config | {"dtype": "float32"})  # how it was trained does not matter
    assert_same_bits(loaded, params)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644

    # Any reader of safetensors finds them under their names.
    first = "first" if config["name"] == "edsr" else "expand"
    assert f"block_0.{first}.kernel" in safetensors.numpy.load_file(path)


def test_load_by_workdir_and_by_shipped_name(tmp_path, file, monkeypatch):
    module, params = load_pretrained(tmp_path)
    assert module == create_model(CONFIG)
    assert_same_bits(params, params_like())

    monkeypatch.setattr(files, "_SHIPPED", tmp_path)
    assert list_pretrained() == ["model"]
    assert load_pretrained("model")[0] == module
    with pytest.raises(UserError, match=r"^wdsr-z: no such file .* \(those are: model\)$"):
        load_pretrained("wdsr-z")


def test_every_shipped_network_loads_and_its_name_ends_in_its_scale():
    for name in list_pretrained():
        module, _ = load_pretrained(name)
        assert name.endswith(f"-x{module.scale}")


def test_home_directory_is_expanded(tmp_path, file, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_pretrained("~/model.safetensors")[0] == load_pretrained(tmp_path / "model.safetensors")[0]


def test_workdir_without_weights(tmp_path):
    with pytest.raises(UserError, match=r"no model\.safetensors here; training writes it at its first"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["no/such/file", "x" * 300, "nul\0byte"])
def test_what_does_not_exist(name):
    with pytest.raises(UserError, match="no such file or workdir, nor a shipped model"):
        load_pretrained(name)


def rewrite(path, change=lambda tensors: None, metadata="unchanged"):
    with safetensors.safe_open(path, framework="numpy") as file:
        old = file.metadata()
    tensors = dict(safetensors.numpy.load_file(path))
    change(tensors)
    metadata = old if metadata == "unchanged" else metadata
    path.write_bytes(safetensors.numpy.save(tensors, metadata=metadata))


def set_value(name, value):
    return lambda tensors: tensors[name].ravel().__setitem__(3, value)


DAMAGE = {
    "empty": (lambda p: p.write_bytes(b""), "not a safetensors file"),
    "zeros": (lambda p: p.write_bytes(bytes(p.stat().st_size)), "not a safetensors file"),
    "text": (lambda p: p.write_text("Not found\n" * 99), "not a safetensors file"),
    "html": (lambda p: p.write_text("<!DOCTYPE html>"), "not a safetensors file"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-100]), "not a safetensors file"),
    "no metadata": (lambda p: rewrite(p, metadata=None), "metadata has no `model`"),
    "other metadata": (lambda p: rewrite(p, metadata={"format": "pt"}), "metadata has no `model`"),
    "bad JSON": (lambda p: rewrite(p, metadata={"model": "{"}), "metadata has no `model`"),
    "a number": (lambda p: rewrite(p, metadata={"model": "3"}), "metadata has no `model`"),
    "a list": (lambda p: rewrite(p, metadata={"model": "[]"}), "model.name is missing"),
    "unknown model": (
        lambda p: rewrite(p, metadata={"model": json.dumps(CONFIG | {"name": "srcnn"})}),
        "srdensenet, rdn, edrn, wdsr_flow, not 'srcnn'",
    ),
    "field of a later version": (
        lambda p: rewrite(p, metadata={"model": json.dumps(CONFIG | {"window": 8})}),
        "model.window: no such key",
    ),
    "network from outside": (
        lambda p: rewrite(p, metadata={"model": json.dumps(CONFIG | {"name": "antigravity:Flight"})}),
        "of antigravity:Flight, a network from outside wdsr_jax, which no weights file imports; "
        "it loads with load_pretrained(path, module=...)",
    ),
    "another scale": (
        lambda p: rewrite(p, metadata={"model": json.dumps(CONFIG | {"scale": 3})}),
        "tensor skip.bias is (12,), not (27,)",
    ),
    "missing tensor": (lambda p: rewrite(p, lambda t: t.pop("head.scale")), "tensor head.scale is missing"),
    "extra tensor": (
        lambda p: rewrite(p, lambda t: t.update({"block_7.bias": t["head.bias"]})),
        "tensor block_7.bias does not belong to the network",
    ),
    "misshapen tensor": (
        lambda p: rewrite(p, lambda t: t.update({"head.kernel": t["head.kernel"][:1]})),
        "tensor head.kernel is (1, 3, 3, 4), not (3, 3, 3, 4)",
    ),
    "NaN": (
        lambda p: rewrite(p, set_value("block_0.project.kernel", np.nan)),
        "tensor block_0.project.kernel holds values that are not finite",
    ),
    "infinity": (
        lambda p: rewrite(p, set_value("tail.bias", -np.inf)),
        "tensor tail.bias holds values that are not finite",
    ),
    "beyond float32": (
        lambda p: rewrite(p, lambda t: t.update({"tail.bias": np.full(12, 1e300)})),
        "tensor tail.bias holds values that are not finite",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_line_that_names_file_and_tensor(file, case):
    damage, expected = DAMAGE[case]
    damage(file)
    with pytest.raises(UserError) as raised:
        load_pretrained(file)
    message = str(raised.value)
    assert message.startswith(f"{file}: ")
    assert expected in message
    assert "\n" not in message


@functools.cache
def saved_bytes():
    tensors = {k: np.asarray(v) for k, v in flatten_dict(params_like(), sep=".").items()}
    return safetensors.numpy.save(tensors, metadata={"model": json.dumps(CONFIG)})


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_random_damage_is_never_a_traceback(tmp_path_factory, data):
    content = bytearray(saved_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
        fails = pytest.raises(UserError)
    else:
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
        fails = None
    path = tmp_path_factory.mktemp("damaged") / "a.safetensors"
    path.write_bytes(content)
    if fails:
        with fails:
            load_pretrained(path)
    else:
        try:
            load_pretrained(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, file):
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # as a full disk: the write stops midway
    try:
        with pytest.raises(UserError, match=rf"^{file}: cannot be written \(File too large\)$"):
            save_weights(file, CONFIG, params_like(seed=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("folder", ["missing", "model.safetensors"])
def test_save_where_no_file_can_be(file, folder):
    path = file.parent / folder / "b.safetensors"
    with pytest.raises(UserError, match=rf"^{path}: cannot be written \(No"):
        save_weights(path, CONFIG, params_like())


class Outside(nn.Module):
    """A network that is not in the package."""

    scale: int = 2
    width: int = 4

    @nn.compact
    def __call__(self, x):
        return pixel_shuffle(
            nn.Conv(3 * self.scale**2, (3, 3))(nn.Conv(self.width, (3, 3), name="head")(x)), 2
        )


@pytest.fixture
def outside(tmp_path):
    """A workdir of a network from outside, and its parameters: (path, params)."""
    rng, (module, name) = np.random.default_rng(0), (Outside(), "no_such_package.networks:Outside")
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    save_weights(tmp_path / "model.safetensors", dict(name=name, scale=2, width=4), params)
    return tmp_path, params


def test_a_network_from_outside_is_given_to_load_pretrained(outside):
    path, params = outside
    module, loaded = load_pretrained(path, module=Outside())
    assert module == Outside()
    assert_same_bits(loaded, params)
    with pytest.raises(UserError, match=r"Conv_0.kernel is \(3, 3, 4, 12\), not \(3, 3, 5, 12\)$"):
        load_pretrained(path, module=Outside(width=5))
    with pytest.raises(
        UserError, match=r"model.safetensors: tensor Conv_0.bias does not belong to the network"
    ):
        load_pretrained(path, module=create_model(CONFIG))


def test_a_weights_file_makes_nothing_be_imported(file, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("planted:Network", "planted", "planted.Network", ["planted:Network"]):
        rewrite(file, metadata={"model": json.dumps(CONFIG | {"name": name})})
        for read in (load_pretrained, functools.partial(start_from, params_like())):
            with contextlib.suppress(UserError):
                read(file)
        with pytest.raises(UserError) as caught:
            load_pretrained(file)
        assert "\n" not in str(caught.value)
    assert "planted" not in sys.modules


def test_the_network_that_is_given_counts_not_the_one_that_the_file_names(file):
    rewrite(file, metadata=None)
    module, params = load_pretrained(file, module=create_model(CONFIG))
    assert module == create_model(CONFIG)
    assert_same_bits(params, params_like())


def test_start_from_a_network_from_outside(outside):
    path, params = outside
    fresh = jax.tree.map(jnp.zeros_like, params)
    assert_same_bits(start_from(fresh, path, whole=True), params)
    with pytest.raises(
        UserError, match=r"model.safetensors: tensor head.bias holds values that are not finite"
    ):
        rewrite(path / "model.safetensors", set_value("head.bias", np.nan))
        start_from(fresh, path)


@pytest.mark.parametrize("name", ["before_gan.safetensors", "psnr.safetensors"])
def test_between_is_found_under_the_old_name_too(file, tmp_path, name):
    save_weights(tmp_path / name, CONFIG, params_like(seed=1))
    module, between = load_between(tmp_path, 0.25)
    assert module == create_model(CONFIG)
    expected = jax.tree.map(lambda x, y: 0.75 * x + 0.25 * y, params_like(seed=1), params_like())
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), between, expected)
    if name == "psnr.safetensors":  # that of today goes first
        save_weights(tmp_path / "before_gan.safetensors", CONFIG, params_like())
        assert_same_bits(load_between(file, 0.0)[1], params_like())


def test_between_wants_both_ends_of_one_network(file, tmp_path):
    with pytest.raises(
        UserError, match=rf"was not fine-tuned with a discriminator \(no {tmp_path}/before_gan"
    ):
        load_between(tmp_path, 0.5)
    other = CONFIG | {"scale": 3}
    save_weights(tmp_path / "before_gan.safetensors", other, params_like(scale=3))
    with pytest.raises(UserError, match=r"before_gan.safetensors: is of another network than"):
        load_between(tmp_path, 0.5)


def test_between_for_a_network_from_outside(outside):
    path, params = outside
    name = "no_such_package.networks:Outside"
    zeros = jax.tree.map(jnp.zeros_like, params)
    save_weights(path / "before_gan.safetensors", dict(name=name, scale=2, width=4), zeros)
    _, between = load_between(path, 0.5, module=Outside())
    assert_same_bits(between, jax.tree.map(lambda x: 0.5 * x, params))


def test_start_from_another_scale_takes_head_and_blocks(file):
    fresh = params_like(seed=5, scale=3)
    params = start_from(fresh, file)
    for layer in ("head", "block_0"):
        assert_same_bits(params[layer], params_like()[layer])
    for layer in ("tail", "skip"):
        assert_same_bits(params[layer], fresh[layer])
    assert_same_bits(fresh, params_like(seed=5, scale=3))  # left as it was


@pytest.fixture
def lines(monkeypatch):
    """What is logged, warnings by `warning: ` before them."""
    found = []
    monkeypatch.setattr(logging, "info", lambda message, *args: found.append(message % args))
    monkeypatch.setattr(logging, "warning", lambda message, *args: found.append("warning: " + message % args))
    return found


def test_start_from_says_what_it_took(file, lines):
    fresh = params_like(seed=5, scale=3)
    start_from(fresh, file)
    total = count_params(fresh)
    new = count_params({name: fresh[name] for name in ("skip", "tail")})
    assert lines == [f"{total - new:,} of {total:,} scalars from {file}; new: skip, tail"]
    lines.clear()
    start_from(params_like(seed=5), file)
    total = count_params(params_like())
    assert lines == [f"{total:,} of {total:,} scalars from {file}; new: nothing"]


def test_start_from_warns_where_little_fits(file, lines):
    start_from(params_like(seed=5, expansion=3), file)  # `project` and `expand` have other channels
    assert lines[0].endswith("; new: block_0")
    assert lines[1].startswith(
        f"warning: {file} fits no blocks of this network: the rest is trained from scratch"
    )
    lines.clear()
    params = params_like(seed=5, filters=CONFIG["filters"] + 1)
    start_from(params, file)  # skip alone
    assert "; new: block_0, head, tail" in lines[0]
    assert lines[1].startswith(f"warning: {file} fits neither head nor blocks of this network")


@pytest.mark.parametrize("norm", ["weight", "batch"])
def test_start_from_multiplies_a_norm_out_where_the_new_network_has_none(tmp_path, norm, lines):
    path, old = tmp_path / "a.safetensors", params_like(norm=norm)
    save_weights(path, CONFIG | dict(norm=norm), old)
    started = start_from(params_like(seed=1, norm="none"), path)
    assert_same_bits(started, fold_weight_norm(old))
    assert lines[0].endswith("; new: nothing") and len(lines) == 1
    lr = np.random.default_rng(0).uniform(size=(1, 6, 7, 3)).astype(np.float32)
    both = [
        create_model(CONFIG | dict(norm=name)).apply({"params": params}, lr)
        for name, params in ((norm, old), ("none", started))
    ]
    np.testing.assert_allclose(*both, atol=1e-5)


def test_start_from_takes_the_statistics_of_batch_norm(tmp_path):
    path, old = tmp_path / "a.safetensors", params_like(norm="batch")
    save_weights(path, CONFIG | dict(norm="batch"), old)
    started = start_from(params_like(seed=1, norm="batch", scale=3), path)
    assert_same_bits(started["block_0"], old["block_0"])
    # Under another norm they mean nothing: not one convolution of the block is taken.
    new = params_like(seed=1)
    assert_same_bits(start_from(new | {"head": old["head"]}, path)["block_0"], new["block_0"])


def test_start_from_takes_convolutions_whole(tmp_path, file):
    # `project` has biases and g of the same shape, but another kernel.
    fresh = params_like(seed=5, expansion=3)
    params = start_from(fresh, file)
    assert_same_bits(params["block_0"], fresh["block_0"])
    assert_same_bits(params["tail"], params_like()["tail"])
    # Kernels without weight norm are w, not v.
    plain = tmp_path / "plain.safetensors"
    save_weights(plain, CONFIG | {"norm": "none"}, params_like(norm="none"))
    with pytest.raises(UserError, match=rf"^{plain}: has no convolution of the shape and name"):
        start_from(params_like(), plain)


# --- what asks for too much ---------------------------------------------------------------------------------


def rename(path, **fields):
    rewrite(path, metadata={"model": json.dumps(CONFIG | fields)})


TOO_MUCH = {
    "blocks": (lambda p: rename(p, blocks=10**5), "of more layers than its 15 tensors can be of"),
    "more blocks": (lambda p: rename(p, blocks=10**300), "of more layers than its 15 tensors can be of"),
    "blocks beyond a float": (lambda p: rename(p, blocks=10**400), "metadata has no `model`"),
    "layers": (lambda p: rename(p, name="rdn", layers=10**9), "of more layers than its 15 tensors can be of"),
    "filters": (lambda p: rename(p, filters=10**12), "tensor block_0.expand.bias is (8,), not ("),
    "filters beyond an index": (lambda p: rename(p, filters=10**20), ""),
    "expansion": (lambda p: rename(p, expansion=10**9), "tensor block_0.expand.bias is (8,), not ("),
    "scale": (lambda p: rename(p, name="srcnn_915", scale=10**6), "model.scale is at most 64"),
    "scale beyond an index": (lambda p: rename(p, name="edsr", scale=10**400), "metadata has no `model`"),
    "res_scale": (lambda p: rename(p, res_scale=10**400), "model.res_scale must be a number"),
    "1e400": (
        lambda p: rewrite(p, metadata={"model": json.dumps(CONFIG)[:-1] + ', "res_scale": 1e400}'}),
        "model.res_scale must be a number, not inf",
    ),
    "depth": (lambda p: rewrite(p, metadata={"model": "[" * 10**5}), "metadata has no `model`"),
    "depth of a value": (
        lambda p: rewrite(p, metadata={"model": f'{{"name": {"[" * 900}{"]" * 900}, "scale": 2}}'}),
        "model.name must be one of",
    ),
    "a long value": (
        lambda p: rename(p, name="x" * 10**5),
        "model.name must be one of",
    ),
    "a long key": (lambda p: rename(p, **{"x" * 10**5: 1}), "no network of wdsr_jax (model.xxx"),
    "many tensors": (
        lambda p: rewrite(p, lambda t: t.update({str(i): np.zeros(1, np.float32) for i in range(3000)})),
        "3015 tensors, where weights have at most 2048",
    ),
    "whole numbers": (
        lambda p: rewrite(p, lambda t: t.update({"tail.bias": np.zeros(12, np.int32)})),
        "tensor tail.bias is of int32, not of floating-point numbers",
    ),
    "a false second line": (
        lambda p: rewrite(p, lambda t: t.update({"\x1b[2J\nerror: x": np.zeros(1, np.float32)})),
        r"tensor \x1b[2J\nerror: x does not belong to the network",
    ),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_more_than_the_file_can_be_is_one_line_at_once(file, case):
    ask, expected = TOO_MUCH[case]
    ask(file)
    began = time.process_time()
    with pytest.raises(UserError) as raised:
        load_pretrained(file)
    message = str(raised.value)
    assert message.startswith(f"{file}: ") and expected in message
    assert "\n" not in message and "\x1b" not in message and len(message) < 1000
    assert time.process_time() - began < 5


def test_a_sparse_file_is_refused_by_its_header(tmp_path):
    """A network of 1.5 billion numbers, which its metadata name rightly: 6 GB that take no room."""
    path, filters = tmp_path / "a.safetensors", 6000
    shapes = param_shapes(create_model(CONFIG | dict(filters=filters)))
    header, end = {"__metadata__": {"model": json.dumps(CONFIG | dict(filters=filters))}}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)
    assert path.stat().st_size > 5e9
    for read in (load_pretrained, functools.partial(start_from, params_like())):
        with pytest.raises(UserError, match="bytes of tensors, where weights have at most 268,435,456"):
            read(path)


def test_a_network_of_the_callers_own_may_be_as_large_as_it_is(tmp_path, monkeypatch):
    path, params = tmp_path / "a.safetensors", params_like()
    save_weights(path, CONFIG, params)
    monkeypatch.setattr(tensors, "MAX_TENSORS", 3)
    with pytest.raises(UserError, match="15 tensors, where weights have at most 3"):
        load_pretrained(path)
    assert_same_bits(load_pretrained(path, module=create_model(CONFIG))[1], params)


def test_float16_and_float64_become_float32(file):
    rewrite(file, lambda t: t.update({"head.bias": t["head.bias"].astype(np.float16)}))
    rewrite(file, lambda t: t.update({"tail.bias": t["tail.bias"].astype(np.float64)}))
    assert {leaf.dtype for leaf in jax.tree.leaves(load_pretrained(file)[1])} == {np.dtype("float32")}
