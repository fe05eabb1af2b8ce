"""Videos of more than 8 bits and in HDR: bits, colour tags and mastering data; what is lost of others."""

import struct
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from tests.video.clips import av, read_frames, times, twice, yuv_frame
from wdsr_jax.errors import UserError
from wdsr_jax.video.frames import colour_matrix, frame_losses, side_data, upright
from wdsr_jax.video.transcode import upscale_video

PQ, HLG = 16, 18
# x265's way to write the mastering display, and what FFmpeg then says: R, G, B, white, luminances.
DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
CHROMATICITIES = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329)
LUMINANCES = (0.005, 1000)


def ramp(pix_fmt: str = "yuv420p10le", height: int = 96, width: int = 192) -> list[np.ndarray]:
    """Planes of 10 bits: luma rises by 4 levels a column."""
    luma = np.broadcast_to(100 + 4 * np.arange(width), (height, width)).astype(np.uint16)
    chroma = np.full((height // 2, width // 2), 512, np.uint16)
    return [luma, chroma, chroma]


def write_deep(
    path, planes, *, transfer=PQ, parameters="", codec="libx265", tags=(9, 9), pix_fmt="yuv420p10le"
):
    with av.open(str(path), "w") as output:
        options = {"crf": "2", "x265-params": f"log-level=none{parameters}"} if codec == "libx265" else {}
        stream = output.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = planes[0].shape
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        (context.color_primaries, context.colorspace), context.color_trc = tags, transfer
        context.color_range, context.time_base = 1, Fraction(1, 25)
        for i in range(4):
            frame = yuv_frame(planes, pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def mastering(frame) -> list[float]:
    numbers = struct.unpack("=20i", side_data(frame, "MASTERING_DISPLAY_METADATA")[:80])
    return [n / d for n, d in zip(numbers[::2], numbers[1::2], strict=True)]


@pytest.mark.parametrize(
    "suffix, codec, tag", [(".mp4", "hevc", "hvc1"), (".mov", "hevc", "hvc1"), (".mkv", "hevc", None)]
)
def test_hdr10_is_kept(tmp_path, suffix, codec, tag):
    source = write_deep(tmp_path / "in.mkv", ramp(), parameters=f":master-display={DISPLAY}:max-cll=1000,400")
    target = tmp_path / f"out{suffix}"
    assert upscale_video(source, target, twice) == ()
    before, after = read_frames(source), read_frames(target)
    first = after[0]
    assert (first.format.name, first.color_range) == ("yuv420p10le", 1)
    assert (first.color_primaries, first.color_trc, first.colorspace) == (9, PQ, 9)
    np.testing.assert_allclose(mastering(first), [*CHROMATICITIES, *LUMINANCES], rtol=1e-6)
    light = side_data(first, "CONTENT_LIGHT_LEVEL")
    assert struct.unpack("=2I", light[:8]) == (1000, 400)
    assert mastering(first) == mastering(before[0])
    assert times(target) == times(source)
    with av.open(str(target)) as clip:
        context = clip.streams.video[0].codec_context
        assert context.name == codec
        assert tag is None or context.codec_tag == tag


def test_hdr10_in_webm_is_av1(tmp_path, capfd):
    source = write_deep(tmp_path / "in.mkv", ramp(), parameters=f":master-display={DISPLAY}:max-cll=1000,400")
    upscale_video(source, tmp_path / "out.webm", twice)
    assert capfd.readouterr().err == ""  # SVT-AV1 writes to stderr by itself
    first = read_frames(tmp_path / "out.webm")[0]
    assert (first.format.name, first.color_trc, first.colorspace) == ("yuv420p10le", PQ, 9)
    np.testing.assert_allclose(mastering(first), [*CHROMATICITIES, *LUMINANCES], rtol=0.03)


@pytest.mark.parametrize("transfer, tags", [(HLG, (9, 9)), (1, (1, 1)), (PQ, (9, 9))])
def test_all_levels_of_10_bits_come_through(tmp_path, transfer, tags):
    source = write_deep(tmp_path / "in.mkv", ramp(), transfer=transfer, tags=tags)
    seen = []
    upscale_video(source, tmp_path / "out.mkv", lambda f: (seen.append(f), f)[1], quality=97)
    assert seen[0].dtype == np.uint16
    assert len(np.unique(seen[0][48, :, 1])) > 180  # of 192; 8 bits would hold 4 * 192 / 1024 * 256 = 192
    got, want = (read_frames(path)[1] for path in (tmp_path / "out.mkv", source))
    assert got.color_trc == transfer
    rows = [np.frombuffer(bytes(f.planes[0]), np.uint16).reshape(96, -1)[48, :192] for f in (got, want)]
    difference = rows[0].astype(int) - rows[1]
    assert abs(difference).max() <= 3  # of 1023
    assert abs(difference.mean()) < 0.5


def test_8_bits_of_pq_are_not_coded_in_8_bits_again(tmp_path):
    planes = [(plane // 4).astype(np.uint8) for plane in ramp()]
    source = write_deep(tmp_path / "in.mkv", planes, pix_fmt="yuv420p")
    assert read_frames(source)[0].format.name == "yuv420p"
    assert upscale_video(source, tmp_path / "out.mkv", twice) == ()
    first = read_frames(tmp_path / "out.mkv")[0]
    assert (first.format.name, first.color_trc) == ("yuv420p10le", PQ)


def test_what_upscales_must_keep_the_bits(tmp_path):
    source = write_deep(tmp_path / "in.mkv", ramp())
    with pytest.raises(ValueError, match="upscale made uint8 of a frame of uint16"):
        upscale_video(source, tmp_path / "out.mkv", lambda f: (f // 257).astype(np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_more_bits_and_alpha_are_said(tmp_path):
    twelve = [plane * 4 for plane in ramp()]
    source = write_deep(tmp_path / "in.mkv", twelve, pix_fmt="yuv420p12le")
    assert upscale_video(source, tmp_path / "out.mkv", twice) == ("12 bits (10 are kept)",)
    for alpha, phrases in ((255, ()), (77, ("alpha",))):
        rgba = np.full((48, 64, 4), 100, np.uint8)
        rgba[..., 3] = alpha
        with av.open(str(tmp_path / "in.mov"), "w") as output:
            stream = output.add_stream("png", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "rgba"
            for i in range(3):
                frame = av.VideoFrame.from_ndarray(rgba, "rgba")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        assert upscale_video(tmp_path / "in.mov", tmp_path / "out.mov", twice) == phrases


def frame_like(**attributes):
    defaults = dict(
        colorspace=2, color_trc=2, color_primaries=2, width=64, height=48, rotation=0, side_data={}
    )
    return SimpleNamespace(**(defaults | attributes))


def test_a_matrix_without_a_name_is_that_of_hdr_for_hdr(tmp_path):
    assert colour_matrix(frame_like(color_trc=PQ), tmp_path) == 9
    assert colour_matrix(frame_like(color_primaries=9), tmp_path) == 9
    assert colour_matrix(frame_like(), tmp_path) == 6
    with pytest.raises(UserError, match="Dolby Vision"):
        colour_matrix(frame_like(side_data={"DOVI_METADATA": b"x"}), tmp_path)


def test_side_data_that_frames_carry_is_said():
    form = SimpleNamespace(components=[SimpleNamespace(bits=8, is_alpha=False)])

    def losses(**data):
        return list(frame_losses(frame_like(format=form, side_data=data)))

    assert losses() == []
    assert losses(A53_CC=b"cc", DYNAMIC_HDR_PLUS=b"x") == ["closed captions", "HDR10+ data"]
    assert losses(STEREO3D=struct.pack("=i", 0)) == []  # "a usual picture"
    assert losses(STEREO3D=struct.pack("=i", 1)) == ["stereo layout"]


def test_side_data_of_a_type_that_pyav_does_not_know_is_no_error(tmp_path):
    """A JPEG's EXIF is such data in FFmpeg 8; rotation is then known by PyAV's angle."""
    frame = av.VideoFrame.from_ndarray(np.zeros((4, 6, 3), np.uint8), "rgb24")
    frame.to_image().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    stored = read_frames(tmp_path / "a.jpg")[0]
    assert side_data(stored, "DISPLAYMATRIX") == b""

    class Unknown(SimpleNamespace):
        @property
        def side_data(self):
            raise ValueError("31 is not a valid Type")

    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for degrees, turns in ((0, 0), (90, 1), (180, 2), (-90, 3)):
        np.testing.assert_array_equal(upright(rgb, Unknown(rotation=degrees)), np.rot90(rgb, turns))
