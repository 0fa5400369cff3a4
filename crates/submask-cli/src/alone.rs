//! What stands in the place of `together` in a program that was built without MPI.

use std::path::Path;

use crate::args::ShardArgs;
use crate::failure::Failure;

/// Does `work`, of which only the user can start several shares.
///
/// # Errors
/// Of the work.
pub fn share<A>(
    args: A,
    _: impl FnOnce(&mut A) -> &mut ShardArgs,
    _: (&str, impl AsRef<Path>),
    work: impl FnOnce(&A) -> Result<(), Failure>,
) -> Result<(), Failure> {
    work(&args)
}
