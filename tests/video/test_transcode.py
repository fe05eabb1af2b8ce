"""Videos, with small clips made here: times, copied streams, damage, interruptions."""

import os
import resource
import signal
import sys
import threading
import weakref
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.video.clips import av, length, moving, packets, read_frames, times, twice, write_clip, yuv_frame
from wdsr_jax.errors import UserError
from wdsr_jax.video import transcode as video
from wdsr_jax.video.transcode import upscale_video

CLIPS = Path(__file__).parents[3] / "shared/data/video"


def leftovers(folder) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix == ".tmp"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_times_of_a_variable_rate_are_kept_exactly(tmp_path, suffix):
    pts = [0, 3003, 3004, 7000, 12345, 90001, 90002, 99999]  # at 90 kHz; .mkv counts milliseconds
    base = Fraction(1, 90000) if suffix != ".mkv" else Fraction(1, 1000)
    source = write_clip(tmp_path / f"in{suffix}", moving(len(pts)), pts, base)
    upscale_video(source, tmp_path / f"out{suffix}", twice)
    assert times(source) == [p * base for p in pts]
    assert times(tmp_path / f"out{suffix}") == times(source)
    assert read_frames(tmp_path / f"out{suffix}")[-1].to_ndarray(format="rgb24").shape == (96, 128, 3)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])  # four encoders
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 9])  # encoders end some of these in B frames, left alone
def test_the_last_frame_is_shown_as_long(tmp_path, count, suffix, pix_fmt):
    frames = [frame.reformat(format=pix_fmt) for frame in moving(count)]
    for frame in frames:
        frame.duration = 1
    frames[-1].duration = 7
    source = write_clip(tmp_path / "in.mkv", frames)  # keeps the duration of each frame
    target = tmp_path / f"out{suffix}"
    upscale_video(source, target, twice)
    upscaled = read_frames(target)
    assert (len(upscaled), upscaled[0].format.name) == (count, pix_fmt)
    assert upscaled[-1].duration * upscaled[-1].time_base == Fraction(7, 25)
    if suffix == ".mp4":
        assert length(target) == Fraction(count + 6, 25)


@pytest.mark.parametrize("rate", [Fraction(1001, 30000), Fraction(1, 24), Fraction(1, 7)])
def test_times_of_a_constant_rate_are_kept_exactly(tmp_path, rate):
    source = write_clip(tmp_path / "in.mp4", moving(60), time_base=rate)
    upscale_video(source, tmp_path / "out.mp4", twice)
    assert times(tmp_path / "out.mp4") == times(source)
    assert len(times(source)) == 60


def test_a_broadcast_starts_at_zero(tmp_path):
    source = write_clip(
        tmp_path / "in.ts", moving(30), [900_000 + 3600 * i for i in range(30)], Fraction(1, 90000)
    )
    first = times(source)[0]
    assert first >= 10
    upscale_video(source, tmp_path / "out.mp4", twice)
    assert times(tmp_path / "out.mp4") == [t - first for t in times(source)]


def test_a_clip_without_times_gets_them_from_its_rate(tmp_path):
    source = write_clip(tmp_path / "in.avi", moving(30), codec="mpeg4")
    upscale_video(source, tmp_path / "out.mp4", twice)
    assert times(tmp_path / "out.mp4") == [Fraction(i, 25) for i in range(30)]


@pytest.mark.parametrize("suffix, codec", [(".mp4", "aac"), (".mov", "pcm_s16le"), (".mkv", "libopus")])
def test_audio_is_copied_byte_for_byte(tmp_path, suffix, codec):
    source = write_clip(tmp_path / f"in{suffix}", moving(12), audio=codec)
    upscale_video(source, tmp_path / f"out{suffix}", twice)
    before, after = packets(source, "audio"), packets(tmp_path / f"out{suffix}", "audio")
    assert len(before) > 10
    assert after == before


