#!/usr/bin/env python3
"""Shows where the instructions of a whole `host-cli train` run are, and that the benchmarks name the functions.

usage: scripts/instruction_share.py

Runs the program under callgrind on a synthetic data set and adds up, with all that they call in turn, the kernel's
functions that the program calls. Fails when those that a benchmark measures (docs/benchmarks.md) have less than 90 % of
all instructions.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
from collections import Counter

import callgrind

LEAST_SHARE = 0.90
QUERIES, DOCUMENTS, DIM = 400, 300, 384
"""Of the made-up data set; all settings but one thread are the program's defaults."""

KERNEL = re.compile(r"^<?query_adapter::")
VECTORIZED = re.compile(r"fearless_simd")
# Functions of the kernel by the benchmark that measures them.
BENCHMARKS = {
    "train_step": re.compile(r"query_adapter::(train|schedule)::(?!Trainer<\w+>::new)"),
    "apply_batch": re.compile(r"query_adapter::(linear::.*apply|forward)"),
    "top_k": re.compile(r"query_adapter::retrieve::"),
    "image_open, image_verify": re.compile(r"query_adapter::image::"),
}
PHASE = re.compile(r"<query_adapter::train::\w+::(\w+) as query_adapter::train::team::Phase>::run")


def main() -> int:
    if len(sys.argv) > 1:
        print(__doc__.strip())
        return 2
    callgrind.require()
    program = callgrind.build("host-cli")
    with tempfile.TemporaryDirectory() as directory:
        data = pathlib.Path(directory)
        sizes = ["--queries", str(QUERIES), "--documents", str(DOCUMENTS), "--dim", str(DIM)]
        subprocess.run([program, "synthesize", *sizes, "--output", data], check=True, stdout=subprocess.DEVNULL)
        profile = callgrind.run(
            [program, "train", data / "train.json", "--embeddings", data]
            + ["--output", data / "adapter.qad", "--recipe", "single", "--quiet", "--threads", "1"]
        )

    # Where the program enters the kernel. Calls within it, and from the SIMD crate back into it, are already in there.
    entries: Counter[str] = Counter()
    phases: Counter[str] = Counter()
    for (caller, callee), instructions in profile.calls.items():
        if not KERNEL.match(callee):
            continue
        if not (KERNEL.match(caller) or VECTORIZED.search(caller)):
            entries[callee] += instructions
        if phase := PHASE.match(callee):
            phases[phase[1]] += instructions

    measured: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for function, instructions in entries.items():
        benchmark = next((name for name, functions in BENCHMARKS.items() if functions.search(function)), None)
        if benchmark is None:
            others[f"{function} (kernel, no benchmark)"] += instructions
        else:
            measured[benchmark] += instructions
    for function, instructions in profile.own.items():
        if not (KERNEL.match(function) or VECTORIZED.search(function)):
            others[function] += instructions

    def line(name: str, instructions: int) -> None:
        print(f"{instructions:>16,}  {instructions / profile.total:6.1%}  {name}")

    print(f"host-cli train, {QUERIES} queries, {DOCUMENTS} documents, {DIM} dimensions: instructions, callgrind's count (AVX2)\n")
    line("all", profile.total)
    for benchmark, instructions in measured.most_common():
        line(benchmark, instructions)
        if benchmark == "train_step":
            for phase, part in phases.most_common():
                line(f"    {phase}", part)
    print("\noutside of the benchmarks, the ten largest (without what they call):\n")
    for function, instructions in others.most_common(10):
        line(function, instructions)

    share = sum(measured.values()) / profile.total
    verdict = "passed" if share > LEAST_SHARE else "FAILED"
    print(f"\n{verdict} {share:.1%} of the instructions are in functions that benchmarks name; at least {LEAST_SHARE:.0%}")
    return int(share <= LEAST_SHARE)


if __name__ == "__main__":
    sys.exit(main())
