//! `enginewright init`: manifests for models that nobody has described yet.
//!
//! A draft is held against the model as `check` does it, without being written: what is wrong is mended with the rules
//! that the diagnostics give, or the model keeps its types. So what is written passes `check`.

mod draft;
mod ranges;
mod skeleton;
mod targets;

use std::path::{Path, PathBuf};

use serde_json::json;

use self::draft::{Draft, Shown};
use self::targets::Targets;
use super::super::args::InitArgs;
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Project, Settings};
use super::super::{output, render};
use crate::build;
use crate::diagnostic::{Diagnostic, Level, SourceFile};
use crate::fs;
use crate::manifest::{Engine, Precision};
use crate::plan::{ModelRef, SourceFact};
use crate::source::Network;
use crate::{onnx, verify};

pub(super) fn run(settings: &Settings, args: &InitArgs) -> Result<u8, Failed> {
    let project = settings.root.as_ref().map(|_| settings.project()).transpose()?;
    let root = settings.root.clone().unwrap_or_else(|| settings.started_in().to_owned());
    let targets = Targets::choose(settings, &args.targets, project.as_ref().map(|p| &p.manifest))?;
    let wanted = wanted(settings, args, &root)?;
    let drafter = Drafter { settings, root: &root, targets: targets.file(&root)? };
    let (mut written, mut failed) = (Vec::new(), Vec::new());
    for (model, file) in &wanted {
        match drafter.describe(model, file, &targets, args.precision()) {
            Ok(made) => written.push(made),
            Err(diagnostics) => failed.extend(diagnostics),
        }
    }
    let mut others = Vec::new();
    if let Some(file) = drafter.targets.as_ref().filter(|_| failed.is_empty() || !written.is_empty()) {
        publish(&file.path, &file.text)?;
        others.push(file.path.clone());
    }
    for made in &written {
        publish(&made.file, &made.text)?;
    }
    if failed.is_empty() || !written.is_empty() {
        others.extend(skeleton::write(&root)?);
    }
    report(settings, &root, &targets, &written, &others, &failed);
    Ok(if failed.is_empty() { exit::DONE } else { exit::FAILED })
}

/// A model that was described.
struct Made {
    name: String,
    file: PathBuf,
    text: String,
    precision: Precision,
    rules: usize,
    /// Warnings that `check` will give.
    warnings: Vec<Diagnostic>,
}

/// The models, each with the manifest that it will have, which must not be there yet.
fn wanted(settings: &Settings, args: &InitArgs, root: &Path) -> Result<Vec<(Model, PathBuf)>, Failed> {
    let usage = |code: &'static str, message: String, help: &str| {
        Failed::new(exit::USAGE, Diagnostic::error(code, message).help(help))
    };
    if args.name.is_some() && args.models.len() != 1 {
        let message = format!("`--name` names one model, and {} are given", args.models.len());
        return Err(usage("usage", message, "run `init` once for each model"));
    }
    let mut wanted: Vec<(Model, PathBuf)> = Vec::new();
    for given in &args.models {
        let path = fs::canonicalize(&settings.started_in().join(given)).map_err(|e| {
            let error = Diagnostic::error("source-missing", e.to_string());
            Failed::new(exit::INVALID, error.help("name an ONNX file"))
        })?;
        let name = args.name.clone().unwrap_or_else(|| model_name(&path));
        let file = root.join("manifests").join(format!("{name}.toml"));
        if wanted.iter().any(|(model, _)| model.name == name) {
            let message = format!("two of the models would be called `{name}`");
            return Err(usage("ambiguous-engine", message, "run `init` once for each, with `--name`"));
        }
        if fs::exists(&file) && !args.force {
            let message = format!("`{}` is there already", relative(&file, root).display());
            return Err(usage("file-exists", message, "use another `--name`, or `--force` to overwrite it"));
        }
        wanted.push((Model { name, path }, file));
    }
    Ok(wanted)
}

