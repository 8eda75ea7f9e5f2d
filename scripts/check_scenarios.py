#!/usr/bin/env python3
"""Checks tests/SCENARIOS.md: every scenario of both lists has its row, in order, and every test that a row names exists. Usage:

  check_scenarios.py        prints what is wrong, and exits 1 if anything is

A test is written as `place::name`, the name in full; the places are explained at the head of the file.
"""

import functools
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "tests" / "SCENARIOS.md"

# Where the first word of a place leads.
FOLDERS = {"tests": "tests/tests", "core": "core/src", "proxy": "proxy/src"}

# Every row there has to be: known faults of other proxies, scenarios of the contract.
EXPECTED = [f"R{n}" for n in range(1, 59)] + [str(n) for n in range(1, 125)]

ROW = re.compile(r"^\| (R?\d+) \| (.+) \|$")
TEST = re.compile(r"`([a-z0-9_/]+)::([a-z0-9_]+)`")
# What a row without a test has to say, with a reason behind it.
WITHOUT = re.compile(r"^(not built|no test): \S")


@functools.cache
def source(place):
    """Text of the file of a place, or None."""
    first, _, rest = place.partition("/")
    base = ROOT / FOLDERS.get(first, first) / rest
    for file in (base.with_suffix(".rs"), base / "mod.rs", base / "main.rs"):
        if file.is_file():
            return file.read_text(encoding="utf-8")
    return None


def fault(place, name):
    """What is wrong with the name of a test, or None."""
    text = source(place)
    if text is None:
        return f"there is no file for {place}"
    function = re.search(rf"((?:^[ \t]*#\[.*\]\n)*)^[ \t]*fn {name}\b", text, re.MULTILINE)
    if not function:
        return f"{place} has no {name}"
    by_release = re.findall(r"harness::on_\w+!\((.*?)\);", text, re.DOTALL)
    is_listed = any(re.search(rf"\b{name}\b", names) for names in by_release)
    if not is_listed and "#[test]" not in function.group(1):
        return f"{place}::{name} is no test"
    return None


def check(lines):
    faults, seen = [], []
    for number, line in enumerate(lines, 1):
        row = ROW.match(line)
        if not row:
            continue
        scenario, cell = row.groups()
        seen.append(scenario)
        tests = TEST.findall(cell)
        if not tests and not WITHOUT.match(cell):
            faults.append(f"line {number}: {scenario} names no test and no reason why there is none")
        faults += [f"line {number}: {wrong}" for wrong in (fault(*test) for test in tests) if wrong]
    if seen != EXPECTED:
        missing = [name for name in EXPECTED if name not in seen]
        faults.append(f"rows are missing, twice there or out of order; missing: {', '.join(missing) or 'none'}")
    return faults


def main():
    faults = check(TABLES.read_text(encoding="utf-8").splitlines())
    for line in faults:
        print(f"tests/SCENARIOS.md: {line}", file=sys.stderr)
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
