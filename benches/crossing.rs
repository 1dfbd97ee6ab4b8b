//! How many values cross to another type, counted from the assignment alone; and a transformer to count in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use enginewright::onnx::proto::{ModelProto, NodeProto};
use enginewright::onnx::testing::transformer::{Norms, Transformer};
use enginewright::onnx::{self, Model};
use enginewright::precision::{Assignment, Capabilities, FloatType, Prepared, Spec, prepare, std_fp16};

/// The canonical form of the model in a file, and that typed with `std-fp16`; `folder` is for the files in between.
pub(crate) fn typed(file: &Path, folder: &Path) -> (Model, Prepared) {
    std::fs::create_dir_all(folder).unwrap();
    let done = onnx::canonicalize(file, folder).unwrap();
    let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap().into();
    let weights = done.has_weights.then(|| bytes(onnx::WEIGHTS_FILE));
    let model = onnx::read_canonical(bytes(onnx::MODEL_FILE), weights).unwrap();
    let capabilities = Capabilities { demotes_lone_gemm: true, without: Vec::new(), max_opset: None };
    let spec = Spec::new(FloatType::Fp16, std_fp16::rules(), capabilities);
    let prepared = prepare(&model, &spec).unwrap();
    (model, prepared)
}

/// Values of the main graph that one node makes in a type and another reads in another type, each once for every
/// such type. Constants, which can be stored in any type, are none.
pub(crate) fn crossings(model: &Model, assignment: &Assignment) -> usize {
    let types = onnx::element_types(model);
    let float = |name: &str| FloatType::of_type(types.get(types.graph(), name));
    let graph = model.graph();
    let assigned = assignment.nodes.iter().filter(|node| node.inside.is_empty());
    let mut made: BTreeMap<&str, FloatType> =
        graph.input.iter().filter_map(|v| Some((v.name(), float(v.name())?))).collect();
    // What a Cast between float types casts.
    let mut source: BTreeMap<&str, &str> = BTreeMap::new();
    let mut crossing: BTreeSet<(&str, FloatType)> = BTreeSet::new();
    for (node, assigned) in graph.node.iter().zip(assigned) {
        let inputs = node.input.iter().filter(|name| float(name).is_some());
        let inputs: Vec<&str> =
            inputs.map(|name| source.get(name.as_str()).copied().unwrap_or(name.as_str())).collect();
        let outputs = node.output.iter().filter(|name| float(name).is_some());
        match (assigned.of, node.op_type()) {
            (Some(of), _) => {
                crossing.extend(
                    inputs.iter().filter(|n| made.get(*n).is_some_and(|m| *m != of)).map(|n| (*n, of)),
                );
                made.extend(outputs.map(|name| (name.as_str(), of)));
            }
            (None, "Cast") => source.extend(outputs.zip(inputs).map(|(to, from)| (to.as_str(), from))),
            (None, _) => {}
        }
    }
    for output in &graph.output {
        let name = source.get(output.name()).copied().unwrap_or(output.name());
        if let (Some(of), Some(made)) = (float(output.name()), made.get(name))
            && of != *made
        {
            crossing.insert((name, of));
        }
    }
    crossing.len()
}

/// Casts between float types in the main graph.
pub(crate) fn casts(model: &Model) -> usize {
    let types = onnx::element_types(model);
    let float = |names: &[String]| {
        names.first().is_some_and(|name| FloatType::of_type(types.get(types.graph(), name)).is_some())
    };
    let is_cast = |node: &&NodeProto| node.op_type() == "Cast" && float(&node.input) && float(&node.output);
    model.graph().node.iter().filter(is_cast).count()
}

/// A transformer with an additive mask and LayerNorms in many nodes.
pub(crate) fn transformer(layers: usize, d: i64) -> ModelProto {
    Transformer { d, layers, mask: Some(-1e4), ..Transformer::small(Norms::Decomposed) }.model()
}
