"""DIV2K end to end: small archives of the same structure, served over HTTP, prepared by TFDS, read back."""

import contextlib
import hashlib
import http.server
import io
import os
import pty
import shutil
import subprocess
import sys
import termios
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import shuffle
from tensorflow_datasets.core.download import checksums

from wdsr_jax.data import div2k, download
from wdsr_jax.errors import UserError
from wdsr_jax.system.locks import lock_folder

# What the real archives hold: folder, and file names after the number. Two HR images a split are enough.
FOLDERS = {
    "HR": ("DIV2K_{}_HR/", [""]),
    "LR_bicubic_X2": ("DIV2K_{}_LR_bicubic/X2/", ["x2"]),
    "LR_bicubic_X3": ("DIV2K_{}_LR_bicubic/X3/", ["x3"]),
    "LR_bicubic_X4": ("DIV2K_{}_LR_bicubic/X4/", ["x4"]),
    "LR_x8": ("DIV2K_{}_LR_x8/", ["x8"]),
    "LR_unknown_X2": ("DIV2K_{}_LR_unknown/X2/", ["x2"]),
    "LR_unknown_X3": ("DIV2K_{}_LR_unknown/X3/", ["x3"]),
    "LR_unknown_X4": ("DIV2K_{}_LR_unknown/X4/", ["x4"]),
    "LR_mild": ("DIV2K_{}_LR_mild/", ["x4m"]),
    "LR_difficult": ("DIV2K_{}_LR_difficult/", ["x4d"]),
    "LR_wild": ("DIV2K_{}_LR_wild/", ["x4w1", "x4w2", "x4w3", "x4w4"]),
}
NUMBERS = {"train": ["0001", "0800"], "valid": ["0801", "0900"]}
TRACKS = sorted(div2k.TRACKS)


def pixels(path: str) -> np.ndarray:
    """The image of a path: noise, of its own for each path."""
    seed = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4])
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*rng.integers(5, 30, 2), 3), np.uint8)


def png(path: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(path)).save(file, "png")
    return file.getvalue()


def make_archives(folder: Path) -> None:
    for kind, (inner, suffixes) in FOLDERS.items():
        for short, numbers in NUMBERS.items():
            if (kind, short) == ("LR_wild", "valid"):
                suffixes = ["x4w"]
            with zipfile.ZipFile(folder / f"DIV2K_{short}_{kind}.zip", "w") as archive:
                archive.mkdir(inner.format(short))
                for number in reversed(numbers):  # the order in the archive is not to be relied on
                    for suffix in suffixes:
                        path = f"{inner.format(short)}{number}{suffix}.png"
                        archive.writestr(path, png(path))
                archive.writestr(f"__MACOSX/{inner.format(short)}._0001x2.png", b"no image")


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    make_archives(folder)
    return folder


def serve_folder(serve, folder: Path):
    """The address of a server of `folder`, and the files that it was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *args):
            asked.append(Path(self.path).name)

    return serve(Handler) + "/", asked


def write_checksums(path: Path, archives: Path, url: str) -> None:
    infos = {url + file.name: checksums.compute_url_info(file) for file in archives.glob("*.zip")}
    checksums.save_url_infos(path, infos)


@pytest.fixture
def server(archives, serve, tmp_path, monkeypatch):
    """The archives as if they were DIV2K's: the files that the server was asked for."""
    url, asked = serve_folder(serve, archives)
    write_checksums(tmp_path / "checksums.tsv", archives, url)
    monkeypatch.setattr(div2k, "URL", url)
    monkeypatch.setattr(div2k, "CHECKSUMS", tmp_path / "checksums.tsv")
    return asked


