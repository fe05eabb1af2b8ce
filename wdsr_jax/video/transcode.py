"""Upscaling a video: its frames through a function, everything else as it was.

Frames are decoded, upscaled and encoded one after another, in memory that does not grow with the clip. Their
times and durations are kept, whatever the rate, to the resolution of the container (.mkv and .webm: 1 ms).
Audio, subtitles, chapters and attached fonts are copied without being encoded again. Data streams, cover
pictures and further video streams are left out. Colours and orientation: see `frames`.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

import numpy as np
from absl import logging
from tqdm import tqdm

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import replacing
from wdsr_jax.video.formats import WRITABLE_SUFFIXES
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

if TYPE_CHECKING:
    import av
    import av.codec.context
    import av.error
    import av.stream
    from av.container import InputContainer, OutputContainer
    from av.error import ArgumentError, ExternalError, FFmpegError
    from av.stream import Stream
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream
else:
    try:
        import av
        from av.error import ArgumentError, ExternalError, FFmpegError
        from av.video.reformatter import VideoReformatter
    except ImportError:  # `upscale_video` says so
        av = None

Upscale = Callable[[np.ndarray], np.ndarray]
# A packet that is copied, or a frame and its upscaled RGB: uint8 (H, W, 3).
_Item: TypeAlias = "av.Packet | tuple[av.VideoFrame, np.ndarray]"


class _Clip(NamedTuple):
    """A video that is read.

    Attributes:
        path: of the file, for messages.
        container: PyAV's.
        video: the stream whose frames are upscaled.
        damage: what could not be read, in the order in which it was found.
    """

    path: Path
    container: "InputContainer"
    video: "VideoStream"
    damage: list[str]


def upscale_video(
    source: str | os.PathLike,
    target: str | os.PathLike,
    upscale: Upscale,
    *,
    quality: int | None = None,
) -> None:
    """Writes `source` with its frames upscaled to `target`; a progress bar shows frames/s and the time left.

    The result appears whole or not at all: not after an exception, Ctrl-C or SIGTERM. If parts of the source
    are damaged, the result has the frames that could be read, and then this raises.

    Args:
        source: a video of any format that FFmpeg reads.
        target: ends in .mp4, .m4v, .mov or .mkv (H.264), or .webm (VP9); replaced if it exists.
        upscale: from an RGB frame, uint8 (H, W, 3), to a larger one, uint8; the same size for every frame.
        quality: 1 to 100, as for JPEG; the encoder's crf is 51 (VP9: 63) times (100 - quality) / 100. By
            default 65: crf 18 for H.264, which looks like the original.

    Raises:
        UserError: PyAV is missing, `source` is missing, damaged or no video, or `target` cannot be written or
            hold the source's audio.
    """
    if av is None:
        raise UserError(f"{source}: videos need PyAV; pip install 'wdsr_jax[video]'")
    source, target = Path(source), Path(target)
    _check_target(source, target)
    with closing(_open(source)) as container:
        clip = _Clip(source, container, _video_stream(container, source), damage=[])
        try:
            with _sigterm_raises(), replacing(target) as file:
                frames = _transcode(clip, target, file.name, upscale, quality)
        except (OSError, FFmpegError) as error:  # those of reading are caught where they arise
            raise UserError(f"{target}: cannot be written ({error.strerror or error})") from None
        if clip.damage:
            of = f" of {clip.video.frames}" if clip.video.frames else ""
            raise UserError(
                f"{source}: damaged ({clip.damage[0]}); {target} has the {frames}{of} frames "
                "that could be read"
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


def _open(source: Path) -> "InputContainer":
    try:
        # Without "file:" FFmpeg would take what is before a colon in a name for a protocol.
        return av.open(f"file:{source}", metadata_errors="replace")
    except (OSError, FFmpegError) as error:
        raise UserError(f"{source}: cannot be read as a video ({error.strerror or error})") from None


def _video_stream(container: "InputContainer", source: Path) -> "VideoStream":
    """The first stream of moving pictures."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise UserError(f"{source}: has no video stream")
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        raise UserError(f"{source}: is an image, not a video")
    if streams[0].codec_context is None:
        raise UserError(f"{source}: its video codec is not known to this build of PyAV")
    return streams[0]


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Makes SIGTERM raise, so that temporary files are removed, unless there is a handler already."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _transcode(clip: _Clip, target: Path, temporary: str, upscale: Upscale, quality: int | None) -> int:
    """Writes the upscaled clip to `temporary`, in the container that `target` names.

    Returns:
        How many frames it has.
    """
    container, _ = WRITABLE_SUFFIXES[target.suffix.lower()]
    options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
    copied = [s for s in clip.container.streams if s.type in ("audio", "subtitle")]
    output = av.open(f"file:{temporary}", "w", format=container, options=options)
    encoder, to_yuv, frames = None, None, 0
    copies: dict[int, Stream] = {}  # by index in the source
    try:
        with tqdm(total=_frame_count(clip.video), desc=clip.path.name, unit="frame", leave=False) as bar:
            for item in _frame_first(_upscaled(clip, copied, upscale)):
                if not isinstance(item, tuple):
                    _copy_packet(item, output, copies, clip.damage)
                    continue
                frame, rgb = item
                if encoder is None or to_yuv is None:  # the header needs the size of the first frame
                    encoder = _add_encoder(output, target, clip.video, frame, rgb.shape, quality)
                    copies = _add_copies(output, target, clip.container, copied)
                    _start_encoding(output, target, encoder)
                    to_yuv = rgb_to_yuv(rgb.shape, encoder.codec_context.colorspace)
                yuv = to_yuv(rgb)
                yuv.pts, yuv.time_base, yuv.duration = frame.pts, clip.video.time_base, frame.duration
                output.mux(encoder.encode(yuv))
                frames += 1
                bar.update()
            if encoder is None:
                raise UserError(f"{clip.path}: damaged: no frame of it can be read")
            output.mux(encoder.encode())
        output.close()  # writes what is left, which can fail
    finally:
        with suppress(OSError, FFmpegError):
            output.close()
    return frames


