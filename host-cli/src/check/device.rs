//! The digests that a device printed, beside this machine's own.
//!
//! The workloads are those of the firmware's programs; here they run at every SIMD level. A digest stands for every bit
//! of a workload's results, so one that is equal says that the device computes what this machine computes.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use comfy_table::{Table, presets};
use query_adapter::Level;
use query_adapter_workloads::{WORKLOADS, digests};

use crate::failure::Failure;

/// Bytes of a console's text beyond which it is something else.
const MOST_BYTES: u64 = 16 << 20;

/// Reads the text of a device's console, or of several, and compares every digest in it.
///
/// # Errors
///
/// [`Failure::Input`] when the text cannot be read, when a line names a workload that there is none of or has no digest
/// for it, and when there is no digest at all.
pub fn run(file: &Path) -> Result<DeviceReport, Failure> {
    let (file, text) = read(file)?;
    let found = parse(&file, &text)?;
    let own = Level::available()
        .map(|level| {
            let digests = digests(level).map_err(|failure| {
                Failure::Numerical(format!(
                    "a workload fails on this machine, at {}: {failure:?}",
                    level.name()
                ))
            })?;
            Ok((level.name(), digests))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    Ok(DeviceReport { found, own })
}

/// What a device printed, and what this machine computes.
#[derive(Clone, Debug)]
pub struct DeviceReport {
    found: Vec<Found>,
    /// By level, in the order of [`WORKLOADS`].
    own: Vec<(&'static str, [Option<u32>; WORKLOADS.len()])>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    device: String,
    /// Its place in [`WORKLOADS`].
    workload: usize,
    digest: u32,
}

impl DeviceReport {
    /// Whether every digest is this machine's at every level.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.found.iter().all(|found| self.differing(found).is_empty())
    }

    /// The levels of this machine that compute something else.
    fn differing(&self, found: &Found) -> Vec<&'static str> {
        let differs = |digests: &[Option<u32>]| digests[found.workload] != Some(found.digest);
        self.own.iter().filter(|(_, digests)| differs(digests)).map(|(level, _)| *level).collect()
    }

    /// The table, and a line that says how it ended.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["device", "workload", "digest there", "digest here", ""]);
        let mut failed = 0;
        for found in &self.found {
            let differing = self.differing(found);
            failed += usize::from(!differing.is_empty());
            let (here, verdict) = match self.own.iter().find(|(level, _)| differing.contains(level)) {
                None => (found.digest, "ok".to_owned()),
                Some((_, digests)) => {
                    (digests[found.workload].unwrap_or(0), format!("DIFFERS at {}", differing.join(", ")))
                }
            };
            table.add_row([
                found.device.as_str(),
                WORKLOADS[found.workload],
                &format!("{:08x}", found.digest),
                &format!("{here:08x}"),
                &verdict,
            ]);
        }
        let levels: Vec<_> = self.own.iter().map(|(level, _)| *level).collect();
        let count = self.found.len();
        let end = if failed == 0 {
            format!("all {count} digests are this machine's, at each of its levels: {}", levels.join(", "))
        } else {
            format!("{failed} of {count} digests are not this machine's")
        };
        let missing: Vec<_> = (0..WORKLOADS.len())
            .filter(|workload| self.found.iter().all(|found| found.workload != *workload))
            .map(|workload| WORKLOADS[workload])
            .collect();
        let missing = match missing[..] {
            [] => String::new(),
            _ => format!("no digest of: {}\n", missing.join(", ")),
        };
        format!("{table}\n{missing}{end}\n")
    }
}

/// The name to call the text by, and the text.
fn read(file: &Path) -> Result<(std::path::PathBuf, String), Failure> {
    let (name, mut input): (_, Box<dyn std::io::Read>) = if file == Path::new("-") {
        ("stdin".into(), Box::new(std::io::stdin().lock()))
    } else {
        (file.to_owned(), Box::new(fs::File::open(file).map_err(|error| Failure::unreadable(file, &error))?))
    };
    let mut bytes = Vec::new();
    input
        .by_ref()
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::unreadable(&name, &error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Failure::input(&name, "more than 16 MB: expected what a device printed on its console"));
    }
    // A console may print anything before a program's first line.
    Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
}

/// Lines `WORKLOAD DIGEST`; a line `# NAME` says which device those after it are of. What else a console prints is no
/// concern of this, as long as it does not begin with a workload's name.
fn parse(file: &Path, text: &str) -> Result<Vec<Found>, Failure> {
    let mut device = String::new();
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(name) = line.strip_prefix('#') {
            device = name.trim().to_owned();
            continue;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let &[name, ref rest @ ..] = &words[..] else { continue };
        let digest = match rest {
            [digest] => parse_digest(digest),
            _ => None,
        };
        match (WORKLOADS.iter().position(|workload| *workload == name), digest, rest) {
            (Some(workload), Some(digest), _) => {
                found.push(Found { device: device.clone(), workload, digest })
            }
            // What it took of the stack, which the programs print as well.
            (Some(_), None, ["stack", _]) | (None, None, _) => {}
            (Some(_), None, _) => {
                let problem = format!(
                    "line {number}: {:?}: expected eight hexadecimal digits after the workload's name; the program \
                     failed there, or the line is damaged",
                    line.trim_end()
                );
                return Err(Failure::input(file, problem));
            }
            (None, Some(_), _) => {
                let problem = format!(
                    "line {number}: there is no workload {name:?}; this version has {}. Build the device's program of \
                     the same version",
                    WORKLOADS.join(", ")
                );
                return Err(Failure::input(file, problem));
            }
        }
    }
    if found.is_empty() {
        let problem = format!("no digest found, expected lines such as \"{} 0123abcd\"", WORKLOADS[0]);
        return Err(Failure::input(file, problem));
    }
    Ok(found)
}

/// Eight hexadecimal digits and nothing else.
fn parse_digest(word: &str) -> Option<u32> {
    let is_digest = word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| u32::from_str_radix(word, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_console_are_told_from_digests() {
        let text =
            "boot v1.2\r\n\narithmetic 0123abcd\r\narithmetic stack 1024\n# second\nrefuse FFFFFFFF\ndone\n";
        let found = parse(Path::new("console"), text).expect("digests");
        let expected = |device: &str, workload, digest| Found { device: device.to_owned(), workload, digest };
        assert_eq!(found, [expected("", 0, 0x0123_abcd), expected("second", 9, u32::MAX)]);
    }

    #[test]
    fn a_digest_that_differs_is_shown_with_this_machine_s() {
        let mut digests = [Some(7); WORKLOADS.len()];
        digests[1] = None;
        let found = |workload, digest| Found { device: "m4".to_owned(), workload, digest };
        let report =
            |found: Vec<Found>| DeviceReport { found, own: vec![("scalar", digests), ("avx2", digests)] };
        let good = report(vec![found(0, 7), found(2, 7)]);
        assert!(good.ok());
        let table = good.table();
        assert!(
            table.ends_with("all 2 digests are this machine's, at each of its levels: scalar, avx2\n"),
            "{table}"
        );
        assert!(table.contains("no digest of: apply-383-bias, apply-96-to-40"), "{table}");
        for bad in [found(0, 8), found(1, 7)] {
            let bad = report(vec![found(2, 7), bad]);
            assert!(!bad.ok());
            let table = bad.table();
            assert!(table.contains("DIFFERS at scalar, avx2"), "{table}");
            assert!(table.ends_with("1 of 2 digests are not this machine's\n"), "{table}");
        }
    }
}
