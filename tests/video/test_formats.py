"""Which files are videos, by their endings."""

from pathlib import Path

from wdsr_jax.video.formats import VIDEO_SUFFIXES, WRITABLE_SUFFIXES, is_video


def test_videos_are_told_by_their_ending():
    assert is_video("a/b.MP4")
    assert is_video(Path("x.mkv"))
    assert not is_video("a.png")
    assert not is_video("mp4")
    assert set(WRITABLE_SUFFIXES) < set(VIDEO_SUFFIXES)
