"""Upscaling a video: its frames through a function, everything else as it was.

Frames are decoded, deinterlaced where they are interlaced, upscaled and encoded one after another, in memory
that does not grow with the clip. Their times and durations are kept, whatever the rate, to the resolution of
the container (.mkv and .webm: 1 ms). Sound, subtitles, chapters, attached fonts, the timecode and the file's
description are copied without being encoded again. What cannot be kept is returned in words. Colours, bits
and orientation: see `frames`; what a container holds: see `streams`.
"""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.system.console import Progress
from wdsr_jax.system.files import replacing
from wdsr_jax.video.deinterlace import deinterlace
from wdsr_jax.video.encoder import add_encoder
from wdsr_jax.video.formats import WRITABLE_SUFFIXES
from wdsr_jax.video.frames import (
    frame_losses,
    frame_to_rgb,
    is_deep,
    is_turned,
    make_even,
    rgb_to_yuv,
    upright,
)
from wdsr_jax.video.sound import SoundEncoder
from wdsr_jax.video.streams import (
    check_sound,
    lost_streams,
    open_video,
    sound_to_encode,
    streams_to_copy,
    timecode,
    video_stream,
)

if TYPE_CHECKING:
    import av
    from av.container import InputContainer, OutputContainer
    from av.error import ArgumentError, FFmpegError, InvalidDataError
    from av.stream import Stream
    from av.video.frame import PictureType
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream
else:
    try:
        import av
        from av.error import ArgumentError, FFmpegError, InvalidDataError
        from av.video.frame import PictureType
        from av.video.reformatter import VideoReformatter
    except ImportError:  # `upscale_video` says so
        av = None

Upscale = Callable[[np.ndarray], np.ndarray]
# A packet that is copied, or a frame and its upscaled RGB (H, W, 3).
_Item: TypeAlias = "av.Packet | tuple[av.VideoFrame, np.ndarray]"


class _Clip(NamedTuple):
    """A video that is read.

    Attributes:
        path: of the file, for messages.
        container: PyAV's.
        video: the stream whose frames are upscaled.
        damage: what could not be read, in the order in which it was found.
        lost: what the result lacks, each once and in that order.
    """

    path: Path
    container: "InputContainer"
    video: "VideoStream"
    damage: list[str]
    lost: dict[str, None]


def upscale_video(
    source: str | os.PathLike,
    target: str | os.PathLike,
    upscale: Upscale,
    *,
    quality: int | None = None,
) -> tuple[str, ...]:
    """Writes `source` with its frames upscaled to `target`, and shows how far it is.

    The result appears whole or not at all: not after an exception, Ctrl-C or SIGTERM. If parts of the source
    are damaged, the result has the frames that could be read, and then this raises.

    Args:
        source: a video of any format that FFmpeg reads.
        target: ends in .mp4, .m4v, .mov or .mkv (H.264), or .webm (VP9); replaced if it exists. Videos of
            more than 8 bits or in HDR become HEVC of 10 bits, in .webm AV1.
        upscale: from an RGB frame (H, W, 3) to a larger one of the same type, which is uint8, or uint16 for
            videos of more than 8 bits or in HDR; the same size for every frame.
        quality: 1 to 100, as for JPEG; the encoder's crf is 51 (VP9 and AV1: 63) times (100 - quality) / 100.
            By default 65: crf 18 for H.264, which looks like the original.

    Returns:
        What of the source the result lacks, in short phrases such as "alpha" or "interlacing (deinterlaced)".

    Raises:
        UserError: PyAV is missing, `source` is missing, damaged or no video, or `target` cannot be written or
            hold the source's sound where another container can.
    """
    if av is None:
        raise UserError(f"{source}: videos need PyAV; pip install 'wdsr_jax[video]'")
    source, target = Path(source), Path(target)
    _check_target(source, target)
    with closing(open_video(source)) as container:
        clip = _Clip(source, container, video_stream(container, source), damage=[], lost={})
        check_sound(target, container)
        clip.lost.update(dict.fromkeys(lost_streams(container, clip.video, target.suffix.lower())))
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
        return tuple(clip.lost)


def _check_target(source: Path, target: Path) -> None:
    if target.suffix.lower() not in WRITABLE_SUFFIXES:
        raise UserError(f"{target}: videos are written as {', '.join(WRITABLE_SUFFIXES)}")
    codec = WRITABLE_SUFFIXES[target.suffix.lower()].encoder
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


