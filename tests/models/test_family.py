"""SRCNN, SRResNet, RDN, EDRN and EDSR's deconvolution: counts, norms, edges, tiles and what is refused.

Their forward passes are compared with PyTorch in test_parity_family.
"""

import functools
import json
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.numpy_wdsr import random_params
from wdsr_jax import evaluate
from wdsr_jax.data.dataset import Images, dataset_from_images
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import super_resolve
from wdsr_jax.evaluation.examples import Example
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.metrics import psnr
from wdsr_jax.image.pixels import dihedral, to_float, to_uint8, undo_dihedral
from wdsr_jax.image.resize import imresize
from wdsr_jax.inference.network import apply_padded, fold_for_inference
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.models import cost, create_model, fold_weight_norm, has_batch_norm
from wdsr_jax.models.resampling import Bicubic
from wdsr_jax.photo import command as upscale_command
from wdsr_jax.training import step as steps
from wdsr_jax.training.losses import l2
from wdsr_jax.training.optim import create_optimizer
from wdsr_jax.weights.exports import to_stablehlo
from wdsr_jax.weights.store import load_pretrained, save_weights, start_from

pytestmark = pytest.mark.usefixtures("compile_cache")

LR = jnp.zeros((1, 8, 8, 3))
TINY = dict(filters=4, blocks=1, layers=2, growth=3)
LOCAL = ["srcnn_915", "srcnn_955", "srresnet", "rdn", "deconvolution"]
apply = jax.jit(lambda module, params, lr: module.apply({"params": params}, lr), static_argnums=0)
padded = jax.jit(apply_padded, static_argnums=0)


def model(name, scale=2, **fields):
    if name == "deconvolution":
        fields = dict(name="edsr", norm="none", upsampler="deconvolution") | fields
    module = create_model(TINY | dict(name=name, scale=scale) | fields)
    # One group: what it is compiled of is less, and each level has its closing convolution anyhow.
    return module.clone(groups=(1, 0, 0)) if name == "edrn" else module


def noise(*shape, seed=1):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def conv(size, inputs, outputs):
    return size * size * inputs * outputs + outputs


def weight_normed(size, inputs, outputs):
    return conv(size, inputs, outputs) + outputs


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


def rdn_by_hand(scale, blocks, layers, growth):
    dense = sum(conv(3, 64 + c * growth, growth) for c in range(layers)) + conv(1, 64 + layers * growth, 64)
    up = {2: conv(3, 64, 256), 3: conv(3, 64, 576), 4: 2 * conv(3, 64, 256)}[scale]
    ends = conv(3, 3, 64) + conv(3, 64, 64) + conv(3, 64, 3)
    return ends + blocks * dense + conv(1, blocks * 64, 64) + conv(3, 64, 64) + up


def srresnet_by_hand(stages):
    normed = 9 * 64 * 64 + 2 * 64  # gamma, and beta in the place of the bias
    ends = conv(9, 3, 64) + 1 + conv(9, 64, 3)
    return ends + 16 * (2 * normed + 1) + normed + stages * (conv(3, 64, 256) + 1)


@pytest.mark.parametrize(
    "fields, count",
    [
        (dict(name="srcnn_915", scale=3), conv(9, 3, 64) + conv(1, 64, 32) + conv(5, 32, 3)),
        (dict(name="srcnn_915", scale=2), 20_099),
        (dict(name="srcnn_955", scale=3), conv(9, 3, 64) + conv(5, 64, 32) + conv(5, 32, 3)),
        (dict(name="srcnn_955", scale=4), 69_251),
        (dict(name="srresnet", scale=4), srresnet_by_hand(2)),
        (dict(name="srresnet", scale=4), 1_547_350),
        (dict(name="srresnet", scale=2), srresnet_by_hand(1)),
        (dict(name="srresnet", scale=8), srresnet_by_hand(3)),
        (dict(name="rdn", scale=2), 22_123_395),  # what the models of EDSR-PyTorch have
        (dict(name="rdn", scale=3), rdn_by_hand(3, 16, 8, 64)),
        (dict(name="rdn", scale=4), rdn_by_hand(4, 16, 8, 64)),
        (dict(name="rdn", scale=2, blocks=20, layers=6, growth=32), rdn_by_hand(2, 20, 6, 32)),
        (dict(name="edrn", scale=1), edrn_by_hand()),
        # A 3x3 of f to f channels instead of one of f to 4 f, for each doubling.
        (dict(name="edsr", scale=2, norm="none", upsampler="deconvolution"), 1_369_859 - 3 * conv(3, 64, 64)),
        (dict(name="edsr", scale=4, norm="none", upsampler="deconvolution"), 1_517_571 - 6 * conv(3, 64, 64)),
    ],
)
def test_number_of_trainable_scalars(fields, count):
    assert cost.parameters(create_model(fields)) == count  # `count_params` of the shapes