def _frame_first(items: Iterable[_Item]) -> Iterator[_Item]:
    """The same items, the packets before the first frame after it; nothing where there is no frame."""
    items = iter(items)
    early = []
    for item in items:
        if not isinstance(item, tuple):
            early.append(item)
            continue
        yield item
        del item  # a frame may be large
        yield from early
        yield from items
        return


def _copy_packet(
    packet: "av.Packet", output: "OutputContainer", copies: Mapping[int, "Stream"], damage: list[str]
) -> None:
    """Writes a packet of a stream that is copied; where its time is impossible, adds to `damage`."""
    if packet.stream.index not in copies:
        return
    packet.stream = copies[packet.stream.index]
    try:
        output.mux(packet)
    except ArgumentError:
        damage.append(f"the times of a stream of {packet.stream.type} run backwards")


def _frame_count(video: "VideoStream") -> int | None:
    """How many frames there will be, if the container says so."""
    seconds = (video.duration or 0) * _time_base(video)
    return video.frames or int(seconds * (video.average_rate or 0)) or None


def _upscaled(clip: _Clip, copied: Sequence["Stream"], upscale: Upscale) -> Iterator[_Item]:
    """Packets as they come, and each frame, with its time in the result, beside its upscaled RGB."""
    start = _start(clip.container)
    time_base = _time_base(clip.video)
    reformatter = VideoReformatter()
    size = last = None
    for item in _contents(clip, copied):
        _shift(item, start)
        if isinstance(item, av.Packet):
            yield item
            continue
        if item.pts is None:  # such as AVI's
            item.pts = 0 if last is None else last + _duration(clip.video)
        if last is not None and item.pts <= last:
            clip.damage.append(f"the times of frames run backwards after {float(last * time_base):.2f} s")
            continue
        last = item.pts
        rgb = upright(frame_to_rgb(item, reformatter, clip.path), item)
        if size not in (None, rgb.shape):
            raise UserError(
                f"{clip.path}: frames change their size at {float(last * time_base):.2f} s; split it there"
            )
        size = rgb.shape
        yield item, make_even(upscale(rgb))


