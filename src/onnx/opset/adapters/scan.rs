//! Scan.

use super::super::site::{Outcome, Site};
use crate::onnx::make;
use crate::onnx::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::onnx::subgraphs;

/// Opset 9: without a batch. An outer Scan goes over the batch, whose axis is the first of every value, and
/// the Scan inside goes over the sequence.
pub(super) fn batch(site: &mut Site<'_, '_, '_>) -> Outcome {
    if !site.input_name(0).is_empty() {
        return Err("its sequences have lengths of their own (`sequence_lens`)".to_owned());
    }
    if subgraphs(&site.node).any(holds_scan) {
        return Err("it holds another Scan of opset 8".to_owned());
    }
    let inputs = site.node.input.split_off(1.min(site.node.input.len()));
    let directions = site.ints("directions")?;
    let count = i64::try_from(inputs.len()).unwrap_or(i64::MAX);

    let mut inner = site.node.clone();
    let name = |site: &mut Site<'_, '_, '_>, what: &str, i: usize| site.fresh(&format!("{what}_{i}"));
    inner.input = (0..inputs.len()).map(|i| name(site, "item", i)).collect();
    inner.output = (0..site.node.output.len()).map(|i| name(site, "result", i)).collect();
    inner.name = Some(site.fresh("sequence"));
    inner.attribute.retain(|a| a.name() != "directions");
    inner.attribute.extend(directions.map(|list| make::ints("scan_input_directions", &list)));

    let declare = |names: &[String]| {
        let value = |name: &String| ValueInfoProto { name: Some(name.clone()), ..ValueInfoProto::default() };
        names.iter().map(value).collect::<Vec<_>>()
    };
    let body = GraphProto {
        name: Some("batch".to_owned()),
        input: declare(&inner.input),
        output: declare(&inner.output),
        node: vec![inner],
        ..GraphProto::default()
    };
    site.node.input = inputs;
    site.node.attribute = vec![make::graph("body", body), make::int("num_scan_inputs", count)];
    Ok(())
}

fn holds_scan(graph: &GraphProto) -> bool {
    let holds = |node: &NodeProto| node.op_type() == "Scan" || subgraphs(node).any(holds_scan);
    graph.node.iter().any(holds)
}
