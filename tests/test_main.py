"""The command: its arguments, its exit codes, and that it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tiny import read_json
from wdsr_jax import main
from wdsr_jax.errors import UserError
from wdsr_jax.training import loop

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def start(workdir, photos, image_cache, compile_cache, *overrides, **environment):
    """The command in a process group of its own, on two virtual devices, as tiny as `tiny_config`."""
    settings = {
        **{"model.blocks": 1, "model.filters": 4, "data.source": "folder", "data.root": photos},
        **{"data.cache_dir": image_cache, "data.patch_size": 8, "data.batch_size": 4},
        **{"train.steps": 6, "train.warmup_steps": 2, "train.log_every": 1},
        **{"train.eval_every": 3, "train.checkpoint_every": 2},
    }
    command = [
        sys.executable,
        "-m",
        "wdsr_jax.main",
        "--config=configs/quickstart.py",
        f"--workdir={workdir}",
    ]
    command += [f"--config.{key}={value}" for key, value in settings.items()]
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_COMPILATION_CACHE_DIR": str(compile_cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        **environment,
    }
    environment.pop("NPROC", None)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([*command, *overrides], env=environment, start_new_session=True, **pipes)


def end(process):
    """(exit code, stdout, stderr), once the process has ended by itself; none that it started is left."""
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    for _ in range(50):  # a worker may need a moment to notice
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return process.returncode, out, err
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError("processes that the command has started outlive it")


@pytest.mark.ci
def test_a_run_with_workers_ends_by_itself(tmp_path, photos, image_cache, compile_cache):
    process = start(tmp_path, photos, image_cache, compile_cache, "--config.data.workers=2")
    code, out, err = end(process)
    assert code == 0, err
    assert "2 x cpu, 1 process" in err
    assert "Best weights:" in out
    for noise in ("Traceback", "leaked", "Warning", "warning", "rror"):
        assert noise not in err
    assert read_json(tmp_path / "config.json")["data"]["workers"] == 2


@pytest.mark.ci
def test_a_run_with_workers_that_fails_ends_by_itself(tmp_path, photos, image_cache, compile_cache):
    process = start(
        *(tmp_path, photos, image_cache, compile_cache, "--config.data.workers", "2"),
        *(
            "--config.train.learning_rate=1e30",
            "--config.train.max_skipped=0",
            "--config.train.eval_every=50",
        ),
    )
    code, out, err = end(process)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"error: loss or gradient was not finite .*", err.splitlines()[-1])
    assert "Traceback" not in err and "leaked" not in err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_whole_group_ends_a_run_with_workers(
    tmp_path, photos, image_cache, compile_cache, number, code
):
    """As a terminal or a batch system sends it; the workers leave the last batches to the parent."""
    process = start(
        *(tmp_path, photos, image_cache, compile_cache, "--config.data.workers=2"),
        *("--config.train.steps=1000000", "--config.train.checkpoint_every=10"),
    )
    while not list((tmp_path / "checkpoints").glob("[0-9]*[0-9]")):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, number)
    found, _, err = end(process)
    assert found == code
    assert re.search(r"stopped by SIG\w+ at step \d+; saved: the same command goes on from here", err)
    assert "Traceback" not in err and "leaked" not in err


SLOW = """
import time
from configs.quickstart import get_config
from wdsr_jax.data import dataset

read_image = dataset.read_image

def slowly(path):
    print("reading\\n", end="", flush=True)  # in one piece: two threads print
    time.sleep(1)
    return read_image(path)

dataset.read_image = slowly
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_data_are_prepared(tmp_path, photos, compile_cache, number, code):
    """Ends without waiting, and leaves neither workdir nor half a cache."""
    slow = tmp_path / "slow.py"
    slow.write_text(SLOW)
    cache = tmp_path / "cache"
    process = start(tmp_path / "run", photos, cache, compile_cache, f"--config={slow}")
    assert process.stdout.readline() == "reading\n"
    os.kill(process.pid, number)
    found, _, err = end(process)
    assert found == code and "Traceback" not in err
    assert not (tmp_path / "run").exists()
    assert list(cache.iterdir()) == []


LIGHT = """
import sys
from wdsr_jax import main
from wdsr_jax.errors import UserError

print("config" if "wdsr_jax.training.config" in sys.modules else "no config")

def parse(*arguments):
    try:
        options = main.parse_arguments(list(arguments))
        from wdsr_jax.training.config import check_network

        check_network(options.config)
    except UserError as error:
        print("error:", error)
    except SystemExit as end:
        print("exit", end.code)

config, workdir = "--config=configs/x4.py", "--workdir=run"
parse("--help")
parse("--version")
parse(config)
parse("--config=configs/none.py", workdir)
parse("--config=configs/paper.py", workdir)
parse(config, workdir, "--workdri=run")
for override in %s:
    parse(config, workdir, f"--config.{override}")
main.parse_arguments([config, workdir, "--config.model.blocks=8", "--config.train.lr_boundaries=(1, 2)"])
print("slow:", *{"jax", "numpy"} & sys.modules.keys())
import wdsr_jax.data.pipeline
print("loaded", *sys.modules)
"""
OVERRIDES = ("train.sed=1", "train.seed=one", "train.steps=0", "train.loss=l3", "train.shift_window=96")
OVERRIDES += ("data.source=web", "data.batch_size", "data.degradation=foo", "model.filters=many")


