import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from wdsr_jax.training.profile import STEPS, trace_steps


def names_of_steps(folder):
    (path,) = folder.rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    found = [event["name"] for event in events if event.get("name", "").startswith("my step ")]
    return [int(name.removeprefix("my step ")) for name in found]


@pytest.mark.parametrize(("steps", "traced"), [(12, list(range(6, 6 + STEPS))), (4, [6, 7])])
def test_five_steps_are_traced_or_as_many_as_there_are(tmp_path, steps, traced):
    with trace_steps(tmp_path / "profile", 3) as after:
        for step in range(4, 4 + steps):
            with jax.profiler.TraceAnnotation(f"my step {step}"):
                metrics = {"loss": jnp.zeros(()) + step}
            after(step, metrics)
    assert sorted(names_of_steps(tmp_path / "profile")) == traced


def test_a_run_that_ends_at_once_leaves_nothing(tmp_path):
    with trace_steps(tmp_path / "profile", 0) as after:
        after(1, {})
    assert not (tmp_path / "profile").exists()
