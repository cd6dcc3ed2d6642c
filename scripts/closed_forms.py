#!/usr/bin/env python3
"""Prints what adapters in closed form reach on the training and validation splits of data sets, in Markdown.

usage: scripts/closed_forms.py [--train] DATA_DIR [MODEL]

DATA_DIR is as for scripts/real_data_table.py; test splits are not looked at. Training and validation queries are dealt to
three folds, which share no document unless most validation queries have answers that training queries have too. Each form
is fitted to two folds and measured on the third, by nDCG@10 of all queries, at the whole and at half of the way from the base;
of these, and of ridge regression's dampings, the best is printed. All queries take part in that choice, which flatters.

- ridge: the W that brings queries nearest to the mean of their answers, damped toward the identity
- Procrustes: the orthogonal matrix that does so
- constrained: RAGLite's, the orthogonal matrix that brings queries nearest to the points, each nearest to its query, from
  which every answer among the 40 nearest documents is nearer than every other one by a margin of 5 %; directions that no
  query has are left alone

With --train each form is where training starts from instead, and so is the identity: second-order steps as the recipe takes
them (lr 0.03, damping 30, scale 30, batches of 64, candidates are the answers of all training queries), looked at after 1, 2,
4, … 32 epochs, each time at the mean of the weights over the second half. Of ridge regression's dampings the middle one is
taken; the best of the epochs is printed, at the whole of the way.

Needs NumPy and SciPy.
"""

import argparse
import json
import pathlib

import numpy
from scipy.optimize import nnls

FOLDS = 3
DAMPINGS = (1.0, 10.0, 100.0)
NEAREST, MARGIN = 40, 0.05
LR, DAMPING, SCALE, BATCH, STOPS = 0.03, 30.0, 30.0, 64, (1, 2, 4, 8, 16, 32)


def unit(rows):
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def load(folder, model):
    """Queries and documents as unit rows, the answers of each query, and the number of queries of the training split."""
    splits = [json.loads((folder / name).read_text()) for name in ("train.json", "val.json") if (folder / name).exists()]
    vectors = {}
    for kind, file in (("corpus", "corpus_ids.json"), ("queries", "query_ids.json")):
        ids = json.loads((folder / model / file).read_text())
        vectors[kind] = dict(zip(ids, numpy.load(folder / model / f"{kind}.npy").astype(float)))
    documents = sorted(splits[0]["corpus"])
    place = {document: at for at, document in enumerate(documents)}
    queries, answers = [], []
    for split in splits:
        for query, relevant in split["relevant_docs"].items():
            queries.append(vectors["queries"][query])
            answers.append(sorted({place[document] for document in relevant}))
    in_training = len(splits[0]["relevant_docs"])
    documents = numpy.array([vectors["corpus"][document] for document in documents])
    return unit(numpy.array(queries)), unit(documents), answers, in_training


def folds_of(answers, in_training):
    """The fold of each query."""
    known = set().union(*answers[:in_training])
    later = answers[in_training:]
    rng = numpy.random.default_rng(0)
    if later and sum(not known.isdisjoint(of_query) for of_query in later) * 2 > len(later):
        return rng.permutation(len(answers)) % FOLDS
    # Queries with a common answer, however remote, are in one group.
    root = list(range(1 + max(map(max, answers))))

    def find(document):
        while root[document] != document:
            document = root[document]
        return document

    for of_query in answers:
        for document in of_query:
            root[find(document)] = find(of_query[0])
    groups = numpy.array([find(of_query[0]) for of_query in answers])
    names = rng.permutation(numpy.unique(groups))
    fold_of = {name: at % FOLDS for at, name in enumerate(names)}
    return numpy.array([fold_of[group] for group in groups])


def ndcg(queries, documents, answers):
    """nDCG@10 of each query; of equal scores the first document."""
    discounts = 1.0 / numpy.log2(numpy.arange(2, 12))
    values = []
    for scores, relevant in zip(unit(queries) @ documents.T, answers):
        top = numpy.argsort(-scores, kind="stable")[:10]
        gained = discounts[: len(top)][numpy.isin(top, relevant)].sum()
        values.append(gained / discounts[: min(10, len(relevant))].sum())
    return values


def means(documents, answers):
    return unit(numpy.array([documents[of_query].mean(axis=0) for of_query in answers]))


def ridge(damping):
    def fit(queries, documents, answers):
        dim = queries.shape[1]
        moments = queries.T @ queries + damping * len(queries) / dim * numpy.eye(dim)
        change = numpy.linalg.solve(moments, queries.T @ (means(documents, answers) - queries))
        return numpy.eye(dim) + change.T

    return fit


def orthogonal(product):
    left, _, right = numpy.linalg.svd(product)
    return left @ right


def procrustes(queries, documents, answers):
    return orthogonal(means(documents, answers).T @ queries)


