"""EDRN: counts, edges, one size, no tiles, and in the commands.

Its forward pass is compared with PyTorch in test_parity_family.
"""

import functools
import json
import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.models.networks import TINY, apply, conv, noise, tiny, weight_normed
from tests.numpy_wdsr import random_params
from wdsr_jax import evaluate
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import super_resolve
from wdsr_jax.evaluation.examples import Example
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.metrics import psnr
from wdsr_jax.image.pixels import dihedral, to_float, to_uint8, undo_dihedral
from wdsr_jax.inference.network import fold_for_inference
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.models import cost, create_model, has_batch_norm
from wdsr_jax.photo import command as upscale_command
from wdsr_jax.training import step as steps
from wdsr_jax.training.losses import l2
from wdsr_jax.training.optim import create_optimizer
from wdsr_jax.weights.store import load_pretrained, save_weights


def edrn_by_hand():
    def level(f, groups):
        attention = weight_normed(1, f, f // 16) + weight_normed(1, f // 16, f)
        block = 2 * weight_normed(3, f, f) + attention
        return groups * (10 * block + weight_normed(3, f, f)) + weight_normed(3, f, f)

    def deconv(inputs, outputs):  # PyTorch's g of a transposed convolution is of each input channel
        return conv(3, inputs, outputs) + inputs

    ends = weight_normed(3, 3, 64) + weight_normed(3, 64, 3)
    encoders = weight_normed(3, 64, 128) + weight_normed(3, 128, 256)
    batch_norms = 2 * (128 + 256 + 128 + 64)
    decoders = deconv(256, 128) + deconv(128, 64)
    return ends + encoders + decoders + batch_norms + level(256, 4) + level(128, 2) + level(64, 1)


def test_number_of_trainable_scalars():
    module = create_model(dict(name="edrn", scale=1))
    assert cost.parameters(module) == edrn_by_hand()  # `count_params` of the shapes


@pytest.mark.ci
def test_edrn_works_at_any_size_and_repeats_the_edge():
    module = tiny("edrn", 1)
    params = random_params(module)
    for h, w in [(1, 1), (5, 6)]:
        lr = noise(2, h, w, 3)
        sr = apply(module, params, lr)
        assert sr.shape == lr.shape and np.isfinite(sr).all()
        padding = ((0, 0), (0, -h % 4), (0, -w % 4), (0, 0))
        whole = apply(module, params, np.pad(lr, padding, mode="edge"))
        np.testing.assert_allclose(sr, whole[:, :h, :w], atol=1e-6)


def test_edrn_sees_the_whole_image():
    module = tiny("edrn", 1, filters=16)
    params, lr = random_params(module), noise(1, 64, 64, 3)
    far = lr.copy()
    far[0, 56:, 56:] += 5  # convolutions alone reach some 40 pixels
    first, other = (apply(module, params, image)[0, 0, 0] for image in (lr, far))
    assert np.abs(first - other).max() > 1e-7
    assert module.radius is None
    assert cost.receptive_fields(module) == {}


@pytest.mark.ci
def test_edrn_upscales_images_whole():
    module = tiny("edrn", 1)
    params, lr, done = random_params(module), noise(6, 9, 3), []
    sr = upscale(module, params, lr, on_pixels=done.append)
    np.testing.assert_allclose(sr, apply(module, params, lr[None])[0], atol=1e-5)
    assert sum(done) == 6 * 9
    expected = np.mean(
        [undo_dihedral(np.asarray(apply(module, params, dihedral(lr, t)[None])[0]), t) for t in range(8)],
        axis=0,
    )
    np.testing.assert_allclose(upscale(module, params, lr, ensemble=True), expected, atol=1e-5)


def test_edrn_refuses_tiles_and_what_does_not_fit(monkeypatch):
    module = tiny("edrn", 1)
    params, lr = random_params(module), noise(8, 8, 3)
    with pytest.raises(ValueError, match="means over the whole image: it cannot work in tiles"):
        upscale(module, params, lr, tile=64)
    monkeypatch.setattr("wdsr_jax.inference.tiles.device_memory", lambda: 1000)
    with pytest.raises(
        UserError, match=r"an image of 8 x 8 pixels needs .* GB .*cannot work in tiles: make it"
    ):
        upscale(module, params, lr)


def test_edrn_is_measured_at_the_size_of_each_image():
    module = tiny("edrn", 1)
    params, rng = random_params(module), np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in [(6, 9), (4, 4), (6, 9)]]
    examples = [Example(str(i), im.shape[:2], lambda im=im: (im, im)) for i, im in enumerate(images)]
    results = {i: sr for i, _, _, sr in super_resolve(module, params, examples)}
    assert sorted(results) == [0, 1, 2]
    for i, image in enumerate(images):
        expected = to_uint8(np.asarray(apply(module, params, to_float(image)[None])[0]))
        assert np.abs(results[i].astype(int) - expected).max() <= 1


