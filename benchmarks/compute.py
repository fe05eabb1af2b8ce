"""The benches of networks alone: a training step, and inference."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import networks
from benchmarks.report import MATMUL, OURS, Row, compare, peak
from benchmarks.rounds import Contender, Timing, time_in_turns


class Setting(NamedTuple):
    """How to measure.

    Attributes:
        quick: whether tiny networks and few calls will do, to see that all works.
        threads: for each contender.
        rounds: how often each has its turn.
        seconds: of a turn.
        say: is told what happens.
        only: the precision to measure; None for all.
    """

    quick: bool
    threads: int
    rounds: int
    seconds: float
    say: Callable[[str], None]
    only: str | None = None


# The largest difference from this package's float32 that rounding explains, relative to the largest value.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}


def _device() -> str:
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def _products(setting: Setting, dtype: str) -> dict[str, Contender]:
    size = 64 if setting.quick else 2048 if _device() == "cpu" else 8192
    shared = dict(size=size, dtype=dtype)
    theirs = dict(threads=setting.threads, device=_device())
    return {
        f"{MATMUL}, JAX": Contender("benchmarks.ours:matmul", shared),
        f"{MATMUL}, PyTorch": Contender("benchmarks.pytorch:matmul", shared | theirs),
    }


def _timed_rows(
    bench: str,
    work: str,
    contenders: Mapping[str, tuple[str, Contender]],
    setting: Setting,
    *,
    flop: float,
    amount: float,
    unit: str,
) -> list[Row]:
    """Times the contenders, each given with its precision, and makes rows; not of those with other results.

    `amount` is the work in the unit's own terms: images, for images/s; megapixels, for s/MP.
    """
    contenders = {
        name: contender for name, contender in contenders.items() if setting.only in (None, contender[0])
    }
    yardstick = "float32" if _device() == "cpu" else "bfloat16"
    products = _products(setting, yardstick)
    size = next(iter(products.values())).arguments["size"]
    setting.say(f"{bench}: {work}: {len(contenders)} contenders are built, then timed")
    timings = time_in_turns(
        {name: contender for name, (_, contender) in contenders.items()} | products,
        threads=setting.threads,
        rounds=setting.rounds,
        seconds=setting.seconds,
        say=setting.say,
        refuse=lambda results: differing(
            {name: (contenders[name][0], result) for name, result in results.items() if name in contenders}
        ),
    )
    rates = {name: 2 * size**3 / timings[name].median / 1e9 for name in products if name in timings}
    most = max(rates.values(), default=None)
    rows = [
        _row(bench, work, name, contenders[name][0], timing, flop=flop, amount=amount, unit=unit, matmul=most)
        for name, timing in timings.items()
        if name in contenders
    ]
    rows += [
        Row(bench, work, name, yardstick, rate, "GFLOP/s", timings[name].median, timings[name].best, rate)
        for name, rate in rates.items()
    ]
    return compare(rows)


def _row(
    bench: str,
    work: str,
    name: str,
    precision: str,
    timing: Timing,
    *,
    flop: float,
    amount: float,
    unit: str,
    matmul: float | None,
) -> Row:
    seconds = timing.median
    gflops, most = flop / seconds / 1e9, peak(jax.devices()[0].device_kind)
    return Row(
        bench,
        work,
        name,
        precision,
        amount / seconds if unit.endswith("/s") else seconds / amount,
        unit,
        seconds,
        timing.best,
        gflops,
        gflops / matmul if matmul else None,
        gflops / most if most else None,
        timing.cores if _device() == "cpu" else None,
    )


def differing(results: Mapping[str, tuple[str, np.ndarray]]) -> dict[str, str]:
    """Says which contenders computed something else than this package, by more than rounding.

    Args:
        results: by contender, its precision and its result.

    Raises:
        ValueError: this package's own results differ.
    """
    if OURS not in results:
        return {}
    expected = results[OURS][1]
    wrong = {}
    for name, (precision, result) in results.items():
        difference = np.abs(np.asarray(result) - expected).max()
        if not difference <= _TOLERANCE[precision] * max(1, np.abs(expected).max()):
            wrong[name] = f"it computes something else, which differs by {difference:.3g}"
            if name.startswith(OURS):
                raise ValueError(f"{name}: {wrong[name]}")
    return wrong


def _ways(setting: Setting) -> tuple[str, ...]:
    return ("eager",) if setting.quick else ("eager", "compiled")  # PyTorch compiles for half a minute


def train(setting: Setting, batch_size: int = 16) -> Iterator[Row]:
    """Images/s of the whole training step of WDSR-A 16x32 x2, LR patches of 48x48."""
    model = networks.quick_model(dict(networks.WDSR_A, scale=2), setting.quick)
    patch = 8 if setting.quick else 48
    batch_size = 4 if setting.quick else batch_size
    shared = dict(params=networks.draw_params(model), batch=networks.draw_batch(batch_size, patch, 2))
    theirs = shared | dict(threads=setting.threads, device=_device())
    contenders = {}
    for precision in ("float32", "bfloat16"):
        of = "" if precision == "float32" else f", {precision}"
        fields = dict(model=dict(model, dtype=precision))
        contenders[OURS + of] = precision, Contender("benchmarks.ours:training", shared | fields)
        for how in _ways(setting):
            arguments = theirs | fields | dict(compiled=how == "compiled")
            contenders[f"PyTorch {how}{of}"] = precision, Contender("benchmarks.pytorch:training", arguments)
    yield from _timed_rows(
        "train",
        f"{networks.title(model)}, batch {batch_size} of {patch}x{patch}",
        contenders,
        setting,
        flop=networks.operations(model, training=True) * batch_size * patch**2,
        amount=batch_size,
        unit="images/s",
    )


def infer(setting: Setting) -> Iterator[Row]:
    """Seconds a LR megapixel of the networks alone, one image at a time."""
    small, large = (256, 256), (667, 1000)
    works = [
        (networks.WDSR_A, 2, (small, large)),
        (networks.WDSR_B, 2, (small, large)),
        (networks.WDSR_A, 4, (small,)),  # at x4 but the tail has more to do, and a large image takes long
        (networks.WDSR_B, 4, (small,)),
    ]
    for kind, scale, sizes in [(networks.WDSR_B, 2, ((16, 20),))] if setting.quick else works:
        model = networks.quick_model(dict(kind, scale=scale), setting.quick)
        params = networks.draw_params(model, folded=True)
        onnx = _onnx(model, params, setting)
        for height, width in sizes:
            # A call on the large image is longer than a turn.
            rounds = min(3, setting.rounds) if (height, width) == large else setting.rounds
            image = networks.draw_image(height, width)
            yield from _infer_one(model, params, onnx, image, setting._replace(rounds=rounds))


def _onnx(model: Mapping[str, Any], params: Mapping[str, np.ndarray], setting: Setting) -> bytes | None:
    try:
        return networks.onnx_bytes({**model, "norm": "none"}, params)
    except Exception as error:  # the extra is not installed
        setting.say(f"ONNX Runtime and OpenVINO are left out: {error}")
        return None


def _infer_one(
    model: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    onnx: bytes | None,
    lr: np.ndarray,
    setting: Setting,
) -> list[Row]:
    contenders = {}
    shared = dict(params=params, lr=lr)
    theirs = shared | dict(threads=setting.threads, device=_device())
    for precision in ("float32",) if setting.quick else ("float32", "bfloat16"):
        of = "" if precision == "float32" else f", {precision}"
        fields = dict(model={**model, "norm": "none", "dtype": precision})
        contenders[OURS + of] = precision, Contender("benchmarks.ours:inference", shared | fields)
        if precision == "float32":
            tiles = Contender("benchmarks.ours:upscaling", shared | fields | dict(engine="xla"))
            contenders[f"{OURS}.upscale"] = precision, tiles
        for how in _ways(setting):
            arguments = theirs | fields | dict(compiled=how == "compiled")
            contenders[f"PyTorch {how}{of}"] = precision, Contender("benchmarks.pytorch:inference", arguments)
        if onnx and _device() == "cpu":
            runtime = dict(model=onnx, lr=lr, threads=setting.threads)
            if precision == "float32":
                tiles = Contender("benchmarks.ours:upscaling", shared | fields | dict(engine="onnx"))
                contenders[f"{OURS}.upscale, onnx"] = precision, tiles
                build = "benchmarks.runtimes:onnxruntime_inference"
                contenders["ONNX Runtime"] = precision, Contender(build, runtime)
            hint = dict(precision={"float32": "f32", "bfloat16": "bf16"}[precision])
            build = "benchmarks.runtimes:openvino_inference"
            contenders[f"OpenVINO{of}"] = precision, Contender(build, runtime | hint)
    _, height, width, _ = lr.shape
    return _timed_rows(
        "infer",
        f"{networks.title(model)}, {height}x{width}",
        contenders,
        setting,
        flop=networks.operations(model, training=False) * height * width,
        amount=height * width / 1e6,
        unit="s/MP",
    )


def scaling(setting: Setting) -> Iterator[Row]:
    """The training step on 1 and 2 virtual CPU devices; on a GPU, batches from 16 to 1024."""
    model = networks.quick_model(dict(networks.WDSR_A, scale=2), setting.quick)
    patch = 8 if setting.quick else 48
    if _device() == "cpu":
        yield from _scaling_of_devices(model, patch, setting)
        return
    wide = networks.quick_model(dict(networks.WDSR_A, filters=128, blocks=32, scale=2), setting.quick)
    for network in (model, wide):
        for batch_size in (4, 8) if setting.quick else (16, 64, 256, 1024):
            fields = dict(
                model=dict(network, dtype="bfloat16"),
                params=networks.draw_params(network),
                batch=networks.draw_batch(batch_size, patch, 2),
            )
            theirs = fields | dict(threads=setting.threads, device=_device(), compiled=True)
            contenders = {
                OURS: ("bfloat16", Contender("benchmarks.ours:training", fields)),
                "PyTorch compiled": ("bfloat16", Contender("benchmarks.pytorch:training", theirs)),
            }
            yield from _timed_rows(
                "scaling",
                f"{networks.title(network)}, batch {batch_size} of {patch}x{patch}",
                contenders,
                setting,
                flop=networks.operations(network, training=True) * batch_size * patch**2,
                amount=batch_size,
                unit="images/s",
            )


def _scaling_of_devices(model: Mapping[str, Any], patch: int, setting: Setting) -> list[Row]:
    batch_size = 4 if setting.quick else 16
    fields = dict(
        model=model,
        params=networks.draw_params(model),
        batch=networks.draw_batch(batch_size, patch, 2),
    )
    contenders = {}
    for devices in (1, 2):
        for micro_batches in (1, None):
            parts = "whole" if micro_batches else "in micro-batches"
            name = OURS if devices == 1 and not micro_batches else f"{devices} devices, {parts}"
            # Twice as many threads as devices, or their collectives may wait for ever.
            environment = {
                "JAX_NUM_CPU_DEVICES": str(devices),
                "NPROC": str(max(setting.threads, 2 * devices)),
            }
            environment = environment if devices > 1 else {}
            arguments = fields | dict(micro_batches=micro_batches)
            contenders[name] = (
                "float32",
                Contender("benchmarks.ours:training", arguments, environment),
            )
    return _timed_rows(
        "scaling",
        f"{networks.title(model)}, batch {batch_size} of {patch}x{patch}",
        contenders,
        setting,
        flop=networks.operations(model, training=True) * batch_size * patch**2,
        amount=batch_size,
        unit="images/s",
    )
