//! Runs single benchmark cases for other programs: instruction counters and side-by-side comparisons.
//!
//! - `bench-case list` prints the names of all cases, `operation/size/level`; other sizes and levels can be asked for as well.
//! - `bench-case count NAME` runs the case twice, the second time inside [`counted`], which a profiler can be told to
//!   look at alone.
//! - `bench-case time` reads names from its input, line by line, and answers each with the seconds of processor time
//!   that one repetition takes. A case is prepared once; asking for it in turns with something else interleaves the two.

use core::error::Error;
use std::collections::HashMap;
use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;

use query_adapter_benches::limits::{Effort, time};
use query_adapter_benches::operations::{Case, Name};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["list"] => list(),
        ["count", name] => count(name),
        ["time"] => answer(),
        _ => Err("usage: bench-case list | bench-case count NAME | bench-case time".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    for name in Name::all() {
        writeln!(out, "{name}")?;
    }
    Ok(())
}

fn count(name: &str) -> Result<(), Box<dyn Error>> {
    let mut case = Case::new(name.parse()?)?;
    // What happens only once, such as asking the processor for its features, has happened after this.
    case.run()?;
    counted(&mut case)
}

/// One repetition. Never inlined: profilers know it by its name.
#[inline(never)]
fn counted(case: &mut Case) -> Result<(), Box<dyn Error>> {
    case.run()?;
    Ok(())
}

fn answer() -> Result<(), Box<dyn Error>> {
    let mut cases: HashMap<String, Case> = HashMap::new();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let name = line?;
        if !cases.contains_key(&name) {
            cases.insert(name.clone(), Case::new(name.parse()?)?);
        }
        let Some(case) = cases.get_mut(&name) else { continue };
        case.run()?;
        let seconds = time(Effort::FULL, || _ = core::hint::black_box(case.run()));
        writeln!(out, "{seconds:e}")?;
        out.flush()?;
    }
    Ok(())
}
