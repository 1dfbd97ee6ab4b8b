//! ONNX operators -> names of the layers that TensorRT makes of them: `layers.txt`, read once.

use std::sync::LazyLock;

use super::flags::{Span, contains, spans};
use super::version::Version;

/// The layers of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// Its name names all that computes.
    One,
    /// Its name names the first; the others cannot be named.
    Several,
    /// None is called after it.
    Automatic,
    /// Not known: its name names the first at least.
    Unknown,
}

struct Row {
    layers: Layers,
    versions: Vec<Span>,
    operators: Vec<&'static str>,
}

static TABLE: LazyLock<Vec<Row>> =
    LazyLock::new(|| read(include_str!("layers.txt")).expect("`layers.txt` is tested"));

/// What a version makes of an operator of the default domain.
#[must_use]
pub fn layers(op: &str, version: Version) -> Layers {
    let row = TABLE.iter().find(|row| row.operators.contains(&op) && contains(&row.versions, version));
    row.map_or(Layers::Unknown, |row| row.layers)
}

/// The operators of which a version makes such layers.
pub fn operators(layers: Layers, version: Version) -> impl Iterator<Item = &'static str> {
    let rows = TABLE.iter().filter(move |row| row.layers == layers && contains(&row.versions, version));
    rows.flat_map(|row| row.operators.iter().copied())
}

fn read(text: &'static str) -> Option<Vec<Row>> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&'static str> = line.split('|').map(str::trim).collect();
            let [layers, versions, operators] = fields.as_slice() else { return None };
            let layers = match *layers {
                "one" => Layers::One,
                "several" => Layers::Several,
                "automatic" => Layers::Automatic,
                _ => return None,
            };
            Some(Row { layers, versions: spans(versions)?, operators: operators.split(' ').collect() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        let rows = read(include_str!("layers.txt")).unwrap();
        for version in [Version(8, 6, 1), Version(9, 3, 0), Version(10, 0, 1), Version(10, 3, 0)] {
            let mut seen = std::collections::BTreeSet::new();
            for row in rows.iter().filter(|row| contains(&row.versions, version)) {
                for op in &row.operators {
                    assert!(seen.insert(*op), "{op} twice, in {version}");
                }
            }
        }
    }

    #[test]
    fn what_is_known_differs_by_version() {
        assert_eq!(layers("LayerNormalization", Version(8, 6, 1)), Layers::Automatic);
        assert_eq!(layers("LayerNormalization", Version(10, 0, 1)), Layers::Automatic);
        assert_eq!(layers("LayerNormalization", Version(10, 1, 0)), Layers::One);
        assert_eq!(layers("Softmax", Version(9, 3, 0)), Layers::One);
        assert_eq!(layers("ReduceL2", Version(10, 3, 0)), Layers::Several);
        assert_eq!(layers("LSTM", Version(8, 6, 1)), Layers::Unknown);
    }
}
