//! `import`: adapters of other tools, and back by `export --format safetensors`.

use host_cli::import::read_layer;
use query_adapter::Level;
use safetensors::serialize;
use safetensors::tensor::{Dtype, TensorView};

use crate::support::{DIM, Folder, text};

const INPUT: i32 = 3;
const OUTPUT: i32 = 4;

/// A `.safetensors` file of tensors by name, with these shapes and `f32`.
fn layer(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(.., values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("consistent"))
    });
    serialize(views, None).expect("a file")
}

#[test]
fn a_linear_layer_becomes_an_adapter_that_does_the_same() {
    let folder = Folder::new();
    let weight: (&str, &[usize], &[f32]) = ("linear.weight", &[3, 2], &[1.0, 0.5, 0.0, 1.0, -2.0, 0.25]);
    for (bias, expected) in [(true, "[4.25,3.5,-2.5]"), (false, "[4.0,4.0,-3.0]")] {
        let mut tensors = vec![weight];
        tensors.extend(bias.then_some(("linear.bias", &[3][..], &[0.25, -0.5, 0.5][..])));
        folder.write("layer.safetensors", layer(&tensors));
        folder.stdout("import layer.safetensors -o a.qad --base-model m --force");
        let mut apply = folder.run("apply -a a.qad -q");
        let assert = apply.write_stdin("{\"embedding\": [2, 4]}\n").assert().success();
        assert_eq!(text(&assert.get_output().stdout), format!("{{\"embedding\":{expected}}}\n"));
        let inspected = folder.json("inspect a.qad");
        assert_eq!((&inspected["base_model"], &inspected["bias"]), (&"m".into(), &bias.into()));
        assert!(inspected["training"].is_null());
        // And back, every bit.
        folder.stdout("export a.qad --format safetensors -o back.safetensors --force");
        folder.stdout("import back.safetensors -o b.qad --base-model m --force");
        assert_eq!(folder.read("a.qad"), folder.read("b.qad"));
    }
    // Whatever the tensors are called, a layer is one matrix and perhaps one vector.
    folder.write("other.safetensors", layer(&[("w", &[1, 2], &[1.0, 2.0]), ("b", &[1], &[0.5])]));
    let adapter = read_layer(&folder.path("other.safetensors"), Level::detect()).expect("a layer");
    assert_eq!((adapter.in_dim(), adapter.out_dim(), adapter.has_bias()), (2, 1, true));
}

#[test]
fn an_adapter_that_gives_other_vectors_than_the_documents_is_refused_where_there_are_documents() {
    let folder = Folder::with_data();
    folder.write("layer.safetensors", layer(&[("linear.weight", &[4, DIM], &[0.5; 4 * DIM])]));
    folder.stdout("import layer.safetensors -o narrow.qad");
    let parts = [
        "narrow.qad: the adapter gives vectors of 4 components, the documents have 8",
        "use an adapter that gives as many",
    ];
    for command in [
        "evaluate test.json --adapter narrow.qad",
        "evaluate test.json --compare base= --compare narrow=+narrow.qad",
        "compare narrow.qad --dataset test.json",
        "explain test.json --adapter narrow.qad --query q2-0-0",
    ] {
        folder.refuses(command, INPUT, &parts);
    }
}

#[test]
fn a_trained_adapter_survives_the_way_there_and_back() {
    let folder = Folder::with_adapter();
    folder.stdout("export a.qad --format safetensors -o a.safetensors");
    folder.stdout("import a.safetensors -o b.qad");
    let weights = |name: &str| {
        let file = folder.read(name);
        let image = query_adapter::image::Image::parse(&file).expect("an adapter");
        let mut weights = vec![query_adapter::Lanes::ZERO; image.weights_len()];
        image.copy_weights(&mut weights).expect("copied");
        weights
    };
    assert_eq!(weights("a.qad"), weights("b.qad"));
    let rows = folder.json("evaluate test.json -a b.qad -q");
    assert_eq!(rows, folder.json("evaluate test.json -a a.qad -q"));
    folder.refuses("export a.qad --format safetensors -o x --name y", 2, &["--name"]);
    folder.stdout("quantize a.qad -o small.qad");
    folder.refuses(
        "export small.qad --format safetensors -o x",
        INPUT,
        &["small.qad", "int8", "expected f32"],
    );
}

#[test]
fn what_is_no_linear_layer_is_refused() {
    let folder = Folder::with_adapter();
    let good = layer(&[("linear.weight", &[1, 2], &[1.0, 2.0])]);
    for (name, contents, parts) in [
        ("empty", vec![], &["empty: ", "no sound safetensors file"][..]),
        (
            "cut",
            good[..good.len() - 1].to_vec(),
            &["cut: ", "no sound safetensors file", "cut off or damaged"],
        ),
        ("text", b"{\"linear.weight\": [[1]]}".to_vec(), &["text: ", "no sound safetensors file"]),
        ("zip", b"PK\x03\x04".to_vec(), &["zip: ", "as torch.save writes it", "safetensors.torch.save_file"]),
        ("none", layer(&[]), &["none: found the tensors none, expected those of one linear layer"]),
        ("bias", layer(&[("b", &[2], &[1.0, 2.0])]), &["found the tensors \"b\" (2), expected"]),
        (
            "two",
            layer(&[("linear1.weight", &[1, 1], &[1.0]), ("linear2.weight", &[1, 1], &[1.0])]),
            &["\"linear1.weight\" (1 × 1), \"linear2.weight\" (1 × 1), expected those of one linear layer"],
        ),
        (
            "long",
            layer(&[("linear.weight", &[1, 2], &[1.0, 2.0]), ("linear.bias", &[2], &[1.0, 2.0])]),
            &["\"linear.bias\" (2), \"linear.weight\" (1 × 2), expected"],
        ),
        (
            "wide",
            layer(&[("w", &[0, 2], &[])]),
            &["\"w\" (0 × 2), expected", "at most 8192 inputs and outputs"],
        ),
        (
            "nan",
            layer(&[("w", &[2, 2], &[1.0, 2.0, 3.0, f32::NAN])]),
            &["nan: \"w\" row 1 column 1: found NaN as a 32-bit float, expected a finite number"],
        ),
        (
            "inf",
            layer(&[("w", &[1, 1], &[1.0]), ("b", &[1], &[f32::INFINITY])]),
            &["inf: \"b\" value 0: found inf as a 32-bit float"],
        ),
    ] {
        folder.write(name, contents);
        folder.refuses(&format!("import {name} -o b.qad"), INPUT, parts);
    }
    folder.refuses("import a.qad -o b.qad", INPUT, &["a.qad: this is an adapter file already"]);
    folder.refuses("import gone -o b.qad", INPUT, &["gone: there is no such file"]);
    folder.write("good", good);
    folder.refuses("import good -o a.qad", OUTPUT, &["a.qad: exists already", "--force"]);
    folder.refuses("import good -o gone/a.qad", OUTPUT, &["gone"]);
}
