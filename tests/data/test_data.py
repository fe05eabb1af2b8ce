import numpy as np
import pytest

from wdsr_jax.data import load_data
from wdsr_jax.data.dataset import Images
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import write_image


def test_an_unknown_source_is_named(tmp_path):
    with pytest.raises(UserError, match=r"source='folders' is unknown; it is div2k, folder or sample"):
        load_data("folders", scale=2, cache_dir=tmp_path)


def test_sample_photographs_smaller_than_the_patch_are_not_trained_on(tmp_path):
    train, val = load_data("sample", scale=2, cache_dir=tmp_path, patch_size=200)
    assert 0 < len(train) < 11 and min(min(shape) for shape in train.lr_shapes) >= 200
    assert val.lr_shapes == [(256, 256), (150, 225), (200, 300)]  # validation needs no patches


def test_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load_data("folder", root=str(tmp_path / "none"), scale=2, cache_dir=tmp_path)


def test_div2k_joins_lr_and_hr(tmp_path, monkeypatch):
    from wdsr_jax.data import div2k

    asked = []

    def load_div2k(track, scale, split):
        asked.append((track, scale, split))
        names = {"train": ["0001", "0002"], "validation": ["0801"]}[split]
        lr_names = [f"{name}w{i}" for name in names for i in (1, 2)]
        hr = Images(names, lambda i: np.full((16, 16, 3), i, np.uint8), split)
        lr = Images(lr_names, lambda i: np.full((4, 4, 3), 100 + i, np.uint8), split + "lr")
        return div2k.Div2k(hr, lr, [i for i in range(len(names)) for _ in range(2)])

    monkeypatch.setattr(div2k, "load_div2k", load_div2k)
    train, val = load_data("div2k", scale=4, track="wild", cache_dir=tmp_path, patch_size=4)
    assert asked == [("wild", 4, "train"), ("wild", 4, "validation")]
    assert train.names == ["0001w1", "0001w2", "0002w1", "0002w2"] and val.names == ["0801w1", "0801w2"]
    assert [(int(lr[0, 0, 0]), int(hr[0, 0, 0])) for lr, hr in map(train.__getitem__, range(4))] == [
        (100, 0),
        (101, 0),
        (102, 1),
        (103, 1),
    ]


def test_degradation_is_for_sources_whose_lr_is_made(tmp_path):
    with pytest.raises(UserError, match=r"config\.data\.degradation='mild': DIV2K has LR of its own"):
        load_data("div2k", scale=4, cache_dir=tmp_path, degradation="mild")
    with pytest.raises(UserError, match="'none' is unknown"):
        load_data("sample", scale=4, cache_dir=tmp_path, degradation="none")
    assert list(tmp_path.iterdir()) == []


def test_online_training_images_have_no_lr(tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        write_image(tmp_path / "data" / f"{i}.png", pixels)
    options = dict(scale=2, root=str(tmp_path / "data"), cache_dir=tmp_path / "cache")
    train, val = load_data("folder", degradation="online,clean=1,blur=0", patch_size=8, **options)
    assert train.lr is None and train.names == ["0", "1"]
    assert val.lr is not None and val.names == ["2"] and len(val.lr) == 1
    _, plain = load_data("folder", **options)
    # Clean is MATLAB's bicubic, without the rounding between its two passes.
    assert np.abs(val[0][0].astype(int) - plain[0][0]).max() <= 1
    with pytest.raises(UserError, match=r"config\.data\.degradation='online': DIV2K has LR of its own"):
        load_data("div2k", scale=4, cache_dir=tmp_path, degradation="online")


def test_folders_are_degraded_to_train_and_to_validate_on(tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        write_image(tmp_path / "data" / f"{i}.png", pixels)
    options = dict(scale=2, root=str(tmp_path / "data"), cache_dir=tmp_path / "cache")
    for degraded, plain in zip(
        load_data("folder", degradation="noise=20", **options), load_data("folder", **options), strict=True
    ):
        for (lr, hr), (plain_lr, plain_hr) in zip(degraded, plain, strict=True):
            assert 10 < (lr.astype(float) - plain_lr).std() < 25
            np.testing.assert_array_equal(hr, plain_hr)
