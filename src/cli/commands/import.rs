//! `enginewright import trtexec`

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::super::args::ImportTrtexecArgs;
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Project, Settings};
use super::super::{output, render};
use super::distinct;
use crate::diagnostic::{Diagnostic, Level, SourceFile};
use crate::import::{self, Draft, Model, Place, Variables, Wishes};
use crate::manifest::{Manifest, Source};
use crate::source::Network;
use crate::toolchain::trtexec::{self, Types};
use crate::{build, fs};

/// A command line is shorter, and a log not much longer.
const MAX_TEXT: u64 = 64 << 20;

pub(super) fn run(settings: &Settings, args: &ImportTrtexecArgs) -> Result<u8, Failed> {
    let text = text(settings, &args.command)?;
    let read = import::read(&text, settings.folder(), &variables(settings, args.env)).map_err(invalid)?;
    let mut diagnostics = read.diagnostics;
    let scratch = tempfile::Builder::new().prefix("enginewright-import-").tempdir().map_err(|e| {
        let message = format!("cannot make a temporary folder: {e}");
        Failed::new(exit::CANNOT_START, Diagnostic::error("start", message))
    })?;
    let mut drafts: Vec<Draft> = Vec::new();
    for run in &read.runs {
        let wishes = Wishes {
            version: args.tensorrt.clone(),
            gpu: args.gpu.clone(),
            name: args.name.clone(),
            lossy: args.lossy,
        };
        let model = run.source().and_then(|path| model(settings, &path, scratch.path(), &mut diagnostics));
        let (draft, said) = run.draft(&wishes, model.as_ref());
        diagnostics.extend(said);
        drafts.extend(draft);
    }
    import::tell_apart(&mut drafts);
    if diagnostics.iter().any(|d| d.level == Level::Error) {
        return Err(invalid(distinct(&diagnostics)));
    }
    let out = Out::new(settings, args)?;
    let (mut text, manifest) = out.manifest(settings, &drafts)?;
    let more = compare(settings, &manifest, scratch.path(), &mut drafts);
    if !more.is_empty() {
        diagnostics.extend(more);
        text = out.manifest(settings, &drafts)?.0;
    }
    if let Some(file) = &out.file {
        write(file, &text)?;
    }
    report(settings, &out, &text, &drafts, &distinct(&diagnostics));
    Ok(exit::DONE)
}

fn invalid(diagnostics: Vec<Diagnostic>) -> Failed {
    Failed { code: exit::INVALID, diagnostics }
}

fn usage(message: String) -> Failed {
    Failed::new(exit::USAGE, Diagnostic::error("import", message))
}

