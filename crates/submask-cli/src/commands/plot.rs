//! `submask plot`.

use crate::args::PlotArgs;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::{output, plot};

/// Writes the charts of a run and prints their paths.
pub fn run(args: &PlotArgs) -> Result<(), Failure> {
    let metrics = Metrics::read(&args.run)?;
    let folder = args.out.clone().unwrap_or_else(|| args.run.join("plots"));
    let written = plot::write_charts(&metrics, &folder)?;
    if written.is_empty() {
        return Err(Failure::failed(format!("{} has no record to draw yet", args.run.display())));
    }
    let lines: String = written.iter().map(|path| format!("{}\n", path.display())).collect();
    output::write(&lines)
}
