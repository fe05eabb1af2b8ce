"""How much memory is available."""

from pathlib import Path

import jax
import psutil

_CGROUP = Path("/sys/fs/cgroup")  # version 2, as a container sees its own


def host_memory() -> int:
    """Bytes that this process may still take on the host: what is free, within its container's limit."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(0, limit - used))
    except (OSError, ValueError):  # no such file, or "max": no limit
        pass
    return free


def device_memory() -> int:
    """Bytes free on each of this host's devices, to share among what runs there at one time."""
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return host_memory() // len(devices)
    stats = [device.memory_stats() or {} for device in devices]
    # 8 GiB where a backend does not tell: the smallest memory of the accelerators in use.
    return min(s.get("bytes_limit", 8 << 30) - s.get("bytes_in_use", 0) for s in stats)
