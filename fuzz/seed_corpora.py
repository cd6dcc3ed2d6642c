#!/usr/bin/env python3
"""Writes the first inputs of every fuzz target: python3 fuzz/seed_corpora.py FOLDER

Nothing here comes from the code under test: adapter files follow docs/adapter-format.md, data sets and matrices
docs/data-formats.md. The same files come out every time.
"""

import base64
import io
import json
import random
import struct
import sys
import zipfile
import zlib
from pathlib import Path

from seed_parquet import parquet_files, varint

LANES = 16


def text(value: str) -> bytes:
    data = value.encode()
    return varint(len(data)) + data


def floats(values: list[float]) -> bytes:
    data = struct.pack(f"<{len(values)}f", *values)
    return varint(len(data)) + data


def image(in_dim: int, out_dim: int, bias: bool, training: bytes, prefix: str = "") -> bytes:
    """An adapter that adds half of each input's neighbour; its golden pair is exact."""
    rows = [[(r == k) + 0.5 * (r == k + 1) for k in range(in_dim)] + [0.25] * bias for r in range(out_dim)]
    query = [1.0 + k % 3 for k in range(in_dim)]
    output = [sum(w * q for w, q in zip(row, query + [1.0] * bias, strict=True)) for row in rows]
    payload = panels(rows, "<16f", 0.0)
    return assemble(1, 1, bias, in_dim, out_dim, training, prefix, query, output, payload)


def int8_image(dim: int, bias: bool, training: bytes) -> bytes:
    """The same adapter as its difference from the identity, in eight bits."""
    rows = [[64 * (r == k + 1) for k in range(dim)] for r in range(dim)]
    scales = [[1 / 128] for _ in range(dim)]
    biases = [[0.25] for _ in range(dim)]
    query = [1.0 + k % 3 for k in range(dim)]
    output = [q + sum(d * q for d, q in zip(row, query, strict=True)) / 128 + 0.25 * bias for row, q in zip(rows, query, strict=True)]
    payload = panels(scales, "<16f", 0.0) + (panels(biases, "<16f", 0.0) if bias else b"") + panels(rows, "<16b", 0)
    return assemble(2, 3, bias, dim, dim, training, "", query, output, payload)


def panels(rows: list[list], form: str, zero: float) -> bytes:
    """Sixteen rows side by side, column after column."""
    cols, out = len(rows[0]), b""
    for first in range(0, len(rows), LANES):
        panel = rows[first : first + LANES]
        panel += [[zero] * cols] * (LANES - len(panel))
        out += b"".join(struct.pack(form, *(row[k] for row in panel)) for k in range(cols))
    return out


def assemble(
    kind: int, dtype: int, bias: bool, in_dim: int, out_dim: int, training: bytes, prefix: str,
    query: list[float], output: list[float], payload: bytes,
) -> bytes:
    metadata = varint(1) + text("seed 1") + text("a/model") + text(prefix) + text("") + b"\0\1" + training
    metadata += floats(query) + floats(output)
    offset = (64 + len(metadata) + 63) // 64 * 64
    header = b"\x89QADP\r\n\x1a" + struct.pack("<HBBIIIIII", 1, kind, dtype, bias, in_dim, out_dim, 0, len(metadata), offset)
    header += struct.pack("<IQIQ", zlib.crc32(metadata), len(payload), zlib.crc32(payload), 0)
    header += struct.pack("<I", zlib.crc32(header))
    return header + metadata + bytes(offset - 64 - len(metadata)) + payload


def images() -> dict[str, bytes]:
    run = b"\1" + text("plain") + text("adamw") + varint(8) + varint(3) + varint(300) + varint(64)
    run += struct.pack("<ff", 0.01, 20.0) + varint(42) + varint(1000)
    validated = run + b"\1" + struct.pack("<ff", 0.5, 0.75)
    good = {
        "smallest": image(1, 1, False, b"\0"),
        "bias": image(3, 2, True, b"\0", "query: "),
        "two_panels": image(2, 17, True, run + b"\0"),
        "int8": int8_image(3, True, run + b"\0"),
        "int8_two_panels": int8_image(17, False, b"\0"),
        "validated": image(5, 5, True, validated, "Represent this sentence: "),
    }
    whole = good["bias"]
    return good | {
        "cut_off": whole[:-1],
        "header_only": whole[:64],
        "flipped": whole[:70] + bytes([whole[70] ^ 1]) + whole[71:],
        "later_version": whole[:8] + b"\2" + whole[9:],
        "longer": whole + b"\0",
    }


