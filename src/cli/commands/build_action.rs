//! `enginewright build-action`

use std::time::Duration;

use serde_json::json;

use super::super::args::BuildActionArgs;
use super::super::exit::{self, Failed};
use super::super::output;
use super::super::settings::{Format, Settings};
use super::rebuild;
use crate::build::{self, Place};

pub(super) fn run(settings: &Settings, args: &BuildActionArgs) -> Result<u8, Failed> {
    let cache = settings.cache()?;
    let place = Place {
        cache: &cache,
        worker: &Settings::worker(),
        toolchain: args.toolchain.as_deref(),
        out: args.out.as_deref(),
        timeout: Duration::from_secs(args.timeout),
        cancel: &settings.cancel,
    };
    let done = build::build_action(&place, &args.key).map_err(|error| Failed::new(exit::FAILED, error))?;
    let is_same = done.built == done.recorded;
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "key": args.key,
            "engine": done.engine,
            "same": is_same,
            "recorded": done.recorded,
            "built": done.built,
            "difference": done.difference,
            "hermetic": done.hermetic.name(),
            "ms": done.ms,
        })),
        Format::Text => {
            let what = if is_same { "the same bytes as on record" } else { "other bytes than on record" };
            let (worker, time) = (done.hermetic.name(), output::duration(done.ms));
            let mut text = format!("{}: {what}: {} ({worker}, {time})\n", done.engine, done.built);
            if let Some(difference) = &done.difference {
                text += &format!("  {}\n", rebuild::difference(difference));
            }
            output::stdout(&text);
        }
    }
    Ok(if is_same { exit::DONE } else { exit::FAILED })
}
