"""What JAX computes on, as far as possible without importing it."""

import importlib.util
import os
import subprocess
import sys

import pytest

from wdsr_jax.system import devices

ON_CPU = "import sys; from wdsr_jax.system.devices import on_cpu; print(on_cpu(), 'jax' in sys.modules)"


def test_devices_of_a_cpu_share_the_memory_of_the_host(monkeypatch):
    monkeypatch.setattr(devices, "host_memory", lambda: 1001)
    assert devices.device_memory() == 500


def test_it_is_known_without_jax_where_no_plugin_is_installed(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    monkeypatch.setattr(devices.metadata, "distributions", lambda: [])
    assert devices.on_cpu() and "jax" not in sys.modules


@pytest.mark.parametrize(
    "found", ["jax_plugins", "libtpu", "entry point", "JAX_PLATFORMS", "TPU_LIBRARY_PATH"]
)
def test_jax_is_asked_where_there_may_be_an_accelerator(monkeypatch, found):
    class Plugin:
        def read_text(self, name):
            return "[jax_plugins]\nmine = my_plugin\n" if found == "entry point" else None

    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(devices, "find_spec", lambda name: name == found or None)
    monkeypatch.setattr(devices.metadata, "distributions", lambda: [Plugin()])
    if found.isupper():
        monkeypatch.setenv(found, "something")
    assert devices._may_have_accelerator()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert not devices._may_have_accelerator()


def test_a_process_with_jax_on_a_cpu_says_so():
    assert devices.on_cpu()
    done = subprocess.run([sys.executable, "-c", ON_CPU], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True ")


@pytest.mark.parametrize("platforms", ["cuda", "nowhere"])  # JAX fails by an assertion, and by its words
def test_devices_that_are_not_there_are_said_in_one_line(platforms):
    if platforms == "cuda" and importlib.util.find_spec("jax_cuda12_plugin"):
        pytest.skip("this machine has the plug-in")
    command = [sys.executable, "-m", "wdsr_jax.summary", "--config=configs/x4.py"]
    environment = os.environ | {"JAX_PLATFORMS": platforms}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: JAX_PLATFORMS={platforms}: JAX cannot start (")
    assert done.returncode == 1
