"""Small Parquet files: two vectors of three components with text ids, in the encodings that readers treat apart.

Written after https://github.com/apache/parquet-format; metadata are Thrift's compact protocol.
"""

import gzip
import struct

FLOAT, BYTE_ARRAY = 4, 6
PLAIN, RLE, DELTA_LENGTHS, DELTA_TEXTS, DICTIONARY = 0, 3, 6, 7, 8
REQUIRED, OPTIONAL, REPEATED = 0, 1, 2
UNCOMPRESSED, GZIP = 0, 2


class Long(int):
    """A number of 64 bits."""


def varint(value: int) -> bytes:
    """Seven bits a byte, as Thrift has it and adapter files too."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def thrift(value: object) -> bytes:
    """A field's value: a number, a text, a struct of fields by their numbers, a list of one of these."""
    match value:
        case int():
            return varint(value << 1 if value >= 0 else (-value << 1) - 1)
        case bytes():
            return varint(len(value)) + value
        case list():
            assert len(value) < 15
            return bytes([len(value) << 4 | kind(value[0])]) + b"".join(map(thrift, value))
    out, last = b"", 0
    for number, field in value.items():
        out += bytes([(number - last) << 4 | kind(field)]) + thrift(field)
        last = number
    return out + b"\0"


def kind(value: object) -> int:
    kinds = {Long: 6, int: 5, bytes: 8, list: 9, dict: 12}
    return kinds[type(value)]


def levels(runs: bytes) -> bytes:
    return struct.pack("<I", len(runs)) + runs


def differences(numbers: list[int]) -> bytes:
    """DELTA_BINARY_PACKED: one block of four parts of 32 numbers, the first of 8 bits and the others of none."""
    steps = [b - a for a, b in zip(numbers, numbers[1:])]
    header = varint(128) + varint(4) + varint(len(numbers)) + thrift(numbers[0])
    packed = bytes(step - min(steps) for step in steps).ljust(32, b"\0")
    return header + thrift(min(steps)) + bytes([8, 0, 0, 0]) + packed


def plain_texts(texts: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def page(number: int, values: int, encoding: int, data: bytes, codec: int, levels: tuple[int, int] = (0, 0), rows: int = 2) -> bytes:
    """Of the kind whose header is this field: 5 data, 7 a dictionary, 8 data of the second version, which begins with so many bytes
    of levels of definition and of repetition, in the other order."""
    stored = gzip.compress(data, mtime=0) if codec == GZIP else data
    of_kind = {1: values, 2: encoding}
    if number == 5:
        of_kind |= {3: RLE, 4: RLE}
    if number == 8:
        of_kind = {1: values, 2: 0, 3: rows, 4: encoding, 5: levels[0], 6: levels[1]}
    return thrift({1: {5: 0, 7: 2, 8: 3}[number], 2: len(data), 3: len(stored), number: of_kind}) + stored


def parquet(ids: bytes, vectors: bytes, codec: int, ids_optional: bool, count: int = 2, dictionary: int = 0) -> bytes:
    """A file of one group of rows; `dictionary`: bytes of the vectors' pages that are their dictionary."""
    id_element = {1: BYTE_ARRAY, 3: OPTIONAL if ids_optional else REQUIRED, 4: b"id", 6: 0}
    schema = [
        {4: b"m", 5: 2},
        id_element,
        {3: REQUIRED, 4: b"embedding", 5: 1, 6: 3},
        {3: REPEATED, 4: b"list", 5: 1},
        {1: FLOAT, 3: REQUIRED, 4: b"element"},
    ]

    def chunk(start: int, pages: bytes, physical: int, path: list[bytes], values: int, dictionary: int) -> dict:
        sizes = {5: Long(values), 6: Long(len(pages)), 7: Long(len(pages)), 9: Long(start + dictionary)}
        offset = {11: Long(start)} if dictionary else {}
        return {2: Long(0), 3: {1: physical, 2: [PLAIN, RLE], 3: path, 4: codec, **sizes, **offset}}

    chunks = [
        chunk(4, ids, BYTE_ARRAY, [b"id"], count, 0),
        chunk(4 + len(ids), vectors, FLOAT, [b"embedding", b"list", b"element"], 3 * count, dictionary),
    ]
    group = {1: chunks, 2: Long(len(ids) + len(vectors)), 3: Long(count)}
    metadata = thrift({1: 1, 2: schema, 3: Long(count), 4: [group]})
    return b"PAR1" + ids + vectors + metadata + struct.pack("<I", len(metadata)) + b"PAR1"


def parquet_files() -> dict[str, bytes]:
    texts, values = [b"first", b"fifth one"], struct.pack("<6f", 0.5, -0.25, 1e-45, -1.0, 0.75, -0.0)
    # Bits 011011, lowest first, say which component goes on with a vector; six times 1: all are there.
    repeated, defined = bytes([3, 0b110110]), bytes([6 << 1, 1])
    in_vectors, present = levels(repeated) + levels(defined), levels(bytes([2 << 1, 1]))
    lengths = differences([len(text) for text in texts]) + b"".join(texts)
    # The second text begins with two bytes of the first.
    beginnings = differences([0, 2]) + differences([5, 7]) + b"first" + b"fth one"

    def vectors(codec: int) -> bytes:
        return page(5, 6, PLAIN, in_vectors + values, codec)

    dictionary = page(7, 2, PLAIN, values[:8], GZIP)
    chosen = page(5, 6, DICTIONARY, in_vectors + bytes([1, 3, 0b101010]), GZIP)
    of_second_version = page(8, 6, PLAIN, repeated + defined + values, UNCOMPRESSED, (len(defined), len(repeated)))
    return {
        "parquet": parquet(page(5, 2, PLAIN, plain_texts(texts), UNCOMPRESSED), vectors(UNCOMPRESSED), UNCOMPRESSED, False),
        "parquet_gzip": parquet(page(5, 2, PLAIN, present + plain_texts(texts), GZIP), vectors(GZIP), GZIP, True),
        "parquet_lengths": parquet(page(5, 2, DELTA_LENGTHS, present + lengths, GZIP), vectors(GZIP), GZIP, True),
        "parquet_beginnings": parquet(page(5, 2, DELTA_TEXTS, beginnings, UNCOMPRESSED), vectors(UNCOMPRESSED), UNCOMPRESSED, False),
        "parquet_second_version": parquet(
            page(8, 2, PLAIN, plain_texts(texts), UNCOMPRESSED), of_second_version, UNCOMPRESSED, False
        ),
        "parquet_dictionary": parquet(
            page(5, 2, PLAIN, plain_texts(texts), GZIP), dictionary + chosen, GZIP, False, dictionary=len(dictionary)
        ),
    }
