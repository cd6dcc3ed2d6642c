#!/usr/bin/env python3
"""Compares the unsafe code of the tracked Rust sources with the table in docs/unsafe.md.

Fails when the two differ in either direction, when a place has no SAFETY comment directly above it, or when a test the
table names does not exist. Comments, strings and character literals are not code. `global_asm!` counts as well: it
needs no `unsafe`, yet the compiler checks nothing in it.

    scripts/check_unsafe.py [REPOSITORY]
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

INVENTORY = "docs/unsafe.md"
COLUMNS = ["File", "Item", "Count", "Why", "Test"]

TOKEN = re.compile(
    r"""
      (?P<comment> //[^\n]* )
    | (?P<block> /\* )
    | (?P<string> (?:b|c)?r(?P<hashes>\#*)"(?:.|\n)*?"(?P=hashes) | (?:b|c)?"(?:\\(?:.|\n)|[^"\\])*" )
    | (?P<character> b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])' )
    | (?P<lifetime> '\w+ )
    | (?P<word> r\#\w+ | \w+ )
    | (?P<mark> [^\s\w] )
    """,
    re.VERBOSE,
)
COMMENT_LINE = re.compile(r"\s*(//|/\*)")
ATTRIBUTE_LINE = re.compile(r"\s*#!?\[.*\]\s*(//.*)?$")
ITEM_KEYWORDS = ("fn", "impl", "macro_rules", "mod", "trait")
SAFETY = re.compile(r"SAFETY:|# Safety\b")


class Token(NamedTuple):
    text: str
    line: int


class Place(NamedTuple):
    """One occurrence of unsafe code: the item it is in, and the lines (from 0) of the word and of its statement."""

    item: str
    line: int
    statement: int


def tokens(source: str) -> list[Token]:
    """The words and marks of Rust source; a literal is one token, a comment none."""
    found, position, line = [], 0, 0
    while match := TOKEN.search(source, position):
        line += source.count("\n", position, match.start())
        end = block_end(source, match.start()) if match["block"] else match.end()
        if match["string"] or match["character"]:
            found.append(Token("literal", line))
        elif match["lifetime"] or match["word"] or match["mark"]:
            found.append(Token(match[0], line))
        line += source.count("\n", match.start(), end)
        position = end
    return found


def block_end(source: str, start: int) -> int:
    """Where the block comment that opens at `start` ends; block comments nest."""
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(source, start):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    return len(source)


def places(code: list[Token]) -> list[Place]:
    """Every occurrence of unsafe code, in order."""
    found = []
    open_items = []  # one entry a brace: the name of the item whose body it opens, or None
    pending = None  # the item whose body has not begun
    statement = 0
    begins = True
    for index, (text, line) in enumerate(code):
        if begins:
            statement, begins = line, False
        if text in ITEM_KEYWORDS and pending is None:
            pending = item_name(code, index)
        elif text == "{":
            open_items.append(pending)
            pending = None
        elif text == "}" and open_items:
            open_items.pop()
        elif text == ";":
            pending = None
        elif text == "unsafe" or (text == "global_asm" and code[index + 1 : index + 2] == [Token("!", line)]):
            inside = [name for name in open_items if name and name.startswith(("fn ", "macro_rules! "))]
            found.append(Place(inside[-1] if inside else item_ahead(code, index), line, statement))
        begins = text in "{};"
    return found


def item_name(code: list[Token], index: int) -> str | None:
    """The name of the item whose keyword stands at `index`: `fn run`, `impl Send for Lanes`; none for a type `fn(u8)`."""
    keyword = code[index].text
    if code[index + 1].text == "(":
        return None
    if keyword == "macro_rules":
        return "macro_rules! " + code[index + 2].text
    if keyword != "impl":
        return f"{keyword} {code[index + 1].text}"
    header = "impl"
    for text, _ in code[index + 1 :]:
        if text in ("{", ";", "where"):
            break
        begins_word = text in "&*" or text[0] == "'" or text[0].isalnum()
        header += f" {text}" if begins_word and header[-1] not in "<&*:(" else text
    return header


def item_ahead(code: list[Token], index: int) -> str:
    """The item that the occurrence at `index`, outside every function body, belongs to."""
    if code[index].text == "global_asm":
        return "global_asm!"
    for ahead in range(index + 1, len(code)):
        text = code[ahead].text
        if text in (*ITEM_KEYWORDS, "static"):
            return item_name(code, ahead)
        if text == "{":
            declared = (name.text for word, name in zip(code[ahead:], code[ahead + 1 :]) if word.text == "fn")
            return f"extern {next(declared, '')}"
    return "end of file"


def explained(lines: list[str], line: int) -> bool:
    """Whether a comment that says SAFETY stands directly above a line, attributes between the two allowed."""
    for above in reversed(lines[:line]):
        if COMMENT_LINE.match(above):
            if SAFETY.search(above):
                return True
        elif not ATTRIBUTE_LINE.match(above):
            return False
    return False


def inventory(text: str) -> list[list[str]]:
    """The cells of the inventory's rows, without their code quotes; the header checked."""
    lines = (line.strip().strip("|") for line in text.splitlines() if line.startswith("|"))
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    if len(rows) < 2 or rows[0] != COLUMNS:
        raise SystemExit(f"{INVENTORY}: expected one table with the columns {', '.join(COLUMNS)}")
    for row in rows[2:]:
        if len(row) != len(COLUMNS) or not row[2].isdigit() or not all(row):
            raise SystemExit(f"{INVENTORY}: a row needs {len(COLUMNS)} filled cells and a number as the third: {row}")
    return rows[2:]


def differences(sources: dict[str, str], table: str) -> list[str]:
    """What is wrong, one sentence each: `sources` maps a path to its text, `table` is the inventory's text."""
    wrong = []
    in_code = Counter()
    functions = set()
    for path, source in sources.items():
        code = tokens(source)
        functions.update(after.text for word, after in zip(code, code[1:]) if word.text == "fn")
        lines = source.splitlines()
        for place in places(code):
            in_code[path, place.item] += 1
            if not explained(lines, place.line) and not explained(lines, place.statement):
                wrong.append(f"{path}:{place.line + 1}: no SAFETY comment directly above this unsafe code")

    in_table = Counter()
    for path, item, count, _, tests in inventory(table):
        in_table[path.strip("`"), item.strip("`")] += int(count)
        named = re.findall(r"`(?:\w+::)*(\w+)`", tests)
        if not named:
            wrong.append(f"{INVENTORY}: {path} {item} names no test")
        for name in named:
            if name not in functions:
                wrong.append(f"{INVENTORY}: {path} {item} names the test {name}, which does not exist")
    for path, item in sorted(in_code.keys() | in_table.keys()):
        code_count, table_count = in_code[path, item], in_table[path, item]
        if code_count != table_count:
            wrong.append(f"{path}: `{item}` has {code_count} unsafe in the source, {table_count} in {INVENTORY}")
    return wrong


def rust_sources(repository: Path) -> dict[str, str]:
    """The Rust sources git knows of or would add. A clone may belong to another user than the one who checks it."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs"],
        cwd=repository, check=True, capture_output=True, text=True,
    ).stdout
    paths = (path for path in listing.split("\0") if path and (repository / path).is_file())
    return {path: (repository / path).read_text(encoding="utf-8") for path in paths}


def main() -> int:
    repository = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    sources = rust_sources(repository)
    wrong = differences(sources, (repository / INVENTORY).read_text(encoding="utf-8"))
    for sentence in wrong:
        print(sentence)
    if not sources:
        print("no Rust source found")
    elif not wrong:
        print(f"{len(sources)} Rust sources agree with {INVENTORY}")
    return 1 if wrong or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
