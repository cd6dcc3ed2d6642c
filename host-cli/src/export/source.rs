//! The source files: which names they hold, and how bytes and numbers are written there.

use std::io::{self, Write};
use std::path::Path;

use crate::failure::Failure;

/// Bytes in a line of source.
const BYTES_PER_LINE: usize = 16;
/// Numbers in a line of source.
const NUMBERS_PER_LINE: usize = 6;

/// What is written into a source file.
pub(super) struct Source<'a> {
    pub(super) identifier: &'a Identifier,
    /// The adapter file.
    pub(super) bytes: &'a [u8],
    pub(super) in_dim: usize,
    pub(super) out_dim: usize,
    pub(super) bias: bool,
    /// How its numbers are stored.
    pub(super) dtype: &'static str,
    pub(super) golden_query: &'a [f32],
    pub(super) golden_output: &'a [f32],
}

impl Source<'_> {
    /// A Rust file, to be included or to be a module.
    pub(super) fn write_rust(&self, out: &mut dyn Write) -> io::Result<()> {
        let (name, length) = (self.identifier.upper(), self.bytes.len());
        writeln!(out, "// Written by `host-cli export`.\n")?;
        writeln!(out, "/// The query adapter {}; for `query_adapter::image::Image::view`.", self.shape())?;
        writeln!(out, "#[rustfmt::skip]")?;
        writeln!(out, "pub static {name}: ::query_adapter::image::Aligned<[u8; {length}]> =")?;
        writeln!(out, "    ::query_adapter::image::Aligned([")?;
        self.write_bytes(out)?;
        writeln!(out, "]);")
    }

    /// A header for C99, C11 and C++11.
    pub(super) fn write_c(&self, out: &mut dyn Write) -> io::Result<()> {
        let (name, upper, length) = (&self.identifier.0, self.identifier.upper(), self.bytes.len());
        writeln!(out, "/* The query adapter {}. Written by `host-cli export`. */", self.shape())?;
        writeln!(out, "#ifndef {upper}_H\n#define {upper}_H\n")?;
        for (what, value) in [("IN_DIM", self.in_dim), ("OUT_DIM", self.out_dim), ("LEN", length)] {
            writeln!(out, "#define {upper}_{what} {value}")?;
        }
        writeln!(
            out,
            "
/* The weights are used where they lie, at a multiple of 64 bytes. */
#if defined(__cplusplus) && __cplusplus >= 201103L
#define {upper}_ALIGNED alignas(64)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define {upper}_ALIGNED _Alignas(64)
#elif defined(__GNUC__)
#define {upper}_ALIGNED __attribute__((aligned(64)))
#elif defined(_MSC_VER)
#define {upper}_ALIGNED __declspec(align(64))
#else
#error \"say here how this compiler aligns an array to 64 bytes\"
#endif

/* The adapter file. */
{upper}_ALIGNED static const unsigned char {name}[{upper}_LEN] = {{"
        )?;
        self.write_bytes(out)?;
        writeln!(out, "}};\n\n/* A query and what the adapter makes of it, to the bit. */")?;
        write_floats(out, &format!("{name}_golden_query[{upper}_IN_DIM]"), self.golden_query)?;
        write_floats(out, &format!("{name}_golden_output[{upper}_OUT_DIM]"), self.golden_output)?;
        writeln!(out, "\n#endif")
    }

    fn write_bytes(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in self.bytes.chunks(BYTES_PER_LINE) {
            for byte in line {
                write!(out, "{byte:#04x},")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn shape(&self) -> String {
        let bias = if self.bias { "with bias" } else { "without bias" };
        format!("from {} to {} components, {bias}, in {}", self.in_dim, self.out_dim, self.dtype)
    }
}

/// Nine significant digits: as many as tell any two `f32` apart. All values are finite.
fn write_floats(out: &mut dyn Write, declarator: &str, values: &[f32]) -> io::Result<()> {
    writeln!(out, "static const float {declarator} = {{")?;
    for line in values.chunks(NUMBERS_PER_LINE) {
        for value in line {
            write!(out, "{value:.8e}f,")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "}};")
}

/// A name that C, C++ and Rust all take: lower-case, without what is reserved there.
#[derive(Debug, PartialEq)]
pub(super) struct Identifier(String);

impl Identifier {
    /// A name the user chose.
    pub(super) fn checked(name: &str) -> Result<Self, Failure> {
        if name.is_ascii() && Self::made_from(name).0 == name.to_ascii_lowercase() {
            return Ok(Self(name.to_ascii_lowercase()));
        }
        Err(Failure::Usage(format!(
            "--name {name:?} is no name in C, C++ and Rust; take letters, digits and single underscores, a letter \
             first, no keyword, no type of C such as uint8_t, and neither query_adapter nor qad, which the C interface has"
        )))
    }

    /// A name made from a file's.
    pub(super) fn of_file(path: &Path) -> Self {
        Self::made_from(&path.file_stem().unwrap_or_default().to_string_lossy())
    }

    fn made_from(text: &str) -> Self {
        let words: Vec<_> =
            text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let name = words.join("_").to_ascii_lowercase();
        let letter_first = name.starts_with(|c: char| c.is_ascii_alphabetic());
        let reserved =
            KEYWORDS.contains(&name.as_str()) || is_integer_type(&name) || name.starts_with("qad_");
        Self(if !letter_first || reserved {
            format!("adapter_{name}").trim_end_matches('_').to_owned()
        } else {
            name
        })
    }

    /// For macros, and for statics of Rust.
    fn upper(&self) -> String {
        self.0.to_ascii_uppercase()
    }
}

/// Whether `<stdint.h>` has a type of this name, such as `uint8_t`, `int_fast16_t` or `intptr_t`.
fn is_integer_type(name: &str) -> bool {
    let name = name.strip_prefix('u').unwrap_or(name);
    let Some(kind) = name.strip_prefix("int").and_then(|rest| rest.strip_suffix("_t")) else { return false };
    let width = kind.strip_prefix("_least").or_else(|| kind.strip_prefix("_fast")).unwrap_or(kind);
    ["8", "16", "32", "64", "max", "ptr"].contains(&width)
}

/// Words of C and C++ that no array can be called by, macros of their compilers, names of `<stddef.h>`, and names of the
/// kernel's own C header (as is all that begins with `qad_`). Rust's static is in capitals, of which no keyword is.
const KEYWORDS: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "asm",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "class",
    "co_await",
    "co_return",
    "co_yield",
    "compl",
    "concept",
    "const",
    "const_cast",
    "consteval",
    "constexpr",
    "constinit",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "dynamic_cast",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "linux",
    "long",
    "main",
    "max_align_t",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "nullptr",
    "nullptr_t",
    "offsetof",
    "operator",
    "or",
    "or_eq",
    "private",
    "protected",
    "ptrdiff_t",
    "public",
    "qad",
    "query_adapter",
    "register",
    "reinterpret_cast",
    "requires",
    "restrict",
    "return",
    "short",
    "signed",
    "size_t",
    "sizeof",
    "static",
    "static_assert",
    "static_cast",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "typeof",
    "typeof_unqual",
    "union",
    "unix",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "while",
    "xor",
    "xor_eq",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_becomes_a_name_that_every_language_takes() {
        for (path, expected) in [
            ("out/Handbook.h", "handbook"),
            ("my-adapter v2.h", "my_adapter_v2"),
            ("__x__y.rs", "x_y"),
            ("384.h", "adapter_384"),
            ("int.h", "adapter_int"),
            ("query_adapter.h", "adapter_query_adapter"),
            ("qad.h", "adapter_qad"),
            ("uint8_t.h", "adapter_uint8_t"),
            ("qad_open.h", "adapter_qad_open"),
            ("größe.h", "gr_e"),
            ("日本.h", "adapter"),
            ("", "adapter"),
        ] {
            assert_eq!(Identifier::of_file(Path::new(path)), Identifier(expected.to_owned()), "{path}");
        }
    }

    #[test]
    fn a_chosen_name_is_taken_as_it_is_or_refused() {
        assert_eq!(Identifier::checked("Base_384").expect("a name"), Identifier("base_384".to_owned()));
        for name in ["", "1st", "_x", "a__b", "a-b", "a b", "größe", "while", "x_", "thread_local", "qad_x"]
        {
            assert_eq!(Identifier::checked(name).expect_err(name).exit_code(), 2, "{name}");
        }
        for name in [
            "uint8_t",
            "INT_FAST64_T",
            "uint_least16_t",
            "intmax_t",
            "uintptr_t",
            "size_t",
            "ptrdiff_t",
            "wchar_t",
            "char8_t",
            "max_align_t",
            "offsetof",
        ] {
            assert_eq!(Identifier::checked(name).expect_err(name).exit_code(), 2, "{name}");
        }
        // Macros such as SIZE_MAX are in capitals, and no array is.
        for name in ["size_max", "uint_t", "model_t", "print8_t"] {
            assert_eq!(Identifier::checked(name).expect(name), Identifier(name.to_owned()));
        }
    }

    #[test]
    fn numbers_come_back_to_the_bit() {
        let mut values = vec![0.0, -0.0, 1.0, -1.0 / 3.0, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1)];
        let mut bits = 1u32;
        for _ in 0..10_000 {
            bits = bits.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            values.extend(Some(f32::from_bits(bits)).filter(|value| value.is_finite()));
        }
        let mut text = Vec::new();
        write_floats(&mut text, "x[]", &values).expect("written");
        let text = String::from_utf8(text).expect("text");
        let body =
            text.lines().filter(|line| line.ends_with("f,")).flat_map(|line| line.split_terminator(','));
        let found: Vec<f32> =
            body.map(|number| number.trim_end_matches('f').parse().expect("a number")).collect();
        assert_eq!(found.len(), values.len());
        for (found, value) in found.iter().zip(&values) {
            assert_eq!(found.to_bits(), value.to_bits(), "{value}");
        }
    }
}
