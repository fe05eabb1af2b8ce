"""The benches in quick mode: whole rows, and contenders that compute the same; never a time."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import wdsr_jax
from benchmarks import degraded, networks, page, published, quality, report, rounds, ship
from benchmarks.compute import differing
from tests.numpy_wdsr import random_params
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.examples import Example
from wdsr_jax.image.files import write_image
from wdsr_jax.models import create_model
from wdsr_jax.models.cost import OUTPUT, multiply_adds
from wdsr_jax.weights.store import save_weights

ROOT = Path(__file__).parents[1]


def run(path, *names):
    command = [sys.executable, "-m", "benchmarks", *names, "--quick", f"--out={path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "computes something else" not in done.stderr
    result = json.loads(path.read_text())
    assert result["machine"]["versions"]["jax"] and result["machine"]["threads"] >= 1
    assert set(result["load"]) == set(names)
    for row in result["rows"]:
        assert set(row) == set(report.Row._fields)
        assert row["value"] >= 0
        assert f"{row['bench']}: {row['work']}" in done.stdout
        assert f"{row['bench']}: {row['work'].removesuffix(', waiting')}" in done.stderr  # before it began
    assert " s left" in done.stderr
    return result["rows"], done.stderr


def of(rows, bench, key="contender"):
    return {row[key] for row in rows if row["bench"] == bench}


@pytest.mark.ci
@pytest.mark.slow
def test_networks_alone(tmp_path):
    rows, said = run(tmp_path / "result.json", "train", "infer")
    assert of(rows, "train") >= {"wdsr_jax", "wdsr_jax, bfloat16", "matrix product, JAX"}
    assert of(rows, "infer") >= {"wdsr_jax", "wdsr_jax.upscale"}
    assert of(rows, "train", "unit") == {"images/s", "GFLOP/s"}
    assert of(rows, "infer", "unit") == {"s/MP", "GFLOP/s"}
    assert of(rows, "infer", "work") == {"WDSR-B 1x4 x2, 16x20"}
    others = {"PyTorch eager", "ONNX Runtime", "OpenVINO"}
    wanted = others | {"wdsr_jax.upscale, onnx"}
    # Not installed, or held up for a second by other programs.
    missing = {
        name for name in wanted if re.search(f"{name} is left out: (ModuleNotFound|a call takes)", said)
    }
    if "ONNX Runtime and OpenVINO are left out" in said:
        missing |= wanted - {"PyTorch eager"}
    assert of(rows, "infer") >= wanted - missing
    for row in rows:
        assert row["best"] <= row["seconds"]
        assert (row["of_matmul"] is None) == row["contender"].startswith("matrix")
        if row["precision"] == "float32" and row["contender"].startswith("wdsr_jax"):
            rivals = others & of([other for other in rows if other["precision"] == "float32"], row["bench"])
            assert row["against"] in (rivals or {None})
            assert (row["ratio"] or 0) > 0 or not rivals


@pytest.mark.ci
@pytest.mark.slow
def test_input_and_scaling(tmp_path):
    rows, _ = run(tmp_path / "result.json", "input", "scaling")
    assert of(rows, "input", "unit") == {"patches/s", "images/s", "% of the time"}
    assert of(rows, "scaling") >= {"wdsr_jax", "2 devices, in micro-batches"}


@pytest.mark.ci
@pytest.mark.slow
def test_commands(tmp_path):
    rows, said = run(tmp_path / "result.json", "cold", "evaluate", "memory")
    for bench in ("cold", "evaluate"):
        assert of(rows, bench) >= {"wdsr_jax, empty cache", "wdsr_jax, full cache"}
        assert "PyTorch script" in of(rows, bench) or "PyTorch is left out" in said
    assert said.count("round 2 of 2 of wdsr_jax, empty cache") == 3  # one image, ten, and evaluate
    assert of(rows, "memory", "unit") == {"GB"}
    assert all(0.05 < row["value"] < 10 for row in rows if row["bench"] == "memory")


def test_another_result_is_refused():
    right, wrong = np.ones(4), np.array([1, 1, 1, 1.1])
    same = {"PyTorch eager": ("float32", right + 1e-5), "OpenVINO, bfloat16": ("bfloat16", right + 0.01)}
    ours = {"wdsr_jax": ("float32", right)}
    assert differing(ours | same) == {}
    other = {"PyTorch compiled": ("float32", wrong), "PyTorch": ("float32", right * np.nan)}
    assert differing(ours | same | other) == {
        "PyTorch compiled": "it computes something else, which differs by 0.1",
        "PyTorch": "it computes something else, which differs by nan",
    }
    with pytest.raises(ValueError, match="wdsr_jax, onnx: it computes something else"):
        differing(ours | {"wdsr_jax, onnx": ("float32", wrong)})


def test_ratio_is_to_the_best_of_the_same_precision():
    def row(contender, precision, seconds):
        return report.Row("train", "w", contender, precision, 1 / seconds, "images/s", seconds, seconds)

    rows = [
        row("wdsr_jax", "float32", 2.0),
        row("PyTorch eager", "float32", 4.0),
        row("PyTorch compiled", "float32", 3.0),
        row("PyTorch compiled, bfloat16", "bfloat16", 1.0),
        row("matrix product, JAX", "float32", 0.1),
    ]
    first, *others = report.compare(rows)
    assert (first.ratio, first.against) == (1.5, "PyTorch compiled")
    assert all(other.ratio is None for other in others)


def result(path, cores, load, *rows):
    """Writes rows of (work, contender, precision, seconds) of a bench `train` as the benches do."""
    rows = [report.Row("train", *row[:3], 1 / row[3], "images/s", row[3], row[3]) for row in rows]
    about = dict(processor=f"P{cores}", cores=cores, threads=cores, devices=["cpu"], versions={"jax": "1.2"})
    rows = [row._asdict() for row in report.compare(rows)]
    path.write_text(json.dumps({"machine": about, "rows": rows, "load": {"train": [load, 9.0]}}))
    return str(path)


def test_the_page_of_speed_has_columns_for_each_machine(tmp_path, capsys):
    matmul = ("w", "matrix product, JAX", "float32", 0.25)
    files = [
        result(
            tmp_path / "a.json",
            2,
            1.5,  # 0.75 a core
            ("w", "wdsr_jax", "float32", 1.0),
            ("w", "PyTorch eager", "float32", 2.0),
            ("w", "wdsr_jax, bfloat16", "bfloat16", 0.5),
            matmul,
        ),
        result(
            tmp_path / "b.json", 8, 5.5, ("w", "wdsr_jax", "float32", 0.2), ("v", "wdsr_jax", "float32", 8.0)
        ),
        # The first machine again, in bfloat16 and on other work alone.
        result(tmp_path / "c.json", 2, 0.1, ("w", "wdsr_jax, bfloat16", "bfloat16", 0.1), matmul),
        result(tmp_path / "d.json", 2, 0.2, ("u", "wdsr_jax", "float32", 4.0)),
    ]
    page.main(files)
    printed = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if "|" in line]
    assert cells[0] == ["work", "contender", "precision", "ratio on 1", "value on 1", "value on 2", "unit"]
    assert [row[:-1] for row in cells[2:]] == [
        ["w", "wdsr_jax", "float32", "2.00x PyTorch eager", "1", "5"],
        ["w", "PyTorch eager", "float32", "", "0.5", ""],
        ["w", "wdsr_jax, bfloat16", "bfloat16", "", "10", ""],
        ["w", "matrix product, JAX", "float32", "", "4", ""],
        ["u", "wdsr_jax", "float32", "", "0.25", ""],
        ["v", "wdsr_jax", "float32", "", "", "0.125"],
    ]
    assert "1. P2, 2 cores, 2 threads for each contender, jax 1.2; load average before: train 1.5" in printed
    assert "Machine 1 was busy: the load average before was 1.5" in printed
    assert "2. P8, 8 cores" in printed and "Machine 2 was busy" not in printed  # 0.69 a core


def test_a_page_of_no_result_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    for name, message in (("a.json", "is no result"), ("b.json", "cannot be read: No such file")):
        with pytest.raises(UserError, match=message):
            page.main([str(tmp_path / name)])


@pytest.mark.ci
def test_what_cannot_be_built_or_is_far_too_slow_is_left_out():
    contenders = {
        "wdsr_jax": rounds.Contender("tests.test_benchmarks:counting", {}),
        "bad": rounds.Contender("tests.test_benchmarks:nothing", {}),
        "slow": rounds.Contender("tests.test_benchmarks:sleeping", dict(seconds=1.1)),
        "wrong": rounds.Contender("tests.test_benchmarks:counting", {}),
    }
    said = []
    options = dict(threads=1, rounds=3, seconds=0, say=said.append)
    timed = rounds.time_in_turns(contenders, **options, refuse=lambda results: {"wrong": "it differs"})
    assert set(timed) == {"wdsr_jax"}
    assert len(timed["wdsr_jax"].seconds) == 3
    assert timed["wdsr_jax"].result == 7
    assert said[0] == "bad is left out: ImportError: there is no such library"
    assert said[1].startswith("slow is left out: a call takes 1.")
    assert said[2] == "wrong is left out: it differs"
    assert said[3:] == [f"round {i} of 3 of wdsr_jax: 0 s left" for i in (2, 3)]


@pytest.mark.ci
def test_calls_of_more_than_two_turns_have_three_rounds():
    contenders = {
        "wdsr_jax": rounds.Contender("tests.test_benchmarks:sleeping", dict(seconds=0.3)),
        "long": rounds.Contender("tests.test_benchmarks:sleeping", dict(seconds=2.1)),
    }
    timed = rounds.time_in_turns(contenders, threads=1, rounds=5, seconds=0)
    assert [len(timed[name].seconds) for name in contenders] == [5, 3]


def counting():
    return lambda: None, 7


def sleeping(seconds):
    return lambda: time.sleep(seconds), 7


def nothing():
    raise ImportError("there is no such library")


def test_operations_are_those_of_the_summary():
    model = dict(networks.WDSR_A, scale=2)
    flop = networks.operations(model, training=False)
    pixels = OUTPUT[0] * OUTPUT[1] / 4
    assert flop * pixels == pytest.approx(2 * multiply_adds(create_model(model)))
    first = 2 * 3 * (9 * 32 + 25 * 12)  # of head and skip no input gradient is needed
    assert networks.operations(model, training=True) == pytest.approx(3 * flop - first)


TINY = dict(name="wdsr_a", scale=2, filters=4, blocks=1, expansion=2)


def test_degraded_cells_are_fixed(tmp_path):
    lr = np.full((64, 64, 3), 120, np.uint8)
    made = {cell: degraded.degrade_lr(lr, cell) for cell in degraded.CELLS}
    assert len(made) == 5
    for cell, image in made.items():
        np.testing.assert_array_equal(image, degraded.degrade_lr(lr.copy(), cell))
    strength = [made[cell].std() for cell in ("noise 8, JPEG 85", "noise 3, JPEG 85", "noise 3, JPEG 40")]
    assert 8 > strength[0] > strength[1] > strength[2]
    weights = tmp_path / "w.safetensors"
    save_weights(weights, TINY, random_params(create_model(TINY)))
    hr = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    table = degraded.measure([Example("a", (8, 8), lambda: (hr[::2, ::2], hr))], 2, [str(weights)])
    assert list(table) == [*degraded.CELLS, degraded.MEAN, degraded.CLEAN]
    for column in ("bicubic", str(weights)):
        cells = [table[cell][column] for cell in degraded.CELLS]
        assert table[degraded.MEAN][column] == pytest.approx(np.mean(cells))
    assert degraded.rows_of({"Set": table}).count("\n") == 8


def test_a_run_is_packed(tmp_path):
    save_weights(tmp_path / "model.safetensors", TINY, random_params(create_model(TINY)))
    (tmp_path / "set").mkdir()
    write_image(tmp_path / "set/a.png", np.full((32, 32, 3), 99, np.uint8))
    path = tmp_path / "small.safetensors"
    ship.pack(tmp_path, path, 1000, [str(tmp_path / "set")])
    (before, _), (after, params) = map(wdsr_jax.load_pretrained, (tmp_path, path))
    assert before == after
    kernel = np.asarray(params["head"]["kernel"])
    np.testing.assert_array_equal(kernel, kernel.astype(np.float16))


def test_the_page_has_measured_and_published_rows():
    pytest.importorskip("matplotlib")
    measured = {"psnr_y": 37.5, "ssim_y": 0.95, "psnr_rgb": 35.0, "ssim_ntire": None}
    rows = []
    for scale in published.SCALES:
        rows.append(quality.Row("small", scale, {"Set5": measured}, 2.5, 1000, 3e9))
        rows += [
            quality.Row(name, scale, published.scores(known.figures, scale), 9.0, source=known.source)
            for name, known in published.PUBLISHED.items()
        ]
    page = quality.page(rows, ["Set5"], "page.png", side=96, load=0.5)
    assert page.count("## x") == 3 and "load average before was 0.5" in page
    cells = [line.split(" | ") for line in page.splitlines() if line.startswith("| small")]
    assert [cell.strip() for cell in cells[0]][:6] == [
        *("| small", "1,000", "3.0", "2.5", "37.50 / 0.9500", "35.00"),
    ]
    assert "38.24 / 0.9614" in page and " 34.76 " in page and "table 2" in page
    assert quality.draw(rows).startswith(b"\x89PNG")


def test_sets_have_the_names_of_the_papers():
    folders = ("x/Set5/image_SRF_2", "x/Set14", "x/BSDS100", "x/urban100", "x/DIV2K_valid_HR", "x/mine")
    names = ["Set5", "Set14", "B100", "Urban100", "DIV2K", "mine"]
    assert [quality.set_of(folder) for folder in folders] == names


def test_a_set_that_is_missing_is_one_line():
    command = [sys.executable, "-m", "benchmarks", "quality", "--sets", "/nothing/here"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "error: --sets: there is no folder /nothing/here\n"