@pytest.fixture
def no_network(archives, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setattr(div2k, "URL", "http://127.0.0.1:9/")  # nobody listens there
    monkeypatch.setattr(div2k, "CHECKSUMS", tmp_path / "checksums.tsv")
    write_checksums(tmp_path / "checksums.tsv", archives, "http://127.0.0.1:9/")


def assert_whole(pairs: div2k.Div2k, track: str, scale: int, split: str) -> None:
    """Each image of the split is there, in order, with the pixels that were put into the archive."""
    kind, short = dict(div2k.TRACKS.values())[div2k.TRACKS[track, scale][0]], div2k.SPLITS[split]
    inner, suffixes = FOLDERS[kind]
    if (track, split) == ("wild", "validation"):
        suffixes = ["x4w"]
    assert pairs.hr.names == NUMBERS[short]
    for i, number in enumerate(NUMBERS[short]):
        np.testing.assert_array_equal(pairs.hr.load(i), pixels(f"DIV2K_{short}_HR/{number}.png"))
    expected = [(number, suffix) for number in NUMBERS[short] for suffix in suffixes]
    assert len(pairs.lr.names) == len(pairs.hr_of) == len(expected)
    for i, (number, suffix) in enumerate(expected):
        assert pairs.lr.names[i] == number + (suffix[2:] if len(suffixes) == 4 else "")
        assert pairs.hr.names[pairs.hr_of[i]] == number
        path = f"{inner.format(short)}{number}{suffix}.png"
        np.testing.assert_array_equal(pairs.lr.load(i), pixels(path))


def test_all_tracks(server, tmp_path, monkeypatch):
    data = str(tmp_path / "data")
    prints = set()
    for track, scale in TRACKS:
        for split in ("train", "validation"):
            pairs = div2k.load_div2k(track, scale, split, data)
            assert_whole(pairs, track, scale, split)
            prints |= {pairs.hr.fingerprint, pairs.lr.fingerprint}
    assert len(prints) == 2 * (1 + len(TRACKS))  # HR is the same for all tracks
    assert len(server) == 22 == len(set(server))  # each archive was downloaded once
    assert "tensorflow" not in sys.modules
    assert not list(tmp_path.rglob("incomplete.*")) and not list(tmp_path.rglob("*.part"))

    shutil.rmtree(tmp_path / "data/downloads")
    monkeypatch.setattr(div2k, "fetch", None)  # nothing is fetched again
    for track, scale in TRACKS:
        assert_whole(div2k.load_div2k(track, scale, "train", data), track, scale, "train")


def test_more_than_tfds_keeps_in_memory(server, tmp_path, monkeypatch):
    """The real HR images exceed the buffer beyond which GeneratorBasedBuilder calls TensorFlow."""
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1)
    assert_whole(div2k.load_div2k("wild", 4, "train", tmp_path / "data"), "wild", 4, "train")


def test_load_from_threads(server, tmp_path):
    lr = div2k.load_div2k("wild", 4, "train", tmp_path).lr
    alone = [lr.load(i) for i in range(len(lr.names))]
    with ThreadPoolExecutor(8) as pool:
        for i, image in enumerate(pool.map(lr.load, list(range(len(alone))) * 50)):
            np.testing.assert_array_equal(image, alone[i % len(alone)])


def test_tfds_reads_it_by_its_own_means(server, tmp_path):
    """The builder is an ordinary one: TFDS downloads, prepares and decodes without `load_div2k`."""
    builder = tfds.builder("wdsr_div2k/realistic_mild_x4", data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    examples = list(builder.as_data_source("validation"))
    assert [example["name"] for example in examples] == [b"0801", b"0900"]
    np.testing.assert_array_equal(examples[1]["image"], pixels("DIV2K_valid_LR_mild/0900x4m.png"))
    assert_whole(div2k.load_div2k("mild", 4, "validation", tmp_path), "mild", 4, "validation")


def test_checksums_are_those_of_tfds():
    stock = Path(tfds.__file__).parent / "datasets/div2k/checksums.tsv"
    assert div2k.CHECKSUMS.read_text() == stock.read_text()
    for name in div2k.ARCHIVES:
        builder = div2k.WdsrDiv2k(config=name, data_dir="absent")
        assert set(builder.urls().values()) <= set(builder.url_infos)
    assert len(builder.url_infos) == 2 * len(div2k.ARCHIVES)


@pytest.mark.parametrize(("track", "scale"), [("unknown", 8), ("mild", 2), ("bicubic", 5), ("tricubic", 2)])
def test_absent_scale(track, scale):
    with pytest.raises(
        UserError, match=r"not in the data; DIV2K has bicubic x2 x3 x4 x8, unknown x2 x3 x4, mild"
    ):
        div2k.load_div2k(track, scale, "train", "absent")
    assert not Path("absent").exists()


def test_no_network(no_network, tmp_path):
    with pytest.raises(UserError) as caught:
        div2k.load_div2k("bicubic", 2, "train", tmp_path)
    message = str(caught.value)
    assert "http://127.0.0.1:9/DIV2K_train_HR.zip" in message and "refused" in message
    assert "--config.data.source=folder --config.data.root=DIR" in message
    assert "configs/quickstart.py" in message
    assert "\n" not in message


def test_archives_put_there_by_hand(no_network, archives, tmp_path):
    (tmp_path / "downloads").mkdir()
    shutil.copytree(archives, tmp_path / "downloads/manual")
    assert_whole(div2k.load_div2k("bicubic", 8, "train", tmp_path), "bicubic", 8, "train")


def test_wrong_checksum(no_network, archives, tmp_path):
    shutil.copytree(archives, tmp_path / "downloads/manual")
    file = tmp_path / "downloads/manual/DIV2K_valid_HR.zip"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"wrong checksum.*delete") as caught:
        div2k.load_div2k("bicubic", 2, "train", tmp_path)
    assert str(file) in str(caught.value) and "http://127.0.0.1:9/DIV2K_valid_HR.zip" in str(caught.value)
    assert not list(tmp_path.rglob("*.array_record*"))

    shutil.copy(archives / file.name, file)  # mended
    assert_whole(div2k.load_div2k("bicubic", 2, "train", tmp_path), "bicubic", 2, "train")


