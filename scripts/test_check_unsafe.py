#!/usr/bin/env python3
"""Tests of check_unsafe.py: what it must find, and what it must not take for unsafe code."""

import unittest

from check_unsafe import differences

HEADER = "| File | Item | Count | Why | Test |\n| --- | --- | --- | --- | --- |\n"
EXPLAINED = """
fn read() {
    // SAFETY: the map outlives the slice.
    unsafe { map() };
}
#[test]
fn reads() {}
"""


def found(source: str, *rows: str) -> list[str]:
    return differences({"a.rs": source}, HEADER + "".join(f"| `a.rs` | {row} |\n" for row in rows))


class CheckUnsafe(unittest.TestCase):
    def test_accepts_a_place_that_is_explained_listed_and_tested(self):
        self.assertEqual(found(EXPLAINED, "`fn read` | 1 | why | `reads`"), [])

    def test_refuses_a_place_that_is_not_listed(self):
        self.assertIn("`fn read` has 1 unsafe in the source, 0 in", found(EXPLAINED)[0])

    def test_refuses_a_row_whose_place_is_gone(self):
        self.assertIn("`fn read` has 0 unsafe in the source, 1 in", found("fn reads() {}", "`fn read` | 1 | why | `reads`")[0])

    def test_refuses_another_count(self):
        self.assertIn("has 1 unsafe in the source, 2 in", found(EXPLAINED, "`fn read` | 2 | why | `reads`")[0])

    def test_refuses_a_test_that_does_not_exist(self):
        self.assertIn("writes, which does not exist", found(EXPLAINED, "`fn read` | 1 | why | `tests::writes`")[0])

    def test_refuses_a_row_without_a_test(self):
        self.assertIn("names no test", found(EXPLAINED, "`fn read` | 1 | why | none")[0])

    def test_refuses_a_place_without_its_safety_comment(self):
        for above in ["", "// It is fine.\n", "// SAFETY: sound.\n\n", "// SAFETY: sound.\n*place = 1;\n"]:
            with self.subTest(above):
                wrong = found(f"fn read() {{\n{above}unsafe {{ map() }}\n}}\nfn reads() {{}}", "`fn read` | 1 | why | `reads`")
                self.assertEqual(len(wrong), 1)
                self.assertIn("no SAFETY comment", wrong[0])

    def test_accepts_the_comment_above_the_whole_statement(self):
        source = "fn read() {\n// SAFETY: sound.\nlet a = take(\n    unsafe { map() },\n);\n}\nfn reads() {}"
        self.assertEqual(found(source, "`fn read` | 1 | why | `reads`"), [])

    def test_accepts_a_safety_section_above_attributes(self):
        source = '/// # Safety\n/// `p` is valid.\n#[unsafe(no_mangle)]\npub unsafe extern "C" fn read(p: *const u8) {}\nfn reads() {}'
        self.assertEqual(found(source, "`fn read` | 2 | why | `reads`"), [])

    def test_names_what_is_outside_every_function(self):
        source = (
            "// SAFETY: no pointer inside.\nunsafe impl<'a, T> Send for View<'a, T> {}\n"
            '// SAFETY: the symbol is in `fma.s`.\nunsafe extern "C" { fn panel(); }\n'
            '// SAFETY: saves what it changes.\nglobal_asm!(include_str!("fma.s"));\n'
            "fn reads() {}"
        )
        rows = [
            f"`{item}` | 1 | why | `reads`"
            for item in ["impl<'a, T> Send for View<'a, T>", "extern panel", "global_asm!"]
        ]
        self.assertEqual(found(source, *rows), [])

    def test_takes_neither_comments_nor_literals_for_code(self):
        source = r"""
// unsafe
/* unsafe /* unsafe */ unsafe */
use core::arch::global_asm;
struct Callback { run: fn(u8) }
fn reads<'a>(text: &'a str) {
    f("unsafe \" unsafe", r#"unsafe " unsafe"#, b"unsafe", '"', '\'', 'u');
    unsafe_code();
}
"""
        self.assertEqual(found(source), [])


if __name__ == "__main__":
    unittest.main()
