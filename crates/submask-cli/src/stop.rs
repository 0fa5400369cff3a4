//! Ctrl-C: the first one asks for a stop with a checkpoint, the second one quits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

/// Exit code after a stop by the user.
pub const STOPPED: u8 = 130;

/// The wish to stop, shared with whoever can wish it.
#[derive(Debug, Default)]
pub struct Stop {
    /// Whether it was asked for.
    pub asked: AtomicBool,
    /// Whether there is something to save: before that, stopping is quitting.
    pub worthwhile: AtomicBool,
}

impl Stop {
    /// A stop that Ctrl-C and requests to terminate ask for; `says` so, unless others do.
    pub fn on_signal(says: bool) -> Result<Arc<Self>, Failure> {
        let stop = Arc::new(Self::default());
        let shared = Arc::clone(&stop);
        ctrlc::set_handler(move || {
            if shared.ask_or_quit() {
                eprintln!("\n{}", shared.farewell());
                std::process::exit(STOPPED.into());
            }
            if says {
                eprintln!("\nstopping after this step, with a checkpoint; Ctrl-C again quits at once");
            }
        })
        .map_err(|error| Failure::failed(format!("cannot watch for Ctrl-C: {error}")))?;
        Ok(stop)
    }

    /// Asks for a stop; true if the program should quit at once instead.
    pub fn ask_or_quit(&self) -> bool {
        self.asked.swap(true, Ordering::Relaxed) || !self.worthwhile.load(Ordering::Relaxed)
    }

    /// What is said where the program quits at once.
    fn farewell(&self) -> &'static str {
        match self.worthwhile.load(Ordering::Relaxed) {
            true => "stopped at once: --resume goes on from the last checkpoint",
            false => "stopped before the first step: nothing was saved, the same command begins anew",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wish_stops_and_the_second_quits() {
        let stop = Stop { worthwhile: true.into(), ..Stop::default() };
        assert!(!stop.ask_or_quit());
        assert!(stop.ask_or_quit());
        assert!(stop.farewell().contains("--resume"));
        assert!(Stop::default().ask_or_quit(), "nothing to save yet");
        assert!(Stop::default().farewell().contains("begins anew"));
    }
}
