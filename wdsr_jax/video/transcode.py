"""Enlarging a video: its frames through a function, everything else as it was.

Frames are decoded, enlarged and encoded one after another, in memory that does not grow with the clip. Their
times and durations are kept, whatever the rate, to the resolution of the container (.mkv and .webm: 1 ms).
Audio, subtitles, chapters and attached fonts are copied without being encoded again. Data streams, cover
pictures and further video streams are left out. `frames` says what becomes of colours, and of frames that are
to be shown turned.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import replacing
from wdsr_jax.video.frames import (
    LIMITED,
    UNSPECIFIED,
    colour_matrix,
    frame_to_rgb,
    is_turned,
    make_even,
    rgb_to_yuv,
    upright,
)

try:
    import av
    from av.video.reformatter import VideoReformatter
except ImportError:
    av = None

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv"),
    *(".flv", ".3gp", ".ogv", ".vob"),
)
# Those that can be written: FFmpeg's name of the container, and the encoder.
WRITABLE_SUFFIXES = {
    ".mp4": ("mp4", "libx264"),
    ".m4v": ("mp4", "libx264"),
    ".mov": ("mov", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
}


def is_video(path: str | os.PathLike) -> bool:
    """Whether the file's ending is one of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def upscale_video(
    source: str | os.PathLike,
    target: str | os.PathLike,
    enlarge: Callable[[np.ndarray], np.ndarray],
    *,
    quality: int | None = None,
) -> None:
    """Writes `source` with its frames enlarged to `target`; a progress bar shows frames/s and the time left.

    The result appears whole or not at all: not after an exception, Ctrl-C or SIGTERM. If parts of the source
    are damaged, the result has the frames that could be read, and then this raises.

    Args:
        source: a video of any format that FFmpeg reads.
        target: ends in .mp4, .m4v, .mov or .mkv (H.264), or .webm (VP9); replaced if it exists.
        enlarge: makes an RGB frame, uint8 (H, W, 3), a larger one, uint8; the same size for every frame.
        quality: 1 to 100, as for JPEG; the encoder's crf is 51 (VP9: 63) times what is missing to 100. By
            default 65: crf 18 for H.264, which is hardly told from the original.

    Raises:
        UserError: PyAV is missing, `source` is missing, damaged or no video, or `target` cannot be written or
            hold the source's audio.
    """
    if av is None:
        raise UserError(f"{source}: videos need PyAV; pip install 'wdsr_jax[video]'")
    source, target = Path(source), Path(target)
    _check_target(source, target)
    damage: list[str] = []
    with closing(_open(source)) as clip:
        video = _video_stream(clip, source)
        try:
            with _sigterm_raises(), replacing(target) as file:
                frames = _convert(source, clip, video, target, file.name, enlarge, quality, damage)
        except (OSError, av.FFmpegError) as error:  # those of reading are caught where they arise
            raise UserError(f"{target}: cannot be written ({error.strerror or error})") from None
        if damage:
            of = f" of {video.frames}" if video.frames else ""
            raise UserError(
                f"{source}: damaged ({damage[0]}); {target} has the {frames}{of} frames that could be read"
            )


def _check_target(source: Path, target: Path) -> None:
    if target.suffix.lower() not in WRITABLE_SUFFIXES:
        raise UserError(f"{target}: videos are written as {', '.join(WRITABLE_SUFFIXES)}")
    codec = WRITABLE_SUFFIXES[target.suffix.lower()][1]
    if codec not in av.codecs_available:
        raise UserError(f"{target}: this build of PyAV has no {codec}; pip install --force-reinstall av")
    if not source.exists():
        raise UserError(f"{source}: no such file")
    if source.is_dir():
        raise UserError(f"{source}: is a folder, not a video")
    if target.is_dir():
        raise UserError(f"{target}: is a folder; give the name of a file")
    if target.exists() and target.samefile(source):
        raise UserError(f"{target}: is the input itself; give another name")


def _open(source: Path) -> Any:
    try:
        # "file:", lest FFmpeg takes what is before a colon in a name for a protocol
        return av.open(f"file:{source}", metadata_errors="replace")
    except (OSError, av.FFmpegError) as error:
        raise UserError(f"{source}: cannot be read as a video ({error.strerror or error})") from None


