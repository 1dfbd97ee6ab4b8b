//! Commands that had nothing to do, and were asked the same again.
//!
//! `plan` and `apply` keep what they said when every engine was up to date, with every file that this was found out
//! from (see `cache/memo.rs`). As long as those are as they were, looking at each once is all there is to do: no
//! manifest is parsed, no key is made.

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::cache::{Asked, Cache, recall};
use crate::fs;

/// What a command said.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// A question that was not asked before, or whose answer may have changed.
pub(super) struct Question(Option<Asked>);

/// What was said when this was asked, or the question. A command that does more than say something, such as writing a
/// file, is not one `to_keep`; and who wants to be told each step is told.
pub(super) fn ask(settings: &Settings, to_keep: bool) -> Result<Answer, Question> {
    if !to_keep || settings.verbose || settings.logged {
        return Err(Question(None));
    }
    let recalled = settings.cache_of_project().and_then(|(cache, root)| {
        let bytes = recall(&cache, &settings.question, root)?;
        serde_json::from_slice(&bytes).ok()
    });
    recalled.ok_or_else(|| {
        let asked = Asked::now();
        // Another program may give another answer.
        let _ = fs::stat(std::path::Path::new("/proc/self/exe"));
        Question(Some(asked))
    })
}

impl Question {
    /// Keeps the answer, if it was made from files alone.
    pub(super) fn answered(&self, settings: &Settings, cache: &Cache, answer: &Answer) {
        if let (Some(asked), Some(root), Ok(bytes)) = (&self.0, &settings.root, serde_json::to_vec(answer)) {
            cache.memorize(asked, &settings.question, root, &bytes);
        }
    }
}
