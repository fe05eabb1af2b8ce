"""The streams of a video: which are read, which container holds them, what is left out."""

import io
import os
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import open_regular
from wdsr_jax.video.formats import WRITABLE_SUFFIXES

if TYPE_CHECKING:
    import av
    import av.stream
    from av.container import InputContainer
    from av.error import FFmpegError
    from av.stream import Stream
    from av.video.stream import VideoStream
else:
    try:
        import av
        from av.error import FFmpegError
    except ImportError:  # `transcode.upscale_video` says so
        av = None

# In the order in which they are tried for a video whose own container cannot be written.
_CHOICES = (".mp4", ".mov", ".mkv")


def open_video(source: Path) -> "InputContainer":
    """Opens a file with PyAV.

    Raises:
        UserError: it is no video, or damaged.
    """
    try:
        open_regular(source).close()
        # Without "file:" FFmpeg would take what is before a colon in a name for a protocol.
        # Texts that are no UTF-8: PyAV 19 keeps their bytes by itself, and 18 has to be told not to fail.
        if av.__version__.startswith("18."):
            return av.open(f"file:{source}", metadata_errors="replace")
        return av.open(f"file:{source}")
    except (OSError, FFmpegError) as error:
        raise UserError(f"{source}: cannot be read as a video ({error.strerror or error})") from None


def video_stream(container: "InputContainer", source: Path) -> "VideoStream":
    """The first stream of moving pictures.

    Raises:
        UserError: there is none that can be decoded; the message names `source`.
    """
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        raise UserError(f"{source}: has no video stream")
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        raise UserError(f"{source}: is an image, not a video")
    if streams[0].codec_context is None:
        raise UserError(f"{source}: its video codec is not known to this build of PyAV")
    return streams[0]


def choose_suffix(source: str | os.PathLike) -> str:
    """The ending for an upscaled video whose container the user leaves open.

    It is that of the source, where such files are written and hold its sound. Else it is one of .mp4, .mov
    and .mkv: one that holds the sound, and of these the first that holds the most subtitles. PCM goes into
    .mp4 last, since few players play it there.

    Args:
        source: a video; of one that cannot be read only the ending counts, since `upscale_video` will say
            what is wrong.
    """
    source = Path(source)
    suffix = source.suffix if source.suffix.lower() in WRITABLE_SUFFIXES else ""
    if av is None:
        return suffix or _CHOICES[0]
    try:
        with closing(open_video(source)) as container:
            if suffix and holds_sound(suffix.lower(), container):
                return suffix
            return min(_CHOICES, key=lambda choice: _faults(choice, container))
    except (UserError, ValueError, FFmpegError):
        return suffix or _CHOICES[0]


def _faults(suffix: str, container: "InputContainer") -> tuple[bool, bool, int]:
    """What speaks against a container, the worst first."""
    kept = streams_to_copy(container, suffix)
    has_pcm = any(codec_name(stream).startswith("pcm_") for stream in kept)
    subtitles = sum(not _is_chapters(stream) for stream in container.streams.subtitles)
    lost = subtitles - sum(stream.type == "subtitle" for stream in kept)
    return not holds_sound(suffix, container), suffix == ".mp4" and has_pcm, lost


def holds(suffix: str, stream: "Stream") -> bool:
    """Whether a container, a key of `WRITABLE_SUFFIXES`, can hold a stream as it is."""
    try:
        with av.open(io.BytesIO(), "w", format=WRITABLE_SUFFIXES[suffix].name) as output:
            output.add_stream_from_template(stream)
            output.start_encoding()  # some muxers refuse a codec only here
    except (ValueError, FFmpegError):
        return False
    return True


def holds_sound(suffix: str, container: "InputContainer") -> bool:
    """Whether a container can hold all sound of a video that any container can hold."""
    return all(
        holds(suffix, stream) or not any(holds(other, stream) for other in WRITABLE_SUFFIXES)
        for stream in container.streams.audio
    )