class _Output:
    """The file that is written: the upscaled frames, and what is copied.

    It is set up by the first frame, whose upscaled size the header needs.
    """

    def __init__(self, clip: _Clip, target: Path, container: "OutputContainer", quality: int | None):
        self._clip, self._target, self._container, self._quality = clip, target, container, quality
        self._copies: dict[int, Stream] = {}  # by index in the source, as the next one
        self._sounds: dict[int, SoundEncoder] = {}
        self._encoder: VideoStream | None = None
        self._to_yuv: Callable[[np.ndarray], av.VideoFrame] | None = None
        self._held: deque[av.VideoFrame] = deque()  # not encoded yet: they may be the last
        self._durations: dict[int, int] = {}  # of the frames that are not written, by time
        self.frames = 0

    def write_frame(self, frame: "av.VideoFrame", rgb: np.ndarray) -> None:
        """Encodes the upscaled RGB (H, W, 3) of a frame of the source."""
        if self._encoder is None or self._to_yuv is None:
            deep = rgb.dtype == np.uint16
            self._encoder = add_encoder(
                *(self._container, self._target, self._clip.video, frame, rgb.shape),
                quality=self._quality,
                deep=deep,
            )
            _copy_description(self._clip.video, self._encoder)
            self._add_copies(self._encoder)
            _start_encoding(self._container, self._target, self._encoder)
            self._to_yuv = rgb_to_yuv(rgb.shape, self._encoder.codec_context.colorspace, deep=deep)
        yuv = self._to_yuv(rgb)
        yuv.pts, yuv.time_base = frame.pts, self._clip.video.time_base
        self._durations[frame.pts or 0] = frame.duration
        self.frames += 1
        self._held.append(yuv)
        if self.frames > 2:
            self._encode(self._held.popleft())

    def write_packet(self, packet: "av.Packet") -> None:
        """Writes a packet of another stream; one that is damaged is noted."""
        stream = packet.stream
        if stream.index in self._sounds:
            self._write_sound(self._sounds[stream.index], packet)
        elif stream.index in self._copies:
            packet.stream = self._copies[stream.index]
            if (packet.duration or 0) >= 1 << 31:  # a negative one, by which Ogg cuts the end of its sound
                packet.duration = 0
            self._mux(packet)

    def finish(self) -> None:
        """Writes what is left in the encoders, and the end of the file."""
        if self._encoder is None:
            raise UserError(f"{self._clip.path}: damaged: no frame of it can be read")
        # MP4 keeps the duration of the frame that is decoded last, which must be the one shown last: the two
        # at the end are no B frames.
        if self.frames > 2:  # the very first is an I frame
            for yuv in self._held:
                yuv.pict_type = PictureType.P
        for yuv in (*self._held, None):
            self._encode(yuv)
        for sound in self._sounds.values():
            self._write_sound(sound, None)
        self._container.close()  # writes what is left, which can fail

    def _encode(self, yuv: "av.VideoFrame | None") -> None:
        """Encodes a frame, or with None what is left, and writes what comes of it."""
        assert self._encoder is not None
        for packet in self._encoder.encode(yuv):
            packet.duration = self._durations.pop(packet.pts or 0, 0)  # not every encoder keeps it
            if self.frames <= 2:  # x265 leaves the times of decoding of so few unset
                packet.dts = packet.pts
            self._container.mux(packet)

    def _write_sound(self, sound: SoundEncoder, packet: "av.Packet | None") -> None:
        try:
            for encoded in sound.encode(packet):
                self._mux(encoded)
        except InvalidDataError as error:
            self._clip.damage.append(f"sound: {error.strerror}")

    def _mux(self, packet: "av.Packet") -> None:
        try:
            self._container.mux(packet)
        except ArgumentError:
            self._clip.damage.append(f"the times of a stream of {packet.stream.type} run backwards")

    def _add_copies(self, encoder: "VideoStream") -> None:
        """Adds what is kept beside the frames: streams, fonts, chapters, timecode, the file's description."""
        source, suffix = self._clip.container, self._target.suffix.lower()
        for stream in streams_to_copy(source, suffix):
            self._copies[stream.index] = self._container.add_stream_from_template(stream)
            _copy_description(stream, self._copies[stream.index])
        for stream in sound_to_encode(source, suffix):
            sound = SoundEncoder(self._container, stream, WRITABLE_SUFFIXES[suffix].sound_encoder)
            self._sounds[stream.index] = sound
            _copy_description(stream, sound.stream)
        if suffix == ".mkv":
            for stream in source.streams:
                if stream.type == "attachment":  # fonts of subtitles; written with the header
                    self._container.add_stream_from_template(stream)
        if first := timecode(source, self._clip.video):
            encoder.metadata["timecode"] = first
        of_the_container = ("major_brand", "minor_version", "compatible_brands", "encoder")
        self._container.metadata.update(
            {k: v for k, v in source.metadata.items() if k.lower() not in of_the_container}
        )
        self._container.set_chapters(source.chapters())


