"""Damages and crafts files of every format that is read here, and looks at what the commands make of them.

python -m tests.fuzz [--seconds=60] [--seed=0] [--only=KIND ...] [--case=KIND:NUMBER] [--keep=DIR]

A case is a kind and a number, from which its files and its command follow: `--case` makes one again. Its
command runs in a process of its own, forked from this one, which has imported everything. A case fails where

- the process crashes, hangs, shows a traceback, or ends with another code than 0, 1 or 2;
- it takes 10 s of CPU or 1 GB of memory, beside what the pixels take that its picture claims to have;
- what it says is not lines of text, or does not name the file that it leaves out;
- an output is not whole, something temporary stays beside it, or the undamaged file of the batch is not done.

The files of cases that fail are kept in DIR, and their numbers printed.
"""

import argparse
import functools
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401
from PIL import Image

from tests.photo import samples, test_hostile
from tests.video.clips import moving, write_clip
from tests.weights.other_projects import keras_weights, save_keras, saved
from tests.weights.torch_writer import old_torch_bytes, torch_bytes
from wdsr_jax import convert, evaluate, main
from wdsr_jax.evaluation import benchmark
from wdsr_jax.image.files import image_size
from wdsr_jax.photo import batch, command
from wdsr_jax.photo.record import RECORD_FILE
from wdsr_jax.system.console import run_command
from wdsr_jax.training import loop
from wdsr_jax.weights import conversion
from wdsr_jax.weights.safetensors_files import open_safetensors

CPU_SECONDS, MEMORY = 10, 1e9
# What pixels may take beside: a file of a kilobyte may well have 178 million of them.
SECONDS_PER_PIXEL, BYTES_PER_PIXEL = 2e-6, 60
TRAINING_SECONDS = 40  # to compile and to take two steps
LONGEST_WAIT = 200  # seconds
LONGEST_LINE = 2000
COMMANDS = {"upscale": command.main, "evaluate": evaluate.main, "convert": convert.main, "train": main.main}
LOADED = (batch, benchmark, conversion, loop)  # by the commands, once their arguments have been read


class Result(NamedTuple):
    """How a command ended: its code (or minus a signal), what it said, CPU seconds and bytes at its peak."""

    code: int
    text: str
    seconds: float
    memory: float


# --- damage ---------------------------------------------------------------------------------------


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Some bytes overwritten, cut out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        if not data:
            break
        start = rng.randrange(len(data)) if rng.random() < 0.8 else rng.randrange(min(64, len(data)))
        stop = start + rng.choice((1, 1, 2, 4, 64))
        how = rng.randrange(4)
        if how == 0:
            data[start:stop] = rng.randbytes(len(data[start:stop]))
        elif how == 1:
            data[start:stop] = rng.choice((b"\0", b"\xff", b"\x7f")) * len(data[start:stop])
        elif how == 2:
            del data[start:stop]
        else:
            data[start:start] = data[start:stop]
    return bytes(data[: rng.randrange(1, len(data))] if rng.random() < 0.1 and len(data) > 1 else data)


def renumbered(content: bytes, rng: random.Random) -> bytes:
    """Some numbers of 1 to 8 bytes replaced by such as break programs: limits, sizes, nearby places."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        size = rng.choice((1, 2, 4, 4, 8))
        place = rng.randrange(max(1, len(data) - size))
        place = place if rng.random() < 0.5 else min(place, rng.randrange(600))
        limits = (0, 1, 2**7, 2**15, 2**16, 2**31, 2**32, 2**63, len(data), rng.randrange(len(data)))
        value = (rng.choice(limits) + rng.choice((-1, 0, 0, 1))) % 2 ** (8 * size)
        data[place : place + size] = value.to_bytes(size, rng.choice(("little", "big")))
    return bytes(data)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A file that is damaged in one way or the other."""
    return rng.choice((mutated, renumbered))(content, rng)


