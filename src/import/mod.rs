//! Command lines of `trtexec`, as people have them today, to a manifest that does the same.
//!
//! | step | file | from | to |
//! |---|---|---|---|
//! | 1 | `shell` | a text | commands of words, as a shell makes them; `log`: the banner of a log |
//! | 2 | `program` | commands | runs of trtexec, with what stands around them |
//! | 3 | `options` | the arguments of a run | options that its version takes, or errors |
//! | 4 | `map` | options, and the model if it is at hand | a draft of the manifest, with notes |
//! | 5 | `write` | a draft | TOML |
//!
//! Nothing is dropped in silence: every option either is in the manifest, or is told in a note, or is an error. What would
//! build something else than the command does is an error ([`LOSSY`](codes::LOSSY)) unless that is asked for.

mod build;
mod codes;
mod draft;
mod layers;
mod log;
mod map;
mod model;
mod notes;
mod options;
mod precision;
mod profiles;
mod program;
mod shell;
#[cfg(test)]
mod tests;
mod values;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use codes::CODES;
pub use draft::Draft;
pub use map::Wishes;
pub use model::Model;
pub use shell::Variables;
pub use write::{Place, write};

use crate::diagnostic::{Diagnostic, SourceFile};
use crate::toolchain::trtexec::{Runner, Version};
use map::Mapping;
use notes::{Notes, listed};

/// A run of trtexec that was read.
#[derive(Debug)]
pub struct Run(program::Run);

/// What was read of a text.
#[derive(Debug)]
pub struct Read {
    /// Runs that build engines; at least one.
    pub runs: Vec<Run>,
    /// What is worth knowing of the rest.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a command line, a script of them, or a log. `folder` is where it runs.
///
/// # Errors
/// It is none of these, or nothing in it builds an engine.
pub fn read(file: &Arc<SourceFile>, folder: &Path, variables: &Variables) -> Result<Read, Vec<Diagnostic>> {
    let mut found = if log::is_log(&file.text) {
        let runs = log::runs(file).map_err(|e| vec![e])?;
        let runs = runs.into_iter().map(|run| program::Run::of_log(run, folder)).collect();
        program::Found { runs, others: Vec::new() }
    } else {
        let commands = shell::split(file, folder, variables).map_err(|e| vec![e])?;
        program::find(commands, variables, 0).map_err(|e| vec![e])?
    };
    let mut diagnostics = Vec::new();
    if let Some(first) = found.others.first() {
        let all = listed(found.others.iter().map(|word| word.text.as_str()));
        let message = format!("{all} is not imported: it is not `trtexec`");
        let note = Diagnostic::error(codes::NO_MEANING, message).at(&first.origin, "");
        diagnostics.push(Diagnostic { level: crate::diagnostic::Level::Note, ..note });
    }
    // Among others, a run that only times an engine is no mistake.
    if found.runs.len() > 1 && found.runs.iter().any(program::Run::builds) {
        found.runs.retain(program::Run::builds);
    }
    if found.runs.is_empty() {
        let error = match found.others.first() {
            Some(first) => {
                Diagnostic::error(codes::PROGRAM, "there is no `trtexec` in this").at(&first.origin, "")
            }
            None => Diagnostic::error(codes::PROGRAM, "there is no command in this"),
        };
        return Err(vec![
            error.help(
                "give a command line such as `trtexec --onnx=model.onnx --fp16`, or a log of `trtexec`",
            ),
        ]);
    }
    // Neither a program nor a manifest can be given one.
    let mut words = found.runs.iter().flat_map(|run| run.program.iter().chain(&run.arguments));
    if let Some(word) = words.find(|word| word.text.contains('\0')) {
        let error = Diagnostic::error(codes::SHELL, "there is a NUL character in this").at(&word.origin, "");
        return Err(vec![error.help("the file is damaged, or in an encoding other than UTF-8")]);
    }
    Ok(Read { runs: found.runs.into_iter().map(Run).collect(), diagnostics })
}

impl Run {
    /// The ONNX file, as this machine sees it.
    #[must_use]
    pub fn source(&self) -> Option<PathBuf> {
        let value = self.0.arguments.iter().find_map(|word| word.text.strip_prefix("--onnx="))?;
        self.0.host_path(value)
    }

