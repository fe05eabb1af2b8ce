"""The encoder of the upscaled frames: its settings, colour tags and HDR's mastering data."""

import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from wdsr_jax.errors import UserError
from wdsr_jax.video.formats import WRITABLE_SUFFIXES
from wdsr_jax.video.frames import LIMITED, UNSPECIFIED, colour_matrix, is_turned, side_data

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer
    from av.video.stream import VideoStream
else:
    try:
        import av
    except ImportError:  # `transcode.upscale_video` says so
        av = None

_WORST = {"libx264": 51, "libx265": 51}  # crf; of the others 63
_PROGRESSIVE = 1


class _Mastering(NamedTuple):
    """SMPTE ST 2086: the display that HDR was graded on.

    Attributes:
        chromaticities: x and y of red, green, blue and white.
        luminances: the least and the most, in cd/m2.
    """

    chromaticities: list[tuple[Fraction, Fraction]]
    luminances: tuple[Fraction, Fraction]


def add_encoder(
    output: "OutputContainer",
    target: Path,
    video: "VideoStream",
    frame: "av.VideoFrame",
    shape: Sequence[int],
    *,
    quality: int | None,
    deep: bool,
) -> "VideoStream":
    """Adds the stream of upscaled frames.

    Args:
        output: what is written.
        target: its name; the ending chooses the encoder.
        video: the stream that is upscaled.
        frame: its first frame, whose colours and mastering data are named again.
        shape: (H, W, 3) of the upscaled frames.
        quality: see `transcode.upscale_video`.
        deep: whether frames come in 10 bits.

    Raises:
        UserError: this build of PyAV lacks the encoder.
    """
    container = WRITABLE_SUFFIXES[target.suffix.lower()]
    codec = container.deep_encoder if deep else container.encoder
    if codec not in av.codecs_available:
        raise UserError(f"{target}: this build of PyAV has no {codec}; pip install --force-reinstall av")
    missing = 35 if quality is None else 100 - quality
    # 0 would be a profile of H.264 that few players know.
    options = {"crf": str(max(1, round(_WORST.get(codec, 63) * missing / 100)))} | _options(codec, frame)
    rate = video.average_rate or video.guessed_rate or 25
    encoder = cast("VideoStream", output.add_stream(codec, rate=rate, options=options))
    context = encoder.codec_context
    context.height, context.width, _ = shape
    context.pix_fmt = "yuv420p10le" if deep else "yuv420p"
    if codec == "libx265" and container.name in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # with FFmpeg's default, hev1, Apple's players show nothing
    context.thread_type = "FRAME"  # encodes while the next frame is upscaled, and better than by slices
    context.time_base = Fraction(video.time_base or 0)
    context.field_order = _PROGRESSIVE
    aspect = video.sample_aspect_ratio
    if aspect:
        context.sample_aspect_ratio = 1 / aspect if is_turned(frame) else aspect
    context.colorspace = colour_matrix(frame, target)
    context.color_range = LIMITED
    # 0 and 3 are reserved, and encoders refuse them.
    context.color_primaries = frame.color_primaries if frame.color_primaries not in (0, 3) else UNSPECIFIED
    context.color_trc = frame.color_trc if frame.color_trc not in (0, 3) else UNSPECIFIED
    return encoder


def _options(codec: str, frame: "av.VideoFrame") -> dict[str, str]:
    """Options of the encoder beside its quality, with the mastering data of the first frame."""
    if codec == "libvpx-vp9":
        return {"row-mt": "1", "cpu-used": "4"}  # the default is slower than the network
    mastering, light = _mastering(frame), side_data(frame, "CONTENT_LIGHT_LEVEL")
    levels = ",".join(map(str, struct.unpack("=2I", light[:8]))) if len(light) >= 8 else ""
    if codec == "libx265":
        parameters = ["log-level=none"]
        if mastering:  # in units of 0.00002 and of 0.0001 cd/m2
            parameters.append(f"master-display={_display(mastering, 50_000, 10_000)}")
        if levels:
            parameters.append(f"max-cll={levels}")
        return {"preset": "fast", "x265-params": ":".join(parameters)}  # the default takes twice as long
    if codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "0")  # else it writes to stderr
        parameters = [f"mastering-display={_display(mastering)}"] if mastering else []
        parameters += [f"content-light={levels}"] if levels else []
        return {"preset": "8"} | ({"svtav1-params": ":".join(parameters)} if parameters else {})
    return {}


def _display(mastering: _Mastering, steps: int = 0, luminance_steps: int = 0) -> str:
    """As x265 and SVT-AV1 read it: G(x,y)B(x,y)R(x,y)WP(x,y)L(most,least), in steps or as decimals."""

    def number(value: Fraction, steps: int) -> str:
        return str(round(value * steps)) if steps else f"{float(value):.5f}"

    red, green, blue, white = (
        ",".join(number(value, steps) for value in point) for point in mastering.chromaticities
    )
    least, most = (number(value, luminance_steps) for value in mastering.luminances)
    return f"G({green})B({blue})R({red})WP({white})L({most},{least})"


def _mastering(frame: "av.VideoFrame") -> _Mastering | None:
    """From FFmpeg's AVMasteringDisplayMetadata: ten fractions, and which of them are set."""
    data = side_data(frame, "MASTERING_DISPLAY_METADATA")
    if len(data) < 88:
        return None
    *numbers, has_primaries, has_luminances = struct.unpack("=22i", data[:88])
    if not (has_primaries and has_luminances) or 0 in numbers[1::2]:
        return None
    values = [Fraction(n, d) for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
    return _Mastering(list(zip(values[:8:2], values[1:8:2], strict=True)), (values[8], values[9]))
