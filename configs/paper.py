"""The recipe of `python -m wdsr_jax.reproduce`: variant `full`, the paper's, or `cpu`, for two CPU cores.

python -m wdsr_jax.reproduce blocks --budget=full --workdir=runs/blocks
python -m wdsr_jax.reproduce norms --budget=cpu --workdir=runs/norms --sets Set5 Set14 \
    --config.data.source=folder --config.data.root=PHOTOS/train --config.data.val_root=PHOTOS/val

`reproduce` sets network, norm, learning rate and seed of each run. The network given here is that of `norms`;
it alone is trained by python -m wdsr_jax.main --config=configs/paper.py:full --workdir=runs/paper.
Full is 15 runs (blocks) or 6 (norms) of up to an hour on an H100; cpu is 18 or 12 runs, within two hours.
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(budget: str) -> ConfigDict:
    """x2, without gradient clipping, which would hide divergence."""
    config = with_variant(2, "wdsr_a")
    if budget == "cpu":
        config.model.update(filters=16, blocks=8)
        config.data.update(patch_size=16)
        # The quickstart's rate: at the paper's, 1e-3, small networks end 0.5 dB lower in so few steps.
        config.train.update(steps=2_400, learning_rate=3e-3, warmup_steps=100, schedule="cosine")
        config.train.update(log_every=40, eval_every=600)
        config.train.update(checkpoint_every=100, keep_checkpoints=1)
    elif budget != "full":
        raise ValueError(f"variant {budget!r}: there are full and cpu")
    return config