@pytest.mark.ci
def test_edrn_trains_batch_norm_and_weight_norm():
    module = tiny("edrn", 1)
    assert has_batch_norm(module) and not has_batch_norm(fold_for_inference(module, random_params(module))[0])
    optimizer = create_optimizer(lambda _: 1e-3)
    state = steps.create_state(random_params(module), optimizer, ema=False)
    rng = np.random.default_rng(0)
    batch = {key: rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8) for key in ("lr", "hr")}
    options = dict(module=module, optimizer=optimizer, loss=l2, seed=0)
    step = jax.jit(functools.partial(steps.train_step, **options))
    after, before = (flatten_dict(s.params, sep=".") for s in (step(state, batch)[0], state))
    assert {name.split(".")[-1] for name in before} == {"kernel", "scale", "bias", "mean", "var"}
    still = [name for name, leaf in before.items() if np.array_equal(leaf, after[name])]
    # What may be still: the bias before a batch norm, and attention whose only hidden channel is negative.
    assert all(re.match(r"(en|de)coder_\d\.|.*attention", name) for name in still), still
    for name in ("encoder_0_norm", "encoder_1_norm", "decoder_0_norm", "decoder_1_norm"):
        assert not {f"{name}.{leaf}" for leaf in ("scale", "bias", "mean", "var")} & set(still)


@pytest.fixture
def real(tmp_path, monkeypatch):
    """A folder with HR and LR of one size, beside weights of an EDRN; commands run there."""
    rng = np.random.default_rng(0)
    for kind in ("HR", "LR"):
        (tmp_path / "real" / kind).mkdir(parents=True)
        for name, size in {"a": (24, 17), "b": (19, 24)}.items():
            write_image(
                tmp_path / f"real/{kind}/{name}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            )
    fields = TINY | dict(name="edrn", scale=1)
    save_weights(tmp_path / "edrn.safetensors", fields, random_params(create_model(fields)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.ci
def test_edrn_is_measured_on_pairs_of_one_size(real, monkeypatch):
    command = "evaluate --model=edrn.safetensors --scale=1 --out=o.json real"
    monkeypatch.setattr("sys.argv", command.split())
    evaluate.main()
    result = json.loads((real / "o.json").read_text())["real"]
    assert [image["name"] for image in result["images"]] == ["a", "b"]
    module, params = load_pretrained("edrn.safetensors")
    for image in result["images"]:
        lr, hr = (read_image(f"real/{kind}/{image['name']}.png") for kind in ("LR", "HR"))
        assert image["bicubic"]["psnr_y"] == pytest.approx(psnr(lr, hr, scale=1))
        sr = upscale(module, params, lr)
        assert image["model"]["psnr_y"] == pytest.approx(psnr(sr, hr, scale=1), abs=1e-2)


def test_edrn_enlarges_by_1_and_not_in_tiles(real, monkeypatch):
    command = "upscale real/LR/a.png --out=out.png --scale=1 --model=edrn.safetensors"
    monkeypatch.setattr("sys.argv", command.split())
    assert upscale_command.main() == 0
    sr = upscale(*load_pretrained("edrn.safetensors"), read_image("real/LR/a.png"))
    np.testing.assert_array_equal(read_image("out.png"), sr)
    for option, message in {
        "--tile=64": "--tile=64: this network takes means over the whole image, so it cannot work in tiles",
        "--consistent": "real/LR/a.png: --consistent at scale 1 would give the input back; leave it out",
    }.items():
        monkeypatch.setattr("sys.argv", [*command.split(), "--overwrite", option])
        with pytest.raises(UserError) as raised:
            upscale_command.main()
        assert str(raised.value) == message


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(scale=2), "model.scale must be 1 for edrn, whose LR and HR have one size, not 2"),
        (dict(scale=1, norm="batch"), "model.norm must be weight or none for edrn"),
    ],
)
def test_what_cannot_work_is_named(fields, message):
    with pytest.raises(UserError) as raised:
        create_model(dict(name="edrn") | fields)
    assert str(raised.value).startswith(message)
