//! Work in pieces on several threads, with results that do not know how many there were.
//!
//! `in_pieces` is for work that is all there, `in_turns` for what comes and goes.

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::panic::resume_unwind;
use std::sync::{OnceLock, mpsc};
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

/// Pieces that come one after the other, are worked on side by side and go on in their order.
pub(crate) trait Stream {
    /// A piece, with all that the work on it needs and gives; its buffers are used again and again.
    type Piece: Default + Send;
    /// Why the stream ends before its end.
    type Stop;

    /// Whether the next piece may not be there yet. It is asked for only after all before it have gone on.
    fn may_wait(&self) -> bool;

    /// Takes the next piece in place of what `piece` was; false when there are none left.
    fn take(&mut self, piece: &mut Self::Piece) -> Result<bool, Self::Stop>;

    /// Passes on a piece that was worked on.
    fn put(&mut self, piece: &mut Self::Piece) -> Result<(), Self::Stop>;
}

/// Pieces that a thread of [`in_turns`] has at a time: one that it works on, and the next.
const PIECES_AHEAD: usize = 2;

/// Does `work` on every piece of a stream, on up to `threads` threads. On more than one, the calling thread takes and
/// puts pieces while the others work, so at most two pieces a thread are held at a time.
///
/// # Errors
///
/// The first stop in the order of the pieces, whatever the number of threads; all pieces before it have gone on.
pub(crate) fn in_turns<S: Stream>(
    threads: NonZeroUsize,
    stream: &mut S,
    work: impl Fn(&mut S::Piece) + Sync,
) -> Result<(), S::Stop> {
    let work = &work;
    thread::scope(|scope| {
        let start = || {
            let (jobs, waiting) = mpsc::channel::<S::Piece>();
            let (done, results) = mpsc::channel();
            let run = move || {
                for mut piece in waiting {
                    work(&mut piece);
                    if done.send(piece).is_err() {
                        return;
                    }
                }
            };
            Builder::new().spawn_scoped(scope, run).ok().map(|_| (jobs, results))
        };
        let count = if threads.get() > 1 { threads.get() } else { 0 };
        let workers: Vec<_> = (0..count).map_while(|_| start()).collect();
        if workers.is_empty() {
            let mut piece = S::Piece::default();
            while stream.take(&mut piece)? {
                work(&mut piece);
                stream.put(&mut piece)?;
            }
            return Ok(());
        }
        // Workers get pieces by turns and give them back by turns, which keeps the order.
        let (mut taken, mut gone_on) = (0, 0);
        let put_next = |stream: &mut S, gone_on: &mut usize| {
            // A worker that is gone has panicked; the scope passes that on when all have ended.
            let Ok(mut piece) = workers[*gone_on % workers.len()].1.recv() else { return Ok(None) };
            *gone_on += 1;
            stream.put(&mut piece).map(|()| Some(piece))
        };
        let mut spare = None;
        loop {
            let most = if stream.may_wait() { 0 } else { PIECES_AHEAD * workers.len() - 1 };
            while taken - gone_on > most {
                match put_next(stream, &mut gone_on)? {
                    Some(piece) => spare = Some(piece),
                    None => return Ok(()),
                }
            }
            let mut piece = spare.take().unwrap_or_default();
            let more = stream.take(&mut piece);
            if !matches!(more, Ok(true)) {
                while gone_on < taken {
                    if put_next(stream, &mut gone_on)?.is_none() {
                        break;
                    }
                }
                return more.map(drop);
            }
            if workers[taken % workers.len()].0.send(piece).is_err() {
                return Ok(());
            }
            taken += 1;
        }
    })
}

/// The threads of the pool that the work runs in, for the kernel's phases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolThreads(pub(crate) NonZeroUsize);

impl PoolThreads {
    /// The calling thread alone, in a pool or not.
    pub(crate) const ONE: Self = Self(NonZeroUsize::MIN);
}

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

    /// Counts up to its end, or to what stops it.
    #[derive(Default)]
    struct Counter {
        next: usize,
        end: usize,
        take_fails_at: Option<usize>,
        waits: bool,
        under_way: usize,
        most_under_way: usize,
        found: Vec<usize>,
    }

    impl Stream for Counter {
        type Piece = Option<usize>;
        type Stop = String;

        fn may_wait(&self) -> bool {
            self.waits
        }

        fn take(&mut self, piece: &mut Option<usize>) -> Result<bool, String> {
            if self.take_fails_at == Some(self.next) {
                return Err(format!("no piece {}", self.next));
            }
            if self.next == self.end {
                return Ok(false);
            }
            *piece = Some(self.next);
            self.next += 1;
            self.under_way += 1;
            self.most_under_way = self.most_under_way.max(self.under_way);
            Ok(true)
        }

        fn put(&mut self, piece: &mut Option<usize>) -> Result<(), String> {
            self.under_way -= 1;
            match piece.take() {
                Some(result) if result % 1000 != 13 => self.found.push(result),
                other => return Err(format!("{other:?}")),
            }
            Ok(())
        }
    }

    /// Takes unequal times, so that pieces overtake one another where they can.
    fn work(piece: &mut Option<usize>) {
        let number = piece.expect("taken");
        thread::sleep(core::time::Duration::from_micros((number as u64 * 7919) % 300));
        *piece = Some(number + 10_000);
    }

    #[test]
    fn pieces_of_a_stream_go_on_in_their_order_and_few_are_held() {
        for waits in [false, true] {
            for workers in 1..5 {
                let mut counter = Counter { end: 12, waits, ..Counter::default() };
                in_turns(threads(workers), &mut counter, work).expect("no stop");
                assert_eq!(counter.found, (10_000..10_012).collect::<Vec<_>>());
                let most = if waits || workers == 1 { 1 } else { 2 * workers };
                assert_eq!(counter.most_under_way, most.min(12), "{workers} threads, waits: {waits}");
            }
        }
    }

    #[test]
    fn a_stream_stops_at_its_first_fault_for_any_number_of_threads() {
        for workers in 1..5 {
            // The thirteenth piece cannot go on; a later one cannot be taken, which nobody gets to hear of.
            for take_fails_at in [None, Some(15)] {
                let mut counter = Counter { end: 100, take_fails_at, ..Counter::default() };
                let stop = in_turns(threads(workers), &mut counter, work).expect_err("must stop");
                assert_eq!(stop, "Some(10013)", "{workers} threads");
                assert_eq!(counter.found, (10_000..10_013).collect::<Vec<_>>());
            }
            let mut counter = Counter { end: 100, take_fails_at: Some(9), ..Counter::default() };
            let stop = in_turns(threads(workers), &mut counter, work).expect_err("must stop");
            assert_eq!(stop, "no piece 9", "{workers} threads");
            assert_eq!(counter.found.len(), 9, "all before it go on");
        }
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_of_the_work_on_a_stream_is_passed_on() {
        let mut counter = Counter { end: 50, ..Counter::default() };
        let _ = in_turns(threads(3), &mut counter, |piece| assert!(*piece != Some(5), "a fault of the work"));
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
