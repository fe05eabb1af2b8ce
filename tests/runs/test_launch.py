"""The launchers: what they would run, and the notebook from top to bottom."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LAUNCH = Path(__file__).parents[2] / "launch"
ARGUMENTS = ["--config=configs/x4.py", "--workdir=/mnt/share/a b"]


def run(*command, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a program of a name on the PATH that logs its arguments and runs some lines of shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(name, script):
        path = tmp_path / name
        path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> {tmp_path}/log\ncd {tmp_path}\n{script}\n')
        path.chmod(0o755)

    return make


def test_scripts_are_clean():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = [path for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch")]
    assert len(scripts) == 4
    result = run("shellcheck", *scripts)
    assert result.returncode == 0, result.stdout


def test_slurm_says_what_it_would_do():
    result = run("bash", LAUNCH / "slurm.sbatch", "--dry-run", *ARGUMENTS)
    assert result.stdout.split("wdsr_jax.main")[1] == " --config=configs/x4.py --workdir=/mnt/share/a\\ b \n"
    assert result.stdout.startswith("srun --kill-on-bad-exit=1 python -m ")


@pytest.mark.parametrize(("code", "requeued"), [(143, True), (0, False), (1, False)])
def test_slurm_queues_again_what_was_stopped(fake, tmp_path, code, requeued):
    fake("srun", f"exit {code}")
    fake("scontrol", "")
    result = run(
        "bash", LAUNCH / "slurm.sbatch", *ARGUMENTS, SLURM_JOB_ID="77", SLURM_SUBMIT_DIR=str(tmp_path)
    )
    assert result.returncode == code
    assert ("scontrol requeue 77" in (tmp_path / "log").read_text()) == requeued


def test_slurm_outside_a_job():
    result = run("bash", LAUNCH / "slurm.sbatch", *ARGUMENTS)
    assert result.returncode == 2 and result.stderr.startswith("usage: sbatch launch/slurm.sbatch")


def test_tpu_says_what_it_would_do():
    result = run(LAUNCH / "tpu_vm.sh", "--dry-run", "mine", *ARGUMENTS, TYPE="v4-8", ZONE="here")
    lines = [line.removeprefix("gcloud compute tpus tpu-vm ") for line in result.stdout.splitlines()]
    assert lines[0] == "create mine --accelerator-type=v4-8 --version=tpu-ubuntu2204-base --zone=here "
    assert lines[1] == "scp ./wdsr_jax.tar.gz mine: --worker=all --zone=here "
    assert lines[2].startswith("ssh mine --worker=all --command=mkdir")
    assert lines[3].startswith("ssh mine --worker=all --command=cd") and "wdsr_jax.main" in lines[3]
    assert lines[4:] == ["delete mine --quiet --zone=here "]


# A TPU whose state lies in a file, and on which the run goes as the next line of `runs` says.
CLOUD = """
case $4 in
  create) echo READY > state ;;
  describe) cat state 2>/dev/null ;;
  delete) rm state ;;
  ssh) if [[ $* = *wdsr_jax.main* ]]; then
      read -r outcome < runs; sed -i 1d runs
      [ "$outcome" != preempted ] || echo PREEMPTED > state
      [ "$outcome" = done ]
    fi ;;
