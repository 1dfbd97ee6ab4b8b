//! What engines are to be built for: what is asked for, what the project has, or what is here.

use std::path::Path;

use super::super::gpu::{target, target_name};
use super::SCHEMA_FILE;
use crate::cli::exit::{self, Failed};
use crate::cli::settings::Settings;
use crate::diagnostic::{Diagnostic, SourceFile};
use crate::fs;
use crate::gpu::{self, Sm};
use crate::manifest::{Manifest, ToolchainKind};
use crate::toolchain::tensorrt_rtx;

/// Where nothing is known: what most people have.
const DEFAULT: &str = "[target.desktop]\nsm = [\"sm_86\", \"sm_89\", \"sm_120\"]\n";

/// Targets, and how they came about.
pub(super) struct Targets {
    /// Their names.
    pub(super) names: Vec<String>,
    /// Tables of those that no manifest declares yet.
    pub(super) toml: String,
    /// Why these, for people.
    pub(super) why: String,
}

impl Targets {
    pub(super) fn choose(
        settings: &Settings,
        asked: &[String],
        manifest: Option<&Manifest>,
    ) -> Result<Targets, Failed> {
        let mut targets = Targets { names: Vec::new(), toml: String::new(), why: String::new() };
        if !asked.is_empty() {
            for target in asked {
                targets.ask_for(target, manifest)?;
            }
            "asked for".clone_into(&mut targets.why);
            return Ok(targets);
        }
        let known =
            |kind| manifest.iter().flat_map(move |m| m.toolchains.values()).find(move |t| t.kind == kind);
        let rtx = known(ToolchainKind::TensorrtRtx).map(|t| t.name.as_str());
        let of_project: Vec<String> = manifest
            .iter()
            .flat_map(|m| m.targets.values())
            .filter(|target| rtx == Some(target.toolchain.as_str()))
            .map(|target| target.name.clone())
            .collect();
        if !of_project.is_empty() {
            return Ok(Targets { names: of_project, why: "those of this project".to_owned(), ..targets });
        }
        let found = settings.local_gpus().unwrap_or_default();
        let (served, others): (Vec<_>, Vec<_>) =
            found.iter().partition(|gpu| tensorrt_rtx::SMS.contains(&gpu.sm.0));
        for gpu in &served {
            let (name, toml) = target(gpu);
            targets.add(name, Some(toml));
        }
        targets.why = match (served.as_slice(), others.as_slice()) {
            ([], []) => "no GPU is here: one engine for RTX 30, 40 and 50; choose with `--target`".to_owned(),
            ([], [other, ..]) => format!(
                "TensorRT-RTX has no engines for the {} here: one for RTX 30, 40 and 50; choose with `--target`",
                other.sm
            ),
            _ => "found on this machine".to_owned(),
        };
        if served.is_empty() {
            targets.add("desktop".to_owned(), Some(DEFAULT.to_owned()));
        }
        if let Some(name) =
            targets.names.iter().find(|name| manifest.is_some_and(|m| m.targets.contains_key(*name)))
        {
            let message = format!("target `{name}` of this project is not for TensorRT-RTX");
            let error = Diagnostic::error("duplicate-name", message);
            return Err(Failed::new(
                exit::USAGE,
                error.help("choose with `--target`, such as `--target \"RTX 3090\"`"),
            ));
        }
        Ok(targets)
    }

    /// The file that declares targets, with those that must be added; none if none must.
    pub(super) fn file(&self, root: &Path) -> Result<Option<SourceFile>, Failed> {
        if self.toml.is_empty() {
            return Ok(None);
        }
        let path = root.join("manifests/targets.toml");
        let before = if fs::exists(&path) {
            fs::read_to_string(&path)
                .map_err(|e| Failed::new(exit::CANNOT_START, Diagnostic::error("file", e.to_string())))?
        } else {
            format!("#:schema ../{SCHEMA_FILE}\nschema = 1\n")
        };
        let text = format!("{}\n\n# {}.\n{}", before.trim_end(), self.why, self.toml);
        Ok(Some(SourceFile { path, text }))
    }

    /// A target by its name in the project, by the name of a GPU, or by a compute capability.
    fn ask_for(&mut self, asked: &str, manifest: Option<&Manifest>) -> Result<(), Failed> {
        let usage = |diagnostic| Failed::new(exit::USAGE, diagnostic);
        if manifest.is_some_and(|m| m.targets.contains_key(asked)) {
            self.add(asked.to_owned(), None);
            return Ok(());
        }
        let (name, sm, toml) = match (asked.parse::<Sm>(), gpu::find(asked)) {
            (Ok(sm), _) => (sm.to_string().replace('_', "-"), sm, format!("sm = \"{sm}\"")),
            (_, Some(gpu)) => (target_name(gpu.name), gpu.sm, format!("gpu = \"{}\"", gpu.name)),
            _ => {
                let error =
                    Diagnostic::error("unknown-gpu", format!("no GPU and no target is named `{asked}`"));
                let near: Vec<String> = gpu::nearest_names(asked).iter().map(|n| format!("`{n}`")).collect();
                return Err(usage(match near.as_slice() {
                    [] => {
                        error.help("name a GPU such as `RTX 3090`, or a compute capability such as `sm_86`")
                    }
                    near => error.help(format!("did you mean {}?", near.join(" or "))),
                }));
            }
        };
        if !tensorrt_rtx::SMS.contains(&sm.0) {
            let error =
                Diagnostic::error("sm-unsupported", format!("TensorRT-RTX builds no engines for {sm}"));
            let instead = tensorrt_rtx::instead(sm);
            return Err(usage(
                error.help(instead.unwrap_or("it builds for sm_75 and newer GPUs of desktops")),
            ));
        }
        match manifest.and_then(|m| m.targets.get(&name)) {
            Some(target) if target.sms == [sm] => self.add(name, None),
            Some(_) => {
                let message = format!("target `{name}` of this project is for other GPUs than `{asked}`");
                return Err(usage(
                    Diagnostic::error("duplicate-name", message).help("declare a target by hand"),
                ));
            }
            None => {
                let toml = format!("[target.{name}]\n{toml}\n");
                self.add(name, Some(toml));
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, toml: Option<String>) {
        if !self.names.contains(&name) {
            self.names.push(name);
            self.toml += &toml.unwrap_or_default();
        }
    }
}
