//! What the recorded runs did for each engine: a walk over their events.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// A recorded run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Its name: the time when it started, in UTC, and the process.
    pub id: String,
    /// The command.
    pub command: String,
    /// The program.
    pub tool: String,
    /// How long it took; none if it did not come to its end.
    pub ms: Option<u64>,
    /// How many engines it had.
    pub engines: usize,
    /// How many came to what: `built`, `cache`, `restored`, `unchanged`, `failed`, `not-done`.
    pub outcomes: BTreeMap<String, usize>,
}

/// What a run did for an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The run.
    pub run: String,
    /// What came of it: a key of [`Run::outcomes`].
    pub outcome: String,
    /// Why it was to be done.
    pub why: Vec<String>,
    /// Size of the engine in bytes; 0 if there is none.
    pub size: u64,
    /// How long its build took, whenever that was.
    pub build_ms: u64,
    /// What was known of its accuracy.
    pub verdict: String,
    /// Why it failed.
    pub errors: Vec<String>,
    /// The key of its build; empty if that was not known.
    pub build_key: String,
}

/// The runs of one project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The runs, the oldest first.
    pub runs: Vec<Run>,
    /// What they did for each engine, the oldest first.
    pub engines: BTreeMap<String, Vec<Entry>>,
}

/// Reads the events of runs, the oldest run first. Runs of other projects, which may share the cache, and runs that had
/// no engine to do anything for, are left out.
#[must_use]
pub fn history<'e>(project: &str, runs: impl IntoIterator<Item = (&'e str, &'e [Value])>) -> History {
    let mut history = History::default();
    for (id, events) in runs {
        let kind = |event: &Value| event["event"].as_str().unwrap_or_default().to_owned();
        let Some(started) = events.iter().find(|event| kind(event) == "run-started") else { continue };
        if started["project"] != project {
            continue;
        }
        let finished = events.iter().find(|event| kind(event) == "run-finished");
        let mut run = Run {
            id: id.to_owned(),
            command: text(&started["command"]),
            tool: text(&started["tool"]),
            ms: finished.and_then(|event| event["ms"].as_u64()),
            ..Run::default()
        };
        let planned = events.iter().filter(|event| kind(event) == "planned");
        let keys: BTreeMap<&str, &Value> =
            planned.filter_map(|event| Some((event["engine"].as_str()?, &event["build"]))).collect();
        for event in events.iter().filter(|event| kind(event) == "engine-finished") {
            let engine = text(&event["engine"]);
            let entry = Entry {
                run: id.to_owned(),
                outcome: text(&event["outcome"]),
                why: texts(&event["why"]),
                size: event["size"].as_u64().unwrap_or(0),
                build_ms: event["build_ms"].as_u64().unwrap_or(0),
                verdict: text(&event["verdict"]),
                errors: texts(&event["errors"]),
                build_key: keys.get(engine.as_str()).map_or_else(String::new, |key| text(key)),
            };
            run.engines += 1;
            *run.outcomes.entry(entry.outcome.clone()).or_default() += 1;
            history.engines.entry(engine).or_default().push(entry);
        }
        if run.engines > 0 {
            history.runs.push(run);
        }
    }
    history
}

impl History {
    /// The last run that did something; else the last one.
    #[must_use]
    pub fn last(&self) -> Option<&Run> {
        let did = |run: &&Run| run.outcomes.keys().any(|outcome| outcome != "unchanged");
        self.runs.iter().rev().find(did).or(self.runs.last())
    }

    /// The last that was done for an engine, whichever run that was.
    #[must_use]
    pub fn last_attempt(&self, engine: &str) -> Option<&Entry> {
        let did = |entry: &&Entry| !["unchanged", "not-done"].contains(&entry.outcome.as_str());
        self.engines.get(engine)?.iter().rev().find(did)
    }

    /// What [`History::last`] did for an engine, and the run before that in which it had a size.
    #[must_use]
    pub fn of(&self, engine: &str) -> (Option<&Entry>, Option<&Entry>) {
        let entries = self.engines.get(engine).map_or(&[][..], Vec::as_slice);
        let at = self.last().and_then(|run| entries.iter().position(|entry| entry.run == run.id));
        let before = entries[..at.unwrap_or(0)].iter().rev().find(|entry| entry.size > 0);
        (at.map(|at| &entries[at]), before)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

impl Run {
    /// When it started: `2026-06-02 13:45:01 UTC`; the id where that is no time.
    #[must_use]
    pub fn time(&self) -> String {
        let id = self.id.as_str();
        let part =
            |range: std::ops::Range<usize>| id.get(range).filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
        match (part(0..4), part(4..6), part(6..8), part(9..11), part(11..13), part(13..15)) {
            (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) => {
                format!("{year}-{month}-{day} {hour}:{minute}:{second} UTC")
            }
            _ => id.to_owned(),
        }
    }

    /// `1 built, 2 from the cache, 1 failed`
    #[must_use]
    pub fn counts(&self) -> String {
        let words = [
            ("built", "built"),
            ("cache", "from the cache"),
            ("restored", "restored"),
            ("unchanged", "up to date"),
            ("failed", "failed"),
            ("not-done", "not done"),
        ];
        let parts =
            words.iter().filter_map(|(key, word)| Some(format!("{} {word}", self.outcomes.get(*key)?)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn runs_of_this_project_are_told_by_engine() {
        let started = |project| json!({ "event": "run-started", "command": "apply", "project": project });
        let done = |size: u64, outcome| {
            json!({ "event": "engine-finished", "engine": "m@a", "outcome": outcome, "why": ["never built"],
                "size": size, "build_ms": 400, "verdict": "emulated" })
        };
        let first = [started("/p"), done(10, "built"), json!({ "event": "run-finished", "ms": 7 })];
        let other = [started("/q"), done(99, "built")];
        let empty = [started("/p")];
        let last = [json!("no event"), started("/p"), done(12, "cache")];
        let id = "20260602T134501.123Z-7";
        let runs = [("a", &first[..]), ("b", &other[..]), ("c", &empty[..]), (id, &last[..])];
        let found = history("/p", runs);
        assert_eq!(found.runs.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["a", id]);
        assert_eq!((found.runs[0].ms, found.runs[1].ms), (Some(7), None));
        assert_eq!(found.runs[1].time(), "2026-06-02 13:45:01 UTC");
        assert_eq!(found.runs[1].counts(), "1 from the cache");
        let entries = &found.engines["m@a"];
        assert_eq!(entries.iter().map(|e| e.size).collect::<Vec<_>>(), [10, 12]);
        assert_eq!(entries[0].why, ["never built"]);
        assert_eq!(found.of("m@a"), (Some(&entries[1]), Some(&entries[0])));
        assert_eq!(found.of("n@a"), (None, None));
    }

    #[test]
    fn the_last_attempt_is_that_of_whichever_run_did_something() {
        let run = |build: &str, outcome| {
            let planned = json!({ "event": "planned", "engine": "m@a", "build": build });
            let done = json!({ "event": "engine-finished", "engine": "m@a", "outcome": outcome });
            [json!({ "event": "run-started", "command": "apply", "project": "/p" }), planned, done]
        };
        let runs = [run("k1", "failed"), run("k2", "failed"), run("k3", "not-done"), run("k4", "unchanged")];
        let found = history("/p", runs.iter().map(|events| ("id", &events[..])));
        let last = found.last_attempt("m@a").unwrap();
        assert_eq!((last.outcome.as_str(), last.build_key.as_str()), ("failed", "k2"));
        assert_eq!(found.last_attempt("n@a"), None);
    }
}
