//! The kernel's operations as fractions of what this machine allows, and beside other libraries, in one interleaved run.
//!
//! `cargo bench --bench roofline [--features peers] [-- [NAME] [--quick | --test | --list]]`: `NAME`, if it comes first,
//! selects the operations whose names contain it. Flags meant for criterion are ignored, so that both benchmarks can be
//! run with one command.

use comfy_table::{CellAlignment, Table, presets};
use query_adapter::{Error, Lanes, Level, linear_len};
use query_adapter_benches::cases::DIMS;
use query_adapter_benches::limits::{Effort, Limits, Loops, best, median, time};
use query_adapter_benches::operations::{Case, Name, Operation};
use query_adapter_benches::roofline::Work;

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
    let filter = arguments.first().filter(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let level = Level::detect();
    println!("{}, one thread, level {}", processor(), level.name());
    println!("processor time of the thread, medians and bests of {} interleaved rounds\n", effort.rounds);
    print_machine(effort);
    let mut rows = Vec::new();
    for operation in Operation::all() {
        let name = Name { operation, level };
        if !operation.phases().is_empty() && name.to_string().contains(filter) {
            rows.push(measure(name, effort)?);
        }
    }
    print_operations(&rows);
    if cfg!(feature = "peers") {
        print_peers(&rows);
    }
    Ok(())
}

/// What the machine allows: arithmetic and divider, and for each dimension reading and updating its parameters.
fn print_machine(effort: Effort) {
    let loops = Loops::detect();
    let mut peak = [0.0, 0.0];
    let mut table = table(["d", "W bytes", "read W GB/s", "read three GB/s", "update three GB/s"]);
    for dim in DIMS {
        let arrays = parameters(linear_len(dim, dim, false));
        let limits = |reads: &[&[Lanes]]| {
            let mut clocks = LimitClocks::new(loops, linear_len(dim, dim, false));
            for _ in 0..effort.rounds {
                clocks.sample(effort, reads);
            }
            clocks.limits(median)
        };
        let [one, three] =
            [&arrays.each_ref().map(Vec::as_slice)[..1], &arrays.each_ref().map(Vec::as_slice)].map(limits);
        peak = [three.flops, three.divisions];
        table.add_row([
            dim.to_string(),
            size_of_val(arrays[0].as_slice()).to_string(),
            format!("{:.0}", one.read / 1e9),
            format!("{:.0}", three.read / 1e9),
            format!("{:.0}", three.update / 1e9),
        ]);
    }
    println!("multiply-adds: {:.0} GF/s; square root and division: {:.3} ns\n", peak[0] / 1e9, 1e9 / peak[1]);
    println!("{table}\n");
}

/// Three arrays as long as `W`, for the limits.
fn parameters(len: usize) -> [Vec<Lanes>; 3] {
    [(); 3].map(|()| vec![Lanes([1.0; 16]); len])
}

/// One operation.
struct Row {
    name: String,
    phases: Vec<Work>,
    median: Summary,
    best: Summary,
}

/// One way to make one number of all samples.
struct Summary {
    /// Seconds of processor time.
    seconds: f64,
    limits: Limits,
    /// Other libraries' seconds.
    peers: Vec<(&'static str, f64)>,
}

impl Summary {
    /// The least time that the limits leave.
    fn roofline(&self, phases: &[Work]) -> f64 {
        phases.iter().map(|phase| phase.least_time(&self.limits).0).sum()
    }
}

/// Times an operation, the limits and the other libraries in turns, so that what disturbs one disturbs the others.
fn measure(name: Name, effort: Effort) -> Result<Row, Error> {
    let mut case = Case::new(name)?;
    case.run()?;
    // The operation reads `W` where the limit reads it. A step goes round three arrays of parameters: its reads come
    // from the cache that holds all three.
    let arrays =
        if case.weight().is_some() { Default::default() } else { parameters(name.operation.weight_len()) };
    let mut limits = LimitClocks::new(Loops::detect(), name.operation.weight_len());
    let mut times = Vec::new();
    let mut peers = peers::prepare(name.operation);
    for _ in 0..effort.rounds {
        times.push(time(effort, || _ = core::hint::black_box(case.run())));
        match case.weight() {
            Some(weight) => limits.sample(effort, &[weight]),
            None => limits.sample(effort, &arrays.each_ref().map(Vec::as_slice)),
        }
        for peer in &mut peers {
            peer.sample(effort);
        }
    }
    let summary = |of: fn(&[f64]) -> f64| Summary {
        seconds: of(&times),
        limits: limits.limits(of),
        peers: peers.iter().map(|peer| peer.seconds(of)).collect(),
    };
    Ok(Row {
        name: name.to_string(),
        phases: name.operation.phases(),
        median: summary(median),
        best: summary(best),
    })
}

/// Samples of all limits.
struct LimitClocks {
    loops: Loops,
    updated: [Vec<Lanes>; 3],
    counts: [f64; 4],
    times: [Vec<f64>; 4],
}

impl LimitClocks {
    fn new(loops: Loops, weight_len: usize) -> Self {
        Self { loops, updated: parameters(weight_len), counts: [0.0; 4], times: Default::default() }
    }

