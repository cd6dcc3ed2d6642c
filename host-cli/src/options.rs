//! The command line: every command, flag and default in one place.

use core::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::auto::trials::Effort;
use crate::checkpoint::CheckpointOptions;
use crate::compare::CompareOptions;
use crate::config::ConfigOptions;
use crate::dataset::ReadingOptions;
use crate::distinct::ReadPath;
use crate::explain::ExplainOptions;
use crate::export::ExportOptions;
use crate::fit::Negatives;
use crate::import::ImportOptions;
use crate::judging::JudgingOptions;
use crate::lint::LintOptions;
use crate::manual::{CompletionsOptions, ManOptions};
use crate::quantize::QuantizeOptions;

/// Trains, evaluates and applies query adapters: a small matrix that bends a query embedding toward the right
/// documents, with documents and embedding model left as they are.
#[derive(Debug, Parser)]
#[command(name = "host-cli", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = help_end()
)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

fn help_end() -> String {
    format!(
        "Exit codes: 0 success, 1 other failure, 2 usage, 3 input data refused, 4 output exists or cannot be written, \
         5 numerical refusal, 6 no gain where --require-gain asks for one, 7 lint found something, \
         130 and 143 stopped by Ctrl-C and by SIGTERM.\n\n{}",
        crate::embed::BUILT_IN
    )
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Embed the texts of data sets by a model and write a folder of vectors.
    Embed(EmbedOptions),
    /// Train an adapter on a data set and print how it compares with the untouched base.
    Train(Box<TrainOptions>),
    /// Print how well the base, and an adapter if given, finds the documents of a data set.
    Evaluate(EvaluateOptions),
    /// Compare adapters, retrievers and TREC run files on the same queries, and say how surely they differ.
    Compare(CompareOptions),
    /// Show one query's documents before and after an adapter, and the training pairs nearest to it.
    Explain(ExplainOptions),
    /// Transform query vectors by an adapter: .npy to .npy, or JSON Lines from stdin to stdout.
    Apply(ApplyOptions),
    /// Print what an adapter file holds, and verify it.
    Inspect(InspectOptions),
    /// Write an adapter as a source file in Rust or C, for a program that has it built in, or for other tools.
    Export(ExportOptions),
    /// Write an adapter that another tool trained, a linear layer in .safetensors, as an adapter file.
    Import(ImportOptions),
    /// Write an adapter in eight bits, a quarter of the size, and print what that costs.
    Quantize(QuantizeOptions),
    /// Print what is wrong with data sets, and what they share; exit code 7 where there is anything.
    Lint(LintOptions),
    /// Cross-check the kernel against an independent f64 reference implementation.
    Check(CheckOptions),
    /// Write a made-up data set of any size, to see how time and memory grow.
    Synthesize(SynthesizeOptions),
    /// Print a script that completes commands and flags in a shell.
    Completions(CompletionsOptions),
    /// Print the manual page, or write a page for each command.
    Man(ManOptions),
}

impl Command {
    /// The number of threads asked for.
    #[must_use]
    pub fn threads(&self) -> Option<NonZeroUsize> {
        match self {
            Self::Embed(options) => options.threads,
            Self::Train(options) => options.common.threads,
            Self::Evaluate(options) => options.common.threads,
            Self::Compare(options) => options.common.threads,
            Self::Explain(options) => options.common.threads,
            Self::Apply(options) => options.threads,
            Self::Inspect(_)
            | Self::Export(_)
            | Self::Import(_)
            | Self::Quantize(_)
            | Self::Lint(_)
            | Self::Check(_)
            | Self::Synthesize(_)
            | Self::Completions(_)
            | Self::Man(_) => None,
        }
    }
}

