"""What scripts/instructions.py and scripts/instruction_share.py share: building, and running under callgrind."""

import json
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from typing import NamedTuple

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent

SKIPPED = 77
"""The exit code that .ci/run takes for "skipped"."""


def require() -> None:
    """Ends the program as skipped where callgrind cannot count what is to be counted."""
    if platform.machine() not in ("x86_64", "AMD64"):
        skip(f"the levels that are counted are x86-64's; this is {platform.machine()}")
    if shutil.which("valgrind") is None:
        skip("valgrind is not installed (Debian, Ubuntu: apt-get install valgrind)")


def skip(reason: str) -> None:
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def build(binary: str) -> pathlib.Path:
    """The path of a program of the workspace, built as it is released.

    No package is named: what README.md's first command has built is taken as it is, where cargo would build a named
    package's dependencies with the features that it alone needs.
    """
    command = ["cargo", "build", "--quiet", "--release", "--bin", binary]
    command += ["--message-format", "json-render-diagnostics"]
    printed = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout
    for message in map(json.loads, printed.splitlines()):
        if message.get("executable") and message["target"]["name"] == binary:
            return pathlib.Path(message["executable"])
    raise SystemExit(f"cargo did not say where it put {binary}")


class Call(NamedTuple):
    caller: str
    callee: str


class Profile(NamedTuple):
    total: int
    """Instructions that were counted."""
    own: Counter[str]
    """Instructions in a function itself."""
    calls: Counter[Call]
    """Instructions in calls, with all that they call in turn."""


def run(command: list[str], *options: str) -> Profile:
    """Runs a program under callgrind. It must succeed."""
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "callgrind.out"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *options]
        # Few variables, always the same: what a program's environment holds is on its stack.
        done = subprocess.run(
            [*valgrind, *map(str, command)],
            env={"LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))} failed under valgrind:\n{done.stdout}")
        return parse(out.read_text())


def parse(text: str) -> Profile:
    """Reads callgrind's output: https://valgrind.org/docs/manual/cl-format.html, as far as callgrind uses it."""
    names: dict[str, str] = {}

    def name(compressed: str) -> str:
        # A name stands behind its number the first time; later the number stands alone.
        match = re.match(r"(\(\d+\))(?: (.*))?$", compressed)
        if match is None:
            return compressed
        if match[2] is not None:
            names[match[1]] = match[2]
        return names[match[1]]

    own: Counter[str] = Counter()
    calls: Counter[Call] = Counter()
    function = callee = ""
    of_call = False
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key == "fn":
            function = name(value)
        elif equals and key == "cfn":
            callee = name(value)
        elif equals and key == "calls":
            of_call = True
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            # Position and cost; without a cost, zero.
            cost = int(line.split()[1]) if " " in line else 0
            if of_call:
                calls[Call(function, callee)] += cost
            else:
                own[function] += cost
            of_call = False
    return Profile(sum(own.values()), own, calls)
