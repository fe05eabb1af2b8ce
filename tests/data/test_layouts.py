"""Every layout of paired folders that the field uses pairs rightly, in training, validation and `evaluate`.

So do near misses: what looks like pairs and is none, and what cannot be told and is refused.
"""

import pytest
from absl import logging
from PIL import Image

from wdsr_jax.data import load_data
from wdsr_jax.data.names import describe_pairs, find_pairs
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.examples import examples_of_folders

SCALE, LR_SIZE, COUNT = 4, (6, 5), 6  # LR's size is (width, height)
NAMES = [f"{i:04}" for i in range(1, COUNT + 1)]


@pytest.fixture
def lines(monkeypatch):
    """What is logged, warnings by `warning: ` before them."""
    found = []
    monkeypatch.setattr(logging, "info", lambda message, *args: found.append(message % args))
    monkeypatch.setattr(logging, "warning", lambda message, *args: found.append("warning: " + message % args))
    return found


def write(root, template, factor, names=NAMES):
    """One image for each name, `factor` times LR's size; its grey tells which one it is."""
    for i, name in enumerate(names):
        path = root / template.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        size = tuple(side * factor for side in LR_SIZE)
        Image.new("L", size, 10 + int(name[-1]) if name[-1].isdigit() else i).save(path)


# What HR files are called, what LR files are called, where HR and LR are taken from.
LAYOUTS = [
    ("GT/{}.png", "LQ/{}.png", "HR from GT, LR from LQ"),
    ("HR/{}.png", "LR/{}.png", "HR from HR, LR from LR"),
    ("hr/{}.png", "lr_x4/{}.png", "HR from hr, LR from lr_x4"),
    ("Hr/{}.png", "Lr_X4/{}.png", "HR from Hr, LR from Lr_X4"),
    ("HR/{}.png", "LR_x4/{}.png", "HR from HR, LR from LR_x4"),
    ("gt/{}.png", "lq/{}.jpg", "HR from gt, LR from lq"),
    ("trainH/{}.png", "trainL/{}.png", "HR from trainH, LR from trainL"),
    ("high/{}.png", "low/{}.png", "HR from high, LR from low"),
    ("target/{}.png", "input/{}.png", "HR from target, LR from input"),
    ("trainA/{}.png", "trainB/{}.png", "HR from trainA, LR from trainB"),
    ("trainB/{}.png", "trainA/{}.png", "HR from trainB, LR from trainA"),
    ("x1/{}.png", "x4/{}.png", "HR from x1, LR from x4"),
    ("X1/{}.png", "X4/{}x4.png", "HR from X1, LR from X4"),
    ("GTmod12/{}.png", "LRbicx4/{}.png", "HR from GTmod12, LR from LRbicx4"),
    ("trainHR/{}.png", "trainLR/{}.png", "HR from trainHR, LR from trainLR"),
    ("high_res/{}.png", "low_res/{}.png", "HR from high_res, LR from low_res"),
    ("{}.png", "{}x4.png", "HR such as 0001.png, LR such as 0001x4.png"),
    ("{}.png", "{}_bicLRx4.png", "HR such as 0001.png, LR such as 0001_bicLRx4.png"),
    ("{}_HR.png", "{}_LR_x4.png", "HR such as 0001_HR.png, LR such as 0001_LR_x4.png"),
    ("Canon_{}_HR.png", "Canon_{}_LR4.png", "HR such as Canon_0001_HR.png, LR such as Canon_0001_LR4.png"),
    ("{}_SRF_4_HR.png", "{}_SRF_4_LR.png", "HR such as 0001_SRF_4_HR.png, LR such as 0001_SRF_4_LR.png"),
    ("{}_hr.png", "{}_lr.png", "HR such as 0001_hr.png, LR such as 0001_lr.png"),
    ("{}_gt.png", "{}_lq.png", "HR such as 0001_gt.png, LR such as 0001_lq.png"),
    ("HR_{}.png", "LR_{}.png", "HR such as HR_0001.png, LR such as LR_0001.png"),
    ("{}.png", "{}_small.png", "HR such as 0001.png, LR such as 0001_small.png"),
    ("{}.png", "{}_x4.png", "HR such as 0001.png, LR such as 0001_x4.png"),
    ("{}_big.png", "{}_small.png", "HR such as 0001_big.png, LR such as 0001_small.png"),
    ("{}.png", "x4/{}.png", "HR from ., LR from x4"),
    (
        "DIV2K_train_HR_sub/{}_s001.png",
        "DIV2K_train_LR_bicubic_X4_sub/{}_s001.png",
        "HR from DIV2K_train_HR_sub, LR from DIV2K_train_LR_bicubic_X4_sub",
    ),
    (
        "DIV2K_train_HR_sub/{}_s001.png",
        "DIV2K_train_LR_bicubic/X4_sub/{}x4_s001.png",
        "HR from DIV2K_train_HR_sub, LR from DIV2K_train_LR_bicubic/X4_sub",
    ),
    (
        "HR/Set5/x4/{}_HR_x4.png",
        "LR/LRBI/Set5/x4/{}_LRBI_x4.png",
        "HR from HR/Set5/x4, LR from LR/LRBI/Set5/x4",
    ),
    ("sharp/{}.png", "sharp_bicubic/X4/{}.png", "HR from sharp, LR from sharp_bicubic/X4"),
    ("photos/{}.png", "thumbnails/{}.jpg", "HR from photos, LR from thumbnails"),
    ("set/photos/{}.png", "set/shrunk/{}.png", "HR from set/photos, LR from set/shrunk"),
    ("{}/HR.png", "{}/LR.png", "HR such as 0001/HR.png, LR such as 0001/LR.png"),
    ("{}/big.png", "{}/small.png", "HR such as 0001/big.png, LR such as 0001/small.png"),
]


