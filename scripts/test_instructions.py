#!/usr/bin/env python3
"""Tests of scripts/instructions.py and of what it reads from callgrind: what must fail, fails."""

import contextlib
import io
import pathlib
import unittest

import callgrind
import instructions

# Names stand in full once; `calls=` is followed by the line with the cost of the call.
OUTPUT = """\
events: Ir
fl=(1) main.rs
fn=(1) main
1 10
cfn=(2) kernel::step
calls=3 7
2 300
3 5
fl=(2) step.rs
fn=(2)
7 100
+1 150
* 50
fn=(3) unused
9
totals: 315
"""


class Parsing(unittest.TestCase):
    def test_own_instructions_and_those_of_calls_are_kept_apart(self):
        profile = callgrind.parse(OUTPUT)
        self.assertEqual(profile.total, 315)
        self.assertEqual(profile.own, {"main": 15, "kernel::step": 300, "unused": 0})
        self.assertEqual(profile.calls, {("main", "kernel::step"): 300})


class Comparing(unittest.TestCase):
    def compare(self, counts: dict[str, int], recorded: dict[str, int]) -> tuple[int, str]:
        instructions.countable, instructions.count = lambda: list(counts), lambda _, case: counts[case]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = instructions.compare(pathlib.Path("unused"), recorded)
        return code, printed.getvalue()

    def test_growth_within_the_limit_passes(self):
        self.assertEqual(self.compare({"a": 1030, "b": 1000}, {"a": 1000, "b": 1000})[0], 0)

    def test_growth_beyond_the_limit_fails_and_says_how_to_record(self):
        code, printed = self.compare({"a": 1000, "b": 1031}, {"a": 1000, "b": 1000})
        self.assertEqual(code, 1)
        self.assertIn("FAILED b: 1031 instructions, 1000 recorded, +3.10%", printed)
        self.assertIn("scripts/instructions.py --record", printed)

    def test_shrinking_passes_and_asks_for_a_record(self):
        code, printed = self.compare({"a": 900}, {"a": 1000})
        self.assertEqual(code, 0)
        self.assertIn("record it", printed)

    def test_a_case_without_a_record_fails(self):
        code, printed = self.compare({"a": 1000}, {})
        self.assertEqual(code, 1)
        self.assertIn("no record", printed)


if __name__ == "__main__":
    unittest.main()
