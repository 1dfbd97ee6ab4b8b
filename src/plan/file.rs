//! Plan files: what `plan --out` decided, and what `apply PLAN` holds itself to.
//!
//! A plan file holds the whole preimages of what it will do: digests and options, no paths of the machine and nothing
//! secret. It is applied only if the same preimages follow from what is there then; what was done of it meanwhile is
//! no difference, so that an interrupted `apply` can be run again.

use serde::{Deserialize, Serialize};

use super::decide::{Action, Planned};
use super::facts::AccuracyFact;
use super::reason::Reason;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Preimage};

/// Version of the format. Another major version is refused; of a newer minor one, what is not known is ignored.
const MAJOR: u32 = 1;
const MINOR: u32 = 0;

/// The content of a plan file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    /// `MAJOR.MINOR` of the format.
    format: String,
    /// The program that made it.
    pub tool: String,
    /// Digest of the inputs of all its engines.
    pub made_from: Digest,
    /// Is there anything to be done?
    pub changes: bool,
    /// Its engines, in order.
    pub engines: Vec<PlanEntry>,
    /// Published engines that no manifest declares, relative to the project.
    #[serde(default)]
    pub orphans: Vec<String>,
}

/// One engine in a plan file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// `MODEL[.VARIANT]@TARGET`.
    pub engine: String,
    /// What is to be done.
    pub action: Action,
    /// Why, nearest cause first.
    pub reasons: Vec<Told>,
    /// How long it will take, in ms, if that is known.
    #[serde(default)]
    pub estimate_ms: Option<u64>,
    /// What it will be made from; none if that is unknown.
    pub inputs: Option<PlanInputs>,
}

/// A reason as data, with its text. A reason that only a newer version knows is still text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// For people.
    pub text: String,
    /// The reason: `reason` is its name, the rest are its fields.
    #[serde(flatten)]
    pub reason: serde_json::Value,
}

impl From<&Reason> for Told {
    fn from(reason: &Reason) -> Told {
        Told { text: reason.to_string(), reason: serde_json::json!(reason) }
    }
}

/// What an engine will be made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanInputs {
    /// The prepare action's inputs.
    pub prepare: Preimage,
    /// The build's inputs.
    pub build: Preimage,
    /// The measurement's inputs, if there is one.
    #[serde(default)]
    pub measure: Option<Preimage>,
    /// Digest of the tolerances.
    #[serde(default)]
    pub judged_by: Option<Digest>,
    /// The engine, if it is built.
    #[serde(default)]
    pub engine: Option<Digest>,
}

/// A plan file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// It is of another major version.
    #[error("it has format version {found}, and this program reads version {MAJOR}")]
    Major {
        /// The version found.
        found: String,
    },
    /// It is truncated, or no plan at all.
    #[error("it is damaged or no plan file: {what}")]
    Damaged {
        /// What the parser says.
        what: String,
    },
    /// Somebody changed it.
    #[error("it was edited: its inputs do not have the digest that it names")]
    Edited,
}

impl PlanFile {
    /// The file of a plan. Orphans are relative to the project.
    #[must_use]
    pub fn of(planned: &[Planned], orphans: Vec<String>, tool: &str) -> PlanFile {
        let engines: Vec<PlanEntry> = planned.iter().map(PlanEntry::of).collect();
        PlanFile {
            format: format!("{MAJOR}.{MINOR}"),
            tool: tool.to_owned(),
            made_from: made_from(&engines),
            changes: planned.iter().any(|p| !matches!(p.action, Action::UpToDate | Action::Error)),
            engines,
            orphans,
        }
    }

    /// Reads the text of a plan file.
    ///
    /// # Errors
    /// It is of another major version, damaged, or was edited.
    pub fn parse(text: &str) -> Result<PlanFile, PlanFileError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
        }
        let damaged = |e: serde_json::Error| PlanFileError::Damaged { what: e.to_string() };
        // Before anything that another version may have changed.
        let head: Head = serde_json::from_str(text).map_err(damaged)?;
        let major = head.format.split_once('.').and_then(|(major, _)| major.parse::<u32>().ok());
        if major != Some(MAJOR) {
            return Err(PlanFileError::Major { found: head.format });
        }
        let file: PlanFile = serde_json::from_str(text).map_err(damaged)?;
        if made_from(&file.engines) == file.made_from { Ok(file) } else { Err(PlanFileError::Edited) }
    }

    /// The text of the file.
    #[must_use]
    pub fn render(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.unwrap_or_else(|e| unreachable!("a plan file is plain data: {e}")) + "\n"
    }

    /// What is not as it was when the plan was made: every difference as an error. `planned` is the plan of now, for
    /// the engines that are still declared.
    #[must_use]
    pub fn differences(&self, planned: &[Planned]) -> Vec<Diagnostic> {
        let now = |entry: &PlanEntry| planned.iter().find(|p| p.name.to_string() == entry.engine);
        if !self.engines.is_empty() && self.engines.iter().all(|entry| now(entry).is_none()) {
            let message = "it is the plan of another project: none of its engines is declared here";
            return vec![stale(message.to_owned())];
        }
        let mut errors = Vec::new();
        for entry in &self.engines {
            let what = match now(entry) {
                None => vec!["no manifest declares it any more".to_owned()],
                Some(planned) => entry.differences(planned),
            };
            errors.extend(what.iter().map(|what| stale(format!("`{}`: {what}", entry.engine))));
        }
        errors
    }
}

