"""The video formats that are read and written, by the endings of file names."""

import os
from pathlib import Path
from typing import NamedTuple


class Container(NamedTuple):
    """A format that videos are written in.

    Attributes:
        name: FFmpeg's.
        title: for messages.
        encoder: FFmpeg's name of the encoder for videos of 8 bits.
        deep_encoder: that for videos of more bits, which become 10, and for HDR.
        sound_encoder: that for sound that no container holds as it is.
    """

    name: str
    title: str
    encoder: str
    deep_encoder: str
    sound_encoder: str


VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv"),
    *(".flv", ".3gp", ".ogv", ".vob"),
)
# Those that can be written. libvpx as PyAV brings it has 8 bits only, so in WebM more bits are AV1.
WRITABLE_SUFFIXES = {
    ".mp4": Container("mp4", "MP4", "libx264", "libx265", "aac"),
    ".m4v": Container("mp4", "MP4", "libx264", "libx265", "aac"),
    ".mov": Container("mov", "MOV", "libx264", "libx265", "aac"),
    ".mkv": Container("matroska", "Matroska", "libx264", "libx265", "aac"),
    ".webm": Container("webm", "WebM", "libvpx-vp9", "libsvtav1", "libopus"),
}
# The containers that can be chosen by name, with their ending.
VIDEO_FORMATS = {suffix[1:]: suffix for suffix in (".mp4", ".mov", ".mkv", ".webm")}


def is_video(path: str | os.PathLike) -> bool:
    """Whether the file's ending is one of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES
