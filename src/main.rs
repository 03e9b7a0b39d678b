//! Parse, dispatch, exit code. Everything else is in the library, whose front page is the tour.
#![forbid(unsafe_code)]

use clap::Parser;
use inkport::ocr::NO_TELEMETRY;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let (name, value) = NO_TELEMETRY;
    if std::env::var_os(name).is_none_or(|set| set != value) {
        // ONNX Runtime looks at the environment that its process began with, so this one begins again.
        let mut arguments = std::env::args_os();
        let called = arguments.next().unwrap_or_else(|| "inkport".into());
        let me = std::env::current_exe().unwrap_or_else(|_| called.clone().into());
        let error = Command::new(me).arg0(called).args(arguments).env(name, value).exec();
        eprintln!(
            "inkport: it cannot start itself again with {name}={value}, which keeps ONNX Runtime from reporting: {error}; set that yourself"
        );
        return ExitCode::FAILURE;
    }
    let command_line = inkport::cli::CommandLine::parse();
    inkport::cli::run(command_line).unwrap_or_else(|error| {
        // One sentence, its causes behind it: what, where, what to do.
        eprintln!("inkport: {error:#}");
        inkport::cli::exit_code(&error)
    })
}