/// Where a data set's vectors come from, and which instructions to use.
#[derive(Debug, Args)]
pub struct Common {
    /// Folder with the vectors: queries.npy, query_ids.json, corpus.npy and corpus_ids.json, or other formats; without it
    /// the vectors are those inside the data set files
    #[arg(long, value_name = "DIR", conflicts_with = "model")]
    pub embeddings: Option<PathBuf>,
    /// File with the vectors of the queries, in place of a folder
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "embeddings"], requires = "document_embeddings")]
    pub query_embeddings: Option<PathBuf>,
    /// File with the vectors of the documents
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "embeddings"], requires = "query_embeddings")]
    pub document_embeddings: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub reading: ReadingOptions,
    /// Refuse data sets that have any defect, in place of repairing it
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub models: ModelOptions,
    /// SIMD level to use instead of the best one; all give the same bits
    #[arg(long, value_name = "LEVEL")]
    pub simd: Option<SimdLevel>,
    /// Threads to embed and evaluate on; any number gives the same results [default: as many as the machine offers]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<NonZeroUsize>,
    /// Print one JSON object on stdout instead of tables
    #[arg(long)]
    pub json: bool,
    /// Print neither progress nor notes
    #[arg(long, short)]
    pub quiet: bool,
}

impl Common {
    /// The vectors that are read.
    pub(crate) fn inputs(&self) -> [Option<ReadPath<'_>>; 3] {
        let paths = [&self.embeddings, &self.query_embeddings, &self.document_embeddings];
        paths.map(|path| path.as_deref().map(ReadPath::Vectors))
    }
}

/// The model that embeds texts, and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Models")]
pub struct ModelOptions {
    /// Embedding model: a Hugging Face folder, a name on its hub, or with --model-url the service's name for it
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Address of an OpenAI-compatible service that runs the model
    #[arg(long, value_name = "URL", requires = "model")]
    pub model_url: Option<String>,
    /// Text before each query [default: what the model's own files say, else nothing]
    #[arg(long, value_name = "TEXT")]
    pub query_prefix: Option<String>,
    /// Text before each document [default: what the model's own files say, else nothing]
    #[arg(long, value_name = "TEXT")]
    pub document_prefix: Option<String>,
    /// Folder that keeps vectors from run to run [default: query-adapter in the user's cache folder]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub cache: Option<PathBuf>,
    /// Keep no vectors
    #[arg(long)]
    pub no_cache: bool,
    /// Environment variable that holds the service's key
    #[arg(long, value_name = "NAME", default_value = "OPENAI_API_KEY")]
    pub api_key_env: String,
    /// Texts in a request to the service
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=2048))]
    pub request_texts: u32,
    /// Requests to the service at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub requests: u32,
    /// Requests to the service in a minute [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_minute: Option<u32>,
    /// Seconds after which a request counts as lost and is made again
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    pub request_timeout: f64,
}

/// Options of `embed`.
#[derive(Debug, Args)]
pub struct EmbedOptions {
    /// Data sets whose queries and documents to embed: files or folders of any form that data sets have
    #[arg(required = true, value_name = "DATASET")]
    pub datasets: Vec<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub reading: ReadingOptions,
    /// Folder to write queries.npy, query_ids.json, corpus.npy, corpus_ids.json and model.json to
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// Overwrite these files if they exist
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub models: ModelOptions,
    /// SIMD level to use instead of the best one; all give the same bits
    #[arg(long, value_name = "LEVEL")]
    pub simd: Option<SimdLevel>,
    /// Threads to use instead of as many as the machine offers; any number gives the same bits
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<NonZeroUsize>,
    /// Print no progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// Options of `train`.
#[derive(Debug, Args)]
pub struct TrainOptions {
    /// Data set to train on: EmbeddingQAFinetuneDataset JSON, rows of a query and a document, or a folder (BEIR)
    pub train: PathBuf,
    /// Data set to choose on: with auto, as long as it is about the same documents, more pairs to fold and to train on;
    /// without it single splits a share of the training queries off by document
    #[arg(long, value_name = "FILE")]
    pub validation: Option<PathBuf>,
    /// Data set to report on, looked at once, at the end
    #[arg(long, value_name = "FILE")]
    pub test: Option<PathBuf>,
    /// File for the adapted ranking of each query of --test, as a TREC run file
    #[arg(long, value_name = "FILE", requires = "test")]
    pub predictions: Option<PathBuf>,
    /// Adapter file to write
    #[arg(long, short, value_name = "FILE", default_value = "adapter.qad")]
    pub output: PathBuf,
    /// Page to write, an HTML file that shows whether the adapter helped, how surely, and where it hurt
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Overwrite the output, the log, the rankings and the report if they exist
    #[arg(long)]
    pub force: bool,
    /// File for a log of the run, as JSON Lines: settings and shapes, steps, epochs, result
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Steps from one line of the log to the next
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), requires = "log")]
    pub log_every: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub checkpoints: CheckpointOptions,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub configuration: ConfigOptions,
    /// How to train [default: auto; single where a setting of a run is given]
    #[arg(long, value_enum)]
    pub recipe: Option<RecipeName>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub auto: AutoOptions,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub settings: SettingOptions,
    /// Seed of the order of the pairs and of every split
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Name of the embedding model, kept in the adapter file [default: what the model or its vectors say]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub base_model: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub common: Common,
}

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecipeName {
    /// Many settings are tried, validation chooses, and other queries say whether it helps; nothing to set
    Auto,
    /// One run: all positives, shuffled, false negatives masked, best epoch on validation kept, the base among them
    Single,
    /// The arithmetic of LlamaIndex's engine: first positive, file order, no mask, last epoch kept
    Reference,
}

