"""Configs: the keys there are, reading a config file, overrides on the command line, and what is refused.

A config is a Python file whose `get_config()` returns a `ConfigDict` of the sections model, data and train,
such as `configs/default.py`. `FILE.py:VARIANT` calls `get_config("VARIANT")`.
"""

import ast
import difflib
import inspect
import math
import re
import runpy
import traceback
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from wdsr_jax.data.degradation import parse_degradation
from wdsr_jax.errors import UserError
from wdsr_jax.models import create_model, has_batch_norm
from wdsr_jax.models.vgg import LAYERS
from wdsr_jax.training import optim
from wdsr_jax.training.adversarial import ADVERSARIAL
from wdsr_jax.training.losses import LOSSES

_TYPES = {
    "text": """model.name model.norm model.g_init model.dtype model.upsampler
        data.source data.root data.val_root data.track data.cache_dir data.degradation
        train.loss train.schedule train.init_from
        gan.adversarial gan.perceptual gan.vgg""",
    "a whole number": """model.scale model.filters model.blocks model.expansion model.layers model.growth
        data.patch_size data.batch_size data.workers
        train.steps train.seed train.warmup_steps train.log_every train.eval_every train.checkpoint_every
        train.keep_checkpoints train.max_skipped train.grad_accum train.shift gan.filters""",
    "a number": """model.low_rank_ratio model.res_scale
        train.learning_rate train.lr_decay train.grad_clip train.ema_decay
        gan.adversarial_weight gan.perceptual_weight gan.pixel_weight""",
    "numbers in brackets, such as (1, 2)": "model.mean train.lr_boundaries",
}
KEYS = {key: kind for kind, keys in _TYPES.items() for key in keys.split()}  # key -> what its value must be
# Where they are missing, the network's own defaults hold; most networks have no such field.
_OPTIONAL = {"model.mean", "model.upsampler", "model.layers", "model.growth"}
_SECTIONS = ("model", "data", "train", "gan")  # the last only where a discriminator takes part

# Of data and train; `create_model` knows the model's.
_RANGES = {
    "above 0": (
        lambda x: x > 0,
        """data.patch_size data.batch_size train.steps train.learning_rate train.lr_decay train.log_every
        train.eval_every train.checkpoint_every train.keep_checkpoints train.grad_accum""",
    ),
    "0 or more": (
        lambda x: x >= 0,
        "data.workers train.warmup_steps train.grad_clip train.max_skipped train.shift",
    ),
    "in [0, 1)": (lambda x: 0 <= x < 1, "train.ema_decay"),
}


def read_config(argument: str) -> ConfigDict:
    """Runs a config file.

    Args:
        argument: FILE.py or FILE.py:VARIANT.

    Returns:
        What its `get_config` returns, unchecked.

    Raises:
        UserError: there is no such file or variant, or the file fails; names the file and the line.
    """
    path, colon, variant = argument.partition(":")
    if not Path(path).is_file():
        raise UserError(f"--config={argument}: there is no file {path}")
    try:
        get_config = runpy.run_path(path).get("get_config")
        if get_config is None:
            raise UserError(f"{path}: has no function get_config()")
        config = get_config(variant) if _takes_variant(get_config, argument) and colon else get_config()
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"{error.filename}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # such as of an unknown variant
        raise UserError(f"--config={argument}: {' '.join(str(error).split())}") from None
    except Exception as error:  # whatever a user's Python raises
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == path), None)
        raise UserError(f"{path}, line {line}: {_cause(error)}") from None
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{path}: get_config() returned {type(config).__name__}, not an ml_collections.ConfigDict"
        )
    return config


def override(config: ConfigDict, key: str, text: str) -> None:
    """Sets one key to a value from the command line, `--config.KEY=TEXT`.

    Raises:
        UserError: there is no such key, or the text is not of its type.
    """
    if key not in KEYS:
        raise _unknown(key)
    parse = {"text": str, "a whole number": int, "a number": float}.get(KEYS[key], _parse_numbers)
    section, name = key.split(".")
    if not isinstance(config.get(section), ConfigDict):
        file = "srgan" if section == "gan" else "default"
        raise UserError(f"config.{section} is missing; configs/{file}.py has it")
    try:
        value = parse(text)
    except (ValueError, SyntaxError):
        raise UserError(f"config.{key} must be {KEYS[key]}, not {text!r}") from None
    with config.unlocked(), config.ignore_type():  # `check_config` knows the types better
        config[section][name] = value


def override_all(config: ConfigDict, arguments: list[str]) -> None:
    """Sets keys by the arguments of a command line, `--config.KEY=VALUE` or `--config.KEY VALUE`.

    Raises:
        UserError: as `override`, or an argument is something else.
    """
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if not flag.startswith("--config."):
            raise UserError(f"unexpected argument {flag!r}; overrides look like --config.KEY=VALUE")
        if not equals:
            if not rest:
                raise UserError(f"{flag}: has no value; overrides look like --config.KEY=VALUE")
            value = rest.pop(0)
        override(config, flag.removeprefix("--config."), value)


