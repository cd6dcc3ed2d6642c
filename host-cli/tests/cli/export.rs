//! `export`: source files that real compilers take, and that hold every bit.

use std::process::Command;

use crate::support::{Folder, text};

/// Runs a compiler; false, said aloud, when there is none here.
fn compile(folder: &Folder, compiler: &str, arguments: &[&str]) -> bool {
    let Ok(output) = Command::new(compiler).args(arguments).current_dir(folder.path(".")).output() else {
        eprintln!("SKIPPED: {compiler} is not installed here");
        return false;
    };
    assert!(output.status.success(), "{compiler} {arguments:?}: {}", text(&output.stderr));
    true
}

/// What a program in the folder writes to stdout.
fn output_of(folder: &Folder, program: &str) -> Vec<u8> {
    let output = Command::new(folder.path(program)).output().expect("runs");
    assert!(output.status.success(), "{program}");
    output.stdout
}

#[test]
fn bytes_are_the_file() {
    let folder = Folder::with_adapter();
    folder.run("export a.qad --format bin -o a.bin").assert().success();
    assert_eq!(folder.read("a.bin"), folder.read("a.qad"));
}

#[test]
fn a_rust_file_holds_the_bytes_at_a_multiple_of_64() {
    let folder = Folder::with_adapter();
    folder.run("export a.qad --format rust -o my-adapter.rs").assert().success();
    // The kernel's type under its name: what is compiled here must not depend on where cargo keeps the kernel.
    folder.write(
        "main.rs",
        r#"#![deny(warnings)]
extern crate self as query_adapter;
pub mod image {
    #[repr(C, align(64))]
    pub struct Aligned<T: ?Sized>(pub T);
}
include!("my-adapter.rs");
fn main() {
    use std::io::Write as _;
    assert_eq!(MY_ADAPTER.0.as_ptr().addr() % 64, 0);
    std::io::stdout().write_all(&MY_ADAPTER.0).unwrap();
}
"#,
    );
    if compile(&folder, "rustc", &["--edition", "2024", "main.rs", "-o", "program"]) {
        assert_eq!(output_of(&folder, "program"), folder.read("a.qad"));
    }
}

#[test]
fn a_header_holds_the_bytes_and_the_golden_pair_in_c_and_in_cpp() {
    let folder = Folder::with_adapter();
    folder.run("export a.qad --format c -o 2nd.h").assert().success();
    folder.write(
        "main.c",
        r#"#include "2nd.h"
#include "2nd.h"
#include <stdio.h>
int main(void)
{
    if ((size_t)adapter_2nd % 64 != 0)
        return 1;
    fwrite(adapter_2nd, 1, ADAPTER_2ND_LEN, stdout);
    fwrite(adapter_2nd_golden_query, sizeof(float), ADAPTER_2ND_IN_DIM, stdout);
    fwrite(adapter_2nd_golden_output, sizeof(float), ADAPTER_2ND_OUT_DIM, stdout);
    return 0;
}
"#,
    );
    let file = folder.read("a.qad");
    let image = query_adapter::image::Image::parse(&file).expect("an adapter");
    let (mut query, mut output) = (vec![0.0f32; image.in_dim()], vec![0.0f32; image.out_dim()]);
    image.copy_golden(&mut query, &mut output).expect("a golden pair");
    let mut expected = file.clone();
    expected.extend(query.iter().chain(&output).flat_map(|value| value.to_ne_bytes()));
    let strict = ["-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror"];
    for (compiler, standard, language) in
        [("gcc", "-std=c99", "c"), ("gcc", "-std=c11", "c"), ("g++", "-std=c++11", "c++")]
    {
        let arguments = [&strict[..], &[standard, "-x", language, "main.c", "-o", "program"]].concat();
        if compile(&folder, compiler, &arguments) {
            assert!(output_of(&folder, "program") == expected, "{compiler} {standard}");
        }
    }
}

#[test]
fn the_name_can_be_chosen() {
    let folder = Folder::with_adapter();
    folder.run("export a.qad --format c -o a.h --name handbook").assert().success();
    let header = text(&folder.read("a.h"));
    assert!(header.contains("static const unsigned char handbook[HANDBOOK_LEN]"));
    assert!(header.contains("#ifndef HANDBOOK_H\n"));
    folder.refuses("export a.qad --format c -o b.h --name 1st", 2, &["--name", "1st"]);
    folder.refuses("export a.qad --format bin -o b.bin --name x", 2, &["--name"]);
}

#[test]
fn a_damaged_adapter_is_not_exported_and_an_output_not_overwritten() {
    let folder = Folder::with_adapter();
    let mut damaged = folder.read("a.qad");
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    folder.write("damaged.qad", damaged);
    folder.refuses("export damaged.qad --format c -o b.h", 3, &["damaged.qad", "checksum of the payload"]);
    folder.refuses("export none.qad --format c -o b.h", 3, &["none.qad"]);
    folder.write("there.h", "mine");
    folder.refuses("export a.qad --format c -o there.h", 4, &["there.h", "--force"]);
    assert_eq!(folder.read("there.h"), b"mine");
    folder.run("export a.qad --format c -o there.h --force").assert().success();
}
