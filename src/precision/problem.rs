//! What is wrong with a model under its rules, as data that passes through a pipe. The place of a rule is
//! known to the asker alone, so that a problem names it by number.

use serde::{Deserialize, Serialize};

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable code.
    pub code: String,
    /// Does it refuse the model?
    pub is_error: bool,
    /// What is wrong.
    pub message: String,
    /// The rule that it is about, by its place in the list of rules.
    pub rule: Option<usize>,
    /// The node that it is about, and its operator.
    pub node: Option<(String, String)>,
    /// Causes and facts.
    pub notes: Vec<String>,
    /// What to do. [`MODEL_MARK`] stands for the model's table.
    pub help: Vec<String>,
}

/// Stands in a rule to be pasted for `model.NAME` or `model.NAME.variant.VARIANT`, which a result that
/// several models share cannot know.
pub const MODEL_MARK: &str = "\u{1}model\u{1}";

impl Problem {
    pub(super) fn error(code: &str, message: impl Into<String>) -> Problem {
        Problem {
            code: code.to_owned(),
            is_error: true,
            message: message.into(),
            rule: None,
            node: None,
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    pub(super) fn warning(code: &str, message: impl Into<String>) -> Problem {
        Problem { is_error: false, ..Problem::error(code, message) }
    }

    pub(super) fn of_rule(mut self, rule: usize) -> Problem {
        self.rule = Some(rule);
        self
    }

    pub(super) fn at_node(mut self, name: &str, op: &str) -> Problem {
        self.node = Some((name.to_owned(), op.to_owned()));
        self
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Problem {
        self.notes.push(note.into());
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Problem {
        self.help.push(help.into());
        self
    }

    /// Adds a rule, ready to be pasted, that keeps these nodes in FP32.
    pub(super) fn paste<'a>(self, name: &str, nodes: impl IntoIterator<Item = &'a str>) -> Problem {
        let nodes: Vec<String> =
            nodes.into_iter().map(|n| toml::Value::String(globset::escape(n)).to_string()).collect();
        let select = match nodes.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        self.help(format!(
            "add this rule:\n[[{MODEL_MARK}.rule]]\nname = {}\nselect = {{ node = {select} }}\nprecision = \"fp32\"",
            toml::Value::String(name.to_owned()),
        ))
    }
}
