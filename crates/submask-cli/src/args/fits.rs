//! Which flag has a meaning for which subject: the one table of it.

use submask::model::Subject;

use super::{EvalArgs, SampleArgs, TemperatureArg};
use crate::failure::Failure;

/// What a model is of, as far as flags are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Image,
    Point,
}

impl Kind {
    /// That of a model.
    pub fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Image(_) => Self::Image,
            Subject::Point(_) => Self::Point,
            _ => Self::Text,
        }
    }

    /// In words.
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "images",
            Self::Point => "points",
        }
    }
}

/// A flag, whether it was given, and the subjects that read it.
struct Fit<A> {
    flag: &'static str,
    given: fn(&A) -> bool,
    subjects: &'static [Kind],
}

const TEXT: &[Kind] = &[Kind::Text];
const IMAGES: &[Kind] = &[Kind::Image];
const DRAWN: &[Kind] = &[Kind::Image, Kind::Point];

const fn fit<A>(flag: &'static str, subjects: &'static [Kind], given: fn(&A) -> bool) -> Fit<A> {
    Fit { flag, given, subjects }
}

/// Flags of `submask sample` that not every subject reads.
const SAMPLE: [Fit<SampleArgs>; 16] = [
    fit("--prompt", TEXT, |args| args.prompt.is_some()),
    fit("--length", TEXT, |args| args.length.is_some()),
    fit("--top-p", TEXT, |args| args.top_p.is_some()),
    fit("--top-k", TEXT, |args| args.top_k.is_some()),
    fit("--out", DRAWN, |args| args.images.out.is_some()),
    fit("--preset", DRAWN, |args| args.images.preset.is_some()),
    fit("--draw", DRAWN, |args| args.images.draw.is_some()),
    fit("--warp", DRAWN, |args| args.images.warp.is_some()),
    fit("--corrector", DRAWN, |args| args.images.corrector.is_some()),
    fit("--carry-over", DRAWN, |args| args.images.carry_over.is_some()),
    fit("--label", DRAWN, |args| args.images.label.is_some()),
    fit("--given", DRAWN, |args| args.images.given.is_some()),
    fit("--mask", DRAWN, |args| args.images.mask.is_some()),
    fit("--keep-digits", DRAWN, |args| args.images.keep_digits.is_some()),
    fit("--keep-channels", DRAWN, |args| !args.images.keep_channels.is_empty()),
    fit("--temperature a,n,c", DRAWN, |args| matches!(args.temperature, Some(TemperatureArg::Schedule(_)))),
];

/// Flags of `submask eval` that not every subject reads.
const EVAL: [Fit<EvalArgs>; 5] = [
    fit("--split", TEXT, |args| args.split.is_some()),
    fit("--field", TEXT, |args| args.field.is_some()),
    fit("--images", IMAGES, |args| args.images.images.is_some()),
    fit("--labels", IMAGES, |args| args.images.labels.is_some()),
    fit("--carry-over", DRAWN, |args| args.images.carry_over.is_some()),
];

/// Refuses flags of `submask sample` that say nothing to a model of this kind.
pub fn sample(args: &SampleArgs, kind: Kind) -> Result<(), Failure> {
    check(&SAMPLE, args, kind)
}

/// Refuses flags of `submask eval` that say nothing to a model of this kind.
pub fn eval(args: &EvalArgs, kind: Kind) -> Result<(), Failure> {
    check(&EVAL, args, kind)
}

fn check<A>(table: &[Fit<A>], args: &A, kind: Kind) -> Result<(), Failure> {
    let unread = table.iter().find(|fit| !fit.subjects.contains(&kind) && (fit.given)(args));
    let Some(Fit { flag, subjects, .. }) = unread else { return Ok(()) };
    // Points share the section of images in the help.
    let read_by = subjects[0].name();
    Err(Failure::usage(format!("{flag} has a meaning for {read_by} only"))
        .hint(format!("this is a model of {}; `--help` says what reads it", kind.name())))
}
