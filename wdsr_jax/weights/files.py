"""Names and places of weights files. Imports no JAX: a command finds mistakes in its arguments at once."""

import os
import re
from pathlib import Path

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import open_regular, path_errors

WORKDIR_FILE = "model.safetensors"  # the best weights of a training run, in its workdir
BEFORE_GAN_FILE = "before_gan.safetensors"  # beside it after a fine-tuning with a discriminator: its start
OLD_BEFORE_GAN_FILE = "psnr.safetensors"  # its name in version 0.1
EXPORT_FORMATS = ("stablehlo", "onnx")
# How the names of the shipped networks begin: for clean input, for noise and JPEG, and for slow machines.
FAMILIES = {"clean": "wdsr-a-16", "photo": "wdsr-a-16-photo", "fast": "wdsr-a-4"}
_SPACE = {"space": "wdsr-a-16-space"}  # with many answers, for --samples
_SHIPPED = Path(__file__).parents[1] / "pretrained"


def list_pretrained() -> list[str]:
    """The weights that ship with the package.

    Returns:
        Their names in order, for `load_pretrained`.
    """
    return sorted(path.stem for path in _SHIPPED.glob("*.safetensors"))


def pretrained_for(factor: float, family: str = "clean") -> str | None:
    """The shipped network to upscale by `factor`: of the next larger scale, or else of the largest.

    Args:
        factor: of both sides.
        family: a key of `FAMILIES`, or `space`.

    Returns:
        Its name; None where none is shipped.
    """
    pattern = re.compile(rf"{(FAMILIES | _SPACE)[family]}-x(\d+)")
    found = ((pattern.fullmatch(name), name) for name in list_pretrained())
    scales = {int(match[1]): name for match, name in found if match}
    larger = [scale for scale in scales if scale >= factor - 1e-3]
    return scales[min(larger or [max(scales)])] if scales else None


def check_model(model: str | None) -> None:
    """Checks `--model`: a family of which a network is shipped, or as `find_weights`; None for none.

    Raises:
        UserError: it names nothing.
    """
    if model in FAMILIES and pretrained_for(1, model) is None:
        raise UserError(f"--model={model}: no network of that kind is shipped with this version")
    if model and model not in FAMILIES:
        try:
            find_weights(model)
        except UserError as error:
            raise UserError(f"--model: {error}; or {', '.join(FAMILIES)}") from None


def find_weights(name_or_path: str | os.PathLike) -> Path:
    """The weights file of a shipped name, a workdir or a path.

    Raises:
        UserError: there is no such file, workdir or shipped name, the workdir has no weights yet, or the file
            cannot be read.
    """
    path = _weights_file(name_or_path)
    if os.path.exists(path):
        with path_errors(path, "cannot be read"), open_regular(path):
            return path
    if path.name == WORKDIR_FILE and os.path.isdir(os.path.expanduser(name_or_path)):
        raise UserError(f"{path.parent}: no {WORKDIR_FILE} here; training writes it at its first evaluation")
    names = ", ".join(list_pretrained()) or "none"
    raise UserError(f"{name_or_path}: no such file or workdir, nor a shipped model (those are: {names})")


def check_conversion(
    source: str | os.PathLike, destination: str | os.PathLike, *, to_torch: bool = False
) -> None:
    """Checks the arguments of `convert`, or of `convert_to_torch`.

    Raises:
        UserError: the source cannot be opened, or the destination is the source or in no folder.
    """
    _check_destination(source, destination, "is the source, which would be overwritten")
    if to_torch:
        find_weights(source)
    else:
        with path_errors(source, "cannot be read"), open_regular(source):
            pass


def check_export(name_or_path: str | os.PathLike, file_format: str, path: str | os.PathLike) -> None:
    """Checks the arguments of `export`.

    Raises:
        UserError: there is no such format or network, or the file is a folder, the network's own or in no
            folder.
    """
    if file_format not in EXPORT_FORMATS:
        raise UserError(f"--format={file_format}: there are {' and '.join(EXPORT_FORMATS)}")
    _check_destination(name_or_path, path, "holds the network, which would be overwritten")
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder, not a file to write")
    find_weights(name_or_path)


def _weights_file(name_or_path: str | os.PathLike) -> Path:
    """As `find_weights`, whether or not there is such a file."""
    if str(name_or_path) in list_pretrained():
        return _SHIPPED / f"{name_or_path}.safetensors"
    path = Path(os.path.expanduser(name_or_path))
    # os.path.isdir is False, where Path.is_dir raises, for what cannot be a path.
    return path / WORKDIR_FILE if os.path.isdir(path) else path


def _check_destination(source: str | os.PathLike, destination: str | os.PathLike, if_same: str) -> None:
    own = _weights_file(source)
    if os.path.exists(own) and os.path.exists(destination) and os.path.samefile(own, destination):
        raise UserError(f"{destination}: {if_same}")
    if not os.path.isdir(Path(destination).absolute().parent):
        raise UserError(f"{destination}: no such folder")
