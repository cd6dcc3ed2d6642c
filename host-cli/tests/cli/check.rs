//! `check`: the kernel against its oracle, on this machine.

use crate::support::{Data, Folder, levels, text};

const INPUT: i32 = 3;
const NUMERICAL: i32 = 5;

#[test]
fn the_kernel_of_this_machine_is_within_its_bounds_also_on_a_data_set() {
    let folder = Folder::new();
    folder.write("plain.json", Data::small().json(false));
    Data::small().write_folder(&folder.path("vectors"));
    let table = folder.stdout("check plain.json --embeddings vectors");
    assert!(table.contains("data set: "), "{table}");
    for level in levels() {
        assert!(table.contains(level), "{level}: {table}");
    }
}

#[test]
fn a_data_set_that_cannot_be_used_is_refused() {
    let folder = Folder::new();
    folder.write("plain.json", Data::small().json(false));
    folder.refuses("check gone.json", INPUT, &["gone.json: there is no such file"]);
    folder.refuses("check plain.json", INPUT, &["there are no vectors", "--embeddings"]);
}

#[test]
fn a_device_s_digests_are_compared_with_this_machine_s_own() {
    let folder = Folder::new();
    folder.write("console.txt", "boot\narithmetic 00000000\n");
    // The table shows this machine's digest, which then is the device's.
    let assert = folder.run("check --device-digests console.txt").assert().code(NUMERICAL);
    let table = text(&assert.get_output().stdout);
    assert!(table.contains("DIFFERS") && table.contains("1 of 1 digests"), "{table}");
    let digest = table.lines().find(|line| line.contains("arithmetic")).expect("a row");
    let digest = digest.split('┆').nth(3).expect("a column").trim();
    folder.write("console.txt", format!("# bench\narithmetic {digest}\narithmetic stack 512\n"));
    let table = folder.stdout("check --device-digests console.txt");
    assert!(table.contains("bench") && table.contains("all 1 digests are this machine's"), "{table}");
    for level in levels() {
        assert!(table.contains(level), "{table}");
    }
}

#[test]
fn what_is_no_device_s_output_is_refused() {
    let folder = Folder::new();
    folder.refuses("check --device-digests gone.txt", INPUT, &["gone.txt: there is no such file"]);
    for (text, problem) in [
        ("", "no digest found"),
        ("nothing of interest\n", "no digest found"),
        ("boot\narithmetic failed\n", "line 2: \"arithmetic failed\": expected eight hexadecimal digits"),
        ("arithmetic 123\n", "line 1"),
        ("arithmetic +1234567\n", "line 1"),
        ("juggle 0123abcd\n", "line 1: there is no workload \"juggle\""),
    ] {
        folder.write("console.txt", text);
        folder.refuses("check --device-digests console.txt", INPUT, &["console.txt", problem]);
    }
    folder.run("check --device-digests console.txt --simd scalar").assert().code(2);
}