def odd_json(rng: random.Random, depth: int = 0):
    """A value of JSON such as programs do not expect."""
    words = ["", "x" * 3000, "\x1b[2J", "a\nb", "\ud800", "../../x", "nan", "wdsr_a", "F32"]
    numbers = [0, -1, 1e308, float("inf"), float("nan"), 2**31, 2**63, -(2**63), 10**400, 0.5]
    simple = [None, True, *words, *numbers]
    if depth > 2 or rng.random() < 0.6:
        return rng.choice(simple)
    values = [odd_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    return values if rng.random() < 0.5 else {str(rng.choice(words)): value for value in values}


def odd_document(document, rng: random.Random) -> bytes:
    """JSON with values replaced, removed or added somewhere, or nested deeply."""
    document = json.loads(json.dumps(document))
    for _ in range(rng.randint(1, 2)):
        place, holder = document, None
        while isinstance(place, dict | list) and place and (holder is None or rng.random() < 0.8):
            key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
            holder, place = place, place[key]
        if holder is None:
            document = odd_json(rng)
        elif rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = odd_json(rng)
    text = json.dumps(document)
    if rng.random() < 0.1:
        deep = 10 ** rng.randint(2, 6)
        text = text.replace(rng.choice(("null", '"', "1", "{")), "[" * deep + "]" * deep, 1)
    content = text.encode()
    return mutated(content, rng) if rng.random() < 0.3 and content else content


def in_another_process(make: Callable[[Path], None]) -> dict[str, bytes]:
    """The files that `make` writes into a folder, by name: JAX and codecs start threads, which forks lack."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        process = multiprocessing.get_context("fork").Process(target=make, args=[Path(folder)])
        process.start()
        process.join()
        assert process.exitcode == 0
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


# --- pictures -------------------------------------------------------------------------------------

PIXELS = np.random.default_rng(3).integers(0, 256, (24, 20, 4), np.uint8)
FORMATS = {
    "jpeg": ("JPEG", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}]),
    "png": ("PNG", [{}, {"compress_level": 0}]),
    "webp": ("WEBP", [{}, {"lossless": True}]),
    "avif": ("AVIF", [{}]),
    "tiff": (
        "TIFF",
        [{}, *({"compression": c} for c in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"))],
    ),
    "gif": ("GIF", [{}, {"save_all": True, "append_images": [Image.new("RGB", (20, 24), "red")]}]),
    "mpo": ("MPO", [{"save_all": True, "append_images": [Image.new("RGB", (20, 24), "red")]}]),
    "bmp": ("BMP", [{}]),
    "jp2": ("JPEG2000", [{}]),
    "heic": ("HEIF", [{}]),
    "jxl": ("JXL", [{}]),
}
MODES = ("RGB", "L", "RGBA", "P", "I;16", "1", "CMYK", "LA")


def write_pictures(kind: str, folder: Path) -> None:
    """Files of a format: of each mode that it has, plain and with EXIF, ICC profile and XMP."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff says what it cannot write
    pillow_heif.register_heif_opener()
    image_format, all_options = FORMATS[kind]
    metadata = {"exif": samples.exif_block(), "icc_profile": samples.SRGB, "xmp": samples.XMP}
    for mode in MODES:
        deep = Image.fromarray(samples.DEEP[..., 0])
        image = deep if mode == "I;16" else Image.fromarray(PIXELS).convert("RGB").convert(mode)
        for i, options in enumerate((*all_options, all_options[0] | metadata)):
            path = folder / f"{mode}-{i}"
            try:
                image.save(path, image_format, **options)
            except (OSError, ValueError, TypeError, KeyError, RuntimeError):  # not of this mode
                path.unlink(missing_ok=True)
    if kind == "png":
        (folder / "interlaced").write_bytes(samples.png(samples.DEEP, interlaced=True))


@functools.cache
def pictures(kind: str) -> list[bytes]:
    """Undamaged files of a format."""
    return list(in_another_process(functools.partial(write_pictures, kind)).values())


def with_right_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold now."""
    data, place = bytearray(content), 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return bytes(data)


def odd_exif(rng: random.Random) -> bytes:
    """EXIF whose directories are large, overlap, form chains or circles, or say anything at all."""
    count = rng.randint(1, 10 ** rng.randint(1, 3))
    makers = (test_hostile.many_pointers, test_hostile.overlapping, test_hostile.chain)
    how = rng.randrange(5)
    if how < 3:
        return makers[how](min(count, 2000))[:65_000]
    if how == 3:
        return test_hostile.one_value_for_all(rng.randint(100, 60_000))
    tags = (0x0112, 0x8769, 0x8825, 0xA005, 0x0201, 0x0202, 0x927C, 0x014A, 0x02BC, 0x010F, 0x9286)
    entries = [
        (
            rng.choice(tags),
            rng.randrange(14),
            rng.choice((0, 1, 2, 70, 2**32 - 1)),
            rng.randrange(12 * count + 40),
        )
        for _ in range(count)
    ]
    return b"II*\0\x08\0\0\0" + test_hostile.directory(entries, rng.choice((0, 8, 14, 20, 2**31)))


def crafted(kind: str, rng: random.Random) -> bytes:
    """A picture of a format with EXIF, or chunks, that somebody made by hand."""
    exif = odd_exif(rng)
    if kind in ("jpeg", "mpo"):
        content = test_hostile.jpeg(exif[:65_000])
        if rng.random() < 0.2:  # many scans
            start = content.index(b"\xff\xda")
            content = content[:start] + content[start:-2] * rng.randint(2, 600) + content[-2:]
        return content
    if kind == "png":
        content = test_hostile.png(exif, raw_profile=rng.random() < 0.5)
        names = (
            b"zTXt",
            b"iTXt",
            b"iCCP",
            b"tEXt",
            b"tRNS",
            b"PLTE",
            b"acTL",
            b"fcTL",
            b"fdAT",
            b"gAMA",
            b"IHDR",
        )
        bomb = zlib.compress(bytes(10 ** rng.randint(1, 7)))
        body = rng.choice((b"a\0\0" + bomb, b"XML:com.adobe.xmp\0\1\0\0\0" + bomb, rng.randbytes(40), exif))
        chunks = samples.png_chunk(rng.choice(names), body) * rng.choice((1, 1, 2, 500))
        return content[:33] + chunks + content[33:]
    if kind == "tiff":
        base = test_hostile.tiff([(rng.choice((0x8769, 0x014A)), 8 * i) for i in range(rng.randrange(300))])
        return base + exif
    held = Image.Exif()
    held[0x010E] = "x" * max(len(exif), 100)
    room = held.tobytes()[6:]  # Pillow would look into the other
    content = samples.encoded(PIXELS[..., :3], FORMATS[kind][0], exif=held.tobytes())
    return content.replace(room, exif.ljust(len(room), b"\0"))


def make_picture(kind: str, rng: random.Random, folder: Path) -> list[str]:
    """One picture that is damaged, beside one that is not, to upscale or to measure."""
    source = folder / "in"
    source.mkdir()
    content = rng.choice(pictures(kind))
    if kind not in ("gif", "bmp", "jp2", "heic", "jxl") and rng.random() < 0.3:
        content = crafted(kind, rng)
    if rng.random() < 0.8:
        content = damaged(content, rng)
    if kind == "png" and rng.random() < 0.7:
        content = with_right_checksums(content)
    ending = "jpg" if kind == "mpo" else kind
    (source / f"odd.{ending}").write_bytes(content)
    write_good(source / "good.png")
    if rng.random() < 0.2:
        return ["evaluate", "--model=bicubic", "--scale=2", f"--out={folder}/out.json", str(source)]
    form = rng.choice(([], [], ["--format=tiff"], ["--format=jpeg"], ["--format=webp"], ["--format=avif"]))
    return ["upscale", str(source), f"--out={folder}/out", "--scale=1", *form]


def write_good(path: Path) -> None:
    Image.fromarray(PIXELS[..., :3]).save(path)


# --- weights --------------------------------------------------------------------------------------


def write_weights(folder: Path) -> None:
    """Weights of small networks: our own, the official code's, and those of Keras."""
    saved(folder / "own.safetensors", filters=4, blocks=1, scale=2)
    conversion.convert_to_torch(folder / "own.safetensors", folder / "official.safetensors")
    with open_safetensors(folder / "official.safetensors") as file:
        state = {name: file.read(name) for name in file.heads}
    (folder / "state.pth").write_bytes(torch_bytes(state))
    (folder / "more.pth").write_bytes(torch_bytes({"state_dict": state, "epoch": 3}))
    (folder / "old.pth").write_bytes(old_torch_bytes(state))
    for norm in (True, False):
        save_keras(keras_weights("a", 2, blocks=1, filters=4), folder / f"{norm}.h5", norm=norm)


@functools.cache
def weight_files() -> dict[str, bytes]:
    """Undamaged files of weights by name."""
    return in_another_process(write_weights)


def odd_header(content: bytes, rng: random.Random) -> bytes:
    """Safetensors whose header, which is JSON, says something odd in the right place."""
    length = int.from_bytes(content[:8], "little")
    header = odd_document(json.loads(content[8 : 8 + length]), rng)
    if b"__metadata__" in content[:200] and rng.random() < 0.5:
        document = json.loads(content[8 : 8 + length])
        model = document.get("__metadata__", {}).get("model", "{}")
        document["__metadata__"]["model"] = odd_document(json.loads(model), rng).decode("utf-8", "replace")
        header = json.dumps(document).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def odd_pickle(content: bytes, rng: random.Random) -> bytes:
    """The zip file of `torch.save`, whole, with a damaged pickle or other entries within."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(".pkl"):
                data = damaged(data, rng)
                if rng.random() < 0.2:
                    opcodes = rng.choice(
                        (b"(", b"]", b"}2", b"0", b"(t", b"]q\0h\0a", b"cos\nsystem\n", b"\x8a\xff")
                    )
                    data = data[:2] + opcodes * 10 ** rng.randint(1, 5) + data[2:]
            new.writestr(
                name, data, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            )
    return out.getvalue()


def make_weights(kind: str, rng: random.Random, folder: Path) -> list[str]:
    """A file of weights to convert, or to load as a network of this package's own."""
    content = rng.choice([content for name, content in weight_files().items() if name.endswith(kind)])
    craft = {"safetensors": odd_header, "pth": odd_pickle, "h5": damaged}[kind]
    if rng.random() < 0.4 and (kind != "pth" or content[:2] == b"PK"):
        content = craft(content, rng)
    else:
        content = damaged(content, rng)
    path = folder / f"odd.{kind}"
    path.write_bytes(content)
    to = ["--to=torch"] if kind == "safetensors" and rng.random() < 0.5 else []
    return ["convert", str(path), f"{folder}/out.safetensors", *to]


# --- videos, records, workdirs --------------------------------------------------------------------


def write_clips(folder: Path) -> None:
    """Clips of three frames in several containers, most with sound."""
    for ending, codec in {"mp4": "aac", "mkv": "aac", "mov": "aac", "avi": None}.items():
        write_clip(folder / f"odd.{ending}", moving(3, 16, 16), audio=codec)


@functools.cache
def clips() -> dict[str, bytes]:
    """Undamaged clips by name."""
    return in_another_process(write_clips)


def make_video(kind: str, rng: random.Random, folder: Path) -> list[str]:
    """A clip beside a picture, which is not damaged."""
    name, content = rng.choice(list(clips().items()))
    source = folder / "in"
    source.mkdir()
    (source / name).write_bytes(damaged(content, rng))
    write_good(source / "good.png")
    return ["upscale", str(source), f"--out={folder}/out", "--scale=1"]


def make_record(kind: str, rng: random.Random, folder: Path) -> list[str]:
    """A folder of results whose record is odd."""
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    write_good(folder / "in/good.png")
    entry = {
        "name": "good.png",
        "source": str(folder / "in/good.png"),
        "stat": [7, 9],
        "options": {"scale": 1.0},
    }
    lines = [odd_document(entry, rng) for _ in range(rng.randint(1, 5))]
    for place in ("in", "out"):
        (folder / place / RECORD_FILE).write_bytes(b"\n".join(lines))
    return ["upscale", str(folder / "in"), f"--out={folder}/out", "--scale=1"]


TINY_RUN = [
    "--config=configs/quickstart.py",
    "--config.model.filters=4",
    "--config.model.blocks=1",
    "--config.data.source=folder",
    "--config.data.patch_size=8",
    "--config.data.batch_size=2",
    "--config.data.workers=0",
    "--config.train.steps=2",
    "--config.train.warmup_steps=1",
    "--config.train.checkpoint_every=1",
    "--config.train.eval_every=1",
]


@functools.cache
def finished_run() -> Path:
    """A workdir whose run is done, beside its pictures."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-run"))
    (folder / "photos").mkdir()
    for i in range(3):
        write_good(folder / f"photos/{i}.png")
    result = run_case(train_command(folder, folder / "run"), folder, CPU_SECONDS * 20, MEMORY * 4)
    assert result.code == 0, result.text
    return folder


def train_command(folder: Path, workdir: Path) -> list[str]:
    root, cache = f"--config.data.root={folder}/photos", f"--config.data.cache_dir={folder}/cache"
    return ["train", *TINY_RUN, root, cache, f"--workdir={workdir}"]


def make_workdir(kind: str, rng: random.Random, folder: Path) -> list[str]:
    """A run that is started again after something in its folder was damaged, added or removed."""
    whole = finished_run()
    shutil.copytree(whole / "run", folder / "run")
    files = sorted(path for path in (folder / "run").rglob("*") if path.is_file())
    how = rng.randrange(4)
    if how == 0:
        path = folder / "run" / rng.choice(("config.json", "evaluation.json", "environment.json"))
        path.write_bytes(odd_document(json.loads(path.read_bytes()), rng))
    elif how == 1:
        path = rng.choice([path for path in files if path.stat().st_size])
        path.write_bytes(damaged(path.read_bytes(), rng))
    elif how == 2:
        rng.choice(files).unlink()
    else:
        name = rng.choice(
            ("7", "-1", "007", "x", str(10**30), "2.orbax-checkpoint-tmp", "\x1b[2J", "1e3", "damaged")
        )
        path = folder / "run/checkpoints" / name
        path.mkdir() if rng.random() < 0.7 else path.write_bytes(b"")
    return train_command(whole, folder / "run")


KINDS: dict[str, Callable[[str, random.Random, Path], list[str]]] = {
    **dict.fromkeys(FORMATS, make_picture),
    **dict.fromkeys(("safetensors", "pth", "h5"), make_weights),
    "video": make_video,
    "record": make_record,
    "workdir": make_workdir,
}
SELDOM = {"workdir": 0.2, "video": 0.3}  # they take long


# --- one case -------------------------------------------------------------------------------------


def run_case(arguments: list[str], folder: Path, seconds: float, memory: float) -> Result:
    """Runs a command in a fork of this process, which is killed at twice what it may take."""
    process = os.fork()
    if process == 0:
        run_command_and_exit(arguments, folder, seconds, 2 * memory)
    began = time.monotonic()
    while True:
        done, status, usage = os.wait4(process, os.WNOHANG)
        if done:
            break
        if time.monotonic() - began > LONGEST_WAIT + 10 * seconds:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.005)
    text = (folder / "said").read_bytes().decode("utf-8", "replace")
    memory = usage.ru_maxrss * 1024 - memory_of_a_fork()
    return Result(os.waitstatus_to_exitcode(status), text, usage.ru_utime + usage.ru_stime, memory)


def run_command_and_exit(arguments: list[str], folder: Path, seconds: float, memory: float) -> None:
    """The forked process: a command with its output in a file and bounded CPU and memory."""
    code = 99
    try:
        said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(said, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = int(2 * seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory) + 2**31, resource.RLIM_INFINITY))
        sys.argv = [f"wdsr_jax.{arguments[0]}", *arguments[1:]]
        run_command(COMMANDS[arguments[0]])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@functools.cache
def memory_of_a_fork() -> int:
    """Bytes of a process that does nothing."""
    process = os.fork()
    if process == 0:
        os._exit(0)
    return os.wait4(process, 0)[2].ru_maxrss * 1024


def claimed_pixels(folder: Path) -> int:
    """What the pictures of a case say that they have, as far as they may."""
    sizes = [image_size(path) for path in folder.glob("in/odd.*")]
    return sum(height * width for height, width in filter(None, sizes) if height * width < 2e8)


def faults(
    arguments: list[str], folder: Path, result: Result, seconds: float, memory: float
) -> Iterator[str]:
    """What is wrong with how a case ended."""
    if result.code not in (0, 1, 2):
        yield f"exit code {result.code}"
    if result.seconds > seconds:
        yield f"{result.seconds:.1f} s of CPU, of {seconds:.1f}"
    if result.memory > memory:
        yield f"{result.memory / 1e6:.0f} MB, of {memory / 1e6:.0f}"
    if "Traceback" in result.text or ": failed (" in result.text:
        yield "a fault of the program"
    text = result.text.replace("\x1b[A", "")  # how tqdm goes from one bar to another
    lines = [line.rpartition("\r")[2] for line in text.split("\n")]  # as they stay after a bar
    lines = [line for line in lines if "cpu_aot_loader" not in line]  # XLA's, on some processors
    if not all(line.isprintable() and len(line) <= LONGEST_LINE for line in lines):
        yield "what it says is no plain text"
    if result.code == 1 and not any(line.startswith(("error: ", "warning: ")) for line in lines):
        yield "fails without a word"
    if leftovers := [path.name for path in folder.rglob("*tmp*") if "checkpoints" not in path.parts]:
        yield f"left behind: {leftovers[0]}"
    yield from faults_of_outputs(arguments, folder, result)


def faults_of_outputs(arguments: list[str], folder: Path, result: Result) -> Iterator[str]:
    """What is wrong with the files that a case has written."""
    outputs = [path for path in folder.glob("out*/*") if path.name[0] != "."]
    for path in outputs:
        try:
            if path.suffix not in (".mp4", ".mkv", ".mov", ".avi"):
                with Image.open(path) as image:
                    image.load()
        except Exception as error:
            yield f"{path.name} is not whole: {error}"
    for path in folder.glob("out.safetensors"):
        with open_safetensors(path) as file:
            for name in file.heads:
                file.read(name)
    if arguments[0] == "upscale" and result.code in (0, 1):
        if not any(path.stem == "good" for path in outputs) and not (folder / "out" / RECORD_FILE).exists():
            yield "the undamaged file is not done"
        for path in folder.glob("in/odd.*"):
            if not any(out.stem in ("odd", path.name) for out in outputs) and path.name not in result.text:
                yield "the damaged file is neither done nor named"


def try_case(kind: str, number: int, folder: Path) -> tuple[Result, list[str]]:
    """Makes and runs a case in an empty folder; how it ended, and what is wrong with that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on what is made here
        arguments = KINDS[kind](kind, random.Random(f"{kind}:{number}"), folder)
        pixels = claimed_pixels(folder)
    seconds = CPU_SECONDS + TRAINING_SECONDS * (kind == "workdir") + SECONDS_PER_PIXEL * pixels
    memory = MEMORY + BYTES_PER_PIXEL * pixels
    result = run_case(arguments, folder, seconds, memory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return result, list(faults(arguments, folder, result, seconds, memory))


# --- many cases -----------------------------------------------------------------------------------


class Counts:
    """Cases tried, done (exit code 0), refused and failed, by kind, and the dearest of each kind."""

    def __init__(self):
        self.tried, self.done, self.failed = Counter[str](), Counter[str](), Counter[str]()
        self.seconds, self.memory = Counter[str](), Counter[str]()

    def add(self, kind: str, result: Result, wrong: list[str]) -> None:
        self.tried[kind] += 1
        self.done[kind] += result.code == 0
        self.failed[kind] += bool(wrong)
        self.seconds[kind] = max(self.seconds[kind], result.seconds)
        self.memory[kind] = max(self.memory[kind], result.memory)

    def table(self) -> str:
        """In Markdown."""
        lines = [
            "| kind | tried | exit code 0 | failed | most CPU, s | most memory, MB |",
            "|---|---|---|---|---|---|",
        ]
        for kind in self.tried:
            counts = f"{self.tried[kind]:,} | {self.done[kind]:,} | {self.failed[kind]:,}"
            lines.append(f"| {kind} | {counts} | {self.seconds[kind]:.1f} | {self.memory[kind] / 1e6:.0f} |")
        totals = " | ".join(f"{sum(counts.values()):,}" for counts in (self.tried, self.done, self.failed))
        return "\n".join([*lines, f"| all | {totals} | | |"])


def fuzz(kinds: list[str], seconds: float, seed: int, keep: Path) -> Counts:
    """Tries cases in turn for some seconds, or until Ctrl-C; prints and keeps those that fail."""
    counts, rng, began = Counts(), random.Random(seed), time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            kind, number = rng.choice(kinds), rng.randrange(2**40)
            if rng.random() < SELDOM.get(kind, 1):
                counts.add(kind, *try_and_keep(kind, number, keep))
    except KeyboardInterrupt:
        pass
    return counts


def try_and_keep(kind: str, number: int, keep: Path) -> tuple[Result, list[str]]:
    """As `try_case`; where it fails, its files are kept, and how to make it again is printed."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        result, wrong = try_case(kind, number, Path(folder))
        if wrong:
            kept = keep / f"{kind}-{number}"
            shutil.copytree(folder, kept, symlinks=True, dirs_exist_ok=True)
            print(f"--case={kind}:{number} fails: {'; '.join(wrong)}; kept: {kept}", flush=True)
    return result, wrong


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=str(__doc__).splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=KINDS, help="may be given several times")
    parser.add_argument("--case", metavar="KIND:NUMBER", help="makes one case again, and keeps its files")
    parser.add_argument("--keep", type=Path, help="folder for the files of what fails (default: a new one)")
    return parser.parse_args()


def run() -> int:
    """The command; its exit code is 1 where a case has failed."""
    args = parse_arguments()
    keep = args.keep or Path(tempfile.mkdtemp(prefix="fuzz-failed"))
    keep.mkdir(parents=True, exist_ok=True)
    Image.init()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="fuzz-cache") as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        try:
            if args.case:
                kind, number = args.case.split(":")
                result, wrong = try_case(kind, int(number), keep)
                print(result.text, f"{result}"[:200], *wrong, f"files: {keep}", sep="\n")
                return int(bool(wrong))
            counts = fuzz(args.only or list(KINDS), args.seconds, args.seed, keep)
            print(counts.table())
            return int(bool(sum(counts.failed.values())))
        finally:
            if finished_run.cache_info().currsize:
                shutil.rmtree(finished_run())


if __name__ == "__main__":
    sys.exit(run())
