//! `inspect`: what an adapter file says of itself.

use serde_json::{Value, json};

use crate::support::{Folder, levels, number};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn lines_say_what_the_file_is_and_how_it_was_made() {
    let folder = Folder::with_data();
    let report = folder.json("train train.json --validation test.json --epochs 20 --lr 0.01 --bias -o a.qad");
    let (base, adapted) = (number(&report, "/base/ndcg@10"), number(&report, "/adapted/ndcg@10"));
    let expected = format!(
        "format           version 1, dense, f32
dimensions       8 → 8, with bias
size             {} bytes
written by       \"host-cli {}\"
base model       not stated
query prefix     none
document prefix  none
model check      none: vectors of any model with as many components are taken
similarity       cosine
query vectors    of any length
training         recipe single, adamw, learning rate 0.01, scale 20, batch size 64, seed 0
                 20 steps in 20 epochs over 40 pairs
weights          those after epoch {}
validation       nDCG@10 {base:.4} base → {adapted:.4} adapted
settings         average = false  batch-size = 64  bias = true  epochs = 20
                 beta1 = 0.9  beta2 = 0.999  clip = 1.0  eps = 1e-8
                 optimizer = \"adamw\"  lr = 0.01  weight-decay = 0.01  recipe = \"single\"
                 scale = 20.0  schedule = \"linear\"  seed = 0
checksums        header, metadata and weights are as written
golden pair      reproduced bit for bit at every level of this machine: {}
",
        folder.read("a.qad").len(),
        env!("CARGO_PKG_VERSION"),
        report["train"]["kept_epoch"],
        levels().join(", "),
    );
    assert_eq!(folder.stdout("inspect a.qad"), expected);
}

#[test]
fn the_json_object_has_the_documented_keys() {
    let folder = Folder::with_adapter();
    let inspected = folder.json("inspect a.qad");
    let expected = [
        "base_model",
        "bias",
        "bytes",
        "checksums_ok",
        "document_prefix",
        "dtype",
        "format_version",
        "golden_reproduced",
        "golden_text",
        "in_dim",
        "kind",
        "normalized",
        "out_dim",
        "query_prefix",
        "settings",
        "similarity",
        "tool",
        "training",
    ];
    assert_eq!(keys(&inspected), expected);
    let training = [
        "batch_size",
        "epochs",
        "kept_epoch",
        "lr",
        "optimizer",
        "pairs",
        "recipe",
        "scale",
        "seed",
        "steps",
        "validation",
    ];
    assert_eq!(keys(&inspected["training"]), training);
    assert_eq!(keys(&inspected["training"]["validation"]), ["adapted_ndcg@10", "base_ndcg@10"]);
    assert_eq!(inspected["golden_reproduced"], json!(levels()));
    assert_eq!(inspected["training"]["lr"], json!(0.0005));
    assert_eq!((&inspected["in_dim"], &inspected["kind"]), (&json!(8), &json!("dense")));
}

#[test]
fn the_reference_recipe_has_no_validation_to_tell_of() {
    let folder = Folder::with_data();
    // Also where there is a validation set: it chose nothing.
    for flags in ["", "--validation test.json"] {
        folder.stdout(&format!("train train.json --recipe reference {flags} --force -o a.qad"));
        assert_eq!(folder.json("inspect a.qad")["training"]["validation"], json!(null));
        assert!(folder.stdout("inspect a.qad").contains("validation       none\n"));
    }
}

#[test]
fn the_path_is_not_printed() {
    let folder = Folder::with_adapter();
    assert!(!folder.stdout("inspect a.qad").contains("a.qad"));
    assert!(!folder.stdout("inspect ./a.qad --json").contains("a.qad"));
}