/// A model to be described.
struct Model {
    name: String,
    /// Absolute.
    path: PathBuf,
}

/// The stem of a file as a name.
fn model_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(plain).take(64).collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

fn relative<'a>(path: &'a Path, root: &Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}

/// What manifests are drafted in.
struct Drafter<'a> {
    settings: &'a Settings,
    root: &'a Path,
    /// The file that declares targets, if any must be declared.
    targets: Option<SourceFile>,
}

impl Drafter<'_> {
    /// Finds the manifest of a model that passes `check`.
    fn describe(
        &self,
        model: &Model,
        file: &Path,
        targets: &Targets,
        wanted: Option<Precision>,
    ) -> Result<Made, Vec<Diagnostic>> {
        let settings = self.settings;
        let mut draft = Draft::new(model, file, targets);
        let facts = self.load(file, draft.probe())?.model(settings, &model.name)?;
        draft.of_model(&facts.model, &facts.bounds);
        draft.precision = wanted.unwrap_or(Precision::Fp16);
        loop {
            let text = draft.text();
            let drafted = self.load(file, text)?;
            let found = drafted.check(settings, &model.name)?;
            let errors: Vec<&Diagnostic> = found.iter().filter(|d| d.level == Level::Error).collect();
            if errors.is_empty() {
                draft.shown = drafted.shown(settings, &model.name)?;
                draft.warned = found.clone();
                let (text, precision, rules) = (draft.text(), draft.precision, draft.rules.len());
                // With what was found out in its comments, it is still a manifest.
                self.load(file, text.clone())?;
                let (name, file) = (model.name.clone(), file.to_owned());
                return Ok(Made { name, file, text, precision, rules, warnings: found });
            }
            let before = draft.rules.len();
            draft.add_rules(&errors);
            if draft.rules.len() > before {
                continue;
            }
            if draft.precision == Precision::AsIs || wanted.is_some() {
                return Err(errors.into_iter().cloned().collect());
            }
            draft.keep_types(&errors);
        }
    }

    /// The project with this manifest.
    fn load(&self, file: &Path, text: String) -> Result<Drafted, Vec<Diagnostic>> {
        let mut drafts = vec![SourceFile { path: file.to_owned(), text }];
        drafts
            .extend(self.targets.as_ref().map(|f| SourceFile { path: f.path.clone(), text: f.text.clone() }));
        let project = self.settings.drafted(self.root, drafts).map_err(|failed| failed.diagnostics)?;
        Ok(Drafted { project })
    }
}

/// A project with a manifest that is not written yet.
struct Drafted {
    project: Project,
}

/// What a model is, as its canonical form tells it.
struct ModelFacts {
    model: ModelRef,
    /// How many entries tables have that inputs are looked up in.
    bounds: std::collections::BTreeMap<String, i64>,
}

impl Drafted {
    fn engines(&self, model: &str) -> Vec<&Engine> {
        self.project.manifest.engines.iter().filter(|engine| engine.name.model == model).collect()
    }

    /// Runs something that looks at the engines of a model.
    fn look<T>(
        &self,
        settings: &Settings,
        model: &str,
        look: impl FnOnce(&build::Context<'_>, &[&Engine]) -> Result<T, crate::cache::Error>,
    ) -> Result<T, Vec<Diagnostic>> {
        let progress = Progress::new(settings, None);
        let ctx = settings
            .context(&self.project, Network::Deny, None, &progress)
            .map_err(|failed| failed.diagnostics)?;
        let found = look(&ctx, &self.engines(model)).map_err(|e| vec![Diagnostic::from(&e)])?;
        ctx.cache.flush();
        Ok(found)
    }

    fn model(&self, settings: &Settings, name: &str) -> Result<ModelFacts, Vec<Diagnostic>> {
        let read = self.look(settings, name, |ctx, engines| Ok(build::models(ctx, engines)))?;
        let read = read.map_err(|error| vec![error])?;
        let model = match read.into_values().next() {
            Some(SourceFact::AtHand { model, .. }) => *model,
            Some(SourceFact::Bad(errors)) => return Err(errors),
            Some(SourceFact::NotFetched) | None => {
                return Err(vec![Diagnostic::error("source-missing", format!("`{name}` could not be read"))]);
            }
        };
        let cache = &self.project.cache;
        let bytes = |blob| cache.read(blob).map_err(|e| vec![Diagnostic::from(&e)]);
        let weights = model.weights.as_ref().map(bytes).transpose()?.flatten();
        let graph = bytes(&model.graph)?.and_then(|graph| onnx::read_canonical(graph, weights).ok());
        let bounds = graph.map(|graph| verify::index_bounds(&graph)).unwrap_or_default();
        Ok(ModelFacts { model, bounds })
    }

    fn check(&self, settings: &Settings, model: &str) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let checked = self.look(settings, model, build::check)?;
        Ok(super::distinct(checked.iter().flat_map(|c| &c.diagnostics)))
    }

