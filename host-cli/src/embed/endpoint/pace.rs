//! When the next request may begin: a limit per minute, and the pauses a service asks for.

use core::time::Duration;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Instant, SystemTime};

/// The first pause after a passing fault; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause, also where a service asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The pause before the attempt after `attempt`, which is counted from 1.
pub(super) fn back_off(attempt: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

/// The pause that a service asks for: `retry-after-ms`, else `retry-after` in seconds or as a date. The date is taken
/// by the service's own clock where it says what that shows, for ours may be wrong.
pub(super) fn retry_after(
    milliseconds: Option<&str>,
    seconds_or_date: Option<&str>,
    service_now: Option<&str>,
) -> Option<Duration> {
    let seconds = |text: Option<&str>, unit: f64| {
        let number = text?.trim().parse::<f64>().ok().filter(|number| *number >= 0.0)?;
        Some(Duration::try_from_secs_f64(number * unit).unwrap_or(LONGEST_PAUSE))
    };
    let date = |text: Option<&str>| httpdate::parse_http_date(text?.trim()).ok();
    let until = || {
        let now = date(service_now).unwrap_or_else(SystemTime::now);
        // A time gone by asks for no pause.
        Some(date(seconds_or_date)?.duration_since(now).unwrap_or_default())
    };
    let pause = seconds(milliseconds, 1e-3).or_else(|| seconds(seconds_or_date, 1.0)).or_else(until)?;
    Some(pause.min(LONGEST_PAUSE))
}

/// Shared by all requests to a service.
pub(super) struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// At most so many requests begin in a minute; any number without.
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        let interval = per_minute.map_or(Duration::ZERO, |count| Duration::from_secs(60) / count.max(1));
        Self { interval, next: Mutex::new(Instant::now()) }
    }

    /// Waits until the next request may begin.
    pub(super) fn wait(&self) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + self.interval;
            turn
        };
        thread::sleep(turn.saturating_duration_since(Instant::now()));
    }

    /// No request begins before this time has gone by: a service that is overrun is so for all of them.
    pub(super) fn pause(&self, time: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(Instant::now() + time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<_> = (1..=9).map(|attempt| back_off(attempt).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        assert_eq!(back_off(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn a_services_own_pause_is_read_and_bounded() {
        let seconds = |text| retry_after(None, Some(text), None).map(|time| time.as_secs_f64());
        assert_eq!(seconds("2"), Some(2.0));
        assert_eq!(seconds(" 0.25 "), Some(0.25));
        assert_eq!(seconds("86400"), Some(60.0));
        for other in ["-1", "NaN", "soon", "Wed, 21 Oct 2026", ""] {
            assert_eq!(seconds(other), None, "{other}");
        }
        assert_eq!(retry_after(Some("1500"), Some("9"), None), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn a_date_is_a_pause_by_the_services_clock_or_else_by_ours() {
        let date = "Wed, 21 Oct 2026 07:28:09 GMT";
        let seconds = |date, now| retry_after(None, Some(date), now).map(|time| time.as_secs());
        assert_eq!(seconds(date, Some("Wed, 21 Oct 2026 07:28:00 GMT")), Some(9));
        assert_eq!(seconds(date, Some("Wed, 21 Oct 2026 08:00:00 GMT")), Some(0));
        assert_eq!(seconds(date, Some("Tue, 20 Oct 2026 08:00:00 GMT")), Some(60));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(20));
        assert!((15..=20).contains(&seconds(&soon, None).expect("a date")));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT", None), Some(0));
    }

    #[test]
    fn requests_begin_no_faster_than_allowed() {
        let pace = Pace::new(Some(1200));
        let began = Instant::now();
        (0..4).for_each(|_| pace.wait());
        assert!(began.elapsed() >= Duration::from_millis(150));
    }
}
