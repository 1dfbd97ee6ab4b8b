//! Is each node what its operator says: its attributes, of their kinds, and subgraphs of the right size. TensorRT takes
//! what it looks for, or nothing, and says nothing.

use std::collections::BTreeSet;

use super::error::Problems;
use super::names::{initializer_names, node_name, plain, subgraphs};
use super::proto::attribute_proto::AttributeType as Kind;
use super::proto::tensor_proto::DataType;
use super::proto::{AttributeProto, GraphProto, NodeProto};
use super::read::Model;
use super::schema::schema;
use super::tensor;
use crate::diagnostic::Diagnostic;

/// Checks a node by itself: what everything else rests on.
pub(super) fn check(node: &NodeProto, problems: &mut Problems) {
    let name = node_name(node);
    let mut bad = bad(node, problems);
    if node.op_type().is_empty() {
        bad("no-operator", format!("node `{name}` has no operator"));
    }
    let mut names = BTreeSet::new();
    for attribute in &node.attribute {
        if !names.insert(attribute.name()) {
            bad(
                "duplicate-attribute",
                format!("node `{name}` has the attribute `{}` twice", attribute.name()),
            );
        }
    }
    match (plain(node.domain()), node.op_type()) {
        ("", "Constant") if values(node) == 0 => {
            bad("constant-without-value", format!("node `{name}` is a Constant without a value"));
        }
        ("", "If" | "Scan" | "SequenceMap") => subgraph_outputs(node, 0, &mut bad),
        // A Loop's subgraph gives the condition first.
        ("", "Loop") => subgraph_outputs(node, 1, &mut bad),
        _ => {}
    }
    drop(bad);
    if plain(node.domain()).is_empty() {
        integers(node, problems);
    }
}

/// Checks the nodes of a model whose functions stand in the place of their calls: what TensorRT would read as something.
pub(super) fn check_all(model: &Model, problems: &mut Problems) {
    let opset = model.opset().unwrap_or(0);
    let mut open = vec![model.graph()];
    while let Some(graph) = open.pop() {
        for node in &graph.node {
            let mut bad = bad(node, problems);
            references(node, &mut bad);
            if node.domain().is_empty() {
                standard(node, opset, &mut bad);
            }
            open.extend(subgraphs(node));
        }
    }
}

/// Tells what is wrong with a node, by code and message.
fn bad<'a>(node: &'a NodeProto, problems: &'a mut Problems) -> impl FnMut(&'static str, String) + 'a {
    let help =
        "ONNX does not allow it: export the model again, with another version of the exporter if need be";
    move |code, message| problems.push_at(node, Diagnostic::error(code, message).help(help))
}

/// How many values a Constant has.
fn values(node: &NodeProto) -> usize {
    let is_value = |a: &&AttributeProto| a.name() == "sparse_value" || a.name().starts_with("value");
    node.attribute.iter().filter(is_value).count()
}

