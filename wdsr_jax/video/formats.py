"""The video formats that are read and written, by the endings of file names."""

import os
from pathlib import Path

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
