"""What is said of the results: tables, differences beside the paper's, divergence."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from tests.tiny import read_json
from wdsr_jax.experiments.report import write_report
from wdsr_jax.training.config import read_config

pytest.importorskip("matplotlib")


def result(variant, level, seed, psnr, diverged=None, experiment="blocks"):
    score = {"psnr_y": psnr + 2, "psnr_rgb": psnr}
    bicubic = {"psnr_y": 32.5, "psnr_rgb": 31.0}
    curve = [[100, psnr - 1], [200, psnr]]
    return {
        "variant": variant,
        "level": level,
        "seed": seed,
        "parameters": 79_380,
        "multiply_adds": 18.2e9,
        "diverged_at_step": diverged,
        "scores": {} if diverged else {"validation": {"bicubic": bicubic, "model": score}},
        "loss": [[step, 1 / step] for step in range(1, 201)],
        "validation_psnr": [] if diverged else curve,
        "config": read_config("configs/paper.py:cpu").to_dict(),
    }


def rows(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]


@pytest.mark.ci
def test_blocks_are_said_to_differ_where_no_seeds_overlap(tmp_path):
    measured = {"EDSR": (33.0, 33.1, 33.2), "WDSR-A": (33.3, 33.4, 33.5), "WDSR-B": (33.35, 33.2, 33.05)}
    results = [
        result(variant, 1, seed, psnr)
        for variant, seeds in measured.items()
        for seed, psnr in enumerate(seeds)
    ]
    text = write_report("blocks", "cpu", results, 18, tmp_path)
    assert "9 of 18 runs." in text and "seeds 0, 1, 2" in " ".join(text.split())
    table = rows(text)
    assert table[3][:4] == ["EDSR", "1", "79,380", "18.2"]
    assert table[3][5:] == ["33.100 ± 0.100", "35.100 ± 0.100", "33.210"]
    assert table[2][5:] == ["31.00", "32.50", ""]
    differences = {row[0]: row[1:] for row in table if " - " in row[0]}
    assert differences["WDSR-A - EDSR"] == ["1", *["+0.300, beyond the spread"] * 2, "+0.113"]
    assert differences["WDSR-B - EDSR"] == ["1", *["+0.100, within the spread"] * 2, "+0.224"]
    assert differences["WDSR-B - WDSR-A"] == ["1", *["-0.200, within the spread"] * 2, "+0.111"]
    assert "2 of 3 differences have the paper's sign, 1 of them beyond the spread" in text
    assert max(len(line) for line in text.splitlines() if line[:1] != "|") <= 120

    for name in ("blocks_curves", "blocks_cost"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 400
        assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")
        assert f"({name}.png)" in text
    before = (tmp_path / "blocks_cost.svg").read_bytes()
    assert write_report("blocks", "cpu", results, 18, tmp_path) == text
    assert (tmp_path / "blocks_cost.svg").read_bytes() == before
    assert text.splitlines()[2].startswith("Made by `python -m wdsr_jax.reproduce blocks --budget=cpu`: 9 of")

    saved = read_json(tmp_path / "blocks.json")
    for entry in results:
        for key in (
            "root",
            "val_root",
            "lr_root",
            "val_lr_root",
            "cache_dir",
        ):  # which are of no use elsewhere
            del entry["config"]["data"][key]
    assert saved == json.loads(json.dumps(results))


def test_norms_show_divergence_and_a_single_seed_has_no_spread(tmp_path):
    results = [
        result("weight norm", 1e-3, 0, 34.0),
        result("batch norm", 1e-3, 0, 33.0),
        result("no norm", 1e-3, 0, 30.0, diverged=150),
        result("weight norm", 1e-4, 0, 33.0),
        result("no norm", 1e-4, 0, 33.5),
    ]
    results[1]["validation_psnr"] = [[100, 33.0], [200, 20.0]]  # it had been good
    text = write_report("norms", "cpu", results, 6, tmp_path)
    table = rows(text)
    assert [row[0] for row in table[3:8]] == [
        *("weight norm", "no norm", "weight norm"),
        *("batch norm (1 of 1 diverged)", "no norm (1 of 1 diverged)"),
    ]
    assert table[7][5:] == ["-", "-"]
    differences = {(row[0], row[1]): row[2:] for row in table if " - " in row[0]}
    assert differences == {
        ("weight norm - batch norm", "0.001"): ["+1.000", "+1.000"],
        ("weight norm - no norm", "0.001"): ["-", "-"],
        ("weight norm - no norm", "0.0001"): ["-0.500", "-0.500"],
    }
    assert "the paper" not in table[0]
    assert (tmp_path / "norms_curves.png").exists() and (tmp_path / "norms_curves.svg").exists()
