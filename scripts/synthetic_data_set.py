#!/usr/bin/env python3
"""Writes a data set of random vectors, of the size of a small real one, for measurements that need no meaning.

usage: scripts/synthetic_data_set.py DIRECTORY [--train N] [--test N] [--dim D] [--seed S]

Writes train.json, test.json and their vectors (queries.npy, corpus.npy and the lists of ids). Every document answers two
questions, and no document is in both splits. A question's vector is its document's with noise, so that
there is something to find and something to learn. The same arguments give the same files. Needs nothing beyond Python's
own library.
"""

import argparse
import array
import json
import pathlib
import random
import struct
import sys


def write_npy(path: pathlib.Path, rows: list[array.array], dim: int) -> None:
    """float32, little-endian, C order, version 1.0 of the format."""
    header = str({"descr": "<f4", "fortran_order": False, "shape": (len(rows), dim)})
    # The data begin at a multiple of 64 bytes.
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    with path.open("wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("ascii"))
        for row in rows:
            if sys.byteorder != "little":
                row.byteswap()
            row.tofile(file)


def write(directory: pathlib.Path, train: int, test: int, dim: int, seed: int = 0) -> None:
    """The whole data set."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = random.Random(seed)
    all_queries, query_ids, all_documents, document_ids = [], [], [], []
    for split, queries in (("train", train), ("test", test)):
        data = {"queries": {}, "corpus": {}, "relevant_docs": {}, "mode": "text"}
        for number in range(queries):
            if number % 2 == 0:
                document = f"{split}-document-{number // 2}"
                vector = array.array("f", (generator.gauss(0, 1) for _ in range(dim)))
                data["corpus"][document] = f"text of {document}"
                document_ids.append(document)
                all_documents.append(vector)
            query = f"{split}-query-{number}"
            data["queries"][query] = f"text of {query}"
            data["relevant_docs"][query] = [document]
            query_ids.append(query)
            all_queries.append(array.array("f", (x + generator.gauss(0, 3) for x in vector)))
        (directory / f"{split}.json").write_text(json.dumps(data))
    write_npy(directory / "queries.npy", all_queries, dim)
    write_npy(directory / "corpus.npy", all_documents, dim)
    (directory / "query_ids.json").write_text(json.dumps(query_ids))
    (directory / "corpus_ids.json").write_text(json.dumps(document_ids))


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes a data set of random vectors.")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=668, help="questions to train on (668)")
    parser.add_argument("--test", type=int, default=790, help="questions to test on (790)")
    parser.add_argument("--dim", type=int, default=384, help="elements of a vector (384)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.directory, arguments.train, arguments.test, arguments.dim, arguments.seed)


if __name__ == "__main__":
    main()
