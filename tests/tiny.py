"""The smallest runs: a network of 2,688 parameters on a few photographs of 64x48 pixels."""

import json
import struct
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from configs.quickstart import get_config


def write_photo(path, seed, size=(64, 48)):
    small = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)


def tiny_config(root: Path, cache_dir: Path, **overrides) -> ConfigDict:
    """6 steps of 4 patches; checkpoints at 2, 4, 6, validation at 3, 6; overrides such as train__steps=8."""
    config = get_config()
    config.model.update(blocks=1, filters=4)
    config.data.update(source="folder", root=str(root), cache_dir=str(cache_dir), patch_size=8, batch_size=4)
    config.train.update(steps=6, learning_rate=3e-3, warmup_steps=2)
    config.train.update(log_every=1, eval_every=3, checkpoint_every=2)
    for key, value in overrides.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


def read_points(workdir: Path) -> dict[str, list[tuple[int, object]]]:
    """What TensorBoard shows of a run: (step, value) of each tag; an image's value is its shape.

    Where a run was started anew at some step, the points of earlier starts from there on are dropped
    (tensorboard/backend/event_processing/event_accumulator.py).
    """
    points: dict[str, list[tuple[int, object]]] = {}
    for path in sorted(Path(workdir).glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        for event in read_events(path):
            if event.session_log.status == SessionLog.START:
                for tag in points:
                    points[tag] = [point for point in points[tag] if point[0] < event.step]
            for value in event.summary.value:
                is_image = value.HasField("image")
                shown = (value.image.height, value.image.width) if is_image else value.simple_value
                points.setdefault(value.tag, []).append((event.step, shown))
    return points


def read_events(path: Path) -> list[Event]:
    """The records of a TFRecord file: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def read_json(path: Path):
    return json.loads(path.read_text())
