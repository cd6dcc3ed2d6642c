//! `host-cli inspect`: what an adapter file holds, and whether it is sound.

use core::fmt::{self, Display};

use query_adapter::Level;
use query_adapter::image::{Kind, Metadata, Similarity, Training, VERSION};
use serde::Serialize;

use crate::adapter_file::AdapterFile;
use crate::failure::Failure;
use crate::options::InspectOptions;

/// Width of the first column of the lines.
const LABEL_WIDTH: usize = 17;

/// Settings that stand on one line.
const SETTINGS_A_LINE: usize = 4;

/// Runs the command; returns what to print on stdout.
///
/// # Errors
///
/// [`Failure::Input`] when the file cannot be read, is no adapter file or is damaged, or when a SIMD level of this
/// machine does not reproduce its golden output.
pub fn run(options: &InspectOptions) -> Result<String, Failure> {
    let file = AdapterFile::open(&options.adapter, Level::detect())?;
    for level in Level::available() {
        file.verify_golden(level)?;
    }
    let image = file.image()?;
    let inspection = Inspection {
        format_version: VERSION,
        kind: match image.kind() {
            Kind::Dense => "dense",
            Kind::Residual => "residual",
            _ => "unknown",
        },
        dtype: image.dtype().name(),
        in_dim: image.in_dim(),
        out_dim: image.out_dim(),
        bias: image.has_bias(),
        bytes: file.len(),
        metadata: image.metadata().into(),
        checksums_ok: true,
        golden_reproduced: Level::available().map(Level::name).collect(),
    };
    if options.json {
        let text = serde_json::to_string(&inspection).map_err(anyhow::Error::from)?;
        return Ok(text + "\n");
    }
    Ok(inspection.to_string())
}

/// The JSON object, documented in `docs/cli.md`; its keys are stable.
#[derive(Serialize)]
struct Inspection<'a> {
    format_version: u16,
    kind: &'static str,
    dtype: &'static str,
    in_dim: usize,
    out_dim: usize,
    bias: bool,
    bytes: usize,
    #[serde(flatten)]
    metadata: MetadataView<'a>,
    /// Always true: a damaged file is refused.
    checksums_ok: bool,
    /// The SIMD levels of this machine, from plain scalar code to the best; one that differs is an error.
    golden_reproduced: Vec<&'static str>,
}

#[derive(Serialize)]
struct MetadataView<'a> {
    tool: &'a str,
    base_model: &'a str,
    query_prefix: &'a str,
    document_prefix: &'a str,
    similarity: &'static str,
    normalized: bool,
    /// The text whose vector tells the base model from others; null where the model was not at hand.
    golden_text: Option<&'a str>,
    /// A file for `train --config` that gives the run's settings; null where they are not known.
    settings: Option<&'a str>,
    training: Option<TrainingView<'a>>,
}

#[derive(Serialize)]
struct TrainingView<'a> {
    recipe: &'a str,
    optimizer: &'a str,
    epochs: u32,
    kept_epoch: u32,
    steps: u64,
    batch_size: u32,
    lr: f32,
    scale: f32,
    seed: u64,
    pairs: u64,
    validation: Option<ValidationView>,
}

#[derive(Serialize)]
struct ValidationView {
    #[serde(rename = "base_ndcg@10")]
    base: f32,
    #[serde(rename = "adapted_ndcg@10")]
    adapted: f32,
}

impl<'a> From<&Metadata<'a>> for MetadataView<'a> {
    fn from(metadata: &Metadata<'a>) -> Self {
        Self {
            tool: metadata.tool,
            base_model: metadata.base_model,
            query_prefix: metadata.query_prefix,
            document_prefix: metadata.document_prefix,
            similarity: match metadata.similarity {
                Similarity::Cosine => "cosine",
                Similarity::Dot => "dot",
                _ => "unknown",
            },
            normalized: metadata.normalized,
            golden_text: metadata.golden_text,
            settings: metadata.settings,
            training: metadata.training.map(TrainingView::from),
        }
    }
}

