//! `[toolchain.X]` and `[target.X]`.

use std::path::PathBuf;

use super::super::codes;
use super::super::fields::{Fields, Item, Located, alternatives, shown};
use super::super::model::ToolchainKind;
use super::super::text;
use super::super::trtexec::GpuIdentity;
use super::duplicate_item;
use crate::diagnostic::Diagnostic;
use crate::gpu::{self, Sm};

/// `[toolchain.X]`
#[derive(Debug, Default)]
pub(in crate::manifest) struct Toolchain {
    pub(in crate::manifest) kind: Option<ToolchainKind>,
    pub(in crate::manifest) version: Option<Located<String>>,
    pub(in crate::manifest) root: Option<PathBuf>,
    pub(in crate::manifest) runner: Vec<String>,
}

/// `[toolchain.X]` of `enginewright.local.toml`.
#[derive(Debug, Default)]
pub(in crate::manifest) struct LocalToolchain {
    pub(in crate::manifest) root: Option<PathBuf>,
    pub(in crate::manifest) runner: Option<Vec<String>>,
}

/// `[target.X]`
#[derive(Debug, Default)]
pub(in crate::manifest) struct Target {
    pub(in crate::manifest) sms: Vec<Sm>,
    pub(in crate::manifest) gpu: Option<String>,
    pub(in crate::manifest) toolchain: Option<Located<String>>,
    pub(in crate::manifest) gpu_identity: Option<Located<GpuIdentity>>,
}

pub(super) fn decode(_name: &str, item: &Item<'_>) -> Option<Toolchain> {
    let fields = item.table(&[&["kind", "version", "root", "runner"]])?;
    let kinds = [ToolchainKind::TensorrtRtx, ToolchainKind::Trtexec, ToolchainKind::Onnxruntime];
    let kind = fields.required("kind", "kind = \"tensorrt-rtx\"");
    let kind = kind.and_then(|kind| kind.word(&kinds.map(|kind| (kind.name(), kind))));
    let version = match kind {
        // What a version of trtexec takes is known without it, so that engines can be planned anywhere.
        Some(ToolchainKind::Trtexec) => fields.required("version", "version = \"10.3\""),
        _ => fields.get("version"),
    };
    let version = version.and_then(|item| Some(item.located(item.parsed(text::version)?)));
    if let Some(version) = version.as_ref().filter(|version| !version.value.contains('.'))
        && kind == Some(ToolchainKind::Trtexec)
    {
        let message = format!("`{}` does not say which TensorRT it is", version.value);
        let error = Diagnostic::error(codes::BAD_FORMAT, message).at(&version.origin, "");
        item.report(error.help("write at least two numbers, such as `10.3`"));
    }
    Some(Toolchain {
        kind,
        version,
        root: fields.get("root").and_then(|root| root.file_path()),
        runner: runner(&fields).unwrap_or_default(),
    })
}

pub(super) fn decode_local(_name: &str, item: &Item<'_>) -> Option<LocalToolchain> {
    let fields = item.table(&[&["root", "runner"]])?;
    let root = fields.get("root").and_then(|root| root.file_path());
    Some(LocalToolchain { root, runner: runner(&fields) })
}

fn runner(fields: &Fields<'_>) -> Option<Vec<String>> {
    let item = fields.get("runner")?;
    let words = item.list()?;
    if words.is_empty() {
        item.fail(codes::EMPTY_VALUE, format!("`{}` is empty", shown(&item.path)));
    }
    let word = |(at, word): (usize, &Item<'_>)| {
        let text = word.text()?;
        // A program that is named by a path, and an image that is a file, lie where the manifest says.
        let is_path = (at == 0 && text.contains('/')) || text.ends_with(".sif");
        if is_path { Some(word.file_path()?.display().to_string()) } else { Some(text) }
    };
    Some(words.iter().enumerate().filter_map(word).collect())
}

pub(super) fn decode_target(_name: &str, item: &Item<'_>) -> Option<Target> {
    let fields = item.table(&[&["gpu", "sm", "toolchain", "gpu-identity"]])?;
    let mut target = Target {
        toolchain: fields.get("toolchain").and_then(|t| Some(t.located(t.text()?))),
        gpu_identity: fields
            .get("gpu-identity")
            .and_then(|item| Some(item.located(item.word(GpuIdentity::WORDS)?))),
        ..Target::default()
    };
    match (fields.get("gpu"), fields.get("sm")) {
        (Some(_), Some(_)) => fields.conflict("gpu", "sm"),
        (None, None) => fields.missing("gpu", "gpu = \"RTX 3090\"` or `sm = \"sm_86\""),
        (Some(named), None) => {
            if let Some(found) = decode_gpu(&named) {
                target.sms.push(found.sm);
                target.gpu = named.text().and_then(|name| gpu::model(&name));
            }
        }
        (None, Some(sm)) => target.sms = decode_sms(&sm),
    }
    Some(target)
}

fn decode_gpu(item: &Item<'_>) -> Option<gpu::Gpu> {
    let name = item.text()?;
    let found = gpu::find(&name);
    if found.is_none() {
        let error = Diagnostic::error(codes::UNKNOWN_GPU, format!("unknown GPU `{}`", shown(&name)));
        let error = error.at(item.origin(), "");
        let near = gpu::nearest_names(&name);
        let sm = "or give its compute capability instead, such as `sm = \"sm_86\"`";
        item.report(match near.is_empty() {
            true => error.help(format!("give a GPU such as `RTX 3090`, {sm}")),
            false => error.help(format!("did you mean {}?", alternatives(near))).help(sm),
        });
    }
    found
}

fn decode_sms(item: &Item<'_>) -> Vec<Sm> {
    let mut sms: Vec<Located<Sm>> = Vec::new();
    for entry in item.one_or_more().unwrap_or_default() {
        let Some(sm) = entry.parsed(parse_sm) else { continue };
        if let Some(first) = sms.iter().find(|first| first.value == sm) {
            entry.report(duplicate_item(&entry, &sm.to_string(), &first.origin));
            continue;
        }
        if gpu::examples(sm).is_empty() {
            let message = format!("no GPU is known to have the compute capability `{sm}`");
            let warning = Diagnostic::warning(codes::UNKNOWN_SM, message).at(entry.origin(), "");
            entry.report(match gpu::note(sm) {
                Some(note) => warning.note(note),
                None => {
                    let known: Vec<String> = gpu::known_sms().iter().map(ToString::to_string).collect();
                    warning.note(format!("known are {}", alternatives(known.iter().map(String::as_str))))
                }
            });
        }
        sms.push(entry.located(sm));
    }
    let mut sms: Vec<Sm> = sms.into_iter().map(|sm| sm.value).collect();
    sms.sort_unstable();
    sms
}

fn parse_sm(text: &str) -> Result<Sm, text::Bad> {
    text.parse().map_err(|_| {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let meant = format!("sm_{digits}");
        let help = match meant.parse::<Sm>() {
            Ok(sm) => format!("write `{sm}`"),
            Err(_) => "write `sm_86`, or the name of a GPU: `gpu = \"RTX 3090\"`".to_owned(),
        };
        text::Bad { code: codes::BAD_FORMAT, message: "is not a compute capability".to_owned(), help }
    })
}
