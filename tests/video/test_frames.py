"""Colours, where chroma lies, even sizes, and frames that stand upright."""

from fractions import Fraction

import numpy as np
import pytest

from tests.video.clips import av, planes_of, read_frames, twice, write_clip, yuv_frame
from wdsr_jax.video.transcode import upscale_video

KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # by H.273's number


def patches(matrix: int, full: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """Flat patches of 16 pixels: YCbCr planes (4:4:4, float), and RGB, by the matrix's definition."""
    rgb = np.random.default_rng(3).integers(30, 226, (4, 6, 3)).repeat(16, 0).repeat(16, 1) / 255
    kr, kb = KR_KB[matrix]
    y = kr * rgb[..., 0] + (1 - kr - kb) * rgb[..., 1] + kb * rgb[..., 2]
    cb, cr = (rgb[..., 2] - y) / (2 * (1 - kb)), (rgb[..., 0] - y) / (2 * (1 - kr))
    if full:
        return [255 * y, 128 + 255 * cb, 128 + 255 * cr], 255 * rgb
    return [16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr], 255 * rgb


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix, primaries, transfer", [(1, 1, 1), (6, 6, 6), (5, 5, 6), (9, 9, 14)])
def test_colours_are_those_of_the_streams_own_matrix_and_range(
    tmp_path, matrix, primaries, transfer, full, bits
):
    planes, rgb = patches(matrix, full)
    planes = [planes[0], planes[1][::2, ::2], planes[2][::2, ::2]]
    dtype, pix_fmt, factor = (np.uint8, "yuv420p", 1) if bits == 8 else (np.uint16, "yuv420p10le", 4)
    stored = [np.round(plane * factor).astype(dtype) for plane in planes]
    source = write_clip(
        tmp_path / "in.mp4",
        [yuv_frame(stored, pix_fmt) for _ in range(3)],
        matrix=matrix,
        color_range=2 if full else 1,
        primaries=primaries,
        transfer=transfer,
    )
    seen = []
    upscale_video(
        source, tmp_path / "out.mp4", lambda frame: (seen.append(frame), twice(frame))[1], quality=97
    )
    middles = (slice(8, None, 16), slice(8, None, 16))
    assert seen[0].dtype == dtype
    levels = seen[0][middles] / (1 if bits == 8 else 257)
    np.testing.assert_allclose(levels, rgb[middles], atol=3)
    assert abs(levels - rgb[middles]).mean() < 1

    result = read_frames(tmp_path / "out.mp4")[0]
    assert (result.colorspace, result.color_range) == (matrix, 1)
    assert (result.color_primaries, result.color_trc) == (primaries, transfer)
    limited, _ = patches(matrix, False)
    for got, want, step in zip(planes_of(result), limited, (32, 16, 16), strict=True):
        difference = got[step // 2 :: step, step // 2 :: step] - want[8::16, 8::16]
        assert abs(difference).max() < 4
        assert abs(difference.mean()) < 0.7  # the mean colour is not shifted


@pytest.mark.parametrize("width, matrix", [(96, 6), (1296, 1)])
def test_colours_without_a_name_are_read_as_players_do(tmp_path, width, matrix):
    flat = [
        np.full((64, width), 120, np.uint8),
        *[np.full((32, width // 2), v, np.uint8) for v in (100, 170)],
    ]
    source = write_clip(tmp_path / "in.mp4", [yuv_frame(flat)] * 2)
    upscale_video(source, tmp_path / "out.mp4", lambda frame: frame)
    result = read_frames(tmp_path / "out.mp4")[0]
    assert result.colorspace == matrix
    for got, want in zip(planes_of(result), (120, 100, 170), strict=True):
        np.testing.assert_allclose(got, want, atol=1)


def test_chroma_stays_where_it_was(tmp_path):
    """In H.264 chroma sample i lies on luma column 2i, and between luma rows 2i and 2i + 1."""
    for axis in (0, 1):
        ramp = 70 + 3 * np.arange(32)
        chroma = np.broadcast_to(ramp if axis else ramp[:, None], (32, 32)).astype(np.uint8)
        planes = [np.full((64, 64), 128, np.uint8), chroma, np.full((32, 32), 128, np.uint8)]
        source = write_clip(tmp_path / "in.mp4", [yuv_frame(planes)] * 2, matrix=1, color_range=1)
        seen = []
        upscale_video(source, tmp_path / "out.mp4", lambda f, s=seen: (s.append(f), f)[1], quality=97)
        blue = seen[0].astype(float).mean(1 - axis)[:, 2]
        # B - Y = 2 (1 - Kb) Cb, Y = (128 - 16) / 219
        cb = 128 + 224 * (blue / 255 - 112 / 219) / (2 * (1 - 0.0722))
        position = np.arange(64) / 2 - (0 if axis else 0.25)
        inner = slice(8, 44)  # further on blue is clipped
        assert abs((cb - (70 + 3 * position))[inner].mean()) < 0.25  # a quarter of a sample would be 0.75
        got = planes_of(read_frames(tmp_path / "out.mp4")[0])[1].mean(1 - axis)
        assert abs((got - ramp)[4:22].mean()) < 0.25


def test_odd_sizes_are_made_even_by_repeating_the_edge(tmp_path):
    planes = [np.random.default_rng(i).integers(100, 150, (21, 35), dtype=np.uint8) for i in range(3)]
    source = write_clip(tmp_path / "in.mp4", [yuv_frame(planes, "yuv444p")] * 2)
    upscale_video(source, tmp_path / "out.mp4", lambda frame: frame, quality=97)
    y = planes_of(read_frames(tmp_path / "out.mp4")[0])[0]
    assert y.shape == (22, 36)
    np.testing.assert_allclose(y[21], y[20], atol=6)
    np.testing.assert_allclose(y[:, 35], y[:, 34], atol=6)


# (a b; c d) from stored to shown: x' = ax + cy, y' = bx + dy; the translation does not matter here.
@pytest.mark.parametrize("a, b, c, d", [(s, 0, 0, t) for s in (1, -1) for t in (1, -1)])
@pytest.mark.parametrize("turned", [False, True])
def test_frames_are_stored_upright(tmp_path, a, b, c, d, turned):
    if turned:
        a, b, c, d = b, a, d, c
    unit = 1 << 16
    display = [a * unit, b * unit, 0, c * unit, d * unit, 0, 0, 0, 1 << 30]
    grey = [np.full((24, 32), 128, np.uint8)] * 2
    luma = np.zeros((48, 64), np.uint8)
    luma[:24, :32], luma[:24, 32:], luma[24:, :32], luma[24:, 32:] = 40, 90, 140, 190
    source = write_clip(
        tmp_path / "in.mp4", [yuv_frame([luma, *grey])] * 2, display=display, aspect=Fraction(4, 3)
    )
    upscale_video(source, tmp_path / "out.mp4", twice)
    result = read_frames(tmp_path / "out.mp4")[0]
    y = planes_of(result)[0]
    assert y.shape == ((128, 96) if turned else (96, 128))
    assert result.rotation == 0
    for row in (-1, 1):  # the middles of the quarters, seen from the centre
        for column in (-1, 1):
            shown_x, shown_y = a * column + c * row, b * column + d * row
            got = y[y.shape[0] * (2 + shown_y) // 4, y.shape[1] * (2 + shown_x) // 4]
            assert abs(got - luma[24 + 12 * row, 32 + 16 * column]) < 4
    with av.open(str(tmp_path / "out.mp4")) as clip:
        aspect = Fraction(3, 4) if turned else Fraction(4, 3)
        assert clip.streams.video[0].sample_aspect_ratio == aspect
    if not any((b, c)) or (a, d, b) == (0, 0, -c):  # a rotation: what PyAV says of it, counterclockwise
        stored = read_frames(source)[0]
        if a * d - b * c == 1:
            shown = np.rot90(planes_of(stored)[0], stored.rotation // 90)
            np.testing.assert_allclose(y[::2, ::2], shown, atol=6)