impl<'a> From<Training<'a>> for TrainingView<'a> {
    fn from(training: Training<'a>) -> Self {
        Self {
            recipe: training.recipe,
            optimizer: training.optimizer,
            epochs: training.epochs,
            kept_epoch: training.kept_epoch,
            steps: training.steps,
            batch_size: training.batch_size,
            lr: training.lr,
            scale: training.scale,
            seed: training.seed,
            pairs: training.pairs,
            validation: training.validation.map(|validation| ValidationView {
                base: validation.base_ndcg_at_10,
                adapted: validation.adapted_ndcg_at_10,
            }),
        }
    }
}

impl Display for Inspection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |label: &str, value: &dyn Display| writeln!(f, "{label:LABEL_WIDTH$}{value}");
        line("format", &format_args!("version {}, {}, {}", self.format_version, self.kind, self.dtype))?;
        let bias = if self.bias { "with bias" } else { "no bias" };
        line("dimensions", &format_args!("{} → {}, {bias}", self.in_dim, self.out_dim))?;
        line("size", &format_args!("{} bytes", self.bytes))?;
        let metadata = &self.metadata;
        line("written by", &text_or(metadata.tool, "not stated"))?;
        line("base model", &text_or(metadata.base_model, "not stated"))?;
        line("query prefix", &text_or(metadata.query_prefix, "none"))?;
        line("document prefix", &text_or(metadata.document_prefix, "none"))?;
        match metadata.golden_text {
            Some(text) => line("model check", &format_args!("by its vector for {text:?}"))?,
            None => line("model check", &"none: vectors of any model with as many components are taken")?,
        }
        line("similarity", &metadata.similarity)?;
        line("query vectors", &if metadata.normalized { "of length 1" } else { "of any length" })?;
        match &metadata.training {
            None => line("training", &"not stated")?,
            Some(training) => training.lines(&mut line)?,
        }
        let settings: Vec<_> = metadata.settings.unwrap_or_default().lines().map(without_controls).collect();
        for (at, some) in settings.chunks(SETTINGS_A_LINE).enumerate() {
            line(if at == 0 { "settings" } else { "" }, &some.join("  "))?;
        }
        line("checksums", &"header, metadata and weights are as written")?;
        let levels = self.golden_reproduced.join(", ");
        line("golden pair", &format_args!("reproduced bit for bit at every level of this machine: {levels}"))
    }
}

impl TrainingView<'_> {
    fn lines(&self, line: &mut impl FnMut(&str, &dyn Display) -> fmt::Result) -> fmt::Result {
        let Self { recipe, optimizer, lr, scale, batch_size, seed, .. } = self;
        line(
            "training",
            &format_args!(
                "recipe {recipe}, {optimizer}, learning rate {lr}, scale {scale}, batch size {batch_size}, \
                 seed {seed}"
            ),
        )?;
        let Self { steps, epochs, pairs, .. } = self;
        line("", &format_args!("{steps} steps in {epochs} epochs over {pairs} pairs"))?;
        match self.kept_epoch {
            0 => line("weights", &"the starting point: no epoch was better beyond doubt")?,
            kept => line("weights", &format_args!("those after epoch {kept}"))?,
        }
        match &self.validation {
            None => line("validation", &"none"),
            Some(ValidationView { base, adapted }) => {
                line("validation", &format_args!("nDCG@10 {base:.4} base → {adapted:.4} adapted"))
            }
        }
    }
}

/// A line of the file as it is, but for what could draw on a terminal.
fn without_controls(line: &str) -> String {
    line.chars().filter(|character| !character.is_control()).collect()
}

/// A text of the file on one line, in quotes; control characters are escaped, so that no file can draw on a terminal.
fn text_or(text: &str, absent: &str) -> String {
    if text.is_empty() { absent.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_file_cannot_draw_on_a_terminal() {
        assert_eq!(text_or("query: \u{1b}[31m\n", "none"), "\"query: \\u{1b}[31m\\n\"");
        assert_eq!(text_or("", "none"), "none");
    }
}
