"""All keys and their defaults: WDSR-A of 16 blocks and 32 filters, on DIV2K x2. Other configs vary this.

`configs/README.md` says what each key means and what it may be.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The recipe of the WDSR authors: L1, Adam at 1e-3, batches of 16 patches of 48x48 LR pixels."""
    config = ConfigDict()
    config.model = ConfigDict(dict(name="wdsr_a", scale=2, filters=32, blocks=16, expansion=4))
    config.model.update(low_rank_ratio=0.8, res_scale=1.0, norm="weight", g_init="official", dtype="float32")
    config.data = ConfigDict(dict(source="div2k", root="", val_root="", lr_root="", val_lr_root=""))
    config.data.update(track="bicubic", cache_dir="", degradation="", patch_size=48, batch_size=16, workers=0)
    config.train = ConfigDict(dict(steps=300_000, seed=0, loss="l1", shift_window=0))
    config.train.update(init_from="", resume_changed=False)
    config.train.update(learning_rate=1e-3, warmup_steps=0, schedule="piecewise")
    config.train.update(lr_boundaries=(200_000, 250_000), lr_decay=0.1)
    config.train.update(grad_clip=0.0, grad_accum=1, ema_decay=0.999, max_skipped=100)
    config.train.update(log_every=100, eval_every=10_000, checkpoint_every=1_000, keep_checkpoints=3)
    return config.lock()


def with_variant(scale: int, variant: str) -> ConfigDict:
    """The default at another scale, as `wdsr_a` (16 blocks of 32 filters), `wdsr_b` or `large`."""
    config = get_config()
    config.model.scale = scale
    if variant == "wdsr_b":
        config.model.update(name="wdsr_b", expansion=6)
    elif variant == "large":  # the paper's large WDSR-A, 37.8M parameters
        config.model.update(filters=128, blocks=32)
    elif variant != "wdsr_a":
        raise ValueError(f"variant {variant!r}: there are wdsr_a, wdsr_b and large")
    return config
