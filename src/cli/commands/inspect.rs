//! `enginewright inspect`

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::super::args::InspectArgs;
use super::super::exit::{self, Failed};
use super::super::output;
use super::super::settings::{Format, Settings};
use super::gpu::unknown_gpu;
use crate::diagnostic::Diagnostic;
use crate::engine::PlanKind;
use crate::fs;
use crate::gpu::{self, Sm};
use crate::manifest::hazard;
use crate::onnx::Tensor;
use crate::plan::show_dims;
use crate::worker::protocol::{EngineFacts, Inspected, OnnxFacts, Request, Response};
use crate::worker::{Limits, WorkerError};

/// Reading the largest model there is takes less.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);

pub(super) fn run(settings: &Settings, args: &InspectArgs) -> Result<u8, Failed> {
    let asked: Vec<(String, Sm)> =
        args.on.iter().map(|name| Ok((name.clone(), capability(name)?))).collect::<Result<_, Failed>>()?;
    let file = fs::canonicalize(&settings.started_in().join(&args.file))
        .map_err(|e| Failed::new(exit::INVALID, Diagnostic::error("missing-file", e.to_string())))?;
    let found = look(settings, &file)?;
    if let (Inspected::Onnx(_), Some((gpu, _))) = (&found, asked.first()) {
        let message = format!("`{}` is a model: it loads on no GPU, nor on `{gpu}`", args.file.display());
        return Err(Failed::new(
            exit::USAGE,
            Diagnostic::error("usage", message).help("build an engine of it first"),
        ));
    }
    let loads: Vec<(String, Sm, Loads)> =
        asked.into_iter().map(|(name, sm)| (name, sm, Loads::on(&found, sm))).collect();
    match settings.format {
        Format::Json => output::json(&as_json(&file, &found, &loads)),
        Format::Text => output::stdout(&match &found {
            Inspected::Onnx(facts) => of_model(&file, facts),
            Inspected::Engine(facts) => of_engine(&file, facts, &loads),
        }),
    }
    let refused = loads.iter().any(|(_, _, loads)| matches!(loads, Loads::No(_)));
    Ok(if refused { exit::FAILED } else { exit::DONE })
}

/// The compute capability of a GPU, or as written.
fn capability(name: &str) -> Result<Sm, Failed> {
    name.parse().ok().or_else(|| Some(gpu::find(name)?.sm)).ok_or_else(|| unknown_gpu(name, "no GPU"))
}

fn look(settings: &Settings, file: &Path) -> Result<Inspected, Failed> {
    let limits = Limits { timeout: TIMEOUT, memory: None, env: Vec::new() };
    let request = Request::Inspect { file: file.to_owned() };
    // The worker writes nothing, so any folder will do.
    let answer = Settings::worker().run(Path::new("/"), &request, &limits, &settings.cancel);
    let failed = |error: WorkerError| {
        let message = format!("looking into `{}`: {error}", file.display());
        Failed::new(exit::CANNOT_START, Diagnostic::error(error.code(), message))
    };
    match answer.map_err(failed)?.response {
        Response::Inspected(found) => Ok(*found),
        Response::Refused(refusal) if refusal.diagnostics.is_empty() => {
            let error = Diagnostic { help: refusal.help, ..Diagnostic::error(refusal.code, refusal.message) };
            Err(Failed::new(exit::INVALID, error.in_file(file)))
        }
        Response::Refused(refusal) => {
            let diagnostics = refusal.diagnostics.into_iter().map(Diagnostic::from).collect();
            Err(Failed { code: exit::INVALID, diagnostics })
        }
        other => {
            let error = WorkerError::Garbage { what: format!("{other:?}"), stderr: String::new() };
            Err(failed(error))
        }
    }
}

