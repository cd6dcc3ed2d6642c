#!/usr/bin/env python3
"""Times PyTorch and NumPy beside the kernel, in turns in one run on one thread, and prints the ratios.

usage: scripts/pytorch_peer.py [--quick] [--only matvec|train_step|end_to_end]
                               [--train FILE --test FILE --embeddings DIRECTORY]

- matvec: `W @ q` by NumPy (OpenBLAS in its wheels), in the better of the two layouts.
- train_step: cosines × 20, cross-entropy, clipping at norm 1, AdamW with `fused=True`; vectors ready, documents normalised.
- end_to_end: wall-clock time of `host-cli train --recipe reference --epochs 4` with evaluation, from the start of the process to
  the saved adapter, beside the bare steps of the same training in PyTorch: vectors in memory, import and set-up not
  counted, no evaluation. Without the three files, on a synthetic data set of 668 questions to train on and 790 to test on, in 384
  dimensions: 268 steps.

Needs torch, numpy and the Rust toolchain. Where torch cannot be imported it says so and ends with 0.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

# Before NumPy and PyTorch are imported: one thread.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

try:
    import numpy
    import torch
    from torch.nn import functional
except ImportError as error:
    print(f"nothing to compare with: {error}; the kernel's own benchmarks are `cargo bench`")
    sys.exit(0)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import callgrind

MATVEC_DIMS = (128, 384, 768, 1024, 1536)
STEP_SHAPES = [(dim, rows) for dim in (384, 768, 1536) for rows in (10, 32, 64, 256)]
SCALE, CLIP, EPOCHS, BATCH = 20.0, 1.0, 4, 10


class Kernel:
    """The benchmark program, asked for one case after the other."""

    def __init__(self) -> None:
        program = callgrind.build("bench-case")
        listed = subprocess.run([program, "list"], check=True, capture_output=True, text=True).stdout
        # The level that all operations but matvec are listed with is the machine's best.
        self.level = next(name.split("/")[2] for name in listed.split() if name.startswith("train_step/"))
        self.process = subprocess.Popen([program, "time"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, case: str) -> float:
        """Processor time of one repetition."""
        print(f"{case}/{self.level}", file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"bench-case ended while it timed {case}")
        return float(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def seconds(operation) -> float:
    """Processor time of one repetition, like the kernel's: after one to warm up, for at least 200 µs."""
    operation()
    start = time.process_time()
    operation()
    once = max(time.process_time() - start, 1e-9)
    repetitions = max(1, min(100_000, int(200e-6 / once)))
    start = time.process_time()
    for _ in range(repetitions):
        operation()
    return (time.process_time() - start) / repetitions


def summaries(samples: list[tuple[float, ...]]) -> list[list[float]]:
    """The medians of all columns, and their bests: what a busy machine disturbs least."""
    return [[summary(column) for column in zip(*samples)] for summary in (statistics.median, min)]


def head(name: str, other: str, unit: str) -> None:
    """The head of a table whose lines `row` prints."""
    sides = [unit, f"{other} {unit}", f"{other} ÷ ours"]
    print("| " + " | ".join([name, *sides, *(f"best {side}" for side in sides)]) + " |")
    print("|---|" + "--:|" * 6)


def row(name: str, medians_and_bests: list[tuple[float, float]], per_second: float) -> None:
    """Ours, theirs and how many times as long theirs takes, by medians and by bests."""
    cells = [
        f"{ours * per_second:.2f} | {theirs * per_second:.2f} | {theirs / ours:.2f}" for ours, theirs in medians_and_bests
    ]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def matvec(kernel: Kernel, rounds: int) -> None:
    blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    print(f"\nNumPy {numpy.__version__} with {blas.get('name')} {blas.get('version')}\n")
    head("matvec", "NumPy", "µs")
    for dim in MATVEC_DIMS:
        generator = numpy.random.default_rng(1)
        weight = generator.uniform(-1, 1, (dim, dim)).astype(numpy.float32)
        query = generator.uniform(-1, 1, dim).astype(numpy.float32)
        out = numpy.empty(dim, numpy.float32)
        forms = [lambda w=w: numpy.dot(w, query, out=out) for w in (weight, numpy.asfortranarray(weight))]
        samples = [(kernel.seconds(f"matvec/{dim}"), *map(seconds, forms)) for _ in range(rounds)]
        # The better layout by its median, and by its best.
        row(str(dim), [(ours, min(theirs)) for ours, *theirs in summaries(samples)], 1e6)


