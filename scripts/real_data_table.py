#!/usr/bin/env python3
"""Prints the tables of gains on real data sets of the README and of docs/training-recipe.md, in Markdown.

usage: scripts/real_data_table.py HOST_CLI DATA_DIR [MODEL]

DATA_DIR holds a folder for each data set with train.json, test.json, perhaps val.json, and a folder MODEL with the
vectors. Each set is trained with seeds 0 to 4 and no settings beside the files; what each run came to is a line on stderr.
Needs nothing beyond Python's own library.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

SEEDS = range(5)


def trained(host_cli, folder, model, seed):
    """What `train --json` prints."""
    with tempfile.TemporaryDirectory() as out:
        command = [host_cli, "train", folder / "train.json", "--test", folder / "test.json"]
        command += ["--embeddings", folder / model, "--output", f"{out}/adapter.qad", "--seed", str(seed)]
        if (folder / "val.json").exists():
            command += ["--validation", folder / "val.json"]
        printed = subprocess.run([*map(str, command), "--json", "--quiet"], check=True, stdout=subprocess.PIPE)
        return json.loads(printed.stdout)


def mean(values):
    return sum(values) / len(values)


def bare(value):
    """A figure without its leading zero."""
    return f"{value:.4f}".removeprefix("0")


def interval(tests):
    """Of the gain; the means of its ends over the seeds."""
    lows, highs = zip(*(test["interval"]["ndcg@10"] for test in tests))
    return f"[{mean(lows):+.3f}, {mean(highs):+.3f}]"


def readme_row(name, runs):
    tests = [run["test"] for run in runs]
    base = tests[0]["base"]
    ndcg, hits = (mean([test["adapted"][metric] for test in tests]) for metric in ("ndcg@10", "hit_rate@5"))
    return (
        f"| {name} | {tests[0]['queries']} | {base['ndcg@10']:.4f} | **{ndcg:.4f}** "
        f"| {ndcg - base['ndcg@10']:+.4f} {interval(tests)} "
        f"| {base['hit_rate@5']:.4f} → {hits:.4f} |"
    )


def recipe_row(name, runs):
    tests = [run["test"] for run in runs]
    ndcg = [test["adapted"]["ndcg@10"] for test in tests]
    deviation = (sum((value - mean(ndcg)) ** 2 for value in ndcg) / (len(ndcg) - 1)) ** 0.5
    verdict = runs[0]["verdict"]
    low, high = verdict["interval"]
    kept = sum(run["train"]["kept"] == "adapter" for run in runs)
    return (
        f"| {name} | {tests[0]['queries']} | {bare(tests[0]['base']['ndcg@10'])} | **{bare(mean(ndcg))}** "
        f"| {bare(min(ndcg))} – {bare(max(ndcg))} | {bare(deviation)} "
        f"| {interval(tests)} | {kept} of {len(runs)} "
        f"| {verdict['gain']:+.4f} [{low:+.4f}, {high:+.4f}], n = {verdict['queries']} "
        f"| {len({tried['trial'] for tried in runs[0]['train']['tried']})} |"
    )


def main():
    host_cli, data = sys.argv[1], pathlib.Path(sys.argv[2])
    model = sys.argv[3] if len(sys.argv) > 3 else "all-MiniLM-L6-v2"
    folders = sorted(path for path in data.iterdir() if (path / model).is_dir())
    runs = {folder.name: [] for folder in folders}
    for seed in SEEDS:
        for folder in folders:
            run = trained(host_cli, folder, model, seed)
            runs[folder.name].append(run)
            kept, test, verdict = run["train"]["kept"], run["test"], run["verdict"]
            print(
                f"{folder.name}, seed {seed}: {test['adapted']['ndcg@10']:.4f}, {kept} kept, {verdict['finding']}, "
                f"{verdict['gain']:+.4f} {verdict['interval']}, {run['train']['seconds']:.1f} s",
                file=sys.stderr,
                flush=True,
            )

    print("| data set | test queries | base nDCG@10 | adapted nDCG@10 | gain, 95 % interval | hit rate@5 |")
    print("|---|---|---|---|---|---|")
    for name, of_set in runs.items():
        print(readme_row(name, of_set))
    print()
    print(
        "| data set | test queries | base | `auto`, mean | range | deviation | gain, 95 % interval | adapter kept "
        "| verdict, seed 0 | settings |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, of_set in runs.items():
        print(recipe_row(name, of_set))


main()
