"""The queue of the local page: what it makes of photographs, refuses, and leaves behind."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

import wdsr_jax
from tests.photo.samples import photo_file
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.photo import queue as queues
from wdsr_jax.photo.command import parse_arguments
from wdsr_jax.photo.queue import Picture, Queue
from wdsr_jax.weights.store import load_pretrained


@pytest.fixture
def arguments(weights):
    def arguments(*options):
        return parse_arguments(["--serve", "--scale=2", f"--model={weights}", *options])

    return arguments


@pytest.fixture
def run():
    """Runs a queue in a thread until the test ends."""
    running = []

    def start(queue):
        thread = threading.Thread(target=queue.run, daemon=True)
        thread.start()
        running.append((queue, thread))

    yield start
    for queue, thread in running:
        queue.close()
        thread.join(timeout=60)
        assert not thread.is_alive()


def added(queue, folder, args, content, name="a.png"):
    picture = Picture(name, args, folder)
    picture.upload.write_bytes(content)
    queue.add(picture)
    return picture


def wait(*pictures):
    deadline = time.monotonic() + 120
    while any(picture.state in ("waiting", "working") for picture in pictures):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def noise_png(tmp_path, height=9, width=8):
    pixels = photo_file(tmp_path / "noise.png", height, width)
    return pixels, (tmp_path / "noise.png").read_bytes()


def test_each_becomes_what_the_function_gives(tmp_path, arguments, run, weights):
    queue, folder = Queue(), tmp_path / "files"
    folder.mkdir()
    samples = [noise_png(tmp_path, 9 + i, 8) for i in range(3)]
    pictures = [added(queue, folder, arguments(), content) for _, content in samples]
    run(queue)
    wait(*pictures)
    for picture, (pixels, _) in zip(pictures, samples, strict=True):
        assert (picture.state, picture.result_name) == ("done", "a_x2.png")
        expected = wdsr_jax.upscale(*load_pretrained(weights), pixels, engine=None)
        np.testing.assert_array_equal(read_image(picture.result), expected)
        np.testing.assert_array_equal(read_image(picture.view("nearest")), pixels)
        for view in ("after", "bicubic"):
            with Image.open(picture.view(view)) as image:
                assert image.size == (16, 2 * pixels.shape[0])
        assert not picture.upload.exists()
        assert picture.as_json()["share"] == 1
    queue.remove(pictures[0])
    assert queue.pictures() == pictures[1:]
    assert not [path for path in folder.iterdir() if path.name.startswith(pictures[0].id)]


@pytest.mark.parametrize(
    "name, content, options, line",
    [
        ("a.png", b"", [], "a.png: the file is empty"),
        ("a.txt", b"some text", [], "a.txt: not an image"),
        ("clip.mp4", b"", [], "clip.mp4: a video; the command line takes it: python -m"),
        ("a.webp", None, ["--scale=5000"], "a.webp: 40000 x 45000 pixels are too many for WEBP"),
    ],
)
def test_what_the_head_tells_is_refused_at_once(tmp_path, arguments, name, content, options, line):
    queue, folder = Queue(), tmp_path / "files"
    folder.mkdir()
    content = noise_png(tmp_path)[1] if content is None else content
    with pytest.raises(UserError, match=f"^{line}"):
        added(queue, folder, arguments(*options), content, name)
    assert queue.pictures() == [] and list(folder.iterdir()) == []


def test_one_that_fails_says_why_and_the_others_are_done(tmp_path, arguments, run, monkeypatch):
    queue = Queue()
    _, content = noise_png(tmp_path)
    read_photo = queues.read_photo

    def faulty(file, name):
        if name == "fault.png":
            raise ZeroDivisionError(f"in {file.name}")
        return read_photo(file, name)

    monkeypatch.setattr(queues, "read_photo", faulty)
    fault = added(queue, tmp_path, arguments(), content, "fault.png")
    cut = added(queue, tmp_path, arguments(), content[:-30], "cut.png")
    huge = added(queue, tmp_path, arguments("--scale=1e6"), content, "huge.png")
    whole = added(queue, tmp_path, arguments(), content)
    run(queue)
    wait(fault, cut, huge, whole)
    assert fault.error == "fault.png: failed (ZeroDivisionError: in fault.png)"
    assert cut.error.startswith("cut.png: cannot be read (")
    assert huge.error.startswith("huge.png: 8000000 x 9000000 pixels take 216000.0 GB of memory and ")
    assert [picture.state for picture in queue.pictures()] == ["failed", "failed", "failed", "done"]


def test_a_full_disk_is_named_without_the_server_s_paths(tmp_path, arguments, run, monkeypatch):
    def full(path, photo, **options):
        raise UserError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(queues, "write_photo", full)
    queue = Queue()
    picture = added(queue, tmp_path, arguments(), noise_png(tmp_path)[1])
    run(queue)
    wait(picture)
    assert picture.error == "a_x2.png: cannot be written (No space left on device)"


def test_one_that_is_removed_stops_and_leaves_nothing(tmp_path, arguments, run, monkeypatch):
    queue, folder = Queue(), tmp_path / "files"
    folder.mkdir()
    content = noise_png(tmp_path)[1]
    pictures = [added(queue, folder, arguments(), content) for _ in range(2)]
    started, go_on = threading.Event(), threading.Event()
    upscale = queues.upscale_by_arguments

    def slow(photo, job, args, on_pixels, **options):
        started.set()
        assert go_on.wait(60)
        on_pixels(1)
        return upscale(photo, job, args, on_pixels, **options)

    monkeypatch.setattr(queues, "upscale_by_arguments", slow)
    run(queue)
    assert started.wait(60)
    for picture in pictures:
        queue.remove(picture)
    go_on.set()
    wait(pictures[0])
    deadline = time.monotonic() + 10
    while list(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(folder.iterdir()) == [] and queue.as_json() == "[]"


@pytest.mark.parametrize(
    "given, name, result",
    [
        ("photo.JPG", "photo.JPG", "photo_x2.JPG"),
        ("../../etc/passwd", "passwd", "passwd_x2.png"),
        ("C:\\photos\\a.heic", "a.heic", "a_x2.png"),
        ("..", "picture", "picture_x2.png"),
        ("", "picture", "picture_x2.png"),
        ("a\r\nX: b\0\x1b[2J.tif", "aX: b[2J.tif", "aX: b[2J_x2.tif"),
        ("{stem}.webp", "{stem}.webp", "{stem}_x2.webp"),
        ("雪 é.png", "雪 é.png", "雪 é_x2.png"),
    ],
)
def test_names_are_shown_and_never_paths(tmp_path, arguments, given, name, result):
    picture = Picture(given, arguments(), tmp_path)
    assert (picture.name, picture.result_name) == (name, result)
    for path in (picture.upload, picture.result, picture.view("after")):
        assert path.parent == tmp_path and path.name.startswith(picture.id + ".")


def test_long_names_keep_their_ending(tmp_path, arguments):
    picture = Picture("a" * 1000 + ".jpg", arguments(), tmp_path)
    assert len(picture.result_name) < 220 and picture.result_name.endswith("a_x2.jpg")


def test_time_left_is_that_of_the_later_tiles(tmp_path, arguments, monkeypatch):
    seconds = iter([100.0, 110.0])  # the first tile waited for the compiler
    monkeypatch.setattr(queues.time, "monotonic", lambda: next(seconds))
    seen = []

    def two_tiles(photo, job, args, on_pixels, **options):
        for _ in range(2):
            on_pixels(18)
            seen.append(picture.as_json())
        raise UserError("enough")

    monkeypatch.setattr(queues, "upscale_by_arguments", two_tiles)
    picture = Picture("a.png", arguments(), tmp_path)
    picture.upload.write_bytes(noise_png(tmp_path)[1])  # 72 pixels
    with pytest.raises(UserError, match="enough"):
        queues._upscale(picture)
    assert [(state["share"], state["left"]) for state in seen] == [(0.25, None), (0.5, 20.0)]


def test_what_is_transparent_is_shown_on_white(tmp_path, arguments, run):
    rgba = np.zeros((12, 16, 4), np.uint8)
    rgba[:, 8:] = (200, 30, 40, 255)
    Image.fromarray(rgba).save(tmp_path / "logo.png")
    queue = Queue()
    picture = added(queue, tmp_path, arguments(), (tmp_path / "logo.png").read_bytes())
    run(queue)
    wait(picture)
    for view in ("nearest", "thumbnail"):
        pixels = read_image(picture.view(view))
        assert (pixels[:, 0] == 255).all() and (pixels[:, -1] == (200, 30, 40)).all()
    with Image.open(picture.result) as image:
        assert image.mode == "RGBA"


def test_deep_and_grey_photographs_are_shown_with_8_bits(tmp_path, arguments, run):
    grey = np.linspace(0, 65535, 96).reshape(8, 12).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    queue = Queue()
    picture = added(queue, tmp_path, arguments(), (tmp_path / "deep.png").read_bytes())
    run(queue)
    wait(picture)
    shown = read_image(picture.view("nearest"))
    assert shown.dtype == np.uint8 and abs(shown[..., 0] - grey / 257).max() <= 0.5
    with Image.open(picture.result) as image:
        assert image.mode == "I;16"
