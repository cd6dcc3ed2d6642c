#!/usr/bin/env python3
"""Prints the README's table of gains on real data sets, in Markdown.

usage: scripts/real_data_table.py HOST_CLI DATA_DIR [MODEL]

DATA_DIR holds a folder for each data set with train.json, test.json, perhaps val.json, and a folder MODEL with the
vectors. Each set is trained with seeds 0 to 4 and no settings beside the files. Needs nothing beyond Python's own library.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

host_cli, data = sys.argv[1], pathlib.Path(sys.argv[2])
model = sys.argv[3] if len(sys.argv) > 3 else "all-MiniLM-L6-v2"

print("| data set | test queries | base nDCG@10 | adapted nDCG@10 | gain, 95 % interval | hit rate@5 |")
print("|---|---|---|---|---|---|")
for folder in sorted(p for p in data.iterdir() if (p / model).is_dir()):
    results = []
    for seed in range(5):
        with tempfile.TemporaryDirectory() as out:
            command = [host_cli, "train", folder / "train.json", "--test", folder / "test.json"]
            command += ["--embeddings", folder / model, "--output", f"{out}/adapter.qad", "--seed", str(seed)]
            if (folder / "val.json").exists():
                command += ["--validation", folder / "val.json"]
            printed = subprocess.run([*map(str, command), "--json", "--quiet"], check=True, stdout=subprocess.PIPE)
            results.append(json.loads(printed.stdout)["test"])
    base, low_high = results[0]["base"], results[0]["interval"]["ndcg@10"]
    mean = lambda metric: sum(r["adapted"][metric] for r in results) / len(results)
    print(
        f"| {folder.name} | {results[0]['queries']} | {base['ndcg@10']:.4f} | **{mean('ndcg@10'):.4f}** "
        f"| {mean('ndcg@10') - base['ndcg@10']:+.4f} [{low_high[0]:+.3f}, {low_high[1]:+.3f}] "
        f"| {base['hit_rate@5']:.4f} → {mean('hit_rate@5'):.4f} |"
    )
