"""Runs in other programs: in a thread, in a notebook's kernel, from any folder, from a wheel.

`test_reuse.py` trains with a kernel's arguments, in another folder, and sees the log's lines.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.tiny import tiny_config
from tests.training.tiny_runs import stop_before_step
from wdsr_jax.training.loop import train_and_evaluate

ROOT = Path(__file__).parents[2]
TINY = {
    **{"model.blocks": 1, "model.filters": 4, "data.patch_size": 8, "data.batch_size": 4},
    **{"train.steps": 4, "train.warmup_steps": 2, "train.eval_every": 4, "train.checkpoint_every": 4},
}
OVERRIDES = [f"--config.{key}={value}" for key, value in TINY.items()]


def run_python(*arguments, cwd, path=ROOT):
    """Runs Python in a folder that is not the repository."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_in_a_thread_the_signals_stay_the_programs(photos, image_cache, tmp_path, monkeypatch):
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    seen, codes = [], []
    stop_before_step(
        monkeypatch, 2, lambda: seen.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGINT)))
    )
    config = tiny_config(photos, image_cache)
    thread = threading.Thread(target=lambda: codes.append(train_and_evaluate(config, tmp_path / "run")))
    thread.start()
    thread.join()
    assert codes == [0] and (tmp_path / "run/evaluation.json").is_file()
    assert seen == handlers


KERNEL = """
from wdsr_jax.system.console import set_up_logging
from wdsr_jax.training.config import parse_config
from wdsr_jax.training.loop import train_and_evaluate

set_up_logging()
print("code", train_and_evaluate(parse_config("configs/quickstart.py", {overrides}), "run"))
"""


@pytest.mark.slow
def test_a_run_in_a_kernel_shows_its_log(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cell = nbformat.v4.new_code_cell(KERNEL.format(overrides=OVERRIDES))
    notebook = nbformat.v4.new_notebook(cells=[cell])
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    text = "".join(output.get("text", "") for output in notebook.cells[0].outputs)
    assert "code 0\n" in text and "11 training images, 3 for validation\n" in text
    assert "step 4: validation PSNR " in text


SCALE = "import sys; from wdsr_jax.training import config; print(config.read_config(sys.argv[1]).model.scale)"
OWN = "from configs.default import with_variant\ndef get_config(): return with_variant(3, 'wdsr_b')\n"


@pytest.mark.parametrize(
    ("file", "scale"),
    [("configs/x4.py", 4), (ROOT / "configs/x2.py:wdsr_b", 2), ("own.py", 3), ("configs/own.py", 3)],
)
def test_configs_are_found_from_anywhere(file, scale, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    if file == "configs/own.py":  # in a folder of that name, but no package: this package's are beside it
        (tmp_path / "configs").mkdir()
        (tmp_path / file).write_text(OWN)
    result = run_python("-c", SCALE, file, cwd=tmp_path)
    assert result.stdout == f"{scale}\n", result.stderr


def test_a_config_imports_its_neighbours_not_those_of_the_current_folder(tmp_path):
    (tmp_path / "configs").mkdir()
    for name in ("__init__.py", "default.py"):
        (tmp_path / "configs" / name).write_text("raise SystemExit('another project')\n")
    result = run_python("-c", SCALE, ROOT / "configs/x3.py", cwd=tmp_path)
    assert result.stdout == "3\n", result.stderr


def test_wheels_have_every_folder_of_the_package_and_the_configs():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for top in ("wdsr_jax", "configs") for path in (ROOT / top).rglob("__init__.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert settings["package-dir"] == {"wdsr_jax.configs": "configs"}
    assert set(settings["packages"]) == {
        f"wdsr_jax.{name}" if name.startswith("configs") else name for name in names
    }


@pytest.mark.slow
def test_a_run_from_a_wheel(tmp_path):
    source, wheels, installed = (tmp_path / name for name in ("source", "wheels", "installed"))
    for name in ("wdsr_jax", "configs"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, source)
    built = run_python("-m", "pip", "wheel", "--no-deps", "--wheel-dir", wheels, source, cwd=tmp_path)
    if built.returncode and "setuptools" in built.stderr:
        pytest.skip("setuptools cannot be downloaded to build a wheel")
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(wheels.iterdir())) as wheel:
        wheel.extractall(installed)
    config = "--config=configs/quickstart.py"
    command = ["-m", "wdsr_jax.main", config, "--workdir=run", *OVERRIDES]
    result = run_python(*command, cwd=tmp_path, path=installed)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run/evaluation.json").is_file()
