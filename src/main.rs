//! Parse, dispatch, exit code. Everything else is in the library, whose front page is the tour.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command_line = inkport::cli::CommandLine::parse();
    inkport::cli::run(command_line).unwrap_or_else(|error| {
        // One sentence, its causes behind it: what, where, what to do.
        eprintln!("inkport: {error:#}");
        inkport::cli::exit_code(&error)
    })
}
