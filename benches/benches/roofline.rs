//! The kernel's operations as fractions of what this machine allows, measured in one interleaved run.
//!
//! `cargo bench --bench roofline [-- [NAME] [--quick | --test | --list]]`: `NAME`, if it comes first, selects the
//! operations whose names contain it. Flags meant for criterion are ignored, so that both benchmarks can be run with
//! one command.

use comfy_table::{CellAlignment, Table, presets};
use query_adapter::{Error, Lanes, Level, linear_len};
use query_adapter_benches::cases::{self, BATCH_ROWS, DIMS, STEP_ROWS};
use query_adapter_benches::limits::{Effort, Limits, Loops, median, time};
use query_adapter_benches::roofline::{self, Work};

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        return Ok(());
    }
    let effort = if has("--test") || !has("--bench") {
        // Cargo passes `--bench` except when it tests benchmarks.
        Effort::ONCE
    } else if has("--quick") {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let filter = arguments.first().filter(|argument| !argument.starts_with('-'));
    let report = Report { effort, level: Level::detect(), filter, rows: Vec::new() };
    report.measure()?.print();
    Ok(())
}

/// Measures and collects.
struct Report<'a> {
    effort: Effort,
    level: Level,
    filter: Option<&'a String>,
    rows: Vec<Row>,
}

/// One operation.
struct Row {
    name: String,
    /// Seconds of processor time.
    median: f64,
    phases: Vec<Work>,
    limits: Limits,
}

impl Report<'_> {
    fn measure(mut self) -> Result<Self, Error> {
        for dim in DIMS {
            let adapter = cases::adapter(dim, self.level)?;
            for rows in [1, BATCH_ROWS] {
                let queries = cases::random_rows(2, rows, dim);
                let mut outputs = vec![0.0; rows * dim];
                adapter.apply_batch(&queries, &mut outputs)?;
                let operation = if rows == 1 { "matvec" } else { "apply_batch" };
                let size = if rows == 1 { dim.to_string() } else { format!("{dim}x{rows}") };
                // The weight is read where the operation reads it.
                let reads = [adapter.weight().as_lanes()];
                self.add(operation, &size, dim, &reads, vec![roofline::forward(dim, rows)], || {
                    _ = core::hint::black_box(adapter.apply_batch(&queries, &mut outputs));
                });
            }
            for rows in STEP_ROWS {
                let mut step = cases::Step::new(dim, rows, self.level)?;
                step.run()?;
                // A step goes round three arrays of parameters: its reads come from the cache that holds all three.
                let parameters = [(); 3].map(|()| vec![Lanes([1.0; 16]); linear_len(dim, dim, false)]);
                let reads = parameters.each_ref().map(Vec::as_slice);
                let phases = roofline::training_step(dim, rows).to_vec();
                self.add("train_step", &format!("{dim}x{rows}"), dim, &reads, phases, || {
                    _ = core::hint::black_box(step.run());
                });
            }
        }
        Ok(self)
    }

    /// Times `run` and the limits in turn, so that what disturbs one disturbs the others.
    fn add(
        &mut self,
        operation: &str,
        size: &str,
        dim: usize,
        reads: &[&[Lanes]],
        phases: Vec<Work>,
        mut run: impl FnMut(),
    ) {
        let name = format!("{operation}/{size}/{}", self.level.name());
        if self.filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            return;
        }
        let loops = Loops::detect();
        let [mut a, mut b, mut c] = [(); 3].map(|()| vec![Lanes([1.0; 16]); linear_len(dim, dim, false)]);
        let mut times: [Vec<f64>; 5] = Default::default();
        let mut counts = [0.0; 4];
        let [flops, read, update, divisions] = &mut counts;
        for _ in 0..self.effort.rounds {
            let samples = [
                time(self.effort, &mut run),
                time(self.effort, || *flops = loops.multiply_add()),
                time(self.effort, || *read = loops.read(reads)),
                time(self.effort, || *update = loops.update([&mut a, &mut b, &mut c])),
                time(self.effort, || *divisions = loops.divide()),
            ];
            for (times, sample) in times.iter_mut().zip(samples) {
                times.push(sample);
            }
        }
        let [median, in_flops, in_read, in_update, in_divisions] = times.map(median);
        let limits = Limits {
            flops: *flops / in_flops,
            read: *read / in_read,
            update: *update / in_update,
            divisions: *divisions / in_divisions,
        };
        self.rows.push(Row { name, median, phases, limits });
    }

    fn print(&self) {
        println!("{}, one thread, level {}", processor(), self.level.name());
        println!("processor time of the thread, medians of {} interleaved rounds", self.effort.rounds);
        println!("phases of train_step: forward, middle, norm, update\n");
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header([
            "operation",
            "µs",
            "roofline µs",
            "fraction of roofline",
            "phases bound by",
            "peak GF/s",
            "read GB/s",
            "update GB/s",
            "sqrt and ÷ ns",
        ]);
        for column in [1, 2, 3, 5, 6, 7, 8] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for Row { name, median, phases, limits } in &self.rows {
            let least: Vec<_> = phases.iter().map(|phase| phase.least_time(limits)).collect();
            let roofline: f64 = least.iter().map(|(seconds, _)| seconds).sum();
            let bounds: Vec<_> = least.iter().map(|(_, bound)| bound.name()).collect();
            table.add_row([
                name.clone(),
                format!("{:.2}", median * 1e6),
                format!("{:.2}", roofline * 1e6),
                format!("{:.2}", roofline / median),
                bounds.join(", "),
                format!("{:.0}", limits.flops / 1e9),
                format!("{:.0}", limits.read / 1e9),
                format!("{:.0}", limits.update / 1e9),
                format!("{:.3}", 1e9 / limits.divisions),
            ]);
        }
        println!("{table}");
    }
}

/// The processor by the name it gives itself, where the system tells.
fn processor() -> String {
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = information.lines().find(|line| line.split(':').next().map(str::trim) == Some(name))?;
        line.split(':').nth(1).map(|value| value.trim().to_owned())
    };
    match (field("model name"), field("cpu family"), field("model")) {
        (Some(name), Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        (Some(name), ..) => name,
        _ => format!("unknown {} processor", std::env::consts::ARCH),
    }
}
