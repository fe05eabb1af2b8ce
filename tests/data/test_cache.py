import multiprocessing
import os
import pickle
import resource
import threading
import time

import numpy as np
import pytest
from absl import logging

from wdsr_jax.data.cache import ImageCache, build_cache, content_key, hash_files
from wdsr_jax.errors import UserError
from wdsr_jax.system.pool import WORKERS

SHAPES = [(5, 7), (1, 1), (40, 3), (16, 16), (2, 90)]


def image(i):
    return np.random.default_rng(i).integers(0, 256, (*SHAPES[i % len(SHAPES)], 3), dtype=np.uint8)


def names(count):
    return [f"{i:04d}" for i in range(count)]


def never(i):
    raise AssertionError(f"image {i} was loaded again")


def warnings_of(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: lines.append(message % args))
    return lines


def assert_good(cache, count):
    assert cache.names == tuple(names(count))
    for i in range(count):
        np.testing.assert_array_equal(cache[i], image(i))


def test_images_come_back_in_order_and_are_loaded_once(tmp_path):
    cache = build_cache(tmp_path, "key", names(50), image)
    assert len(cache) == 50 and cache.shapes[:3] == ((5, 7), (1, 1), (40, 3))
    assert_good(cache, 50)
    assert_good(build_cache(tmp_path, "key", names(50), never), 50)
    assert os.listdir(tmp_path) == ["key"]


def test_pixels_are_views_that_cannot_be_written(tmp_path):
    cache = build_cache(tmp_path, "key", names(3), image)
    with pytest.raises(ValueError, match="read-only"):
        cache[0][0, 0, 0] = 1
    assert np.shares_memory(cache[0], cache[0])


def test_pickle_maps_the_file_anew_and_holds_no_pixels(tmp_path):
    cache = build_cache(tmp_path, "key", names(50), image)
    pickled = pickle.dumps(cache)
    assert len(pickled) < 500
    assert_good(pickle.loads(pickled), 50)


def test_broken_images_are_named_and_left_out_also_by_later_runs(tmp_path, monkeypatch):
    def load(i):
        if i in (0, 3):
            raise UserError(f"folder/{i}.png: not an image")
        return image(i)

    lines = warnings_of(monkeypatch)
    for loader in (load, never):
        cache = build_cache(tmp_path, "key", names(5), loader)
        assert cache.names == ("0001", "0002", "0004")
        np.testing.assert_array_equal(cache[2], image(4))
        assert lines == ["left out: folder/0.png: not an image", "left out: folder/3.png: not an image"]
        lines.clear()


def test_nothing_left_is_an_error_and_leaves_nothing(tmp_path):
    def load(i):
        raise UserError(f"{i}.png: not an image")

    with pytest.raises(UserError, match=r"none of 2 images can be read: 0.png: not an image"):
        build_cache(tmp_path, "key", names(2), load)
    assert os.listdir(tmp_path) == []


def test_loading_runs_ahead_by_a_bounded_number(tmp_path):
    started, seen = [], []
    lock = threading.Lock()

    def load(i):
        with lock:
            started.append(i)
        if i == 0:
            time.sleep(0.2)
            seen.append(len(started))
        return image(i)

    build_cache(tmp_path, "key", names(200), load)
    assert len(started) == 200
    assert seen[0] <= 2 * WORKERS


def truncate(folder):
    with open(folder / "pixels", "r+b") as file:
        file.truncate(100)


def lengthen(folder):
    with open(folder / "pixels", "ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lengthen,
        lambda folder: (folder / "pixels").unlink(),
        lambda folder: (folder / "pixels").write_bytes(b""),
        lambda folder: (folder / "index.json").unlink(),
        lambda folder: (folder / "index.json").write_text('{"names": ["a"'),
        lambda folder: (folder / "index.json").write_bytes(b"\xff\xfe\x00"),
        lambda folder: (folder / "index.json").write_text("[]"),
        lambda folder: (folder / "index.json").write_text('{"names": [], "shapes": [], "left_out": {}}'),
        lambda folder: (folder / "index.json").write_text('{"names": ["a"], "shapes": [3], "left_out": {}}'),
    ],
)
def test_damage_is_noticed_and_mended(tmp_path, monkeypatch, damage):
    build_cache(tmp_path, "key", names(6), image)
    damage(tmp_path / "key")
    lines = warnings_of(monkeypatch)
    assert_good(build_cache(tmp_path, "key", names(6), image), 6)
    assert lines == [f"{tmp_path / 'key'}: damaged image cache, rebuilt"]
    assert_good(build_cache(tmp_path, "key", names(6), never), 6)
    assert os.listdir(tmp_path) == ["key"]


def test_a_file_in_the_place_of_the_cache_is_replaced(tmp_path, monkeypatch):
    warnings_of(monkeypatch)
    (tmp_path / "key").write_text("what is this")
    assert_good(build_cache(tmp_path, "key", names(6), image), 6)
    assert os.listdir(tmp_path) == ["key"]


def test_a_cache_dir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/sub: the image cache .* --config.data.cache_dir=DIR"):
        build_cache(tmp_path / "file" / "sub", "key", names(2), image)


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def large(i):
        return np.zeros((300, 300, 3), np.uint8)

    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # the system refuses longer files
    try:
        with pytest.raises(UserError, match=r"the image cache cannot be written \(.*--config.data.cache_dir"):
            build_cache(tmp_path, "key", names(20), large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_an_interrupted_build_leaves_nothing(tmp_path):
    def load(i):
        if i == 3:
            raise KeyboardInterrupt
        return image(i)

    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path, "key", names(6), load)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_build_left_is_removed_after_a_day(tmp_path):
    for name, hours in (("old", 25), ("new", 1)):
        folder = tmp_path / f".key.{name}"
        folder.mkdir()
        (folder / "pixels").write_bytes(b"half")
        then = time.time() - hours * 3600
        for path in (folder / "pixels", folder):
            os.utime(path, (then, then))
    build_cache(tmp_path, "key", names(2), image)
    assert sorted(os.listdir(tmp_path)) == [".key.new", "key"]


def slow(i):
    time.sleep(0.02)
    return image(i)


def build_at(folder, barrier):
    logging.set_verbosity(logging.ERROR)
    for key in ("fresh", "damaged"):
        barrier.wait()
        assert_good(build_cache(folder, key, names(30), slow), 30)


def test_processes_that_race_all_end_with_a_good_cache(tmp_path):
    build_cache(tmp_path, "damaged", names(30), image)
    truncate(tmp_path / "damaged")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # its imports once, not in each process
    barrier = context.Barrier(3)
    processes = [context.Process(target=build_at, args=(tmp_path, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for key in ("fresh", "damaged"):
        assert_good(ImageCache(tmp_path / key), 30)
    assert sorted(os.listdir(tmp_path)) == ["damaged", "fresh"]


def test_hashes_are_of_contents(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, content in zip(paths, (b"one", b"two", b"one"), strict=True):
        path.write_bytes(content)
    first = hash_files(paths)
    assert first[0] == first[2] != first[1]
    os.utime(paths[0], (1, 1))
    assert hash_files(paths) == first
    paths[1].write_bytes(b"2wo")
    assert hash_files(paths)[1] != first[1]


def test_a_missing_file_has_a_hash_too(tmp_path):
    assert hash_files([tmp_path / "none"]) == ["unreadable: No such file or directory"]


def test_keys_tell_parts_apart():
    keys = [content_key("a", "b"), content_key("ab"), content_key("b", "a"), content_key("a", "b", 1)]
    assert len(set(keys)) == 4 and content_key("a", "b") == keys[0]
