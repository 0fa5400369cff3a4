//! The thread that samples: requests come and go between two rounds of the generator.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use submask::Session;
use submask::sampler::SampleReport;

use super::Shared;
use super::board::Board;
use crate::error::ApiError;

/// Samples until the engine is dropped. What ends a generator fails the requests under way, and the next one begins anew.
pub(super) fn run(session: &Session, shared: &Shared) {
    let mut board = Board::default();
    loop {
        match catch_unwind(AssertUnwindSafe(|| sample(session, shared, &mut board))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(error = %error, "sampling failed"),
            Err(_) => tracing::error!("sampling panicked"),
        }
        // Also those that were lost before they were under way.
        shared.queue.leave(usize::MAX);
        for active in board.take_all() {
            // A listener whose panic brought us here may do so again.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                active.fail(ApiError::internal("sampling failed; the log of the server says more"));
            }));
        }
        board = Board::default();
        shared.metrics.active_sequences.set(0);
    }
}

/// Samples with one generator.
fn sample<'s>(session: &'s Session, shared: &Shared, board: &mut Board<'s>) -> submask::Result<()> {
    let mut own = None;
    while let Some(jobs) = shared.queue.take(usize::MAX, board.is_empty()).or_else(|| unfinished(board)) {
        for job in jobs {
            if !board.begin(job, session) {
                shared.queue.leave(1);
            }
        }
        let generator = match &mut own {
            Some(generator) => generator,
            none => none.insert(session.generator(shared.max_batch)?),
        };
        if shared.dropped.is_cancelled() {
            board.take_all().into_iter().for_each(|active| active.fail(ApiError::shutting_down()));
            return Ok(());
        }
        let (ended, cost) = board.sweep(generator, Instant::now());
        shared.queue.leave(ended);
        count(&cost, shared);
        board.admit(generator, shared.max_batch);
        let sequences = generator.len();
        shared.metrics.active_sequences.set(sequences as i64);
        shared.metrics.queue_length.set(board.len().saturating_sub(shared.max_batch) as i64);
        if sequences == 0 {
            continue;
        }
        shared.metrics.batch_fill.observe(sequences.min(shared.max_batch) as f64);
        for finished in generator.round(board)? {
            count(&finished.report, shared);
            board.finished(finished);
        }
    }
    Ok(())
}

/// Goes on without new jobs while some are under way.
fn unfinished<T>(board: &Board) -> Option<Vec<T>> {
    (!board.is_empty()).then(Vec::new)
}

fn count(report: &SampleReport, shared: &Shared) {
    shared.metrics.evaluations.inc_by(report.evaluations);
    shared.metrics.idle_steps.inc_by(report.steps_skipped);
    shared.metrics.clean_passes.inc_by(report.clean_passes);
}
