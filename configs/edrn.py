"""EDRN (Cheng et al., CVPR workshops 2019) for real photographs, whose LR and HR have one size.

python -m wdsr_jax.main --config=configs/edrn.py --workdir=runs/edrn --config.data.root=DIR

DIR holds folders HR and LR with images of the same names, such as those of the NTIRE 2019 challenge on real
super-resolution. As in the authors' code: L1, Adam at 1e-4, halved every 50k steps, batches of 16 patches of
128x128 pixels. How long that takes has not been measured. Their figure: 28.79 dB on the challenge's test
images, with self-ensemble, where doing nothing has 26.89 (github.com/yyknight/NTIRE2019_EDRN).
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config() -> ConfigDict:
    """The authors' network and recipe."""
    config = with_variant(1, "wdsr_a")
    config.model.update(name="edrn", filters=64, blocks=10)
    config.data.update(source="folder", patch_size=128)
    config.train.update(learning_rate=1e-4, lr_boundaries=(50_000, 100_000, 150_000, 200_000, 250_000))
    config.train.update(lr_decay=0.5)
    return config
