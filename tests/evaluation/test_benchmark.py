"""The command as people run it, on real sets and on what they get wrong; padding that changes nothing."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.numpy_wdsr import random_params
from wdsr_jax.data.dataset import dataset_from_files
from wdsr_jax.data.degradation import translate
from wdsr_jax.data.names import find_pairs
from wdsr_jax.errors import UserError
from wdsr_jax.evaluate import main
from wdsr_jax.evaluation.benchmark import evaluate, score, score_table, super_resolve, write_json
from wdsr_jax.evaluation.examples import (
    MAX_SHAPES,
    Example,
    examples_of_folder,
    examples_of_pairs,
    padded_shapes,
)
from wdsr_jax.image.metrics import psnr, ssim
from wdsr_jax.image.resize import imresize
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.models import create_model
from wdsr_jax.system.console import run_command
from wdsr_jax.weights.store import save_weights

BENCHMARKS = Path(__file__).parents[3] / "shared/data/benchmarks"
SCORES = ["psnr_y", "ssim_y", "psnr_rgb", "ssim_ntire"]
CONFIG = {"name": "wdsr_a", "scale": 2, "filters": 8, "blocks": 2, "expansion": 2}
SIZES = [(30, 40), (40, 30), (33, 47), (34, 46), (64, 50), (63, 51), (31, 41)]  # (height, width) of HR

needs_benchmarks = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no benchmark sets beside the checkout")


def network(seed=0, **fields):
    module = create_model(CONFIG | fields)
    return module, random_params(module, seed)


def picture(height=40, width=50, seed=0, channels=3):
    """Something with edges: noise, enlarged."""
    noise = np.random.default_rng(seed).integers(
        0, 256, (-(-height // 4), -(-width // 4), channels), np.uint8
    )
    return imresize(noise, 4)[:height, :width]


def save(path, image=None, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if image is None else image, mode).save(path)
    return path


def folder_of(root, sizes=SIZES):
    for i, size in enumerate(sizes):
        save(root / f"{i}.png", picture(*size, seed=i))
    return root


def run(monkeypatch, capsys, *argv):
    """Exit code, stdout and the lines on stderr but for progress bars."""
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, argv)])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    out, err = capsys.readouterr()
    lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
    return ended.value.code, out, lines


@pytest.fixture
def compilations():
    """Seconds of each compilation from here on, as JAX reports them."""
    seconds = []

    def listen(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seconds
    jax.monitoring.unregister_event_duration_listener(listen)


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


def assert_equal_to_whole_images(module, params, examples):
    """SR of the padded images against each image alone at its own size."""
    seen = set()
    for i, lr, hr, sr in super_resolve(module, params, examples):
        alone = upscale(module, params, lr)
        difference = np.abs(sr.astype(int) - alone)
        assert difference.max() <= 1 and difference.mean() < 1e-3  # rounding, where float32 says 0.5 +- 1e-6
        assert psnr(sr, hr, scale=2) == pytest.approx(psnr(alone, hr, scale=2), abs=1e-4)
        seen.add(i)
    assert seen == set(range(len(examples)))


@needs_benchmarks
def test_set14_takes_six_compilations_and_gives_what_whole_images_give(compilations, tmp_path):
    module, params = network(filters=6)  # of this test alone: compiled nowhere else
    set14 = examples_of_folder(BENCHMARKS / "Set14/image_SRF_2", 2)
    assert len({example.lr_shape for example in set14}) == 10
    list(super_resolve(module, params, examples_of_folder(folder_of(tmp_path, [(20, 20)]), 2)))
    compilations.clear()  # those of folding the weights, and of that one shape
    list(super_resolve(module, params, set14))
    assert len(compilations) == 6
    assert_equal_to_whole_images(module, params, set14)


def test_many_sizes_take_few_compilations_and_give_what_whole_images_give(compilations, tmp_path):
    module, params = network(filters=7)  # of this test alone: compiled nowhere else
    examples = examples_of_folder(folder_of(tmp_path), 2)
    list(super_resolve(module, params, examples[:1]))
    compilations.clear()
    list(super_resolve(module, params, examples))
    assert 2 <= len(compilations) <= MAX_SHAPES
    assert_equal_to_whole_images(module, params, examples)


def test_an_evaluation_during_training_compiles_only_the_first_time(compilations, tmp_path):
    examples = examples_of_folder(folder_of(tmp_path), 2)
    networks = [network(seed, dtype="bfloat16") for seed in range(3)]  # built anew, parameters as they become
    first = evaluate(examples, 2, *networks[0], bicubic=False)
    compilations.clear()
    later = [evaluate(examples, 2, *networks[i], bicubic=False) for i in (1, 2)]
    assert compilations == []
    assert [set(result) for result in later] == [{"model", "images"}] * 2
    assert first["model"] != later[0]["model"] != later[1]["model"]  # each time the parameters given


shapes_of_images = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=12)


@settings(deadline=None)
@given(shapes=shapes_of_images, at_most=st.integers(1, 4))
def test_padded_shapes_hold_every_image_and_are_few(shapes, at_most):
    padded = padded_shapes(shapes, at_most)
    assert len(padded) == len(shapes) and len(set(padded)) <= at_most
    assert all(h <= H and w <= W for (H, W), (h, w) in zip(padded, shapes, strict=True))
    for shape in set(padded):  # no larger than the images in it need
        members = [own for own, target in zip(shapes, padded, strict=True) if target == shape]
        assert shape == (max(h for h, _ in members), max(w for _, w in members))
    if len(set(shapes)) <= at_most:
        assert padded == shapes


def test_padded_shapes_add_few_pixels():
    upright, flat = [(200, 100), (198, 100), (200, 97)], [(100, 200), (99, 199)]
    assert padded_shapes(upright + flat, 2) == [(200, 100)] * 3 + [(100, 200)] * 2
    # Thousands of photographs of any size: still at once, and still few pixels.
    shapes = [tuple(size) for size in np.random.default_rng(0).integers(100, 500, (3000, 2)).tolist()]
    padded = padded_shapes(shapes)
    assert len(set(padded)) == MAX_SHAPES
    assert sum(h * w for h, w in padded) < 2 * sum(h * w for h, w in shapes)


def test_scores_of_one_image():
    hr = picture(60, 70)
    sr = hr.copy()
    sr[30:, 30:] ^= 4
    scores = score(sr, hr, 2)
    assert list(scores) == SCORES
    assert scores["psnr_y"] == psnr(sr, hr, scale=2)
    assert scores["psnr_rgb"] == psnr(sr, hr, scale=2, protocol="ntire")
    assert 0 < scores["ssim_ntire"] < scores["ssim_y"] < 1
    # After shaving 2 of 14 no window of SSIM fits; 8 pixels a side leave nothing.
    small = score(hr[:14, :14], hr[:14, :14], 2)
    assert small == {"psnr_y": np.inf, "ssim_y": None, "psnr_rgb": None, "ssim_ntire": None}


def test_each_image_counts_the_same_and_bicubic_is_of_the_lr_given(tmp_path):
    folder_of(tmp_path, [(40, 60), (80, 100)])
    result = evaluate(examples_of_folder(tmp_path, 2), 2)
    assert [image["name"] for image in result["images"]] == ["0", "1"]
    for key in SCORES:
        values = [image["bicubic"][key] for image in result["images"]]
        assert result["bicubic"][key] == pytest.approx(np.mean(values), abs=1e-12)
    # An LR on disk is used as it is: DIV2K's naming.
    save(tmp_path / "0x2.png", np.zeros((20, 30, 3), np.uint8))
    save(tmp_path / "1x2.png", imresize(picture(80, 100, seed=1), 1 / 2))
    given = evaluate(examples_of_folder(tmp_path, 2), 2)
    assert given["images"][0]["bicubic"]["psnr_y"] < 12
    assert given["images"][1] == result["images"][1]
    # MATLAB rounds the LR's sides up; the last row and column of such an LR have no HR of their own.
    odd = save(tmp_path / "odd/0.png", picture(41, 61)).parent
    save(odd / "0x2.png", imresize(picture(41, 61), 1 / 2))
    (example,) = examples_of_folder(odd, 2)
    lr, hr = example.load()
    assert (lr.shape, hr.shape, example.lr_shape) == ((20, 30, 3), (40, 60, 3), (20, 30))


def test_the_order_of_images_is_the_folders_whatever_shapes_come_first(tmp_path):
    module, params = network()
    examples = examples_of_folder(folder_of(tmp_path), 2)
    result = evaluate(examples, 2, module, params)
    assert [image["name"] for image in result["images"]] == [str(i) for i in range(len(SIZES))]
    for example, image in zip(examples, result["images"], strict=True):
        lr, hr = example.load()
        assert image["bicubic"] == score(imresize(lr, 2), hr, 2)
        assert image["model"]["psnr_y"] == pytest.approx(
            psnr(upscale(module, params, lr), hr, scale=2), abs=1e-4
        )


def test_a_validation_set_gives_what_its_folder_gives(tmp_path):
    folder = folder_of(tmp_path / "photos", [(41, 50), (30, 33)])
    pairs = dataset_from_files(find_pairs(folder, 2), 2, tmp_path / "cache")
    of_pairs, of_folder = examples_of_pairs(pairs), examples_of_folder(folder, 2)
    assert [(e.name, e.lr_shape) for e in of_pairs] == [(e.name, e.lr_shape) for e in of_folder]
    assert evaluate(of_pairs, 2) == evaluate(of_folder, 2)


def test_an_interrupt_while_loading_gets_through(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    examples = [*examples_of_folder(folder_of(tmp_path, [(40, 40)]), 2), Example("x", (20, 20), interrupted)]
    with pytest.raises(KeyboardInterrupt):
        evaluate(examples, 2)


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


def test_table_and_json_where_scores_are_missing_or_extreme(tmp_path):
    best = {"psnr_y": np.inf, "ssim_y": 1.0, "psnr_rgb": 100.0, "ssim_ntire": 1 + 2e-16}
    worst = {"psnr_y": 0.5, "ssim_y": -0.02, "psnr_rgb": -3.0, "ssim_ntire": None}
    results = {
        "Urban100 with a name of 40 characters....": {"bicubic": worst, "model": best, "images": [{}] * 100},
        "B": {"bicubic": best, "model": worst, "images": [{}], "left_out": ["x", "y"]},
    }
    lines = score_table(results, 4).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert rows[2][1:] == ["100", "0.50 / inf", "-0.0200 / 1.0000", "-3.00 / 100.00", "- / 1.0000"]
    assert rows[3][1:] == ["1 of 3", "inf / 0.50", "1.0000 / -0.0200", "100.00 / -3.00", "1.0000 / -"]
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) <= 120
    write_json(tmp_path / "x.json", results)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
    assert read["B"]["bicubic"] == best | {"psnr_y": None}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


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


def test_a_shift_score_is_that_of_aligned_images():
    hr = picture(60, 70)
    sr = np.clip(translate(hr, (3, -1)) + np.random.default_rng(0).normal(0, 5, hr.shape), 0, 255)
    sr = sr.astype(np.uint8)
    scores = score(sr, hr, 2, shift=4)
    cut, target = sr[4:-4, 4:-4], hr[1:-7, 5:-3]  # sr[y, x] shows hr[y - 3, x + 1]
    assert scores["psnr_shift"] == psnr(cut, target, scale=2, protocol="ntire")
    assert scores["ssim_shift"] == ssim(cut, target, scale=2, protocol="ntire")
    assert score(sr, hr, 2) == {key: scores[key] for key in SCORES}
    tiny = score(sr[:23, :23], hr[:23, :23], 2, shift=4)  # 2 * (2 + 6) leaves 7, and 2 * 4 more nothing
    assert tiny["psnr_rgb"] is not None
    assert [tiny[key] for key in ("psnr_shift", "ssim_shift", "shift_y", "shift_x")] == [None] * 4


# What people get wrong. Every case: exit code 1, one line, nothing written.


@pytest.fixture
def around(monkeypatch, tmp_path):
    """A folder with a bit of everything, as current folder."""
    monkeypatch.chdir(tmp_path)
    save(Path("good/a.png"))
    save(Path("good/b.png"), picture(seed=1))
    whole = Path("good/b.png").read_bytes()
    for folder in ("mixed", "damaged"):
        Path(folder).mkdir()
        Path(folder, "cut.png").write_bytes(whole[: len(whole) // 2])
        Path(folder, "text.png").write_text("no image")
    Path("mixed/a.png").write_bytes(Path("good/a.png").read_bytes())
    save(Path("mixed/dot.png"), np.zeros((1, 1, 3), np.uint8))
    save(Path("dot/dot.png"), np.zeros((1, 1, 3), np.uint8))
    save(Path("misfit/0001.png"))
    save(Path("misfit/0001x2.png"), picture(20, 24))
    save(Path("x4/0001.png"))
    save(Path("x4/0001x4.png"), picture(10, 12))
    for folder in ("empty", "workdir"):
        Path(folder).mkdir()
    Path("notes").mkdir()
    Path("notes/text.txt").write_text("no image")
    save_weights("x2.safetensors", CONFIG, network()[1])
    Path("cut.safetensors").write_bytes(Path("x2.safetensors").read_bytes()[:2000])
    Path("text.safetensors").write_text("no weights")
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


def test_images_of_every_kind_are_measured(around):
    grey = picture(channels=1)[..., 0]
    save(Path("kinds/grey.png"), grey)
    save(Path("kinds/grey16.png"), grey.astype(np.uint16) * 257)
    save(Path("kinds/rgb.png"), np.repeat(grey[..., None], 3, axis=-1))
    save(Path("kinds/rgba.png"), np.dstack([grey, grey, grey, 255 - grey]))
    Image.fromarray(grey).convert("P").save("kinds/palette.png")
    result = evaluate(examples_of_folder("kinds", 2), 2)
    assert len(result["images"]) == 5 and "left_out" not in result
    for image in result["images"]:
        assert image["bicubic"] == result["images"][0]["bicubic"]  # the same picture


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


def test_evaluate_refuses_a_set_without_images_that_can_be_read(around):
    with pytest.raises(UserError, match="evaluating: no image could be read"):
        evaluate(examples_of_folder("damaged", 2), 2)