@pytest.mark.parametrize(("hr", "lr", "taken"), LAYOUTS)
def test_layouts_pair_in_training_validation_and_evaluate(tmp_path, lines, hr, lr, taken):
    for part in ("data", "held"):
        write(tmp_path / part, hr, SCALE)
        write(tmp_path / part, lr, 1)
    root, val_root = tmp_path / "data", tmp_path / "held"
    pairs = find_pairs(root, SCALE)
    assert [(pair.hr, pair.lr) for pair in pairs] == [
        (root / hr.format(name), root / lr.format(name)) for name in NAMES
    ]
    assert len({pair.name for pair in pairs}) == COUNT and all(pair.name for pair in pairs)
    assert lines == [] and describe_pairs(pairs, root) == f"6 pairs: {taken}"
    options = dict(scale=SCALE, cache_dir=tmp_path / "cache", root=str(root))
    train, val = load_data("folder", val_root=str(val_root), **options)
    assert len(train) == len(val) == COUNT
    assert lines[:2] == [f"{root}: 6 pairs: {taken}", f"{val_root}, to validate on: 6 pairs: {taken}"]
    split = load_data("folder", **options)
    assert [len(part) for part in split] == [COUNT - 1, 1]
    lines.clear()
    (examples,) = examples_of_folders([str(root)], SCALE).values()
    assert lines == [f"{root}: 6 pairs: {taken}"]
    for i in range(COUNT):
        for small, large in (train[i], val[i], examples[i].load()):
            assert small.shape == (*LR_SIZE[::-1], 3)
            assert large.shape == (*(side * SCALE for side in LR_SIZE[::-1]), 3)
            assert abs(int(small[0, 0, 0]) - (11 + i)) <= 1 and abs(int(large[0, 0, 0]) - (11 + i)) <= 1


@pytest.mark.parametrize(
    "templates",
    [
        ["photo{}.png"],
        ["photo_{}.png"],
        ["low/{}.png"],  # without its partner a word like any other
        ["input/{}.png"],
        ["x4/{}.png"],
        ["trainA/{}.png"],
        ["hr/{}.png"],
        ["{}_low.png"],
        ["a/{}.png", "b/{}.png"],  # of one size: two folders of photographs
        ["high/{}.png", "tatra/a{}.png"],
    ],
)
def test_hr_alone_stays_hr_alone(tmp_path, lines, templates):
    for template in templates:
        write(tmp_path, template, SCALE)
    pairs = find_pairs(tmp_path, SCALE)
    assert len(pairs) == COUNT * len(templates) and all(pair.lr is None for pair in pairs)
    assert lines == [] and describe_pairs(pairs, tmp_path) == f"{len(pairs)} HR images, from which LR is made"


def test_photographs_of_many_sizes_and_an_x2_are_hr(tmp_path, lines):
    for i, name in enumerate(
        ["photo1", "photo2", "photo10", "x2", "tiles_2x2", "IMG_1_edited", "Porsche_GT3"]
    ):
        write(tmp_path, "{}.png", i + 1, [name])
    assert [pair.lr for pair in find_pairs(tmp_path, 2)] == [None] * 7
    assert lines == []


