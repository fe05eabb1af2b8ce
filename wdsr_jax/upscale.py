"""Upscales photographs and videos: `python -m wdsr_jax.upscale IN [IN ...] --out=PATH --scale=S`.

The command is in `photo/command.py`. As a name in Python, `wdsr_jax.upscale` is the function.
"""

import sys
from typing import Any, cast

if __name__ == "__main__":
    from wdsr_jax.photo.command import run

    run()
else:  # somebody has imported the module: it must not take the function's place in the package
    from wdsr_jax.inference.tiles import upscale

    sys.modules[__name__] = cast(Any, upscale)
