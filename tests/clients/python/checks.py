"""What the checks of all Python clients share."""

import asyncio
import ctypes
import inspect
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

# Families of commands that the server in front of us does not offer, or that make no sense there.
LEFT_OUT = set(filter(None, os.environ.get("SLOTWAY_LEAVE_OUT", "").split(",")))

# How long anything may take that does not happen at once.
DEADLINE = 15


def arguments():
    """Host, port, and what else the program was called with."""
    return sys.argv[1], int(sys.argv[2]), sys.argv[4:]


def expect(actual, wanted, what):
    if actual != wanted:
        raise SystemExit(f"{what}: got {actual!r}, expected {wanted!r}")


def check(condition, what):
    if not condition:
        raise SystemExit(f"{what}: it is not so")


def families(functions):
    """Those of the functions, named as the families are, that are not left out."""
    return [function for function in functions if function.__name__ not in LEFT_OUT]


def run(functions, *args):
    for function in families(functions):
        function(*args)


async def run_async(functions, *args):
    for function in families(functions):
        await asyncio.wait_for(function(*args), 2 * DEADLINE)


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {DEADLINE} s")
        time.sleep(0.01)


async def wait_until_async(condition, what):
    deadline = time.monotonic() + DEADLINE
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {DEADLINE} s")
        await asyncio.sleep(0.01)


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def id_of(client_list, name):
    """The id of the only connection with this name in the reply to CLIENT LIST."""
    lines = [line for line in text(client_list).splitlines() if f" name={name} " in line]
    expect(len(lines), 1, f"connections named {name}")
    return re.search(r"\bid=(\d+)", lines[0]).group(1)


def blocked(client_list, name):
    """True if the connection of this name waits in a blocking command."""
    lines = [line for line in text(client_list).splitlines() if f" name={name} " in line]
    return any(re.search(r"\bflags=\w*b", line) for line in lines)


class Background:
    """A call in a thread of its own, and what it gave."""

    def __init__(self, function):
        self.result = None
        self.thread = threading.Thread(target=self._call, args=(function,), daemon=True)
        self.thread.start()

    def _call(self, function):
        self.result = function()

    def join(self, what):
        self.thread.join(DEADLINE)
        check(not self.thread.is_alive(), f"{what} ended")
        return self.result


class Worker:
    """This program once more, with another argument, in a process that ends with this one."""

    def __init__(self, argument):
        self.output = tempfile.TemporaryFile()
        command = [sys.executable, *sys.argv, argument]
        self.process = subprocess.Popen(command, stdout=self.output, stderr=self.output, preexec_fn=_die_with_parent)

    def join(self):
        """Waits until it ends by itself; tells what it said if it does not, or fails."""
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            status = "still running"
        check(status == 0, f"the worker ends: {status}: {self.said()}")

    def said(self):
        self.output.seek(0)
        return self.output.read().decode(errors="replace")[-3000:]


def _die_with_parent():
    set_parent_death_signal, sigkill = 1, 9
    ctypes.CDLL(None).prctl(set_parent_death_signal, sigkill)
