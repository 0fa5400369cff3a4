//! `submask merge`.

use submask::parts::PartSet;

use super::{data, eval, metrics, sample, score};
use crate::args::MergeArgs;
use crate::failure::Failure;

/// Makes of all shares of a call what one call gives.
pub fn run(args: &MergeArgs) -> Result<(), Failure> {
    let set = PartSet::open(&args.parts)?;
    match set.verb() {
        data::PREPARE => data::merge(&set),
        eval::VERB => eval::merge(&set),
        metrics::VERB => metrics::merge(&set),
        sample::VERB => sample::merge(&set),
        score::VERB => score::merge(&set),
        verb => {
            let first = set.parts()[0].path().display();
            Err(Failure::failed(format!("{first}: a part of `{verb}`, which this program does not merge")))
        }
    }
}