fn references(node: &NodeProto, bad: &mut dyn FnMut(&'static str, String)) {
    for attribute in node.attribute.iter().filter(|a| !a.ref_attr_name().is_empty()) {
        let (own, other, name) = (attribute.name(), attribute.ref_attr_name(), node_name(node));
        let message = format!("`{own}` of node `{name}` refers to `{other}` of a function, and is in none");
        bad("attribute-reference", message);
    }
}

/// A node of an operator of ONNX itself.
fn standard(node: &NodeProto, opset: i64, bad: &mut dyn FnMut(&'static str, String)) {
    let (name, op) = (node_name(node), node.op_type());
    if schema("", op, i64::MAX).is_some() {
        for attribute in &node.attribute {
            let Some(kind) = kind(attribute.name(), opset) else { continue };
            let given = attribute.r#type();
            // Files of the first IR version do not say it.
            if given != kind && given != Kind::Undefined {
                let (given, kind) = (word(given), word(kind));
                let message =
                    format!("`{}` of node `{name}` is {given}, and must be {kind}", attribute.name());
                bad("attribute-kind", message);
            }
        }
    }
    match op {
        "Constant" if values(node) > 1 => {
            let message = format!("node `{name}` is a Constant with {} values", values(node));
            bad("constant-with-several-values", message);
        }
        "Cast" => {
            if let Some(why) = cast_to(node) {
                bad("cast-to", format!("node `{name}` is a Cast {why}"));
            }
        }
        "If" | "Loop" | "Scan" | "SequenceMap" => subgraph_inputs(node, opset, bad),
        _ => {}
    }
}

/// What is wrong with the type that a Cast gives.
fn cast_to(node: &NodeProto) -> Option<String> {
    let Some(to) = node.attribute.iter().find(|a| a.name() == "to") else {
        return Some("to no type: it has no `to`".to_owned());
    };
    let number = to.i();
    let is_known =
        i32::try_from(number).is_ok_and(|number| number != 0 && tensor::element_name(number).is_some());
    // Before opset 6, the type was a word.
    let is_word = || {
        std::str::from_utf8(to.s()).is_ok_and(|w| DataType::from_str_name(&w.to_ascii_uppercase()).is_some())
    };
    let is_good = is_known || is_word();
    (!is_good).then(|| format!("to type {number}, which is not known"))
}

/// Subgraphs that give too few values; they give so many of their own first.
fn subgraph_outputs(node: &NodeProto, own: usize, bad: &mut dyn FnMut(&'static str, String)) {
    let (name, wanted) = (node_name(node), node.output.len() + own);
    for attribute in &node.attribute {
        let Some(given) = attribute.g.as_ref().map(|graph| graph.output.len()).filter(|g| *g < wanted) else {
            continue;
        };
        let body = attribute.name();
        let message = format!("`{body}` of node `{name}` gives {given} values, and must give {wanted}");
        bad("subgraph-outputs", message);
    }
}

/// Subgraphs that are given another number of values than they take.
fn subgraph_inputs(node: &NodeProto, opset: i64, bad: &mut dyn FnMut(&'static str, String)) {
    let wanted = match node.op_type() {
        "If" => 0,
        // The round and the condition, whether the Loop has a trip count and a condition or not.
        "Loop" => node.input.len().max(2),
        // Lengths of sequences come first, and are not handed on.
        "Scan" if opset == 8 => node.input.len().saturating_sub(1),
        _ => node.input.len(),
    };
    let name = node_name(node);
    for attribute in &node.attribute {
        let Some(graph) = &attribute.g else { continue };
        let (body, has) = (attribute.name(), graph.input.len());
        if has != wanted && free_inputs(graph) != wanted {
            let message = format!("`{body}` of node `{name}` has {has} inputs, and must have {wanted}");
            bad("subgraph-inputs", message);
        }
    }
}

/// How many inputs of a graph are no initializers: files of IR version 3 list those as well.
fn free_inputs(graph: &GraphProto) -> usize {
    let initializers: BTreeSet<&str> = initializer_names(graph).collect();
    graph.input.iter().filter(|input| !initializers.contains(input.name())).count()
}

/// Refuses integers that TensorRT keeps 32 bits of without a word: an axis of 2^32 would be the first one.
fn integers(node: &NodeProto, problems: &mut Problems) {
    // Of these, it takes 64 bits (what ends at the largest number ends at the end), or nothing: a seed.
    if matches!(node.op_type(), "Constant" | "Dropout" | "Shape" | "Slice" | "TfIdfVectorizer") {
        return;
    }
    for attribute in &node.attribute {
        let mut integers = attribute.i.iter().chain(&attribute.ints);
        let Some(large) = integers.find(|integer| i32::try_from(**integer).is_err()) else { continue };
        let (node_name, name) = (node_name(node), attribute.name());
        let message = format!("`{name}` of node `{node_name}` is {large}, beyond 32 bits");
        let error = Diagnostic::error("attribute-too-large", message);
        problems.push_at(node, error.note("TensorRT would take its lower 32 bits and say nothing"));
    }
}

/// The kind of an attribute that every operator of ONNX which has it gives the same; none for others.
fn kind(name: &str, opset: i64) -> Option<Kind> {
    Some(match name {
        "align_corners"
        | "allowzero"
        | "antialias"
        | "axis"
        | "batch_axis"
        | "batch_dims"
        | "blocksize"
        | "ceil_mode"
        | "center_point_box"
        | "count_include_pad"
        | "dtype"
        | "exclude_outside"
        | "exclusive"
        | "fmod"
        | "group"
        | "hidden_size"
        | "input_forget"
        | "interleaved"
        | "is_causal"
        | "keepdims"
        | "kv_num_heads"
        | "largest"
        | "layout"
        | "left_window_size"
        | "linear_before_reset"
        | "noop_with_empty_axes"
        | "num_groups"
        | "num_heads"
        | "num_outputs"
        | "num_scan_inputs"
        | "output_dtype"
        | "q_num_heads"
        | "reverse"
        | "right_window_size"
        | "rotary_embedding_dim"
        | "sampling_ratio"
        | "select_last_index"
        | "sorted"
        | "stash_type"
        | "storage_order"
        | "training_mode"
        | "transA"
        | "transB"
        | "upper"
        | "value_int" => Kind::Int,
        // A word in a Cast before opset 6.
        "to" if opset > 5 => Kind::Int,
        "axes"
        | "dilations"
        | "ends"
        | "kernel_shape"
        | "output_padding"
        | "output_shape"
        | "pads"
        | "perm"
        | "scan_input_axes"
        | "scan_input_directions"
        | "scan_output_axes"
        | "scan_output_directions"
        | "split"
        | "starts"
        | "strides"
        | "value_ints" => Kind::Ints,
        "alpha"
        | "beta"
        | "clip"
        | "cubic_coeff_a"
        | "epsilon"
        | "extrapolation_value"
        | "gamma"
        | "lambd"
        | "max"
        | "min"
        | "momentum"
        | "ratio"
        | "softcap"
        | "spatial_scale"
        | "value_float" => Kind::Float,
        "activation_alpha" | "activation_beta" | "scales" | "value_floats" => Kind::Floats,
        "approximate"
        | "auto_pad"
        | "coordinate_transformation_mode"
        | "direction"
        | "equation"
        | "mode"
        | "nearest_mode"
        | "padding_mode"
        | "reduction"
        | "value_string" => Kind::String,
        "activations" | "value_strings" => Kind::Strings,
        "body" | "else_branch" | "then_branch" => Kind::Graph,
        _ => return None,
    })
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Undefined => "of no kind",
        Kind::Float => "a float",
        Kind::Int => "an integer",
        Kind::String => "a text",
        Kind::Tensor => "a tensor",
        Kind::Graph => "a graph",
        Kind::SparseTensor => "a sparse tensor",
        Kind::TypeProto => "a type",
        Kind::Floats => "a list of floats",
        Kind::Ints => "a list of integers",
        Kind::Strings => "a list of texts",
        Kind::Tensors => "a list of tensors",
        Kind::Graphs => "a list of graphs",
        Kind::SparseTensors => "a list of sparse tensors",
        Kind::TypeProtos => "a list of types",
    }
}
