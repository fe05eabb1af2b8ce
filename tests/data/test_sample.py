import subprocess
import sys

import numpy as np
import pytest

from wdsr_jax.data import sample
from wdsr_jax.data.sample import HELD_OUT, TRAINING, load_sample, sample_files
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image


def test_no_scene_is_on_both_sides():
    assert not set(TRAINING) & set(HELD_OUT)
    assert {"motorcycle_left.png", "motorcycle_right.png"} <= set(TRAINING)
    contents = [path.read_bytes() for paths in sample_files() for path in paths]
    assert len(set(contents)) == len(TRAINING) + len(HELD_OUT)


def test_pairs_are_the_photographs(tmp_path):
    train, val = load_sample(2, tmp_path)
    assert [f"{name}" for name in val.names] == ["astronaut", "chelsea", "coffee"]
    assert len(train) == len(TRAINING)
    _, files = sample_files()
    np.testing.assert_array_equal(val[2][1], read_image(files[2]))
    np.testing.assert_array_equal(val[1][1], read_image(files[1])[:, :450])  # 451 columns
    assert min(min(shape) for shape in train.lr_shapes) >= 48


def test_held_out_photographs_have_no_jpeg_blocks():
    for path in sample_files()[1]:
        luma = read_image(path).astype(float) @ [0.299, 0.587, 0.114]
        for plane in (luma, luma.T):
            steps = np.abs(np.diff(plane)).mean(0)
            excess = steps[1:-1] - (steps[:-2] + steps[2:]) / 2  # of a step over its neighbours
            phases = [excess[phase::8].mean() for phase in range(8)]
            # A grid of 8 would make one phase stand out: 0.1 of 255 is not visible.
            assert np.max(np.abs(phases - np.median(phases))) < 0.25, path.name


def test_a_wheel_without_photographs_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "files", lambda package: tmp_path)
    with pytest.raises(UserError, match=r"brick.png: missing; install scikit-image anew"):
        sample_files()


def test_neither_skimage_data_nor_tfds_is_imported():
    code = (
        "import sys; from wdsr_jax.data import load_data; from wdsr_jax.data.sample import sample_files; "
        "sample_files(); print({'skimage.data', 'pooch', 'scipy', 'tensorflow_datasets'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
