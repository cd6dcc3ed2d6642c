//! The time this thread has run, which other programs on the same machine do not lengthen.

use core::time::Duration;

/// How long the calling thread has been running on a processor, from some moment on.
#[cfg(any(target_os = "linux", target_os = "macos"))]
#[must_use]
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // The clock starts at zero with the thread: neither part is ever negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The time that has passed from some moment on: this system has no simple clock for a thread.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
#[must_use]
pub fn thread_time() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;

    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advances_while_the_thread_works() {
        let start = thread_time();
        let mut turns = 0u64;
        while thread_time() == start {
            turns += 1;
            assert!(turns < 1_000_000_000, "the clock stands still");
        }
        assert!(thread_time() > start);
    }

    #[cfg(any(target_os = "linux", target_os = "macos"))]
    #[test]
    fn does_not_count_waiting() {
        let start = thread_time();
        std::thread::sleep(Duration::from_millis(100));
        assert!(thread_time() - start < Duration::from_millis(50));
    }
}
