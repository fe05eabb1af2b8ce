"""Each shipped file gives its stated PSNR on a photograph that no training has seen."""

from fractions import Fraction

import jax
import pytest

import wdsr_jax
from wdsr_jax.data.sample import sample_files
from wdsr_jax.image.files import read_image

# PSNR-Y on chelsea.png, measured when the weights were added.
STATED = {"wdsr-a-16-x2": 37.224, "wdsr-a-16-x3": 33.998, "wdsr-a-16-x4": 32.442}


def test_table_is_complete():
    assert sorted(STATED) == wdsr_jax.list_pretrained()


@pytest.mark.parametrize("name", STATED)
def test_stated_psnr(name):
    model, params = wdsr_jax.load_pretrained(name)
    assert name.endswith(f"-x{model.scale}")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    chelsea = read_image(next(path for path in sample_files()[1] if path.stem == "chelsea"))
    height, width = (side // model.scale * model.scale for side in chelsea.shape[:2])
    hr = chelsea[:height, :width]
    lr = wdsr_jax.imresize(hr, Fraction(1, model.scale))
    sr = wdsr_jax.upscale(model, params, lr)
    assert wdsr_jax.psnr(sr, hr, scale=model.scale) == pytest.approx(STATED[name], abs=0.005)
