"""`--samples`: a folder of images, a page and a map; what it refuses."""

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.numpy_wdsr import random_params
from tests.photo.samples import photo_file
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.image.resize import imresize
from wdsr_jax.models import create_model
from wdsr_jax.photo.samples import WHITE, deviation
from wdsr_jax.weights.store import save_weights


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """Weights of a tiny x2 network with a space."""
    fields = dict(name="wdsr_flow", scale=2, filters=4, blocks=1, expansion=2, flow_filters=4, flow_blocks=1)
    path = tmp_path_factory.mktemp("space") / "space.safetensors"
    params = random_params(create_model(fields))
    for layer in (params["base"]["tail"], params["base"]["skip"], params["field"]["tail"]):
        layer["scale"] *= 0.05  # or samples would leave [0, 255]
    save_weights(path, fields, params)
    return path


def test_deviation_is_that_of_numpy():
    images = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), np.uint8)
    np.testing.assert_allclose(deviation(images), images.mean(axis=3).std(axis=0, ddof=1), rtol=1e-4)


def test_each_sample_downscales_to_the_photograph(upscale, space, caplog):
    smooth = imresize(np.random.default_rng(1).integers(90, 160, (9, 8, 3), np.uint8), 3)
    Image.fromarray(smooth).save("a.png")
    assert upscale("a.png", "--samples=3", "--temperature=1", model=space)[0] == 0
    folder = Path("a_x2")
    assert {path.name for path in folder.iterdir()} >= {
        "1.png",
        "2.png",
        "3.png",
        "spread.png",
        "compare.html",
    }
    samples = np.stack([read_image(folder / f"{i}.png") for i in (1, 2, 3)])
    for sample in samples:
        small = imresize(sample, Fraction(1, 2)).astype(float)
        assert np.abs(small - smooth).mean() < 0.6
    assert len({sample.tobytes() for sample in samples}) == 3
    deviation = samples.mean(axis=3).std(axis=0, ddof=1)
    white = np.minimum(255, np.rint(deviation * 255 / WHITE))
    np.testing.assert_allclose(read_image(folder / "spread.png")[..., 0], white, atol=1)
    page = (folder / "compare.html").read_text()
    for label in ("1", "2", "3", "where they differ"):
        assert f'data-label="{label}"' in page

    # The same again: nothing to do. Another seed: other samples.
    assert upscale("a.png", "--samples=3", "--temperature=1", model=space)[1][-1] == "0 enlarged"
    upscale("a.png", "--samples=3", "--temperature=1", "--seed=1", model=space)
    assert not np.array_equal(read_image(folder / "1.png"), samples[0])
    # And of the folder that holds both, the samples are no inputs.
    code, _ = upscale(".", "--samples=2", "--out=out", model=space)
    assert code == 0 and Path("out/a/1.png").exists() and not Path("out/a_x2").exists()


def test_alpha_is_the_same_in_all(upscale, space):
    pixels = np.random.default_rng(2).integers(0, 256, (12, 10, 4), np.uint8)
    Image.fromarray(pixels).save("a.png")
    upscale("a.png", "--samples=2", model=space)
    one, two = (np.asarray(Image.open(f"a_x2/{i}.png")) for i in (1, 2))
    assert np.array_equal(one[..., 3], two[..., 3])
    assert not np.array_equal(one[..., :3], two[..., :3])


@pytest.mark.parametrize(
    "options, message",
    [
        (["--temperature=1"], "--temperature is for --samples=N, which is not there"),
        (["--seed=1"], "--seed is for --samples=N, which is not there"),
        (["--samples=2", "--temperature=-0.1"], "argument --temperature: -0.1 is not from 0 to 10"),
        (["--samples=2", "--temperature=inf"], "argument --temperature: inf is not from 0 to 10"),
        (["--samples=2", "--seed=-1"], "argument --seed: must be a whole number from 0"),
        (["--samples=65"], "--samples=65: at most 64"),
        (["--samples=2", "--ensemble"], "--samples does without --ensemble"),
        (["--samples=2", "--compare=c.html"], "--samples does without --compare"),
        (["--samples=2", "--out=-"], "--samples writes several files: it does not go through pipes"),
        (["--samples=2", "--width=33"], "a.png: --samples is for a scale that a network has, here 2"),
    ],
)
def test_mistakes_are_named(upscale, space, options, message):
    photo_file("a.png", 12, 10)
    with pytest.raises(UserError) as error:
        upscale("a.png", *options, model=space, scale="" if "--width=33" in options else "--scale=2")
    assert str(error.value).startswith(message)
    assert [path.name for path in Path().iterdir()] == ["a.png"]


def test_a_network_without_a_space_is_refused(upscale):
    photo_file("a.png", 12, 10)
    with pytest.raises(UserError, match=r"--samples: .* gives one image alone"):
        upscale("a.png", "--samples=2")


def test_more_than_the_memory_holds_is_refused(upscale, space, monkeypatch):
    from wdsr_jax.photo import batch

    photo_file("a.png", 12, 10)
    monkeypatch.setattr(batch, "host_memory", lambda: 60_000)
    with pytest.raises(UserError, match=r"a.png: 40 times 20 x 24 pixels take .* or fewer samples"):
        upscale("a.png", "--samples=40", model=space)


def test_one_failure_does_not_spoil_the_others(upscale, space, caplog):
    photo_file("in/a.png", 12, 10)
    Path("in/b.png").write_bytes(b"\x89PNG nothing")
    with caplog.at_level(logging.INFO):
        code, lines = upscale("in", "--samples=2", "--out=out", model=space)
    assert code == 1 and Path("out/a/2.png").exists()
    assert any("b.png" in line for line in lines)
