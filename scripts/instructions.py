#!/usr/bin/env python3
"""Compares the instruction counts of the benchmarks with the committed ones, benches/instructions.toml. Usage:

  instructions.py           count, and exit 1 if anything takes over 5 % more than committed, is missing, or is not committed
  instructions.py --write   count, and write benches/instructions.toml: after a change that is meant, and with it

Needs gungraun-runner (its path in GUNGRAUN_RUNNER) and valgrind: scripts/fetch-gungraun.sh. What is counted is in
benches/benches/instructions.rs; how far the figures can be trusted is in benches/README.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "benches" / "instructions.toml"

# Operations (commands, for the engine) behind every count: OPERATIONS and COMMANDS of the crate.
OPERATIONS = 16_000

# A count may be this much above the committed one.
TOLERANCE = 0.05

# Of the simulated caches nothing is used, and they take half of the time.
ARGUMENTS = ["--output-format=json", "--callgrind-args=--cache-sim=no"]

HEADER = """\
# Instructions per operation, by callgrind: what `make bench-instructions` compares with. Written by
# `make bench-instructions WRITE=1`, not by hand; see README.md.
"""


def count():
    """Instructions per operation of every benchmark, by group and name."""
    command = [os.environ.get("CARGO", "cargo"), "bench", "--locked", "--quiet", "--package", "slotway-benches",
               "--bench", "instructions", "--", *ARGUMENTS]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0:
        sys.exit("the benchmarks did not run")
    counts = {}
    for line in filter(None, run.stdout.splitlines()):
        result = json.loads(line)
        total = result["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"]
        names = counts.setdefault(result["function_name"], {})
        names[result["id"]] = round(total / OPERATIONS, 1)
    return counts


def written(counts):
    sections = []
    for group, names in counts.items():
        lines = [f"{name} = {figure}" for name, figure in names.items()]
        sections.append("\n".join([f"[{group}]", *lines]) + "\n")
    return "\n".join([HEADER, *sections])


def compare(counts, committed):
    """Prints a line for each benchmark; the number of those that are not as they should be."""
    faults = 0
    for group, name in sorted({(group, name) for side in (counts, committed) for group in side for name in side[group]}):
        now, before = counts.get(group, {}).get(name), committed.get(group, {}).get(name)
        if now is None or before is None:
            verdict = "MISSING" if now is None else "NOT COMMITTED"
        elif now > before * (1 + TOLERANCE):
            verdict = f"{now / before - 1:+.1%} REGRESSION"
        elif now < before * (1 - TOLERANCE):
            verdict = f"{now / before - 1:+.1%} better: commit the new figure"
        else:
            verdict = f"{now / before - 1:+.1%}"
        faults += verdict.isupper() or "REGRESSION" in verdict
        print(f"{group + '/' + name:<32} {before or '-':>9} {now or '-':>9}  {verdict}")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the figures instead of comparing them")
    arguments = parser.parse_args()
    counts = count()
    if arguments.write:
        FIGURES.write_text(written(counts), encoding="utf-8")
        return
    committed = tomllib.loads(FIGURES.read_text(encoding="utf-8"))
    faults = compare(counts, committed)
    if faults:
        sys.exit(f"{faults} of the instruction counts are not as committed. If that is meant: make bench-instructions WRITE=1")


if __name__ == "__main__":
    main()
