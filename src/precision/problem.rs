//! What is wrong with a model under its rules, as data that passes through a pipe. The place of a rule is
//! known to the asker alone, so that a problem names it by number.

use serde::{Deserialize, Serialize};

use super::float::FloatType;
use crate::manifest::{glob_of, hazard};

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable code.
    pub code: String,
    /// Does it refuse the model? Of a hazard, the manifest says that: it does not refuse it here.
    pub is_error: bool,
    /// What is wrong.
    pub message: String,
    /// The rule that it is about, by its place in the list of rules.
    pub rule: Option<usize>,
    /// The node that it is about, and its operator.
    pub node: Option<(String, String)>,
    /// Causes and facts.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
    /// The rule that mends it.
    pub fix: Option<Fix>,
}

/// A rule to be pasted. Which table it belongs to is not known here: several models may share the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fix {
    /// Its name.
    pub name: String,
    /// Its selector, as TOML without its braces.
    pub select: String,
    /// The type that it gives.
    pub precision: FloatType,
}

impl Fix {
    /// The rule as TOML, for the model with this table; `optional` if the table is that of many models.
    #[must_use]
    pub fn toml(&self, table: &str, optional: bool) -> String {
        let name = toml::Value::String(self.name.clone());
        let (select, precision) = (&self.select, self.precision.name());
        let optional = if optional { "\noptional = true" } else { "" };
        format!(
            "[[{table}.rule]]\nname = {name}\nselect = {{ {select} }}\nprecision = \"{precision}\"{optional}"
        )
    }
}

impl Problem {
    pub(super) fn error(code: &str, message: impl Into<String>) -> Problem {
        debug_assert!(hazard(code).is_none(), "the manifest judges `{code}`");
        Problem {
            code: code.to_owned(),
            is_error: true,
            message: message.into(),
            rule: None,
            node: None,
            notes: Vec::new(),
            help: Vec::new(),
            fix: None,
        }
    }

    /// Something of the table of hazards. Its level is the manifest's to say, which decides nothing here:
    /// the typed model is the same.
    pub(super) fn hazard(code: &str, message: impl Into<String>) -> Problem {
        debug_assert!(hazard(code).is_some(), "`{code}` is in no table");
        Problem { code: code.to_owned(), is_error: false, ..Problem::error("", message) }
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
            nodes.into_iter().map(|n| toml::Value::String(glob_of(n)).to_string()).collect();
        let select = match nodes.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        self.fix(name, format!("node = {select}"))
    }

    /// Adds a rule, ready to be pasted, that keeps what is selected in FP32.
    pub(super) fn fix(self, name: &str, select: impl Into<String>) -> Problem {
        self.fix_as(FloatType::Fp32, name, select)
    }

    /// Adds a rule, ready to be pasted, that gives what is selected this type.
    pub(super) fn fix_as(mut self, of: FloatType, name: &str, select: impl Into<String>) -> Problem {
        self.fix = Some(Fix { name: name.to_owned(), select: select.into(), precision: of });
        self
    }
}