    fn sample(&mut self, effort: Effort, reads: &[&[Lanes]]) {
        let [flops, read, update, divisions] = &mut self.counts;
        let [a, b, c] = &mut self.updated;
        let samples = [
            time(effort, || *flops = self.loops.multiply_add()),
            time(effort, || *read = self.loops.read(reads)),
            time(effort, || *update = self.loops.update([a, b, c])),
            time(effort, || *divisions = self.loops.divide()),
        ];
        for (times, sample) in self.times.iter_mut().zip(samples) {
            times.push(sample);
        }
    }

    fn limits(&self, of: impl Fn(&[f64]) -> f64) -> Limits {
        let [in_flops, in_read, in_update, in_divisions] = self.times.each_ref().map(|times| of(times));
        let [flops, read, update, divisions] = self.counts;
        Limits {
            flops: flops / in_flops,
            read: read / in_read,
            update: update / in_update,
            divisions: divisions / in_divisions,
        }
    }
}

/// Other libraries, which only the feature of this name brings in.
mod peers {
    use super::{Effort, Operation};

    #[cfg(feature = "peers")]
    pub(crate) struct Clock {
        case: query_adapter_benches::peers::PeerCase,
        times: Vec<f64>,
    }

    #[cfg(feature = "peers")]
    impl Clock {
        pub(crate) fn sample(&mut self, effort: Effort) {
            self.times.push(super::time(effort, &mut self.case.run));
        }
        pub(crate) fn seconds(&self, of: impl Fn(&[f64]) -> f64) -> (&'static str, f64) {
            (self.case.peer.name(), of(&self.times))
        }
    }

    #[cfg(feature = "peers")]
    pub(crate) fn prepare(operation: Operation) -> Vec<Clock> {
        let cases = query_adapter_benches::peers::PeerCase::all(operation);
        cases.into_iter().map(|case| Clock { case, times: Vec::new() }).collect()
    }

    #[cfg(not(feature = "peers"))]
    pub(crate) enum Clock {}

    #[cfg(not(feature = "peers"))]
    impl Clock {
        pub(crate) const fn sample(&mut self, _: Effort) {}
        pub(crate) fn seconds(&self, _: impl Fn(&[f64]) -> f64) -> (&'static str, f64) {
            match *self {}
        }
    }

    #[cfg(not(feature = "peers"))]
    pub(crate) const fn prepare(_: Operation) -> Vec<Clock> {
        Vec::new()
    }
}

fn print_operations(rows: &[Row]) {
    println!("phases of train_step and adam: forward, middle, norm, update");
    println!(
        "of train_steps: the first forward pass, middles, norms, updates with a forward pass, the last update\n"
    );
    let mut table = table([
        "operation",
        "µs",
        "roofline µs",
        "fraction",
        "best µs",
        "fraction of bests",
        "peak GF/s",
        "read GB/s",
        "update GB/s",
        "sqrt and ÷ ns",
        "phases bound by",
    ]);
    for Row { name, phases, median, best } in rows {
        let (roofline, limits) = (median.roofline(phases), &median.limits);
        let bounds: Vec<_> = phases.iter().map(|phase| phase.least_time(limits).1.name()).collect();
        table.add_row([
            name.clone(),
            format!("{:.2}", median.seconds * 1e6),
            format!("{:.2}", roofline * 1e6),
            format!("{:.2}", roofline / median.seconds),
            format!("{:.2}", best.seconds * 1e6),
            format!("{:.2}", best.roofline(phases) / best.seconds),
            format!("{:.0}", limits.flops / 1e9),
            format!("{:.0}", limits.read / 1e9),
            format!("{:.0}", limits.update / 1e9),
            format!("{:.3}", 1e9 / limits.divisions),
            bounds.join(", "),
        ]);
    }
    println!("{table}");
}

fn print_peers(rows: &[Row]) {
    println!(
        "\nother libraries: µs, and in brackets how many times as fast the kernel is, by medians and by bests\n"
    );
    let mut table = table(["operation", "µs", "gemm", "faer", "nalgebra", "matrixmultiply"]);
    for Row { name, median, best, .. } in rows.iter().filter(|row| !row.median.peers.is_empty()) {
        let mut cells = vec![name.clone(), format!("{:.2}", median.seconds * 1e6)];
        for column in ["gemm", "faer", "nalgebra", "matrixmultiply"] {
            let of = |summary: &Summary| {
                let peer = summary.peers.iter().find(|(peer, _)| *peer == column);
                peer.map(|(_, seconds)| (*seconds, seconds / summary.seconds))
            };
            cells.push(match of(median).zip(of(best)) {
                Some(((seconds, times), (_, of_bests))) => {
                    format!("{:.2} ({times:.2}×, {of_bests:.2}×)", seconds * 1e6)
                }
                None => "–".to_owned(),
            });
        }
        table.add_row(cells);
    }
    println!("{table}");
}

/// A table with its first column to the left and all others to the right.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for column in 1..N {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
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
