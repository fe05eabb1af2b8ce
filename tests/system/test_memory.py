from types import SimpleNamespace

import psutil
import pytest

from wdsr_jax.system import memory


@pytest.mark.parametrize(
    "limit, used, expected", [("5000", "3000", 2000), ("5000", "6000", 0), ("max", "3000", 10**6)]
)
def test_a_containers_limit_counts(tmp_path, monkeypatch, limit, used, expected):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**6))
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.host_memory() == 10**6
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(used + "\n")
    assert memory.host_memory() == expected
