//! The text files of TREC's evaluations: their lines, and rankings ([`run`]). Judgements have forms beside TREC's: see
//! [`qrels`](crate::qrels).

pub mod run;

use core::str;
use std::path::Path;

use crate::failure::Failure;
use crate::json::refuse_other_than_text;

/// The lines of a text file that are not blank, each with its number, counted from 1. A byte order mark and carriage returns are
/// not part of them.
pub(crate) fn lines<'a>(
    file: &Path,
    bytes: &'a [u8],
    expected: &str,
) -> Result<impl Iterator<Item = (usize, &'a str)> + Clone + use<'a>, Failure> {
    refuse_other_than_text(file, bytes)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        Failure::input(file, format!("line {line}: the text is not UTF-8; save it again as UTF-8"))
    })?;
    if text.trim().is_empty() {
        return Err(Failure::input(file, format!("the file is empty, expected {expected}")));
    }
    let numbered = (1..).zip(text.split('\n'));
    Ok(numbered
        .map(|(number, line)| (number, line.trim_end_matches('\r')))
        .filter(|(_, line)| !line.trim().is_empty()))
}

/// A line that is refused.
pub(crate) fn refused(file: &Path, line: usize, problem: &str) -> Failure {
    Failure::input(file, format!("line {line}: {problem}"))
}