esac
"""


def commands(tmp_path):
    lines = (line.split()[4:] for line in (tmp_path / "log").read_text().splitlines())
    return ["train" if "wdsr_jax.main" in line else line[0] for line in lines if line[0] != "describe"]


IN_GIT = pytest.mark.skipif(
    not (LAUNCH.parent / ".git").exists(), reason="what is put on the TPU is a commit"
)


@IN_GIT
def test_tpu_comes_back_after_preemption(fake, tmp_path):
    fake("gcloud", CLOUD)
    (tmp_path / "runs").write_text("preempted\nfailed\ndone\n")
    environment = dict(SPOT="1", NFS="10.0.0.2:/share", RETRY_SECONDS="0")
    result = run(LAUNCH / "tpu_vm.sh", "mine", *ARGUMENTS, **environment)
    assert result.returncode == 0, result.stderr
    up = ["create", "scp", "ssh"]
    assert commands(tmp_path) == [*up, "train", "delete", *up, "train", "train", "delete"]
    assert "mount 10.0.0.2:/share /mnt/share" in (tmp_path / "log").read_text()


@IN_GIT
def test_tpu_gives_up_on_a_mistake_and_leaves_the_tpu(fake, tmp_path):
    fake("gcloud", CLOUD)
    (tmp_path / "runs").write_text("failed\n" * 9)
    result = run(LAUNCH / "tpu_vm.sh", "mine", *ARGUMENTS, RETRY_SECONDS="0")
    assert result.returncode == 1 and "failed 3 times (exit code 1)" in result.stderr
    assert commands(tmp_path) == ["create", "scp", "ssh", "train", "train", "train"]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "usage: "),
        (["mine"], {}, "usage: "),
        (ARGUMENTS, {}, "usage: "),
        (["mine", *ARGUMENTS], {"SPOT": "1"}, "error: SPOT needs NFS="),
    ],
)
def test_tpu_refuses(arguments, environment, message):
    result = run(LAUNCH / "tpu_vm.sh", *arguments, **environment)
    assert result.returncode == 2 and result.stderr.startswith(message)


@pytest.mark.parametrize(
    ("has_gpu", "is_installed", "installs"),
    [(False, False, ["plot"]), (True, False, ["plot,cuda"]), (True, True, [])],
)
def test_the_notebook_installs_what_is_not_installed(tmp_path, has_gpu, is_installed, installs):
    """A clone in the current folder is not an installation; the extras are those of pyproject.toml."""
    notebook = json.loads((LAUNCH / "colab.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (cell,) = (cell for cell in cells if "%pip" in cell)
    cell = re.sub(r"%pip (.*)", r"print(f'pip \1')", cell)
    cell = re.sub(r"^( *)!.*", r"\1pass", cell, flags=re.M)
    venv.create(tmp_path / "empty", symlinks=True)
    if is_installed:
        info = next((tmp_path / "empty/lib").glob("*/site-packages")) / "wdsr_jax-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wdsr_jax\nVersion: 1\n")
    (tmp_path / "bin").mkdir()
    if has_gpu:
        (tmp_path / "bin/nvidia-smi").touch(0o755)
    result = subprocess.run(
        [tmp_path / "empty/bin/python", "-c", cell],
        cwd=LAUNCH,
        env={"PATH": str(tmp_path / "bin"), "PYTHONPATH": str(LAUNCH.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines() == [f'pip install --quiet -e ".[{extras}]"' for extras in installs]
    project = tomllib.loads((LAUNCH.parent / "pyproject.toml").read_text())["project"]
    assert {"plot", "cuda", "tpu"} <= project["optional-dependencies"].keys()


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    # A copy of the repository: the notebook makes `runs` in it.
    for name in ("launch", "configs", "wdsr_jax"):
        shutil.copytree(LAUNCH.parent / name, tmp_path / name)
    notebook = nbformat.read(tmp_path / "launch/colab.ipynb", as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    (settings,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    assert "steps = 2000 " in settings.source
    settings.source = settings.source.replace("steps = 2000 ", "steps = 20 ")
    python = Path(sys.executable).parent
    environment = {"PATH": f"{python}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        nbclient.NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": str(tmp_path / "launch")}},
        ).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert "1 x cpu, 1 process" in text
    assert "error" not in text.lower() and "Traceback" not in text
    assert text.count("| held_out") == 2
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4  # curves, before and after, two enlargements
    assert (tmp_path / "runs/colab-sample/model.safetensors").exists()
    assert (tmp_path / "runs/shipped.png").exists()


def test_the_container_has_what_is_required():
    pins = {}
    for line in (LAUNCH / "container.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    required = (LAUNCH.parent / "requirements.txt").read_text().splitlines()
    required = [Requirement(line.split("#")[0]) for line in required if line.split("#")[0].strip()]
    assert len(required) > 15
    for requirement in required:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
    assert pins["jax"] == pins["jaxlib"] == pins["jax-cuda13-plugin"]


def test_the_ends_of_the_requirements_are_those_of_the_package():
    """The oldest Python with the oldest packages, and the newest Python with the newest."""
    project = tomllib.loads((LAUNCH.parent / "pyproject.toml").read_text())["project"]
    versions = [
        c.split()[-1] for c in project["classifiers"] if c.startswith("Programming Language :: Python :: 3.")
    ]
    ends = (LAUNCH / "requirements_ends.sh").read_text().partition("<<'ENDS'\n")[2].splitlines()
    assert ends[0] == f"lowest-direct {project['requires-python'].removeprefix('>=')}"
    assert f"highest {versions[-1]}" in ends
    for line in (LAUNCH.parent / "requirements.txt").read_text().splitlines():
        assert line.startswith("#") or Requirement(line.split("#")[0]).specifier, f"{line} has no bound"


def test_local_processes_say_what_they_would_do():
    out = run(
        LAUNCH / "local_processes.sh", "--dry-run", "2", "--config=a b.py", "--workdir=run", PORT="1234"
    ).stdout
    assert out.splitlines() == [
        "python -m wdsr_jax.main --config=a\\ b.py --workdir=run "
        f"--coordinator=localhost:1234 --processes=2 --process={i} "
        for i in range(2)
    ]


@pytest.mark.parametrize("count", ["", "0", "two"])
def test_local_processes_want_a_number(count):
    result = run(LAUNCH / "local_processes.sh", count)
    assert result.returncode == 2 and result.stderr.startswith("usage: ")