/// Options of the recipe `auto`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Recipe auto")]
pub struct AutoOptions {
    /// How much to try: decided by the shape of the data, never by a clock
    #[arg(long, value_enum, default_value_t = Effort::Default)]
    pub effort: Effort,
    /// Try no more after so many seconds; another run may then give another adapter
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub max_seconds: Option<f64>,
    /// Keep what was chosen also where there is no evidence that it is better than the base
    #[arg(long)]
    pub accept_uncertain: bool,
    /// Exit with code 6 unless the adapter is better than the base; what is written stays the same
    #[arg(long)]
    pub require_gain: bool,
    /// Queries that have nothing to do with the training pairs, as a data set or as the rows of a .npy file: an adapter that
    /// gives more than 5 % of them another first document is refused
    #[arg(long, value_name = "FILE")]
    pub keep: Option<PathBuf>,
    /// Do it all again with the labels shuffled, which must show no gain
    #[arg(long)]
    pub control: bool,
}

/// Settings of a single run.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Recipes single and reference")]
pub struct SettingOptions {
    /// Passes over the training pairs [single: 16; reference: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub epochs: Option<u32>,
    /// Pairs a step, at least 2 [single: 64; reference: 10]
    #[arg(long, value_name = "N", value_parser = batch_size)]
    pub batch_size: Option<u32>,
    /// Learning rate [single: 0.0005; reference: 0.00002]
    #[arg(long, value_parser = not_negative)]
    pub lr: Option<f32>,
    /// Factor of the cosine before the softmax, 1 / temperature [default: 20]
    #[arg(long, value_parser = positive)]
    pub scale: Option<f32>,
    /// Update rule [default: adamw]
    #[arg(long, value_enum)]
    pub optimizer: Option<OptimizerName>,
    /// Strength of weight decay [default: 0.01]
    #[arg(long, value_name = "X", value_parser = not_negative)]
    pub weight_decay: Option<f32>,
    /// Decay of the first moment [default: 0.9]
    #[arg(long, value_name = "X", value_parser = below_one)]
    pub beta1: Option<f32>,
    /// Decay of the second moment [default: 0.999]
    #[arg(long, value_name = "X", value_parser = below_one)]
    pub beta2: Option<f32>,
    /// Added to the root of the second moment [default: 1e-8]
    #[arg(long, value_name = "X", value_parser = positive)]
    pub eps: Option<f32>,
    /// Largest global norm of the gradient; `inf` for no clipping [default: 1.0]
    #[arg(long, value_name = "NORM", value_parser = positive_or_infinite)]
    pub clip: Option<f32>,
    /// Steps of linear warm-up [default: a tenth of all steps]
    #[arg(long, value_name = "STEPS")]
    pub warmup: Option<u32>,
    /// Course of the learning rate after the warm-up: to 0 at the last step, or constant [default: linear]
    #[arg(long, value_enum)]
    pub schedule: Option<ScheduleName>,
    /// Train a bias too
    #[arg(long)]
    pub bias: bool,
    /// What a query's answer is told apart from [single: positives, in-batch beyond 4096 documents;
    /// reference: in-batch]
    #[arg(long, value_enum)]
    pub negatives: Option<Negatives>,
    /// Take second-order steps, by the inverse of the queries' second moments with this damping; goes with --optimizer sgd
    #[arg(long, value_name = "DAMPING", value_parser = positive)]
    pub precondition: Option<f32>,
    /// Keep the mean of the weights over the last part of the run, up to its second half, not the last weights
    #[arg(long)]
    pub average: bool,
    /// Share of the queries to split off for validation when there is no --validation [default: 0.2]
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "validation")]
    pub validation_share: Option<f64>,
}

