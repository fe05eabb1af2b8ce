"""The command as people run it, on real sets and on what they get wrong."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.evaluation.sets import (
    BENCHMARKS,
    CONFIG,
    SCORES,
    SIZES,
    folder_of,
    needs_benchmarks,
    network,
    picture,
    save,
    write_sets,
)
from wdsr_jax.data.degradation import translate
from wdsr_jax.evaluate import main
from wdsr_jax.evaluation.benchmark import evaluate
from wdsr_jax.evaluation.examples import examples_of_folder
from wdsr_jax.image.resize import imresize
from wdsr_jax.system.console import run_command
from wdsr_jax.weights.store import save_weights


def run(monkeypatch, capsys, *argv):
    """Exit code, stdout and the lines on stderr but for progress bars and what was taken."""
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, argv)])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    out, err = capsys.readouterr()
    lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
    taken = re.compile(r".*: \d+ (HR images, from which LR is made|pairs?: HR (from|such as) .*)")
    return ended.value.code, out, [line for line in lines if not taken.fullmatch(line)]


# The benchmark rows: design's independent calculation; the published row is that of the papers.
BICUBIC = {
    "Set5": {2: (33.674, 0.9303), 3: (30.405, 0.8689), 4: (28.430, 0.8111)},
    "Set14": {2: (30.326, 0.8699), 3: (27.634, 0.7759), 4: (26.091, 0.7048)},
}
PUBLISHED = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}  # Set5


@needs_benchmarks
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_rows_of_set5_and_set14(monkeypatch, capsys, tmp_path, scale):
    folders = [BENCHMARKS / name / f"image_SRF_{scale}" for name in BICUBIC]
    out_file = tmp_path / "scores.json"
    code, out, err = run(
        monkeypatch, capsys, "--model=bicubic", f"--scale={scale}", f"--out={out_file}", *folders
    )
    assert (code, err) == (0, [])
    results = json.loads(out_file.read_text())
    assert list(results) == ["Set5", "Set14"]
    for name, rows in BICUBIC.items():
        for who in ("bicubic", "model"):  # the model that was asked for is bicubic
            assert list(results[name][who]) == SCORES
            assert results[name][who]["psnr_y"] == pytest.approx(rows[scale][0], abs=0.005)
            assert results[name][who]["ssim_y"] == pytest.approx(rows[scale][1], abs=0.0002)
    assert results["Set5"]["bicubic"]["psnr_y"] == pytest.approx(PUBLISHED[scale][0], abs=0.02)
    assert results["Set5"]["bicubic"]["ssim_y"] == pytest.approx(PUBLISHED[scale][1], abs=0.001)
    assert [len(results[name]["images"]) for name in BICUBIC] == [5, 14]
    assert f"| Set5        |      5 |  {results['Set5']['bicubic']['psnr_y']:.2f} |" in out


def test_the_command_with_a_network(monkeypatch, capsys, tmp_path):
    module, params = network()
    workdir = tmp_path / "run"
    workdir.mkdir()
    save_weights(workdir / "model.safetensors", CONFIG, params)
    folder_of(tmp_path / "photos", SIZES[:3])
    code, out, err = run(
        monkeypatch,
        capsys,
        f"--model={workdir}",
        "--scale=2",
        f"--out={tmp_path}/o.json",
        tmp_path / "photos",
    )
    assert (code, err) == (0, [])
    results = json.loads((tmp_path / "o.json").read_text())
    assert list(results) == ["photos"]
    assert list(results["photos"]) == ["bicubic", "model", "images"]
    assert list(results["photos"]["model"]) == list(results["photos"]["bicubic"]) == SCORES
    assert [list(image) for image in results["photos"]["images"]] == [["name", "bicubic", "model"]] * 3
    expected = evaluate(examples_of_folder(tmp_path / "photos", 2), 2, module, params)
    assert results["photos"] == expected
    header, rule, row = out.splitlines()
    assert header.split("|")[1].strip() == "x2: bicubic / model"
    both = f"{expected['bicubic']['psnr_y']:.2f} / {expected['model']['psnr_y']:.2f}"
    assert [cell.strip() for cell in row.split("|")[1:4]] == ["photos", "3", both]
    assert len(header) == len(rule) == len(row) <= 120


def test_shifts_are_allowed_for_where_they_are_asked_for(monkeypatch, capsys, tmp_path):
    for i, moved in enumerate([(2, -4), (0, 4), (-2, 0)]):
        hr = picture(80, 96, seed=i)
        save(tmp_path / "set/HR" / f"{i}.png", hr)
        save(tmp_path / "set/LR" / f"{i}.png", imresize(translate(hr, moved), 0.5))
    argv = ["--model=bicubic", "--scale=2", f"--out={tmp_path / 'plain.json'}", tmp_path / "set"]
    assert run(monkeypatch, capsys, *argv)[0] == 0
    argv[2] = f"--out={tmp_path / 'shift.json'}"
    code, out, err = run(monkeypatch, capsys, *argv, "--shift=4")
    assert code == 0 and err == []
    plain, shifted = (
        json.loads((tmp_path / f"{name}.json").read_text())["set"] for name in ("plain", "shift")
    )
    assert list(plain["bicubic"]) == SCORES
    assert list(shifted["bicubic"]) == [*SCORES, "psnr_shift", "ssim_shift", "shift_y", "shift_x"]
    assert {key: shifted["bicubic"][key] for key in SCORES} == plain["bicubic"]
    found = [(image["bicubic"]["shift_y"], image["bicubic"]["shift_x"]) for image in shifted["images"]]
    assert found == [(2, -4), (0, 4), (-2, 0)]
    assert shifted["bicubic"]["psnr_shift"] > plain["bicubic"]["psnr_rgb"] + 3
    lines = out.splitlines()
    head, values = ([cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], lines[2]))
    assert head[2:] == ["PSNR-Y", "PSNR ntire", "PSNR shift", "SSIM shift"]
    assert values[4:] == [
        f"{shifted['bicubic']['psnr_shift']:.2f}",
        f"{shifted['bicubic']['ssim_shift']:.4f}",
    ]


def test_what_was_taken_is_said_and_lr_may_be_given(monkeypatch, capsys, tmp_path):
    for name in "ab":
        hr = picture(32, 48, seed=ord(name))
        save(tmp_path / "set" / f"{name}_LR.png", hr)  # by its name it would be LR
        save(tmp_path / "small" / f"{name}_LR.png", imresize(hr, 0.25))
        save(tmp_path / "alone" / f"{name}.png", hr)
        save(tmp_path / "paired/GT" / f"{name}.png", hr)
        save(tmp_path / "paired/LQ" / f"{name}.png", imresize(hr, 0.25))
    monkeypatch.chdir(tmp_path)
    scores = []
    for argv, line in (
        (["set", "--lr=small"], "set: 2 pairs: HR from ., LR from small"),
        (["alone"], "alone: 2 HR images, from which LR is made"),
        (["paired"], "paired: 2 pairs: HR from GT, LR from LQ"),
    ):
        monkeypatch.setattr(sys, "argv", ["evaluate", "--model=bicubic", "--scale=4", "--out=o.json", *argv])
        with pytest.raises(SystemExit) as ended:
            run_command(main)
        assert ended.value.code == 0 and line in capsys.readouterr().err.splitlines()
        scores.append(next(iter(json.loads(Path("o.json").read_text()).values()))["bicubic"])
    assert scores[0] == scores[1] == scores[2]


# What people get wrong. Every case: exit code 1, one line, nothing written.


@pytest.fixture
def around(monkeypatch, tmp_path):
    """A folder with a bit of everything, as current folder."""
    monkeypatch.chdir(tmp_path)
    write_sets()
    return tmp_path


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--model=bicubic --scale=2 nowhere", "nowhere: no such folder"),
        ("--model=bicubic --scale=2 good nowhere", "nowhere: no such folder"),
        ("--model=bicubic --scale=2 good/a.png", "good/a.png: not a folder"),
        ("--model=bicubic --scale=2 empty", "empty: no image in it"),
        ("--model=bicubic --scale=2 notes", "notes: no image in it"),
        ("--model=bicubic --scale=2 dot", "dot: no image in it that can be read and has 2 pixels a side"),
        ("--model=bicubic --scale=90 good", "good: no image in it that can be read and has 90 pixels a side"),
        ("--model=bicubic --scale=2 misfit", "misfit: LR and HR do not fit at scale 2: 0001 (LR 24x20, HR"),
        ("--model=bicubic --scale=2 x4", "x4: no images of scale 2; there are of scale 4"),
        ("--model=bicubic --scale=0 good", "--scale must be a whole number from 1 up, not 0"),
        ("--model=bicubic --scale=-1 good", "--scale must be a whole number from 1 up, not -1"),
        ("--model=bicubic --scale=2 --shift=-1 good", "--shift must be a whole number from 0 up, not -1"),
        ("--model=bicubic --scale=1 good", "good: no LR images beside the HR; at scale 1"),
        ("--model=bicubic --scale=2 good x4 --lr=x4", "--lr is for each DIR: there are 2 DIR and 1 --lr"),
        ("--model=bicubic --scale=2 good --lr=nowhere", "nowhere: no such folder"),
        ("--model=bicubic --scale=abc good", "argument --scale: invalid int value: 'abc'"),
        ("--model=bicubic good", "arguments are required: --scale"),
        ("--model=bicubic --scale=2", "arguments are required: DIR"),
        ("--model=x2.safetensors --scale=3 good", "--scale=3: x2.safetensors is a model for x2"),
        ("--model=nowhere --scale=2 good", "nowhere: no such file or workdir"),
        ("--model=cut.safetensors --scale=2 good", "cut.safetensors: not a safetensors file"),
        ("--model=text.safetensors --scale=2 good", "text.safetensors: not a safetensors file"),
        ("--model=workdir --scale=2 good", "workdir: no model.safetensors here"),
        ("--model=bicubic --scale=2 --out=nowhere/o.json good", "--out=nowhere/o.json: no such folder"),
        ("--model=bicubic --scale=2 --out=good good", "--out=good: is a folder"),
        ("--model=bicubic --scale=2 --out=/proc/o.json good", "--out=/proc/o.json: cannot be written"),
        (f"--model=bicubic --scale=2 --out={'o' * 300} good", "cannot be written (File name too long)"),
    ],
)
def test_mistakes(monkeypatch, capsys, around, argv, message):
    before = contents(around)
    code, out, err = run(monkeypatch, capsys, *argv.split())
    assert (code, out) == (1, "")
    assert len(err) == 1 and err[0].startswith("error: ") and message in err[0]
    assert contents(around) == before


@pytest.mark.parametrize("model", ["bicubic", "x2.safetensors"])
def test_broken_and_tiny_files_are_named_and_left_out(monkeypatch, capsys, around, model):
    code, out, err = run(
        monkeypatch, capsys, f"--model={model}", "--scale=2", "--out=o.json", "mixed", "good"
    )
    assert code == 0
    assert sorted(err) == [
        "warning: left out: mixed/cut.png: cannot be read (image file is truncated)",
        "warning: left out: mixed/dot.png: too small for x2",
        "warning: left out: mixed/text.png: not an image",
    ]
    rows = [[cell.strip() for cell in line.split("|")] for line in out.splitlines()]
    assert rows[2][1:3] == ["mixed", "1 of 4"] and rows[3][1:3] == ["good", "2"]
    results = json.loads(Path("o.json").read_text())
    assert results["mixed"]["left_out"] == ["cut", "dot", "text"]
    assert "left_out" not in results["good"]
    for who in ("bicubic", "model"):
        assert results["mixed"][who] == pytest.approx(results["good"]["images"][0][who], abs=1e-6)


def test_a_folder_of_nothing_but_damage(monkeypatch, capsys, around):
    code, out, err = run(monkeypatch, capsys, "--model=bicubic", "--scale=2", "--out=o.json", "damaged")
    assert (code, out) == (1, "") and not Path("o.json").exists()
    assert err[-1] == "error: damaged: no image could be read; the lines above say why"


def test_a_disk_that_is_full_at_the_end_loses_the_file_but_not_the_table(monkeypatch, capsys, around):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    before = sorted(around.iterdir())
    code, out, err = run(monkeypatch, capsys, "--model=bicubic", "--scale=2", "--out=o.json", "good")
    assert (code, err) == (1, ["error: o.json: cannot be written (No space left on device)"])
    assert "| good " in out
    assert not [path for path in around.iterdir() if "o.json" in path.name]
    assert sorted(around.iterdir()) == before


@pytest.mark.parametrize("model", ["bicubic", "x2.safetensors"])
def test_tiny_images_have_the_scores_that_exist(monkeypatch, capsys, around, model):
    save(Path("tiny/a.png"), picture(12, 12))
    save(Path("tiniest/a.png"), picture(2, 2))
    code, out, err = run(
        monkeypatch, capsys, f"--model={model}", "--scale=2", "--out=o.json", "tiny", "tiniest"
    )
    assert (code, err) == (0, [])
    results = json.loads(Path("o.json").read_text())
    assert results["tiny"]["model"]["psnr_y"] > 0
    assert [results["tiny"]["model"][key] for key in SCORES[1:]] == [None] * 3
    assert list(results["tiniest"]["model"].values()) == [None] * 4
    assert out.splitlines()[3].split("|")[3].strip() == ("-" if model == "bicubic" else "- / -")


def test_two_sets_of_one_name_and_one_set_given_twice(monkeypatch, capsys, around):
    save(Path("old/Set5/image_SRF_2/a.png"))
    save(Path("new/Set5/image_SRF_2/a.png"), picture(seed=1))
    save(Path("photos/fine/a.png"))
    folders = ["old/Set5/image_SRF_2", "new/Set5/image_SRF_2/", "photos/fine", "./photos//fine/"]
    code, _, _ = run(monkeypatch, capsys, "--model=bicubic", "--scale=2", "--out=o.json", *folders)
    assert code == 0
    results = json.loads(Path("o.json").read_text())
    assert list(results) == ["old/Set5/image_SRF_2", "new/Set5/image_SRF_2", "fine"]
    assert results["old/Set5/image_SRF_2"]["bicubic"] != results["new/Set5/image_SRF_2"]["bicubic"]