def check_sound(target: Path, container: "InputContainer") -> None:
    """Checks that the container that a file's name asks for can hold the sound.

    Raises:
        UserError: it cannot, and another can, which the message names.
    """
    suffix = target.suffix.lower()
    if holds_sound(suffix, container):
        return
    names = ", ".join(dict.fromkeys(codec_name(s) for s in container.streams.audio if not holds(suffix, s)))
    for other in (".mkv", *WRITABLE_SUFFIXES):
        if holds_sound(other, container):
            raise UserError(f"{target}: {suffix} cannot hold its audio ({names}); write {other} instead")


def streams_to_copy(container: "InputContainer", suffix: str) -> list["Stream"]:
    """The sound and subtitles that a container, a key of `WRITABLE_SUFFIXES`, holds as they are."""
    streams = (s for s in container.streams if s.type in ("audio", "subtitle") and not _is_chapters(s))
    return [s for s in streams if holds(suffix, s)]


def sound_to_encode(container: "InputContainer", suffix: str) -> list["av.AudioStream"]:
    """The sound that the container does not hold and that can be decoded."""
    return [s for s in container.streams.audio if not holds(suffix, s) and _is_decodable(s)]


def lost_streams(container: "InputContainer", video: "VideoStream", suffix: str) -> Iterator[str]:
    """What is not copied, in short phrases: streams of the source, beside `video`.

    Args:
        container: the source.
        video: the stream that is upscaled.
        suffix: the ending of the result, a key of `WRITABLE_SUFFIXES`.
    """
    _, title, *_, sound_encoder = WRITABLE_SUFFIXES[suffix]
    for stream in container.streams:
        name = codec_name(stream)
        if stream.type == "audio" and not holds(suffix, stream):
            anew = f"encoded anew as {'Opus' if sound_encoder == 'libopus' else 'AAC'}"
            yield f"sound ({name}, {anew if _is_decodable(stream) else 'which cannot be decoded'})"
        elif stream.type == "subtitle" and not _is_chapters(stream) and not holds(suffix, stream):
            yield f"subtitles ({name} does not fit in {title})"
        elif stream.type == "video" and stream is not video:
            yield "cover picture" if _is_cover(stream) else "a further video stream"
        elif stream.type == "attachment" and suffix != ".mkv":
            yield f"attached files ({title} holds none)"
        elif stream.type == "data" and not _is_chapters(stream) and "timecode" not in stream.metadata:
            handler = stream.metadata.get("handler_name", "").strip()
            yield f"data track ({handler})" if handler else "data track"
    if video.metadata.get("alpha_mode") == "1":  # WebM's, which the decoders leave out
        yield "alpha"


def timecode(container: "InputContainer", video: "VideoStream") -> str | None:
    """That of the first frame, such as 01:00:00:00, if the source has a timecode track."""
    streams = [video, *(stream for stream in container.streams if stream.type == "data")]
    return next((s.metadata["timecode"] for s in streams if "timecode" in s.metadata), None)


def codec_name(stream: "Stream") -> str:
    """FFmpeg's name of the stream's codec."""
    return stream.codec_context.codec.canonical_name if stream.codec_context else "of an unknown codec"


def _is_chapters(stream: "Stream") -> bool:
    """Whether it is QuickTime's track of the chapters' names, which FFmpeg has read as chapters already."""
    chapters = cast("InputContainer", stream.container).chapters()
    if not chapters or stream.type not in ("subtitle", "data") or stream.time_base is None:
        return False
    starts = [round(1000 * chapter["start"] * Fraction(chapter["time_base"] or 0)) for chapter in chapters]
    return starts == [round(1000 * entry.timestamp * stream.time_base) for entry in stream.index_entries]


def _is_cover(stream: "Stream") -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _is_decodable(stream: "Stream") -> bool:
    if not stream.codec_context or not getattr(stream.codec_context, "sample_rate", 0):
        return False
    try:
        stream.codec_context.open(strict=False)
    except FFmpegError:
        return False
    return True
