//! The program `submask`.

use std::process::ExitCode;

fn main() -> ExitCode {
    submask_cli::main()
}
