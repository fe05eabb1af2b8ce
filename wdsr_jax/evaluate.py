"""PSNR and SSIM by the papers' protocols: see `evaluation/benchmark.py`."""

from wdsr_jax.evaluation.benchmark import main
from wdsr_jax.system.console import run_command

if __name__ == "__main__":
    run_command(main)
