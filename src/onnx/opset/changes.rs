//! Which version of which operator asks for which adapter: data of `changes.txt`, read once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::adapters::{self, Adapter};

/// What becomes of a node whose operator has a new version.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// It means the same.
    Same,
    /// It must be adapted.
    Adapt(Adapter),
}

const TEXT: &str = include_str!("changes.txt");

type Table = BTreeMap<(&'static str, i64), Change>;

static TABLE: LazyLock<Table> =
    LazyLock::new(|| parse(TEXT).unwrap_or_else(|word| panic!("changes.txt is damaged at `{word}`")));

/// What version `version` of an operator changed; none if it has no new version there.
pub(super) fn change(op: &str, version: i64) -> Option<Change> {
    // The lifetime of the key is that of the table, but a lookup needs no more than a string.
    let table: &BTreeMap<(&str, i64), Change> = &TABLE;
    table.get(&(op, version)).copied()
}

/// Reads the table, or gives the word that is wrong.
fn parse(text: &'static str) -> Result<Table, &'static str> {
    let mut table = Table::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split(' ');
        let how = words.next().unwrap_or_default();
        let change = match how {
            "same" => Change::Same,
            name => Change::Adapt(adapters::named(name).ok_or(how)?),
        };
        for word in words {
            let (op, version) = word.split_once(':').ok_or(word)?;
            let version = version.parse().map_err(|_| word)?;
            if table.insert((op, version), change).is_some() {
                return Err(word);
            }
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::onnx::schema::versions;

    #[test]
    fn every_new_version_of_every_operator_is_decided() {
        let known: BTreeSet<(&str, i64)> = versions("")
            .flat_map(|(op, all)| all.into_iter().skip(1).map(move |since| (op, since)))
            .filter(|(_, since)| *since > 6)
            .collect();
        let decided: BTreeSet<(&str, i64)> = TABLE.keys().copied().collect();
        let missing: Vec<_> = known.difference(&decided).collect();
        assert!(missing.is_empty(), "not in changes.txt: {missing:?}");
        let unknown: Vec<_> = decided.difference(&known).collect();
        assert!(unknown.is_empty(), "not in schema.txt: {unknown:?}");
    }
}
