//! `verify --layers`: where the numbers of an engine break.

use super::accuracy::Subject;
use super::context::Context;
use super::gather::{Gathered, gather};
use super::measure::{self, Asked};
use super::verify::unmeasured_because;
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::manifest::Engine;
use crate::plan::{Accuracy, AccuracyFact, Planned};
use crate::verify::Drift;
use crate::worker::protocol::{DRIFT_FILE, Request};

/// Every value of an engine beside its reference.
#[derive(Debug, Clone)]
pub struct Drifted {
    /// The engine.
    pub engine: String,
    /// What was found, or why nothing was.
    pub outcome: Result<Drift, Vec<Diagnostic>>,
}

const LAYERS: Asked =
    Asked { action: "layers", verb: "tapping", request: Request::Layers, file: DRIFT_FILE, output: "drift" };

/// Looks at every value of these engines, one engine after the other: it takes much memory.
///
/// # Errors
/// The cache cannot be used at all.
pub fn layers(
    ctx: &Context<'_>,
    engines: &[&Engine],
) -> Result<(Vec<Drifted>, Vec<Diagnostic>), cache::Error> {
    let gathered = gather(ctx, engines)?;
    let one = |(engine, planned): (&&Engine, &Planned)| Drifted {
        engine: engine.name.to_string(),
        outcome: of_engine(ctx, &gathered, engine, planned),
    };
    let found = engines.iter().zip(&gathered.planned).map(one).collect();
    ctx.cache.flush();
    Ok((found, gathered.warnings))
}

/// What an engine is measured from, and how; an error if it cannot be.
pub(super) fn subject<'a>(
    ctx: &Context<'_>,
    gathered: &'a Gathered,
    engine: &'a Engine,
    planned: &'a Planned,
) -> Result<(Subject<'a>, &'a Accuracy), Vec<Diagnostic>> {
    let model = gathered.models.get(&engine.source);
    let (AccuracyFact::Known(accuracy), Some(keyed), Some(model)) =
        (&planned.accuracy, &planned.keyed, model)
    else {
        return Err(unmeasured_because(ctx, engine, planned));
    };
    let reference = engine.verify.as_ref().and_then(|verify| gathered.toolchains.get(&verify.reference));
    let reference = reference.map(|reference| &**reference);
    Ok((Subject { engine, keyed, model, reference }, accuracy))
}

/// Every value of one engine beside its reference: kept, or looked at now.
pub(super) fn of_engine(
    ctx: &Context<'_>,
    gathered: &Gathered,
    engine: &Engine,
    planned: &Planned,
) -> Result<Drift, Vec<Diagnostic>> {
    let (subject, accuracy) = subject(ctx, gathered, engine, planned)?;
    let failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let key = measure::preimage(accuracy, &LAYERS).key();
    let give_up = || ctx.cancel.is_cancelled();
    let lock = ctx.cache.lock_action_unless(LAYERS.action, &key, &give_up, &mut |_| {}).map_err(failed)?;
    let Some(_lock) = lock else { return Err(Vec::new()) };
    if let Some(drift) = known(ctx, &key).map_err(failed)? {
        return Ok(drift);
    }
    measure::run::<Drift>(ctx, &subject, accuracy, &LAYERS).map(|(drift, _)| drift)
}

fn known(ctx: &Context<'_>, key: &Digest) -> Result<Option<Drift>, cache::Error> {
    let Some(record) = ctx.cache.result(LAYERS.action, key)? else { return Ok(None) };
    let Some(blob) = record.outputs.get(LAYERS.output) else { return Ok(None) };
    Ok(ctx.cache.read(blob)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// What `verify --layers` found of an engine as it is planned, if it has looked; with the key that it is kept under.
///
/// # Errors
/// The cache cannot be used at all.
pub fn recorded(ctx: &Context<'_>, planned: &Planned) -> Result<Option<(Digest, Drift)>, cache::Error> {
    let AccuracyFact::Known(accuracy) = &planned.accuracy else { return Ok(None) };
    let key = measure::preimage(accuracy, &LAYERS).key();
    Ok(known(ctx, &key)?.map(|drift| (key, drift)))
}