def _transcode(clip: _Clip, target: Path, temporary: str, upscale: Upscale, quality: int | None) -> int:
    """Writes the upscaled clip to `temporary`, in the container that `target` names.

    Returns:
        How many frames it has.
    """
    container = WRITABLE_SUFFIXES[target.suffix.lower()].name
    options = {"movflags": _movflags(clip.container)} if container in ("mp4", "mov") else {}
    file = av.open(f"file:{temporary}", "w", format=container, options=options)
    output = _Output(clip, target, file, quality)
    suffix = target.suffix.lower()
    copied = [*streams_to_copy(clip.container, suffix), *sound_to_encode(clip.container, suffix)]
    try:
        with Progress(_frame_count(clip.video), "frames", clip.path.name) as progress:
            for item in _frame_first(_upscaled(clip, copied, upscale)):
                if isinstance(item, tuple):
                    output.write_frame(*item)
                    progress.update()
                else:
                    output.write_packet(item)
        output.finish()
    finally:
        with suppress(OSError, FFmpegError):
            file.close()
    return output.frames


def _movflags(source: "InputContainer") -> str:
    """Options of the muxer of MP4 and MOV.

    What QuickTime keeps under keys such as com.apple.quicktime.location.ISO6709 is lost without
    use_metadata_tags. With it, titles and comments go below such keys as well, where fewer programs look.
    """
    has_keys = any(key.lower().startswith("com.") for key in source.metadata)
    return "+faststart+use_metadata_tags" if has_keys else "+faststart"


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


def _frame_count(video: "VideoStream") -> int | None:
    """How many frames there will be, if the container says so."""
    seconds = (video.duration or 0) * _time_base(video)
    return video.frames or int(seconds * (video.average_rate or 0)) or None


def _upscaled(clip: _Clip, copied: Sequence["Stream"], upscale: Upscale) -> Iterator[_Item]:
    """Packets as they come, and each frame, with its time in the result, beside its upscaled RGB."""
    reformatter = VideoReformatter()
    deep = None
    for item in deinterlace(_timed(clip, copied), lambda: clip.lost.setdefault("interlacing (deinterlaced)")):
        if isinstance(item, av.Packet):
            yield item
            continue
        clip.lost.update(dict.fromkeys(frame_losses(item)))
        deep = is_deep(item) if deep is None else deep
        rgb = upright(frame_to_rgb(item, reformatter, clip.path, deep=deep), item)
        upscaled = upscale(rgb)
        if upscaled.dtype != rgb.dtype:
            raise ValueError(f"upscale made {upscaled.dtype} of a frame of {rgb.dtype}")
        yield item, make_even(upscaled)
        del item, upscaled


def _timed(clip: _Clip, copied: Sequence["Stream"]) -> Iterator["av.Packet | av.VideoFrame"]:
    """Packets and frames as they come, with their times in the result; frames are of one size."""
    start = _start(clip.container)
    time_base = _time_base(clip.video)
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
        of_this = (item.height, item.width, is_turned(item))
        if size not in (None, of_this):
            at = float(item.pts * time_base)
            raise UserError(f"{clip.path}: frames change their size at {at:.2f} s; split it there")
        size, last = of_this, item.pts
        yield item


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


def _copy_description(stream: "Stream", to: "Stream") -> None:
    to.disposition = stream.disposition
    to.metadata.update(
        {
            k: v
            for k, v in stream.metadata.items()
            if k in ("language", "title", "handler_name", "creation_time")
        }
    )


def _start_encoding(output: "OutputContainer", target: Path, encoder: "VideoStream") -> None:
    """Writes the header; UserError where the encoder refuses the size."""
    name = encoder.codec_context.codec.name  # PyAV 19 does not know it any more after a failure
    try:
        output.start_encoding()
    except FFmpegError:
        if encoder.codec_context.is_open:
            raise
        raise UserError(
            f"{target}: {name} cannot encode frames of"
            f" {encoder.width}x{encoder.height} pixels; use another scale"
        ) from None