@pytest.mark.parametrize("hr", ["HR/{}.png", "x1/{}.png", "original/{}.png"])
@pytest.mark.parametrize("lr", ["x{0}/{1}.png", "x{0}/{1}x{0}.png", "X{0}/{1}.png", "small{0}/{1}.png"])
def test_of_several_scales_the_right_one_is_taken(tmp_path, lines, hr, lr):
    write(tmp_path, hr, 12)
    for scale in (2, 3, 4):
        write(tmp_path, lr.format(scale, "{}"), 12 // scale)
    for scale in (2, 3, 4):
        if hr.startswith("HR") and lr.startswith("small"):
            return  # below
        pairs = find_pairs(tmp_path, scale)
        assert [(pair.hr, pair.lr) for pair in pairs] == [
            (tmp_path / hr.format(name), tmp_path / lr.format(scale, name)) for name in NAMES
        ]


def test_hr_by_name_with_lr_by_no_name(tmp_path, lines):
    write(tmp_path, "HR/{}.png", 4)
    write(tmp_path, "shrunk/{}.png", 1)
    assert [pair.lr for pair in find_pairs(tmp_path, 4)] == [
        tmp_path / f"shrunk/{name}.png" for name in NAMES
    ]


@pytest.mark.parametrize(
    ("hr", "lr"), [("GT/{}.png", "LQ/{}.png"), ("high/{}.png", "low/{}.png"), ("a/{}.png", "b/{}.png")]
)
def test_the_image_that_lacks_its_partner_is_named(tmp_path, hr, lr):
    write(tmp_path / "fewer", hr, 4)
    write(tmp_path / "fewer", lr, 1, NAMES[:-1])
    with pytest.raises(
        UserError, match=r"HR without LR, while others have one: .*0006\.png; to say.*lr_root"
    ):
        find_pairs(tmp_path / "fewer", 4)
    write(tmp_path / "more", hr, 4, NAMES[1:])
    write(tmp_path / "more", lr, 1)
    with pytest.raises(UserError, match=r"LR without HR: .*0001\.png; to say.*lr_root"):
        find_pairs(tmp_path / "more", 4)


def test_folders_that_could_be_either_are_refused_at_equal_sizes(tmp_path):
    for name in ("trainA", "trainB"):
        write(tmp_path, name + "/{}.png", 4)
    for scale in (1, 4):
        with pytest.raises(
            UserError, match=r"trainA or trainB may hold LR.*data\.root.*data\.lr_root.*--lr=DIR"
        ):
            find_pairs(tmp_path, scale)
    pairs = find_pairs(tmp_path / "trainB", 1, tmp_path / "trainA")
    assert [(pair.hr.parent.name, pair.lr.parent.name) for pair in pairs] == [("trainB", "trainA")] * COUNT


def test_realsr_at_scale_1_and_in_a_folder_for_each_scale(tmp_path):
    for camera in ("Canon", "Nikon"):
        for scale in (2, 4):
            names = NAMES[: scale + 1]  # numbered by themselves
            folder = f"{camera}/Train/{scale}/{camera}_{{}}"
            write(tmp_path, folder + "_HR.png", 4, names)
            write(tmp_path, f"{folder}_LR{scale}.png", 4, names)
    for scale in (2, 4):
        pairs = find_pairs(tmp_path, scale)
        assert len(pairs) == 2 * (scale + 1)
        assert all(f"/{scale}/" in str(pair.hr) and pair.hr.parent == pair.lr.parent for pair in pairs)
        folder = tmp_path / f"Nikon/Train/{scale}"
        assert len(find_pairs(folder, 1)) == scale + 1  # LR of HR's size
    with pytest.raises(UserError, match=r"no images of scale 1; there are of scale 2, 4"):
        find_pairs(tmp_path, 1)


def test_parts_of_one_set_with_the_same_names_stay_apart(tmp_path):
    for part in ("train", "test"):
        write(tmp_path, part + "H/{}.png", 4)
        write(tmp_path, part + "L/{}.png", 1)
        write(tmp_path / "by_size", part + "/one/{}.png", 4)
        write(tmp_path / "by_size", part + "/two/{}.png", 1)
    for pair in find_pairs(tmp_path / "by_size", 4):
        assert pair.hr.parents[1] == pair.lr.parents[1] and pair.hr.name == pair.lr.name
    for part in ("train", "test"):
        (tmp_path / "by_name").mkdir(exist_ok=True)
        for kind in "HL":
            (tmp_path / f"{part}{kind}").rename(tmp_path / f"by_name/{part}{kind}")
    pairs = find_pairs(tmp_path / "by_name", 4)
    assert len(pairs) == 2 * COUNT
    assert all(pair.hr.parent.name[:-1] == pair.lr.parent.name[:-1] for pair in pairs)


def test_what_looks_like_lr_among_hr_is_said(tmp_path, lines):
    write(tmp_path, "{}.png", 4)
    write(tmp_path, "thumbnails/{}.png", 1, NAMES[:1])
    assert [pair.lr for pair in find_pairs(tmp_path, 4)] == [None] * 7
    (warning,) = lines
    assert "all is taken as HR, though thumbnails/0001.png has 1/4 the size of 0001.png;" in warning
    assert "config.data.lr_root" in warning and "--lr=DIR" in warning and warning.startswith("warning: ")


@pytest.mark.parametrize("lr", ["{}_low.png", "{}-thumbnail.png", "results/{}.png"])
def test_a_single_lr_among_many_hr_is_said(tmp_path, lines, lr):
    write(tmp_path, "{}.png", 4)
    write(tmp_path, lr, 1, NAMES[3:4])
    assert [pair.lr for pair in find_pairs(tmp_path, 4)] == [None] * 7
    assert f"though {lr.format('0004')} has 1/4 the size of 0004.png" in lines[0]


def test_photographs_beside_what_was_made_of_them_are_no_pairs(tmp_path, lines):
    write(tmp_path, "{}.png", 1)
    write(tmp_path, "{}_x4.png", 4)  # as `upscale` names its results
    assert [pair.lr for pair in find_pairs(tmp_path, 4)] == [None] * 12
    assert "though 0001.png has 1/4 the size of 0001_x4.png" in lines[0]


def test_results_beside_pairs_are_refused_or_said(tmp_path, lines):
    for name, factor in (("one", 4), ("two", 1), ("three", 4)):
        write(tmp_path / "unnamed", name + "/{}.png", factor)
    assert [pair.lr for pair in find_pairs(tmp_path / "unnamed", 4)] == [None] * 18
    assert "has 1/4 the size of" in lines[0]
    for name, factor in (("GT", 4), ("LQ", 1), ("results", 4)):
        write(tmp_path / "named", name + "/{}.png", factor)
    with pytest.raises(UserError, match=r"HR without LR, .*: results/0001\.png, .*config\.data\.lr_root"):
        find_pairs(tmp_path / "named", 4)
    assert len(find_pairs(tmp_path / "named/GT", 4, tmp_path / "named/LQ")) == COUNT


def test_any_names_pair_where_both_folders_are_given(tmp_path, lines):
    write(tmp_path, "first/{}_LR.png", 4)
    write(tmp_path, "second/{}_LR.png", 1)
    pairs = find_pairs(tmp_path / "first", 4, tmp_path / "second")
    assert [(pair.hr.parent.name, pair.lr.parent.name) for pair in pairs] == [("first", "second")] * COUNT
    assert describe_pairs(pairs, tmp_path / "first") == f"6 pairs: HR from ., LR from {tmp_path / 'second'}"
    options = dict(
        scale=4, cache_dir=tmp_path / "cache", root=f"{tmp_path}/first", lr_root=f"{tmp_path}/second"
    )
    train, val = load_data("folder", **options)
    assert (len(train), len(val)) == (5, 1) and train[0][0].shape == (5, 6, 3)
    held = dict(val_root=f"{tmp_path}/first", val_lr_root=f"{tmp_path}/second")
    assert [len(part) for part in load_data("folder", **options, **held)] == [6, 6]
    (examples,) = examples_of_folders([f"{tmp_path}/first"], 4, [f"{tmp_path}/second"]).values()
    assert len(examples) == 6 and examples[0].load()[0].shape == (5, 6, 3)


def test_an_lr_root_without_its_root_is_refused(tmp_path):
    write(tmp_path, "lr/{}.png", 1)
    with pytest.raises(UserError, match=r"config\.data\.val_lr_root=.*needs config\.data\.val_root"):
        load_data("folder", scale=4, root=str(tmp_path / "lr"), val_lr_root=str(tmp_path / "lr"))
    with pytest.raises(UserError, match=r"config\.data\.lr_root=.*is for config\.data\.source=folder"):
        load_data("sample", scale=4, lr_root=str(tmp_path / "lr"))


def test_few_headers_are_read_however_many_images_there_are(tmp_path, monkeypatch, lines):
    from wdsr_jax.data import namesakes

    read = []

    def size_of(path):
        read.append(path)
        return (20, 24) if "one" in path.parts else (5, 6)

    monkeypatch.setattr(namesakes, "image_size", size_of)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for i in range(2000):
            (tmp_path / folder / f"{i:05}.png").touch()
    assert len(find_pairs(tmp_path, 4)) == 2000 and len(read) <= 32
    read.clear()
    assert find_pairs(tmp_path / "one", 4)[0].lr is None and read == []
