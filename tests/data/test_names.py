"""Pairs found in folders laid out in every way that the published data sets are."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wdsr_jax.data.names import PairFiles, check_pair_sizes, find_images, find_pairs, set_name
from wdsr_jax.errors import UserError


def make(root, *names, size=(8, 8)):
    """Writes a small image to each name; (width, height)."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros(size[::-1], np.uint8)).save(path)
    return root


def found(root, scale, lr_folder=None):
    """(name, hr, lr) with paths relative to `root`."""
    return [
        (name, hr.relative_to(root).as_posix(), lr and lr.relative_to(root).as_posix())
        for name, hr, lr in find_pairs(root, scale, lr_folder)
    ]


# find_images


def test_images_are_found_at_any_depth_sorted_and_hidden_ones_skipped(tmp_path):
    make(tmp_path, "b.png", "a/2.JPG", "a/1.webp", "a/b/c.tif", ".hidden.png", ".cache/x.png", "a/._1.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    names = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert names == ["a/1.webp", "a/2.JPG", "a/b/c.tif", "b.png"]
    assert find_images(str(tmp_path)) == find_images(tmp_path)


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    elsewhere = make(tmp_path / "elsewhere", "1.png")
    root = make(tmp_path / "root", "2.png")
    os.symlink(elsewhere, root / "linked")
    os.symlink(root, root / "again")
    assert [path.name for path in find_images(root)] == ["2.png", "1.png"]


def test_a_folder_that_cannot_serve_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        find_images(tmp_path / "nowhere")
    make(tmp_path, "file.png")
    with pytest.raises(UserError, match=r"file\.png: not a folder"):
        find_images(tmp_path / "file.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/readme.txt").write_text("")
    with pytest.raises(UserError, match=r"empty: no image in it"):
        find_images(tmp_path / "empty")


# find_pairs


def test_hr_only(tmp_path):
    make(tmp_path, "cat.jpg", "dogs/old dog.png")
    assert found(tmp_path, 4) == [("cat", "cat.jpg", None), ("old dog", "dogs/old dog.png", None)]


def test_photographs_whose_names_look_like_lr_are_photographs(tmp_path):
    make(tmp_path, "tiles_2x2.png", "wall1920x1080.png", "cat.png")
    assert [pair.lr for pair in find_pairs(tmp_path, 2)] == [None] * 3


def test_names_are_short_and_unique(tmp_path):
    make(tmp_path / "one", "a/1.png", "b/2.png")
    assert [pair.name for pair in find_pairs(tmp_path / "one", 2)] == ["1", "2"]
    make(tmp_path / "two", "a/1.png", "b/1.png")
    assert [pair.name for pair in find_pairs(tmp_path / "two", 2)] == ["a/1", "b/1"]
    make(tmp_path / "three", "1.jpg", "1.png")
    assert [pair.name for pair in find_pairs(tmp_path / "three", 2)] == ["1.jpg", "1.png"]


@pytest.mark.parametrize("tag", ["", "m", "d", "w"])
def test_div2k_names_in_one_folder(tmp_path, tag):
    make(tmp_path, "0001.png", "0002.png", f"0001x4{tag}.png", f"0002x4{tag}.png")
    assert found(tmp_path, 4) == [
        ("0001", "0001.png", f"0001x4{tag}.png"),
        ("0002", "0002.png", f"0002x4{tag}.png"),
    ]


def test_wild_has_several_lr_for_one_hr(tmp_path):
    lr = [f"DIV2K_train_LR_wild/0001x4w{i}.png" for i in (1, 2, 3, 4)]
    make(tmp_path, "DIV2K_train_HR/0001.png", *lr)
    expected = [(f"0001w{i + 1}", "DIV2K_train_HR/0001.png", path) for i, path in enumerate(lr)]
    assert found(tmp_path, 4) == expected


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("DIV2K_valid_HR/0801.png", "DIV2K_valid_LR_bicubic/X4/0801x4.png"),
        ("DIV2K_valid_HR/0801.png", "DIV2K_valid_LR_bicubic_X4/0801x4.png"),
        ("HR/0801.png", "LR_bicubic/X4/0801x4.png"),
        ("HR/baby.png", "LR/X4/baby.png"),
        ("hr/baby.png", "lr/baby.png"),
        ("GTmod12/baby.png", "LRbicx4/baby.png"),
        ("original/0801.png", "small/0801x4.png"),
    ],
)
def test_hr_and_lr_in_folders_of_one_root(tmp_path, hr, lr):
    make(tmp_path, hr, lr)
    assert found(tmp_path, 4) == [(Path(hr).stem, hr, lr)]


