"""Configs: the keys there are, reading a config file, `--config.KEY=VALUE`, and what is refused.

A config is a Python file whose `get_config()` returns a `ConfigDict` of the sections model, data and train,
and gan where a discriminator takes part; `configs/README.md` says what each key means. `FILE.py:VARIANT`
calls `get_config("VARIANT")`. The keys of model are the fields of the networks, see `models.model_keys`.

Commands read their arguments with this module before they import JAX. Only `check_network`, `check_config`
and a key that the config does not have import it.
"""

import difflib
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, get_origin

from absl import flags
from ml_collections import ConfigDict, config_flags

from wdsr_jax.errors import UserError
from wdsr_jax.system.console import LARGEST_SEED

if TYPE_CHECKING:
    import flax.linen as nn


class Key(NamedTuple):
    """What the value of a key may be.

    Attributes:
        kind: its type.
        values: the name of a range in `RANGES`, or the texts to choose from; empty where any value of the
            type will do, or another check knows more.
    """

    kind: type
    values: str | tuple[str, ...] = ""


RANGES: dict[str, Callable[[Any], bool]] = {
    "above 0": lambda x: x > 0,
    "0 or more": lambda x: x >= 0,
    "in [0, 1)": lambda x: 0 <= x < 1,
    "from 0 to 1024": lambda x: 0 <= x <= 1024,
}
KEYS = {
    "data.source": Key(str, ("div2k", "folder", "sample")),
    "data.root": Key(str),
    "data.val_root": Key(str),
    "data.lr_root": Key(str),
    "data.val_lr_root": Key(str),
    "data.track": Key(str, ("bicubic", "unknown", "mild", "difficult", "wild")),
    "data.cache_dir": Key(str),
    "data.degradation": Key(str),
    "data.patch_size": Key(int, "above 0"),
    "data.batch_size": Key(int, "above 0"),
    "data.workers": Key(int, "from 0 to 1024"),
    "train.steps": Key(int, "above 0"),
    "train.seed": Key(int),
    "train.loss": Key(str, ("l1", "l2", "charbonnier")),
    "train.shift_window": Key(int, "0 or more"),
    "train.init_from": Key(str),
    "train.resume_changed": Key(bool),
    "train.learning_rate": Key(float, "above 0"),
    "train.schedule": Key(str, ("piecewise", "cosine")),
    "train.warmup_steps": Key(int, "0 or more"),
    "train.lr_boundaries": Key(tuple),
    "train.lr_decay": Key(float, "above 0"),
    "train.grad_clip": Key(float, "0 or more"),
    "train.grad_accum": Key(int, "above 0"),
    "train.ema_decay": Key(float, "in [0, 1)"),
    "train.max_skipped": Key(int, "0 or more"),
    "train.log_every": Key(int, "above 0"),
    "train.eval_every": Key(int, "above 0"),
    "train.checkpoint_every": Key(int, "above 0"),
    "train.keep_checkpoints": Key(int, "above 0"),
    "gan.adversarial": Key(str, ("standard", "relativistic")),
    "gan.adversarial_weight": Key(float, "0 or more"),
    "gan.perceptual": Key(str),
    "gan.perceptual_weight": Key(float, "0 or more"),
    "gan.pixel_weight": Key(float, "0 or more"),
    "gan.vgg": Key(str),
    "gan.filters": Key(int, "above 0"),
}
KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "numbers in brackets, such as (1, 2)",
}
_LARGEST = 2**31 - 1  # of whole numbers: what a step counts up to
_LARGEST_FIELD, _LARGEST_SCALE = 65536, 64  # of model
_LARGEST_BATCH = 1 << 36  # bytes of LR and HR patches
_PACKAGE = Path(__file__).parents[1]
# Above this package's `configs`: in a wheel the package has them, in the repository they lie beside it.
_HOME = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
_SECTIONS = ("model", "data", "train", "gan")


def parse_config(file: str, arguments: Sequence[str] = ()) -> ConfigDict:
    """The config that a command line asks for.

    Args:
        file: FILE.py or FILE.py:VARIANT.
        arguments: `--config.KEY=VALUE` or `--config.KEY VALUE`, any number of times.

    Returns:
        A locked config, checked as far as it can be without JAX.

    Raises:
        UserError: as `read_config`, `override_all` and `check_values`.
    """
    config = read_config(file)
    override_all(config, arguments)
    check_values(config)
    return config.lock()


