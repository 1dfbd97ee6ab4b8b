//! `enginewright replay`

use std::path::Path;
use std::time::Duration;

use super::super::exit::{self, Failed};
use super::super::output;
use super::super::settings::Settings;
use crate::build;
use crate::fs;
use crate::worker::protocol::Response;

pub(super) fn run(settings: &Settings, bundle: &Path, timeout: u64) -> Result<u8, Failed> {
    let bundle = fs::canonicalize(bundle).map_err(|e| {
        Failed::new(exit::USAGE, crate::diagnostic::Diagnostic::error("bundle", e.to_string()))
    })?;
    let cache = settings.cache()?;
    let job = cache.job_dir()?;
    match build::replay(&bundle, &Settings::worker(), Duration::from_secs(timeout), job.path()) {
        Ok(Response::Built(built)) => {
            output::stdout(&format!("it worked this time\n{}", build::log_text(&built.log)));
            Ok(exit::DONE)
        }
        Ok(_) => {
            output::stdout("it worked this time\n");
            Ok(exit::DONE)
        }
        Err(failure) => {
            output::stdout(&build::log_text(&failure.log));
            Err(Failed::new(exit::FAILED, failure.diagnostic("the replay")))
        }
    }
}
