//! `check`: the kernel against its oracle, on this machine.

use crate::support::{Data, Folder, levels};

const INPUT: i32 = 3;

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