def check_config(config: ConfigDict) -> None:
    """Refuses a config that cannot work.

    Raises:
        UserError: names the key, and what it may be: a key that is missing or unknown, a value of the wrong
            type or out of range.
    """
    values = {}
    for section in config:
        if section not in _SECTIONS:
            raise UserError(f"config.{section}: no such section; there are {', '.join(_SECTIONS)}")
        if not isinstance(config[section], Mapping | ConfigDict):
            raise UserError(f"config.{section} must be a ConfigDict, not {config[section]!r}")
        values |= {f"{section}.{name}": value for name, value in config[section].items()}
    for key in values:
        if key not in KEYS:
            raise _unknown(key)
    for key, kind in KEYS.items():
        is_needed = key not in _OPTIONAL and ("gan" in config or not key.startswith("gan."))
        if key not in values and is_needed:
            raise UserError(f"config.{key} is missing; configs/default.py has all keys")
        if key in values and not _is(values[key], kind):
            raise UserError(f"config.{key} must be {kind}, not {values[key]!r}")
    for wanted, (fits, keys) in _RANGES.items():
        for key in keys.split():
            if not fits(values[key]):
                raise UserError(f"config.{key} must be {wanted}, not {values[key]}")
    for key, choices in {"train.loss": tuple(LOSSES), "train.schedule": optim.SCHEDULES}.items():
        if values[key] not in choices:
            raise UserError(f"config.{key} must be one of {', '.join(choices)}, not {values[key]!r}")
    if values["data.degradation"]:
        parse_degradation(values["data.degradation"])
    shift, side = values["train.shift"], values["data.patch_size"] * values["model.scale"]
    if shift and 2 * shift >= side:
        raise UserError(
            f"config.train.shift={shift} leaves nothing of a patch of {side}x{side} HR pixels; set a smaller "
            "one, or a larger config.data.patch_size"
        )
    if "gan" in config:
        _check_gan(values)
    batch_size, devices, parts = values["data.batch_size"], jax.device_count(), values["train.grad_accum"]
    if batch_size % devices:
        raise UserError(f"config.data.batch_size={batch_size} is not divisible by the {devices} devices")
    if batch_size % (devices * parts):
        raise UserError(
            f"config.train.grad_accum={parts} does not divide a device's share of config.data.batch_size="
            f"{batch_size}, which is {batch_size // devices}"
        )
    try:
        module = create_model(config.model, allow_import=True)
    except UserError as error:
        raise UserError(f"config.{error}") from None
    if parts > 1 and has_batch_norm(module):
        raise UserError(
            f"config.train.grad_accum={parts}: batch norm needs the whole batch at once; set it to 1, or "
            "train with another config.model.norm"
        )


def _check_gan(values: Mapping[str, Any]) -> None:
    for key, choices in {"gan.adversarial": ADVERSARIAL, "gan.perceptual": ("none", *LAYERS)}.items():
        if values[key] not in choices:
            raise UserError(f"config.{key} must be one of {', '.join(choices)}, not {values[key]!r}")
    for key in ("gan.adversarial_weight", "gan.perceptual_weight", "gan.pixel_weight"):
        if values[key] < 0:
            raise UserError(f"config.{key} must be 0 or more, not {values[key]}")
    if values["gan.filters"] < 1:
        raise UserError(f"config.gan.filters must be above 0, not {values['gan.filters']}")
    if not values["train.init_from"]:
        raise UserError(
            "config.train.init_from is missing: a discriminator fine-tunes a trained network; "
            "give its workdir or weights"
        )
    for key, plain in {"train.grad_accum": 1, "train.shift": 0}.items():
        if values[key] != plain:
            raise UserError(f"config.{key} must be {plain} with a discriminator, not {values[key]}")


def _takes_variant(get_config: Callable, argument: str) -> bool:
    """Whether `get_config` has a parameter; UserError where that and the argument do not fit."""
    parameters = list(inspect.signature(get_config).parameters.values())
    path, colon, _ = argument.partition(":")
    if colon and not parameters:
        raise UserError(f"--config={argument}: {path} has no variants")
    if parameters and parameters[0].default is inspect.Parameter.empty and not colon:
        raise UserError(f"--config={argument}: needs a variant, {path}:{parameters[0].name.upper()}")
    return bool(parameters)


def _unknown(key: str) -> UserError:
    return UserError(f"config.{key}: no such key; {_hint(key)}")


def _hint(key: str) -> str:
    near = difflib.get_close_matches(key, KEYS, n=1)
    return f"did you mean config.{near[0]}?" if near else "configs/default.py has all keys"


def _is(value: Any, kind: str) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if kind == "a whole number":
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind == "a number":
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, tuple | list) and all(_is(number, "a number") for number in value)


def _parse_numbers(text: str) -> tuple:
    value = ast.literal_eval(text or "()")
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _cause(error: Exception) -> str:
    """What an exception says, in one line."""
    message = str(error.args[0]) if error.args else ""
    locked = re.search(r'Key "(\w+)" does not exist', message)
    if locked:  # ml_collections goes on with all the fields there are
        return f"no such key {locked[1]}; {_hint(locked[1])}"
    return f"{type(error).__name__}: {' '.join(message.split())}"