def test_srcnn_of_one_channel_has_the_weights_that_the_paper_counts():
    """8,032 and 57,184 (section 4.3.2) are of kernels alone, and of luma."""
    for name, count in (("srcnn_915", 8_032), ("srcnn_955", 57_184)):
        module = create_model(dict(name=name, scale=3))
        params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
        kernels = {layer: np.prod(leaves["kernel"].shape) for layer, leaves in params.items()}
        assert kernels["extract"] / 3 + kernels["map"] + kernels["reconstruct"] / 3 == count


def test_initial_parameters():
    params = jax.jit(create_model(dict(name="srcnn_955", scale=2, filters=32)).init)(jax.random.key(0), LR)
    params = params["params"]
    for layer in params.values():
        assert np.std(layer["kernel"]) == pytest.approx(1e-3, rel=0.05)
        assert not np.any(layer["bias"])
    params = jax.jit(model("srresnet").init)(jax.random.key(0), LR)["params"]
    slopes = [leaf for name, leaf in flatten_dict(params, sep=".").items() if name.endswith("slope")]
    assert len(slopes) == 3  # head, block, upsampler
    assert all(leaf.shape == (1,) and leaf[0] == 0.25 for leaf in slopes)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (6, 5)])
def test_what_srcnn_starts_from_is_imresize(scale, size):
    lr = noise(2, *size, 3)
    enlarged = Bicubic(scale).apply({}, lr)
    for image, expected in zip(enlarged, lr, strict=True):
        np.testing.assert_allclose(image, imresize(expected, scale), atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "weight", "none"])
@pytest.mark.parametrize("name", ["srresnet", "deconvolution", "edrn"])
def test_folding_changes_no_output(name, norm):
    if name == "edrn" and norm == "batch":
        return
    module = model(name, scale=1 if name == "edrn" else 2, norm=norm)
    params, lr = random_params(module), noise(2, 8, 7, 3)
    plain, folded = fold_for_inference(module, params)
    leaves = {leaf.split(".")[-1] for leaf in flatten_dict(folded, sep=".")}
    assert leaves - {"slope"} == {"kernel", "bias"} | ({"scale"} if name == "edrn" else set())
    expected = apply(module, params, lr)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(apply(plain, folded, lr), expected, atol=1e-5, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, fold_weight_norm(folded), folded)


@pytest.mark.parametrize("size, tile", [((40, 9), 1), ((23, 37), 4), ((1, 30), 2)])
@pytest.mark.parametrize("name", LOCAL)
def test_tiles_equal_the_whole_image(name, size, tile):
    module = model(name)
    params, lr = random_params(module), noise(*size, 3)
    sr = upscale(module, params, lr, tile=2 * module.radius + tile)
    np.testing.assert_allclose(sr, apply(module, params, lr[None])[0], atol=1e-5)


@pytest.mark.parametrize("name", LOCAL)
def test_each_padded_image_equals_apply_alone(name):
    module = model(name, scale=3)
    params, lr = random_params(module), np.full((2, 9, 8, 3), 1e3, np.float32)
    sizes = np.array([(4, 8), (1, 3)])
    for i, (h, w) in enumerate(sizes):
        lr[i, :h, :w] = noise(h, w, 3, seed=i)
    sr = padded(module, params, lr, sizes)
    for i, (h, w) in enumerate(sizes):
        expected = apply(module, params, lr[i : i + 1, :h, :w])[0]
        np.testing.assert_allclose(sr[i, : 3 * h, : 3 * w], expected, atol=1e-5)


# --- EDRN: no tiles, one size ---------------------------------------------------------------------


@pytest.mark.ci
def test_edrn_works_at_any_size_and_repeats_the_edge():
    module = model("edrn", 1)
    params = random_params(module)
    for h, w in [(1, 1), (5, 6)]:
        lr = noise(2, h, w, 3)
        sr = apply(module, params, lr)
        assert sr.shape == lr.shape and np.isfinite(sr).all()
        padding = ((0, 0), (0, -h % 4), (0, -w % 4), (0, 0))
        whole = apply(module, params, np.pad(lr, padding, mode="edge"))
        np.testing.assert_allclose(sr, whole[:, :h, :w], atol=1e-6)


def test_edrn_sees_the_whole_image():
    module = model("edrn", 1, filters=16)
    params, lr = random_params(module), noise(1, 64, 64, 3)
    far = lr.copy()
    far[0, 56:, 56:] += 5  # convolutions alone reach some 40 pixels
    first, other = (apply(module, params, image)[0, 0, 0] for image in (lr, far))
    assert np.abs(first - other).max() > 1e-7
    assert module.radius is None
    assert cost.receptive_fields(module) == {}


