"""What is said of a batch."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from wdsr_jax.photo import report
from wdsr_jax.photo.jobs import Job, Plan


@pytest.fixture
def messages(caplog):
    """What this package has logged, as pairs of level and message."""
    caplog.set_level(logging.INFO)
    return lambda: [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "absl"]


def test_long_work_says_how_long(monkeypatch, messages):
    seconds = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(report.time, "monotonic", lambda: next(seconds))
    progress = SimpleNamespace(total=100.0, done=0.0)
    progress.update = lambda count: setattr(progress, "done", progress.done + count)
    on_pixels = report.paced(progress)
    for _ in range(3):
        on_pixels(1e6)
    advice = "a smaller network (--model=fast), smaller pictures or a GPU would be faster"
    assert messages() == [("INFO", f"about 16 min to go; {advice}")]


def test_the_end_names_what_was_lost_left_out_and_failed(messages):
    jobs = [Job(Path(f"in/{i}.jpg"), Path(f"big/{i}.jpg"), (10, 20), {}) for i in range(5)]
    left_out = {("HEIC", True): [Path("in/a.heic")], (".txt", False): [Path("in/b.txt")]}
    plan = Plan(jobs, [Path("big/5.jpg")], [(Path("in/pipe.jpg"), "not a regular file")], left_out, [])
    lost = {"HDR gain map": [Path(f"in/{i}.jpg") for i in range(4)]}
    assert report.report_end(plan, [Path("in/pipe.jpg"), Path("in/4.jpg")], lost, "big") == 1
    assert messages() == [
        ("INFO", "4 enlarged, into big"),
        ("WARNING", "not kept: HDR gain map (4: in/0.jpg, in/1.jpg, in/2.jpg and 1 more)"),
        ("WARNING", "left out: 1 HEIC (in/a.heic)"),
        ("INFO", "left out: 1 that are no pictures (.txt)"),
        ("ERROR", "2 of 7 failed: in/pipe.jpg, in/4.jpg"),
    ]


@pytest.mark.parametrize("is_picture, code", [(True, 1), (False, 0)])
def test_a_picture_that_is_left_out_is_no_success(is_picture, code):
    plan = Plan([], [], [], {("kind", is_picture): [Path("a")]}, [])
    assert report.report_end(plan, [], {}, None) == code


def test_sizes_that_were_not_read_count_as_the_mean():
    sizes = [(1000, 1000), None, (1000, 3000), None]
    jobs = [Job(Path(f"{i}.jpg"), Path("o"), size, {}) for i, size in enumerate(sizes)]
    jobs[3] = jobs[3]._replace(source=Path("clip.mp4"))
    assert [megapixels for _, megapixels in report.with_megapixels(jobs)] == [1, 2, 3, 0]
