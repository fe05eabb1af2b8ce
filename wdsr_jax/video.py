"""Enlarging a video: its frames through a function, everything else as it was.

Frames are decoded, enlarged and encoded one after another, in memory that does not grow with the clip. Their
times and durations are kept, whatever the rate, to the resolution of the container (.mkv and .webm: 1 ms).
Audio, subtitles, chapters and attached fonts are copied without being encoded again. Data streams, cover
pictures and further video streams are left out.

Colours: frames become RGB by the matrix and range that the stream names, and go back to YCbCr by the same
matrix, which the result names, too, with primaries and transfer as they were. Where a stream names none,
BT.709 is taken above 576 lines or 1280 columns, BT.601 below, as players do. The result is 8-bit 4:2:0 in
limited range: more bits, finer chroma and alpha of a source are lost, and so are HDR's mastering data. Odd
sizes, which 4:2:0 does not have, are made even by repeating the last row or column. Frames that a display
matrix turns or mirrors are stored upright. Interlaced frames are enlarged as they are.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from wdsr_jax.errors import UserError
from wdsr_jax.files import replacing

try:
    import av
    from av.video.reformatter import Interpolation, VideoReformatter
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
# H.273's numbers of the matrices that swscale knows, and its names for them.
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_BT709, _BT601 = 1, 6
_UNSPECIFIED = 2
_LIMITED, _FULL = 1, 2
_SCALING = "accurate_rnd+full_chroma_int+full_chroma_inp"  # without, swscale darkens by 1 to 2 levels of 255


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
    start = _start(clip)
    options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
    output = av.open(f"file:{temporary}", "w", format=container, options=options)
    copies: dict[int, Any] = {}  # by index in the source
    waiting = []  # packets that come before the first frame, whose size the header needs
    reformatter = VideoReformatter()
    encoder = to_yuv = size = None
    frames, last = 0, None

    def copy(packet: Any) -> None:
        if packet.stream.index in copies:
            _shift(packet, start)
            packet.stream = copies[packet.stream.index]
            output.mux(packet)

    try:
        total = (
            video.frames or int((video.duration or 0) * video.time_base * (video.average_rate or 0)) or None
        )
        with tqdm(total=total, desc=source.name, unit="frame", leave=False) as bar:
            for item in _contents(clip, video, copied, damage):
                if isinstance(item, av.Packet):
                    if encoder is None:
                        waiting.append(item)
                    else:
                        copy(item)
                    continue
                _shift(item, start)
                if item.pts is None:  # such as AVI's
                    item.pts = 0 if last is None else last + _duration(video)
                if last is not None and item.pts <= last:
                    damage.append(f"the times of frames run backwards after frame {frames}")
                    continue
                rgb, turned = _upright(item, _to_rgb(item, reformatter, source))
                if size is None:
                    size = rgb.shape
                elif size != rgb.shape:
                    raise UserError(
                        f"{source}: frames change their size after frame {frames}; split it there"
                    )
                sr = _even(enlarge(rgb))
                if encoder is None:
                    encoder = _add_encoder(output, target, video, item, turned, sr.shape, quality)
                    copies = _add_copies(output, target, clip, copied)
                    _start_encoding(output, target, encoder)
                    to_yuv = _to_yuv(sr.shape, encoder)
                    for packet in waiting:
                        copy(packet)
                    waiting.clear()
                output.mux(encoder.encode(_with_times(to_yuv(sr), item, video)))
                frames, last = frames + 1, item.pts
                bar.update()
            if not frames:
                raise UserError(f"{source}: damaged: no frame of it can be read")
            output.mux(encoder.encode())
        output.close()  # writes what is left, which can fail
    finally:
        with suppress(OSError, av.FFmpegError):
            output.close()
    return frames


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


def _matrix(frame: Any, source: Path) -> int:
    """H.273's number of the matrix between YCbCr and RGB."""
    matrix = int(frame.colorspace)
    if matrix in _MATRICES:
        return matrix
    if matrix not in (0, _UNSPECIFIED, 3):  # 0 is RGB's, 3 is reserved
        raise UserError(f"{source}: its colours are coded in a way (matrix {matrix}) that is not read here")
    return _BT709 if frame.width > 1280 or frame.height > 576 else _BT601


def _to_rgb(frame: Any, reformatter: Any, source: Path) -> np.ndarray:
    """RGB, uint8 (H, W, 3), as stored; chroma where the stream says that it lies."""
    name = frame.format.name
    full = frame.color_range == _FULL or frame.format.is_rgb or name.startswith(("yuvj", "gray", "pal"))
    if frame.color_range == _LIMITED and name.startswith("gray"):
        full = False
    if not frame.format.is_rgb:
        frame.colorspace = _matrix(frame, source)
    rgb = reformatter.reformat(
        frame,
        format="rgb24",
        src_color_range=_FULL if full else _LIMITED,
        dst_color_range=_FULL,
        interpolation=Interpolation.BICUBIC
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP,
    )
    return rgb.to_ndarray()


def _upright(frame: Any, rgb: np.ndarray) -> tuple[np.ndarray, bool]:
    """The picture as its display matrix wants it shown, and whether rows have become columns.

    The matrix (ISO/IEC 14496-12, 8.2.2: a b u c d v x y w) maps stored to shown: x' = ax + cy, y' = bx + dy.
    Only quarter turns and mirrors are done, which is what cameras write.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return rgb, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    if a == d == 0 and b and c:
        rgb, horizontal, vertical, turned = rgb.swapaxes(0, 1), c, b, True
    elif b == c == 0 and a and d:
        horizontal, vertical, turned = a, d, False
    else:
        return rgb, False
    rgb = rgb[:: -1 if vertical < 0 else 1, :: -1 if horizontal < 0 else 1]
    return np.ascontiguousarray(rgb), turned


def _even(rgb: np.ndarray) -> np.ndarray:
    height, width, _ = rgb.shape
    return np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _add_encoder(
    output: Any, target: Path, video: Any, frame: Any, turned: bool, shape: Sequence[int], quality: int | None
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
        context.sample_aspect_ratio = 1 / aspect if turned else aspect
    context.colorspace = _matrix(frame, target)
    context.color_range = _LIMITED
    # 0 and 3 are reserved, and encoders refuse them.
    context.color_primaries = frame.color_primaries if frame.color_primaries not in (0, 3) else _UNSPECIFIED
    context.color_trc = frame.color_trc if frame.color_trc not in (0, 3) else _UNSPECIFIED
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


def _to_yuv(shape: Sequence[int], encoder: Any) -> Callable[[np.ndarray], Any]:
    """From RGB, uint8 (H, W, 3), to 4:2:0 in the encoder's colours.

    Chroma lies to the left between two rows, as H.264 and VP9 have it where nothing is said. swscale's
    reformatter would put it in the middle.
    """
    height, width, _ = shape
    matrix = _MATRICES[encoder.codec_context.colorspace]
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add("buffer", f"video_size={width}x{height}:pix_fmt=rgb24:time_base=1/1"),
        graph.add(
            "scale",
            f"{width}:{height}:flags=bilinear+{_SCALING}:out_color_matrix={matrix}:in_range=full"
            ":out_range=limited:out_h_chr_pos=0:out_v_chr_pos=128",
        ),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    ).configure()

    def to_yuv(rgb: np.ndarray) -> Any:
        graph.vpush(av.VideoFrame.from_ndarray(rgb, "rgb24"))
        return graph.vpull()

    return to_yuv


def _with_times(frame: Any, source: Any, video: Any) -> Any:
    frame.pts, frame.time_base, frame.duration = source.pts, video.time_base, source.duration
    return frame
