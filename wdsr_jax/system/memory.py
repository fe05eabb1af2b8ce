"""How much memory the host has left."""

from pathlib import Path

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
