"""What made each result: a small record in the folder of results, so that a second run knows what is done.

`.wdsr_jax.jsonl` has one line of JSON for each result, the latest last: its name, its source with size and
time, and the options that its pixels depend on. It is added to, never written anew, so that two runs that
write to one folder do not lose each other's lines.
"""

import argparse
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from wdsr_jax.system.files import open_regular
from wdsr_jax.weights.files import FAMILIES, find_weights, pretrained_for

RECORD_FILE = ".wdsr_jax.jsonl"
_MOST_BYTES = 2**26  # of a record that is read: some 200,000 results
_OPTIONS = ("scale", "width", "height", "megapixels", "perceptual", "ensemble", "consistent", "quality")
_OPTIONS += ("samples", "temperature", "seed")


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the command that the result depends on; of weights the name, size and time."""
    options = {name: getattr(args, name) for name in _OPTIONS}
    return {name: value for name, value in options.items() if value} | {"model": _weights_of(args.model)}


def _weights_of(model: str | None) -> list[Any] | str | None:
    """Of weights the name, size and time; a family's name; where none is named, whether there is a choice."""
    if model is None:  # without a choice it is the clean network, as in versions that shipped no other
        return "chosen" if pretrained_for(1, "photo") else None
    return model if model in FAMILIES else [model, *_size_and_time(find_weights(model))]


def entry_of(source: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of a result beside its name.

    Raises:
        OSError: the source is not there, or cannot be asked.
    """
    return {"source": os.fsdecode(source.absolute()), "stat": _size_and_time(source), "options": options}


def read_record(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of a folder by the results' names; what is damaged or missing counts as not there."""
    entries: dict[str, dict[str, Any]] = {}
    with suppress(OSError), open_regular(folder / RECORD_FILE) as file:
        for line in file.read(_MOST_BYTES).splitlines():
            with suppress(ValueError, RecursionError):
                entry = json.loads(line)
                if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                    entries[entry.pop("name")] = entry
    return entries


def add_to_record(target: Path, entry: dict[str, Any]) -> None:
    """Adds a result to the record of its folder; where that cannot be written, nothing is recorded."""
    line = json.dumps({"name": target.name, **entry}) + "\n"
    with suppress(OSError), open(target.parent / RECORD_FILE, "ab") as file:
        file.write(line.encode())


def is_same(entry: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    """Whether a result was made from the same file, as it is now, with the same options."""
    return entry is not None and all(entry.get(key) == other[key] for key in ("stat", "options"))


def _size_and_time(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