impl SettingOptions {
    /// The first flag that was given.
    #[must_use]
    pub fn first_given(&self) -> Option<&'static str> {
        let Self {
            epochs,
            batch_size,
            lr,
            scale,
            optimizer,
            weight_decay,
            beta1,
            beta2,
            eps,
            clip,
            warmup,
            schedule,
            bias,
            negatives,
            precondition,
            average,
            validation_share,
        } = self;
        [
            ("--epochs", epochs.is_some()),
            ("--batch-size", batch_size.is_some()),
            ("--lr", lr.is_some()),
            ("--scale", scale.is_some()),
            ("--optimizer", optimizer.is_some()),
            ("--weight-decay", weight_decay.is_some()),
            ("--beta1", beta1.is_some()),
            ("--beta2", beta2.is_some()),
            ("--eps", eps.is_some()),
            ("--clip", clip.is_some()),
            ("--warmup", warmup.is_some()),
            ("--schedule", schedule.is_some()),
            ("--bias", *bias),
            ("--negatives", negatives.is_some()),
            ("--precondition", precondition.is_some()),
            ("--average", *average),
            ("--validation-share", validation_share.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }
}

/// Options of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateOptions {
    /// Data set to evaluate on: EmbeddingQAFinetuneDataset JSON, rows of a query and a document, or a folder (BEIR); with
    /// --run, whose labels judge it
    #[arg(required_unless_present = "run")]
    pub dataset: Option<PathBuf>,
    /// Adapter file to compare with the base
    #[arg(long, short, value_name = "FILE")]
    pub adapter: Option<PathBuf>,
    /// Retrievers to compare, a row each: a folder of vectors or a model (MODEL, MODEL@URL; nothing for the vectors that
    /// the other flags name), and an adapter if there is one; may be repeated
    #[arg(long, value_name = "NAME=SOURCE[+ADAPTER]", conflicts_with = "adapter")]
    pub compare: Vec<String>,
    /// TREC run file to judge, by --qrels or a data set's labels, instead of ranking documents
    #[arg(long, value_name = "FILE", conflicts_with_all = ["adapter", "compare", "predictions", "embeddings", "model"])]
    pub run: Option<PathBuf>,
    /// File for the ranking of each query, of the adapter if there is one, as a TREC run file
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// File for the values of each query: CSV where its name ends in .csv, else JSON Lines
    #[arg(long, value_name = "FILE")]
    pub per_query: Option<PathBuf>,
    /// Page to write, an HTML file that shows whether the adapter helped, how surely, and where it hurt
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compare", "run"])]
    pub report: Option<PathBuf>,
    /// Overwrite these files if they exist
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub judging: JudgingOptions,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub common: Common,
}

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct ApplyOptions {
    /// Adapter file
    #[arg(long, short, value_name = "FILE")]
    pub adapter: PathBuf,
    /// Query vectors: a .npy file, any other file as JSON Lines, or `-` for JSON Lines on stdin
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub input: PathBuf,
    /// Where to write: a .npy file, any other file as JSON Lines, or `-` for JSON Lines on stdout
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Overwrite the output if it exists
    #[arg(long)]
    pub force: bool,
    /// SIMD level to use instead of the best one; all give the same bits
    #[arg(long, value_name = "LEVEL")]
    pub simd: Option<SimdLevel>,
    /// Threads to work on; any number gives the same output [default: as many as the machine offers]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<NonZeroUsize>,
    /// Print no notes
    #[arg(long, short)]
    pub quiet: bool,
}

