"""The images of a set, and the few shapes that they are padded to."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.evaluation.sets import folder_of, picture, save
from wdsr_jax.data.dataset import dataset_from_files
from wdsr_jax.data.names import find_pairs
from wdsr_jax.evaluation.benchmark import evaluate
from wdsr_jax.evaluation.examples import MAX_SHAPES, examples_of_folder, examples_of_pairs, padded_shapes


def test_a_validation_set_gives_what_its_folder_gives(tmp_path):
    folder = folder_of(tmp_path / "photos", [(41, 50), (30, 33)])
    pairs = dataset_from_files(find_pairs(folder, 2), 2, tmp_path / "cache")
    of_pairs, of_folder = examples_of_pairs(pairs), examples_of_folder(folder, 2)
    assert [(e.name, e.lr_shape) for e in of_pairs] == [(e.name, e.lr_shape) for e in of_folder]
    assert evaluate(of_pairs, 2) == evaluate(of_folder, 2)


def test_images_of_every_kind_are_measured(around):
    grey = picture(channels=1)[..., 0]
    save(Path("kinds/grey.png"), grey)
    save(Path("kinds/grey16.png"), grey.astype(np.uint16) * 257)
    save(Path("kinds/rgb.png"), np.repeat(grey[..., None], 3, axis=-1))
    save(Path("kinds/rgba.png"), np.dstack([grey, grey, grey, 255 - grey]))
    Image.fromarray(grey).convert("P").save("kinds/palette.png")
    result = evaluate(examples_of_folder("kinds", 2), 2)
    assert len(result["images"]) == 5 and "left_out" not in result
    for image in result["images"]:
        assert image["bicubic"] == result["images"][0]["bicubic"]  # the same picture


shapes_of_images = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=12)


@settings(deadline=None)
@given(shapes=shapes_of_images, at_most=st.integers(1, 4))
def test_padded_shapes_hold_every_image_and_are_few(shapes, at_most):
    padded = padded_shapes(shapes, at_most)
    assert len(padded) == len(shapes) and len(set(padded)) <= at_most
    assert all(h <= H and w <= W for (H, W), (h, w) in zip(padded, shapes, strict=True))
    for shape in set(padded):  # no larger than the images in it need
        members = [own for own, target in zip(shapes, padded, strict=True) if target == shape]
        assert shape == (max(h for h, _ in members), max(w for _, w in members))
    if len(set(shapes)) <= at_most:
        assert padded == shapes


def test_padded_shapes_add_few_pixels():
    upright, flat = [(200, 100), (198, 100), (200, 97)], [(100, 200), (99, 199)]
    assert padded_shapes(upright + flat, 2) == [(200, 100)] * 3 + [(100, 200)] * 2
    # Thousands of photographs of any size: still at once, and still few pixels.
    shapes = [tuple(size) for size in np.random.default_rng(0).integers(100, 500, (3000, 2)).tolist()]
    padded = padded_shapes(shapes)
    assert len(set(padded)) == MAX_SHAPES
    assert sum(h * w for h, w in padded) < 2 * sum(h * w for h, w in shapes)
