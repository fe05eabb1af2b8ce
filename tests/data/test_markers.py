"""What names say, and what they do not."""

import pytest

from wdsr_jax.data import markers
from wdsr_jax.data.markers import Mark


@pytest.mark.parametrize(
    ("stem", "mark"),
    [
        ("img_001_SRF_2_HR", Mark("HR", "img_001", 2)),
        ("img_001_SRF_2_LR", Mark("LR", "img_001", 2)),
        ("x_LR", Mark("LR", "x")),
        ("0001_bicLRx4", Mark("LR", "0001", 4)),
        ("0001_LR_x4", Mark("LR", "0001", 4)),
        ("0001_LRx16", Mark("LR", "0001", 16)),
        ("Canon_0001_LR4", Mark("LR", "Canon_0001", 4)),
        ("baby_LRBI_x2", Mark("LR", "baby", 2)),
        ("baby_HR_x2", Mark("HR", "baby", 2)),
        ("0001-GT", Mark("HR", "0001")),
        ("clip_LQ_07", Mark("LR", "clip_07")),  # a frame, not a scale
        ("HR_001", Mark("HR", "001")),
        ("LR", Mark("LR", "")),
        *(
            (stem, None)
            for stem in ("0001", "0001x4", "photo_lr", "Porsche_GT3", "GTA_map", "SHR", "ALRIGHT")
        ),
    ],
)
def test_certain_marks_of_files(stem, mark):
    assert markers.certain_mark(stem) == mark


def test_likely_marks_of_files():
    assert markers.likely_mark("cat_low") == Mark("LR", "cat")
    assert markers.likely_mark("cat_High") == Mark("HR", "cat")
    assert markers.likely_mark("cat_lr_x4") == Mark("LR", "cat", 4)
    for stem in ("cat", "below", "cat_lowland", "highlight_1"):
        assert markers.likely_mark(stem) is None


@pytest.mark.parametrize(
    ("stem", "mark"),
    [
        ("0001x4", Mark("LR", "0001", 4)),
        ("0001x4w3", Mark("LR", "0001", 4, "w3")),
        ("0001x4d", Mark("LR", "0001", 4, "d")),
        ("0001x4_s012", Mark("LR", "0001_s012", 4)),
        ("0001x16", Mark("LR", "0001", 16)),
        *((stem, None) for stem in ("0001", "x2", "1920x1080", "0001_x")),
    ],
)
def test_marks_of_div2k(stem, mark):
    assert markers.div2k_mark(stem) == mark


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        *(
            (name, "HR")
            for name in ("HR", "hr", "Hr", "GT", "gt", "GTmod12", "DIV2K_train_HR_sub", "trainHR")
        ),
        *(
            (name, "LR")
            for name in ("LR", "lr", "LQ", "lq", "Lr_X4", "lrx4", "LRbicx4", "LRBI", "valid_lr_bicubic")
        ),
        *((name, None) for name in ("photos", "GTA", "GTX", "lrig", "chr", "agt", "high", "x4", "SHR")),
    ],
)
def test_certain_folders(folder, kind):
    assert markers.certain_folder([folder]) == kind


def test_the_last_folder_that_says_it_counts():
    assert markers.certain_folder(["HR", "photos", "LR", "x4"]) == "LR"
    assert markers.certain_folder([]) is None


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        *((name, "HR") for name in ("high", "High_res", "target", "targets", "trainH", "test_h", "x1", "hq")),
        *((name, "LR") for name in ("low", "low-res", "input", "inputs", "trainL", "x4", "X2", "x16")),
        *((name, None) for name in ("highlands", "below", "trainA", "album_2x2", "x100", "L", "H")),
    ],
)
def test_likely_folders(folder, kind):
    assert markers.likely_folder(folder) == kind


def test_folders_that_are_either():
    assert all(map(markers.is_either, ("trainA", "testB", "train_A", "valb")))
    assert not any(map(markers.is_either, ("A", "b", "trainH", "train", "Canada")))


def test_scales_and_parts_of_folders():
    folders = ("X4", "lr_x4", "LRbicx4", "X4_sub", "x4-bicubic")
    assert [markers.folder_scale([folder]) for folder in folders] == [4] * 5
    assert markers.folder_scale(["x2", "photos", "X3", "a"]) == 3
    assert markers.folder_scale(["1920x1080", "photos", "x4a"]) is None
    assert [markers.is_scale(folder) for folder in ("X4", "x16", "X4_sub")] == [True, True, False]
    assert [markers.split_of(f) for f in ("DIV2K_train_HR", "ValidL", "HR")] == ["train", "valid", ""]


def test_results_of_others():
    assert markers.is_other_result("img_001_SRF_2_bicubic")
    assert not markers.is_other_result("img_001")
