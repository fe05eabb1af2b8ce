"""What results are called."""

from argparse import Namespace
from pathlib import Path

import pytest

from wdsr_jax.photo.naming import Input, name_targets


def named(*sources, folders=(), sizes=None, **given):
    """The targets of sources, each in the first of `folders` that it lies in, as strings."""
    options = dict(out=None, scale=4.0, width=None, height=None, megapixels=None, name=None, format=None)
    args = Namespace(**options | dict(model=None) | given)
    inputs = []
    for source in sources:
        folder = next((Path(f) for f in folders if Path(source).is_relative_to(f)), None)
        inputs.append(Input(Path(source), folder, (sizes or {}).get(source)))
    targets, kept = name_targets(inputs, args)
    return [str(targets[item]) for item in inputs], [str(path) for path in kept]


@pytest.mark.parametrize(
    "source, given, target",
    [
        ("photo.jpg", {}, "photo_x4.jpg"),
        ("d/photo.gif", dict(scale=2.5), "d/photo_x2.5.png"),
        ("photo.jpg", dict(scale=None, width=3840), "photo_3840w.jpg"),
        ("photo.jpg", dict(name="{stem}"), "photo.jpg"),
        ("photo.jpg", dict(out="o"), "o/photo.jpg"),
        ("photo.jpg", dict(format="webp"), "photo_x4.webp"),
        ("clip.wmv", {}, "clip_x4.mp4"),
        (
            "100/a.png",
            dict(out="o", name="{parent}-{stem}-{ext}-{scale}-{model}"),
            "o/100-a-png-4-wdsr-a-16-x4.png",
        ),
        ("a.png", dict(out="o", scale=None, width=300, name="{stem}_x{scale}"), "o/a_x3.png"),
        ("b.png", dict(out="o", scale=None, width=300, name="{stem}_x{scale}"), "o/b_x300w.png"),
    ],
)
def test_the_name_of_one(source, given, target):
    assert named(source, sizes={"a.png": (50, 100)}, **given) == ([target], [])


def test_a_folder_keeps_its_structure():
    sources = ("photos/a.png", "photos/sub/b.jpg")
    assert named(*sources, folders=["photos"]) == (["photos_x4/a.png", "photos_x4/sub/b.jpg"], [])
    assert named(*sources, folders=["photos"], out="o") == (["o/a.png", "o/sub/b.jpg"], [])


def test_several_folders_keep_their_names():
    sources, folders = ("d/100/IMG_1.jpg", "d/101/IMG_1.jpg", "d/101/IMG_2.jpg"), ["d/100", "d/101"]
    targets = ["o/100/IMG_1.jpg", "o/101/IMG_1.jpg", "o/101/IMG_2.jpg"]
    assert named(*sources, folders=folders, out="o") == (targets, [])
    assert named("x/p/a.jpg", "y/p/a.jpg", folders=["x/p", "y/p"], out="o")[0] == [
        "o/x/p/a.jpg",
        "o/y/p/a.jpg",
    ]


def test_files_of_several_folders_get_a_folder_each_only_where_they_clash():
    targets = ["o/100/IMG_1.jpg", "o/101/IMG_1.jpg", "o/IMG_2.jpg"]
    assert named("100/IMG_1.jpg", "101/IMG_1.jpg", "101/IMG_2.jpg", out="o") == (targets, [])


def test_files_of_one_stem_keep_their_endings():
    targets, kept = named("a.jpg", "a.png", "b.jpg", out="o", format="png")
    assert (targets, kept) == (["o/a.jpg.png", "o/a.png", "o/b.png"], ["o/a.jpg.png"])
    assert named("a.jpg", "a.webp", format="png")[0] == ["a_x4.jpg.png", "a_x4.webp.png"]
