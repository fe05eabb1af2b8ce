"""ONNX graphs: parts of other networks, what has no translation, and no node too many."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights.networks import noise, run_onnx
from wdsr_jax.errors import UserError
from wdsr_jax.models.layers import pixel_shuffle

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")
from wdsr_jax.inference.onnx_graph import onnx_model

SIZES = [(1, 1, 1), (3, 5, 7)]  # of LR: batch, height, width

pytestmark = pytest.mark.usefixtures("compile_cache")


class Strided(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), strides=2)(x)  # "SAME": its padding depends on the image's size
        x = nn.Conv(4, (3, 3), strides=2, padding=[(1, 1), (0, 2)], use_bias=False)(x)
        return nn.Conv(6, (3, 3), kernel_dilation=2, feature_group_count=2)(x)


class Transposed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.ConvTranspose(4, (4, 4), strides=(2, 2))(x)
        x = nn.ConvTranspose(5, (3, 2), strides=(3, 2), padding="VALID")(x)
        return 0.3 * nn.ConvTranspose(3, (6, 6), strides=(2, 2), transpose_kernel=True)(x) - 0.1


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3))(x)
        y = jnp.concatenate([x, nn.relu(nn.Conv(2, (3, 3))(x))], axis=-1)  # RDN
        y = nn.Conv(4, (1, 1))(y)
        squeezed = nn.relu(nn.Conv(2, (1, 1))(y.mean((1, 2), keepdims=True)))
        return x + y * nn.sigmoid(nn.Conv(4, (1, 1))(squeezed))  # RCAN


class Activations(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(12, (3, 3))(x))
        x = nn.PReLU()(pixel_shuffle(x, 2))
        x = nn.leaky_relu(nn.Conv(27, (3, 3))(x), 0.2)
        x = nn.gelu(pixel_shuffle(x, 3))
        x = x + x.mean((1, 2, 3), keepdims=True)
        return jnp.clip(nn.silu(x), -0.1, 0.7) * jnp.where(x > 0.2, x, 0.0) - jnp.tanh(1 - x)


class Moved(nn.Module):
    """Axes elsewhere and those of length 1: neither costs a node."""

    @nn.compact
    def __call__(self, x):
        y = jnp.transpose(x, (3, 0, 1, 2)) * jnp.arange(3.0)[:, None, None, None]  # (3, B, H, W)
        y = nn.relu(jnp.transpose(y - 1, (1, 2, 3, 0)))
        brightness = y.sum(-1)[..., None]  # (B, H, W, 1)
        return jnp.sqrt(jnp.abs(y)) / (1 + brightness**2)


class Twice(nn.Module):
    """A convolution that is used before and after what could be folded into it."""

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(3, (3, 3))(x)
        z = 2 * y
        return z * y + jax.jit(lambda y: (3 * y) * y)(y) + nn.Conv(3, (1, 1))(z)


@pytest.mark.parametrize("network", [Strided, Transposed, Attention, Activations, Moved, Twice])
def test_the_parts_of_other_networks_have_a_translation(network):
    module, rng = network(), np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), noise(1, 8, 8, 3))
    variables = jax.tree.map(lambda leaf: rng.uniform(-0.5, 0.9, leaf.shape).astype(np.float32), shapes)
    variables = jax.tree.map_with_path(lambda path, x: abs(x) if "var" in str(path) else x, variables)
    apply = jax.jit(lambda lr: module.apply(variables, lr))
    model = onnx_model(apply, "parts", {})
    assert not {"Transpose", "Reshape"} & {node.op_type for node in model.graph.node}
    assert sum(node.op_type == "Conv" for node in model.graph.node) <= 5
    for size in SIZES:
        lr = noise(*size, 3)
        expected = np.asarray(apply(lr))
        np.testing.assert_allclose(run_onnx(model, lr), expected, atol=2e-5 * abs(expected).max(), rtol=0)


class Sorting(nn.Module):
    scale = 1

    @nn.compact
    def __call__(self, x):
        return Sorter(name="sorter")(nn.Conv(3, (1, 1))(x))


class Sorter(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sort(x, axis=-1)


def conv(x, kernel, layout="NHWC"):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=(layout, "HWIO", layout))


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: x.reshape(x.shape[0], -1), "the network does .reshape."),
        (lambda x: x.reshape(*x.shape[:2], -1, 3, 1, 1), "the network does .reshape."),
        (lambda x: pixel_shuffle(jnp.concatenate([x] * 4, axis=-1), 2).reshape(-1), "does .reshape."),
        (lambda x: x * x.shape[1], "the network does .mul."),
        (lambda x: x.transpose(0, 1, 3, 2) + x.sum((1, 2, 3), keepdims=True), "does .add."),
        (lambda x: jnp.concatenate([jnp.ones((1, 1, 1, 3)), x.sum((0, 1, 2), keepdims=True)]), "concatenate"),
        (lambda x: conv(x, x.mean() * jnp.ones((3, 3, 3, 3))), "does .mul."),
        (lambda x: conv(jnp.ones((1, 8, 8, 3)), x.sum((0, 1, 2))[None, None, :, None]), "does .conv_gen"),
        (lambda x: conv(x, jnp.ones((3, 3, 3, 3)), "WNHC"), "does .conv_general_dilated."),
        (lambda x: jax.lax.pad(x, 0.0, [(0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)]), "does .pad."),
        (lambda x: (x > 0).astype(jnp.float32), "does .convert_element_type."),
        (lambda x: x * jnp.ones_like(x).sum(), "the network does .reduce_sum."),
        (lambda x: jnp.ones_like(x) * 2, "the network does .mul."),
        (lambda x: x.sum(-1), r"no \(B, H, W, C\) made from its input"),
        (lambda x: x.transpose(0, 3, 1, 2), r"no \(B, H, W, C\) made from its input"),
        (lambda x: jnp.ones((1, 2, 3, 3)), r"no \(B, H, W, C\) made from its input"),
    ],
)
def test_what_has_no_translation_is_named(function, message):
    with pytest.raises(UserError, match=message) as caught:
        onnx_model(function, "parts", {})
    assert "\n" not in str(caught.value)


def test_the_module_that_has_no_translation_is_named():
    module = Sorting()
    shapes = jax.eval_shape(module.init, jax.random.key(0), noise(1, 3, 3, 3))
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    with pytest.raises(UserError, match=r"no ONNX for what sorter does \(sort\)"):
        onnx_model(lambda lr: module.apply(variables, lr), "parts", {})