/// Will an engine load on a GPU?
enum Loads {
    Yes,
    No(String),
    /// The file does not tell.
    Unknown(&'static str),
}

impl Loads {
    fn on(found: &Inspected, sm: Sm) -> Loads {
        let Inspected::Engine(facts) = found else { return Loads::Unknown("it is no engine") };
        match facts.header.kind {
            PlanKind::TensorrtRtx if facts.header.sms.contains(&sm.0) => Loads::Yes,
            PlanKind::TensorrtRtx => Loads::No(format!("it was not built for {sm}")),
            PlanKind::Tensorrt => {
                Loads::Unknown("an engine of the full TensorRT does not say which GPU it was built on")
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Loads::Yes => "yes".to_owned(),
            Loads::No(why) => format!("no: {why}"),
            Loads::Unknown(why) => format!("not known: {why}"),
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Loads::Yes => true.into(),
            Loads::No(_) => false.into(),
            Loads::Unknown(_) => serde_json::Value::Null,
        }
    }
}

/// What an engine needs to run.
fn runtime(facts: &EngineFacts) -> String {
    let version = &facts.header.version;
    match facts.header.kind {
        PlanKind::TensorrtRtx => format!(
            "the TensorRT-RTX runtime {version}, which finishes compiling it on the user's GPU; \
             the full TensorRT and Triton's TensorRT backend do not load it"
        ),
        PlanKind::Tensorrt => format!(
            "TensorRT {version} and the kind of GPU that it was built on, unless it was built to be compatible"
        ),
    }
}

fn kind_name(kind: PlanKind) -> &'static str {
    match kind {
        PlanKind::TensorrtRtx => "TensorRT-RTX",
        PlanKind::Tensorrt => "TensorRT",
    }
}

fn of_engine(file: &Path, facts: &EngineFacts, loads: &[(String, Sm, Loads)]) -> String {
    let header = &facts.header;
    let mut text =
        format!("{}: an engine of {} {}\n\n", file.display(), kind_name(header.kind), header.version);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}{value}");
    };
    for sm in &header.sms {
        let sm = Sm(*sm);
        line("loads on", format!("{sm} ({}, …)", gpu::examples(sm).join(", ")));
    }
    for (name, sm, loads) in loads {
        line("", format!("{name} ({sm}): {}", loads.text()));
    }
    line("needs", runtime(facts));
    line("size", output::size(facts.size));
    if let Some(weights) = header.weights {
        line("weights", output::size(weights));
    }
    if facts.start > 0 {
        line("plan", format!("begins at byte {}", facts.start));
    }
    if let Some(metadata) = &facts.metadata {
        let shown: String = metadata.to_string().chars().take(200).collect();
        line("metadata", shown.escape_debug().to_string().replace("\\\"", "\""));
    }
    if header.kind == PlanKind::Tensorrt {
        return text;
    }
    line(
        "tf32",
        facts.tf32.map_or("not told".to_owned(), |on| if on { "allowed" } else { "off" }.to_owned()),
    );
    line("nodes", format!("{} ONNX nodes are named", facts.nodes));
    line("types", counts(&facts.types));
    line("kernels", counts(&facts.kernels));
    if !facts.is_whole {
        line("", "(not all of its text could be read)".to_owned());
    }
    text
}

/// `12 half, 3 float`, the most first.
fn counts(of: &std::collections::BTreeMap<String, u64>) -> String {
    let mut all: Vec<(&String, &u64)> = of.iter().collect();
    all.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), *name));
    let list: Vec<String> = all.iter().map(|(name, n)| format!("{n} {name}")).collect();
    if list.is_empty() { "none are told".to_owned() } else { list.join(", ") }
}