def read_config(argument: str) -> ConfigDict:
    """Runs a config file.

    Its `from configs.default import ...` works wherever the command is started: while the file runs, its root
    is on `sys.path`, and after all else this package's.

    Args:
        argument: FILE.py or FILE.py:VARIANT; a file `configs/NAME.py` that is not here is this package's.

    Returns:
        What its `get_config` returns, locked but unchecked.

    Raises:
        UserError: there is no such file or variant, or the file fails; names the file and the line.
    """
    argument = _find_config(argument)
    path = argument.partition(":")[0]
    flag_values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=flag_values, sys_argv=[])
    try:
        with _importing_for(Path(path)):
            flag_values(["", f"--config={argument}"])
            config = flag_values.config
            if not isinstance(config, ConfigDict):
                getattr(config, "lock", None)  # the library puts an OSError off until something is asked for
    except UserError:
        raise
    except flags.IllegalFlagValueError as error:
        # Between it and what the file raised the library puts one whose message is a traceback.
        _explain(argument, getattr(error.__context__, "__context__", None) or error)
    except OSError as error:
        _explain(argument, error.__cause__ or error)
    except Exception as error:  # whatever a user's Python raises
        _explain(argument, error)
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{path}: get_config() returned {type(config).__name__}, not an ml_collections.ConfigDict"
        )
    return config


def _find_config(argument: str) -> str:
    """The argument with the file as it is named, or else with this package's own of that name."""
    path = argument.partition(":")[0]
    if Path(path).is_file():
        return argument
    if Path(path).parts[:1] == ("configs",) and (_HOME / path).is_file():
        return f"{_HOME}/{argument}"
    raise UserError(f"--config={argument}: there is no file {path}")


@contextmanager
def _importing_for(path: Path) -> Iterator[None]:
    """Where a config imports from: the folder above its `configs`, or its own, comes before all others."""
    folders, before = path.resolve().parents, list(sys.path)
    root = next((folder.parent for folder in folders if folder.name == "configs"), folders[0])
    sys.path[:] = [str(root), *before, str(_HOME)]
    try:
        yield
    finally:
        sys.path[:] = before


def _explain(argument: str, error: BaseException) -> NoReturn:
    """Raises a UserError that says in one line what a config file raised, and where."""
    path, colon, _ = argument.partition(":")
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    if isinstance(error, SyntaxError):
        message = f"{error.filename}, line {error.lineno}: {error.msg}"
    elif isinstance(error, ValueError):  # such as of an unknown variant
        message = f"--config={argument}: {' '.join(str(error).split())}"
    elif lines:
        message = f"{path}, line {lines[-1]}: {_one_line(error)}"
    elif isinstance(error, AttributeError):
        message = f"{path}: has no function get_config()"
    elif isinstance(error, TypeError) and colon:  # from the call of get_config
        message = f"--config={argument}: {path} has no variants"
    elif isinstance(error, TypeError):
        message = f"--config={argument}: needs a variant, {path}:VARIANT"
    else:
        message = f"{path}: {_one_line(error)}"
    raise UserError(message) from None


def _one_line(error: BaseException) -> str:
    message = str(error.args[0]) if len(error.args) == 1 else str(error)
    locked = re.search(r'Key "(\w+)" does not exist', message)
    if not locked:
        return f"{type(error).__name__}: {' '.join(message.split())}"
    # ml_collections goes on with all the fields there are.
    near = re.search(r'Did you mean "(\w+)"', message)
    hint = f"did you mean {near[1]}?" if near else "configs/default.py has all keys"
    return f"no such key {locked[1]}; {hint}"