def data_sets() -> dict[str, bytes]:
    queries = {"q1": "how often?", "q2": "where is it kept?", "3": "who has the key?"}
    corpus = {"d1": "Once a week.", "d2": "In the shed.", "d3": "The warden.", "d4": "In the shed."}
    relevant = {"q1": ["d1"], "q2": ["d2", "d4"], "3": ["d3"]}
    vectors = {
        "query_embeddings": {id: [0.5, -0.25, i + 0.125] for i, id in enumerate(queries)},
        "corpus_embeddings": {id: [-1, 2.5e-3, i] for i, id in enumerate(corpus)},
    }
    plain = {"queries": queries, "corpus": corpus, "relevant_docs": relevant, "mode": "text"}
    whole = plain | vectors
    graded = {"q1": {"d1": 2, "d2": 0, "d3": 0.5}, "q2": "d2", "3": ["d3", "d3", "gone"], "absent": ["d1"]}
    sets = {
        "plain": plain,
        "whole": whole,
        "graded": whole | {"relevant_docs": graded, "negative_docs": {"q1": ["d1", "d2"], "q2": ["gone"]}},
        "nulls": plain | {"mode": None, "negative_docs": None, "query_embeddings": None},
        "integer_ids": {"queries": {"1": "a"}, "corpus": {"2": "b"}, "relevant_docs": {"1": [2]}},
        "uneven": whole | {"query_embeddings": {"q1": [1, 2, 3], "q2": [1, 2]}},
        "unknown_key": {"notes": [{"a": [1, {}]}]} | plain,
        "empty": {"queries": {}, "corpus": {}, "relevant_docs": {}},
        "rows": [{"query": "a", "positive": "b"}],
    }
    files = {name: json.dumps(value).encode() for name, value in sets.items()}
    indented = json.dumps(whole, indent=1).encode()
    return files | {
        "byte_order_mark": b"\xef\xbb\xbf" + files["plain"],
        "cut_off": indented[: len(indented) // 2],
        "not_a_number": indented.replace(b"-0.25", b"NaN", 1),
        "out_of_range": indented.replace(b"-0.25", b"-4e38", 1),
        "many_digits": indented.replace(b"-0.25", b"1.00000005960464477539062500001", 1),
        "key_twice": files["plain"].replace(b'"q2": "where', b'"q1": "where'),
        "trailing": files["plain"] + b"\n{}",
        "escapes": files["whole"].replace(b"shed", b"sh\\u00e9d\\n\\ud83d\\ude00"),
    }


def npy(descr: str, fortran: bool, shape: str, data: bytes, major: int = 1) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}"
    length = "<H" if major == 1 else "<I"
    fixed = 8 + struct.calcsize(length)
    header += " " * (-(fixed + len(header) + 1) % 64) + "\n"
    return b"\x93NUMPY" + bytes([major, 0]) + struct.pack(length, len(header)) + header.encode() + data


def matrices() -> dict[str, bytes]:
    values = [1.5, -2.0, 0.25, 4.0, 5.5, -6.0]
    files = {}
    for size, code in ((2, "e"), (4, "f"), (8, "d")):
        for order in "<>":
            for fortran in (False, True):
                data = struct.pack(f"{order}6{code}", *values)
                name = f"f{size}_{'little' if order == '<' else 'big'}_{'columns' if fortran else 'rows'}"
                files[name] = npy(f"{order}f{size}", fortran, "(2, 3)", data)
    data = struct.pack("<6f", *values)
    whole = npy("<f4", False, "(2, 3)", data)
    return files | {
        "version_2": npy("<f4", False, "(2, 3)", data, 2),
        "version_3": npy("<f4", False, "(3, 2)", data, 3),
        "no_rows": npy("<f4", False, "(0, 3)", b""),
        "no_components": npy("<f4", False, "(3, 0)", b""),
        "one_dimension": npy("<f4", False, "(6,)", data),
        "three_dimensions": npy("<f4", False, "(1, 2, 3)", data),
        "integers": npy("<i4", False, "(2, 3)", data),
        "cut_off": whole[:-1],
        "header_cut_off": whole[:40],
        "not_finite": npy("<f4", False, "(1, 2)", struct.pack("<2f", float("nan"), float("inf"))),
        "beyond_f32": npy("<f8", False, "(1, 2)", struct.pack("<2d", 1e300, 1e-300)),
        "too_many": npy("<f4", False, "(18446744073709551615, 2)", data),
    }


