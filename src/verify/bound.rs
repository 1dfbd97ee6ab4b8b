//! How large the integers may be that an input feeds into lookups.

use std::collections::BTreeMap;

use crate::onnx::Model;
use crate::onnx::graph::{GraphView, ValueId};

/// Operators that pass indices on.
const PASSED: [&str; 9] =
    ["Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand", "Slice"];

/// For every input of the graph that is used as an index into a table of known length (`Gather`, `GatherElements`,
/// `OneHot`): the number of entries of the shortest.
#[must_use]
pub fn index_bounds(model: &Model) -> BTreeMap<String, i64> {
    let proto = model.proto();
    let view = GraphView::new(proto);
    let mut bounds = BTreeMap::new();
    for input in &model.graph().input {
        if let Some(value) = view.find(0, input.name())
            && let Some(bound) = bound_of(&view, value, 0)
        {
            bounds.insert(input.name().to_owned(), bound);
        }
    }
    bounds
}

fn bound_of(view: &GraphView<'_>, value: ValueId, depth: usize) -> Option<i64> {
    if depth > 16 {
        return None;
    }
    let of_consumer = |node| -> Option<i64> {
        match view.op(node) {
            op if PASSED.contains(&op) && view.input(node, 0) == Some(value) => {
                bound_of(view, view.output(node, 0)?, depth + 1)
            }
            "Gather" | "GatherElements" if view.input(node, 1) == Some(value) => {
                let table = table_of(view, view.input(node, 0)?, 0)?;
                let axis = view.int(node, "axis", 0)?;
                let rank = i64::try_from(table.len()).ok()?;
                table.get(usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?).copied()
            }
            "OneHot" if view.input(node, 0) == Some(value) => {
                view.constant(view.input(node, 1)?)?.ints()?.first().copied()
            }
            _ => None,
        }
    };
    view.value(value).consumers.iter().filter_map(|node| of_consumer(*node)).min()
}

/// The dimensions of a table of constants, which may be quantized: scaled by an operator, or by arithmetic.
fn table_of(view: &GraphView<'_>, table: ValueId, depth: usize) -> Option<Vec<i64>> {
    if let Some(constant) = view.constant(table) {
        return Some(constant.dims());
    }
    let producer = view.value(table).producer.filter(|_| depth < 8)?;
    let of_input = |i| table_of(view, view.input(producer, i)?, depth + 1);
    match view.op(producer) {
        "DequantizeLinear" | "Cast" => of_input(0),
        "Mul" | "Add" | "Sub" | "Div" => {
            let (a, b) = (of_input(0)?, of_input(1)?);
            let (longer, shorter) = if a.len() >= b.len() { (a, b) } else { (b, a) };
            let skipped = longer.len() - shorter.len();
            let broadcast =
                |(i, dim): (usize, &i64)| (*dim).max(if i < skipped { 1 } else { shorter[i - skipped] });
            Some(longer.iter().enumerate().map(broadcast).collect())
        }
        _ => None,
    }
}
