"""Containers that hold a video's streams, sound encoded anew, descriptions, and what is said to be lost."""

from fractions import Fraction

import pytest

from tests.video.clips import av, moving, packets, twice, write_clip, write_with_sound
from wdsr_jax.errors import UserError
from wdsr_jax.video.streams import choose_suffix
from wdsr_jax.video.transcode import upscale_video

KEYS = {
    "com.apple.quicktime.location.ISO6709": "+48.8584+002.2945+035/",
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.creationdate": "2021-05-06T09:08:09+0200",
}


def rewrite(source, path, *, metadata=None, stream_metadata=None, chapters=None, options=None):
    """Copies the streams of a clip into another, described anew."""
    with av.open(str(source)) as clip, av.open(str(path), "w", options=options or {}) as output:
        streams = [output.add_stream_from_template(s, opaque=True) for s in clip.streams]
        output.metadata.update(metadata or {})
        streams[0].metadata.update(stream_metadata or {})
        output.set_chapters(chapters or [])
        for packet in clip.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return path


@pytest.mark.parametrize(
    "suffix, codec, chosen",
    [
        (".avi", "pcm_s16le", ".mov"),  # as .mp4 few players play it
        (".avi", "pcm_u8", ".mov"),
        (".avi", "pcm_mulaw", ".mov"),
        (".avi", "libmp3lame", ".mp4"),
        (".avi", "adpcm_ms", ".mp4"),  # by encoding it anew
        (".mkv", "libopus", ".mkv"),
        (".mov", "pcm_s16le", ".mov"),
    ],
)
def test_a_container_is_chosen_that_holds_the_sound(tmp_path, suffix, codec, chosen):
    source = write_with_sound(tmp_path / f"in{suffix}", codec)
    assert choose_suffix(source) == chosen
    target = tmp_path / f"out{chosen}"
    lost = upscale_video(source, target, twice)
    if codec == "adpcm_ms":
        assert lost == ("sound (adpcm_ms, encoded anew as AAC)",)
    else:
        assert lost == ()
        before, after = packets(source, "audio"), packets(target, "audio")
        assert b"".join(data for data, *_ in after) == b"".join(data for data, *_ in before)


def test_a_video_that_cannot_be_read_keeps_its_ending(tmp_path):
    for name, chosen in (("a.avi", ".mp4"), ("a.MOV", ".MOV"), ("missing.webm", ".webm")):
        if name[0] == "a":
            (tmp_path / name).write_text("no video")
        assert choose_suffix(tmp_path / name) == chosen


def test_a_container_that_the_user_named_is_not_changed_in_silence(tmp_path):
    source = write_with_sound(tmp_path / "in.avi", "pcm_u8")
    with pytest.raises(
        UserError, match=r"out.mp4: .mp4 cannot hold its audio \(pcm_u8\); write .mkv instead"
    ):
        upscale_video(source, tmp_path / "out.mp4", lambda _: pytest.fail("after work"))
    upscale_video(source, tmp_path / "out.mkv", twice)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.avi", "out.mkv"]


def test_quicktimes_keys_stay(tmp_path):
    clip = write_clip(tmp_path / "clip.mov", moving(4))
    flags = {"movflags": "use_metadata_tags"}
    source = rewrite(clip, tmp_path / "in.mov", metadata=KEYS | {"title": "a title"}, options=flags)
    for target in (tmp_path / "out.mov", tmp_path / "out.mp4", tmp_path / "out.mkv"):
        assert upscale_video(source, target, twice) == ()
        with av.open(str(target)) as result:
            found = {key.lower(): value for key, value in result.metadata.items()}
        assert {key: found[key.lower()] for key in KEYS} == KEYS
        assert found["title"] == "a title"
    # Without such keys the title stays where most programs look for it.
    source = rewrite(clip, tmp_path / "plain.mov", metadata={"title": "a title"})
    upscale_video(source, tmp_path / "out.mp4", twice)
    assert b"\xa9nam" in (tmp_path / "out.mp4").read_bytes()


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_the_timecode_stays(tmp_path, suffix):
    source = rewrite(
        write_clip(tmp_path / "clip.mov", moving(4)),
        tmp_path / "in.mov",
        stream_metadata={"timecode": "01:02:03:04"},
    )
    assert upscale_video(source, tmp_path / f"out{suffix}", twice) == ()
    with av.open(str(tmp_path / f"out{suffix}")) as clip:
        metadata = {key.lower(): value for key, value in clip.streams.video[0].metadata.items()}
        assert metadata["timecode"] == "01:02:03:04"
        assert suffix == ".mkv" or len(clip.streams.data) == 1


def test_chapters_stay_and_do_not_become_subtitles(tmp_path):
    millisecond = Fraction(1, 1000)
    chapters = [
        {"id": i, "start": a, "end": b, "time_base": millisecond, "metadata": {"title": f"part {i}"}}
        for i, (a, b) in enumerate([(0, 80), (80, 400)])
    ]
    clip = write_clip(tmp_path / "clip.mp4", moving(10))
    source = rewrite(clip, tmp_path / "in.mp4", chapters=chapters)
    for suffix in (".mp4", ".mkv", ".webm"):
        assert upscale_video(source, tmp_path / f"out{suffix}", twice) == ()
        with av.open(str(tmp_path / f"out{suffix}")) as result:
            assert [c["metadata"]["title"] for c in result.chapters()] == ["part 0", "part 1"]
            starts = [float(c["start"] * c["time_base"]) for c in result.chapters()]
            assert starts == pytest.approx([0, 0.08])
            assert len(result.streams.subtitles) == 0


def test_streams_that_do_not_fit_are_said(tmp_path):
    lines = tmp_path / "lines.srt"
    lines.write_text("1\n00:00:00,080 --> 00:00:00,200\nfirst\n")
    source = write_clip(tmp_path / "in.mkv", moving(6), audio="libopus", srt=lines)
    assert upscale_video(source, tmp_path / "out.mkv", twice) == ()
    assert upscale_video(source, tmp_path / "out.mp4", twice) == ("subtitles (subrip does not fit in MP4)",)
    assert upscale_video(source, tmp_path / "out.webm", twice) == ("subtitles (subrip does not fit in WebM)",)
    with av.open(str(source)) as clip, av.open(str(tmp_path / "more.mkv"), "w") as output:
        streams = [output.add_stream_from_template(s, opaque=True) for s in clip.streams]
        second = output.add_stream("libx264", rate=25)
        second.width, second.height, second.pix_fmt = 64, 48, "yuv420p"
        output.add_attachment("a.ttf", "application/x-truetype-font", b"font")
        for packet in clip.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
        for i, frame in enumerate(moving(3)):
            frame.pts, frame.time_base = i, Fraction(1, 25)
            output.mux(second.encode(frame))
        output.mux(second.encode())
    assert upscale_video(tmp_path / "more.mkv", tmp_path / "out.mkv", twice) == ("a further video stream",)
    assert upscale_video(tmp_path / "more.mkv", tmp_path / "out.mp4", twice) == (
        "subtitles (subrip does not fit in MP4)",
        "a further video stream",
        "attached files (MP4 holds none)",
    )
