//! Ctrl-C and SIGTERM: the first asks a run to save and to end, a second one ends it at once.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::io;
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// The signal that came first; 0 for none.
static ASKED_BY: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// A signal that asks a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What `kill`, and whoever shuts a machine down, sends.
    Terminate,
}

impl Signal {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit code after it: 128 and its number, as shells say it.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    const fn number(self) -> i32 {
        match self {
            Self::Interrupt => SIGINT,
            Self::Terminate => SIGTERM,
        }
    }
}

/// From now on the first of these signals is for [`requested`] to tell, and the second ends the process. Before, each ends
/// it, as with any program: call it where a run begins that asks.
///
/// # Errors
///
/// [`Failure::Other`] when the system refuses.
pub fn listen() -> Result<(), Failure> {
    let listen = || -> io::Result<()> {
        let again = Arc::new(AtomicBool::new(false));
        for signal in [Signal::Interrupt, Signal::Terminate] {
            // In this order: a first signal finds `again` unset, and sets it.
            flag::register_conditional_shutdown(
                signal.number(),
                i32::from(signal.exit_code()),
                Arc::clone(&again),
            )?;
            flag::register(signal.number(), Arc::clone(&again))?;
            flag::register_usize(signal.number(), Arc::clone(&ASKED_BY), usize::from(signal.exit_code()))?;
        }
        Ok(())
    };
    listen().map_err(|error| anyhow::anyhow!("cannot listen for signals: {error}").into())
}

/// The signal that asks this process to end.
#[must_use]
pub fn requested() -> Option<Signal> {
    let code = ASKED_BY.load(Ordering::Relaxed);
    [Signal::Interrupt, Signal::Terminate].into_iter().find(|signal| usize::from(signal.exit_code()) == code)
}

/// Fails where a signal asks for it.
///
/// # Errors
///
/// [`Failure::Interrupted`].
pub(crate) fn check() -> Result<(), Failure> {
    match requested() {
        Some(signal) => Err(Failure::Interrupted { signal, then: String::new() }),
        None => Ok(()),
    }
}
