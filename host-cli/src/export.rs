//! `host-cli export`: an adapter as a source file, for programs that have it built in, or for other tools.

mod source;

use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use query_adapter::Level;
use safetensors::tensor::{Dtype, TensorView};

use crate::adapter_file::AdapterFile;
use crate::claims::Claim;
use crate::distinct::{ReadPath, require_distinct};
use crate::failure::Failure;
use crate::files::write_atomically;
use crate::fit::Adapter;
use crate::import::{BIAS, WEIGHT};
use source::{Identifier, Source};

/// Options of `export`.
#[derive(Debug, Args)]
pub struct ExportOptions {
    /// Adapter file
    pub adapter: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// File to write to
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Name of the adapter in the source file [default: made from the output's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Overwrite the output if it exists
    #[arg(long)]
    pub force: bool,
}

/// What `export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A Rust file: the adapter file's bytes as an aligned static, for the kernel
    Rust,
    /// A C and C++ header: the adapter file's bytes as an aligned array, and its golden pair
    C,
    /// The adapter file's bytes as they are, after every check
    Bin,
    /// Weight and bias in f32 as PyTorch names those of a linear layer, in a .safetensors file
    Safetensors,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure::Input`] when the adapter cannot be read, is damaged, or is not reproduced by this machine;
/// [`Failure::Usage`] for a name that is none in the language; [`Failure::Output`].
pub fn run(options: &ExportOptions) -> Result<(), Failure> {
    let ExportOptions { adapter, format, output, name, force } = options;
    if matches!(format, ExportFormat::Bin | ExportFormat::Safetensors) && name.is_some() {
        return Err(Failure::Usage("--name is for --format rust and c; bytes have no name".to_owned()));
    }
    let identifier = match name {
        Some(name) => Identifier::checked(name)?,
        None => Identifier::of_file(output),
    };
    require_distinct(&[("--output", Some(output))], [Some(ReadPath::File(adapter))])?;
    let _claim = Claim::take(output, *force)?;
    let file = AdapterFile::open(adapter, Level::detect())?;
    if *format == ExportFormat::Safetensors {
        let bytes = linear_layer(&file.dense(Level::detect())?)?;
        return write_atomically(output, *force, |out| out.write_all(&bytes));
    }
    let image = file.image()?;
    let (mut golden_query, mut golden_output) = (vec![0.0; image.in_dim()], vec![0.0; image.out_dim()]);
    image.copy_golden(&mut golden_query, &mut golden_output)?;
    let source = Source {
        identifier: &identifier,
        bytes: file.bytes(),
        in_dim: image.in_dim(),
        out_dim: image.out_dim(),
        bias: image.has_bias(),
        dtype: image.dtype().name(),
        golden_query: &golden_query,
        golden_output: &golden_output,
    };
    write_atomically(output, *force, |out| match format {
        ExportFormat::Rust => source.write_rust(out),
        ExportFormat::C => source.write_c(out),
        ExportFormat::Bin | ExportFormat::Safetensors => out.write_all(source.bytes),
    })
}

/// A `.safetensors` file with weight (outputs × inputs) and bias under PyTorch's names.
fn linear_layer(adapter: &Adapter) -> Result<Vec<u8>, Failure> {
    let (in_dim, out_dim) = (adapter.in_dim(), adapter.out_dim());
    let (mut weight, mut bias) = (vec![0.0; out_dim * in_dim], vec![0.0; out_dim]);
    adapter.copy_weight_to(&mut weight)?;
    if adapter.has_bias() {
        adapter.copy_bias_to(&mut bias)?;
    }
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (weight, bias) = (bytes(&weight), bytes(&bias));
    let tensor = |shape, data| TensorView::new(Dtype::F32, shape, data);
    let mut layer = vec![(WEIGHT, tensor(vec![out_dim, in_dim], &weight).map_err(anyhow::Error::from)?)];
    if adapter.has_bias() {
        layer.push((BIAS, tensor(vec![out_dim], &bias).map_err(anyhow::Error::from)?));
    }
    // Some readers ask for it.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(safetensors::serialize(layer, Some(metadata)).map_err(anyhow::Error::from)?)
}
