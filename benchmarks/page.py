"""The page of all measurements: python -m benchmarks page FILE.json [FILE.json ...] > docs/speed.md

FILE.json is what `python -m benchmarks --out=FILE.json` wrote. Each kind of machine has its columns: files
with the same processor, accelerators and number of cores are one. There, what a later file measured of a work
in a precision replaces what earlier ones did, so that a bench can be run in parts.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import MATMUL, Row, against, number
from wdsr_jax.errors import UserError
from wdsr_jax.system.console import ArgumentParser
from wdsr_jax.system.tables import markdown_table

BUSY = 0.7  # the load average for each core from which on the page says that others were at work

Result = Mapping[str, Any]  # the contents of a file
# Of one machine: the rows that are compared with each other, and the result that they are from.
Machine = dict[tuple[str, ...], tuple[list[Row], Result]]


def main(arguments: Sequence[str]) -> None:
    """The command line, see the module's docstring; UserError for a file that is no result."""
    parser = ArgumentParser(prog="python -m benchmarks page", description=str(__doc__).splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json", help="of python -m benchmarks")
    files = parser.parse_args(arguments).files
    print(page(list(map(str, files)), merge(map(read, files))))


def read(path: Path) -> Result:
    """A result with its rows as `Row`; UserError where the file is none."""
    try:
        result = json.loads(path.read_text())
        rows = [Row(**row) for row in result["rows"]]
        return {"machine": result["machine"], "load": result["load"], "rows": rows}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} is no result: python -m benchmarks --out=FILE.json writes them") from None


def merge(results: Iterable[Result]) -> list[Machine]:
    """The machines, in the order of their first results; later results replace rows of earlier ones."""
    machines: dict[tuple, Machine] = {}
    for result in results:
        about = result["machine"]
        parts: Machine = {}
        for row in result["rows"]:
            key = row.bench, row.work, row.precision, MATMUL if row.contender.startswith(MATMUL) else ""
            parts.setdefault(key, ([], result))[0].append(row)
        machines.setdefault((about["processor"], about["cores"], *_accelerators(about)), {}).update(parts)
    return list(machines.values())


def page(files: Sequence[str], machines: Sequence[Machine]) -> str:
    """The page in Markdown.

    Args:
        files: the names of those that the machines are from.
        machines: of `merge`.
    """
    benches = dict.fromkeys(bench for machine in machines for bench, *_ in machine)
    about = "\n".join(f"{i}. {_about(machine)}" for i, machine in enumerate(machines, 1))
    tables = "\n\n".join(f"## {bench}\n\n{_section(bench, machines)}" for bench in benches)
    return f"""# Speed

`python -m benchmarks page {" ".join(files)}` wrote this page. [performance.md](performance.md) says what is
measured and how, and what the figures mean. A ratio is the time of the best alternative over this package's,
in the same run and precision: above 1 this package is faster. The machines:

{about}

The load average is of the minute before a bench, so in one run the bench before has its part in it.

{tables}"""


def _section(bench: str, machines: Sequence[Machine]) -> str:
    """What is to be known of a bench, and its table."""
    columns, notes = {}, []
    for i, machine in enumerate(machines, 1):
        rows = [row for key, (rows, _) in machine.items() if key[0] == bench for row in rows]
        if rows:
            columns[i] = {(row.work, row.contender, row.precision, row.unit): row for row in rows}
            load, cores = _load(bench, machine), _results(machine)[0]["machine"]["cores"]
            if load > BUSY * cores:
                notes.append(
                    f"Machine {i} was busy: the load average before was {load:.1f} on {cores} cores."
                )
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    works = list(dict.fromkeys(work for work, *_ in keys))
    ratios = [i for i, column in columns.items() if any(row.ratio for row in column.values())]
    lines = [
        [
            *key[:3],
            *(against(columns[i][key]) if key in columns[i] else "" for i in ratios),
            *(number(column[key].value) if key in column else "" for column in columns.values()),
            key[3],
        ]
        for key in sorted(keys, key=lambda key: works.index(key[0]))
    ]
    head = ["work", "contender", "precision", *(f"ratio on {i}" for i in ratios)]
    table = markdown_table([*head, *(f"value on {i}" for i in columns), "unit"], lines)
    return "\n\n".join([*notes, table])


def _about(machine: Machine) -> str:
    results = _results(machine)
    about = [result["machine"] for result in results]
    parts = [
        ", ".join([about[0]["processor"], *_accelerators(about[0])]),
        f"{about[0]['cores']} cores",
        f"{_distinct(one['threads'] for one in about)} threads for each contender",
    ]
    for package in dict.fromkeys(package for one in about for package in one["versions"]):
        if version := _distinct(one["versions"].get(package) for one in about):
            parts.append(f"{package} {version}")
    loads = (f"{bench} {_load(bench, machine):.1f}" for bench in dict.fromkeys(key[0] for key in machine))
    return f"{', '.join(parts)}; load average before: {', '.join(loads)}"


def _results(machine: Machine) -> list[Result]:
    """Those of which rows are left."""
    return list({id(result): result for _, result in machine.values()}.values())


def _load(bench: str, machine: Machine) -> float:
    """The highest load average before a bench, of those whose rows are left."""
    return max(result["load"][bench][0] for key, (_, result) in machine.items() if key[0] == bench)


def _accelerators(about: Mapping[str, Any]) -> list[str]:
    return [kind for kind in dict.fromkeys(about["devices"]) if kind != "cpu"]


def _distinct(values: Iterable[Any]) -> str:
    return " and ".join(dict.fromkeys(str(value) for value in values if value is not None))
