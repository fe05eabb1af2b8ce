"""Interlaced videos: combs go, progressive frames stay, times, counts and colours are kept."""

from fractions import Fraction

import numpy as np
import pytest

from tests.video.clips import av, read_frames, times, twice, yuv_frame
from wdsr_jax.video.deinterlace import deinterlace
from wdsr_jax.video.transcode import upscale_video


def bar_at(column: float) -> np.ndarray:
    """A soft bright bar: luma (48, 96)."""
    x = np.arange(96)
    row = 40 + 160 / (1 + np.exp(x - column - 10)) / (1 + np.exp(column - x))
    return np.broadcast_to(row.round().astype(np.uint8), (48, 96))


def woven(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Lumas of interlaced frames, the bar 4 columns further in each field; and the first fields' pictures.

    The bottom field is the first: so PyAV writes what has no mark.
    """
    frames, truths = [], []
    for i in range(count):
        truth, later = bar_at(10 + 8 * i), bar_at(14 + 8 * i)
        frame = truth.copy()
        frame[::2] = later[::2]
        frames.append(frame)
        truths.append(truth)
    return frames, truths


def write_interlaced(path, lumas, *, codec="libx264", color_range=1, flagged=True, pix_fmt="yuv420p"):
    options = {"libx264": {"crf": "4", "x264-params": "bff=1"}, "mpeg2video": {"flags": "+ilme+ildct"}}
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options[codec] if flagged else {"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 96, 48, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range, context.time_base = 5, color_range, Fraction(1, 25)
        if codec == "mpeg2video":
            context.bit_rate = 8_000_000
        for i, luma in enumerate(lumas):
            deep = "10" in pix_fmt
            planes = [luma, *[np.full((24, 48), 128, np.uint8)] * 2]
            frame = yuv_frame([plane * np.uint16(4) for plane in planes] if deep else planes, pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def combs(luma: np.ndarray) -> float:
    """How much neighbouring lines differ more than lines of one field."""
    luma = luma.astype(float)
    return abs(np.diff(luma, axis=0)).mean() - abs(luma[2:] - luma[:-2]).mean()


def luma_of(frame) -> np.ndarray:
    return frame.reformat(format="gray", dst_color_range=frame.color_range or 1).to_ndarray()


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_combs_go_and_times_stay(tmp_path, codec):
    lumas, truths = woven(8)
    source = write_interlaced(tmp_path / "in.mkv", lumas, codec=codec)
    assert all(frame.interlaced_frame for frame in read_frames(source))
    assert combs(lumas[3]) > 10
    seen = []
    lost = upscale_video(
        source, tmp_path / "out.mp4", lambda frame: (seen.append(frame[..., 1].copy()), twice(frame))[1]
    )
    assert lost == ("interlacing (deinterlaced)",)
    assert times(tmp_path / "out.mp4") == times(source)
    assert len(seen) == 8
    assert not any(frame.interlaced_frame for frame in read_frames(tmp_path / "out.mp4"))
    for picture, truth in zip(seen[1:-1], truths[1:-1], strict=True):
        assert combs(picture) < 2
        green = (truth.astype(float) - 16) * 255 / 219
        assert abs(picture - green).mean() < 0.5  # woven it misses by 7.6, the other field by 15


def test_full_range_and_10_bits_are_kept(tmp_path):
    lumas, truths = woven(4)
    for pix_fmt, levels in (("yuv420p", 1), ("yuv420p10le", 257)):
        source = write_interlaced(tmp_path / "in.mkv", lumas, color_range=2, pix_fmt=pix_fmt)
        seen = []
        upscale_video(source, tmp_path / "out.mkv", lambda frame, s=seen: (s.append(frame), frame)[1])
        flat = seen[1][:, 80:, 1] / levels  # no bar there: luma 40 of full range
        np.testing.assert_allclose(flat, truths[1][:, 80:], atol=1.5)


def test_progressive_frames_pass_unchanged(tmp_path):
    lumas, _ = woven(3)
    progressive = read_frames(write_interlaced(tmp_path / "a.mkv", lumas, flagged=False))
    interlaced = read_frames(write_interlaced(tmp_path / "b.mkv", lumas))
    noted = []
    assert list(deinterlace(iter(progressive), lambda: noted.append(1))) == progressive
    assert not noted
    frames = [*interlaced, *progressive]
    before = [luma_of(frame) for frame in frames]
    for i, frame in enumerate(frames):
        frame.pts = i
    done = list(deinterlace(iter(frames), lambda: noted.append(1)))
    assert [frame.pts for frame in done] == list(range(6))
    assert len(noted) == 3
    for frame, luma in zip(done[3:], before[3:], strict=True):
        np.testing.assert_array_equal(luma_of(frame), luma)
    assert combs(luma_of(done[1])) < 2 < combs(before[1])


def test_a_single_frame_is_enough(tmp_path):
    source = write_interlaced(tmp_path / "in.mkv", woven(1)[0])
    assert upscale_video(source, tmp_path / "out.mkv", twice) == ("interlacing (deinterlaced)",)
    assert len(read_frames(tmp_path / "out.mkv")) == 1