def constrained(queries, documents, answers):
    from_queries, targets = [], []
    for query, relevant in zip(queries, answers):
        nearest = numpy.argsort(-(documents @ query), kind="stable")[:NEAREST]
        is_answer = numpy.isin(nearest, relevant)
        found = is_answer.sum()
        # Nothing to learn from a query without an answer among them, or with all its answers first.
        if found in (0, len(nearest)) or is_answer[:found].all():
            continue
        pairs = documents[nearest[is_answer]][:, None] - (1 + MARGIN) * documents[nearest[~is_answer]][None]
        pairs = pairs.reshape(-1, len(query))
        forces, _ = nnls(pairs.T, -query, maxiter=100 * len(pairs))
        from_queries.append(query)
        targets.append(query + forces @ pairs)
    if not targets:
        return numpy.eye(queries.shape[1])
    from_queries, targets = numpy.array(from_queries), unit(numpy.array(targets))
    elsewhere = numpy.eye(queries.shape[1]) - numpy.linalg.pinv(from_queries) @ from_queries
    return orthogonal(targets.T @ from_queries / len(targets) + elsewhere)


def splits(queries, documents, answers, fold_of):
    """For each fold the queries, documents and answers to fit to, and the queries and answers held out."""
    for fold in range(FOLDS):
        train, held_out = numpy.flatnonzero(fold_of != fold), numpy.flatnonzero(fold_of == fold)
        of = [[answers[at] for at in part] for part in (train, held_out)]
        yield (queries[train], documents, of[0]), queries[held_out], of[1]


def best(fits, queries, documents, answers, fold_of):
    """The best mean of nDCG@10 over all queries, each by a form that was fitted without its fold."""
    reached = []
    for fit in fits:
        values = {1.0: [], 0.5: []}
        for given, held_out, expected in splits(queries, documents, answers, fold_of):
            weight = fit(*given)
            for share, of_share in values.items():
                part = share * weight + (1 - share) * numpy.eye(len(weight))
                of_share += ndcg(held_out @ part.T, documents, expected)
        reached += map(numpy.mean, values.values())
    return max(reached)


def gradient(weight, queries, candidates, is_answer):
    """Of the mean cross-entropy of each query and each of its answers with regard to `queries @ weight.T`; each query counts
    once, and its other answers are no wrong ones."""
    outputs = queries @ weight.T
    norms = numpy.linalg.norm(outputs, axis=1, keepdims=True)
    outputs /= norms
    scores = SCALE * outputs @ candidates.T
    scores = numpy.exp(scores - scores.max(axis=1, keepdims=True))
    wrong = numpy.where(is_answer, 0.0, scores)
    share = is_answer / is_answer.sum(axis=1, keepdims=True)
    sums = scores + wrong.sum(axis=1, keepdims=True)
    of_scores = wrong * (share / sums).sum(axis=1, keepdims=True) + share * (scores / sums - 1.0)
    of_outputs = SCALE / len(queries) * of_scores @ candidates
    return (of_outputs - (of_outputs * outputs).sum(axis=1, keepdims=True) * outputs) / norms


def trained(start, queries, documents, answers):
    """The weights at each stop."""
    positives = sorted(set().union(*answers))
    is_answer = numpy.array([numpy.isin(positives, of_query) for of_query in answers])
    candidates = documents[positives]
    moments = queries.T @ queries
    dim = len(moments)
    steered = queries @ numpy.linalg.inv(moments / numpy.trace(moments) + DAMPING / dim * numpy.eye(dim))
    rng = numpy.random.default_rng(0)
    weight, run, stops = start.copy(), [], []
    for epoch in range(1, STOPS[-1] + 1):
        order = rng.permutation(len(queries))
        total, steps = numpy.zeros_like(weight), 0
        for at in range(0, len(order), BATCH):
            rows = order[at : at + BATCH]
            weight -= LR * gradient(weight, queries[rows], candidates, is_answer[rows]).T @ steered[rows]
            total, steps = total + weight, steps + 1
        run.append(total / steps)
        if epoch in STOPS:
            stops.append(numpy.mean(run[epoch // 2 :], axis=0))
    return stops


def best_trained(fit, queries, documents, answers, fold_of):
    """The best mean of nDCG@10 over all queries of a run's stops, the run and where it starts from without their fold."""
    values = [[] for _ in STOPS]
    for given, held_out, expected in splits(queries, documents, answers, fold_of):
        for of_stop, weight in zip(values, trained(fit(*given), *given)):
            of_stop += ndcg(held_out @ weight.T, documents, expected)
    return max(map(numpy.mean, values))


def identity(queries, _documents, _answers):
    return numpy.eye(queries.shape[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", action="store_true")
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("model", nargs="?", default="all-MiniLM-L6-v2")
    arguments = parser.parse_args()
    model = arguments.model
    columns = (["identity"] if arguments.train else []) + ["ridge", "Procrustes", "constrained"]
    print("| data set | base | " + " | ".join(columns) + " |" + "\n|---|---" + len(columns) * "|---" + "|", flush=True)
    for folder in sorted(path for path in arguments.data.iterdir() if (path / model).is_dir()):
        queries, documents, answers, in_training = load(folder, model)
        given = (queries, documents, answers, folds_of(answers, in_training))
        values = [numpy.mean(ndcg(queries, documents, answers))]
        if arguments.train:
            starts = (identity, ridge(DAMPINGS[1]), procrustes, constrained)
            values += [best_trained(fit, *given) for fit in starts]
        else:
            forms = (map(ridge, DAMPINGS), [procrustes], [constrained])
            values += [best(fits, *given) for fits in forms]
        print(f"| {folder.name} | " + " | ".join(f"{value:.4f}".removeprefix("0") for value in values) + " |", flush=True)


main()
