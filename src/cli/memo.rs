//! Commands that had nothing to do, and were asked the same again.
//!
//! `plan` and `apply` keep what they said when every engine was up to date, with every file that this was found out
//! from (see `cache/memo.rs`). As long as those are as they were, looking at each once is all there is to do: no
//! manifest is parsed, no key is made. If only models have changed, then the engines of the others are up to date, and
//! are not planned.

use serde::{Deserialize, Serialize};

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::settings::{Project, Settings};
use crate::cache::{Asked, Cache, recall};
use crate::fs;
use crate::manifest::{Engine, Source, ToolchainKind};
use crate::plan::source_id;
use crate::precision;

/// What a command said.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// A question that was not asked before, or whose answer may have changed.
pub(super) struct Question {
    asked: Option<Asked>,
    /// All that has changed since there was nothing to do, and nothing to tell; none if that is not known.
    changed: Option<BTreeSet<PathBuf>>,
}

/// What was said when this was asked, or the question. A command that does more than say something, such as writing a
/// file, is not one `to_keep`; and who wants to be told each step is told.
pub(super) fn ask(settings: &Settings, to_keep: bool) -> Result<Answer, Question> {
    if !to_keep || settings.verbose || settings.logged {
        return Err(Question { asked: None, changed: None });
    }
    let recalled = settings.cache_of_project().and_then(|(cache, root)| {
        let recalled = recall(&cache, &settings.question, root)?;
        let answer: Answer = serde_json::from_slice(&recalled.answer).ok()?;
        Some((answer, recalled.changed))
    });
    let changed = match recalled {
        Some((answer, changed)) if changed.is_empty() => return Ok(answer),
        Some((answer, changed)) if answer.says_nothing() => Some(changed.into_iter().collect()),
        _ => None,
    };
    let asked = Asked::now();
    // Another program may give another answer.
    let _ = fs::stat(std::path::Path::new("/proc/self/exe"));
    Err(Question { asked: Some(asked), changed })
}

impl Answer {
    /// Is it that there is nothing to do, and no word of anything else?
    fn says_nothing(&self) -> bool {
        self.stderr.is_empty() && self.stdout.starts_with(NOTHING_TO_DO) && self.stdout.lines().count() == 1
    }
}

/// How an answer begins that tells of no engine.
pub(super) const NOTHING_TO_DO: &str = "nothing to do: ";

impl Question {
    /// Those of these engines that are not known to be up to date, if that is not all of them: nothing but model files
    /// has changed, and each decides only about engines that are made from it.
    pub(super) fn open<'a>(&self, project: &Project, engines: &[&'a Engine]) -> Option<Vec<&'a Engine>> {
        let changed = self.changed.as_ref()?;
        let is_open = |engine: &&&Engine| match &engine.source {
            Source::Path { path } => changed.contains(path),
            _ => false,
        };
        let open: Vec<&Engine> = engines.iter().filter(is_open).copied().collect();
        let sources: BTreeSet<&Source> = open.iter().map(|engine| &engine.source).collect();
        let rules_are_its_own = |engine: &&Engine| {
            let sets = engine.rules.iter().filter_map(|rule| rule.set.as_deref());
            // Whether a rule of a shared set selects anything is a matter of all models that use it.
            sets.into_iter().all(|set| set == precision::std_fp16::NAME)
        };
        // Options of trtexec may name any file.
        let names_no_files = |engine: &&Engine| {
            let toolchain = project.manifest.toolchains.get(&engine.target.toolchain);
            toolchain.is_some_and(|toolchain| toolchain.kind == ToolchainKind::TensorrtRtx)
        };
        // Its external data may be any file in its folder, were it another model.
        let is_one_file = |engine: &&Engine| {
            let locked = project.lock.source(&source_id(&engine.source, &project.manifest.root));
            locked.is_some_and(|source| source.raw.len() == 1)
        };
        let is_part = sources.len() == changed.len()
            && open.len() < engines.len()
            && open.iter().all(rules_are_its_own)
            && engines.iter().all(names_no_files)
            && engines.iter().all(|engine| is_open(&engine) || is_one_file(engine));
        is_part.then_some(open)
    }

    /// Keeps the answer, if it was made from files alone.
    pub(super) fn answered(&self, settings: &Settings, cache: &Cache, answer: &Answer) {
        if let (Some(asked), Some(root), Ok(bytes)) =
            (&self.asked, &settings.root, serde_json::to_vec(answer))
        {
            cache.memorize(asked, &settings.question, root, &bytes);
        }
    }
}
