#!/usr/bin/env python3
"""How much of what two independent one-thread processes reach together one process with two threads reaches.

    scripts/threads.py HOST_CLI [--rounds N] [--dim D] [--queries N] [--documents N] [--batch-size N]

Makes a data set with `host-cli synthesize` in a temporary folder and takes turns, round after round: two processes with
`--threads 1` at the same time, and one with `--threads 2` that does the work of one of them; its rate is twice that of
the pair when it takes half the time. Prints, for `train`, with batches of 64 if nothing else is said, `evaluate` and both forms of `apply`, the
medians of the wall-clock times and the ratio: 1 means that threads lose nothing against processes. A process that does
next to nothing is timed as well and subtracted: starting up and reading files is not what threads divide.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path


def wall(commands: list[list[str]]) -> float:
    """Seconds until all of some processes, started together, have ended."""
    start = time.perf_counter()
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    if any([process.wait() for process in processes]):
        raise SystemExit(f"failed: {commands}")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("host_cli", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--documents", type=int, default=4_000)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    binary = str(options.host_cli.resolve())
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        size = f"--queries {options.queries} --documents {options.documents} --dim {options.dim} -o set"
        subprocess.run([binary, "synthesize", *size.split()], check=True)
        settings = f"--validation set/validation.json --embeddings set --epochs 1 --batch-size {options.batch_size}"
        train = f"train set/train.json {settings}"
        subprocess.run([binary, *train.split(), "-q", "-o", "a.qad"], check=True, stdout=subprocess.DEVNULL)
        with open("lines.jsonl", "w", encoding="ascii") as lines:
            apply = [binary, "apply", "-a", "a.qad", "-i", "set/queries.npy"]
            subprocess.run(apply, stdout=lines, check=True)
        # The same files with so few queries that only the fixed cost is left.
        whole = json.loads(Path("set/train.json").read_text(encoding="ascii"))
        answers = whole["relevant_docs"]
        first = next(iter(answers))
        # Training needs two documents.
        second = next(query for query in answers if answers[query] != answers[first])
        whole["relevant_docs"] = {query: answers[query] for query in (first, second)}
        Path("set/few.json").write_text(json.dumps(whole), encoding="ascii")
        Path("few.jsonl").write_text(Path("lines.jsonl").read_text(encoding="ascii").split("\n", 1)[0] + "\n")
        train = f"train FILE {settings} -q -o OUT.qad --force"
        cases = {
            "train": (train.replace("FILE", "set/train.json"), train.replace("FILE", "set/few.json")),
            "evaluate": ("evaluate set/train.json --embeddings set -q", "evaluate set/few.json --embeddings set -q"),
            "apply .npy": ("apply -a a.qad -i set/queries.npy -o OUT.npy --force", "apply -a a.qad -i few.jsonl -o OUT.npy --force"),
            "apply lines": ("apply -a a.qad -i lines.jsonl -o OUT.jsonl --force", "apply -a a.qad -i few.jsonl -o OUT.jsonl --force"),
        }
        print(f"load average {os.getloadavg()[0]:.2f}, {options.rounds} rounds, medians")
        for name, (words, few) in cases.items():
            def command(words: str, threads: int, out: str) -> list[str]:
                return [binary, *words.replace("OUT", out).split(), "--threads", str(threads)]

            times: dict[str, list[float]] = {"two processes": [], "two threads": [], "start": []}
            for _ in range(options.rounds):
                times["two processes"].append(wall([command(words, 1, "a"), command(words, 1, "b")]))
                times["two threads"].append(wall([command(words, 2, "a")]))
                times["start"].append(wall([command(few, 1, "a")]))
            processes, threads, start = (statistics.median(times[key]) for key in times)
            ratio = (processes - start) / (2 * (threads - start))
            print(
                f"{name:12} two processes {processes:.3f} s, two threads {threads:.3f} s, start {start:.3f} s: "
                f"threads reach {ratio:.2f} of what processes do (start not subtracted: {processes / (2 * threads):.2f})"
            )


if __name__ == "__main__":
    main()