def test_only_the_scale_asked_for_is_taken(tmp_path):
    lr = [f"LR_bicubic/X{scale}/baby{f'x{scale}'}.png" for scale in (2, 3, 4)]
    make(tmp_path, "HR/baby.png", *lr)
    for scale, path in zip((2, 3, 4), lr, strict=True):
        assert found(tmp_path, scale) == [("baby", "HR/baby.png", path)]
    with pytest.raises(UserError, match=r"no images of scale 8; there are of scale 2, 3, 4"):
        find_pairs(tmp_path, 8)


def test_lr_in_a_folder_of_its_own(tmp_path):
    hr = make(tmp_path / "hr", "a/0001.png", "0002.png")
    by_div2k = make(tmp_path / "small", "a/0001x4.png", "0002x4.png", "0002x2.png")
    by_name = make(tmp_path / "other", "a/0001.png", "0002.png")
    for folder, suffix in ((by_div2k, "x4"), (by_name, "")):
        assert find_pairs(hr, 4, folder) == [
            PairFiles("0002", hr / "0002.png", folder / f"0002{suffix}.png"),
            PairFiles("0001", hr / "a/0001.png", folder / f"a/0001{suffix}.png"),
        ]
    with pytest.raises(UserError, match=r"small: no images of scale 3; there are of scale 2, 4"):
        find_pairs(hr, 3, by_div2k)
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        find_pairs(hr, 3, tmp_path / "nowhere")


def test_an_lr_folder_settles_which_of_several_tracks(tmp_path):
    lr = ["LR_bicubic/X4/0001x4.png", "LR_unknown/X4/0001x4.png", "LR_mild/0001x4m.png"]
    make(tmp_path, "HR/0001.png", *lr)
    with pytest.raises(
        UserError, match=r"more than one LR of 0001\.png: .*LR_mild.*LR_unknown.*one LR folder"
    ):
        find_pairs(tmp_path, 4)
    for path in lr:
        assert found(tmp_path, 4, (tmp_path / path).parent) == [("0001", "HR/0001.png", path)]


def test_an_lr_folder_inside_the_hr_folder_is_no_hr(tmp_path, monkeypatch):
    make(tmp_path, "0001.png", "small/0001.png")
    assert found(tmp_path, 2, tmp_path / "small") == [("0001", "0001.png", "small/0001.png")]
    monkeypatch.chdir(tmp_path)
    assert len(find_pairs(tmp_path, 2, "small")) == 1


def test_equal_names_in_two_sets_find_the_lr_of_their_own_set(tmp_path):
    make(tmp_path, *(f"{name}/{kind}" for name in ("A", "B") for kind in ("HR/1.png", "LR/X2/1x2.png")))
    assert found(tmp_path, 2) == [
        ("A/HR/1", "A/HR/1.png", "A/LR/X2/1x2.png"),
        ("B/HR/1", "B/HR/1.png", "B/LR/X2/1x2.png"),
    ]
    make(tmp_path, "C/LR/1x2.png")
    with pytest.raises(UserError, match=r"C/LR/1x2\.png: fits more than one HR"):
        find_pairs(tmp_path, 2)


