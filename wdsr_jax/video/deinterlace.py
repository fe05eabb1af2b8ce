"""Interlaced frames to progressive ones."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av
    import av.filter
else:
    try:
        import av
        import av.filter
    except ImportError:  # `transcode.upscale_video` says so
        av = None


def deinterlace(
    items: Iterable["av.Packet | av.VideoFrame"], on_interlaced: Callable[[], object]
) -> Iterator["av.Packet | av.VideoFrame"]:
    """The same items, the frames that are marked as interlaced deinterlaced by bwdif (FFmpeg).

    bwdif interpolates the lines of the second field from both fields of the frames around
    (W3FDIF of BBC R&D with Yadif's check for motion). A frame stays one frame at its time, so the rate is
    kept, and every second of the moments of motion is dropped. Progressive frames pass unchanged.

    Args:
        items: frames in order, with times and of one size, and packets, which pass.
        on_interlaced: is called for each interlaced frame.
    """
    deinterlacer: _Deinterlacer | None = None
    for item in items:
        if not isinstance(item, av.VideoFrame):
            yield item
            continue
        if item.interlaced_frame:
            on_interlaced()
        elif deinterlacer is None:
            yield item
            continue
        if deinterlacer is None or deinterlacer.format != item.format.name:
            if deinterlacer is not None:
                yield from deinterlacer.push(None)
            deinterlacer = _Deinterlacer(item)
        yield from deinterlacer.push(item)
    if deinterlacer is not None:
        yield from deinterlacer.push(None)


class _Deinterlacer:
    """FFmpeg's bwdif for frames like the first one; results come a frame late."""

    def __init__(self, frame: "av.VideoFrame"):
        self.format = frame.format.name
        self._time_base = frame.time_base
        self._graph = av.filter.Graph()
        self._graph.link_nodes(
            self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            ),
            self._graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
            self._graph.add("buffersink"),
        ).configure()

    def push(self, frame: "av.VideoFrame | None") -> Iterator["av.VideoFrame"]:
        """Takes a frame, or None for the end, and gives those that are done."""
        self._graph.vpush(frame)
        while True:
            try:
                done = self._graph.vpull()
            except (BlockingIOError, EOFError):  # it needs the next frame, or has no more
                return
            # bwdif counts in half ticks.
            if done.time_base and self._time_base and done.pts is not None:
                ratio = done.time_base / self._time_base
                done.pts, done.duration = round(done.pts * ratio), round(done.duration * ratio)
                done.time_base = self._time_base
            yield done
