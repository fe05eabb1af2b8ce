"""Random weights of VGG19 in torchvision's naming, and images for it."""

import numpy as np

BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)


def random_state(blocks=5):
    """A state dict as torchvision's vgg19 has it; of the first blocks alone for tests that need no more."""
    rng, state, index, inputs = np.random.default_rng(0), {}, 0, 3
    for outputs in BLOCKS[:blocks]:
        for channels in outputs:
            scale = np.sqrt(2 / (9 * inputs))
            weight = rng.normal(0, scale, (channels, inputs, 3, 3)).astype(np.float32)
            state[f"features.{index}.weight"] = weight
            state[f"features.{index}.bias"] = rng.normal(0, 0.1, channels).astype(np.float32)
            index, inputs = index + 2, channels
        index += 1
    return state


def images(seed, size=32):
    return np.random.default_rng(seed).random((2, size, size + 4, 3), dtype=np.float32)
