"""Measures this package beside others: python -m benchmarks [NAME ...] [--quick] [--out=FILE.json]

NAME is train, infer, cold, evaluate, input, memory or scaling; all of them where none is named. It prints
a table in Markdown and writes JSON. What is not installed (pip install 'wdsr_jax[bench]') is left out. With a
GPU, train, infer, input and scaling are measured there.

python -m benchmarks quality --sets DIR [DIR ...] writes docs/benchmarks.md instead, see `benchmarks.quality`;
python -m benchmarks page FILE.json [FILE.json ...] prints docs/speed.md from these files, `benchmarks.page`.
"""

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Reads the command line and measures."""
    # Several processes share a GPU here; and what they say of themselves is not asked for.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if sys.argv[1:2] in (["quality"], ["page"]):
        from wdsr_jax.system.console import run_command

        other = importlib.import_module(f"benchmarks.{sys.argv[1]}")
        run_command(lambda: other.main(sys.argv[2:]))
    from benchmarks import commands, compute, input
    from benchmarks.report import machine, table

    benches = dict(
        train=compute.train,
        infer=compute.infer,
        cold=commands.cold,
        evaluate=commands.evaluate,
        input=input.rows,
        memory=commands.memory,
        scaling=compute.scaling,
    )
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(benches)}; default: all")
    parser.add_argument("--quick", action="store_true", help="tiny networks, few calls: to see that it works")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for each contender")
    parser.add_argument("--rounds", type=int, default=7, help="how often each contender has its turn")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a turn")
    parser.add_argument("--only", choices=("float32", "bfloat16"), help="of train and infer")
    parser.add_argument("--out", type=Path, default=Path("benchmarks.json"), help="JSON file")
    options = parser.parse_args()
    if unknown := set(options.names) - set(benches):
        parser.error(f"no bench is named {', '.join(sorted(unknown))}; there are {', '.join(benches)}")

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    rounds, seconds = (2, 0.0) if options.quick else (options.rounds, options.seconds)
    setting = compute.Setting(options.quick, options.threads, rounds, seconds, say, options.only)
    result = {"command": sys.argv[1:], "machine": machine(options.threads), "rows": [], "load": {}}
    rows = []
    for name in options.names or benches:
        before, start = os.getloadavg()[0], time.monotonic()
        load = result["load"][name] = [round(before, 1)]
        for row in benches[name](setting):
            rows.append(row)
            result["rows"].append(row._asdict())
            options.out.write_text(json.dumps(result, indent=1) + "\n")  # what there is, should it be stopped
        load.append(round(os.getloadavg()[0], 1))
        say(f"{name}: {time.monotonic() - start:.0f} s, load average {before:.1f} before")
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    about = result["machine"]
    print(f"{about['processor']}, {about['cores']} cores, {about['threads']} threads each")
    print(", ".join(f"{package} {version}" for package, version in about["versions"].items() if version))
    print(f"load average before and after each: {result['load']}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