    /// What the rules decide.
    fn shown(&self, settings: &Settings, model: &str) -> Result<Shown, Vec<Diagnostic>> {
        let found = self.look(settings, model, build::model_rules)?;
        Ok(found.first().map(Shown::of).unwrap_or_default())
    }
}

fn publish(file: &Path, text: &str) -> Result<(), Failed> {
    let written = file.parent().map_or(Ok(()), fs::create_dir_all);
    written
        .and_then(|()| fs::write_atomic(file, text.as_bytes()))
        .map_err(|e| Failed::new(exit::CANNOT_START, Diagnostic::error("file", e.to_string())))
}

fn report(
    settings: &Settings,
    root: &Path,
    targets: &Targets,
    written: &[Made],
    others: &[PathBuf],
    failed: &[Diagnostic],
) {
    if settings.format == Format::Json {
        let manifests = written.iter().map(|made| {
            json!({
                "model": made.name,
                "manifest": output::path(&made.file),
                "targets": targets.names,
                "precision": made.precision.name(),
                "rules": made.rules,
                "diagnostics": made.warnings.iter().map(render::json).collect::<Vec<_>>(),
            })
        });
        output::json(&json!({
            "format": output::JSON_FORMAT,
            "manifests": manifests.collect::<Vec<_>>(),
            "files": others.iter().map(|file| output::path(file)).collect::<Vec<_>>(),
            "targets": targets.names,
            "why_targets": targets.why,
            "notes": targets.notes,
            "diagnostics": failed.iter().map(render::json).collect::<Vec<_>>(),
        }));
        return;
    }
    let mut text = format!("targets: {} ({})\n", targets.names.join(", "), targets.why);
    for note in &targets.notes {
        text += &format!("note: {note}\n");
    }
    for made in written {
        let (file, precision) = (relative(&made.file, root).display(), made.precision.name());
        let rules = match made.rules {
            0 => String::new(),
            n => format!(", {} that the model needs", output::count(n, "rule")),
        };
        text += &format!("wrote {file}: `{}` in {precision}{rules}\n", made.name);
    }
    for file in others {
        text += &format!("wrote {}\n", relative(file, root).display());
    }
    if !written.is_empty() {
        text += "\nnext: look at the profile ranges in the manifest, then run `enginewright apply`\n";
    } else if failed.is_empty() {
        text += "\nnext: enginewright init MODEL.onnx\n";
    }
    output::stdout(&text);
    render::print(settings, failed);
}

/// The schema of manifests, beside `manifests/`.
const SCHEMA_FILE: &str = "enginewright.schema.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_gives_a_name() {
        let name = |file: &str| model_name(Path::new(file));
        assert_eq!(name("/m/ch_PP-OCRv4_det_infer.onnx"), "ch_pp-ocrv4_det_infer");
        assert_eq!(name("My Model (1).onnx"), "my-model--1-");
        assert_eq!(name("_x.onnx"), "x");
        assert_eq!(name("模型.onnx"), "model");
    }
}
