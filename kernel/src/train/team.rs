//! How a phase is split over threads: by panels, and within one where it has more than one thread, which changes no bit.

/// Runs two pieces of work, at the same time if it can.
///
/// The kernel has no threads. A host implements this with its own, as `rayon::join` does it, and hands it to
/// [`Trainer::steps`](crate::Trainer::steps).
pub trait Join: Sync {
    /// How many threads there are.
    fn threads(&self) -> usize;

    /// Runs both, and returns when both are done.
    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B);
}

/// The caller's thread alone.
#[derive(Clone, Copy, Debug)]
pub struct SingleThread;

impl Join for SingleThread {
    fn threads(&self) -> usize {
        1
    }

    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B) {
        a();
        b();
    }
}

/// A part of a step that works on one panel after another, none needing another's result.
pub(super) trait Phase: Send + Sized {
    /// How many panels there are to work on.
    fn panels(&self) -> usize;

    /// The work on the first `at` panels, and the work on the others.
    fn split_at(self, at: usize) -> (Self, Self);

    /// Does the work.
    fn run(self);

    /// Does the work on a panel that several threads have to themselves.
    fn share<J: Join>(self, _join: &J, _threads: usize) {
        self.run();
    }
}

/// Runs a phase on all threads.
pub(super) fn run<J: Join, P: Phase>(join: &J, phase: P) {
    run_on(join, join.threads(), phase);
}

/// The same on so many of them.
pub(super) fn run_on<J: Join, P: Phase>(join: &J, threads: usize, phase: P) {
    let (panels, half) = (phase.panels(), threads / 2);
    if half == 0 {
        return phase.run();
    }
    if panels < 2 {
        return phase.share(join, threads);
    }
    let (a, b) = phase.split_at((panels.saturating_mul(half) / threads).max(1));
    join.join(|| run_on(join, half, a), || run_on(join, threads - half, b));
}

/// Splits a buffer behind its first `at` pieces of `len` elements.
pub(super) fn split<T>(buffer: &mut [T], at: usize, len: usize) -> (&mut [T], &mut [T]) {
    let at = at.saturating_mul(len).min(buffer.len());
    buffer.split_at_mut(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Marks<'a>(&'a mut [u32]);

    impl Phase for Marks<'_> {
        fn panels(&self) -> usize {
            self.0.len()
        }
        fn split_at(self, at: usize) -> (Self, Self) {
            let (a, b) = split(self.0, at, 1);
            (Self(a), Self(b))
        }
        fn run(self) {
            let share = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
            self.0.fill(share);
        }
    }

    struct Pretended(usize);

    impl Join for Pretended {
        fn threads(&self) -> usize {
            self.0
        }
        fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B) {
            b();
            a();
        }
    }

    #[test]
    fn every_panel_is_worked_on_and_shares_are_even() {
        for threads in 0..6 {
            for panels in 0..20 {
                let mut marks = vec![0; panels];
                run(&Pretended(threads), Marks(&mut marks));
                let share = panels.div_ceil(threads.max(1));
                assert!(
                    marks.iter().all(|&mark| mark > 0 && mark as usize <= share + 1),
                    "{threads}: {marks:?}"
                );
            }
        }
    }
}
