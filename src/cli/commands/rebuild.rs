//! `enginewright rebuild --check`

use serde_json::json;

use super::super::args::RebuildArgs;
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::super::{output, render};
use super::{distinct, print_warnings};
use crate::build::{self, Class, Difference, Rebuilt};
use crate::diagnostic::Diagnostic;
use crate::source::Network;

pub(super) fn run(settings: &Settings, args: &RebuildArgs) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engines = project.select(&args.engines.engines)?;
    let progress = Progress::new(settings, None);
    let ctx = settings.context(&project, Network::Deny, None, &progress)?;
    let (results, mut errors) = build::rebuild(&ctx, &engines, args.times)?;
    let all = results.iter().filter_map(|(_, result)| result.as_ref().err()).flatten();
    errors.extend(distinct(all));
    let cache_warnings = ctx.cache.take_warnings();
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "engines": results.iter().map(|(name, result)| as_json(name, result)).collect::<Vec<_>>(),
            "diagnostics": errors.iter().map(render::json).collect::<Vec<_>>(),
            "cache_warnings": cache_warnings,
        })),
        Format::Text => {
            print_warnings(settings, &project.warnings, &[], cache_warnings);
            render::print(settings, &errors);
            let rows: Vec<Vec<String>> =
                results.iter().filter_map(|(name, r)| Some(row(name, r.as_ref().ok()?))).collect();
            if !rows.is_empty() {
                let headers = ["CLASS", "ENGINE", "NOW", "EVER", "HOSTS", "TIME", "DIFFERENCE"];
                output::stdout(&output::table(&headers, &rows));
            }
        }
    }
    let is_same = |(_, result): &(String, Result<Rebuilt, _>)| {
        result.as_ref().is_ok_and(|rebuilt| rebuilt.evidence.class() == Class::Bit)
    };
    let is_whole = results.len() == engines.len() && errors.is_empty();
    Ok(if is_whole && results.iter().all(is_same) { exit::DONE } else { exit::FAILED })
}

fn row(name: &str, rebuilt: &Rebuilt) -> Vec<String> {
    let evidence = &rebuilt.evidence;
    let slowest = rebuilt.ms.iter().max().copied().unwrap_or(0);
    vec![
        evidence.class().name().to_owned(),
        name.to_owned(),
        format!("{} of {} equal", rebuilt.same, rebuilt.times),
        format!("{} of {}", evidence.rebuilds - evidence.differing, evidence.rebuilds),
        evidence.hosts.to_string(),
        output::duration(slowest),
        rebuilt.difference.as_ref().map_or_else(String::new, difference),
    ]
}

/// Where two engines differ, in one line.
pub(super) fn difference(difference: &Difference) -> String {
    let Difference { sizes: [stored, rebuilt], first, bytes, part, kept } = difference;
    let sizes =
        if stored == rebuilt { String::new() } else { format!("{rebuilt} bytes instead of {stored}; ") };
    let kept = kept.as_ref().map_or_else(String::new, |kept| format!("\nboth are in {}", kept.display()));
    format!("{sizes}{bytes} bytes differ, the first at {first}, in the {part}{kept}")
}

fn as_json(name: &str, result: &Result<Rebuilt, Vec<Diagnostic>>) -> serde_json::Value {
    match result {
        Ok(rebuilt) => json!({ "engine": name, "class": rebuilt.evidence.class(), "rebuilt": rebuilt }),
        Err(errors) => {
            json!({ "engine": name, "errors": errors.iter().map(render::json).collect::<Vec<_>>() })
        }
    }
}