def row_sets() -> dict[str, bytes]:
    forms = {
        "pairs": [{"query": "a", "positive": "p"}, {"query": "b", "positive": "r"}],
        "triplets": [{"anchor": "a", "positive": "p", "negative": "n"}, {"anchor": "b", "positive": "r", "negative_2": "p"}],
        "lists": [{"query": "a", "pos": ["p", "q"], "neg": []}, {"query": "a", "pos": [], "neg": ["p"]}],
        "objects": [{"query_id": 1, "query": "a", "positive_passages": [{"docid": "7", "title": "T", "text": "p"}]}],
        "graded": [{"question": "a", "chunk_id": 3, "chunk": "p", "score": 0.5, "title": ""}, {"question": "a", "chunk": "q", "score": True}],
        "conflict": [{"id": 1, "query": "a", "positive": "p"}, {"id": 1, "query": "b", "positive": "p"}],
        "unknown": [{"left": "a", "right": "b"}],
    }
    files = {}
    for name, rows in forms.items():
        files[f"{name}_list"] = json.dumps(rows).encode()
        files[f"{name}_lines"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    files["windows"] = b"\xef\xbb\xbf" + files["pairs_lines"].replace(b"\n", b"\r\n\r\n")
    files["spread"] = b"".join(json.dumps(row, indent=1).encode() for row in forms["triplets"])
    files["cut_off"] = files["triplets_lines"][:-20]
    files["one_object"] = data_sets()["whole"]
    return files


def judgements() -> dict[str, bytes]:
    return {
        "beir": b"query-id\tcorpus-id\tscore\n1\td 1\t2\n2\td2\t0\n",
        "trec": b"1 0 d1 1\n1 Q0 d2 -1\n",
        "windows": b"\xef\xbb\xbf1\td1\t1.5\r\n\r\n2\td2\t1\r\n",
        "rows": b'{"query-id": 1, "corpus-id": "d1", "score": 1}\n{"query-id": "2", "corpus-id": "d2"}\n',
        "by_query": b'{"1": {"d1": 2, "d 2": 0}, "2": ["d1", 7], "3": "d1"}',
        "two_grades": b"1 0 d1 1\n1 0 d2 1\n1 0 d1 2\n",
        "words": b"1 d1 high\n",
        "columns": b"1\td1\t1\textra\t2\n",
        "not_finite": b"1 d1 nan\n1 d1 inf\n",
    }


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict | None = None, pad: int = 0) -> bytes:
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + data


def npz(arrays: dict[str, bytes], method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, array in arrays.items():
            # Always the same time, so that the file is.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array, method)
    return out.getvalue()


def vector_files() -> dict[str, bytes]:
    a, b = [0.5, -0.25, 1e-45], [-1.0, 0.75, -0.0]
    packed = [base64.b64encode(struct.pack("<3f", *row)).decode() for row in (a, b)]
    values = struct.pack("<6f", *a, *b)
    names = npy("<U2", False, "(2,)", "a\0b\0".encode("utf-32-le"))
    answers = {
        "openai": {"data": [{"index": 1, "embedding": b}, {"index": 0, "embedding": a}], "usage": {}},
        "openai_base64": {"data": [{"index": i, "embedding": text} for i, text in enumerate(packed)]},
        "llama_cpp": [{"index": 0, "embedding": [a]}, {"index": 1, "embedding": [b]}],
        "tokens": [{"index": 0, "embedding": [a, b]}],
        "ollama": {"embeddings": [a, b]},
        "inference": [a, b],
        "cohere": {"id": "x", "embeddings": {"float": [a, b]}},
        "gemini": {"embeddings": [{"values": a}, {"values": b}]},
        "vertex": {"predictions": [{"embeddings": {"values": a}}]},
        "by_id": {"a": a, "b": b},
        "uneven": [a, b[:2]],
        "null": {"embedding": None},
    }
    files = {name: json.dumps(value).encode() for name, value in answers.items()}
    rows = [{"id": "a", "embedding": a}, {"id": 7, "vector": b}]
    batch = [{"custom_id": "a", "response": {"body": answers["ollama"] | {"embeddings": [a]}}}]
    matrix = npy("<f4", False, "(2, 3)", values)
    files |= {
        "lines": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "batch": "".join(json.dumps(row) + "\n" for row in batch).encode(),
        "not_a_number": b'{"id": "a", "embedding": [1, NaN]}',
        "npy": matrix,
        "npz_stored": npz({"embeddings": matrix, "ids": names}, zipfile.ZIP_STORED),
        "npz_deflated": npz({"arr_0": matrix, "ids": npy("<i8", False, "(2,)", struct.pack("<2q", 1, -2))}, zipfile.ZIP_DEFLATED),
        "safetensors": safetensors({"embeddings": ("F32", [2, 3], values)}, {"ids": '["a", "b"]'}),
        "safetensors_unaligned": safetensors({"x": ("F32", [2, 3], values)}, {}, 1),
        "safetensors_f16": safetensors({"x": ("F16", [1, 3], struct.pack("<3e", *b))}),
        "safetensors_bf16": safetensors({"x": ("BF16", [2, 3], values[:12])}),
        "safetensors_f64": safetensors({"x": ("F64", [1, 3], struct.pack("<3d", 1e300, *a[:2]))}),
        "safetensors_two": safetensors({"x": ("F32", [1, 3], values[:12]), "y": ("F32", [1, 3], values[:12])}),
    }
    return files | parquet_files()


def random_bytes(count: int) -> dict[str, bytes]:
    """For targets that make their inputs of any bytes."""
    generator = random.Random(1)
    return {f"random_{i:02}": generator.randbytes(generator.choice([40, 200, 800])) for i in range(count)}


def main() -> None:
    folder = Path(sys.argv[1])
    corpora = {
        "image": images(),
        "dataset_json": data_sets(),
        "dataset_rows": row_sets(),
        "qrels": judgements(),
        "vector_file": vector_files(),
        "npy": matrices(),
        "kernel_ops": random_bytes(40),
        "training": random_bytes(40),
    }
    for target, files in corpora.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / target / name).write_bytes(data)
        print(f"{target}: {len(files)} files")


main()