def override_all(config: ConfigDict, arguments: Sequence[str]) -> None:
    """Sets keys of `config` by a command line, and locks it; `ml_collections.config_flags` reads the values.

    Args:
        config: as `read_config` returns it.
        arguments: `--config.KEY=VALUE` or `--config.KEY VALUE`, any number of times.

    Raises:
        UserError: there is no such key, a value is not of its type, or an argument is something else.
    """
    argv = ["", *arguments]  # the library skips the name of the program
    network = _network_name(config, argv)
    for i, argument in enumerate(argv):
        named = re.match(r"--?(?:no)?config\.([^=]*)", argument)
        if named:
            kind = _prepare(config, named[1], network)
            if kind is tuple and argument.endswith(f"{named[1]}="):
                argv[i] += "()"
    flag_values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=flag_values, sys_argv=argv)
        unexpected = flag_values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        unexpected = [f"--{error.flagname}"]
    except flags.IllegalFlagValueError as error:
        text = str(error).removeprefix("flag --config.").removesuffix(f": {error.__context__}")
        key, _, value = text.partition("=")
        kind = _kind(config, key)
        raise UserError(f"config.{key} must be {KINDS.get(kind, kind.__name__)}, not {value!r}") from None
    except flags.Error as error:
        raise UserError(f"{error}; overrides look like --config.KEY=VALUE") from None
    if unexpected:
        raise UserError(f"unexpected argument {unexpected[0]!r}; overrides look like --config.KEY=VALUE")


def _network_name(config: ConfigDict, argv: Sequence[str]) -> str:
    """`config.model.name` as a command line leaves it: a network from outside has keys of its own."""
    model = config.get("model")
    name = str(model.get("name")) if isinstance(model, ConfigDict) else ""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if match := re.fullmatch(r"--?config\.model\.name(=.*)?", argument):
            name = match[1][1:] if match[1] else following
    return name


def _prepare(config: ConfigDict, key: str, network: str) -> type:
    """Gives a key a value of its type, by which the library reads a text for it; returns the type.

    The key may be one that the file leaves out, and the file may have 1 where 1.0 is meant.
    """
    kind = _kind(config, key, network)
    section, name = key.split(".")
    values = config.get(section)
    if not isinstance(values, ConfigDict):
        file = "srgan" if section == "gan" else "default"
        raise UserError(f"config.{section} is missing; configs/{file}.py has it")
    if type(values.get(name)) is not kind:
        with values.unlocked(), values.ignore_type():
            values[name] = kind()
    return kind


def _kind(config: ConfigDict, key: str, network: str = "") -> type:
    """The type of a key; of one of model, that of its value, or else of the networks' field."""
    if key in KEYS:
        return KEYS[key].kind
    model = config.get("model")
    fields = model.items() if isinstance(model, ConfigDict) else ()
    known = {f"model.{field}": type(value) for field, value in fields if value is not None}
    if key.startswith("model.") and key not in known:
        from wdsr_jax.models import model_keys  # seconds, for it imports JAX

        kinds = {Literal: str, tuple: tuple}
        keys = model_keys(network)
        known = {f"model.{name}": kinds.get(get_origin(kind), kind) for name, kind in keys.items()} | known
    if key not in known:
        raise _unknown(key, known)
    return tuple if known[key] is list else known[key]


def _unknown(key: str, known: Iterable[str]) -> UserError:
    near = difflib.get_close_matches(key, [*KEYS, *known], n=1)
    hint = f"did you mean config.{near[0]}?" if near else "configs/default.py has all keys"
    return UserError(f"config.{key}: no such key; {hint}")


