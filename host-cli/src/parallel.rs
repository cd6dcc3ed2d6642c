//! Work in pieces on several threads, with results that do not know how many there were.

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::thread::{self, Builder};

use query_adapter::Join;

use crate::failure::Failure;

/// What [`limit_threads`] was told.
static LIMIT: OnceLock<NonZeroUsize> = OnceLock::new();

/// Sets what [`available_threads`] says in this process from now on; the first call counts. For the program itself:
/// what is deep below a command need not be handed the number of threads, which reaches no result.
pub fn limit_threads(threads: NonZeroUsize) {
    LIMIT.get_or_init(|| threads);
}

/// As many threads as this machine offers the process, or as [`limit_threads`] allows.
#[must_use]
pub fn available_threads() -> NonZeroUsize {
    let machine = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    LIMIT.get().copied().unwrap_or_else(machine)
}

/// Does the pieces `0 .. count` on up to `threads` threads, the calling one among them; returns the results in the order
/// of the pieces. Each thread has a state of its own, buffers for instance, which must not reach the results.
///
/// # Errors
///
/// The failure of the first piece that fails. It is the same for any number of threads: pieces are taken in ascending
/// order and finished once taken, so everything before the first failure has been done. Later pieces may be left out.
pub(crate) fn in_pieces<S, R: Send>(
    threads: NonZeroUsize,
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let take = || {
        let mut done = Vec::new();
        let mut state = state();
        while !failed.load(Ordering::Relaxed) {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= count {
                break;
            }
            let result = work(&mut state, piece);
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            done.push((piece, result));
        }
        done
    };
    let mut done = thread::scope(|scope| {
        // A thread that the system refuses is one less; the others do its work.
        let others: Vec<_> = (1..threads.get().min(count))
            .map_while(|_| Builder::new().spawn_scoped(scope, take).ok())
            .collect();
        let mut done = take();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|&(piece, _)| piece);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The threads of the pool that the work runs in, for the kernel's phases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolThreads(pub(crate) NonZeroUsize);

impl Join for PoolThreads {
    fn threads(&self) -> usize {
        self.0.get()
    }

    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B) {
        rayon::join(a, b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).expect("at least one")
    }

    #[test]
    fn results_come_in_the_order_of_the_pieces_for_any_number_of_threads() {
        for count in [0, 1, 2, 3, 100] {
            for workers in 1..5 {
                let found = in_pieces(threads(workers), count, || (), |(), piece| Ok(piece * piece));
                assert_eq!(found.expect("done"), (0..count).map(|piece| piece * piece).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_first_failure_is_reported_for_any_number_of_threads() {
        for workers in 1..5 {
            let failing = |(): &mut (), piece: usize| match piece {
                7 | 8 | 30 => Err(Failure::Usage(format!("piece {piece}"))),
                _ => Ok(()),
            };
            let failure = in_pieces(threads(workers), 100, || (), failing).expect_err("must fail");
            assert_eq!(failure.to_string(), "piece 7", "{workers} threads");
        }
    }

    #[test]
    #[should_panic(expected = "a fault of the work")]
    fn a_panic_is_passed_on() {
        let _ = in_pieces(
            threads(3),
            10,
            || (),
            |(), piece| {
                assert!(piece != 5, "a fault of the work");
                Ok(())
            },
        );
    }
}
