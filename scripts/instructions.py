#!/usr/bin/env python3
"""Counts the instructions of the hot loop, and compares them with the record: a gate that no busy machine can shake.

usage: scripts/instructions.py            compare; fails when a count has grown by more than 3 %
       scripts/instructions.py --record   count twice and write the record

The counts are callgrind's, of one repetition of a benchmark (`bench-case count NAME`), on fixed data. They depend on the
compiler, so benches/instructions.json has a record for each version; a version without one is skipped. Instructions are
not time: a change that needs more of them and is faster all the same is recorded with the commit that makes it, and the
commit says so.
"""

import json
import pathlib
import subprocess
import sys

import callgrind

RECORD = callgrind.REPOSITORY / "benches" / "instructions.json"
GROWTH = 0.03
"""What a count may grow by: the parts of a loop move by less from one unrelated change to the next."""
NOISE = 0.001
"""What two counts of the same program may differ by."""
# Valgrind knows no AVX-512. Both forms of the gradient's norm: 10 rows take Gram, 64 take Direct.
CASES = [
    "matvec/384/avx2",
    "matvec/384/scalar",
    "apply_batch/384x64/avx2",
    "train_step/384x10/avx2",
    "train_step/384x10/scalar",
    "train_step/384x64/avx2",
    "train_step/384x64/scalar",
    "cross_entropy/64x64/avx2",
    "cross_entropy/64x64/scalar",
]


def compiler() -> str:
    """`rustc 1.95.0`: without the commit and the date."""
    printed = subprocess.run(["rustc", "--version"], cwd=callgrind.REPOSITORY, check=True, capture_output=True, text=True)
    return " ".join(printed.stdout.split()[:2])


def countable() -> list[str]:
    """The cases whose level this processor has: callgrind runs AVX2 only where the processor does."""
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return CASES
    missing = [case for case in CASES if case.endswith("/avx2") and "avx2" not in flags]
    for case in missing:
        print(f"{case}: left out, this processor has no AVX2")
    return [case for case in CASES if case not in missing]


def count(program: pathlib.Path, case: str) -> int:
    total = callgrind.run([program, "count", case], "--toggle-collect=*bench_case::counted*").total
    if total == 0:
        raise SystemExit(f"{case}: nothing was counted; is `counted` in benches/src/main.rs still a function?")
    return total


def record(program: pathlib.Path, version: str) -> int:
    counts = {}
    for case in CASES:
        counts[case], again = count(program, case), count(program, case)
        if abs(again - counts[case]) > NOISE * counts[case]:
            print(f"{case}: {counts[case]} instructions, then {again}: too far apart to be a record")
            return 1
        print(f"{case}: {counts[case]}")
    records = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    records[version] = counts
    RECORD.write_text(json.dumps(dict(sorted(records.items())), indent=2) + "\n")
    print(f"recorded for {version} in {RECORD.relative_to(callgrind.REPOSITORY)}")
    return 0


def compare(program: pathlib.Path, recorded: dict[str, int]) -> int:
    failed = False
    for case in countable():
        counted, before = count(program, case), recorded.get(case)
        if before is None:
            print(f"FAILED {case}: {counted} instructions, and no record")
            failed = True
            continue
        change = counted / before - 1
        line = f"{case}: {counted} instructions, {before} recorded, {change:+.2%}"
        if counted > before * (1 + GROWTH):
            print(f"FAILED {line}, more than {GROWTH:+.0%}")
            failed = True
        elif counted < before * (1 - GROWTH):
            print(f"passed {line}: record it, so that the gain stays")
        else:
            print(f"passed {line}")
    if failed:
        print("if this is meant: scripts/instructions.py --record, and commit benches/instructions.json with the reason")
    return int(failed)


def main() -> int:
    if sys.argv[1:] not in ([], ["--record"]):
        print(__doc__.strip())
        return 2
    callgrind.require()
    version = compiler()
    program = callgrind.build("bench-case")
    if sys.argv[1:] == ["--record"]:
        return record(program, version)
    recorded = json.loads(RECORD.read_text())
    if version not in recorded:
        callgrind.skip(f"no record for {version}, only for {', '.join(recorded)}; scripts/instructions.py --record makes one")
    return compare(program, recorded[version])


if __name__ == "__main__":
    sys.exit(main())