def test_subtitles_fonts_chapters_and_names_are_copied(tmp_path, caplog):
    srt = tmp_path / "lines.srt"
    srt.write_text("1\n00:00:00,080 --> 00:00:00,200\nfirst\n\n2\n00:00:00,300 --> 00:00:00,400\nsecond\n")
    plain = write_clip(tmp_path / "plain.mkv", moving(12), audio="libopus", srt=srt)
    source = tmp_path / "in.mkv"
    with av.open(str(plain)) as clip, av.open(str(source), "w") as output:  # what write_clip cannot do
        streams = [output.add_stream_from_template(s, opaque=True) for s in clip.streams]
        streams[2].metadata["language"] = "eng"
        output.add_attachment("a.ttf", "application/x-truetype-font", b"font")
        output.metadata["title"] = "a <title>"
        output.set_chapters(
            [{"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
        )
        for packet in clip.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    target = tmp_path / "out.mkv"
    upscale_video(source, target, twice)
    assert packets(target, "subtitles") == packets(source, "subtitles")
    assert [data for data, *_ in packets(target, "subtitles")] == [b"first", b"second"]
    assert packets(target, "audio") == packets(source, "audio")
    with av.open(str(target)) as clip:
        assert clip.metadata["title"] == "a <title>"
        assert [chapter["metadata"]["title"] for chapter in clip.chapters()] == ["one"]
        assert clip.streams.subtitles[0].language == "eng"
        assert [s.data for s in clip.streams if s.type == "attachment"] == [b"font"]
    upscale_video(source, tmp_path / "out.mp4", twice)  # Opus fits into .mp4, SubRip does not
    with av.open(str(tmp_path / "out.mp4")) as clip:
        assert not clip.streams.subtitles
    assert len(packets(tmp_path / "out.mp4", "audio")) == len(packets(source, "audio"))


def test_frames_are_not_gathered_in_memory(tmp_path):
    alive, most = [], []

    def enlarge(frame):
        result = twice(frame)
        alive.append(weakref.ref(result))
        most.append(sum(reference() is not None for reference in alive))
        return result

    upscale_video(write_clip(tmp_path / "in.mp4", moving(60)), tmp_path / "out.mp4", enlarge)
    assert max(most) <= 2
    assert len(most) == 60


def test_progress_counts_the_frames(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
    upscale_video(write_clip(tmp_path / "in.mp4", moving(6)), tmp_path / "out.mp4", twice)
    assert "in.mp4" in (bar := capsys.readouterr().err)
    assert "/6 frames [" in bar


def test_quality_is_the_size_of_the_file(tmp_path):
    source = write_clip(tmp_path / "in.mp4", moving(10))
    sizes = []
    for quality in (20, None, 95):
        upscale_video(source, tmp_path / "out.mp4", twice, quality=quality)
        sizes.append((tmp_path / "out.mp4").stat().st_size)
    assert sizes == sorted(set(sizes))


def test_webm_is_vp9(tmp_path):
    source = write_clip(tmp_path / "in.mkv", moving(10), audio="libopus")
    upscale_video(source, tmp_path / "out.webm", twice)
    with av.open(str(tmp_path / "out.webm")) as clip:
        assert clip.streams.video[0].codec_context.name.endswith("vp9")
    assert len(read_frames(tmp_path / "out.webm")) == 10
    assert packets(tmp_path / "out.webm", "audio") == packets(source, "audio")


@pytest.mark.parametrize("kind", ["cut", "zeroed"])
def test_of_a_damaged_clip_what_can_be_read_is_done(tmp_path, kind):
    source = write_clip(tmp_path / "in.mp4", moving(60), crf=18, options={"movflags": "faststart"})
    data = bytearray(source.read_bytes())
    if kind == "cut":
        del data[2 * len(data) // 3 :]
    else:
        data[len(data) // 2 : len(data) // 2 + len(data) // 8] = bytes(len(data) // 8)
    source.write_bytes(data)
    with pytest.raises(UserError, match=r"damaged .*out.mp4 has the \d+ of 60 frames"):
        upscale_video(source, tmp_path / "out.mp4", twice)
    assert 5 < len(read_frames(tmp_path / "out.mp4")) < 60
    assert not leftovers(tmp_path)


def test_recordings_put_end_to_end_are_not_what_they_seem(tmp_path):
    first = write_clip(tmp_path / "1.ts", moving(20), audio="aac").read_bytes()
    larger = write_clip(tmp_path / "2.ts", moving(20, 64, 96), range(20, 40), audio="aac").read_bytes()
    source, target = tmp_path / "in.ts", tmp_path / "out.mp4"
    source.write_bytes(first + first)
    with pytest.raises(UserError, match=r"damaged \(the times of .* run backwards.*out\.mp4 has the 20 "):
        upscale_video(source, target, twice)
    assert len(read_frames(target)) == 20
    source.write_bytes(first + larger)
    with pytest.raises(UserError, match=r"in\.ts: frames change their size at 0\.80 s"):
        upscale_video(source, target, twice)
    assert len(read_frames(target)) == 20  # that of before


def test_cover_pictures_are_no_video(tmp_path):
    for name, match in (("in.mp3", "in.mp3: has no video stream"), ("in.mp4", None)):
        with av.open(str(tmp_path / name), "w") as output:
            cover = output.add_stream("mjpeg", rate=25)
            cover.width, cover.height, cover.pix_fmt = 96, 96, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            sound = output.add_stream("libmp3lame", rate=44100, layout="mono")
            clip = output.add_stream("libx264", rate=25) if not match else None
            if clip:
                clip.width, clip.height, clip.pix_fmt = 64, 48, "yuv420p"
            output.mux(cover.encode(av.VideoFrame(96, 96, "yuvj420p")))
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), "fltp", "mono")
            frame.sample_rate = 44100
            output.mux(sound.encode(frame))
            for i, moved in enumerate(moving(5) if clip else []):
                moved.pts, moved.time_base = i, Fraction(1, 25)
                output.mux(clip.encode(moved))
            for stream in filter(None, (cover, sound, clip)):
                output.mux(stream.encode())
        if match:
            with pytest.raises(UserError, match=match):
                upscale_video(tmp_path / name, tmp_path / "out.mp4", twice)
        else:
            upscale_video(tmp_path / name, tmp_path / "out.mp4", twice)
            assert [(f.width, f.height) for f in read_frames(tmp_path / "out.mp4")] == [(128, 96)] * 5


def test_mistakes_are_named(tmp_path):
    source = write_clip(tmp_path / "in.mp4", moving(4), audio="aac")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video " * 50)
    (tmp_path / "folder.mp4").mkdir()
    whole = source.read_bytes()
    (tmp_path / "headless.mp4").write_bytes(whole[: len(whole) // 2])
    with av.open(str(tmp_path / "sound.mp3"), "w") as output:
        stream = output.add_stream("libmp3lame", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    av.VideoFrame(32, 32, "rgb24").to_image().save(tmp_path / "image.png")
    (tmp_path / "picture.mp4").write_bytes((tmp_path / "image.png").read_bytes())
    out = tmp_path / "out.mp4"
    for name, target, message in [
        ("missing.mp4", out, "missing.mp4: no such file"),
        ("empty.mp4", out, "empty.mp4: cannot be read as a video"),
        ("text.mp4", out, "text.mp4: cannot be read as a video"),
        ("headless.mp4", out, "headless.mp4: cannot be read as a video"),
        ("folder.mp4", out, "folder.mp4: is a folder"),
        ("sound.mp3", out, "sound.mp3: has no video stream"),
        ("picture.mp4", out, "picture.mp4: is an image"),
        ("in.mp4", source, "in.mp4: is the input itself"),
        ("in.mp4", tmp_path / "out.avi", r"out.avi: videos are written as .mp4,"),
        ("in.mp4", tmp_path / "none/out.mp4", "none/out.mp4: cannot be written"),
        ("in.mp4", tmp_path / "folder.mp4", "folder.mp4: is a folder"),
        ("in.mp4", tmp_path / "out.webm", r"out.webm: .webm cannot hold its audio \(aac\); write .mkv"),
    ]:
        with pytest.raises(UserError, match=message) as error:
            upscale_video(tmp_path / name, target, twice)
        assert "\n" not in str(error.value)
    assert source.read_bytes() == whole
    assert not out.exists()
    assert not (tmp_path / "out.webm").exists()
    assert not leftovers(tmp_path)


def test_frames_too_large_for_the_encoder_are_named(tmp_path):
    source = write_clip(tmp_path / "in.mp4", moving(2))
    with pytest.raises(UserError, match="libx264 cannot encode frames of 16640x64"):
        upscale_video(source, tmp_path / "out.mp4", lambda _: np.zeros((64, 16640, 3), np.uint8))
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_without_pyav_the_way_to_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "av", None)
    with pytest.raises(UserError, match=r"pip install 'wdsr_jax\[video\]'"):
        upscale_video(tmp_path / "in.mp4", tmp_path / "out.mp4", twice)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, suffix):
    noise = [
        yuv_frame(
            [np.random.default_rng(i).integers(0, 255, s, np.uint8) for s in ((48, 64), (24, 32), (24, 32))]
        )
        for i in range(12)
    ]
    source = write_clip(tmp_path / "in.mp4", noise)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(UserError, match=f"out{suffix}: cannot be written"):
            upscale_video(source, tmp_path / f"out{suffix}", twice)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize(
    "number, exception", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_an_interrupt_leaves_nothing_behind(tmp_path, number, exception):
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals come to the main thread")
    source = write_clip(tmp_path / "in.mp4", moving(20))
    done = []

    def enlarge(frame):
        done.append(frame)
        if len(done) == 10:
            os.kill(os.getpid(), number)
        return twice(frame)

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(exception) as raised:
        upscale_video(source, tmp_path / "out.mp4", enlarge)
    assert exception is KeyboardInterrupt or raised.value.code == 128 + number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert 10 <= len(done) <= 11
    assert os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs the clips of shared/data/video")
@pytest.mark.parametrize("name, count", [("carphone.mp4", 120), ("realshort.mp4", 36)])
def test_clips_of_real_cameras(tmp_path, name, count):
    source, target = CLIPS / name, tmp_path / name
    upscale_video(source, target, twice, quality=80)
    assert times(target) == times(source)
    assert len(times(target)) == count
    assert length(target) == length(source)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        if before.streams.audio:
            assert packets(target, "audio") == packets(source, "audio")
        assert after.streams.video[0].sample_aspect_ratio == before.streams.video[0].sample_aspect_ratio
    shifts = []
    for frames in zip(read_frames(source), read_frames(target), strict=True):
        for frame in frames:
            frame.colorspace = 6
        before, after = (frame.to_ndarray(format="rgb24", interpolation="ACCURATE_RND") for frame in frames)
        shifts.append(before.mean((0, 1)) - after.mean((0, 1)))
    assert abs(np.mean(shifts, 0)).max() < 0.4  # of 255, by channel
