//! What is wrong with engines, found without building any: everything of the manifest, the model and its numbers
//! that a build would be refused for, and what is worth knowing.

use std::collections::BTreeMap;

use super::context::Context;
use super::prepare::{self, Typed};
use super::sources::{self, Read};
use super::trtexec;
use crate::cache;
use crate::diagnostic::{Diagnostic, Level};
use crate::gpu::Sm;
use crate::manifest::{Engine, Source, ToolchainKind};
use crate::onnx;
use crate::plan::{self, ModelRef, PreparedRef, SourceFact};

/// What was found in one engine's model.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The engine.
    pub engine: String,
    /// The table of its model or variant in the manifest.
    pub table: String,
    /// What is wrong or worth knowing, errors first.
    pub diagnostics: Vec<Diagnostic>,
}

impl Checked {
    /// How many of these there are.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.diagnostics.iter().filter(|d| d.level == level).count()
    }
}

/// Looks at the models of these engines under what the manifest asks for them.
///
/// # Errors
/// The cache cannot be used at all.
pub fn check(ctx: &Context<'_>, engines: &[&Engine]) -> Result<Vec<Checked>, cache::Error> {
    let read = sources::read_all(ctx, engines);
    let typed = prepare::prepare_all(ctx, engines, &read);
    let unused = prepare::unused_set_rules(ctx, &typed);
    let mut all = Vec::new();
    for engine in engines {
        let kind = ctx.manifest.toolchains.get(&engine.target.toolchain).map(|t| t.kind);
        let mut found = plan::check(engine, kind);
        if let Some(read) = read.get(&engine.source) {
            let typed = typed.get(&engine.name.to_string());
            found.extend(of_model(ctx, engine, read, typed, kind)?);
            if let Some(typed) = typed {
                let (errors, warnings) = prepare::diagnostics(engine, typed, read);
                found.extend(errors.into_iter().chain(warnings));
            }
        }
        found.extend(prepare::unused_rules_of(engine, &unused));
        found.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.level));
        let (engine, table) = (engine.name.to_string(), engine.table.clone());
        all.push(Checked { engine, table, diagnostics: found });
    }
    Ok(all)
}

/// The models of these engines, read and stored.
///
/// # Errors
/// The weights of one cannot be stored.
pub fn models(ctx: &Context<'_>, engines: &[&Engine]) -> Result<BTreeMap<Source, SourceFact>, Diagnostic> {
    let read = sources::read_all(ctx, engines);
    for fact in read.values().map(|read| &read.fact) {
        if let SourceFact::AtHand { model, .. } = fact
            && let Some(weights) = &model.weights
        {
            ctx.find_stored(weights)?;
        }
    }
    Ok(read.into_iter().map(|(source, read)| (source, read.fact)).collect())
}

/// What the model as it is does not fit.
fn of_model(
    ctx: &Context<'_>,
    engine: &Engine,
    read: &Read,
    typed: Option<&Typed>,
    kind: Option<ToolchainKind>,
) -> Result<Vec<Diagnostic>, cache::Error> {
    let model = match &read.fact {
        SourceFact::AtHand { model, .. } => model,
        SourceFact::Bad(errors) => return Ok(sources::declared(engine, errors)),
        SourceFact::NotFetched => {
            let id = plan::source_id(&engine.source, &ctx.manifest.root);
            let message = format!("`{}` needs `{id}`, which is not fetched yet", engine.name);
            let error = Diagnostic::error("not-fetched", message).at(&engine.source_origin, "");
            return Ok(vec![error.help("run `enginewright check --fetch`")]);
        }
    };
    let mut found = read.hazards(engine);
    let raised = typed.and_then(|typed| typed.prepared.as_ref()?.opset);
    let refused = typed.is_some_and(|typed| typed.prepared.is_none()) && !engine.fuse.is_empty();
    // What could not be fused has no opset to judge yet.
    if !refused {
        found.extend(plan::fits(engine, model, raised).err().into_iter().flatten());
    }
    let prepared = match typed {
        Some(typed) => typed.prepared.clone(),
        None if plan::spec(engine, ctx.builder(engine)).is_none() => Some(PreparedRef::as_is(model)),
        None => None,
    };
    if let Some(prepared) = prepared.as_ref().filter(|_| kind == Some(ToolchainKind::Trtexec)) {
        let told = trtexec::inputs(ctx, engine, model, prepared)?.err().into_iter().flatten();
        let new: Vec<Diagnostic> = told.filter(|error| !found.contains(error)).collect();
        found.extend(new);
    }
    if let Some(prepared) = prepared.filter(|_| kind == Some(ToolchainKind::TensorrtRtx)) {
        found.extend(beyond_sm_75(ctx, engine, model, &prepared)?);
    }
    Ok(found)
}

/// What compute capability 7.5 cannot run in TensorRT-RTX.
fn beyond_sm_75(
    ctx: &Context<'_>,
    engine: &Engine,
    model: &ModelRef,
    prepared: &PreparedRef,
) -> Result<Vec<Diagnostic>, cache::Error> {
    if !engine.target.sms.contains(&Sm(75)) {
        return Ok(Vec::new());
    }
    let Some(graph) = ctx.cache.read(&prepared.graph)? else { return Ok(Vec::new()) };
    let weights = match prepared.weights.as_ref().or(model.weights.as_ref()) {
        Some(blob) => match ctx.read_stored(blob) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(vec![error]),
        },
        None => None,
    };
    let Ok(model) = onnx::read_canonical(graph, weights) else { return Ok(Vec::new()) };
    let target = &engine.target.name;
    let found = [
        ("sm75-fp32-gemm", "FP32 matrix products", onnx::gemm_nodes(&model)),
        ("type-not-on-sm", "BF16", onnx::bf16_nodes(&model)),
    ];
    let error = |(code, what, nodes): (&'static str, &str, Vec<onnx::TypedNode>)| {
        let first = nodes.first()?;
        let message = format!("`{}` needs {what}, which sm_75 of target `{target}` cannot run", engine.name);
        Some(
            Diagnostic::error(code, message)
                .at(&engine.target.origin, "")
                .note(super::execute::node_list(&nodes))
                .help(format!(
                    "let `{}` and the like be FP16, or leave sm_75 out of target `{target}`",
                    first.name
                )),
        )
    };
    Ok(found.into_iter().filter_map(error).collect())
}
