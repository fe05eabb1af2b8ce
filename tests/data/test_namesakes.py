"""Kinds of images told apart by their sizes, of which only a few are read."""

from pathlib import Path

import pytest

from wdsr_jax.data import namesakes
from wdsr_jax.data.namesakes import Image, find_smaller_namesake, fits, roles_by_size


@pytest.fixture
def images(monkeypatch):
    """Makes images of the sizes given by path; the list of headers read."""
    sizes, read = {}, []

    def size_of(path):
        read.append(path)
        return sizes[path]

    def make(given):
        sizes.update({Path(path): size for path, size in given.items()})
        read.clear()
        return [Image(path, path.parts[:-1], path.stem) for path in map(Path, given)]

    monkeypatch.setattr(namesakes, "image_size", size_of)
    make.read = read
    return make


def folder(name, size, count=5, suffix=""):
    return {f"{name}{i}{suffix}.png": size for i in range(count)}


@pytest.mark.parametrize(
    ("lr", "hr", "scale", "expected"),
    [
        ((4, 5), (8, 10), 2, True),
        ((4, 5), (9, 11), 2, True),  # rounded down
        ((5, 6), (9, 11), 2, True),  # up, as MATLAB does
        ((4, 5), (8, 12), 2, False),
        ((0, 1), (1, 2), 2, False),
    ],
)
def test_fits(lr, hr, scale, expected):
    assert fits(lr, hr, scale) is expected


def kinds(roles):
    return [role.kind for role in roles]


def test_two_folders_of_which_one_is_a_quarter_as_large(images):
    roles = roles_by_size(images(folder("a/", (40, 48)) | folder("b/", (10, 12))), 4)
    assert kinds(roles) == ["HR"] * 5 + ["LR"] * 5
    assert [role.base for role in roles] == [*"01234"] * 2
    assert len(images.read) <= 10


def test_another_scale_is_neither(images):
    given = images(folder("a/", (48, 48)) | folder("b/", (24, 24)) | folder("c/", (12, 12)))
    assert kinds(roles_by_size(given, 4)) == ["HR"] * 5 + [None] * 5 + ["LR"] * 5
    assert kinds(roles_by_size(given, 2)) == ["HR"] * 5 + ["LR"] * 5 + [None] * 5
    assert roles_by_size(given, 3) is None
    assert roles_by_size(given, 1) is None


def test_each_part_of_a_set_by_itself(images):
    given = {}
    for part, size in (("train", 40), ("test", 80)):
        given |= folder(f"{part}A/", (size, size)) | folder(f"{part}B/", (size // 4, size // 4))
    assert kinds(roles_by_size(images(given), 4)) == (["HR"] * 5 + ["LR"] * 5) * 2


def test_one_image_of_another_size_and_they_are_no_pairs(images):
    given = folder("a/", (40, 48)) | folder("b/", (10, 12)) | {"b/2.png": (11, 12)}
    assert roles_by_size(images(given), 4) is None


def test_few_namesakes_make_no_pairs(images):
    given = images(folder("a/", (40, 48), 9) | folder("b/", (10, 12), 4))
    assert roles_by_size(given, 4) is None
    assert find_smaller_namesake(given, 4) == (Path("b/0.png"), Path("a/0.png"))


def test_what_cannot_be_read_tells_nothing(images):
    assert roles_by_size(images(folder("a/", None) | folder("b/", None)), 4) is None


@pytest.mark.parametrize("suffixes", [("", "_small"), ("_big", "_small"), ("-full", ".tiny")])
def test_last_words(images, suffixes):
    large, small = suffixes
    given = images(folder("a/", (40, 48), suffix=large) | folder("a/", (10, 12), suffix=small))
    assert kinds(roles_by_size(given, 4)) == ["HR"] * 5 + ["LR"] * 5


def test_the_name_with_a_word_less_is_no_lr(images):
    given = images(folder("a/", (10, 12)) | folder("a/", (40, 48), suffix="_x4"))
    assert roles_by_size(given, 4) is None
    assert find_smaller_namesake(given, 4) == (Path("a/0.png"), Path("a/0_x4.png"))


def test_a_folder_for_each_image(images):
    given = images(
        {f"{i}/{name}.png": size for i in range(9) for name, size in (("a", (40, 40)), ("b", (10, 10)))}
    )
    assert kinds(roles_by_size(given, 4)) == ["HR", "LR"] * 9


def test_names_that_are_not_alike_are_not_read(images):
    given = images(folder("photo", (40, 48), 50) | folder("a/x", (10, 12), 50))
    assert roles_by_size(given, 4) is None and find_smaller_namesake(given, 4) is None
    assert images.read == []


def test_a_bounded_number_of_headers_is_read(images):
    frames = {}
    for clip in range(40):
        frames |= folder(f"clip{clip}/", (40, 40), 100)
    given = images(frames)
    assert roles_by_size(given, 4) is None and images.read == []
    assert find_smaller_namesake(given, 4) is None and len(images.read) <= 64 * 8
    given = images(folder("a/", (40, 48), 5000) | folder("b/", (10, 12), 5000))
    assert kinds(roles_by_size(given, 4)) == ["HR"] * 5000 + ["LR"] * 5000
    assert len(images.read) <= 32
