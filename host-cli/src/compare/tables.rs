//! A comparison as tables: for a terminal, Markdown, LaTeX, CSV, JSON.

use comfy_table::presets;
use serde_json::{Value, json};

use super::{GroupReport, Report, Row, TableFormat};
use crate::evaluate::gain_words;
use crate::metrics::Metric;
use crate::report::{self, printable};

/// The columns of the tables that people read.
const COLUMNS: [&str; 9] =
    ["system", "mean", "change", "95 % interval", "p", "p (Holm)", "p (t)", "d", "won/tied/lost"];

impl Report {
    pub(super) fn print(&self, format: TableFormat) -> String {
        match format {
            TableFormat::Text => self.text(),
            TableFormat::Markdown => self.markdown(),
            TableFormat::Latex => self.latex(),
            TableFormat::Csv => self.csv(),
            TableFormat::Json => format!("{}\n", self.value()),
        }
    }

    /// Each group's tables, one for each metric.
    fn tables(&self) -> impl Iterator<Item = (&GroupReport, Metric, &[Row])> {
        self.groups.iter().flat_map(|group| group.metrics.iter().map(move |(m, rows)| (group, *m, &rows[..])))
    }

    /// The cells of a row as people read them, without the system's name.
    fn cells(row: &Row) -> [String; 8] {
        let mean = format!("{:.4}", row.mean);
        let Some(difference) = &row.against_first else {
            return [
                mean,
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ];
        };
        let paired = &difference.paired;
        let (low, high) = paired.interval;
        [
            mean,
            format!("{:+.4}", paired.mean),
            format!("[{low:+.4}, {high:+.4}]"),
            p_words(paired.randomization_p),
            p_words(difference.randomization_holm),
            paired.t_test_p.map_or_else(|| "–".to_owned(), p_words),
            paired.cohens_d.map_or_else(|| "–".to_owned(), |d| format!("{d:+.2}")),
            format!("{}/{}/{}", paired.wins, paired.ties, paired.losses),
        ]
    }

    /// What the columns mean, a line each.
    fn legend(&self) -> String {
        let first = self.systems.first().map_or_else(String::new, |(name, _)| printable(name));
        let comparisons = match self.comparisons {
            1 => "1 comparison".to_owned(),
            n => format!("{n} comparisons"),
        };
        format!(
            "change, interval and p against {first}, query by query; the interval by a paired bootstrap\n\
             p: paired randomisation test; p (Holm): corrected for {comparisons}; p (t): paired t-test\n\
             d: Cohen's, the change in standard deviations of the differences\n"
        )
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (group, metric, rows) in self.tables() {
            let mut header = COLUMNS.map(ToOwned::to_owned);
            header[0] = metric.to_string();
            let mut table = report::table(header, 1..COLUMNS.len());
            for ((name, _), row) in self.systems.iter().zip(rows) {
                table.add_row(core::iter::once(printable(name)).chain(Self::cells(row)));
            }
            text += &format!("{} ({} queries)\n{table}\n\n", printable(&group.name), group.queries);
        }
        text + &self.legend() + &self.remarks()
    }

    /// What else a reader should know, a line each.
    fn remarks(&self) -> String {
        let ties: Vec<_> =
            self.systems.iter().filter_map(|(name, ties)| Some((name.as_str(), (*ties)?))).collect();
        report::ties_words(&ties) + gain_words(self.gain, self.has_grades)
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        for (group, metric, rows) in self.tables() {
            let mut table = report::table(COLUMNS, 1..COLUMNS.len());
            table.load_style(presets::ASCII_MARKDOWN);
            for ((name, _), row) in self.systems.iter().zip(rows) {
                table.add_row(core::iter::once(markdown(name)).chain(Self::cells(row)));
            }
            text += &format!(
                "**{metric}, {} ({} queries)**\n\n{table}\n\n",
                markdown(&group.name),
                group.queries
            );
        }
        text + &self.legend() + &self.remarks()
    }

    fn latex(&self) -> String {
        let mut text = String::new();
        for (group, metric, rows) in self.tables() {
            let caption = format!("{metric}, {} ({} queries)", group.name, group.queries);
            text += "\\begin{table}\n\\centering\n\\begin{tabular}{lrrrrrrrr}\n\\toprule\n";
            text += &COLUMNS.map(latex).join(" & ");
            text += " \\\\\n\\midrule\n";
            for ((name, _), row) in self.systems.iter().zip(rows) {
                let cells = core::iter::once(name.clone()).chain(Self::cells(row));
                text += &cells.map(|cell| latex(&cell)).collect::<Vec<_>>().join(" & ");
                text += " \\\\\n";
            }
            text += &format!(
                "\\bottomrule\n\\end{{tabular}}\n\\caption{{{}}}\n\\end{{table}}\n\n",
                latex(&caption)
            );
        }
        for line in (self.legend() + &self.remarks()).lines() {
            text += &format!("% {line}\n");
        }
        text
    }

