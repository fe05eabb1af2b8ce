"""Rows of measurements, as a table and as JSON, with all that is needed to judge them."""

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wdsr_jax.system.tables import markdown_table

OURS = "wdsr_jax"
MATMUL = "matrix product"  # how the names of these contenders begin
_OTHERS = ("PyTorch", "ONNX Runtime", "OpenVINO")
# Dense tensor-core products of bfloat16, in GFLOP/s, by the manufacturer's data sheets.
_PEAKS = {"H100": 989e3, "H200": 989e3, "A100": 312e3, "L4": 121e3, "T4": 65e3}


class Row(NamedTuple):
    """One figure.

    Attributes:
        bench: such as `train`.
        work: what was computed.
        contender: by whom.
        precision: `float32`, `bfloat16`, or empty.
        value: the figure, in `unit`, from the median time.
        unit: of `value`.
        seconds: median of the wall times, None where the figure is no time.
        best: the least of them.
        gflops: reached, in GFLOP/s.
        of_matmul: that as a share of a plain float32 matrix product in the same run (on a GPU: bfloat16).
        of_peak: that as a share of the device's peak, where it is known.
        cores: processor time over wall time.
        ratio: of the best alternative's time to this, in the same precision; above 1 is faster. None but
            for this package.
        against: which alternative that is.
    """

    bench: str
    work: str
    contender: str
    precision: str
    value: float
    unit: str
    seconds: float | None = None
    best: float | None = None
    gflops: float | None = None
    of_matmul: float | None = None
    of_peak: float | None = None
    cores: float | None = None
    ratio: float | None = None
    against: str | None = None


def compare(rows: Iterable[Row]) -> list[Row]:
    """The rows with `ratio` and `against`, within each bench, work and precision."""
    rows, compared = list(rows), []
    for row in rows:
        others = [
            other
            for other in rows
            if (other.bench, other.work, other.precision) == (row.bench, row.work, row.precision)
            and other.seconds
            and other.contender.startswith(_OTHERS)
        ]
        if row.contender.startswith(OURS) and row.seconds and others:
            best = min(others, key=lambda other: other.seconds)
            row = row._replace(ratio=best.seconds / row.seconds, against=best.contender)
        compared.append(row)
    return compared


def peak(device_kind: str) -> float | None:
    """GFLOP/s in bfloat16 that the device could reach, None where it is not known."""
    return next((value for name, value in _PEAKS.items() if name in device_kind), None)


def table(rows: Iterable[Row]) -> str:
    """In Markdown, one row a figure."""
    head = ["work", "contender", "precision", "value", "unit", "best", "GFLOP/s", "of matmul", "of peak"]
    lines = [
        [
            f"{row.bench}: {row.work}",
            row.contender,
            row.precision,
            number(row.value),
            row.unit,
            "" if row.best is None else number(_best(row)),
            "" if row.gflops is None else f"{row.gflops:,.0f}",
            "" if row.of_matmul is None else f"{row.of_matmul:.0%}",
            "" if row.of_peak is None else f"{row.of_peak:.0%}",
            "" if row.cores is None else f"{row.cores:.1f}",
            against(row),
        ]
        for row in rows
    ]
    return markdown_table([*head, "cores", "against the best"], lines)


def against(row: Row) -> str:
    """The ratio to the best alternative and which that is; empty where there is none."""
    return "" if row.ratio is None else f"{row.ratio:.2f}x {row.against}"


def _best(row: Row) -> float:
    """The value from the least time, which for a rate is the highest."""
    share = row.best / row.seconds
    return row.value / share if row.unit.endswith("/s") else row.value * share


def number(value: float) -> str:
    """With three digits, or whole and with commas."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def machine(threads: int) -> dict[str, Any]:
    """Versions, processor, devices and threads."""
    import jax

    versions = {}
    for package in ("jax", "jaxlib", "flax", "numpy", "torch", "onnxruntime", "openvino", "grain"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "devices": [device.device_kind for device in jax.devices()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        fields: Mapping[str, str] = {
            key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
        }
        extensions = [
            x for x in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if x in fields["flags"].split()
        ]
        return f"{fields['model name']}, model {fields['model']} ({' '.join(extensions)})"
    except (OSError, KeyError):  # not Linux on x86
        return platform.processor() or platform.machine()
