import pickle
from fractions import Fraction

import numpy as np
import pytest
from absl import logging

from wdsr_jax.data.dataset import (
    Images,
    PairedDataset,
    dataset_from_files,
    dataset_from_images,
    drop_small,
    with_lr,
)
from wdsr_jax.data.degradation import degrade
from wdsr_jax.data.names import PairFiles
from wdsr_jax.data.online import degrade_image
from wdsr_jax.data.settings import ONLINE, PRESETS, Degradation
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import write_image
from wdsr_jax.image.resize import imresize


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def images(arrays, fingerprint="f"):
    """`Images` of arrays by name; None is an image that cannot be read."""

    def load(i):
        array = list(arrays.values())[i]
        if array is None:
            raise UserError(f"{list(arrays)[i]}.png: broken")
        return array

    return Images(list(arrays), load, fingerprint)


def write(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        write_image(folder / f"{name}.png", array)
    return [PairFiles(name, folder / f"{name}.png", None) for name in arrays]


@pytest.fixture
def lines(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: lines.append(message % args))
    return lines


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_lr_is_made_from_hr_cropped_to_a_multiple(tmp_path, scale):
    hr = noise(37, 50)
    pairs = dataset_from_images(images({"a": hr}), None, None, scale, tmp_path)
    height, width = 37 // scale, 50 // scale
    hr = hr[: height * scale, : width * scale]
    np.testing.assert_array_equal(pairs[0][0], imresize(hr, Fraction(1, scale), border="replicate"))
    np.testing.assert_array_equal(pairs[0][1], hr)
    assert pairs.lr_shapes == [(height, width)] and pairs.names == ["a"] and len(pairs) == 1


def test_scales_share_the_hr_cache(tmp_path):
    loaded = []

    def load(i):
        loaded.append(i)
        return noise(24, 24, i)

    hr = Images(["a", "b"], load, "f")
    both = [dataset_from_images(hr, None, None, scale, tmp_path) for scale in (2, 3)]
    assert sorted(loaded) == [0, 1]
    assert both[0].hr.folder == both[1].hr.folder and both[0].fingerprint != both[1].fingerprint


def test_given_lr_is_used_as_it_is(tmp_path):
    hr, lr = {"a": noise(9, 8), "b": noise(4, 6)}, {"a": noise(4, 4, 1), "b": noise(2, 3, 2)}
    pairs = dataset_from_images(images(hr), images(lr, "l"), None, 2, tmp_path)
    for i, name in enumerate("ab"):
        np.testing.assert_array_equal(pairs[i][0], lr[name])
    np.testing.assert_array_equal(pairs[0][1], hr["a"][:8])


def test_lr_rounded_up_by_matlab_loses_what_has_no_hr(tmp_path):
    hr, lr = noise(13, 16), noise(4, 4, 1)  # 13 / 4 rows
    pairs = dataset_from_images(images({"a": hr}), images({"a": lr}, "l"), None, 4, tmp_path)
    np.testing.assert_array_equal(pairs[0][0], lr[:3])
    np.testing.assert_array_equal(pairs[0][1], hr[:12])


@pytest.mark.parametrize("shape", [(5, 4), (3, 4), (4, 5), (8, 8)])
def test_sizes_that_do_not_fit_are_named(tmp_path, shape):
    hr = images({"good": noise(8, 8), "bad": noise(8, 8, 1)})
    lr = images({"good": noise(4, 4), "bad": noise(*shape)}, "l")
    with pytest.raises(UserError, match=rf"scale 2: bad \(LR {shape[1]}x{shape[0]}, HR 8x8\)"):
        dataset_from_images(hr, lr, None, 2, tmp_path)


def test_many_sizes_that_do_not_fit_are_not_all_listed(tmp_path):
    hr, lr = {str(i): noise(8, 8) for i in range(9)}, {str(i): noise(2, 2) for i in range(9)}
    with pytest.raises(UserError, match=r"4 .* and 4 more; each LR"):
        dataset_from_images(images(hr), images(lr, "l"), None, 2, tmp_path)


def test_a_pair_with_a_broken_part_is_left_out_and_the_others_stay_aligned(tmp_path, lines):
    hr = {name: noise(8, 8, i) for i, name in enumerate("abcd")}
    lr = {name: noise(4, 4, 10 + i) for i, name in enumerate("abcd")}
    pairs = dataset_from_images(images(hr | {"b": None}), images(lr | {"c": None}, "l"), None, 2, tmp_path)
    assert pairs.names == ["a", "d"]
    assert lines == ["left out: b.png: broken", "left out: c.png: broken"]
    for i, name in enumerate("ad"):
        np.testing.assert_array_equal(pairs[i][0], lr[name])
        np.testing.assert_array_equal(pairs[i][1], hr[name])


def test_no_pair_with_both_parts_is_an_error(tmp_path, lines):
    hr, lr = images({"a": None, "b": noise(8, 8)}), images({"a": noise(4, 4), "b": None}, "l")
    with pytest.raises(UserError, match="of every pair the LR or the HR image cannot be read"):
        dataset_from_images(hr, lr, None, 2, tmp_path)


def test_hr_smaller_than_a_pixel_of_lr_is_left_out(tmp_path, lines):
    pairs = dataset_from_images(images({"a": noise(3, 9), "b": noise(4, 4)}), None, None, 4, tmp_path)
    assert pairs.names == ["b"] and lines == ["left out: a: too small for scale 4"]
    np.testing.assert_array_equal(pairs[0][1], noise(4, 4))


def test_several_lr_of_one_hr(tmp_path):
    hr, lr = noise(8, 8), {"0001w1": noise(4, 4, 1), "0002w1": noise(2, 2, 2), "0001w2": noise(4, 4, 3)}
    sources = images({"0001": hr, "0002": noise(4, 4)}), images(lr, "l")
    pairs = dataset_from_images(*sources, [0, 1, 0], 2, tmp_path)
    assert pairs.names == list(lr) and pairs.hr_index == (0, 1, 0) and len(pairs.hr) == 2
    np.testing.assert_array_equal(pairs[2][0], lr["0001w2"])
    np.testing.assert_array_equal(pairs[2][1], hr)


def test_files_with_several_lr_of_one_hr(tmp_path):
    folder = tmp_path / "data"
    write(folder, a=noise(8, 8), a1=noise(4, 4, 1), a2=noise(4, 4, 2), b=noise(6, 6), b1=noise(3, 3))
    files = [
        PairFiles(name, folder / f"{name[0]}.png", folder / f"{name}.png") for name in ("a1", "a2", "b1")
    ]
    pairs = dataset_from_files(files, 2, tmp_path / "cache")
    assert pairs.names == ["a1", "a2", "b1"] and len(pairs.hr) == 2
    np.testing.assert_array_equal(pairs[1][0], noise(4, 4, 2))
    np.testing.assert_array_equal(pairs[1][1], noise(8, 8))
    np.testing.assert_array_equal(pairs[2][1], noise(6, 6))


def test_files_are_known_by_content(tmp_path):
    files = write(tmp_path / "data", a=noise(8, 8), b=noise(8, 8, 1))
    first = dataset_from_files(files, 2, tmp_path / "cache")
    (tmp_path / "data" / "a.png").touch()
    assert dataset_from_files(files, 2, tmp_path / "cache").fingerprint == first.fingerprint
    assert len(list((tmp_path / "cache").iterdir())) == 2

    write(tmp_path / "data", a=noise(8, 8, 2))
    changed = dataset_from_files(files, 2, tmp_path / "cache")
    np.testing.assert_array_equal(changed[0][1], noise(8, 8, 2))
    assert changed.fingerprint != first.fingerprint
    np.testing.assert_array_equal(first[0][1], noise(8, 8))  # a run that has it open is not disturbed

    renamed = [PairFiles("c", tmp_path / "data" / "b.png", None)]
    (tmp_path / "data" / "b.png").rename(tmp_path / "data" / "c.png")
    renamed = [files[0], PairFiles("c", tmp_path / "data" / "c.png", None)]
    assert dataset_from_files(renamed, 2, tmp_path / "cache").names == ["a", "c"]


def test_broken_files_are_named_with_their_reason(tmp_path, lines):
    files = write(tmp_path / "data", a=noise(40, 40), b=noise(40, 40), c=noise(40, 40))
    cut = files[0].hr.read_bytes()[:2000]
    files[0].hr.write_bytes(cut)
    files[1].hr.write_text("no picture")
    assert dataset_from_files(files, 2, tmp_path / "cache").names == ["c"]
    assert lines[0].startswith(f"left out: {files[0].hr}: cannot be read (")
    assert lines[1:] == [f"left out: {files[1].hr}: not an image"]


def test_small_images_are_named_and_dropped(tmp_path, lines):
    arrays = {"a": noise(20, 20), "b": noise(19, 40), "c": noise(40, 21)}
    pairs = dataset_from_images(images(arrays), None, None, 2, tmp_path)
    kept = drop_small(pairs, 10)
    assert kept.names == ["a", "c"]
    np.testing.assert_array_equal(kept[1][1], arrays["c"][:, :20])
    assert lines == ["left out: b: its LR, 20x9, is smaller than the patch"]
    with pytest.raises(
        UserError, match=r"no training image .* 11x11 .* holds 10x10\).*config.data.patch_size"
    ):
        drop_small(pairs, 11)


def test_fingerprints_tell_selections_apart(tmp_path):
    pairs = dataset_from_images(
        images({name: noise(8, 8, i) for i, name in enumerate("abc")}), None, None, 2, tmp_path
    )
    selections = [pairs, pairs.subset([0, 1]), pairs.subset([1, 0]), pairs.subset([2])]
    assert len({selection.fingerprint for selection in selections}) == 4
    assert pairs.subset([0, 1, 2]).fingerprint == pairs.fingerprint


def test_pairs_travel_to_other_processes(tmp_path):
    pairs = dataset_from_images(images({"a": noise(8, 8)}), None, None, 2, tmp_path)
    copy = pickle.loads(pickle.dumps(pairs))
    assert isinstance(copy, PairedDataset) and copy.fingerprint == pairs.fingerprint
    np.testing.assert_array_equal(copy[0][0], pairs[0][0])


def test_degraded_lr_is_made_once_and_for_its_settings(tmp_path):
    arrays = {"a": noise(33, 40), "b": noise(24, 48, seed=1)}
    harm = PRESETS["wild"]
    pairs = dataset_from_images(images(arrays), None, None, 4, tmp_path, harm)
    for (lr, hr), array in zip(map(pairs.__getitem__, range(2)), arrays.values(), strict=True):
        np.testing.assert_array_equal(lr, degrade(hr, 4, harm))
        np.testing.assert_array_equal(hr, array[: len(array) // 4 * 4])
    plain = dataset_from_images(images(arrays), None, None, 4, tmp_path)
    other = dataset_from_images(images(arrays), None, None, 4, tmp_path, harm._replace(seed=1))
    assert len({each.fingerprint for each in (pairs, plain, other)}) == 3
    assert pairs.hr.folder == plain.hr.folder == other.hr.folder
    again = dataset_from_images(images(arrays), None, None, 4, tmp_path, harm)
    assert again.lr.folder == pairs.lr.folder and again.fingerprint == pairs.fingerprint
    turned = dataset_from_images(
        images(dict(reversed(arrays.items())), "other"), None, None, 4, tmp_path, harm
    )
    np.testing.assert_array_equal(turned[1][0], pairs[0][0])  # neither order nor neighbours matter


def test_degraded_lr_may_have_the_size_of_hr(tmp_path):
    hr = noise(16, 18)
    pairs = dataset_from_images(images({"a": hr}), None, None, 1, tmp_path, Degradation(blur=(2.0, 2.0)))
    assert pairs[0][0].shape == hr.shape and pairs[0][0].std() < hr.std() / 2


def test_lr_files_are_not_degraded(tmp_path):
    (file,) = write(tmp_path, a=noise(8, 8))
    (lr,) = write(tmp_path / "LR", a=noise(4, 4))
    with pytest.raises(UserError, match=r"LR/a\.png: an LR image, while config\.data\.degradation makes LR"):
        dataset_from_files([file._replace(lr=lr.hr)], 2, tmp_path / "cache", Degradation())
    assert not (tmp_path / "cache").exists()


def test_at_scale_1_lr_is_not_made_from_hr(tmp_path):
    hr = Images(["a"], lambda i: np.zeros((8, 8, 3), np.uint8), "fingerprint")
    with pytest.raises(UserError, match="at scale 1 LR cannot be made from HR: name a folder that has both"):
        dataset_from_images(hr, None, None, 1, tmp_path)
    assert dataset_from_images(hr, hr, None, 1, tmp_path)[0][0].shape == (8, 8, 3)


# LR that is made while training


def test_online_no_lr_is_made(tmp_path):
    hr = images({"a": noise(37, 50), "b": None, "small": noise(2, 9), "c": noise(40, 40, 1)})
    pairs = dataset_from_images(hr, None, None, 4, tmp_path, ONLINE)
    assert pairs.lr is None and pairs.names == ["a", "c"] and pairs.lr_shapes == [(9, 12), (10, 10)]
    np.testing.assert_array_equal(pairs.hr_image(0), noise(37, 50)[:36, :48])
    assert [path.name[:3] for path in tmp_path.iterdir()] == ["hr-"]
    with pytest.raises(ValueError, match="no LR"):
        pairs[0]


def test_validation_images_get_an_lr_once(tmp_path):
    hr = images({name: noise(40, 40, i) for i, name in enumerate("abc")})
    pairs = dataset_from_images(hr, None, None, 2, tmp_path, ONLINE).subset([2, 0])
    degraded = with_lr(pairs, ONLINE, tmp_path)
    assert degraded.names == ["c", "a"] and degraded.lr_shapes == [(20, 20)] * 2
    for i, seed in enumerate((2, 0)):
        np.testing.assert_array_equal(degraded[i][0], degrade_image(noise(40, 40, seed), 2, ONLINE, i))
        np.testing.assert_array_equal(degraded[i][1], noise(40, 40, seed))
    assert with_lr(pairs, ONLINE, tmp_path).lr.folder == degraded.lr.folder
    for other in (
        with_lr(pairs.subset([1, 0]), ONLINE, tmp_path),
        with_lr(pairs, ONLINE._replace(seed=1), tmp_path),
    ):
        assert other.lr.folder != degraded.lr.folder


def test_a_patch_needs_its_margin(tmp_path, lines):
    hr = images({"a": noise(40, 48), "b": noise(64, 44)})
    pairs = dataset_from_images(hr, None, None, 2, tmp_path, ONLINE)
    assert drop_small(pairs, 14, margin=4).names == ["b"]
    assert lines == ["left out: a: its LR, 24x20, is smaller than the patch and its margin"]
    with pytest.raises(
        UserError, match=r"no training image has an LR of 32x32 pixels, which a patch of 24 and "
    ):
        drop_small(pairs, 24, margin=4)
