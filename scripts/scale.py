#!/usr/bin/env python3
"""How time and memory of `host-cli train` grow with dimension, batch, pairs and corpus: a table in Markdown.

    scripts/scale.py HOST_CLI [--folder DIR]

Makes data sets with `host-cli synthesize`, trains one epoch of each with negatives from the batch on one thread, and watches
/proc/PID/status (Linux): the peak of RssAnon is the memory of its own, beside files. Takes some minutes and
4 GB in the folder, a temporary one by default.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

# Queries (each with one document, so as many pairs), documents, dimension, batch.
CASES = [
    (100_000, 20_000, 384, 64),
    (100_000, 20_000, 768, 10),
    (100_000, 20_000, 768, 64),
    (100_000, 20_000, 768, 256),
    (100_000, 20_000, 1536, 64),
    (100_000, 200_000, 768, 64),
    (300_000, 20_000, 768, 64),
    (1_000_000, 200_000, 768, 64),
    (4_000_000, 200_000, 16, 64),
]


def watched(command: list[str]) -> tuple[float, int, dict]:
    """Seconds, peak of anonymous memory in KiB, and the JSON object that a command prints."""
    start = time.perf_counter()
    peak = 0
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
                peak = max(peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)
            except OSError:
                pass
            time.sleep(0.005)
        if process.returncode:
            raise SystemExit(f"failed: {command}")
        out.seek(0)
        return time.perf_counter() - start, peak, json.load(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("host_cli", type=Path)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    binary = str(options.host_cli.resolve())
    print(f"load average {os.getloadavg()[0]:.2f}")
    print("| queries | documents | d | batch | distinct queries visited | epoch s | µs a pair | all s | anonymous MB |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for queries, documents, dim, batch in CASES:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            size = f"--queries {queries} --documents {documents} --dim {dim} -o {folder}/set"
            subprocess.run([binary, "synthesize", *size.split()], check=True, stdout=subprocess.DEVNULL)
            train = (
                f"train {folder}/set/train.json --validation {folder}/set/validation.json --embeddings {folder}/set "
                f"--negatives in-batch --epochs 1 --batch-size {batch} --threads 1 -o {folder}/a.qad --json -q"
            )
            seconds, peak, report = watched([binary, *train.split()])
        fit = report["train"]
        print(
            f"| {queries} | {documents} | {dim} | {batch} | {fit['queries_visited']} | {fit['seconds']:.1f} "
            f"| {fit['seconds'] / fit['pairs'] * 1e6:.1f} | {seconds:.1f} | {peak / 1024:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
