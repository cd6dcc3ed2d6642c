//! Places where a test makes a process slow, to end it just there. In release builds there are none.

/// Sleeps at the place `name`, in a debug build, for the milliseconds that the environment variable
/// `QUERY_ADAPTER_TEST_PAUSES` has for it: `step=20,save=50`.
#[cfg(debug_assertions)]
pub(crate) fn pause(name: &str) {
    use core::time::Duration;
    use std::sync::LazyLock;

    static PAUSES: LazyLock<String> =
        LazyLock::new(|| std::env::var("QUERY_ADAPTER_TEST_PAUSES").unwrap_or_default());
    let of_name = |entry: &str| entry.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
    if let Some(milliseconds) = PAUSES.split(',').find_map(of_name) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
}

#[cfg(not(debug_assertions))]
pub(crate) const fn pause(_name: &str) {}
