//! `enginewright log`

use serde_json::json;

use super::super::exit::{self, Failed};
use super::super::output;
use super::super::settings::{Format, Settings};
use crate::build;
use crate::cache::Cache;
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::fs;
use crate::manifest::EngineName;

pub(super) fn run(settings: &Settings, engine: &str, failure: bool) -> Result<u8, Failed> {
    let project = settings.project()?;
    let name = &project.engine(engine)?.name;
    let sidecar = build::read_sidecar(&build::sidecar_path(&project.manifest.root, name));
    let key =
        sidecar.map(|s| s.build_key).or_else(|| project.lock.engine(&name.to_string()).map(|l| l.build));
    let found = match key {
        Some(key) if !failure => of_build(&project.cache, &key)?,
        _ => None,
    };
    let Some((what, text)) = found.or_else(|| of_failure(&project.cache, name)) else {
        let error = Diagnostic::error("no-log", format!("no log of `{name}` is in this cache"))
            .help("logs are kept with builds, and with the last 20 failures");
        return Err(Failed::new(exit::FAILED, error));
    };
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT, "engine": name.to_string(), "of": what, "log": text,
        })),
        Format::Text => output::stdout(&format!("# {name}: {what}\n{text}")),
    }
    Ok(exit::DONE)
}

fn of_build(cache: &Cache, key: &Digest) -> Result<Option<(String, String)>, Failed> {
    let Some(record) = cache.result("build", key)? else { return Ok(None) };
    let Some(log) = record.outputs.get("log") else { return Ok(None) };
    let Some(bytes) = cache.read(log)? else { return Ok(None) };
    Ok(Some((format!("build {}", key.short()), String::from_utf8_lossy(&bytes).into_owned())))
}

fn of_failure(cache: &Cache, name: &EngineName) -> Option<(String, String)> {
    let bundle = build::last_failure(cache, &name.to_string())?;
    let log = fs::read_to_string(&bundle.join("log.txt")).unwrap_or_default();
    let stderr = fs::read_to_string(&bundle.join("stderr.txt")).unwrap_or_default();
    let stderr = if stderr.is_empty() { stderr } else { format!("# standard error\n{stderr}") };
    Some((format!("failure, kept in {}", bundle.display()), log + &stderr))
}