@pytest.mark.ci
def test_edrn_upscales_images_whole():
    module = model("edrn", 1)
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
    module = model("edrn", 1)
    params, lr = random_params(module), noise(8, 8, 3)
    with pytest.raises(ValueError, match="means over the whole image: it cannot work in tiles"):
        upscale(module, params, lr, tile=64)
    monkeypatch.setattr("wdsr_jax.inference.tiles.device_memory", lambda: 1000)
    with pytest.raises(
        UserError, match=r"an image of 8 x 8 pixels needs .* GB .*cannot work in tiles: make it"
    ):
        upscale(module, params, lr)


def test_edrn_is_measured_at_the_size_of_each_image():
    module = model("edrn", 1)
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
    module = model("edrn", 1)
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


@pytest.mark.parametrize("name", [*LOCAL, "edrn"])
def test_weights_come_back(name, tmp_path):
    fields = TINY | dict(name=name, scale=1 if name == "edrn" else 3)
    if name == "deconvolution":
        fields |= dict(name="edsr", upsampler=name)
    module = create_model(fields)
    params = random_params(module)
    save_weights(tmp_path / "a.safetensors", fields, params)
    loaded, again = load_pretrained(tmp_path / "a.safetensors")
    assert loaded == module
    jax.tree.map(np.testing.assert_array_equal, again, params)
    fresh = jax.tree.map(np.zeros_like, params)
    jax.tree.map(np.testing.assert_array_equal, start_from(fresh, tmp_path / "a.safetensors"), params)


def test_fine_tuning_takes_slopes_along(tmp_path):
    params = random_params(model("srresnet", 2))
    save_weights(tmp_path / "a.safetensors", TINY | dict(name="srresnet", scale=2, norm="batch"), params)
    fresh = random_params(model("srresnet", 4), seed=1)
    started = start_from(fresh, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(started["head_prelu"]["slope"], params["head_prelu"]["slope"])
    assert fresh["head_prelu"]["slope"] != params["head_prelu"]["slope"]
    assert started["up_1_prelu"]["slope"] == fresh["up_1_prelu"]["slope"]  # of a stage that x2 has not


@pytest.mark.parametrize(
    "name",
    [*LOCAL[1:], pytest.param("edrn", marks=pytest.mark.ci)],  # both SRCNNs are one class
)
def test_stablehlo_computes_the_same(name):
    module = model(name, 1 if name == "edrn" else 2)
    params, lr = random_params(module), noise(1, 5, 3, 3)
    network = jax.export.deserialize(to_stablehlo(module, params, "n"))
    np.testing.assert_allclose(network.call(lr), apply(module, params, lr), atol=2e-5)


# --- costs ----------------------------------------------------------------------------------------


def test_multiply_adds_of_layers_that_change_the_resolution():
    found = {layer.name: layer for layer in cost.layers(model("edrn", 1, filters=64))}
    pixels = 1280 * 720
    assert found["head"].multiply_adds == 27 * 64 * pixels
    assert found["encoder_0"].multiply_adds == 9 * 64 * 128 * pixels / 4  # once a pixel of its output
    assert found["encoder_0"].activations == 128 * pixels / 4
    assert found["decoder_1"].multiply_adds == 9 * 128 * 64 * pixels / 4  # once a pixel of its input
    assert found["decoder_1"].activations == 64 * pixels
    assert found["level_0_group_0.block_0.attention.squeeze"].multiply_adds == 256 * 16
    assert cost.multiply_adds(model("srcnn_915", 3, filters=64)) == 20_000 * pixels


@pytest.mark.parametrize("name", ["srcnn_955", "srresnet", "rdn"])
def test_receptive_fields_end_at_the_radius(name):
    module = model(name, 2)
    fields = cost.receptive_fields(module)
    assert list(fields.values())[-1] == 2 * module.radius + 1
    assert list(fields) == [layer.name for layer in cost.layers(module)]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(name="edrn", scale=2), "model.scale must be 1 for edrn, whose LR and HR have one size, not 2"),
        (dict(name="edrn", scale=1, norm="batch"), "model.norm must be weight or none for edrn"),
        (dict(name="rdn", scale=2, growth=0), "model.growth must be a whole number and at least 1, not 0"),
        (dict(name="srcnn_915", scale=2, filters=1), "model.filters must be at least 2 for srcnn_915, not 1"),
        (
            dict(name="edsr", scale=2, upsampler="bilinear"),
            "model.upsampler must be one of pixel_shuffle, deconvolution, not 'bilinear'",
        ),
    ],
)
def test_what_cannot_work_is_named(fields, message):
    with pytest.raises(UserError) as raised:
        create_model(fields)
    assert str(raised.value).startswith(message)


def test_at_scale_1_lr_is_not_made_from_hr(tmp_path):
    hr = Images(["a"], lambda i: np.zeros((8, 8, 3), np.uint8), "fingerprint")
    with pytest.raises(UserError, match="at scale 1 LR cannot be made from HR: name a folder that has both"):
        dataset_from_images(hr, None, None, 1, tmp_path)
    assert dataset_from_images(hr, hr, None, 1, tmp_path)[0][0].shape == (8, 8, 3)


# --- the commands ---------------------------------------------------------------------------------


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
