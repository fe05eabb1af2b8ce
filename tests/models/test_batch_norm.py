"""Batch norm: by the batch in training, by its record in inference."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.models.networks import noise
from wdsr_jax.models import create_model, fold_weight_norm
from wdsr_jax.models.batch_norm import BatchNorm
from wdsr_jax.training import step as steps


def test_it_is_the_papers_formula_and_the_record_moves_by_a_tenth():
    """Algorithms 1 and 2, in NumPy."""
    x, gamma, beta, mean, var = noise(3, 4, 5, 2), *(noise(2, seed=seed) + 0.5 for seed in (2, 3, 4, 5))
    params = {"scale": gamma, "bias": beta, "mean": mean, "var": var}
    exact, x = x.astype(np.float64), jnp.asarray(x)
    measured = {"mean": exact.mean((0, 1, 2)), "var": exact.var((0, 1, 2))}
    y, moved = BatchNorm().apply({"params": params}, x, mutable=["batch_stats"])
    expected = gamma * (exact - measured["mean"]) / np.sqrt(measured["var"] + 1e-5) + beta
    np.testing.assert_allclose(y, expected, atol=1e-5)
    for name, value in measured.items():
        np.testing.assert_allclose(moved["batch_stats"][name], 0.9 * params[name] + 0.1 * value, atol=1e-6)
    y = BatchNorm().apply({"params": params}, x)
    np.testing.assert_allclose(y, gamma * (exact - mean) / np.sqrt(var + 1e-5) + beta, atol=1e-5)
    folded = BatchNorm(folded=True).apply({"params": fold_weight_norm(params)}, x)
    np.testing.assert_allclose(folded, y, atol=1e-5)


def test_batch_norm_uses_the_batch_in_training_and_its_record_in_inference():
    module = create_model(dict(name="wdsr_b", scale=2, filters=4, blocks=1, expansion=2, norm="batch"))
    lr = noise(4, 3, 4, 3)
    params = steps.init_params(module, 0)
    train = jax.jit(lambda params: module.apply({"params": params}, lr, mutable=["batch_stats"]))
    infer = jax.jit(lambda params: module.apply({"params": params}, lr))
    trained, measured = train(params)
    assert set(measured) == {"batch_stats"}
    assert not np.allclose(trained, infer(params), atol=1e-3)
    for _ in range(200):  # until the record is that of this batch
        _, measured = train(params)
        params = unflatten_dict(flatten_dict(params) | flatten_dict(measured["batch_stats"]))
    np.testing.assert_allclose(infer(params), trained, atol=1e-5)
    grads = jax.jit(jax.grad(lambda p: module.apply({"params": p}, lr).sum()))(params)
    for name, grad in flatten_dict(grads).items():
        assert np.any(grad) == (name[-1] not in ("mean", "var")), name
