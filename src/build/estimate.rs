//! How long a plan will take, by the durations that were recorded.

use std::collections::BTreeMap;

use super::context::Context;
use super::gather::{self, Gathered};
use crate::digest::Digest;
use crate::manifest::Engine;
use crate::plan::{AccuracyFact, Action, Planned, Published};

/// How long all of a plan will take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The part of it that was done before, in ms, with as many workers as there may be.
    pub ms: u64,
    /// How many engines need something that was never done.
    pub unknown: usize,
}

/// Adds to each engine of a plan how long it will take.
pub(super) fn add(ctx: &Context<'_>, engines: &[&Engine], gathered: &mut Gathered) {
    let nothing = Published::Nothing;
    let mut of_model: BTreeMap<String, u64> = BTreeMap::new();
    let mut builds = Vec::new();
    for (engine, planned) in engines.iter().zip(&gathered.planned) {
        let published = gathered.published.get(&planned.name.to_string()).unwrap_or(&nothing);
        let known = match (&planned.built, planned.action) {
            (Some(built), _) => Some(built.duration_ms),
            (None, Action::Build | Action::Rebuild) => gather::previous(ctx, engine, published).duration_ms,
            _ => None,
        };
        // Another target of the same model takes about as long.
        known.map(|ms| of_model.insert(planned.name.model_and_variant(), ms));
        builds.push(known);
    }
    for (planned, known) in gathered.planned.iter_mut().zip(builds) {
        let known = known.or_else(|| of_model.get(&planned.name.model_and_variant()).copied());
        planned.estimate_ms = of_engine(ctx, planned, known);
    }
}

fn of_engine(ctx: &Context<'_>, planned: &Planned, build: Option<u64>) -> Option<u64> {
    let measure = match &planned.accuracy {
        AccuracyFact::Known(accuracy) if accuracy.judgement.is_none() => {
            let previous =
                accuracy.previous.as_ref().map(|previous| ctx.cache.record("measure", &previous.key()));
            previous.and_then(|record| Some(record.ok()??.duration_ms))
        }
        _ => Some(0),
    };
    match planned.action {
        Action::UpToDate | Action::Publish | Action::Restore | Action::Judge => Some(0),
        Action::Measure => measure,
        Action::Build | Action::Rebuild => Some(build? + measure?),
        Action::Unknown | Action::Error => None,
    }
}

/// How long all of these will take. Engines with equal inputs are built once.
#[must_use]
pub fn estimate(planned: &[Planned], jobs: usize) -> Estimate {
    let mut groups: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut unknown = 0;
    for planned in planned.iter().filter(|p| p.action.is_work() || p.action == Action::Unknown) {
        match (&planned.keyed, planned.estimate_ms) {
            (Some(keyed), Some(ms)) => {
                let group = groups.entry(keyed.build_key).or_default();
                *group = ms.max(*group);
            }
            _ => unknown += 1,
        }
    }
    let longest = groups.values().copied().max().unwrap_or(0);
    let shared = groups.values().sum::<u64>() / jobs.max(1) as u64;
    Estimate { ms: longest.max(shared), unknown }
}
