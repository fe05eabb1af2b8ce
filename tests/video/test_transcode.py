"""Videos, with small clips made here: times, copied streams, colours, orientation, damage, interruptions."""

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

from wdsr_jax.errors import UserError
from wdsr_jax.video import transcode as video
from wdsr_jax.video.transcode import upscale_video

av = pytest.importorskip("av")

CLIPS = Path(__file__).parents[3] / "shared/data/video"
KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # by H.273's number


def twice(frame: np.ndarray) -> np.ndarray:
    return frame.repeat(2, axis=0).repeat(2, axis=1)


def yuv_frame(planes: list[np.ndarray], pix_fmt: str = "yuv420p"):
    """A frame of three planes, (H, W) and two of chroma."""
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], pix_fmt)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
    return frame


def planes_of(frame) -> list[np.ndarray]:
    """In levels of 8 bits."""
    dtype, levels = (np.uint16, 4) if "10le" in frame.format.name else (np.uint8, 1)
    return [
        np.frombuffer(bytes(plane), dtype).reshape(plane.height, -1)[:, : plane.width] / levels
        for plane in frame.planes
    ]


def moving(count: int, height: int = 48, width: int = 64) -> list:
    """Frames with a gradient that moves."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    grey = [np.full((height // 2, width // 2), 128, np.uint8)] * 2
    return [yuv_frame([(60 + (x * 2 + y + 5 * i) % 120).astype(np.uint8), *grey]) for i in range(count)]


def write_clip(
    path,
    frames,
    pts=None,
    time_base=Fraction(1, 25),
    *,
    codec="libx264",
    crf=1,
    audio=None,
    srt=None,
    matrix=2,
    color_range=0,
    primaries=2,
    transfer=2,
    aspect=None,
    display=None,
    options=None,
):
    """Encodes `frames`; `audio` is a codec for half a second of noise, `srt` a file of subtitles."""
    frames = list(frames)
    pts = list(range(len(frames))) if pts is None else pts
    with av.open(str(path), "w", options=options or {}) as output:
        stream = output.add_stream(codec, rate=25, options={"crf": str(crf)} if codec == "libx264" else {})
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = frames[0].format.name
        context = stream.codec_context
        context.flags |= av.codec.context.Flags.frame_duration
        context.time_base, context.colorspace, context.color_range = time_base, matrix, color_range
        context.color_primaries, context.color_trc = primaries, transfer
        if aspect:
            context.sample_aspect_ratio = aspect
        if display:
            stream.set_display_matrix(display)
        sound = output.add_stream(audio, rate=48000, layout="mono") if audio else None
        if srt:
            text = av.open(str(srt))
            subtitles = output.add_stream_from_template(text.streams[0])
        for time, frame in zip(pts, frames, strict=True):
            frame.pts, frame.time_base = time, time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound:
            noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 24000)).astype(np.float32)
            if "s16" in sound.codec_context.format.name:
                noise = (noise * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(noise, format=sound.codec_context.format.name, layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            resampler = av.AudioResampler(
                sound.codec_context.format, "mono", 48000, sound.codec_context.frame_size or 1024
            )
            for part in [*resampler.resample(frame), *resampler.resample(None), None]:
                output.mux(sound.encode(part))
        if srt:
            for packet in text.demux():
                if packet.dts is not None:
                    packet.stream = subtitles
                    output.mux(packet)
            text.close()
    return path


def read_frames(path) -> list:
    with av.open(str(path)) as clip:
        return list(clip.decode(video=0))


def times(path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in read_frames(path)]


def length(path) -> Fraction:
    with av.open(str(path)) as clip:
        return clip.streams.video[0].duration * clip.streams.video[0].time_base


def packets(path, kind) -> list[tuple]:
    with av.open(str(path)) as clip:
        return [
            (bytes(p), p.pts * p.time_base, p.dts * p.time_base, p.duration * p.time_base)
            for p in clip.demux(getattr(clip.streams, kind))
            if p.dts is not None
        ]


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


def test_the_last_frame_is_shown_as_long(tmp_path):
    frames = moving(10)
    for frame in frames:
        frame.duration = 1
    frames[-1].duration = 7
    source = write_clip(tmp_path / "in.mp4", frames)
    assert length(source) == Fraction(16, 25)
    upscale_video(source, tmp_path / "out.mp4", twice)
    assert length(tmp_path / "out.mp4") == Fraction(16, 25)


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


def patches(matrix: int, full: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """Flat patches of 16 pixels: YCbCr planes (4:4:4, float), and RGB, by the matrix's definition."""
    rgb = np.random.default_rng(3).integers(30, 226, (4, 6, 3)).repeat(16, 0).repeat(16, 1) / 255
    kr, kb = KR_KB[matrix]
    y = kr * rgb[..., 0] + (1 - kr - kb) * rgb[..., 1] + kb * rgb[..., 2]
    cb, cr = (rgb[..., 2] - y) / (2 * (1 - kb)), (rgb[..., 0] - y) / (2 * (1 - kr))
    if full:
        return [255 * y, 128 + 255 * cb, 128 + 255 * cr], 255 * rgb
    return [16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr], 255 * rgb


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix, primaries, transfer", [(1, 1, 1), (6, 6, 6), (5, 5, 6), (9, 9, 14)])
def test_colours_are_those_of_the_streams_own_matrix_and_range(
    tmp_path, matrix, primaries, transfer, full, bits
):
    planes, rgb = patches(matrix, full)
    planes = [planes[0], planes[1][::2, ::2], planes[2][::2, ::2]]
    dtype, pix_fmt, factor = (np.uint8, "yuv420p", 1) if bits == 8 else (np.uint16, "yuv420p10le", 4)
    stored = [np.round(plane * factor).astype(dtype) for plane in planes]
    source = write_clip(
        tmp_path / "in.mp4",
        [yuv_frame(stored, pix_fmt) for _ in range(3)],
        matrix=matrix,
        color_range=2 if full else 1,
        primaries=primaries,
        transfer=transfer,
    )
    seen = []
    upscale_video(
        source, tmp_path / "out.mp4", lambda frame: (seen.append(frame), twice(frame))[1], quality=97
    )
    middles = (slice(8, None, 16), slice(8, None, 16))
    assert seen[0].dtype == dtype
    levels = seen[0][middles] / (1 if bits == 8 else 257)
    np.testing.assert_allclose(levels, rgb[middles], atol=3)
    assert abs(levels - rgb[middles]).mean() < 1

    result = read_frames(tmp_path / "out.mp4")[0]
    assert (result.colorspace, result.color_range) == (matrix, 1)
    assert (result.color_primaries, result.color_trc) == (primaries, transfer)
    limited, _ = patches(matrix, False)
    for got, want, step in zip(planes_of(result), limited, (32, 16, 16), strict=True):
        difference = got[step // 2 :: step, step // 2 :: step] - want[8::16, 8::16]
        assert abs(difference).max() < 4
        assert abs(difference.mean()) < 0.7  # the mean colour is not shifted


@pytest.mark.parametrize("width, matrix", [(96, 6), (1296, 1)])
def test_colours_without_a_name_are_read_as_players_do(tmp_path, width, matrix):
    flat = [
        np.full((64, width), 120, np.uint8),
        *[np.full((32, width // 2), v, np.uint8) for v in (100, 170)],
    ]
    source = write_clip(tmp_path / "in.mp4", [yuv_frame(flat)] * 2)
    upscale_video(source, tmp_path / "out.mp4", lambda frame: frame)
    result = read_frames(tmp_path / "out.mp4")[0]
    assert result.colorspace == matrix
    for got, want in zip(planes_of(result), (120, 100, 170), strict=True):
        np.testing.assert_allclose(got, want, atol=1)


def test_chroma_stays_where_it_was(tmp_path):
    """In H.264 chroma sample i lies on luma column 2i, and between luma rows 2i and 2i + 1."""
    for axis in (0, 1):
        ramp = 70 + 3 * np.arange(32)
        chroma = np.broadcast_to(ramp if axis else ramp[:, None], (32, 32)).astype(np.uint8)
        planes = [np.full((64, 64), 128, np.uint8), chroma, np.full((32, 32), 128, np.uint8)]
        source = write_clip(tmp_path / "in.mp4", [yuv_frame(planes)] * 2, matrix=1, color_range=1)
        seen = []
        upscale_video(source, tmp_path / "out.mp4", lambda f, s=seen: (s.append(f), f)[1], quality=97)
        blue = seen[0].astype(float).mean(1 - axis)[:, 2]
        # B - Y = 2 (1 - Kb) Cb, Y = (128 - 16) / 219
        cb = 128 + 224 * (blue / 255 - 112 / 219) / (2 * (1 - 0.0722))
        position = np.arange(64) / 2 - (0 if axis else 0.25)
        inner = slice(8, 44)  # further on blue is clipped
        assert abs((cb - (70 + 3 * position))[inner].mean()) < 0.25  # a quarter of a sample would be 0.75
        got = planes_of(read_frames(tmp_path / "out.mp4")[0])[1].mean(1 - axis)
        assert abs((got - ramp)[4:22].mean()) < 0.25


def test_odd_sizes_are_made_even_by_repeating_the_edge(tmp_path):
    planes = [np.random.default_rng(i).integers(100, 150, (21, 35), dtype=np.uint8) for i in range(3)]
    source = write_clip(tmp_path / "in.mp4", [yuv_frame(planes, "yuv444p")] * 2)
    upscale_video(source, tmp_path / "out.mp4", lambda frame: frame, quality=97)
    y = planes_of(read_frames(tmp_path / "out.mp4")[0])[0]
    assert y.shape == (22, 36)
    np.testing.assert_allclose(y[21], y[20], atol=6)
    np.testing.assert_allclose(y[:, 35], y[:, 34], atol=6)


# (a b; c d) from stored to shown: x' = ax + cy, y' = bx + dy; the translation does not matter here.
@pytest.mark.parametrize("a, b, c, d", [(s, 0, 0, t) for s in (1, -1) for t in (1, -1)])
@pytest.mark.parametrize("turned", [False, True])
def test_frames_are_stored_upright(tmp_path, a, b, c, d, turned):
    if turned:
        a, b, c, d = b, a, d, c
    unit = 1 << 16
    display = [a * unit, b * unit, 0, c * unit, d * unit, 0, 0, 0, 1 << 30]
    grey = [np.full((24, 32), 128, np.uint8)] * 2
    luma = np.zeros((48, 64), np.uint8)
    luma[:24, :32], luma[:24, 32:], luma[24:, :32], luma[24:, 32:] = 40, 90, 140, 190
    source = write_clip(
        tmp_path / "in.mp4", [yuv_frame([luma, *grey])] * 2, display=display, aspect=Fraction(4, 3)
    )
    upscale_video(source, tmp_path / "out.mp4", twice)
    result = read_frames(tmp_path / "out.mp4")[0]
    y = planes_of(result)[0]
    assert y.shape == ((128, 96) if turned else (96, 128))
    assert result.rotation == 0
    for row in (-1, 1):  # the middles of the quarters, seen from the centre
        for column in (-1, 1):
            shown_x, shown_y = a * column + c * row, b * column + d * row
            got = y[y.shape[0] * (2 + shown_y) // 4, y.shape[1] * (2 + shown_x) // 4]
            assert abs(got - luma[24 + 12 * row, 32 + 16 * column]) < 4
    with av.open(str(tmp_path / "out.mp4")) as clip:
        aspect = Fraction(3, 4) if turned else Fraction(4, 3)
        assert clip.streams.video[0].sample_aspect_ratio == aspect
    if not any((b, c)) or (a, d, b) == (0, 0, -c):  # a rotation: what PyAV says of it, counterclockwise
        stored = read_frames(source)[0]
        if a * d - b * c == 1:
            shown = np.rot90(planes_of(stored)[0], stored.rotation // 90)
            np.testing.assert_allclose(y[::2, ::2], shown, atol=6)


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