def test_arguments_are_read_without_jax_and_input_workers_do_not_import_what_trains():
    """Input workers import `main` anew, each of them."""
    code = [sys.executable, "-c", LIGHT % repr(OVERRIDES)]
    out = subprocess.run(code, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0] == "no config" and "usage: python -m wdsr_jax.main" in out[1]
    answers = [line for line in out if line.startswith(("error: ", "exit "))]
    assert answers[:2] == ["exit 0", "exit 0"]
    assert len(answers) == 2 + 4 + len(OVERRIDES) and all(a.startswith("error: ") for a in answers[2:])
    assert out[-2] == "slow:"
    loaded = set(out[-1].split())
    assert {"wdsr_jax.main", "wdsr_jax.data.pipeline", "grain"} <= loaded
    trains = {"wdsr_jax.training.loop", "wdsr_jax.training.checkpoints", "optax", "tensorboardX"}
    assert not loaded & {*trains, "tensorflow_datasets", "flax"}


def test_a_mistake_is_one_line_and_exit_code_1(tmp_path):
    arguments = ["--config=configs/x4.py:foo", f"--workdir={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "wdsr_jax.main", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stdout == ""
    assert (
        result.stderr
        == "error: --config=configs/x4.py:foo: variant 'foo': there are wdsr_a, wdsr_b and large\n"
    )
    assert not (tmp_path / "run").exists()


CONFIG = "--config=configs/quickstart.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing; try --config=configs/quickstart.py --workdir=runs/quickstart"),
        ([CONFIG], "--workdir is missing; try --config="),
        ([CONFIG, "--workdir="], "--workdir is missing; try --config="),
        (["--config", "--workdir=run"], "argument --config: expected one argument"),
        (
            [CONFIG, "--workdir=run", "more"],
            "unexpected argument 'more'; overrides look like --config.KEY=VALUE",
        ),
        ([CONFIG, "--workdri=run", "--workdir=run"], "unexpected argument '--workdri'"),
        (
            [CONFIG, "--workdir=run", "--config.train.seed"],
            "Missing value for flag --config.train.seed; overrides look like",
        ),
        ([CONFIG, "--workdir=run", "--config.train.sed=1"], "config.train.sed: no such key; did you mean"),
        ([CONFIG, "--workdir=run", "--config.=1"], "config.: no such key"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(UserError) as error:
        main.parse_arguments(arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_arguments():
    line = "--workdir run --config.train.seed -7 --config configs/x4.py:wdsr_b --config.data.root=a=b"
    options = main.parse_arguments([*line.split(), "--config.train.seed=8"])
    config = options.config
    assert not options.profile and options.coordinator is None
    assert options.workdir == "run" and config.is_locked
    assert (config.model.name, config.model.scale) == ("wdsr_b", 4)
    assert (config.data.root, config.train.seed) == ("a=b", 8)


def test_help_names_the_flags(capsys):
    with pytest.raises(SystemExit) as end:
        main.parse_arguments(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "--config FILE.py[:VARIANT]" in out and "--workdir" in out and "--config.KEY VALUE" in out


@pytest.mark.parametrize(
    ("environment", "cores", "expected"),
    [
        ({"JAX_NUM_CPU_DEVICES": "2"}, 2, "4"),
        ({"JAX_NUM_CPU_DEVICES": "2"}, 16, "16"),
        ({"JAX_NUM_CPU_DEVICES": "2", "NPROC": "2"}, 16, "4"),
        ({"JAX_NUM_CPU_DEVICES": "2", "NPROC": "6"}, 2, "6"),
        ({"JAX_NUM_CPU_DEVICES": "2", "NPROC": "many"}, 2, "4"),
        ({"XLA_FLAGS": "--a=1 --xla_force_host_platform_device_count=8"}, 2, "16"),
        ({"NPROC": "1"}, 2, "1"),
        ({}, 2, None),
    ],
)
def test_xla_gets_threads_for_all_virtual_devices(monkeypatch, environment, cores, expected):
    import jax

    for name in ("NPROC", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    before = jax.config.jax_num_cpu_devices
    monkeypatch.setattr(
        type(jax.config),
        "jax_num_cpu_devices",
        int(environment.get("JAX_NUM_CPU_DEVICES", -1)),
        raising=False,
    )
    main._widen_cpu_pool()
    assert os.environ.get("NPROC") == expected
    monkeypatch.undo()
    assert jax.config.jax_num_cpu_devices == before


def test_a_signal_before_the_loop_unwinds(monkeypatch, tmp_path):
    unwound = []

    def train_and_evaluate(config, workdir, profile):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            unwound.append(workdir)

    monkeypatch.setattr(loop, "train_and_evaluate", train_and_evaluate)
    monkeypatch.setattr(sys, "argv", ["main", CONFIG, f"--workdir={tmp_path}"])
    monkeypatch.setattr(main, "_widen_cpu_pool", lambda: None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as stop:
            main.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stop.value.code == 143
    assert unwound == [str(tmp_path)]