class TorchStep:
    """The training step on one batch."""

    def __init__(self, dim: int, lr: float) -> None:
        self.layer = torch.nn.Linear(dim, dim, bias=False)
        torch.nn.init.eye_(self.layer.weight)
        self.optimizer = torch.optim.AdamW(self.layer.parameters(), lr=lr, weight_decay=0.01, fused=True)

    def __call__(self, queries: torch.Tensor, documents: torch.Tensor, targets: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        scores = functional.normalize(self.layer(queries), dim=1) @ documents.T * SCALE
        functional.cross_entropy(scores, targets).backward()
        torch.nn.utils.clip_grad_norm_(self.layer.parameters(), CLIP)
        self.optimizer.step()


def train_step(kernel: Kernel, rounds: int) -> None:
    print(f"\nPyTorch {torch.__version__}, AdamW fused=True\n")
    head("train_step", "PyTorch", "µs")
    for dim, rows in STEP_SHAPES:
        # As the kernel's case: a learning rate of zero, so that each repetition meets the same problem.
        step = TorchStep(dim, lr=0.0)
        torch.nn.init.uniform_(step.layer.weight, -1, 1)
        batch = (torch.rand(rows, dim) * 2 - 1, functional.normalize(torch.rand(rows, dim) * 2 - 1), torch.arange(rows))
        samples = [(kernel.seconds(f"train_step/{dim}x{rows}"), seconds(lambda: step(*batch))) for _ in range(rounds)]
        row(f"{dim}x{rows}", summaries(samples), 1e6)


def synthesize(directory: pathlib.Path) -> None:
    """A made-up data set of the size of a small real one."""
    host_cli = callgrind.build("host-cli")
    sizes = ["--queries", "668", "--documents", "686", "--dim", "384"]
    subprocess.run([host_cli, "synthesize", *sizes, "--output", directory], check=True, stdout=subprocess.DEVNULL)


def end_to_end(rounds: int, train: pathlib.Path, test: pathlib.Path, embeddings: pathlib.Path) -> None:
    host_cli = callgrind.build("host-cli")
    batches = reference_batches(train, embeddings)
    dim = batches[0][0].shape[1]
    samples = []
    with tempfile.TemporaryDirectory() as directory:
        output = pathlib.Path(directory) / "adapter.qad"
        command = [host_cli, "train", train, "--test", test, "--embeddings", embeddings, "--recipe", "reference"]
        command += ["--epochs", str(EPOCHS), "--output", output, "--force", "--quiet"]
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            ours = time.perf_counter() - start
            samples.append((ours, reference_steps(batches, dim)))
    print(f"\n{EPOCHS * len(batches)} steps in {dim} dimensions, wall-clock time\n")
    head("end to end", "PyTorch's bare steps", "ms")
    row("train --recipe reference", summaries(samples), 1e3)


def reference_batches(train: pathlib.Path, embeddings: pathlib.Path) -> list[tuple[torch.Tensor, ...]]:
    """Every question with its first label, in the order of the file, ten at a time."""
    data = json.loads(train.read_text())
    vectors = {}
    for kind, ids in (("queries", "query_ids"), ("corpus", "corpus_ids")):
        rows = json.loads((embeddings / f"{ids}.json").read_text())
        values = torch.from_numpy(numpy.load(embeddings / f"{kind}.npy").astype(numpy.float32))
        vectors[kind] = dict(zip(rows, values))
    pairs = [(query, labels[0]) for query, labels in data["relevant_docs"].items() if labels]
    batches = []
    for first in range(0, len(pairs), BATCH):
        queries, documents = zip(*pairs[first : first + BATCH])
        queries = torch.stack([vectors["queries"][query] for query in queries])
        documents = functional.normalize(torch.stack([vectors["corpus"][document] for document in documents]))
        batches.append((queries, documents, torch.arange(len(queries))))
    return batches


def reference_steps(batches: list[tuple[torch.Tensor, ...]], dim: int) -> float:
    """Wall-clock seconds of the reference's training, with its warm-up and linear decay."""
    step = TorchStep(dim, lr=2e-5)
    # What the first step allocates is not counted, nor is what it learns.
    step(*batches[0])
    steps = EPOCHS * len(batches)
    warm = steps // 10
    start = time.perf_counter()
    for number in range(steps):
        factor = number / max(1, warm) if number < warm else (steps - number) / max(1, steps - warm)
        for group in step.optimizer.param_groups:
            group["lr"] = 2e-5 * factor
        step(*batches[number % len(batches)])
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Times PyTorch and NumPy beside the kernel.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a first impression")
    parser.add_argument("--only", choices=("matvec", "train_step", "end_to_end"))
    for name in ("train", "test", "embeddings"):
        parser.add_argument(f"--{name}", type=pathlib.Path)
    arguments = parser.parse_args()
    files = (arguments.train, arguments.test, arguments.embeddings)
    if any(files) and not all(files):
        parser.error("--train, --test and --embeddings go together")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rounds = 7 if arguments.quick else 51

    print(f"{processor()}, one thread; medians and bests of {rounds} interleaved rounds; load average {os.getloadavg()[0]:.1f}")
    kernel = Kernel()
    if arguments.only in (None, "matvec"):
        matvec(kernel, rounds)
    if arguments.only in (None, "train_step"):
        train_step(kernel, rounds)
    kernel.close()
    if arguments.only in (None, "end_to_end"):
        with tempfile.TemporaryDirectory() as directory:
            if not all(files):
                data = pathlib.Path(directory)
                synthesize(data)
                files = (data / "train.json", data / "validation.json", data)
            end_to_end(max(5, rounds // 4), *files)


def processor() -> str:
    """The processor by the name it gives itself, where the system tells."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    fields = dict(map(str.strip, line.split(":", 1)) for line in reversed(lines) if ":" in line)
    return f"{fields.get('model name')} (family {fields.get('cpu family')}, model {fields.get('model')})"


if __name__ == "__main__":
    main()
