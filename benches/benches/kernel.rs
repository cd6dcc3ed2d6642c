//! The kernel's operations under criterion, named `operation/size/level`.
//!
//! `cargo bench --bench kernel`, with `-- FILTER`, `-- --quick`, `-- --save-baseline NAME` as criterion has them.

use core::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Throughput};
use query_adapter::image::Image;
use query_adapter::{Error, Level};
use query_adapter_benches::cases::{self, BATCH_ROWS, DIMS, STEP_ROWS};
use query_adapter_benches::clock::thread_time;
use query_adapter_benches::roofline;

type Criterion = criterion::Criterion<ThreadTime>;

fn main() -> Result<(), Error> {
    let mut criterion = criterion::Criterion::default()
        .with_measurement(ThreadTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    matvec(&mut criterion)?;
    apply_batch(&mut criterion)?;
    train_step(&mut criterion)?;
    image(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// One query, on every level: a level whose loops were not compiled for it shows as several times slower. Levels
/// without a multiply-add instruction (`scalar`, `sse2`) are slow by contract, not by mistake.
fn matvec(criterion: &mut Criterion) -> Result<(), Error> {
    let mut group = criterion.benchmark_group("matvec");
    for dim in DIMS {
        group.throughput(bytes(roofline::forward(dim, 1).read));
        for level in Level::available() {
            let adapter = cases::adapter(dim, level)?;
            let query = cases::random_rows(2, 1, dim);
            let mut output = vec![0.0; dim];
            adapter.apply(&query, &mut output)?;
            group.bench_function(BenchmarkId::new(dim.to_string(), level.name()), |bencher| {
                bencher.iter(|| adapter.apply(&query, &mut output));
            });
        }
    }
    group.finish();
    Ok(())
}

fn apply_batch(criterion: &mut Criterion) -> Result<(), Error> {
    let mut group = criterion.benchmark_group("apply_batch");
    let level = Level::detect();
    for dim in DIMS {
        let adapter = cases::adapter(dim, level)?;
        let queries = cases::random_rows(2, BATCH_ROWS, dim);
        let mut outputs = vec![0.0; BATCH_ROWS * dim];
        adapter.apply_batch(&queries, &mut outputs)?;
        group.throughput(flops(&[roofline::forward(dim, BATCH_ROWS)]));
        group.bench_function(BenchmarkId::new(format!("{dim}x{BATCH_ROWS}"), level.name()), |bencher| {
            bencher.iter(|| adapter.apply_batch(&queries, &mut outputs));
        });
    }
    group.finish();
    Ok(())
}

fn train_step(criterion: &mut Criterion) -> Result<(), Error> {
    let mut group = criterion.benchmark_group("train_step");
    let level = Level::detect();
    for dim in DIMS {
        for rows in STEP_ROWS {
            let mut step = cases::Step::new(dim, rows, level)?;
            step.run()?;
            group.throughput(flops(&roofline::training_step(dim, rows)));
            group.bench_function(BenchmarkId::new(format!("{dim}x{rows}"), level.name()), |bencher| {
                bencher.iter(|| step.run());
            });
        }
    }
    group.finish();
    Ok(())
}

/// From the bytes of a file in memory to an adapter that can be applied; and the check of all its bytes.
fn image(criterion: &mut Criterion) -> Result<(), Error> {
    let level = Level::detect();
    let mut group = criterion.benchmark_group("image_open");
    for dim in DIMS {
        let storage = cases::image(dim, level)?;
        let bytes: &[u8] = bytemuck::cast_slice(&storage);
        Image::view(bytes)?.linear(level)?;
        group.bench_function(BenchmarkId::new(dim.to_string(), level.name()), |bencher| {
            bencher.iter(|| Image::view(bytes)?.linear(level));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("image_verify");
    for dim in DIMS {
        let storage = cases::image(dim, level)?;
        let image = Image::view(bytemuck::cast_slice(&storage))?;
        image.verify()?;
        group.throughput(bytes(roofline::forward(dim, 1).read));
        // The check is scalar code on every level.
        group.bench_function(BenchmarkId::new(dim.to_string(), Level::SCALAR.name()), |bencher| {
            bencher.iter(|| image.verify());
        });
    }
    group.finish();
    Ok(())
}

/// Criterion prints elements per second: here one element is one floating-point operation.
fn flops(phases: &[roofline::Work]) -> Throughput {
    Throughput::Elements(whole(phases.iter().map(|phase| phase.flops).sum()))
}

fn bytes(count: f64) -> Throughput {
    Throughput::Bytes(whole(count))
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