/// Options of `inspect`.
#[derive(Debug, Args)]
pub struct InspectOptions {
    /// Adapter file
    pub adapter: PathBuf,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// Data set whose vectors to check with, beside the built-in ones
    pub dataset: Option<PathBuf>,
    /// Folder with the data set's vectors
    #[arg(long, value_name = "DIR", requires = "dataset")]
    pub embeddings: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub reading: ReadingOptions,
    /// SIMD level to check instead of the best one
    #[arg(long, value_name = "LEVEL")]
    pub simd: Option<SimdLevel>,
    /// Compare the digests that a device printed with this machine's, and check nothing else; `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dataset", "simd"])]
    pub device_digests: Option<PathBuf>,
}

/// Options of `synthesize`.
#[derive(Debug, Args)]
pub struct SynthesizeOptions {
    /// Queries to train on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000_000))]
    pub queries: u32,
    /// Documents of the corpus
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000_000))]
    pub documents: u32,
    /// Components of every vector
    #[arg(long, value_name = "N", default_value_t = 768, value_parser = clap::value_parser!(u32).range(2..=8192))]
    pub dim: u32,
    /// Seed of everything in it
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder to write to, made if it is not there
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// Overwrite files of an earlier run
    #[arg(long)]
    pub force: bool,
}

/// Names of the kernel's SIMD levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum SimdLevel {
    Scalar,
    Sse2,
    Avx2,
    Avx512,
    Neon,
    Simd128,
}

/// Names of the kernel's update rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum OptimizerName {
    Adamw,
    Adam,
    Sgd,
}

/// Names of the kernel's learning-rate schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ScheduleName {
    Linear,
    Cosine,
    Constant,
}

fn number(text: &str, expected: &str, ok: impl Fn(f32) -> bool) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if ok(value) => Ok(value),
        _ => Err(format!("expected {expected}")),
    }
}

/// More threads than any machine has cores are a mistake.
const MOST_THREADS: usize = 1024;

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    match text.parse::<NonZeroUsize>() {
        Ok(threads) if threads.get() <= MOST_THREADS => Ok(threads),
        _ => Err(format!("expected a number from 1 to {MOST_THREADS}")),
    }
}

fn batch_size(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(1) => {
            Err("expected at least 2: a pair alone has no other document to be told apart from".to_owned())
        }
        Ok(value @ 2..=65_536) => Ok(value),
        _ => Err("expected a number from 2 to 65536".to_owned()),
    }
}

fn not_negative(text: &str) -> Result<f32, String> {
    number(text, "a finite number, 0 or more", |x| x >= 0.0 && x.is_finite())
}

fn positive(text: &str) -> Result<f32, String> {
    number(text, "a finite number above 0", |x| x > 0.0 && x.is_finite())
}

fn positive_or_infinite(text: &str) -> Result<f32, String> {
    number(text, "a number above 0, or inf", |x| x > 0.0)
}

fn below_one(text: &str) -> Result<f32, String> {
    number(text, "a number from 0 to below 1", |x| (0.0..1.0).contains(&x))
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 3600.0 => Ok(value),
        _ => Err("expected a number of seconds above 0, at most 3600".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("expected a number between 0 and 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for (flag, value) in [
            ("--lr", "-1"),
            ("--lr", "NaN"),
            ("--lr", "inf"),
            ("--scale", "0"),
            ("--eps", "0"),
            ("--beta1", "1"),
            ("--clip", "0"),
            ("--epochs", "0"),
            ("--batch-size", "0"),
            ("--batch-size", "1"),
            ("--weight-decay", "-0.1"),
            ("--validation-share", "1"),
            ("--seed", "-1"),
            ("--threads", "0"),
            ("--threads", "1025"),
            ("--log-every", "5"),
        ] {
            let flag = format!("{flag}={value}");
            assert!(Options::try_parse_from(["host-cli", "train", "x.json", &flag]).is_err(), "{flag}");
        }
        assert!(Options::try_parse_from(["host-cli", "train", "x.json", "--clip=inf", "--lr=0"]).is_ok());
    }
}
