//! Holds the kernel against the [`oracle`](crate::oracle): how far each result is from the truth, and how far it may be.
//!
//! The oracle gets `f64::from` of the very numbers that the kernel gets, so all that is between the two is rounding.
//! There are three kinds of bound, and none is fitted to what was seen:
//!
//! - *elementary functions*: the units in the last place that `query_adapter::math` promises;
//! - *sums* (forward, normalisation, cosines): the worst that rounding can do to this very sum, from its partial sums;
//!   never more than n·2⁻²⁴·Σ|x·y|;
//! - *everything behind the softmax* (loss, gradients, norms, training): `SAFETY` (in `rounding.rs`) times what
//!   random rounding at 2⁻²⁴ does to the same formulas on the same numbers. The worst case of so many operations is
//!   thousands of times what happens, and would let any error through.

mod cases;
pub mod device;
mod elementary;
mod levels;
mod metrics;
mod one_step;
mod rounding;
mod sums;
mod training;

use query_adapter::Level;

use crate::failure::Failure;
use crate::report;
use crate::retrieval_task::RetrievalTask;

/// Runs all checks on `level`, or on the best one, with built-in cases and, where there is one, with the vectors of a
/// data set; and compares the bits of all levels.
///
/// # Errors
///
/// [`Failure::Numerical`] when the kernel refuses a case: this thread's floating-point mode loses subnormal numbers, or
/// the vectors of the data set are so long that their squares overflow.
pub fn run(task: Option<&RetrievalTask>, level: Option<Level>) -> Result<CheckReport, Failure> {
    let mut sheet = Sheet::default();
    check_all(&mut sheet, task, level.unwrap_or_else(Level::detect))?;
    Ok(CheckReport { rows: sheet.rows })
}

fn check_all(sheet: &mut Sheet, task: Option<&RetrievalTask>, level: Level) -> Result<(), Failure> {
    elementary::check(sheet);
    for case in cases::built_in()? {
        sums::check(sheet, level, &case)?;
        one_step::check(sheet, level, &case)?;
    }
    training::check(sheet, level)?;
    metrics::check(sheet);
    if let Some(task) = task {
        sheet.prefix = "data set: ";
        for case in cases::of_task(task, level)? {
            sums::check(sheet, level, &case)?;
            one_step::check(sheet, level, &case)?;
        }
        metrics::check_task(sheet, level, task)?;
        sheet.prefix = "";
    }
    levels::check(sheet)
}

/// What was found.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// One row for each quantity.
    pub rows: Vec<Row>,
}

/// One quantity: its largest error beside its bound, from the case that came nearest to the bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The quantity.
    pub name: String,
    /// The largest error.
    pub error: f64,
    /// The largest error allowed.
    pub bound: f64,
    /// What both are counted in.
    pub unit: &'static str,
    /// The case.
    pub case: String,
}

impl Row {
    /// Whether the error is within the bound; NaN is not.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.error <= self.bound
    }

    /// How much of the bound the error takes.
    fn share(&self) -> f64 {
        match self.error / self.bound {
            _ if self.error == 0.0 => 0.0,
            share if share.is_nan() => f64::INFINITY,
            share => share,
        }
    }
}

impl CheckReport {
    /// Whether every row is within its bound.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.rows.iter().all(Row::ok)
    }

    /// The table, and a line that says how it ended.
    #[must_use]
    pub fn table(&self) -> String {
        let header = ["quantity", "largest error", "bound", "unit", "in the case", ""];
        let mut table = report::table(header, [1, 2]);
        for row in &self.rows {
            let verdict = if row.ok() { "ok" } else { "OUT OF BOUNDS" };
            let (error, bound) = (number(row.error), number(row.bound));
            table.add_row([&row.name, &error, &bound, row.unit, &row.case, verdict]);
        }
        let failed: Vec<_> = self.rows.iter().filter(|row| !row.ok()).map(|row| row.name.as_str()).collect();
        let end = if failed.is_empty() {
            format!("all {} quantities are within their bounds", self.rows.len())
        } else {
            format!(
                "{} of {} quantities are out of bounds: {}",
                failed.len(),
                self.rows.len(),
                failed.join(", ")
            )
        };
        format!("{table}\n{end}\n")
    }
}

/// Three digits, with an exponent where the number is far from 1.
fn number(x: f64) -> String {
    if x == 0.0 || (0.01..1000.0).contains(&x.abs()) { format!("{x:.3}") } else { format!("{x:.2e}") }
}

/// A quantity and what its errors are counted in.
#[derive(Clone, Copy)]
struct Quantity<'a> {
    name: &'a str,
    unit: &'static str,
}

/// What the kernel found, what is true, and what one unit of error is there.
struct Comparison {
    found: f64,
    truth: f64,
    unit: f64,
}