def test_truncated_on_the_server(archives, serve, tmp_path, monkeypatch):
    """The server has less than the published size: no file comes of it, and the message says how much."""
    short = tmp_path / "short"
    shutil.copytree(archives, short)
    file = short / "DIV2K_train_HR.zip"
    size = file.stat().st_size
    monkeypatch.setattr(download, "PAUSE", 0)
    url, _ = serve_folder(serve, short)
    write_checksums(tmp_path / "checksums.tsv", archives, url)
    file.write_bytes(file.read_bytes()[: size // 2])
    monkeypatch.setattr(div2k, "URL", url)
    monkeypatch.setattr(div2k, "CHECKSUMS", tmp_path / "checksums.tsv")
    with pytest.raises(UserError, match=f"{url}{file.name}.*{size // 2} bytes, published were {size}"):
        div2k.load_div2k("bicubic", 2, "train", tmp_path / "data")
    assert not list(tmp_path.rglob("*.array_record*")) and not list(tmp_path.rglob("*.part"))


def test_truncated_archive_with_that_checksum(archives, tmp_path, monkeypatch):
    broken = tmp_path / "downloads/manual"
    shutil.copytree(archives, broken)
    file = broken / "DIV2K_train_HR.zip"
    file.write_bytes(file.read_bytes()[:-100])
    write_checksums(tmp_path / "checksums.tsv", broken, div2k.URL)
    monkeypatch.setattr(div2k, "CHECKSUMS", tmp_path / "checksums.tsv")
    with pytest.raises(UserError, match="no intact archive"):
        div2k.load_div2k("bicubic", 2, "train", tmp_path)


def test_no_room(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(UserError, match=r"0\.0 GB free, DIV2K hr needs"):
        div2k.load_div2k("bicubic", 2, "train", tmp_path)
    assert not server  # it is noticed before the download


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written"):
        div2k.load_div2k("bicubic", 2, "train", tmp_path / "file")


def test_damaged_after_preparation(server, tmp_path):
    div2k.load_div2k("bicubic", 2, "train", tmp_path)
    file = next((tmp_path / "wdsr_div2k/bicubic_x2/1.0.0").glob("*train*"))
    contents = file.read_bytes()
    file.write_bytes(contents[: len(contents) // 2])
    with pytest.raises(UserError, match=r"bicubic_x2/1.0.0: damaged; delete this folder"):
        div2k.load_div2k("bicubic", 2, "train", tmp_path).lr.load(0)
    file.unlink()
    with pytest.raises(UserError, match=r"bicubic_x2/1.0.0: damaged; delete this folder"):
        div2k.load_div2k("bicubic", 2, "train", tmp_path).lr.load(0)


# What a process of its own does; it gets URL, CHECKSUMS and the data folder.
CHILD = """
import sys
from pathlib import Path
from wdsr_jax.data import div2k
from wdsr_jax.system.console import run_command
div2k.URL, div2k.CHECKSUMS = sys.argv[1], Path(sys.argv[2])
{}
run_command(lambda: print(div2k.load_div2k("wild", 4, "train", sys.argv[3]).lr.names) or 0)
assert "tensorflow" not in sys.modules
"""
KILL_AT_THIRD_IMAGE = """
import os, signal, zipfile
read, count = zipfile.ZipFile.read, 0
def killed(*args):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGNUM)
    return read(*args)
zipfile.ZipFile.read = killed
"""
FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, BYTES))
"""


def child(tmp_path, extra=""):
    argv = [sys.executable, "-c", CHILD.format(extra), div2k.URL, div2k.CHECKSUMS, tmp_path / "data"]
    return list(map(str, argv))


def prepared(tmp_path):
    return sorted(path.parent.name for path in (tmp_path / "data").rglob("1.0.0"))


@pytest.mark.parametrize("signal", ["SIGKILL", pytest.param("SIGINT", marks=pytest.mark.ci)])
def test_interrupted_generation(server, tmp_path, signal):
    script = child(tmp_path, KILL_AT_THIRD_IMAGE.replace("SIGNUM", signal))
    ended = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert ended.returncode == (-9 if signal == "SIGKILL" else 130)
    left = list((tmp_path / "data").rglob("incomplete.*"))
    assert len(left) == (1 if signal == "SIGKILL" else 0)
    assert prepared(tmp_path) == []
    assert_whole(div2k.load_div2k("wild", 4, "train", tmp_path / "data"), "wild", 4, "train")
    assert not list((tmp_path / "data").rglob("incomplete.*"))
    assert prepared(tmp_path) == ["hr", "realistic_wild_x4"]


@pytest.mark.parametrize("where", [pytest.param("download", marks=pytest.mark.ci), "generation"])
def test_full_disk(server, archives, tmp_path, where):
    """No file may grow beyond a limit: as on a full disk, writing fails in the midst of it."""
    if where == "generation":
        shutil.copytree(archives, tmp_path / "data/downloads/manual")
    script = child(tmp_path, FULL_DISK.replace("BYTES", "1000"))
    ended = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"error: {tmp_path}/data: cannot be written" in ended.stderr and "Traceback" not in ended.stderr
    assert prepared(tmp_path) == []
    assert_whole(div2k.load_div2k("wild", 4, "train", tmp_path / "data"), "wild", 4, "train")


def test_two_at_once_take_turns(server, tmp_path, caplog):
    """In threads: a lock belongs to the file that was opened, so they exclude each other as processes do."""
    caplog.set_level("INFO")
    data = tmp_path / "data"
    data.mkdir()
    until = time.monotonic() + 60
    with ThreadPoolExecutor(2) as pool:
        with lock_folder(data, "wdsr_div2k.lock"):
            tasks = [pool.submit(div2k.load_div2k, "wild", 4, "train", data) for _ in range(2)]
            while caplog.text.count(f"Waiting for another process that prepares DIV2K in {data}") < 2:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert not server
        for task in tasks:
            assert_whole(task.result(), "wild", 4, "train")
    assert len(server) == 4  # two archives for each of hr and wild


@pytest.mark.ci
def test_two_processes_at_once(server, tmp_path):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(child(tmp_path), **streams) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert len(server) == 4  # two archives for each of hr and wild
    assert outputs[0][0] == outputs[1][0] and "0800w4" in outputs[0][0]


@pytest.mark.parametrize("terminal", [True, pytest.param(False, marks=pytest.mark.ci)])
def test_progress(server, tmp_path, terminal):
    """Bars with totals on a terminal; whole lines, and few, in a log; nothing on stdout."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        termios.tcsetwinsize(theirs, (24, 120))
    subprocess.run(child(tmp_path), stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while chunk := os.read(ours, 1 << 16):
            shown += chunk
    os.close(ours)
    shown = shown.decode()
    size = (tmp_path / "data/downloads/manual/DIV2K_train_HR.zip").stat().st_size
    assert f"DIV2K_train_HR.zip ({size / 1e9:.2f} GB)" in shown
    if terminal:
        assert f"{size / 1e3:.2f}k/{size / 1e3:.2f}k" in shown  # bytes there / bytes in all
        assert "realistic_wild_x4 train: 100%" in shown and "8/8" in shown
    else:
        assert "\r" not in shown and shown.count("\n") == 6  # four archives, two configurations
