"""Small networks of ours, their weight files, and ONNX Runtime to run them."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.numpy_wdsr import random_params
from wdsr_jax.models import create_model
from wdsr_jax.weights.store import save_weights

CONFIG = dict(name="wdsr_a", scale=2, filters=4, blocks=1, expansion=2)
TINY = dict(filters=5, blocks=2, expansion=2, res_scale=0.3)


def params_like(seed=0, **fields):
    """Random parameters of the network of CONFIG and `fields`."""
    module = create_model(CONFIG | fields)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)


def network(**config):
    """A network of TINY and its random parameters."""
    module = create_model(TINY | config)
    return module, random_params(module)


def noise(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def run_onnx(model, lr):
    """The output for (B, H, W, 3), as (B, H', W', C)."""
    import onnxruntime

    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (sr,) = session.run(["sr"], {"lr": lr.transpose(0, 3, 1, 2)})
    return sr.transpose(0, 2, 3, 1)


def write_weights(folder):
    """A weights file, one with NaN, one that is none, and a workdir."""
    config = TINY | dict(name="wdsr_a", scale=2)
    _, params = network(**config)
    (folder / "run").mkdir()
    save_weights(folder / "a.b.safetensors", config, params)
    save_weights(folder / "run/model.safetensors", config, params)
    save_weights(folder / "nan.safetensors", config, jax.tree.map(lambda x: np.full_like(x, np.nan), params))
    (folder / "text.safetensors").write_text("weights")
