"""What JAX computes on. JAX is imported when a function needs it: that takes half a second."""

import os
import sys
from importlib import metadata
from importlib.util import find_spec

from wdsr_jax.errors import UserError
from wdsr_jax.system.memory import host_memory


def on_cpu() -> bool:
    """Whether JAX computes on CPUs.

    Where no plugin for another device is installed, that is known without importing JAX.
    """
    if "jax" not in sys.modules and not _may_have_accelerator():
        return True
    import jax

    return jax.default_backend() == "cpu"


def _may_have_accelerator() -> bool:
    """Whether there is what JAX looks for (`jax._src.xla_bridge.discover_pjrt_plugins`, libtpu)."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms == "cpu":
        return False
    return bool(
        platforms
        or os.environ.get("TPU_LIBRARY_PATH")
        or any(find_spec(name) for name in ("jax_plugins", "libtpu"))
        or any("[jax_plugins]" in (d.read_text("entry_points.txt") or "") for d in metadata.distributions())
    )


def refused_platforms() -> UserError | None:
    """Says that JAX starts on none of the devices that JAX_PLATFORMS names; None where it does.

    JAX's own words are those of its developers, for `cuda` without a plug-in none at all.
    """
    platforms = os.environ.get("JAX_PLATFORMS")
    if not platforms or "jax" not in sys.modules:
        return None
    import jax

    if jax.distributed.is_initialized():  # devices would wait for those of other processes
        return None
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = (
            str(error).partition(" (set JAX_PLATFORMS")[0].rstrip(".") or "no plug-in for it is installed"
        )
        return UserError(
            f"JAX_PLATFORMS={platforms}: JAX cannot start ({reason}); unset it, or set it to cpu"
        )
    return None


def device_memory() -> int:
    """Bytes free on each of this host's devices, to share among what runs there at one time."""
    import jax

    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return host_memory() // len(devices)
    stats = [device.memory_stats() or {} for device in devices]
    # 8 GiB where a backend does not tell: the smallest memory of the accelerators in use.
    return min(s.get("bytes_limit", 8 << 30) - s.get("bytes_in_use", 0) for s in stats)
