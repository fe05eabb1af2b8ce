"""Where panels and captions lie, and that the part shown is the one with detail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wdsr_jax.image.metrics import psnr
from wdsr_jax.image.panels import _MARGIN, before_after, busiest_crop, nearest, side_by_side
from wdsr_jax.image.resize import imresize

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]


def plain(colour, height=20, width=30):
    return np.full((height, width, 3), colour, np.uint8)


def where(picture, colour):
    """(top, bottom, left, right) of the pixels of a colour, which fill that box."""
    mask = (picture == colour).all(axis=-1)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert mask[top:bottom, left:right].all()
    return top, bottom, left, right


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("size", [(20, 30), (1, 1), (1, 500), (300, 2), (900, 1000)])
def test_panels_stand_in_a_row_with_room_for_captions(count, size):
    panels = [(f"caption {i}\nsecond line", plain(c, *size)) for i, c in enumerate(COLOURS[:count])]
    picture = side_by_side(panels, width=1600)
    boxes = [where(picture, colour) for colour in COLOURS[:count]]
    heights = {bottom - top for top, bottom, _, _ in boxes}
    widths = {right - left for *_, left, right in boxes}
    assert len(heights) == len(widths) == 1 and len({top for top, *_ in boxes}) == 1
    (height,), (width,) = heights, widths
    factor = height // size[0]
    assert (height, width) == (size[0] * factor, size[1] * factor)  # a whole factor, the shape kept
    lefts = [left for *_, left, _ in boxes]
    assert lefts == sorted(lefts) and min(lefts) >= _MARGIN
    assert len(set(np.diff(lefts))) <= 1 and all(np.diff(lefts) >= width + _MARGIN)
    assert height <= max(1600, size[0])  # a narrow picture is not blown up to be as wide
    assert picture.shape[1] <= max(1600 + 5 * _MARGIN, count * (size[1] + 200))


def ink(picture, colour):
    """Columns, relative to the centre of the panel of a colour, and rows, where its caption is."""
    _, bottom, left, right = where(picture, colour)
    dark = (picture[bottom:] < 100).all(axis=-1)
    return np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0)), (left + right) / 2


def test_captions_are_whole_centred_and_apart():
    long = "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW\nsecond gyj"
    for caption in ("x", long):
        picture = side_by_side([(caption, plain(COLOURS[0], 200, 4)), ("", plain(COLOURS[1], 200, 4))], 400)
        rows, columns, centre = ink(picture, COLOURS[0])
        # Nothing touches the border of the picture: neither side nor the feet of letters are cut.
        assert columns[0] >= 2 and rows[-1] < len(picture) - where(picture, COLOURS[0])[1] - 2
        assert abs((columns[0] + columns[-1]) / 2 - centre) <= 2
    _, columns, _ = ink(picture, COLOURS[0])
    assert columns[-1] < where(picture, COLOURS[1])[2]  # the wide caption has not run into the next panel
    assert len(rows) > 15  # two lines


def test_nearest():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    enlarged = nearest(image, 3)
    assert enlarged.shape == (6, 6, 3)
    for i, j in np.ndindex(6, 6):
        np.testing.assert_array_equal(enlarged[i, j], image[i // 3, j // 3])


@settings(deadline=None, max_examples=200)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    align=st.sampled_from([1, 2, 3, 4]),
    cells=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_the_busiest_crop_is_aligned_inside_and_has_the_largest_sum(shape, align, cells, seed):
    height, width = (side * align for side in shape)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows, columns = busiest_crop(image, cells * align, align)
    crop = image[rows, columns]
    assert crop.shape == (min(cells * align, height), min(cells * align, width), 3)
    assert rows.start % align == columns.start % align == 0

    # By definition: |differences| to the pixel below and to the right, wherever both exist, over each crop.
    grey = image.mean(axis=-1)
    detail = np.zeros((height, width))
    for i, j in np.ndindex(height - 1, width - 1):
        detail[i, j] = abs(grey[i + 1, j] - grey[i, j]) + abs(grey[i, j + 1] - grey[i, j])
    sums = [
        detail[top : top + crop.shape[0], left : left + crop.shape[1]].sum()
        for top in range(0, height - crop.shape[0] + 1, align)
        for left in range(0, width - crop.shape[1] + 1, align)
    ]
    assert detail[rows, columns].sum() == pytest.approx(max(sums), abs=1e-6)


def test_the_busiest_crop_finds_a_planted_patch():
    image = plain((100, 120, 140), 300, 400)
    image[204:252, 100:148] = np.random.default_rng(0).integers(0, 256, (48, 48, 3))
    assert busiest_crop(image, 48, 4) == (slice(204, 252), slice(100, 148))


def test_before_after_shows_the_same_part_four_times_with_psnr():
    rng = np.random.default_rng(0)
    hr = imresize(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), 4)  # 160x200
    lr = imresize(hr, 1 / 2)
    captions = []

    def record(panels):
        captions.extend(caption for caption, _ in panels)
        images.extend(image for _, image in panels)
        return side_by_side(panels)

    images = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wdsr_jax.image.panels.side_by_side", record)
        picture = before_after(lr, hr, hr, 2, "a" * 500, "WDSR")
    rows, columns = busiest_crop(hr, 96, 2)
    full = [nearest(lr, 2), imresize(lr, 2), hr, hr]
    for shown, whole in zip(images, full, strict=True):
        np.testing.assert_array_equal(shown, whole[rows, columns])
    assert captions[1] == f"bicubic\nPSNR {psnr(full[1], hr, scale=2):.2f} dB"
    assert captions[2] == "WDSR\nPSNR inf dB"
    assert captions[3].startswith("HR\naaaa") and len(captions[3]) < 40
    assert picture.shape[1] < 1700


def test_before_after_at_scale_1_shows_lr_once(monkeypatch):
    shown = []
    monkeypatch.setattr("wdsr_jax.image.panels.side_by_side", shown.extend)
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    before_after(*images, 1, "a", "EDRN")
    assert [caption.split("\n")[0] for caption, _ in shown] == ["LR", "EDRN", "HR"]
    rows, columns = busiest_crop(images[2], 48, 1)
    for (_, panel), image in zip(shown, images, strict=True):
        np.testing.assert_array_equal(panel, image[rows, columns])


def test_before_after_of_the_smallest_image():
    picture = before_after(*(np.zeros((n, n, 3), np.uint8) for n in (1, 2, 2)), 2, "dot", "WDSR")
    assert picture.dtype == np.uint8 and picture.ndim == 3
