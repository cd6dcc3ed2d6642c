//! `host-cli import`: an adapter that another tool trained, as an adapter file.

use std::path::{Path, PathBuf};

use clap::Args;
use query_adapter::image::{self, Metadata};
use query_adapter::{Lanes, Level, Linear, MAX_DIM, linear_len};
use safetensors::tensor::TensorView;

use crate::adapter_file;
use crate::claims::Claim;
use crate::contents::Contents;
use crate::distinct::{ReadPath, require_distinct};
use crate::failure::Failure;
use crate::fit::Adapter;
use crate::json::quoted;
use crate::train::TOOL;
use crate::vectors::safetensors as tensors;

/// What PyTorch calls the parts of a linear layer in a module that holds it as `linear`, as LlamaIndex's does.
pub(crate) const WEIGHT: &str = "linear.weight";
pub(crate) const BIAS: &str = "linear.bias";

/// What a file must hold.
const EXPECTED: &str = "expected those of one linear layer: a weight (outputs × inputs), as \"linear.weight\", and perhaps a bias \
                        (outputs), as \"linear.bias\"";

/// Options of `import`.
#[derive(Debug, Args)]
pub struct ImportOptions {
    /// File with weight and bias of a linear layer as PyTorch has them: .safetensors
    pub layer: PathBuf,
    /// Adapter file to write
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Name of the embedding model that the adapter is for, kept in the adapter file
    #[arg(long, value_name = "NAME", default_value = "")]
    pub base_model: String,
    /// Overwrite the output if it exists
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
///
/// As [`read_layer`]; [`Failure::Usage`] for a name that is too long; [`Failure::Output`].
pub fn run(options: &ImportOptions) -> Result<(), Failure> {
    let ImportOptions { layer, output, base_model, force } = options;
    require_distinct(&[("--output", Some(output))], [Some(ReadPath::File(layer))])?;
    let _claim = Claim::take(output, *force)?;
    let adapter = read_layer(layer, Level::detect())?;
    let metadata = Metadata { tool: TOOL, base_model, ..Metadata::UNKNOWN };
    adapter_file::save(output, *force, &adapter, metadata, None)
}

/// Reads weight and bias of a linear layer from a `.safetensors` file.
///
/// # Errors
///
/// [`Failure::Input`] when it cannot be read, is no such file, or holds anything but one weight (outputs × inputs) and perhaps one
/// bias (outputs) of finite numbers, f16, bf16, f32 or f64.
pub fn read_layer(file: &Path, level: Level) -> Result<Adapter, Failure> {
    let refuse = |problem: String| Failure::input(file, problem);
    let contents = Contents::of(file)?;
    let bytes: &[u8] = &contents;
    if bytes.starts_with(&image::MAGIC) {
        return Err(refuse(
            "this is an adapter file already, expected .safetensors of another tool".to_owned(),
        ));
    }
    if bytes.starts_with(b"PK") {
        let problem = "this is a zip archive, as torch.save writes it, expected .safetensors; in Python: \
                       safetensors.torch.save_file(torch.load(\"adapter.bin\"), \"adapter.safetensors\")";
        return Err(refuse(problem.to_owned()));
    }
    let layer = tensors::open(file, bytes)?;
    let mut named = layer.tensors();
    // A file's header has no order that means anything.
    named.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let of_rank = |rank: usize| named.iter().filter(move |(_, tensor)| tensor.shape().len() == rank);
    let (mut weights, mut biases) = (of_rank(2), of_rank(1));
    let (Some((weight_name, weight)), bias) = (weights.next(), biases.next()) else {
        return Err(refuse(format!("found the tensors {}, {EXPECTED}", shown(&named))));
    };
    let &[out_dim, in_dim] = weight.shape() else { return Err(refuse(EXPECTED.to_owned())) };
    let fits = bias.is_none_or(|(_, bias)| bias.shape() == [out_dim]);
    let dims = 1..=MAX_DIM;
    if named.len() != 1 + usize::from(bias.is_some())
        || !fits
        || !dims.contains(&in_dim)
        || !dims.contains(&out_dim)
    {
        let limit = format!("of at most {MAX_DIM} inputs and outputs");
        return Err(refuse(format!("found the tensors {}, {EXPECTED}, {limit}", shown(&named))));
    }
    let weights = values(file, weight_name, weight)?;
    let storage = vec![Lanes::ZERO; linear_len(in_dim, out_dim, bias.is_some())];
    let mut adapter = Linear::from_lanes(in_dim, out_dim, bias.is_some(), storage, level)?;
    adapter.set_weight(&weights)?;
    if let Some((name, bias)) = bias {
        adapter.set_bias(&values(file, name, bias)?)?;
    }
    Ok(adapter)
}

/// The numbers of a tensor, all finite.
fn values(file: &Path, name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>, Failure> {
    let refuse = |problem: String| Failure::input(file, format!("{}{problem}", quoted(name)));
    let values = tensors::values(tensor).map_err(|problem| refuse(format!(": {problem}")))?;
    let Some(at) = values.iter().position(|value| !value.is_finite()) else { return Ok(values) };
    let place = match tensor.shape() {
        &[_, columns] => format!(" row {} column {}", at / columns.max(1), at % columns.max(1)),
        _ => format!(" value {at}"),
    };
    Err(refuse(format!("{place}: found {} as a 32-bit float, expected a finite number", values[at])))
}

/// Names and shapes.
fn shown(named: &[(String, TensorView<'_>)]) -> String {
    let shape = |tensor: &TensorView<'_>| {
        let sizes: Vec<String> = tensor.shape().iter().map(ToString::to_string).collect();
        sizes.join(" × ")
    };
    match named {
        [] => "none".to_owned(),
        _ => {
            let each =
                named.iter().take(8).map(|(name, tensor)| format!("{} ({})", quoted(name), shape(tensor)));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}
