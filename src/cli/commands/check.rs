//! `enginewright check`

use std::collections::BTreeSet;

use serde_json::json;

use super::super::args::CheckArgs;
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Project, Settings};
use super::super::{output, render};
use super::distinct;
use crate::build::{self, Checked};
use crate::diagnostic::{Diagnostic, Level};
use crate::source::Network;

pub(super) fn run(settings: &Settings, args: &CheckArgs) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engines = project.select(&args.engines.engines)?;
    let progress = Progress::new(settings, None);
    let network = if args.fetch { Network::Allow } else { Network::Deny };
    let ctx = settings.context(&project, network, None, &progress)?;
    let checked = build::check(&ctx, &engines)?;
    ctx.cache.flush();
    let cache: Vec<Diagnostic> =
        ctx.cache.take_warnings().into_iter().map(|text| Diagnostic::warning("cache", text)).collect();

    // What several engines share is said once; errors are last, where they are seen.
    let of_engines = checked.iter().flat_map(|c| &c.diagnostics);
    let mut all = distinct(project.warnings.iter().chain(&cache).chain(of_engines));
    all.sort_by_key(|diagnostic| diagnostic.level);
    let fixes = fixes(&checked);
    match settings.format {
        Format::Json => output::json(&as_json(&checked, &all, &fixes)),
        Format::Text => {
            render::print(settings, &all);
            let text = text(&project, &checked, &all);
            if args.fix_hints {
                // Standard output can go to a file as it is.
                output::stdout(&fixes.join("\n"));
                output::stderr(&text);
            } else {
                output::stdout(&text);
            }
        }
    }
    let failed = all.iter().any(|diagnostic| diagnostic.level == Level::Error);
    Ok(if failed { exit::FAILED } else { exit::DONE })
}

/// The rules to paste, each once. What a model gets, its variants have.
fn fixes(checked: &[Checked]) -> Vec<String> {
    let given = |c: &Checked| {
        let rules = c.diagnostics.iter().filter_map(|d| Some((d.code.to_string(), d.rules.clone()?)));
        rules.collect::<Vec<_>>()
    };
    let all: BTreeSet<String> = checked.iter().flat_map(given).map(|(_, rule)| rule).collect();
    let mut seen = BTreeSet::new();
    let mut fixes = Vec::new();
    for engine in checked {
        let of_model = engine.table.split_once(".variant.").map(|(model, _)| model);
        for (code, rule) in given(engine) {
            let inherited = of_model.is_some_and(|model| all.contains(&rule.replace(&engine.table, model)));
            if !inherited && seen.insert(rule.clone()) {
                fixes.push(format!("# {code}\n{rule}\n"));
            }
        }
    }
    fixes
}

/// Engines with something to tell, and a count.
fn text(project: &Project, checked: &[Checked], all: &[Diagnostic]) -> String {
    let cell = |n: usize| if n == 0 { String::new() } else { n.to_string() };
    let rows: Vec<Vec<String>> = checked
        .iter()
        .map(|c| (c, c.count(Level::Error), c.count(Level::Warning)))
        .filter(|(_, errors, warnings)| errors + warnings > 0)
        .map(|(c, errors, warnings)| vec![c.engine.clone(), cell(errors), cell(warnings)])
        .collect();
    if project.manifest.engines.is_empty() {
        return "no engines are declared\n".to_owned();
    }
    let table = match rows.as_slice() {
        [] => String::new(),
        rows => format!("{}\n", output::table(&["ENGINE", "ERRORS", "WARNINGS"], rows)),
    };
    let count = |level, what| {
        let n = all.iter().filter(|diagnostic| diagnostic.level == level).count();
        (n > 0).then(|| output::count(n, what))
    };
    let counts: Vec<String> =
        [count(Level::Error, "error"), count(Level::Warning, "warning")].into_iter().flatten().collect();
    let found = if counts.is_empty() { "no problems".to_owned() } else { counts.join(", ") };
    format!("{table}{} checked: {found}\n", output::count(checked.len(), "engine"))
}

fn as_json(checked: &[Checked], all: &[Diagnostic], fixes: &[String]) -> serde_json::Value {
    let count = |level| all.iter().filter(|diagnostic| diagnostic.level == level).count();
    let engines = checked.iter().map(|engine| {
        json!({
            "engine": engine.engine,
            "errors": engine.count(Level::Error),
            "warnings": engine.count(Level::Warning),
            "diagnostics": engine.diagnostics.iter().map(render::json).collect::<Vec<_>>(),
        })
    });
    json!({
        "format": output::JSON_FORMAT,
        "errors": count(Level::Error),
        "warnings": count(Level::Warning),
        "engines": engines.collect::<Vec<_>>(),
        "diagnostics": all.iter().map(render::json).collect::<Vec<_>>(),
        "fixes": fixes,
    })
}
