//! Exit codes, and the one place where errors become messages and codes.

use super::output;
use super::render;
use super::settings::{Format, Settings};
use crate::diagnostic::Diagnostic;

/// Done, or nothing to do.
pub const DONE: u8 = 0;
/// It ran and the answer is no: an engine failed, or `check` found errors.
pub const FAILED: u8 = 1;
/// `--detailed-exitcode`: there is work to do.
pub const CHANGES: u8 = 2;
/// A bad manifest, model, plan or lock file, before any work.
pub const INVALID: u8 = 3;
/// Nothing could start: no project, no toolchain, no cache, no worker.
pub const CANNOT_START: u8 = 4;
/// A bad command line.
pub const USAGE: u8 = 64;
/// A bug: the program panicked, and Rust's runtime gives this code.
pub const BUG: u8 = 101;
/// Stopped by SIGINT.
pub const INTERRUPTED: u8 = 130;
/// Stopped by SIGTERM.
pub const TERMINATED: u8 = 143;

/// A command that failed as a whole.
#[derive(Debug)]
pub struct Failed {
    /// The exit code.
    pub code: u8,
    /// What to say.
    pub diagnostics: Vec<Diagnostic>,
}

impl Failed {
    pub(super) fn new(code: u8, diagnostic: Diagnostic) -> Failed {
        Failed { code, diagnostics: vec![diagnostic] }
    }

    /// Says it, and gives the exit code.
    pub(super) fn report(&self, settings: &Settings) -> u8 {
        match settings.format {
            Format::Json => output::json(&serde_json::json!({
                "format": output::JSON_FORMAT,
                "diagnostics": self.diagnostics.iter().map(render::json).collect::<Vec<_>>(),
            })),
            Format::Text => render::print(settings, &self.diagnostics),
        }
        self.code
    }

    /// Says it before the settings are known.
    pub(super) fn report_plainly(&self) -> u8 {
        for diagnostic in &self.diagnostics {
            output::stderr(&render::text(diagnostic, false, None));
        }
        self.code
    }
}

impl From<crate::cache::Error> for Failed {
    fn from(error: crate::cache::Error) -> Failed {
        Failed::new(CANNOT_START, Diagnostic::from(&error))
    }
}
