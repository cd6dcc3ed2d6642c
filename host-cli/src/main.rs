//! The program: parse, run, print, exit.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum as _;
use host_cli::dataset::{Dataset, Purpose};
use host_cli::failure::Failure;
use host_cli::options::{CheckOptions, Command, SimdLevel};
use host_cli::parallel::limit_threads;
use host_cli::report::printable;
use host_cli::retrieval_task::RetrievalTask;
use host_cli::vectors::Embeddings;
use host_cli::{
    apply, check, compare, config, embed, evaluate, explain, export, import, inspect, lint, manual, quantize,
    synthesize, train,
};
use query_adapter::Level;

#[cfg(target_os = "linux")]
#[global_allocator]
static MEMORY: host_cli::spill::Spilling = host_cli::spill::Spilling::new();

fn main() -> ExitCode {
    let options = match config::parse(std::env::args_os().collect()) {
        Ok(Ok(options)) => options,
        Ok(Err(error)) => error.exit(),
        Err(failure) => {
            say("error", &failure.to_string());
            return ExitCode::from(failure.exit_code());
        }
    };
    match run(&options.command).and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Failure::NoGain { printed, .. } | Failure::Unclean { printed, .. } = &failure {
                // A reader that went away does not change the answer.
                let _ = print(printed);
            }
            say("error", &failure.to_string());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs a command; returns what it has not printed itself.
fn run(command: &Command) -> Result<String, Failure> {
    if let Some(threads) = command.threads() {
        limit_threads(threads);
    }
    match command {
        Command::Embed(options) => embed::run(options, level(options.simd)?),
        Command::Train(options) => {
            train::run(options, level(options.common.simd)?, &mut notes(options.common.quiet))
        }
        Command::Evaluate(options) => {
            evaluate::run(options, level(options.common.simd)?, &mut notes(options.common.quiet))
        }
        Command::Compare(options) => {
            compare::run(options, level(options.common.simd)?, &mut notes(options.common.quiet))
        }
        Command::Explain(options) => {
            explain::run(options, level(options.common.simd)?, &mut notes(options.common.quiet))
        }
        Command::Apply(options) => {
            apply::run(options, level(options.simd)?, &mut notes(options.quiet)).map(|()| String::new())
        }
        Command::Inspect(options) => inspect::run(options),
        Command::Export(options) => export::run(options).map(|()| String::new()),
        Command::Import(options) => import::run(options).map(|()| String::new()),
        Command::Quantize(options) => quantize::run(options),
        Command::Lint(options) => lint::run(options),
        Command::Check(options) => cross_check(options),
        Command::Synthesize(options) => synthesize::run(options),
        Command::Completions(options) => manual::completions(options),
        Command::Man(options) => manual::man(options),
    }
}

/// Prints the table in any case: what is out of bounds stands there.
fn cross_check(options: &CheckOptions) -> Result<String, Failure> {
    if let Some(file) = &options.device_digests {
        let report = check::device::run(file)?;
        print(&report.table())?;
        if report.ok() {
            return Ok(String::new());
        }
        let problem = "the device computes other bits than this machine where the table says so: one of the two is \
                       faulty, or they are of different versions";
        return Err(Failure::Numerical(problem.to_owned()));
    }
    let level = level(options.simd)?;
    let embeddings = options.embeddings.as_deref().map(Embeddings::load).transpose()?;
    let load = |file: &PathBuf| {
        let dataset = Dataset::read_without_texts(file, &options.reading, Purpose::Everything)?;
        RetrievalTask::join(dataset, embeddings.as_ref())
    };
    let report = check::run(options.dataset.as_ref().map(load).transpose()?.as_ref(), Some(level))?;
    print(&report.table())?;
    if report.ok() {
        return Ok(String::new());
    }
    let problem =
        "the kernel is out of bounds where the table says so: results of this machine cannot be trusted";
    Err(Failure::Numerical(problem.to_owned()))
}

/// The level asked for, or the best one.
fn level(name: Option<SimdLevel>) -> Result<Level, Failure> {
    let Some(name) = name.as_ref().and_then(SimdLevel::to_possible_value) else { return Ok(Level::detect()) };
    Level::by_name(name.get_name()).map_err(|_| {
        let available: Vec<_> = Level::available().map(Level::name).collect();
        let problem =
            format!("this machine has no SIMD level {}; it has {}", name.get_name(), available.join(", "));
        Failure::Usage(problem)
    })
}

/// Notes go to stderr, so that stdout has results only.
fn notes(quiet: bool) -> impl FnMut(&str) {
    move |line| {
        if !quiet {
            say("note", line);
        }
    }
}

/// A line on stderr, whatever names are in it; when even that cannot be written there is no one to tell.
fn say(kind: &str, line: &str) {
    let _ = writeln!(io::stderr(), "{kind}: {}", printable(line));
}

/// Writes to stdout. A reader that goes away early is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::unwritable(Path::new("stdout"), &error))
        }
        _ => Ok(()),
    }
}
