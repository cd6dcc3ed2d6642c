//! The kernel's operations under criterion, named `operation/size/level`.
//!
//! `cargo bench --bench kernel`, with `-- FILTER`, `-- --quick`, `-- --save-baseline NAME` as criterion has them.

use core::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Throughput};
use query_adapter::Error;
use query_adapter_benches::clock::thread_time;
use query_adapter_benches::operations::{Case, Name, Operation};

fn main() -> Result<(), Error> {
    let mut criterion = criterion::Criterion::default()
        .with_measurement(ThreadTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    for names in Name::all().chunk_by(|a, b| a.operation.name() == b.operation.name()) {
        let Some(first) = names.first() else { continue };
        let mut group = criterion.benchmark_group(first.operation.name());
        for &name in names {
            if let Some(throughput) = throughput(name.operation) {
                group.throughput(throughput);
            }
            // Inputs are made only for what the filter selects.
            let mut case = None;
            group.bench_function(BenchmarkId::new(name.operation.size(), name.level.name()), |bencher| {
                let case = case.get_or_insert_with(|| prepared(name));
                bencher.iter(|| case.as_mut().ok().map(Case::run));
            });
            if let Some(Err(error)) = case {
                return Err(error);
            }
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

/// A case that has run once without an error, and therefore will again.
fn prepared(name: Name) -> Result<Case, Error> {
    let mut case = Case::new(name)?;
    case.run()?;
    Ok(case)
}

/// Bytes of `W` where that is what is read; otherwise floating-point operations, one "element" each.
fn throughput(operation: Operation) -> Option<Throughput> {
    match operation {
        Operation::Matvec { .. } | Operation::ImageVerify { .. } => {
            let bytes = operation.weight_len() * size_of::<query_adapter::Lanes>();
            Some(Throughput::Bytes(bytes as u64))
        }
        Operation::ImageOpen { .. } => None,
        _ => Some(Throughput::Elements(whole(operation.phases().iter().map(|phase| phase.flops).sum()))),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, far below 2^53")]
fn whole(count: f64) -> u64 {
    count as u64
}

/// Criterion's clock, but for [`thread_time`]: everything here runs on one thread.
struct ThreadTime;

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        thread_time()
    }
    fn end(&self, start: Duration) -> Duration {
        thread_time() - start
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }
    fn zero(&self) -> Duration {
        Duration::ZERO
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
