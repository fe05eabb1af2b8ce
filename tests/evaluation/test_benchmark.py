"""Scores of one image and of sets, and padding that changes nothing."""

import json

import jax
import numpy as np
import pytest

from tests.evaluation.sets import (
    BENCHMARKS,
    SCORES,
    SIZES,
    folder_of,
    needs_benchmarks,
    network,
    picture,
    save,
)
from wdsr_jax.data.degradation import translate
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import evaluate, score, score_table, super_resolve, write_json
from wdsr_jax.evaluation.examples import MAX_SHAPES, Example, examples_of_folder
from wdsr_jax.image.metrics import psnr, ssim
from wdsr_jax.image.resize import imresize
from wdsr_jax.inference.tiles import upscale


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


def test_an_interrupt_while_loading_gets_through(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    examples = [*examples_of_folder(folder_of(tmp_path, [(40, 40)]), 2), Example("x", (20, 20), interrupted)]
    with pytest.raises(KeyboardInterrupt):
        evaluate(examples, 2)


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


def test_evaluate_refuses_a_set_without_images_that_can_be_read(around):
    with pytest.raises(UserError, match="evaluating: no image could be read"):
        evaluate(examples_of_folder("damaged", 2), 2)