def check_values(config: ConfigDict) -> None:
    """Refuses what can be told without the network, the devices and JAX.

    Raises:
        UserError: names the key, and what it may be: a key of data, train or gan that is missing or unknown,
            a value of the wrong type or out of range.
    """
    values: dict[str, Any] = {}
    for section, keys in config.items():
        if section not in _SECTIONS:
            raise UserError(f"config.{section}: no such section; there are {', '.join(_SECTIONS)}")
        if not isinstance(keys, Mapping | ConfigDict):
            raise UserError(f"config.{section} must be a ConfigDict, not {keys!r}")
        values |= {f"{section}.{name}": value for name, value in keys.items()}
    models = [key for key in values if key.startswith("model.")]  # which `create_model` checks
    for key in values:
        if key not in KEYS and key not in models:
            raise _unknown(key, models)
    if not models:
        raise UserError("config.model is missing; configs/default.py has it")
    for key, (kind, wanted) in KEYS.items():
        if key.startswith("gan.") and "gan" not in config:
            continue
        if key not in values:
            raise UserError(f"config.{key} is missing; configs/default.py has all keys")
        value = values[key]
        if not _is(value, kind):
            raise UserError(f"config.{key} must be {KINDS[kind]}, not {value!r}")
        numbers, most = (
            value if kind is tuple else [value],
            LARGEST_SEED if key == "train.seed" else _LARGEST,
        )
        if kind in (int, tuple) and any(abs(number) > most for number in numbers):
            raise UserError(f"config.{key} must be at most {most}, not {value}")
        if isinstance(wanted, tuple) and value not in wanted:
            raise UserError(f"config.{key} must be one of {', '.join(wanted)}, not {value!r}")
        if isinstance(wanted, str) and wanted and not RANGES[wanted](value):
            raise UserError(f"config.{key} must be {wanted}, not {value}")
    shift, scale = values["train.shift_window"], values.get("model.scale")
    side = values["data.patch_size"] * scale if _is(scale, int) else 0
    if shift and side > 0 and 2 * shift >= side:
        raise UserError(
            f"config.train.shift_window={shift} leaves nothing of a patch of {side}x{side} HR pixels; "
            "set a smaller one, or a larger config.data.patch_size"
        )
    pixels = values["data.batch_size"] * (values["data.patch_size"] ** 2 + side**2)
    if 3 * pixels > _LARGEST_BATCH:
        raise UserError(
            f"config.data.batch_size={values['data.batch_size']} patches of config.data.patch_size="
            f"{values['data.patch_size']} are more than {_LARGEST_BATCH >> 30} GB; set a smaller one"
        )
    has_gan, has_flow = "gan" in config, values.get("model.name") == "wdsr_flow"
    if has_gan and has_flow:
        raise UserError("config.gan: model.name=wdsr_flow is trained by flow matching; leave the section out")
    if not (has_gan or has_flow):
        return
    purpose = "a discriminator fine-tunes" if has_gan else "the flow is learnt around"
    if not values["train.init_from"]:
        raise UserError(
            f"config.train.init_from is missing: {purpose} a trained network; give its workdir or weights"
        )
    wanted = {"train.grad_accum": 1, "train.shift_window": 0} | ({"train.loss": "l2"} if has_flow else {})
    for key, plain in wanted.items():
        if values[key] != plain:
            companion = "a discriminator" if has_gan else "model.name=wdsr_flow"
            raise UserError(f"config.{key} must be {plain} with {companion}, not {values[key]}")


def check_network(config: ConfigDict) -> "nn.Module":
    """Refuses what the networks and the degradations can tell; touches no device.

    Returns:
        The network of the config.

    Raises:
        UserError: names the key, and what it may be, as `create_model` and `parse_degradation`.
    """
    from wdsr_jax.data.settings import parse_degradation

    if config.data.degradation:
        parse_degradation(config.data.degradation)

    # Here, so that mistakes above are answered before JAX is imported.
    from wdsr_jax.models import create_model
    from wdsr_jax.models.vgg import LAYERS

    for key, value in config.model.items():
        most = _LARGEST_SCALE if key == "scale" else _LARGEST_FIELD
        if _is(value, int) and value > most:
            raise UserError(f"config.model.{key} must be at most {most}, not {value}")
    features = ("none", *LAYERS)
    if "gan" in config and config.gan.perceptual not in features:
        raise UserError(
            f"config.gan.perceptual must be one of {', '.join(features)}, not {config.gan.perceptual!r}"
        )
    try:
        return create_model(config.model, allow_import=True)
    except UserError as error:
        raise UserError(f"config.{error}") from None


def check_config(config: ConfigDict) -> None:
    """Refuses a config that cannot work, on the devices of this process and those it has joined.

    Raises:
        UserError: as `check_values` and `check_network`, or where batch size, devices and network do not go
            together.
    """
    check_values(config)
    module = check_network(config)
    import jax

    from wdsr_jax.models import has_batch_norm

    batch_size, devices, parts = config.data.batch_size, jax.device_count(), config.train.grad_accum
    if batch_size % devices:
        raise UserError(f"config.data.batch_size={batch_size} is not divisible by the {devices} devices")
    if batch_size % (devices * parts):
        raise UserError(
            f"config.train.grad_accum={parts} does not divide a device's share of config.data.batch_size="
            f"{batch_size}, which is {batch_size // devices}"
        )
    if parts > 1 and has_batch_norm(module):
        raise UserError(
            f"config.train.grad_accum={parts}: batch norm needs the whole batch at once; set it to 1, or "
            "train with another config.model.norm"
        )


def _is(value: Any, kind: type) -> bool:
    if kind in (str, bool):
        return isinstance(value, kind)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        try:
            return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        except OverflowError:  # an integer beyond float
            return False
    return isinstance(value, tuple | list) and all(_is(number, float) for number in value)
