"""Settings for every test: no silent rank promotion, two CPU devices, a cache folder of its own."""

import os
import signal
import tempfile

# XLA's CPU collectives need a thread pool of twice the devices (main.py sees to it for runs); read at import.
os.environ.setdefault("NPROC", "4")
import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Images and compiled programs that tests cache by default: not among those of whoever runs them.
_cache = tempfile.TemporaryDirectory()
os.environ["XDG_CACHE_HOME"] = _cache.name

# A shell's background jobs, CI among them, ignore Ctrl-C, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
