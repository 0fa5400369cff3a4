//! What the server says while it runs: one line of JSON per event, on standard error.

use tracing::Level;
use tracing_subscriber::fmt::format::FmtSpan;

/// Lines of JSON on standard error, of events from the level info on. A program that has logs of its own does not call
/// this, and gets the same events. It has no effect where there are logs already.
pub fn to_standard_error() {
    let lines = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_span_events(FmtSpan::NONE)
        .with_max_level(Level::INFO)
        // Whoever read standard error may have gone; that is to be told nowhere, and to break nothing.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .finish();
    // Fails only where the program has set up logs of its own.
    let _ = tracing::subscriber::set_global_default(lines);
}
