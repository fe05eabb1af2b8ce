"""Configs of the main command: `python -m wdsr_jax.main --config=configs/x4.py`."""