def _contents(clip: _Clip, copied: Sequence["Stream"]) -> Iterator["av.Packet | av.VideoFrame"]:
    """Frames of the video and packets of the streams that are copied, as they come."""
    try:
        for packet in clip.container.demux(clip.video, *copied):
            if packet.stream is not clip.video:
                if packet.size or packet.pts is not None:  # else it only marks the end of its stream
                    yield packet
                continue
            try:
                frames = clip.video.decode(packet)
            except FFmpegError as error:
                clip.damage.append(error.strerror or str(error))
                continue
            yield from frames
    except FFmpegError as error:
        clip.damage.append(error.strerror or str(error))
        with suppress(FFmpegError):
            yield from clip.video.decode(None)


def _start(container: "InputContainer") -> Fraction:
    """Seconds to subtract from all times: the clock of a broadcast starts at any value."""
    if container.format.name in ("mpegts", "mpeg") and container.start_time is not None:
        return Fraction(container.start_time, 1_000_000)
    return Fraction(0)


def _shift(item: "av.Packet | av.VideoFrame", start: Fraction) -> None:
    """Subtracts `start` from the times of a packet or frame."""
    ticks = round(start / _time_base(item)) if start else 0
    if item.pts is not None:
        item.pts -= ticks
    if isinstance(item, av.Packet):
        item.dts = item.pts if item.dts is None else item.dts - ticks


def _time_base(item: "av.Packet | av.VideoFrame | VideoStream") -> Fraction:
    """Seconds of a tick."""
    return Fraction(item.time_base or 0)


def _duration(video: "VideoStream") -> int:
    """Ticks that a frame is shown at the stream's average rate."""
    return max(1, round(1 / (video.average_rate or video.guessed_rate or 25) / _time_base(video)))


def _add_encoder(
    output: "OutputContainer",
    target: Path,
    video: "VideoStream",
    frame: "av.VideoFrame",
    shape: Sequence[int],
    quality: int | None,
) -> "VideoStream":
    """Adds the stream of upscaled frames of `shape` (H, W, 3), described as `video` and `frame`."""
    _, codec = WRITABLE_SUFFIXES[target.suffix.lower()]
    worst = 51 if codec == "libx264" else 63
    missing = 35 if quality is None else 100 - quality
    options = {"crf": str(max(1, round(worst * missing / 100)))}  # 0 would be a profile that few players know
    if codec == "libvpx-vp9":
        options |= {"row-mt": "1", "cpu-used": "4"}  # the default is slower than the network
    rate = video.average_rate or video.guessed_rate or 25
    encoder = cast("VideoStream", output.add_stream(codec, rate=rate, options=options))
    context = encoder.codec_context
    context.height, context.width, _ = shape
    context.pix_fmt = "yuv420p"
    context.flags |= av.codec.context.Flags.frame_duration  # else the last would be as long as the others
    context.thread_type = "FRAME"  # encodes while the next frame is upscaled, and better than by slices
    context.time_base = _time_base(video)
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


def _add_copies(
    output: "OutputContainer", target: Path, source: "InputContainer", streams: Sequence["Stream"]
) -> dict[int, "Stream"]:
    """Adds what is copied to the result: streams, fonts, chapters, and the description of the file.

    Returns:
        The new streams by index in the source.

    Raises:
        UserError: the container cannot hold the audio.
    """
    copies: dict[int, Stream] = {}
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
        for stream in source.streams:
            if stream.type == "attachment":  # fonts of subtitles; written with the header
                output.add_stream_from_template(stream)
    of_the_container = ("major_brand", "minor_version", "compatible_brands", "encoder")
    output.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in of_the_container})
    output.set_chapters(source.chapters())
    return copies


def _copy_description(stream: "Stream", to: "Stream") -> None:
    to.disposition = stream.disposition
    to.metadata.update(
        {k: v for k, v in stream.metadata.items() if k in ("language", "title", "handler_name")}
    )


def _start_encoding(output: "OutputContainer", target: Path, encoder: "VideoStream") -> None:
    """Writes the header; UserError where the encoder refuses the size."""
    try:
        output.start_encoding()
    except ExternalError:
        raise UserError(
            f"{target}: {encoder.codec_context.codec.name} cannot encode frames of"
            f" {encoder.width}x{encoder.height} pixels; use a smaller scale"
        ) from None
