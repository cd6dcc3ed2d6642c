//! `quantize`: an adapter in eight bits, and every command with it.

use host_cli::adapter_file::{self, AdapterFile, Int8Adapter};
use host_cli::vectors::Matrix;
use query_adapter::image::Metadata;
use query_adapter::{Lanes, Level, Linear, linear_len};

use crate::support::{DIM, Folder, text, write_npy};

const INPUT: i32 = 3;
const OUTPUT: i32 = 4;

fn metadata() -> Metadata<'static> {
    Metadata { tool: "test", base_model: "m", normalized: true, ..Metadata::UNKNOWN }
}

/// Writes an adapter whose weight is the identity and `change` of row and column, with a bias.
fn save(folder: &Folder, name: &str, in_dim: usize, out_dim: usize, change: impl Fn(usize, usize) -> f32) {
    let storage = vec![Lanes::ZERO; linear_len(in_dim, out_dim, true)];
    let mut adapter = Linear::identity(in_dim, out_dim, true, storage, Level::detect()).expect("an adapter");
    let mut weight = vec![0.0; in_dim * out_dim];
    adapter.copy_weight_to(&mut weight).expect("copied");
    for (r, row) in weight.chunks_exact_mut(in_dim).enumerate() {
        for (k, value) in row.iter_mut().enumerate() {
            *value += change(r, k);
        }
    }
    adapter.set_weight(&weight).expect("set");
    adapter.set_bias(&vec![0.25; out_dim]).expect("set");
    adapter_file::save(&folder.path(name), false, &adapter, metadata(), None).expect("saved");
}

/// Numbers of both signs that no scale of eight bits holds exactly.
fn uneven(r: usize, k: usize) -> f32 {
    ((r * 31 + k * 17) % 29) as f32 / 97.0 - 0.15
}

/// One number in each row.
fn one_a_row(_: usize, k: usize) -> f32 {
    if k == 0 { 0.5 } else { 0.0 }
}

#[test]
fn every_command_computes_what_the_kernel_computes_in_eight_bits() {
    let folder = Folder::with_data();
    save(&folder, "a.qad", DIM, DIM, uneven);
    folder.run("quantize a.qad -o small.qad").assert().success();
    let level = Level::detect();
    let adapter = AdapterFile::open(&folder.path("a.qad"), level).and_then(|file| file.dense(level));
    let rounded = Int8Adapter::rounded(&adapter.expect("an adapter")).expect("square");
    let expected = rounded.linear().expect("an adapter");

    let queries: Vec<Vec<f32>> =
        (0..600u16).map(|q| (0_u8..).take(DIM).map(|k| f32::from(q % 7) - f32::from(k)).collect()).collect();
    let rows: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    write_npy(&folder.path("queries.npy"), &rows);
    folder.run("apply -a small.qad -i queries.npy -o out.npy --threads 2").assert().success();
    let outputs = Matrix::load(&folder.path("out.npy")).expect("a matrix");
    let mut output = vec![0.0; DIM];
    for (row, query) in queries.iter().enumerate() {
        expected.apply(query, &mut output).expect("applied");
        assert_eq!(outputs.row(row), &output[..], "row {row}");
    }

    let inspected = folder.json("inspect small.qad");
    let before = folder.json("inspect a.qad");
    assert_eq!((&inspected["kind"], &inspected["dtype"]), (&"residual".into(), &"int8".into()));
    for key in ["base_model", "training", "similarity", "normalized", "golden_text", "in_dim", "bias"] {
        assert_eq!(inspected[key], before[key], "{key}");
    }
    let metric = |name: &str| {
        let report = folder.json(&format!("evaluate train.json --adapter {name} --quiet"));
        report.to_string().len()
    };
    assert!(metric("small.qad") > 0 && metric("a.qad") > 0);
    folder.run("export small.qad --format bin -o small.bin").assert().success();
    assert_eq!(folder.read("small.bin"), folder.read("small.qad"));
}

#[test]
fn the_error_printed_is_that_of_rounding() {
    let folder = Folder::new();
    // Eight bits hold one number to within the rounding of its scale.
    save(&folder, "exact.qad", 20, 20, one_a_row);
    let cost = folder.json("quantize exact.qad -o small.qad");
    let error = cost["relative_error"].as_f64().expect("a number");
    assert!((0.0..1e-7).contains(&error), "{error}");
    assert_eq!(cost["bytes"], folder.read("small.qad").len());
    assert_eq!(cost["bytes_before"], folder.read("exact.qad").len());

    // Nothing changed, nothing lost.
    save(&folder, "identity.qad", 20, 20, |_, _| 0.0);
    let printed = folder.run("quantize identity.qad -o small2.qad").assert().success();
    assert!(text(&printed.get_output().stdout).contains("error  0.000 %"));

    // The figure is what the outputs for every direction of a query show.
    let folder = Folder::new();
    save(&folder, "a.qad", DIM, DIM, uneven);
    let cost = folder.json("quantize a.qad -o small.qad");
    let open = |name: &str| AdapterFile::open(&folder.path(name), Level::detect()).expect("an adapter");
    let dense = open("a.qad").dense(Level::detect()).expect("dense");
    let square = |x: f32| f64::from(x) * f64::from(x);
    let mut query = vec![0.0; DIM];
    let (mut change, mut error) = (0.0, 0.0);
    for k in 0..DIM {
        query.fill(0.0);
        query[k] = 1.0;
        let (mut wide, mut small) = (vec![0.0; DIM], vec![0.0; DIM]);
        dense.apply(&query, &mut wide).expect("applied");
        let rounded = Int8Adapter::rounded(&dense).expect("square");
        rounded.linear().expect("an adapter").apply(&query, &mut small).expect("applied");
        for ((w, s), q) in wide.iter().zip(&small).zip(&query) {
            // Without the bias, which is not rounded.
            change += square(w - q - 0.25);
            error += square(w - s);
        }
    }
    let (found, expected) = (cost["relative_error"].as_f64().expect("a number"), (error / change).sqrt());
    assert!((found - expected).abs() < 1e-4 && found > 0.0, "{found} {expected}");
}

#[test]
fn what_cannot_be_rounded_is_refused_and_nothing_written() {
    let folder = Folder::new();
    save(&folder, "wide.qad", 20, 24, one_a_row);
    save(&folder, "square.qad", 20, 20, one_a_row);
    folder.refuses(
        "quantize wide.qad -o a.qad",
        INPUT,
        &["wide.qad: the adapter has 20 components in and 24 out"],
    );
    folder.refuses("quantize none.qad -o a.qad", INPUT, &["none.qad"]);
    assert!(!folder.exists("a.qad"));
    folder.run("quantize square.qad -o a.qad").assert().success();
    let first = folder.read("a.qad");
    folder.refuses("quantize square.qad -o a.qad", OUTPUT, &["a.qad"]);
    folder.refuses("quantize a.qad -o b.qad", INPUT, &["a.qad: the adapter is stored in int8, expected f32"]);
    folder.run("quantize square.qad -o a.qad --force").assert().success();
    assert_eq!(folder.read("a.qad"), first, "the same adapter gives the same bytes");

    let mut damaged = first;
    let last = damaged.len() - 30;
    damaged[last] ^= 1;
    folder.write("damaged.qad", damaged);
    folder.refuses("inspect damaged.qad", INPUT, &["checksum of the payload"]);
    folder.refuses("apply -a damaged.qad", INPUT, &["checksum of the payload"]);
    assert!(!folder.exists("b.qad"));
}
