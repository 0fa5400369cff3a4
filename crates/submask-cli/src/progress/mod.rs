//! What is said on standard error while something takes its time.

mod bars;
mod counter;
mod download;
mod lines;
mod pace;
mod waiting;

use std::io::{IsTerminal, stderr};

pub use counter::Counter;
pub use download::Download;
pub use lines::preparing;
pub use pace::Pace;
use submask::train::event::Observer;
pub use waiting::Waiting;

/// A watcher of training runs: bars on a terminal, plain lines elsewhere.
pub fn training_observer() -> Box<dyn Observer> {
    if stderr().is_terminal() { Box::new(bars::Bars::new()) } else { Box::new(lines::Lines::new(stderr())) }
}