def _video_stream(clip: Any, source: Path) -> Any:
    """The first stream of moving pictures."""
    streams = [s for s in clip.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise UserError(f"{source}: has no video stream")
    if clip.format.name == "image2" or clip.format.name.endswith("_pipe"):
        raise UserError(f"{source}: is an image, not a video")
    if streams[0].codec_context is None:
        raise UserError(f"{source}: its video codec is not known to this build of PyAV")
    return streams[0]


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Makes SIGTERM exit by an exception, so that temporary files are removed, unless somebody handles it."""
    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _convert(
    source: Path,
    clip: Any,
    video: Any,
    target: Path,
    temporary: str,
    enlarge: Callable[[np.ndarray], np.ndarray],
    quality: int | None,
    damage: list[str],
) -> int:
    """Writes the enlarged clip to `temporary`; gives the count of frames, and in `damage` what went wrong."""
    copied = [s for s in clip.streams if s.type in ("audio", "subtitle")]
    container, _ = WRITABLE_SUFFIXES[target.suffix.lower()]
    options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
    output = av.open(f"file:{temporary}", "w", format=container, options=options)
    encoder, frames = None, 0
    copies: dict[int, Any] = {}  # by index in the source
    waiting: list[Any] = []  # packets that come before the first frame, whose size the header needs

    def copy(packet: Any) -> None:
        if packet.stream.index in copies:
            packet.stream = copies[packet.stream.index]
            try:
                output.mux(packet)
            except av.error.ArgumentError:
                damage.append(f"the times of a stream of {packet.stream.type} run backwards")

    try:
        with tqdm(total=_count(video), desc=source.name, unit="frame", leave=False) as bar:
            for item in _enlarged(
                _contents(clip, video, copied, damage), source, clip, video, enlarge, damage
            ):
                if isinstance(item, av.Packet):
                    waiting.append(item)
                else:
                    frame, rgb = item
                    if encoder is None:
                        encoder = _add_encoder(output, target, video, frame, rgb.shape, quality)
                        copies = _add_copies(output, target, clip, copied)
                        _start_encoding(output, target, encoder)
                        to_yuv = rgb_to_yuv(rgb.shape, encoder.codec_context.colorspace)
                    yuv = to_yuv(rgb)
                    yuv.pts, yuv.time_base, yuv.duration = frame.pts, video.time_base, frame.duration
                    output.mux(encoder.encode(yuv))
                    frames += 1
                    bar.update()
                if encoder:
                    for packet in waiting:
                        copy(packet)
                    waiting.clear()
            if not frames:
                raise UserError(f"{source}: damaged: no frame of it can be read")
            output.mux(encoder.encode())
        output.close()  # writes what is left, which can fail
    finally:
        with suppress(OSError, av.FFmpegError):
            output.close()
    return frames


def _count(video: Any) -> int | None:
    """How many frames there will be, as far as the container says."""
    seconds = (video.duration or 0) * video.time_base
    return video.frames or int(seconds * (video.average_rate or 0)) or None


def _enlarged(
    contents: Iterable[Any],
    source: Path,
    clip: Any,
    video: Any,
    enlarge: Callable[[np.ndarray], np.ndarray],
    damage: list[str],
) -> Iterator[Any]:
    """Packets as they come, and of each frame itself, with its time in the result, and the enlarged RGB."""
    start = _start(clip)
    reformatter = VideoReformatter()
    size = last = None
    for item in contents:
        _shift(item, start)
        if isinstance(item, av.Packet):
            yield item
            continue
        if item.pts is None:  # such as AVI's
            item.pts = 0 if last is None else last + _duration(video)
        if last is not None and item.pts <= last:
            damage.append(f"the times of frames run backwards after {float(last * video.time_base):.2f} s")
            continue
        last = item.pts
        rgb = upright(frame_to_rgb(item, reformatter, source), item)
        if size not in (None, rgb.shape):
            raise UserError(
                f"{source}: frames change their size at {float(last * video.time_base):.2f} s; split it there"
            )
        size = rgb.shape
        yield item, make_even(enlarge(rgb))


def _contents(clip: Any, video: Any, copied: Sequence[Any], damage: list[str]) -> Iterator[Any]:
    """Frames of `video` and packets of the streams that are copied, as they come."""
    try:
        for packet in clip.demux(video, *copied):
            if packet.stream is not video:
                if packet.size or packet.pts is not None:  # else it only marks the end of its stream
                    yield packet
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                damage.append(error.strerror or str(error))
                continue
            yield from frames
    except av.FFmpegError as error:
        damage.append(error.strerror or str(error))
        with suppress(av.FFmpegError):
            yield from video.decode(None)


def _start(clip: Any) -> Fraction:
    """What is subtracted from all times, in seconds: a broadcast starts at a random hour."""
    if clip.format.name in ("mpegts", "mpeg") and clip.start_time is not None:
        return Fraction(clip.start_time, 1_000_000)
    return Fraction(0)


def _shift(item: Any, start: Fraction) -> None:
    ticks = round(start / item.time_base) if start else 0
    if item.pts is not None:
        item.pts -= ticks
    if isinstance(item, av.Packet):
        item.dts = item.pts if item.dts is None else item.dts - ticks


def _duration(video: Any) -> int:
    return max(1, round(1 / (video.average_rate or video.guessed_rate or 25) / video.time_base))


def _add_encoder(
    output: Any, target: Path, video: Any, frame: Any, shape: Sequence[int], quality: int | None
) -> Any:
    _, codec = WRITABLE_SUFFIXES[target.suffix.lower()]
    worst = 51 if codec == "libx264" else 63
    missing = 35 if quality is None else 100 - quality
    options = {"crf": str(max(1, round(worst * missing / 100)))}  # 0 would be a profile that few players know
    if codec == "libvpx-vp9":
        options |= {"row-mt": "1", "cpu-used": "4"}  # by default it would be slower than the network
    rate = video.average_rate or video.guessed_rate or 25
    encoder = output.add_stream(codec, rate=rate, options=options)
    context = encoder.codec_context
    context.height, context.width, _ = shape
    context.pix_fmt = "yuv420p"
    context.flags |= av.codec.context.Flags.frame_duration  # else the last would be as long as the others
    context.thread_type = "FRAME"  # encodes while the next frame is enlarged, and better than by slices
    context.time_base = video.time_base
    aspect = video.sample_aspect_ratio
    if aspect:
        context.sample_aspect_ratio = 1 / aspect if is_turned(frame) else aspect
    context.colorspace = colour_matrix(frame, target)
    context.color_range = LIMITED
    # 0 and 3 are reserved, and encoders refuse them.
    context.color_primaries = frame.color_primaries if frame.color_primaries not in (0, 3) else UNSPECIFIED
    context.color_trc = frame.color_trc if frame.color_trc not in (0, 3) else UNSPECIFIED
    _copy_description(video, encoder)
    return encoder


def _add_copies(output: Any, target: Path, clip: Any, streams: Sequence[Any]) -> dict[int, Any]:
    """Adds what is copied to the result; gives the new streams by index in the source."""
    copies = {}
    for stream in streams:
        name = stream.codec_context.name if stream.codec_context else "of an unknown codec"
        try:
            copies[stream.index] = output.add_stream_from_template(stream)
            _copy_description(stream, copies[stream.index])
        except ValueError:
            if stream.type == "audio":
                raise UserError(
                    f"{target}: {target.suffix} cannot hold its audio ({name}); write .mkv instead"
                ) from None
            logging.warning("%s: left out subtitles (%s), which %s cannot hold", target, name, target.suffix)
    if target.suffix.lower() == ".mkv":
        for stream in clip.streams:
            if stream.type == "attachment":  # fonts of subtitles; written with the header
                output.add_stream_from_template(stream)
    about_the_file = ("major_brand", "minor_version", "compatible_brands", "encoder")
    output.metadata.update({k: v for k, v in clip.metadata.items() if k.lower() not in about_the_file})
    output.set_chapters(clip.chapters())
    return copies


def _copy_description(stream: Any, to: Any) -> None:
    to.disposition = stream.disposition
    to.metadata.update(
        {k: v for k, v in stream.metadata.items() if k in ("language", "title", "handler_name")}
    )


def _start_encoding(output: Any, target: Path, encoder: Any) -> None:
    try:
        output.start_encoding()
    except av.error.ExternalError:
        raise UserError(
            f"{target}: {encoder.codec_context.codec.name} cannot encode frames of"
            f" {encoder.width}x{encoder.height} pixels; use a smaller scale"
        ) from None
