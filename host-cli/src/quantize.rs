//! `host-cli quantize`: an adapter in eight bits, and what the rounding costs.

use std::path::PathBuf;

use clap::Args;
use query_adapter::Level;
use serde::Serialize;

use crate::adapter_file::{AdapterFile, Int8Adapter, encode_int8};
use crate::claims::Claim;
use crate::failure::Failure;
use crate::files::write_atomically;
use crate::fit::Adapter;
use crate::train::TOOL;

/// Options of `quantize`.
#[derive(Debug, Args)]
pub struct QuantizeOptions {
    /// Adapter file in f32, with as many components out as in
    pub adapter: PathBuf,
    /// File to write to
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Overwrite the output if it exists
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; returns what to print on stdout.
///
/// # Errors
///
/// [`Failure::Input`] when the adapter cannot be read, is damaged, is in fewer bits already or is not square;
/// [`Failure::Output`].
pub fn run(options: &QuantizeOptions) -> Result<String, Failure> {
    let QuantizeOptions { adapter: path, output, force, json } = options;
    let _claim = Claim::take(output, *force)?;
    let level = Level::detect();
    let file = AdapterFile::open(path, level)?;
    let adapter = file.dense(level)?;
    if adapter.in_dim() != adapter.out_dim() {
        let problem = format!(
            "the adapter has {} components in and {} out; only its difference from the identity is stored in eight bits, \
             which takes as many out as in",
            adapter.in_dim(),
            adapter.out_dim()
        );
        return Err(Failure::input(path, problem));
    }
    let rounded = Int8Adapter::rounded(&adapter)?;

    let image = file.image()?;
    let (mut query, mut golden_output) = (vec![0.0; image.in_dim()], vec![0.0; image.out_dim()]);
    image.copy_golden(&mut query, &mut golden_output)?;
    let mut metadata = *image.metadata();
    metadata.tool = TOOL;
    let bytes = encode_int8(&rounded, metadata, &query)?;
    write_atomically(output, *force, |out| out.write_all(&bytes))?;

    let cost = Cost {
        bytes_before: file.len(),
        bytes: bytes.len(),
        relative_error: relative_error(&adapter, &rounded)?,
    };
    if *json {
        let text = serde_json::to_string(&cost).map_err(anyhow::Error::from)?;
        return Ok(text + "\n");
    }
    Ok(format!(
        "size   {} bytes in f32 → {} in int8\nerror  {:.3} % of what the adapter changes: root mean square over all \
         directions of a query\n",
        cost.bytes_before,
        cost.bytes,
        100.0 * cost.relative_error
    ))
}

/// What is printed; with `--json` by these keys, which are stable.
#[derive(Serialize)]
struct Cost {
    bytes_before: usize,
    bytes: usize,
    relative_error: f64,
}

/// `‖Δ − s Δ8‖ ÷ ‖Δ‖` in the Frobenius norm, where `Δ = W − I`: of queries that point in all directions alike, the root
/// mean square of the error as a share of that of the change. 0 for the identity, which has no error.
fn relative_error(adapter: &Adapter, rounded: &Int8Adapter) -> Result<f64, Failure> {
    let dim = adapter.in_dim();
    let mut weight = vec![0.0; dim * dim];
    adapter.copy_weight_to(&mut weight)?;
    let stored = rounded.linear()?;
    let (mut change, mut error) = (0.0, 0.0);
    for (r, row) in weight.chunks_exact(dim).enumerate() {
        let (panel, lane) = (r / query_adapter::LANES, r % query_adapter::LANES);
        let scale = f64::from(stored.scales()[panel].0[lane]);
        for (k, &value) in row.iter().enumerate() {
            let difference = f64::from(value) - f64::from(u8::from(r == k));
            let kept = scale * f64::from(stored.values()[panel * dim + k].0[lane]);
            change += difference * difference;
            error += (difference - kept) * (difference - kept);
        }
    }
    Ok(if change > 0.0 { (error / change).sqrt() } else { 0.0 })
}
