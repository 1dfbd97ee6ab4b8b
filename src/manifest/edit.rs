//! Rules written into a manifest, whose formatting and comments stay as they are.

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Key, Table, TableLike, Value, value};

use super::model::Selector;

/// What names of rules begin with that `tune` wrote, and replaces.
pub const TUNED: &str = "tuned";

/// A rule to be written: its nodes stay FP32.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRule {
    /// Its name.
    pub name: String,
    /// Which nodes it is about, by `pattern` or `node`.
    pub select: Selector,
    /// How many it must select.
    pub expect: Option<u64>,
}

/// Why rules cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The text is not TOML, or has no such table.
    #[error("there is no table `{0}`")]
    NoTable(String),
    /// It is not TOML.
    #[error("it is not TOML: {0}")]
    Syntax(#[from] toml_edit::TomlError),
    /// `rule` is there, and is no list of tables.
    #[error("`{0}.rule` is no list of tables")]
    NotRules(String),
}

impl NewRule {
    fn select(&self) -> InlineTable {
        let mut select = InlineTable::new();
        for (key, names) in [("pattern", &self.select.pattern), ("node", &self.select.node)] {
            let value = match names.as_slice() {
                [] => continue,
                [one] => Value::from(one.as_str()),
                many => Value::Array(many.iter().map(String::as_str).collect::<Array>()),
            };
            select.insert(key, value);
        }
        select
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        let mut fields = vec![
            ("name", Value::from(self.name.as_str())),
            ("select", Value::InlineTable(self.select())),
            ("precision", Value::from("fp32")),
        ];
        fields.extend(self.expect.and_then(|n| i64::try_from(n).ok()).map(|n| ("expect", Value::from(n))));
        fields
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        for (key, field) in self.fields() {
            table.insert(key, value(field));
        }
        table
    }

    /// As text, to be pasted: `[[model.x.rule]]` and its keys.
    #[must_use]
    pub fn toml(&self, table: &str) -> String {
        format!("[[{table}.rule]]\n{}", self.table())
    }
}

/// Puts rules at the end of those of the table, such as `model.encoder`; rules that were tuned before go.
///
/// # Errors
/// The text has no such table.
pub fn write_rules(text: &str, table: &str, rules: &[NewRule]) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse()?;
    let no_table = || EditError::NoTable(table.to_owned());
    let mut at: &mut dyn TableLike = document.as_table_mut();
    for key in Key::parse(table)? {
        at = at.get_mut(key.get()).and_then(Item::as_table_like_mut).ok_or_else(no_table)?;
    }
    let is_tuned = |name: Option<&str>| name.is_some_and(|name| name.starts_with(TUNED));
    match at.get_mut("rule") {
        None if rules.is_empty() => {}
        None => {
            let mut list = ArrayOfTables::new();
            list.extend(rules.iter().map(NewRule::table));
            at.insert("rule", Item::ArrayOfTables(list));
        }
        Some(Item::ArrayOfTables(list)) => {
            list.retain(|rule| !is_tuned(rule.get("name").and_then(Item::as_str)));
            list.extend(rules.iter().map(NewRule::table));
        }
        Some(Item::Value(Value::Array(list))) => {
            let name = |rule: &Value| rule.as_inline_table()?.get("name")?.as_str().map(str::to_owned);
            list.retain(|rule| !is_tuned(name(rule).as_deref()));
            for rule in rules {
                let mut inline = InlineTable::new();
                inline.extend(rule.fields());
                list.push(inline);
            }
        }
        Some(_) => return Err(EditError::NotRules(table.to_owned())),
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norms() -> NewRule {
        let select = Selector { pattern: vec!["layer-norm".into()], ..Selector::default() };
        NewRule { name: "tuned: layer-norm stays fp32".into(), select, expect: Some(2) }
    }

    fn nodes() -> NewRule {
        let select = Selector { node: vec!["/a".into(), "/b[[]0]".into()], ..Selector::default() };
        NewRule { name: "tuned: these nodes stay fp32".into(), select, expect: None }
    }

    const BEFORE: &str = "# Ours.\nschema = 1\n\n[model.a]   # the first\nsource = { path = \"a.onnx\" }\nprecision = \"fp16\"\n\n\
                          [model.a.verify]\ninputs = { seed = 7 } # made up\n\n[model.b]\nsource = { path = \"b.onnx\" }\n";

    #[test]
    fn a_rule_is_added_and_nothing_else_changes() {
        let after = write_rules(BEFORE, "model.a", &[norms()]).unwrap();
        let rule = "\n[[model.a.rule]]\nname = \"tuned: layer-norm stays fp32\"\nselect = { pattern = \"layer-norm\" }\n\
                    precision = \"fp32\"\nexpect = 2\n";
        assert!(after.contains(rule), "{after}");
        assert_eq!(after.replace(rule, ""), BEFORE);
    }

    #[test]
    fn what_was_tuned_before_goes_and_rules_of_people_stay() {
        let own = format!(
            "{BEFORE}\n[[model.b.rule]]\nname = \"mine\"  # mine\nselect = {{ op = \"Exp\" }}\nprecision = \"fp32\"\n"
        );
        let once = write_rules(&own, "model.b", &[norms()]).unwrap();
        let twice = write_rules(&once, "model.b", &[nodes()]).unwrap();
        assert!(twice.starts_with(&own) && !twice.contains("layer-norm"), "{twice}");
        assert!(twice.contains("select = { node = [\"/a\", \"/b[[]0]\"] }"), "{twice}");
        assert_eq!(write_rules(&twice, "model.b", &[]).unwrap(), own);
        assert_eq!(write_rules(BEFORE, "model.b", &[]).unwrap(), BEFORE);
    }

    #[test]
    fn inline_rules_stay_inline() {
        let text =
            "[model.a]\nrule = [ { name = \"mine\", select = { op = \"Exp\" }, precision = \"fp32\" } ]\n";
        let after = write_rules(text, "model.a", &[norms()]).unwrap();
        assert!(
            after.starts_with("[model.a]\nrule = [ { name = \"mine\"") && after.lines().count() == 2,
            "{after}"
        );
        assert!(after.contains("expect = 2"), "{after}");
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert!(matches!(write_rules(BEFORE, "model.c", &[norms()]), Err(EditError::NoTable(_))));
        assert!(matches!(
            write_rules("[model.a]\nrule = 3\n", "model.a", &[norms()]),
            Err(EditError::NotRules(_))
        ));
        assert!(matches!(write_rules("= 3", "model.a", &[norms()]), Err(EditError::Syntax(_))));
    }

    #[test]
    fn text_to_paste_is_what_is_written() {
        let text = norms().toml("model.a");
        assert!(write_rules(BEFORE, "model.a", &[norms()]).unwrap().contains(&text), "{text}");
    }
}
