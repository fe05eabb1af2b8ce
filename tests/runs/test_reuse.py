"""The code of docs/reuse.md runs as it stands there, and gives the loss of `pmap`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs/reuse.md"
TINY = {
    **{"model.blocks": 1, "model.filters": 4, "data.patch_size": 8, "data.batch_size": 4},
    **{"train.steps": 4, "train.warmup_steps": 2, "train.eval_every": 4, "train.checkpoint_every": 4},
}
# Runs the blocks one after the other; then the same step by `pmap`.
DRIVER = """
import json, sys

sys.argv = ["ipykernel_launcher.py", "-f", "kernel.json"]  # as in a notebook
blocks, names, losses = json.load(sys.stdin), {}, []
for block in blocks:
    exec(block, names)
    if "metrics" in names:
        losses.append(float(names.pop("metrics")["loss"]))

from wdsr_jax.training.step import parallel_train_step, shard

step = parallel_train_step(**names["step"].keywords)
_, metrics = step(names["state"], shard({"lr": names["lr"], "hr": names["hr"]}))
print(json.dumps([names["code"], float(metrics["loss"]), losses]))
"""


@pytest.mark.parametrize("devices", [1, 2])
def test_the_code_runs_and_a_mesh_has_the_loss_of_pmap(devices, tmp_path, compile_cache):
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    assert len(blocks) == 4
    steps = '"--config.train.steps=200"'
    assert steps in blocks[-1]
    blocks[-1] = blocks[-1].replace(steps, ", ".join(f'"--config.{k}={v}"' for k, v in TINY.items()))
    result = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(blocks),
        env={
            **os.environ,
            "PYTHONPATH": str(DOCUMENT.parents[1]),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "NPROC": "4",
            "JAX_COMPILATION_CACHE_DIR": str(compile_cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    code, expected, losses = json.loads(result.stdout.splitlines()[-1])
    assert code == 0 and (tmp_path / "runs/mine/evaluation.json").is_file()
    assert "validation PSNR" in result.stderr  # a line of the log
    assert len(losses) == 2
    assert losses == (pytest.approx([expected] * 2, abs=1e-6) if devices > 1 else [expected] * 2)
