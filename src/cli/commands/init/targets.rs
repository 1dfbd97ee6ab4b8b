//! What engines are to be built for: what is asked for, what the project has, or what is here.

use std::path::Path;

use super::super::gpu::{target, target_name, unknown_gpu};
use super::SCHEMA_FILE;
use crate::cli::exit::{self, Failed};
use crate::cli::settings::Settings;
use crate::diagnostic::{Diagnostic, SourceFile};
use crate::fs;
use crate::gpu::{self, LocalGpu, Sm};
use crate::manifest::{Manifest, ToolchainKind};
use crate::toolchain::tensorrt_rtx;
use crate::worker::NoGpus;

/// Where nothing is known: what most people have.
const DEFAULT: &str = "[target.desktop]\nsm = [\"sm_86\", \"sm_89\", \"sm_120\"]\n";

/// Targets, and how they came about.
#[derive(Default)]
pub(super) struct Targets {
    /// Their names.
    pub(super) names: Vec<String>,
    /// Tables of those that no manifest declares yet.
    pub(super) toml: String,
    /// Why these, for people.
    pub(super) why: String,
    /// What else there is to say of them.
    pub(super) notes: Vec<String>,
}

impl Targets {
    pub(super) fn choose(
        settings: &Settings,
        asked: &[String],
        manifest: Option<&Manifest>,
    ) -> Result<Targets, Failed> {
        let mut targets = Targets::default();
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
        targets.of_machine(settings.local_gpus());
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

    /// Those GPUs of this machine that TensorRT-RTX serves, or what most people have.
    fn of_machine(&mut self, found: Result<Vec<LocalGpu>, NoGpus>) {
        let is_broken = match &found {
            Err(NoGpus::Refused(refusal)) => !["no-driver", "no-gpu"].contains(&refusal.code.as_str()),
            Err(NoGpus::Worker(_)) => true,
            Ok(_) => false,
        };
        let found = found.unwrap_or_default();
        let (served, others): (Vec<_>, Vec<_>) =
            found.iter().partition(|gpu| tensorrt_rtx::SMS.contains(&gpu.sm.0));
        for gpu in &served {
            let (name, toml) = target(gpu);
            self.add(name, Some(toml));
        }
        for other in &others {
            let note = format!("TensorRT-RTX has no engines for the {} ({}) here", other.name, other.sm);
            let instead = tensorrt_rtx::instead(other.sm).map(|text| format!(": {text}"));
            let note = note + &instead.unwrap_or_default();
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        if !served.is_empty() {
            "found on this machine".clone_into(&mut self.why);
            return;
        }
        let cause = match (is_broken, others.is_empty()) {
            (true, _) => "the NVIDIA driver fails, as `enginewright gpu` tells",
            (false, true) => "no GPU is here",
            (false, false) => "no GPU of TensorRT-RTX is here",
        };
        self.why = format!("{cause}: one engine for RTX 30, 40 and 50; choose with `--target`");
        self.add("desktop".to_owned(), Some(DEFAULT.to_owned()));
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
        let comment = |text: &String| {
            let mut letters = text.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase());
            format!("# {}{}.\n", first.into_iter().collect::<String>(), letters.as_str())
        };
        let comments: String = [&self.why].into_iter().chain(&self.notes).map(comment).collect();
        let text = format!("{}\n\n{comments}{}", before.trim_end(), self.toml);
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
            _ => return Err(unknown_gpu(asked, "no GPU and no target")),
        };
        if !tensorrt_rtx::SMS.contains(&sm.0) {
            let error =
                Diagnostic::error("sm-unsupported", format!("TensorRT-RTX builds no engines for {sm}"));
            let instead = tensorrt_rtx::instead(sm);
            let error = error.help(instead.unwrap_or("it builds for sm_75 and newer GPUs of desktops"));
            return Err(usage(error.help("docs/trtexec.md tells how to build for it")));
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
