"""Strict settings for every test: no silent rank promotion, two CPU devices."""

import os

# XLA's CPU collectives need a thread pool of twice the devices (steps.py says why); read at import.
os.environ.setdefault("NPROC", "4")

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
