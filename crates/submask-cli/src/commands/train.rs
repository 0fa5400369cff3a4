//! `submask train`.

use std::fmt::Write;
use std::io::{IsTerminal, stdout};
use std::sync::atomic::Ordering;

use submask::model::BestValidation;
use submask::train::event::Event;
use submask::train::exchange::Ranks;
use submask::train::{Outcome, RunRequest, Summary, checkpoint, run_among as train};

use crate::args::TrainArgs;
use crate::compute::Compute;
use crate::dashboard;
use crate::failure::Failure;
use crate::stop::Stop;
use crate::{format, output, progress, ranks, settings};

/// Trains a model, as one of the ranks that MPI has started, or alone.
pub fn run(args: &TrainArgs, compute: Compute) -> Result<(), Failure> {
    #[cfg(feature = "mpi")]
    let ranks = ranks::join(
        args.mpi_timeout,
        "the other ranks are ended; --resume goes on from the last checkpoint",
    )?;
    #[cfg(not(feature = "mpi"))]
    let ranks = ranks::only()?;
    let done = run_as(args, compute, &ranks);
    ranks::leave(&ranks, done, || ())
}

fn run_as(args: &TrainArgs, compute: Compute, ranks: &Ranks) -> Result<(), Failure> {
    if args.tui && !stdout().is_terminal() {
        return Err(
            Failure::usage("--tui needs a terminal").hint("leave it out: plain lines are written instead")
        );
    }
    let plan = settings::for_training(args, Vec::new())?;
    let request = RunRequest {
        settings: plan.settings,
        out: plan.out,
        resume: plan.resume,
        init: plan.init,
        compute: compute.open()?,
    };
    let title = request.out.display().to_string();
    let stop = Stop::on_signal(ranks.is_first())?;
    let outcome = if !ranks.is_first() {
        let mut watch = |event: &Event| note(event, &stop, &mut |_| {});
        train(&request, ranks, &mut watch, &stop.asked)
    } else if args.tui {
        dashboard::watch(&title, &stop, |show| {
            let mut watch = |event: &Event| note(event, &stop, show);
            train(&request, ranks, &mut watch, &stop.asked)
        })?
    } else {
        eprintln!("run  {title}");
        if ranks.count() > 1 {
            eprintln!("by {} ranks", ranks.count());
        }
        let mut observer = progress::training_observer();
        let mut watch = |event: &Event| note(event, &stop, &mut |event| observer.notify(event));
        train(&request, ranks, &mut watch, &stop.asked)
    };
    match outcome? {
        _ if !ranks.is_first() => Ok(()),
        Outcome::Finished(summary) => {
            ranks::report(&summary);
            output::write(&report(&request, &summary))
        }
        Outcome::Stopped { step, checkpoint } => {
            let steps = request.settings.train.steps;
            Err(Failure::stopped(format!("after step {step} of {steps}; saved {}", checkpoint.display()))
                .hint(format!("go on by: submask train --out {title} --resume")))
        }
    }
}

/// Passes an event on; once training has started there is something to save.
fn note(event: &Event, stop: &Stop, next: &mut dyn FnMut(&Event)) {
    if matches!(event, Event::Started { .. }) {
        stop.worthwhile.store(true, Ordering::Relaxed);
    }
    next(event);
}

/// Where the model is, its figures and what they are means over, what sampling cost, and the samples.
fn report(request: &RunRequest, summary: &Summary) -> String {
    let mut text = format!("{}\n\n", summary.checkpoint.display());
    let validation = &summary.validation;
    let train = &request.settings.train;
    if let Some(best) = summary.best.filter(|_| summary.early) {
        let (step, steps) = (summary.step, train.steps);
        let _ = writeln!(text, "Finished early, after step {step} of {steps}: {}.", format::ends_early(best));
    }
    let sequences = match train.final_sequences {
        0 => "all held-out sequences".to_owned(),
        most => format!("at most {most} held-out sequences"),
    };
    let _ = writeln!(text, "Means over {sequences}, draws of each: {}.", train.final_draws);
    text += &output::figure_table(&validation.figures);
    if !validation.samples.is_empty() {
        let _ = writeln!(text, "\nsamples: {}", output::sampling_cost(&validation.report));
    }
    for sample in &validation.samples {
        let _ = write!(text, "\n{}\n", sample.trim_end());
    }
    let _ = write!(text, "\nsample it: submask sample {}\n", request.out.display());
    // It may be of a time when it was not kept.
    let is_kept = |best: &BestValidation| checkpoint::folder(&request.out, best.step).is_dir();
    if let Some(best) = summary.best.filter(|best| train.keep_best && is_kept(best)) {
        let shown = request.out.display();
        let _ =
            writeln!(text, "the best, after step {}: submask sample {shown} --checkpoint best", best.step);
    }
    text
}
