//! Why a command stopped: one line for a person, one exit code for a script.

use std::io;
use std::path::{Path, PathBuf};

use crate::interrupts::Signal;

/// Why a command stopped.
///
/// The message is one line that names the file and the place in it, what was found, what was expected and
/// what to do. [`exit_code`](Self::exit_code) is stable, so scripts may rely on it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A setting that the argument parser lets through and that makes no sense all the same.
    #[error("{0}")]
    Usage(String),
    /// Input data that cannot be read or is refused.
    #[error("{}: {problem}", file.display())]
    Input {
        /// The file or folder.
        file: PathBuf,
        /// The place in it, what was found, what was expected, what to do.
        problem: String,
    },
    /// An output that exists already or cannot be written. Nothing was written.
    #[error("{}: {problem}", file.display())]
    Output {
        /// The file.
        file: PathBuf,
        /// What stands in the way and what to do.
        problem: String,
    },
    /// The arithmetic refused to go on: a loss, gradient or result is not finite. Nothing was written.
    #[error("{0}")]
    Numerical(String),
    /// A gain was required and none was shown. The adapter is written, and this is what would be printed.
    #[error("--require-gain: {words}")]
    NoGain {
        /// For stdout.
        printed: String,
        /// The verdict.
        words: String,
    },
    /// A signal asked the run to end. No output was written.
    #[error("stopped by {}{then}", signal.name())]
    Interrupted {
        /// The signal.
        signal: Signal,
        /// How to go on.
        then: String,
    },
    /// `lint` found something. This is what would be printed.
    #[error("{words}")]
    Unclean {
        /// For stdout.
        printed: String,
        /// How much.
        words: String,
    },
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// The process's exit code.
    ///
    /// | code | meaning |
    /// |---|---|
    /// | 0 | success |
    /// | 1 | any other failure |
    /// | 2 | usage: a flag or a setting is wrong (the argument parser's own code) |
    /// | 3 | input data cannot be read or is refused |
    /// | 4 | the output exists or cannot be written |
    /// | 5 | numerical refusal |
    /// | 6 | `train --require-gain`: no gain was shown |
    /// | 7 | `lint` found something |
    /// | 130, 143 | `train` was stopped by Ctrl-C (SIGINT) or by SIGTERM |
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::Input { .. } => 3,
            Self::Output { .. } => 4,
            Self::Numerical(_) => 5,
            Self::NoGain { .. } => 6,
            Self::Unclean { .. } => 7,
            Self::Interrupted { signal, .. } => signal.exit_code(),
        }
    }

    pub(crate) fn input(file: &Path, problem: impl Into<String>) -> Self {
        Self::Input { file: file.to_owned(), problem: one_line(problem.into()) }
    }

    pub(crate) fn output(file: &Path, problem: impl Into<String>) -> Self {
        Self::Output { file: file.to_owned(), problem: one_line(problem.into()) }
    }

    /// An output that takes no more bytes.
    #[must_use]
    pub fn unwritable(file: &Path, error: &io::Error) -> Self {
        Self::output(file, format!("cannot be written: {error}"))
    }

    /// An input file that cannot be opened or read.
    pub(crate) fn unreadable(file: &Path, error: &io::Error) -> Self {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
            io::ErrorKind::PermissionDenied => "no permission to read this file".to_owned(),
            io::ErrorKind::IsADirectory => "this is a folder, expected a file".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        Self::input(file, problem)
    }
}

/// A message without line ends and other control characters: the errors of libraries may hold pieces of a damaged file.
fn one_line(message: String) -> String {
    if !message.contains(char::is_control) {
        return message;
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    message.chars().map(shown).collect()
}

impl From<query_adapter::Error> for Failure {
    /// Refusals by value are numerical; what else the kernel can refuse was not caught by a check of the
    /// host.
    fn from(error: query_adapter::Error) -> Self {
        use query_adapter::Error;
        match error {
            Error::NotFinite { .. }
            | Error::GradientTooLarge
            | Error::TotalWeight
            | Error::Weight { .. }
            | Error::FlushToZero => Self::Numerical(error.to_string()),
            _ => Self::Other(anyhow::anyhow!("{error}")),
        }
    }
}

/// The message of a refusal of input data: one line that begins with the file's name.
#[cfg(test)]
pub(crate) fn refusal(result: Result<impl core::fmt::Debug, Failure>) -> String {
    let failure = result.expect_err("must be refused");
    assert_eq!(failure.exit_code(), 3, "{failure}");
    let (message, Failure::Input { file, .. }) = (failure.to_string(), &failure) else { panic!("{failure}") };
    assert!(message.starts_with(&format!("{}: ", file.display())), "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_documented_exit_code() {
        let path = Path::new("x");
        assert_eq!(Failure::Other(anyhow::anyhow!("x")).exit_code(), 1);
        assert_eq!(Failure::Usage("x".into()).exit_code(), 2);
        assert_eq!(Failure::input(path, "x").exit_code(), 3);
        assert_eq!(Failure::output(path, "x").exit_code(), 4);
        assert_eq!(Failure::from(query_adapter::Error::GradientTooLarge).exit_code(), 5);
        assert_eq!(Failure::from(query_adapter::Error::Magic).exit_code(), 1);
        let interrupted = |signal| Failure::Interrupted { signal, then: String::new() }.exit_code();
        assert_eq!(
            [Signal::Interrupt, Signal::Terminate].map(interrupted),
            [130, 143],
            "128 and the signal's number"
        );
    }

    #[test]
    fn a_message_names_its_file_and_is_one_line() {
        let error = Failure::unreadable(Path::new("a.json"), &io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(error.to_string(), "a.json: there is no such file; check the path");
        let nested = anyhow::anyhow!("inner").context("outer");
        assert_eq!(Failure::from(nested).to_string(), "outer: inner");
        let quoting = Failure::input(Path::new("a"), "the name 'x\n\u{1b}[2Jé' is unknown");
        assert_eq!(quoting.to_string(), "a: the name 'x\\n\\u{1b}[2Jé' is unknown");
    }
}
