"""Event files for TensorBoard, written without TensorFlow and without a thread.

tensorboardX's own `SummaryWriter` has a thread with a bounded queue: where a full disk ends the thread,
training would wait for the queue for ever.
"""

import itertools
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from wdsr_jax.system.files import path_errors, read_regular

Writer = Callable[..., None]  # (step, scalars, images), see `open_event_file`


@contextmanager
def open_event_file(workdir: Path, first_step: int, *, silent: bool = False) -> Iterator[Writer]:
    """Opens a new event file in `workdir`, and closes it at the end.

    Args:
        workdir: folder of the run.
        first_step: TensorBoard drops the points from this step on that an earlier, stopped run has left
            there: a run that is resumed shows none of them twice.
        silent: whether nothing is to be written, as by all processes but the lead.

    Yields:
        A function `write(step, scalars, images={})`: numbers by name, such as `train/loss`, and uint8 images
        (H, W, 3) by name. They are flushed when it returns. It raises UserError where they cannot be written.

    Raises:
        UserError: the file cannot be made.
    """
    if silent:
        yield lambda step, scalars, images=None: None
        return
    start = Event(step=first_step, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START))
    with path_errors(workdir, "TensorBoard's file cannot be written"):
        # Named by the second: two starts within one must not share a file.
        writer = EventsWriter(str(workdir / "events"), filename_suffix=f".{os.getpid()}.{first_step}")
        writer.write_event(start)
        writer.flush()

    def write(
        step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray] | None = None
    ) -> None:
        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in scalars.items()]
        for name, image in (images or {}).items():
            values += summary.image(name, image, dataformats="HWC").value
        with path_errors(workdir, "TensorBoard's file cannot be written"):
            writer.write_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))
            writer.flush()

    try:
        yield write
    finally:
        with suppress(OSError):  # all that was written has been flushed
            writer.close()


def read_scalars(workdir: Path) -> dict[str, list[tuple[int, float]]]:
    """The (step, value) of each scalar that runs have written in `workdir`, as TensorBoard would show them.

    What a later start of the run has written anew is dropped, and a record that a kill has cut short.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    files = sorted(workdir.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns)
    for event in itertools.chain.from_iterable(map(_read_events, files)):
        if event.session_log.status == SessionLog.START:
            for name, values in points.items():
                points[name] = [(step, value) for step, value in values if step < event.step]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                points.setdefault(value.tag, []).append((event.step, value.simple_value))
    return points


def _read_events(path: Path) -> Iterator[Event]:
    data = read_regular(path)
    while len(data) >= 12:
        (length,) = struct.unpack("<Q", data[:8])  # then its checksum (4 bytes), the event, its checksum (4)
        if len(data) < 16 + length:
            return
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