fn stale(message: String) -> Diagnostic {
    Diagnostic::error("plan-stale", message).help("make a new plan: `enginewright plan --out FILE`")
}

/// A digest of the inputs of all engines, which is never empty.
fn made_from(engines: &[PlanEntry]) -> Digest {
    let mut preimage = Preimage::new("plan");
    for entry in engines {
        let inputs = entry.inputs.as_ref();
        let keys = inputs.map(|inputs| {
            let measure = inputs.measure.as_ref().map(|measure| measure.key().to_string());
            let judged_by = inputs.judged_by.map(|digest| digest.to_string());
            let engine = inputs.engine.map(|digest| digest.to_string());
            vec![
                inputs.prepare.key().into(),
                inputs.build.key().into(),
                measure.into(),
                judged_by.into(),
                engine.into(),
            ]
        });
        // Not `with`: an edited file may name an engine twice.
        preimage.fields.insert(entry.engine.clone(), keys.into());
    }
    preimage.key()
}

impl PlanEntry {
    fn of(planned: &Planned) -> PlanEntry {
        let accuracy = match &planned.accuracy {
            AccuracyFact::Known(accuracy) => Some(accuracy),
            _ => None,
        };
        PlanEntry {
            engine: planned.name.to_string(),
            action: planned.action,
            reasons: planned.reasons.iter().map(Told::from).collect(),
            estimate_ms: planned.estimate_ms,
            inputs: planned.keyed.as_ref().map(|keyed| PlanInputs {
                prepare: keyed.prepare.clone(),
                build: keyed.build.clone(),
                measure: accuracy.map(|accuracy| accuracy.measure.clone()),
                judged_by: accuracy.map(|accuracy| accuracy.judged.judged_by),
                engine: planned.built.as_ref().map(|built| built.engine.b3),
            }),
        }
    }

    /// What is another than it was planned.
    fn differences(&self, now: &Planned) -> Vec<String> {
        if now.action == Action::Error {
            return now.errors.iter().map(|error| error.message.clone()).collect();
        }
        let entry = PlanEntry::of(now);
        let (old, new) = match (&self.inputs, &entry.inputs) {
            (Some(old), Some(new)) => (old, new),
            (None, _) => return vec!["its inputs were not known when the plan was made".to_owned()],
            (_, None) => {
                return vec!["its inputs are not known any more: something must be fetched".to_owned()];
            }
        };
        let mut found = Vec::new();
        let mut add = |old: &Preimage, new: &Preimage, reason: fn(_) -> Reason| {
            found.extend(new.changes_since(old).into_iter().map(|change| reason(change).to_string()));
        };
        add(&old.prepare, &new.prepare, Reason::Field);
        add(&old.build, &new.build, Reason::Field);
        if let (Some(old), Some(new)) = (&old.measure, &new.measure) {
            add(old, new, Reason::Measure);
        }
        if found.is_empty() && old.measure.is_some() != new.measure.is_some() {
            found.push("whether it is verified is not as it was".to_owned());
        }
        if found.is_empty() && old.judged_by != new.judged_by {
            found.push("its tolerances differ".to_owned());
        }
        if found.is_empty() && old.engine.is_some() && new.engine.is_some() && old.engine != new.engine {
            found.push("the cache holds another engine for the same inputs".to_owned());
        }
        if found.is_empty() && work(now.action) > work(self.action) {
            let (planned, now) = (self.action.name(), now.action.name());
            found.push(format!("it was to {planned}, and is to {now} now"));
        }
        found
    }
}

/// How much an action does: what is left of a plan never does more than it said.
fn work(action: Action) -> u8 {
    match action {
        Action::UpToDate => 0,
        Action::Publish | Action::Restore | Action::Judge => 1,
        Action::Measure => 2,
        Action::Build | Action::Rebuild => 3,
        Action::Unknown | Action::Error => 4,
    }
}
