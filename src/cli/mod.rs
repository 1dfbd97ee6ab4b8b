//! The command line: the only place that prints, exits, and reads environment or clock.
//!
//! Data goes to stdout, everything else to stderr. Arguments become [`settings::Settings`], a
//! command runs on those, and its [`exit::Failed`] becomes messages and an exit code.

mod args;
mod commands;
pub mod exit;
mod explain;
mod memo;
mod output;
mod progress;
mod reference;
mod render;
mod schema;
mod settings;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program.
pub fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    if crate::worker::is_worker(argv.iter().cloned()) {
        crate::worker::serve();
    }
    let args = match args::parse(&argv) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            // clap's 2 would read as "there is work to do".
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    let settings = match settings::Settings::new(&args.global, &argv) {
        Ok(settings) => settings,
        Err(failed) => return ExitCode::from(failed.report_plainly()),
    };
    let result = commands::run(&settings, args.command);
    let code = match result {
        // Half an answer is not one.
        Ok(exit::DONE | exit::CHANGES) if !output::is_whole() => exit::FAILED,
        Ok(code) => code,
        Err(failed) => failed.report(&settings),
    };
    // A run that was stopped by a signal says so, as shells expect it.
    ExitCode::from(settings.stopped_by().unwrap_or(code))
}