    /// All figures in full, a line for each group, metric and system.
    fn csv(&self) -> String {
        let mut csv = csv::Writer::from_writer(Vec::new());
        let header = [
            "group",
            "queries",
            "metric",
            "system",
            "mean",
            "difference",
            "interval_low",
            "interval_high",
            "randomization_p",
            "randomization_p_holm",
            "t_test_p",
            "t_test_p_holm",
            "cohens_d",
            "wins",
            "ties",
            "losses",
        ];
        // Writing to memory does not fail.
        let _ = csv.write_record(header);
        for (group, metric, rows) in self.tables() {
            for ((name, _), row) in self.systems.iter().zip(rows) {
                let mut record = vec![
                    group.name.clone(),
                    group.queries.to_string(),
                    metric.to_string(),
                    name.clone(),
                    digits(row.mean),
                ];
                if let Some(difference) = &row.against_first {
                    let paired = &difference.paired;
                    let or_empty = |value: Option<f64>| value.map_or_else(String::new, digits);
                    record.extend([
                        digits(paired.mean),
                        digits(paired.interval.0),
                        digits(paired.interval.1),
                        digits(paired.randomization_p),
                        digits(difference.randomization_holm),
                        or_empty(paired.t_test_p),
                        or_empty(difference.t_test_holm),
                        or_empty(paired.cohens_d),
                        paired.wins.to_string(),
                        paired.ties.to_string(),
                        paired.losses.to_string(),
                    ]);
                }
                record.resize(header.len(), String::new());
                let _ = csv.write_record(record);
            }
        }
        String::from_utf8(csv.into_inner().unwrap_or_default()).unwrap_or_default()
    }

    fn value(&self) -> Value {
        let systems: Vec<Value> =
            self.systems.iter().map(|(name, ties)| json!({ "name": name, "ties": ties })).collect();
        let groups: Vec<Value> = self
            .groups
            .iter()
            .map(|group| {
                let metrics: Vec<Value> = group
                    .metrics
                    .iter()
                    .map(|(metric, rows)| {
                        let rows: Vec<Value> = self
                            .systems
                            .iter()
                            .zip(rows)
                            .map(|((name, _), row)| row_value(name, row))
                            .collect();
                        json!({ "metric": metric.to_string(), "systems": rows })
                    })
                    .collect();
                json!({ "name": group.name, "queries": group.queries, "metrics": metrics })
            })
            .collect();
        let gain = self.judged.then_some(self.gain);
        json!({ "systems": systems, "gain": gain, "comparisons": self.comparisons, "groups": groups })
    }
}

fn row_value(name: &str, row: &Row) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("system".to_owned(), json!(name));
    object.insert("mean".to_owned(), json!(row.mean));
    if let Some(difference) = &row.against_first {
        let paired = &difference.paired;
        for (key, value) in [
            ("difference", json!(paired.mean)),
            ("interval", json!([paired.interval.0, paired.interval.1])),
            ("randomization_p", json!(paired.randomization_p)),
            ("randomization_p_holm", json!(difference.randomization_holm)),
            ("t_test_p", json!(paired.t_test_p)),
            ("t_test_p_holm", json!(difference.t_test_holm)),
            ("cohens_d", json!(paired.cohens_d)),
            ("wins", json!(paired.wins)),
            ("ties", json!(paired.ties)),
            ("losses", json!(paired.losses)),
        ] {
            object.insert(key.to_owned(), value);
        }
    }
    object.into()
}

/// A number with as many digits as give it back.
fn digits(value: f64) -> String {
    json!(value).to_string()
}

/// A p-value as people read it.
fn p_words(p: f64) -> String {
    if p < 0.000_05 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}

/// A name inside a cell of a Markdown table.
fn markdown(text: &str) -> String {
    let mut escaped = String::new();
    for character in printable(text).chars() {
        if "\\`*_{}[]<>#|".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// A text as LaTeX shows it.
fn latex(text: &str) -> String {
    let mut escaped = String::new();
    for character in printable(text).chars() {
        match character {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', character]),
            '\\' => escaped += "\\textbackslash{}",
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '<' => escaped += "$<$",
            '>' => escaped += "$>$",
            '–' => escaped += "--",
            '+' => escaped += "$+$",
            // A change, not a hyphen.
            '-' if escaped.is_empty() || escaped.ends_with(['[', ' ']) => escaped += "$-$",
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_survive_markup() {
        assert_eq!(markdown("a|b_c\n"), "a\\|b\\_c ");
        assert_eq!([markdown("a\u{202e}b"), latex("a\u{1b}b")], ["a b", "a b"]);
        assert_eq!(latex("a_b & 95 %"), "a\\_b \\& 95 \\%");
        assert_eq!(latex("[-0.0100, +0.0200]"), "[$-$0.0100, $+$0.0200]");
        assert_eq!(latex("-0.5"), "$-$0.5");
        assert_eq!(latex("top-k <.0001 \\"), "top-k $<$.0001 \\textbackslash{}");
        assert_eq!((p_words(0.00004).as_str(), p_words(1.0 / 10_001.0).as_str()), ("<0.0001", "0.0001"));
    }
}