    /// The manifest that it becomes, and what is to be said of it; none if that has errors.
    #[must_use]
    pub fn draft(&self, wishes: &Wishes, model: Option<&Model>) -> (Option<Draft>, Vec<Diagnostic>) {
        let mut notes = Notes { lossy: wishes.lossy, ..Notes::default() };
        let Some(toolchain) = self.toolchain(wishes, &mut notes) else { return (None, notes.diagnostics) };
        let Some(version) = toolchain.numbers() else { return (None, notes.diagnostics) };
        let mut errors = Vec::new();
        let options = options::read(&self.0, version, &mut errors);
        let mut mapping = Mapping { run: &self.0, version, options, notes };
        errors.into_iter().for_each(|error| match error.level {
            crate::diagnostic::Level::Error => mapping.notes.error(error),
            _ => mapping.notes.warning(error),
        });
        let draft = mapping.draft(wishes, toolchain, model);
        (draft, mapping.notes.diagnostics)
    }

    fn toolchain(&self, wishes: &Wishes, notes: &mut Notes) -> Option<draft::Toolchain> {
        let run = &self.0;
        let place = run.program.as_ref().or(run.arguments.first());
        let at = |error: Diagnostic| match place {
            Some(word) => error.at(&word.origin, ""),
            None => error,
        };
        let version = match (&wishes.version, run.version, run.named_version()) {
            (Some(wanted), Some(logged), _) if !is_prefix(wanted, &logged.to_string()) => {
                let message = format!("the log is of TensorRT {logged}, and `--version` says {wanted}");
                notes.error(at(Diagnostic::error(codes::CONFLICT, message)).help("leave `--version` out"));
                return None;
            }
            (Some(wanted), ..) => wanted.clone(),
            (None, Some(logged), _) => logged.to_string(),
            (None, None, Some((version, why))) => {
                let message = format!("taken to be of TensorRT {version}, after {why}");
                notes.note(at(Diagnostic::error(codes::VERSION, message)));
                version.to_string()
            }
            (None, None, None) => match options::newest_version(run) {
                Ok(version) => {
                    let version = format!("{}.{}", version.0, version.1);
                    let message = format!(
                        "the command line does not say which TensorRT it is for: taken to be {version}, the newest that takes all its options"
                    );
                    notes.warning(
                        at(Diagnostic::error(codes::VERSION, message)).help("say it with `--version`"),
                    );
                    version
                }
                Err(errors) => {
                    errors.into_iter().for_each(|error| notes.error(error));
                    return None;
                }
            },
        };
        let numbers = version.parse::<Version>().ok().filter(|_| version.contains('.'));
        let help = "write it as `10.3`; known are 8.6 to 11";
        match numbers {
            None => {
                let message = format!("`{version}` is no version of TensorRT");
                notes.error(Diagnostic::error(codes::VERSION, message).help(help));
                return None;
            }
            Some(numbers) if !numbers.is_known() => {
                let message = format!("the options of TensorRT {version} are not known");
                notes.error(Diagnostic::error(codes::VERSION, message).help(help));
                return None;
            }
            Some(_) => {}
        }
        let mut runner = run.runner.clone();
        // An image may have it beside its `PATH`.
        let path = run.program.as_ref().map(|word| &word.text).filter(|path| path.starts_with('/'));
        runner.extend(path.filter(|_| run.image.is_some()).cloned());
        if let Err(why) = Runner::read(&runner) {
            let message = format!("the `runner` cannot be used as it is: {}", why.message);
            notes.warning(at(Diagnostic::error(codes::RUNNER, message)).help(why.help));
        }
        let is_inside = !runner.is_empty();
        Some(draft::Toolchain { version, root: run.root().filter(|_| !is_inside), runner })
    }
}

/// Gives models of one name names of their own.
pub fn tell_apart(drafts: &mut [Draft]) {
    for at in 1..drafts.len() {
        let (before, rest) = drafts.split_at_mut(at);
        let taken = |name: &str| before.iter().any(|draft| draft.name == name);
        let plain = rest[0].name.clone();
        let numbered = (2..).map(|n| format!("{plain}-{n}"));
        let free = std::iter::once(plain.clone()).chain(numbered).find(|name| !taken(name));
        rest[0].name = free.unwrap_or(plain);
    }
}

/// Is one version the other, as far as it goes?
fn is_prefix(prefix: &str, version: &str) -> bool {
    prefix.split('.').zip(version.split('.')).all(|(a, b)| a == b)
}
