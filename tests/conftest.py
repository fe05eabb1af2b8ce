"""Strict settings for every test: no silent rank promotion, two CPU devices."""

import os
import signal

# XLA's CPU collectives need a thread pool of twice the devices (main.py sees to it for runs); read at import.
os.environ.setdefault("NPROC", "4")

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")

# A shell's background jobs, CI among them, ignore Ctrl-C, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