fn of_model(file: &Path, facts: &OnnxFacts) -> String {
    let summary = &facts.summary;
    let mut text = format!("{}: an ONNX model\n\n", file.display());
    let opsets: Vec<String> = summary
        .opsets
        .iter()
        .map(|(domain, version)| match domain.as_str() {
            "" => version.to_string(),
            domain => format!("{} {version}", output::printable(domain)),
        })
        .collect();
    let producer = if facts.producer.is_empty() { "not told" } else { &facts.producer };
    let nodes = usize::try_from(summary.operators.values().sum::<u64>()).unwrap_or(usize::MAX);
    let _ = writeln!(text, "opset     {}", opsets.join(", "));
    let _ = writeln!(text, "producer  {}", producer.escape_debug());
    for (path, size) in &facts.files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(text, "file      {name}, {}", output::size(*size));
    }
    let tensors = usize::try_from(facts.tensors).unwrap_or(usize::MAX);
    let _ = writeln!(
        text,
        "weights   {} in {}",
        output::size(summary.weight_bytes),
        output::count(tensors, "tensor")
    );
    let mut interface = |what: &str, tensors: &[Tensor]| {
        for tensor in tensors {
            let _ = writeln!(
                text,
                "{what:<10}{}: {}",
                tensor.name.escape_debug(),
                show_dims(tensor).escape_debug()
            );
        }
    };
    interface("input", &summary.inputs);
    interface("output", &summary.outputs);
    let _ = writeln!(text, "operators {}: {}", output::count(nodes, "node"), counts(&summary.operators));
    for (name, (all, explicit)) in &facts.patterns {
        let spelling = match all - explicit {
            0 => String::new(),
            n if n == *all => ", written as several nodes".to_owned(),
            n => format!(", {n} of them written as several nodes"),
        };
        let _ = writeln!(text, "pattern   {all} {name}{spelling}");
    }
    if !facts.largest.is_empty() {
        let rows: Vec<Vec<String>> = facts
            .largest
            .iter()
            .map(|w| {
                let dims: Vec<String> = w.dims.iter().map(ToString::to_string).collect();
                vec![
                    w.name.escape_debug().to_string(),
                    format!("{}[{}]", w.element, dims.join(", ")),
                    output::size(w.bytes),
                ]
            })
            .collect();
        text += &format!("\n{}", output::table(&["LARGEST TENSOR", "TYPE", "SIZE"], &rows));
    }
    if !facts.hazards.is_empty() {
        text +=
            "\nin fp16, without any rule (`precision = \"fp16\"` comes with `std-fp16`, which mends most):\n";
        for problem in &facts.hazards {
            let level = hazard(&problem.code).map_or("error", |hazard| hazard.level.name());
            let _ = writeln!(text, "  {level:<6}{}: {}", problem.code, output::printable(&problem.message));
        }
    }
    for note in &facts.notes {
        let _ = writeln!(text, "\nnote: {}", output::printable(&note.text));
    }
    text
}

fn as_json(file: &Path, found: &Inspected, loads: &[(String, Sm, Loads)]) -> serde_json::Value {
    let on = loads.iter().map(
        |(name, sm, loads)| json!({ "gpu": name, "sm": sm, "loads": loads.json(), "why": loads.text() }),
    );
    let mut value = json!({ "format": output::JSON_FORMAT, "file": output::path(file) });
    match found {
        Inspected::Onnx(facts) => {
            value["kind"] = "onnx".into();
            value["producer"] = facts.producer.as_str().into();
            value["files"] = facts
                .files
                .iter()
                .map(|(path, size)| json!({ "file": output::path(path), "size": size }))
                .collect();
            value["model"] = json!(facts.summary);
            value["tensors"] = facts.tensors.into();
            value["largest"] = json!(facts.largest);
            value["patterns"] = facts
                .patterns
                .iter()
                .map(|(name, (all, explicit))| json!({ "pattern": name, "instances": all, "explicit": explicit }))
                .collect();
            value["hazards"] = facts
                .hazards
                .iter()
                .map(|p| json!({ "code": p.code, "message": p.message, "node": p.node.as_ref().map(|(name, _)| name) }))
                .collect();
            value["notes"] = facts.notes.iter().map(|note| note.text.clone()).collect();
        }
        Inspected::Engine(facts) => {
            value["kind"] = "engine".into();
            value["by"] = json!(facts.header.kind);
            value["version"] = facts.header.version.as_str().into();
            value["sms"] = facts.header.sms.iter().map(|sm| json!(Sm(*sm))).collect();
            value["start"] = facts.start.into();
            value["metadata"] = json!(facts.metadata);
            value["size"] = facts.size.into();
            value["weights"] = json!(facts.header.weights);
            value["tf32"] = json!(facts.tf32);
            value["nodes"] = facts.nodes.into();
            value["types"] = json!(facts.types);
            value["kernels"] = json!(facts.kernels);
            value["needs"] = runtime(facts).into();
            value["on"] = on.collect();
        }
    }
    value
}
