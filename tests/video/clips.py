"""Small clips to test with, and what is read of clips."""

from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")


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


def write_with_sound(path, codec, count=6, rate=48000, layout="mono"):
    """A clip of MPEG-4 with a second of noise in any codec."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = output.add_stream(codec, rate=rate, layout=layout)
        for i, frame in enumerate(moving(count)):
            frame.pts, frame.time_base = i, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode())
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 48000)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, 0
        context = sound.codec_context
        resampler = av.AudioResampler(context.format, layout, rate, context.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            output.mux(sound.encode(part))
    return path


def sound_of(path) -> tuple[np.ndarray, float]:
    """The samples of the first channel, and the time of the first one."""
    with av.open(str(path)) as clip:
        frames = list(clip.decode(audio=0))
    resampler = av.AudioResampler("fltp", "mono")
    parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
    return np.concatenate(parts), float(frames[0].pts * frames[0].time_base)
