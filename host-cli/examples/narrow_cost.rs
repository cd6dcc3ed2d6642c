//! What fewer bits cost: nDCG@10 of a data set with documents in f32, f16 and int8, and with the adapter in f32 and as an
//! int8 difference from the identity; and how far the int8 adapter's outputs are from the f32 adapter's.
//!
//!     cargo run --release -p host-cli --example narrow_cost -- DATASET EMBEDDINGS ADAPTER
//!
//! It computes what a device computes, by the same functions of the kernel.

use std::path::Path;
use std::process::ExitCode;

use host_cli::adapter_file::AdapterFile;
use host_cli::failure::Failure;
use host_cli::metrics::{Gain, Judged, Metric};
use host_cli::retrieval_task::RetrievalTask;
use host_cli::vectors::Embeddings;
use query_adapter::{
    ByteLanes, DocumentPanels, Found, HalfLanes, Int8Linear, Lanes, Level, PanelMatrix, TopK, encode_f16,
    encode_int8, encode_int8_adapter, normalize_rows, panel_len, panels, search,
};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [dataset, embeddings, adapter] = &arguments[..] else {
        eprintln!("usage: narrow_cost DATASET EMBEDDINGS ADAPTER");
        return ExitCode::from(2);
    };
    match run(Path::new(dataset), Path::new(embeddings), Path::new(adapter)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(dataset: &Path, embeddings: &Path, adapter: &Path) -> Result<(), Failure> {
    let level = Level::detect();
    let task = RetrievalTask::load(dataset, Some(&Embeddings::load(embeddings)?))?;
    let file = AdapterFile::open(adapter, level)?;
    file.require_in_dim(task.dim(), "the queries")?;
    let adapter = file.dense(level)?;
    let dim = task.dim();

    let mut values = vec![ByteLanes::ZERO; panel_len(dim, dim)];
    let (mut scales, mut bias) = (vec![Lanes::ZERO; panels(dim)], vec![Lanes::ZERO; panels(dim)]);
    encode_int8_adapter(&adapter, &mut values, &mut scales, &mut bias)?;
    let narrow = Int8Linear::new(dim, &values, &scales, adapter.has_bias().then_some(&bias[..]), level)?;

    let mut outputs = [Vec::new(), Vec::new(), Vec::new()];
    let (mut changed, mut lost) = (0.0, 0.0);
    for query in 0..task.queries().len() {
        let vector = task.query_vector(query);
        let (mut wide, mut byte) = (vec![0.0; dim], vec![0.0; dim]);
        adapter.apply(vector, &mut wide)?;
        narrow.apply(vector, &mut byte)?;
        for ((w, b), q) in wide.iter().zip(&byte).zip(vector) {
            changed += f64::from(w - q) * f64::from(w - q);
            lost += f64::from(b - w) * f64::from(b - w);
        }
        for (all, mut one) in outputs.iter_mut().zip([vector.to_vec(), wide, byte]) {
            normalize_rows(level, &mut one, dim)?;
            all.push(one);
        }
    }

    let corpus = task.corpus();
    let mut rows = Vec::with_capacity(corpus.len() * dim);
    for document in 0..u32::try_from(corpus.len()).unwrap_or(u32::MAX) {
        rows.extend_from_slice(corpus.vector(document));
    }
    normalize_rows(level, &mut rows, dim)?;
    let length = panel_len(corpus.len(), dim);
    let mut wide = vec![Lanes::ZERO; length];
    PanelMatrix::new(corpus.len(), dim, &mut wide[..])?.copy_from_row_major(&rows)?;
    let mut half = vec![HalfLanes::ZERO; length];
    encode_f16(&wide, &mut half)?;
    let (mut byte, mut byte_scales) =
        (vec![ByteLanes::ZERO; length], vec![Lanes::ZERO; panels(corpus.len())]);
    encode_int8(corpus.len(), dim, &wide, &mut byte, &mut byte_scales)?;
    let forms = [
        DocumentPanels::F32(&wide),
        DocumentPanels::F16(&half),
        DocumentPanels::Int8 { values: &byte, scales: &byte_scales },
    ];

    println!("| queries | documents f32 | f16 | int8 |\n| --- | --- | --- | --- |");
    for (name, queries) in ["base", "adapter f32", "adapter int8"].into_iter().zip(&outputs) {
        print!("| {name} ");
        for documents in forms {
            let mut sum = 0.0;
            for (index, query) in queries.iter().enumerate() {
                let mut storage = [Found::default(); 10];
                let mut best = TopK::new(&mut storage);
                search(level, query, documents, corpus.len(), Some(corpus.byte_ranks()), &mut best)?;
                let ranking: Vec<u32> = best.into_sorted().iter().map(|found| found.document).collect();
                let judged = Judged::new(&ranking, &task.query(index).positives.to_vec(), Gain::Binary);
                sum += Metric::NDCG_AT_10.value(&judged);
            }
            print!("| {:.4} ", sum / queries.len() as f64);
        }
        println!("|");
    }
    println!(
        "int8 adapter: {:.2} % of what the adapter changes, root mean square",
        100.0 * (lost / changed).sqrt()
    );
    Ok(())
}
