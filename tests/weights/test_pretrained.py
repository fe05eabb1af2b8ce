"""Each shipped file gives its stated PSNR on a photograph that no training has seen."""

from fractions import Fraction

import jax
import pytest

import wdsr_jax
from wdsr_jax.data.sample import sample_files
from wdsr_jax.image.files import read_image

# PSNR-Y on chelsea.png, measured when the weights were added; and on a part of it, (y, x, side), with an eye.
STATED = {"wdsr-a-16-x2": 37.224, "wdsr-a-16-x3": 33.998, "wdsr-a-16-x4": 32.442}
PART = (84, 120, 72)
OF_PART = {"wdsr-a-16-x2": 37.299, "wdsr-a-16-x3": 33.959, "wdsr-a-16-x4": 32.044}

pytestmark = pytest.mark.usefixtures("compile_cache")


def test_tables_are_complete():
    assert sorted(STATED) == sorted(OF_PART) == wdsr_jax.list_pretrained()


def psnr(name, hr):
    model, params = wdsr_jax.load_pretrained(name)
    assert name.endswith(f"-x{model.scale}")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    height, width = (side // model.scale * model.scale for side in hr.shape[:2])
    hr = hr[:height, :width]
    sr = wdsr_jax.upscale(model, params, wdsr_jax.imresize(hr, Fraction(1, model.scale)))
    return wdsr_jax.psnr(sr, hr, scale=model.scale)


def chelsea():
    return read_image(next(path for path in sample_files()[1] if path.stem == "chelsea"))


@pytest.mark.parametrize(
    "name", [name if name.endswith("x4") else pytest.param(name, marks=pytest.mark.ci) for name in OF_PART]
)
def test_psnr_of_a_part(name):
    y, x, side = PART
    assert psnr(name, chelsea()[y : y + side, x : x + side]) == pytest.approx(OF_PART[name], abs=0.005)


@pytest.mark.ci
@pytest.mark.parametrize("name", STATED)
def test_stated_psnr(name):
    assert psnr(name, chelsea()) == pytest.approx(STATED[name], abs=0.005)