/// The text to read: given, or in a file.
fn text(settings: &Settings, command: &[String]) -> Result<Arc<SourceFile>, Failed> {
    let given = |text: String| Arc::new(SourceFile { path: "<command line>".into(), text });
    let [one] = command else {
        return Ok(given(command.iter().map(|word| trtexec::quoted(word)).collect::<Vec<_>>().join(" ")));
    };
    let (path, bytes) = if one == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(MAX_TEXT + 1).read_to_end(&mut bytes);
        read.map_err(|e| usage(format!("cannot read the standard input: {e}")))?;
        (PathBuf::from("<standard input>"), bytes)
    } else {
        let path = settings.folder().join(one);
        if one.starts_with('-') || !fs::is_file(&path) {
            return Ok(given(one.clone()));
        }
        let bytes = fs::read_prefix(&path, MAX_TEXT + 1);
        let cannot = |e: fs::Error| Failed::new(exit::INVALID, Diagnostic::error("import", e.to_string()));
        (path.clone(), bytes.map_err(cannot)?)
    };
    let wrong = |message: &str| {
        let error = Diagnostic::error("import", message).in_file(&path);
        Failed::new(
            exit::INVALID,
            error.help("give a command line of `trtexec`, a script with one, or its log"),
        )
    };
    if bytes.len() as u64 > MAX_TEXT {
        return Err(wrong(&format!("this is larger than {} MiB", MAX_TEXT >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("this is not UTF-8 text"))?;
    Ok(Arc::new(SourceFile { path, text }))
}

fn variables(settings: &Settings, from_environment: bool) -> Variables {
    let all: BTreeMap<String, String> = settings.variables().iter().cloned().collect();
    let home = all.get("HOME").cloned();
    Variables { known: if from_environment { all } else { BTreeMap::new() }, home }
}

/// The model at this path, read by a worker; none if it is not there. `cache` is used where there is no project.
fn model(settings: &Settings, path: &Path, cache: &Path, said: &mut Vec<Diagnostic>) -> Option<Model> {
    if !fs::exists(path) {
        return None;
    }
    let progress = Progress::new(settings, None);
    let read = settings.project_of_nothing(cache).and_then(|project| {
        let ctx = settings.context(&project, Network::Deny, None, &progress)?;
        build::read_model(&ctx, &Source::Path { path: path.to_owned() }).map_err(invalid)
    });
    match read {
        Ok((model, summary)) => Some(Model::of(&model, summary)),
        Err(failed) => {
            // The manifest is none the less what the command line says.
            said.extend(failed.diagnostics.into_iter().map(|d| Diagnostic { level: Level::Warning, ..d }));
            None
        }
    }
}

/// What the manifest asks of TensorRT beyond what the command lines do, where models are at hand. `cache` is used where
/// there is no project.
fn compare(settings: &Settings, manifest: &Manifest, cache: &Path, drafts: &mut [Draft]) -> Vec<Diagnostic> {
    let mut more = Vec::new();
    for draft in drafts.iter_mut().filter(|draft| fs::exists(&draft.source)) {
        let Some(engine) = manifest.engines.iter().find(|e| e.name.model == draft.name) else { continue };
        let progress = Progress::new(settings, None);
        let asking = settings.project_of_nothing(cache).and_then(|project| {
            let project = Project { manifest: manifest.clone(), ..project };
            let ctx = settings.context(&project, Network::Deny, None, &progress)?;
            build::asking(&ctx, engine).map_err(invalid)
        });
        match asking {
            Ok(asking) => {
                if let Types::Weak { layers, .. } = &asking.asked.types {
                    more.extend(draft.compare(layers.iter().map(|(name, _)| name.as_str())));
                }
            }
            Err(failed) => {
                // What `check` will say too.
                let warn = |d| Diagnostic { level: Level::Warning, place: None, ..d };
                more.extend(failed.diagnostics.into_iter().map(warn));
            }
        }
    }
    more
}

/// Where the manifest goes.
struct Out {
    /// The file to be written; none for the standard output.
    file: Option<PathBuf>,
    /// Where it lies, or would.
    path: PathBuf,
}

impl Out {
    fn new(settings: &Settings, args: &ImportTrtexecArgs) -> Result<Out, Failed> {
        let Some(file) = &args.out else {
            let root = settings.root.clone().unwrap_or_else(|| settings.folder().to_owned());
            return Ok(Out { file: None, path: root.join("manifests").join("<imported>.toml") });
        };
        let path = settings.folder().join(file);
        if fs::exists(&path) && !args.force {
            let error = Diagnostic::error("import-exists", "the file exists already").in_file(&path);
            return Err(Failed::new(
                exit::INVALID,
                error.help("name another file, or overwrite it with `--force`"),
            ));
        }
        Ok(Out { file: Some(path.clone()), path })
    }

    /// The manifest, and what it says when it is read.
    fn manifest(&self, settings: &Settings, drafts: &[Draft]) -> Result<(String, Manifest), Failed> {
        let file = |text: &str| Arc::new(SourceFile { path: self.path.clone(), text: text.to_owned() });
        let in_project =
            settings.root.as_ref().is_some_and(|root| self.path.starts_with(root.join("manifests")));
        // What the project declares without this file can be used by it.
        let beside = in_project.then(|| settings.manifests_with(file("schema = 1\n"))?.manifest).flatten();
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let text = import::write(drafts, Place { folder, beside: beside.as_ref() });
        let alone = || crate::manifest::read_alone(settings.folder(), &file(&text));
        let loaded = match beside {
            Some(_) => settings.manifests_with(file(&text)).unwrap_or_else(alone),
            None => alone(),
        };
        match loaded.manifest {
            Some(manifest) => Ok((text, manifest)),
            None => Err(invalid(loaded.diagnostics)),
        }
    }
}

fn write(file: &Path, text: &str) -> Result<(), Failed> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write_atomic(file, text.as_bytes()));
    written.map_err(|e| Failed::new(exit::CANNOT_START, Diagnostic::error("import", e.to_string())))
}

fn report(settings: &Settings, out: &Out, text: &str, drafts: &[Draft], diagnostics: &[Diagnostic]) {
    let names: Vec<&str> = drafts.iter().map(|draft| draft.name.as_str()).collect();
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "models": names,
            "file": out.file.as_deref().map(output::path),
            "manifest": text,
            "diagnostics": diagnostics.iter().map(render::json).collect::<Vec<_>>(),
        })),
        Format::Text => {
            render::print(settings, diagnostics);
            match &out.file {
                None => output::stdout(text),
                Some(file) if !settings.quiet => output::stderr(&format!(
                    "wrote {}: {}; `enginewright check` looks for what is wrong with it\n",
                    output::path(file),
                    output::count(names.len(), "model")
                )),
                Some(_) => {}
            }
        }
    }
}
