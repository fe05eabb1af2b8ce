"""The scores of a space of answers: by hand, and what they are of samples that are known."""

from fractions import Fraction

import numpy as np
import pytest

from tests.evaluation.sets import network, picture
from tests.numpy_wdsr import random_params
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.examples import Example
from wdsr_jax.evaluation.space import diversity, evaluate_space, space_scores, space_table, squared_error
from wdsr_jax.image.metrics import psnr
from wdsr_jax.image.resize import imresize
from wdsr_jax.models import create_model

RNG = np.random.default_rng(0)


def test_squared_error_is_of_whole_patches():
    sr, hr = (RNG.integers(0, 256, (37, 52, 3), np.uint8) for _ in range(2))
    found = squared_error(sr, hr)
    assert found.shape == (2, 3)
    part = sr[16:32, 32:48].astype(float) - hr[16:32, 32:48]
    assert found[1, 2] == pytest.approx(np.mean(part**2), rel=1e-5)
    small = squared_error(sr[:9, :20], hr[:9, :20])
    assert small.shape == (1, 1)


def test_diversity_by_hand():
    """Two patches; each sample is good in one: best of all 50, best place by place 10."""
    hr = np.zeros((16, 32, 3), np.uint8)
    distances = iter([np.array([[10.0, 90.0]]), np.array([[98.0, 10.0]])])
    assert diversity([hr, hr], hr, lambda sr, hr: next(distances)) == pytest.approx(80)
    assert diversity([hr + 9, hr + 9], hr) == 0
    assert diversity([hr, hr + 9], hr) == 0


def test_scores_of_known_samples():
    hr = picture(64, 48)
    lr = imresize(hr, Fraction(1, 2))
    noisy = np.clip(hr + RNG.normal(0, 6, hr.shape), 0, 255).astype(np.uint8)
    scores = space_scores(lr, hr, [hr, noisy], 2)
    assert scores["psnr_best"] == np.inf
    worst = np.mean((imresize(noisy, Fraction(1, 2)).astype(float) - lr) ** 2)
    assert scores["lr_psnr"] == pytest.approx(10 * np.log10(255**2 / worst))
    mean = np.rint((hr.astype(float) + noisy) / 2).astype(np.uint8)
    assert scores["psnr_mean"] == pytest.approx(psnr(mean, hr, scale=2, protocol="y"))


def flow_network():
    fields = dict(name="wdsr_flow", scale=2, filters=4, blocks=1, expansion=2, flow_filters=4, flow_blocks=1)
    module = create_model(fields)
    params = random_params(module)
    for layer in (params["base"]["tail"], params["base"]["skip"], params["field"]["tail"]):
        layer["scale"] *= 0.05  # or samples would leave [0, 1]
    return module, params


def examples():
    def example(i, size):
        hr = picture(*size, seed=i) // 2 + 64
        lr = imresize(hr, Fraction(1, 2))
        return Example(str(i), lr.shape[:2], lambda: (lr, hr))

    return [example(0, (60, 48)), example(1, (40, 64))]


def test_samples_downscale_to_lr_and_differ():
    module, params = flow_network()
    result = evaluate_space(examples(), 2, module, params, samples=3, temperature=1.0)
    assert [image["name"] for image in result["images"]] == ["0", "1"]
    calm = evaluate_space(examples(), 2, module, params, samples=2, temperature=0.0)
    assert calm["model"]["diversity"] == 0 < result["model"]["diversity"]
    assert min(r["model"]["lr_psnr"] for r in (result, calm)) > 50
    assert result == evaluate_space(examples(), 2, module, params, samples=3, temperature=1.0)
    table = space_table({"pictures": result}, 2)
    assert "best of 3" in table and "pictures" in table


def test_a_network_without_a_space_is_refused():
    with pytest.raises(UserError, match=r"--samples: WDSR gives one image alone"):
        evaluate_space(examples(), 2, *network(), samples=2, temperature=1.0)
