//! `enginewright toolchain`

use serde_json::json;

use super::super::args::ToolchainCommand;
use super::super::exit::{self, Failed};
use super::super::output;
use super::super::progress::Progress;
use super::super::settings::{Format, Project, Settings};
use crate::build;
use crate::diagnostic::{Diagnostic, nearest};
use crate::manifest::Toolchain;
use crate::plan::ToolchainFact;
use crate::source::Network;

pub(super) fn run(settings: &Settings, command: &ToolchainCommand) -> Result<u8, Failed> {
    let project = settings.project()?;
    let (network, toolchains) = match command {
        ToolchainCommand::List => (Network::Deny, all(&project)),
        ToolchainCommand::Fetch { names } if names.is_empty() => (Network::Allow, used(&project)),
        ToolchainCommand::Fetch { names } => (Network::Allow, named(&project, names)?),
    };
    let progress = Progress::new(settings, None);
    let ctx = settings.context(&project, network, None, &progress)?;
    let mut rows = Vec::new();
    let mut list = Vec::new();
    let mut errors = Vec::new();
    for toolchain in toolchains {
        let fact = build::find_toolchain(&ctx, toolchain);
        let (state, version, sms, place) = match &fact {
            ToolchainFact::Found(found) => (
                if found.libraries.is_some() || found.installed.is_some() { "ready" } else { "in lock file" },
                found.version.clone(),
                crate::toolchain::sms(found.kind)
                    .iter()
                    .flatten()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
                found
                    .libraries
                    .as_ref()
                    .or(found.installed.as_ref().map(|installed| &installed.program))
                    .map(|p| p.display().to_string()),
            ),
            ToolchainFact::NotFetched => {
                ("not fetched", toolchain.version.clone().unwrap_or_default(), Vec::new(), None)
            }
            ToolchainFact::Absent(_) => {
                ("not here", toolchain.version.clone().unwrap_or_default(), Vec::new(), None)
            }
            ToolchainFact::Bad(error) => {
                errors.push((**error).clone());
                ("error", toolchain.version.clone().unwrap_or_default(), Vec::new(), None)
            }
        };
        list.push(json!({
            "name": toolchain.name, "kind": toolchain.kind.name(), "version": version, "state": state,
            "sms": sms, "libraries": place,
            "files": if let ToolchainFact::Found(found) = &fact { json!(found.files) } else { json!(null) },
        }));
        rows.push(vec![
            toolchain.name.clone(),
            toolchain.kind.name().to_owned(),
            version,
            state.to_owned(),
            sms.join(" "),
            place.unwrap_or_default(),
        ]);
    }
    ctx.cache.flush();
    let cache_warnings = ctx.cache.take_warnings();
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "toolchains": list,
            "diagnostics": errors.iter().map(super::super::render::json).collect::<Vec<_>>(),
            "cache_warnings": cache_warnings,
        })),
        Format::Text => {
            super::print_warnings(settings, &project.warnings, &[], cache_warnings);
            let headers = ["NAME", "KIND", "VERSION", "STATE", "BUILDS FOR", "LIBRARIES"];
            output::stdout(&output::table(&headers, &rows));
            super::super::render::print(settings, &errors);
        }
    }
    Ok(if errors.is_empty() { exit::DONE } else { exit::CANNOT_START })
}

fn all(project: &Project) -> Vec<&Toolchain> {
    project.manifest.toolchains.values().collect()
}

fn used(project: &Project) -> Vec<&Toolchain> {
    let used =
        |t: &&Toolchain| {
            project.manifest.engines.iter().any(|e| {
                e.target.toolchain == t.name || e.verify.as_ref().is_some_and(|v| v.reference == t.name)
            })
        };
    project.manifest.toolchains.values().filter(used).collect()
}

fn named<'a>(project: &'a Project, names: &[String]) -> Result<Vec<&'a Toolchain>, Failed> {
    let find = |name: &String| {
        project.manifest.toolchains.get(name).ok_or_else(|| {
            let declared = project.manifest.toolchains.keys().map(String::as_str);
            let mut error = Diagnostic::error("toolchain", format!("no toolchain is named `{name}`"));
            if let Some(near) = nearest(name, declared) {
                error = error.help(format!("did you mean `{near}`?"));
            }
            Failed::new(exit::USAGE, error)
        })
    };
    names.iter().map(find).collect()
}
