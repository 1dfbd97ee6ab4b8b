//! `enginewright export`

use std::path::Path;

use super::super::args::ExportCommand;
use super::super::exit::{self, Failed};
use super::super::output;
use super::super::progress::Progress;
use super::super::settings::Settings;
use super::print_warnings;
use crate::build;
use crate::diagnostic::Diagnostic;
use crate::export::{self, Facts, LOCAL_BUILDER};
use crate::manifest::{Precision, Source, ToolchainKind};
use crate::onnx::MODEL_FILE;
use crate::plan::Action;
use crate::source::Network;
use crate::toolchain::trtexec::{Paths, Version};

pub(super) fn run(settings: &Settings, command: &ExportCommand) -> Result<u8, Failed> {
    match command {
        ExportCommand::Provenance { engine, builder_id } => {
            provenance(settings, engine, builder_id.as_deref().unwrap_or(LOCAL_BUILDER))
        }
        ExportCommand::Trtexec { engine, version, out } => {
            trtexec(settings, engine, version.as_deref(), out.as_deref())
        }
    }
}

/// Prints the provenance of an engine that is published and current: nothing else is known to come from what is here.
fn provenance(settings: &Settings, name: &str, builder: &str) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engine = project.engine(name)?;
    if !is_uri(builder) {
        let message = format!("`--builder-id {builder}` is not a URI");
        let error = Diagnostic::error("builder-id", message)
            .help("a builder is named by a URI, such as `https://ci.example.com/release`");
        return Err(Failed::new(exit::USAGE, error));
    }
    let progress = Progress::new(settings, None);
    let ctx = settings.context(&project, Network::Deny, None, &progress)?;
    let gathered = build::gather(&ctx, &[engine])?;
    let planned = &gathered.planned[0];
    if !planned.errors.is_empty() {
        return Err(Failed { code: exit::INVALID, diagnostics: planned.errors.clone() });
    }
    let sidecar = gathered.sidecars.get(&planned.name.to_string());
    let (Some(keyed), Some(sidecar), Action::UpToDate) = (&planned.keyed, sidecar, planned.action) else {
        let message = format!("`{}` is not published as the manifests say now", planned.name);
        let mut error = Diagnostic::error("not-current", message);
        error.notes.extend(planned.reasons.iter().map(ToString::to_string));
        return Err(Failed::new(exit::FAILED, error.help("run `enginewright apply` first")));
    };
    let materials =
        build::materials(&ctx, &gathered, engine).map_err(|error| Failed::new(exit::FAILED, error))?;
    let root = &ctx.manifest.root;
    let path = build::engine_path(root, &engine.name);
    let path = output::path(path.strip_prefix(root).unwrap_or(&path));
    let version = env!("CARGO_PKG_VERSION");
    output::json(&export::statement(&Facts {
        path: &path,
        sidecar,
        keyed,
        materials: &materials,
        builder,
        version,
    }));
    print_warnings(settings, &project.warnings, &gathered.warnings, ctx.cache.take_warnings());
    Ok(exit::DONE)
}

/// A scheme, a colon, and something after it.
fn is_uri(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let plain = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic());
    text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && plain(rest))
}

/// Prints the command line of trtexec that builds an engine, and writes the ONNX that it reads.
fn trtexec(settings: &Settings, name: &str, version: Option<&str>, out: Option<&Path>) -> Result<u8, Failed> {
    let mut project = settings.project()?;
    let engine = project.engine(name)?.clone();
    if let Some(version) = version {
        let known = version.parse().is_ok_and(Version::is_known) && version.contains('.');
        if !known {
            let message = format!("`--for {version}` is no TensorRT that is known");
            let error =
                Diagnostic::error("version", message).help("give a version from 8.6 to 11, such as `10.3`");
            return Err(Failed::new(exit::USAGE, error));
        }
        if let Some(toolchain) = project.manifest.toolchains.get_mut(&engine.target.toolchain) {
            (toolchain.kind, toolchain.version) = (ToolchainKind::Trtexec, Some(version.to_owned()));
        }
    }
    let progress = Progress::new(settings, None);
    let ctx = settings.context(&project, Network::Deny, None, &progress)?;
    let asking =
        build::asking(&ctx, &engine).map_err(|diagnostics| Failed { code: exit::INVALID, diagnostics })?;
    // A model as it is, is the user's own file; another is written where it is asked for.
    let own = match (&engine.source, out) {
        (Source::Path { path }, None) if engine.precision == Precision::AsIs && engine.fuse.is_empty() => {
            Some(path)
        }
        _ => None,
    };
    let root = &ctx.manifest.root;
    let shown = |path: &Path| output::path(path.strip_prefix(root).unwrap_or(path));
    let folder = out.map(output::path);
    let in_folder = |file: &str| {
        folder.as_ref().map_or(file.to_owned(), |folder| format!("{}/{file}", folder.trim_end_matches('/')))
    };
    if let Some(out) = out {
        build::write_model(&ctx, &asking.prepared, out).map_err(|error| Failed::new(exit::FAILED, error))?;
    }
    let paths = Paths {
        onnx: own.map_or_else(|| in_folder(MODEL_FILE), |path| shown(path)),
        engine: in_folder("engine.plan"),
        layers: in_folder("layers.json"),
        plugins: engine.build.trtexec.plugins.iter().map(|path| shown(path)).collect(),
        ..Paths::default()
    };
    // What the version does not have was told above.
    let command = export::trtexec_command(&asking.asked, &paths).unwrap_or_default();
    output::stdout(&format!("{command}\n"));
    print_warnings(settings, &project.warnings, &asking.warnings, ctx.cache.take_warnings());
    Ok(exit::DONE)
}
