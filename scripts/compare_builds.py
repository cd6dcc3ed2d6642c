#!/usr/bin/env python3
"""Times the same cases in two builds of `bench-case`, in turns and on one core.

usage: scripts/compare_builds.py BEFORE AFTER CASE... [--rounds N] [--core N]

BEFORE and AFTER are programs `bench-case`, copied away after `cargo build --release --package query-adapter-benches`; a case
is a name as `bench-case list` prints them, and others of that form. Where neighbours share the machine, two runs one after
the other say little: here whatever disturbs one build disturbs the other as much. Prints the best and the lower quartile
of each, in microseconds, and how many times as fast AFTER is. Needs nothing beyond Python's own library.
"""

import argparse
import os
import statistics
import subprocess
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("cases", nargs="+", metavar="CASE")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--core", type=int, help="the core both run on (Linux); without it one of those allowed")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        # Children inherit it.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0)) if arguments.core is None else arguments.core})
    builds = [
        subprocess.Popen([build, "time"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for build in (arguments.before, arguments.after)
    ]
    print("| case | before, best | after, best | times as fast | quartile | quartile | times as fast |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for case in arguments.cases:
        samples: list[list[float]] = [[], []]
        for round_ in range(max(2, arguments.rounds)):
            for which in (0, 1) if round_ % 2 == 0 else (1, 0):
                samples[which].append(microseconds(builds[which], case))
        columns = []
        for of in (min, lambda values: statistics.quantiles(values, n=4)[0]):
            before, after = map(of, samples)
            columns += [f"{before:.2f}", f"{after:.2f}", f"{before / after:.2f}"]
        print(f"| {case} | {' | '.join(columns)} |", flush=True)
    for build in builds:
        build.communicate()
    return 0


def microseconds(build: subprocess.Popen[str], case: str) -> float:
    assert build.stdin is not None and build.stdout is not None
    try:
        print(case, file=build.stdin, flush=True)
        return float(build.stdout.readline()) * 1e6
    except (BrokenPipeError, ValueError):
        sys.exit(f"{build.args[0]} does not time {case}")


if __name__ == "__main__":
    sys.exit(main())