impl Comparison {
    /// A number of differences, of which there should be none.
    fn count(differences: usize) -> Self {
        Self { found: differences as f64, truth: 0.0, unit: 1.0 }
    }

    fn error(&self) -> f64 {
        let difference = (self.found - self.truth).abs();
        if difference == 0.0 { 0.0 } else { difference / self.unit }
    }
}

/// Collects rows; of each quantity the case that is nearest to its bound.
#[derive(Default)]
struct Sheet {
    rows: Vec<Row>,
    prefix: &'static str,
    /// A seeded error, to see that it is noticed: how many bounds are added to the first value that the kernel found of
    /// each quantity, or what is added where the bound is 0.
    #[cfg(test)]
    seeded: f64,
}

impl Sheet {
    /// Records the largest error of the comparisons, of which there must be one at least.
    fn record(
        &mut self,
        quantity: Quantity<'_>,
        case: &str,
        bound: f64,
        comparisons: impl IntoIterator<Item = Comparison>,
    ) {
        let name = format!("{}{}", self.prefix, quantity.name);
        let mut comparisons = comparisons.into_iter().peekable();
        #[cfg(test)]
        if let Some(first) = comparisons.peek_mut() {
            first.found += self.seeded * if bound > 0.0 { bound } else { 1.0 } * first.unit;
        }
        // Nothing to compare would be an error of 0.
        let mut error = if comparisons.peek().is_some() { 0.0 } else { f64::NAN };
        for comparison in comparisons {
            let found = comparison.error();
            if found > error || found.is_nan() {
                error = found;
            }
        }
        let row = Row { name, error, bound, unit: quantity.unit, case: case.to_owned() };
        match self.rows.iter_mut().find(|known| known.name == row.name) {
            Some(known) if known.share() < row.share() => *known = row,
            Some(_) => {}
            None => self.rows.push(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded(seeded: f64) -> CheckReport {
        let mut sheet = Sheet { seeded, ..Sheet::default() };
        check_all(&mut sheet, None, Level::detect()).expect("the kernel refuses nothing");
        CheckReport { rows: sheet.rows }
    }

    #[test]
    fn every_quantity_is_within_its_bound_and_near_it() {
        let report = seeded(0.0);
        assert!(report.ok(), "{}", report.table());
        let names: Vec<_> = report.rows.iter().map(|row| row.name.as_str()).collect();
        assert!(
            names.contains(&"bits on scalar") && names.contains(&"gradient norm, Gram form"),
            "{names:?}"
        );
        // A bound of fifty times the error would let mistakes through. Those of the metrics are some units of f64:
        // no mistake is so small.
        let is_wide = |row: &Row| row.bound > 0.0 && row.share() < 1.0 / 50.0 && row.unit != "2⁻⁵³";
        let wide: Vec<_> = report.rows.into_iter().filter(is_wide).collect();
        assert_eq!(wide, []);
    }

    #[test]
    fn an_error_of_four_bounds_is_noticed_in_every_quantity() {
        let missed: Vec<_> = seeded(4.0).rows.into_iter().filter(Row::ok).collect();
        assert_eq!(missed, []);
    }

    #[test]
    fn a_row_keeps_the_case_nearest_to_its_bound() {
        let mut sheet = Sheet::default();
        let quantity = Quantity { name: "x", unit: "1" };
        let mut record = |case: &str, bound, found: &[f64]| {
            let comparisons = found.iter().map(|&found| Comparison { found, truth: 0.0, unit: 1.0 });
            sheet.record(quantity, case, bound, comparisons);
        };
        record("a", 4.0, &[1.0, -2.0]);
        record("b", 8.0, &[3.0]);
        record("c", 8.0, &[0.0, f64::INFINITY, 1.0]);
        record("d", 8.0, &[9.0]);
        let [row] = &sheet.rows[..] else { panic!("one row") };
        assert_eq!((row.case.as_str(), row.error, row.ok()), ("c", f64::INFINITY, false));
    }

    #[test]
    fn nothing_compared_is_nothing_shown() {
        let mut sheet = Sheet::default();
        sheet.record(Quantity { name: "x", unit: "1" }, "none", 1.0, []);
        assert!(sheet.rows[0].error.is_nan() && !sheet.rows[0].ok());
    }

    #[test]
    fn the_table_names_what_is_out_of_bounds() {
        let row =
            |name: &str, error| Row { name: name.into(), error, bound: 1.0, unit: "ulp", case: "c".into() };
        let report = CheckReport { rows: vec![row("exp", 0.5), row("ln", 1.5), row("sqrt", f64::NAN)] };
        assert!(!report.ok());
        let table = report.table();
        assert!(table.ends_with("\n2 of 3 quantities are out of bounds: ln, sqrt\n"), "{table}");
        assert_eq!(table.matches("OUT OF BOUNDS").count(), 2);
    }
}