def test_selfexsr_names_and_the_results_of_others_beside_them(tmp_path):
    names = [f"image_SRF_{s}/img_001_SRF_{s}_{kind}.png" for s in (2, 4) for kind in ("HR", "LR", "bicubic")]
    make(tmp_path, *names)
    assert found(tmp_path, 2) == [("img_001", names[0], names[1])]
    assert found(tmp_path, 4) == [("img_001", names[3], names[4])]
    with pytest.raises(UserError, match=r"no images of scale 3; there are of scale 2, 4"):
        find_pairs(tmp_path, 3)
    with pytest.raises(UserError, match=r"no images of scale 3; there are of scale 2$"):
        find_pairs(tmp_path / "image_SRF_2", 3)
    plain = make(tmp_path / "plain", "x_HR.png", "x_LR.png")
    assert found(plain, 3) == [("x", "x_HR.png", "x_LR.png")]


def test_a_part_that_is_missing_is_named(tmp_path):
    make(tmp_path, *(f"{i:04}.png" for i in range(1, 10)), "0001x4.png")
    with pytest.raises(UserError, match=r"HR without LR.*: 0002\.png, .*0006\.png and 3 more"):
        find_pairs(tmp_path, 4)
    other = make(tmp_path / "other", "HR/1.png", "LR/1x4.png", "LR/2x4.png")
    with pytest.raises(UserError, match=r"LR without HR: LR/2x4\.png"):
        find_pairs(other, 4)


@pytest.mark.parametrize("name", ["0001x4.png", "0001x4w2.png", "LR/cat.png", "x_LR.png"])
def test_lr_alone_is_not_taken_for_hr(tmp_path, name):
    make(tmp_path, name)
    with pytest.raises(UserError, match="no HR among its images"):
        find_pairs(tmp_path, 4)


# sizes and names


def test_pairs_that_do_not_fit_are_named(tmp_path):
    make(tmp_path, "1.png", size=(18, 17))  # not cropped to a multiple of 4
    make(tmp_path, "2.png", size=(16, 16))
    make(tmp_path, "1x4.png", "2x4.png", size=(4, 4))
    pairs = find_pairs(tmp_path, 4)
    check_pair_sizes(pairs, 4)
    check_pair_sizes([PairFiles("alone", tmp_path / "1.png", None)], 4)
    make(tmp_path, "2x4.png", size=(5, 4))
    with pytest.raises(UserError, match=r"scale 4: 2 \(LR 5x4, HR 16x16\); each LR must"):
        check_pair_sizes(pairs, 4)


def test_files_that_are_no_images_are_left_to_the_reader(tmp_path):
    make(tmp_path, "1.png")
    (tmp_path / "1x2.png").write_text("no image")
    check_pair_sizes(find_pairs(tmp_path, 2), 2)


def test_sizes_of_truncated_files_are_still_known(tmp_path):
    make(tmp_path, "1.png", "1x2.png")
    data = (tmp_path / "1x2.png").read_bytes()
    (tmp_path / "1x2.png").write_bytes(data[:45])
    with pytest.raises(UserError, match="LR 8x8, HR 8x8"):
        check_pair_sizes(find_pairs(tmp_path, 2), 2)


def test_set_names(tmp_path, monkeypatch):
    assert set_name("data/Set5/image_SRF_2") == "Set5"
    assert set_name("data/Set5/image_SRF_2/") == "Set5"
    assert set_name("data/Set14") == "Set14"
    (tmp_path / "B100").mkdir()
    monkeypatch.chdir(tmp_path / "B100")
    assert set_name(".") == "B100"


@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14)])
def test_the_benchmarks(shared, name, count):
    benchmarks = shared / "benchmarks"
    for scale in (2, 3, 4):
        pairs = find_pairs(benchmarks / name, scale)
        assert [pair.name for pair in pairs] == [f"img_{i:03}" for i in range(1, count + 1)]
        assert pairs == find_pairs(benchmarks / name / f"image_SRF_{scale}", scale)
        check_pair_sizes(pairs, scale)
    with pytest.raises(UserError, match="scale 8; there are of scale 2, 3, 4"):
        find_pairs(benchmarks / name, 8)
    assert len(find_pairs(benchmarks, 2)) == 19
