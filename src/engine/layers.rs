//! What full TensorRT tells of the layers of an engine (`trtexec --exportLayerInfo`), as facts.
//!
//! Two spellings of types are known: sentences up to 10.x (`Row major linear FP16 format`) and words (`Half`). A layer names
//! the ONNX nodes that it carries out in its metadata, `[ONNX Layer: a]`; without that, by its own name.

use std::collections::BTreeMap;

use serde_json::Value;

use super::facts::{self, Facts, Kernel, LAYER, Operand};
use super::header::Header;
use super::proof::UNREADABLE;

/// How many layers are read.
const MAX_LAYERS: usize = 100_000;

impl Facts {
    /// From the layers that TensorRT told. `names` are names of nodes by what they are called in the ONNX that was built.
    #[must_use]
    pub fn of_layers(json: &[u8], header: Option<Header>, names: &BTreeMap<String, String>) -> Facts {
        let mut facts = Facts::none(header);
        let told: Value = serde_json::from_slice(json).unwrap_or_default();
        let list = ["Layers", "layers"].iter().find_map(|key| told.get(key)).unwrap_or(&told);
        let Some(layers) = list.as_array() else {
            facts.is_whole = false;
            return facts;
        };
        facts.is_whole = layers.len() <= MAX_LAYERS;
        facts.kernels = layers.iter().take(MAX_LAYERS).filter_map(|layer| kernel(layer, names)).collect();
        facts
    }
}

fn kernel(layer: &Value, names: &BTreeMap<String, String>) -> Option<Kernel> {
    let text = |key: &str| layer.get(key).and_then(Value::as_str);
    // With less than detailed profiling, a layer is its name alone.
    let name = layer.as_str().or_else(|| text("Name"))?;
    let kind = text("LayerType").unwrap_or("layer");
    let nodes = match text("Metadata").filter(|metadata| metadata.contains(LAYER)) {
        Some(metadata) => facts::layers(metadata).into_iter().map(str::to_owned).collect(),
        None => of_name(name),
    };
    let mut layers: Vec<String> =
        nodes.into_iter().map(|node| names.get(&node).cloned().unwrap_or(node)).collect();
    layers.sort();
    layers.dedup();
    if layers.is_empty() {
        return None;
    }
    let tensors = |key: &str| -> Vec<String> {
        let list = layer.get(key).and_then(Value::as_array);
        list.into_iter().flatten().map(element).filter(|of| is_data(of)).collect()
    };
    Some(Kernel {
        kind: kind_of(kind),
        name: name.to_owned(),
        layers,
        inputs: tensors("Inputs").into_iter().map(|of| Operand { of, constant: false }).collect(),
        outputs: tensors("Outputs"),
        accumulation: None,
        arithmetic: None,
    })
}

fn kind_of(kind: &str) -> String {
    match kind {
        "Reformat" | "NoOp" | "Constant" | "Shuffle" => "copy".to_owned(),
        _ => kind.to_owned(),
    }
}

/// `a + b`, `PWN(a)`: the nodes that a name tells itself.
fn of_name(name: &str) -> Vec<String> {
    let parts = name.split(" + ").map(|part| {
        let inner = part.strip_prefix("PWN(").and_then(|part| part.strip_suffix(')'));
        inner.unwrap_or(part).to_owned()
    });
    parts.filter(|part| !part.contains("ForeignNode")).collect()
}

/// The type of a tensor, in the words of facts.
fn element(tensor: &Value) -> String {
    let keys = ["Format/Datatype", "Datatype", "DataType", "Format"];
    let told = keys.iter().find_map(|key| tensor.get(key)).and_then(Value::as_str).unwrap_or_default();
    let words: Vec<String> = told.split_whitespace().map(str::to_lowercase).collect();
    let word = |text: &str| match text {
        "fp32" | "float" => Some("float"),
        "fp16" | "half" => Some("half"),
        "bf16" | "bfloat16" => Some("bf16"),
        "int8" => Some("int8"),
        "int32" => Some("int32"),
        "int64" => Some("int64"),
        "uint8" => Some("uint8"),
        "bool" => Some("bool"),
        "fp8" => Some("fp8"),
        "double" => Some("double"),
        _ => None,
    };
    words.iter().find_map(|text| word(text)).unwrap_or(UNREADABLE).to_owned()
}

fn is_data(of: &str) -> bool {
    !matches!(of, "int64" | "int32" | "bool")
}

#[cfg(test)]
mod tests {
    use super::super::proof::{Verdict, prove};
    use super::*;
    use crate::precision::{Assignment, Decider, FloatType, NodeAssignment};

    fn layer(name: &str, metadata: &str, of: &str) -> String {
        format!(
            r#"{{"Name":"{name}","LayerType":"Reduce","Metadata":"{metadata}",
                "Inputs":[{{"Name":"x","Format/Datatype":"{of}"}}],"Outputs":[{{"Name":"y","Format/Datatype":"{of}"}}]}}"#
        )
    }

    fn verdict(layers: &[String]) -> (Verdict, String) {
        let json = format!(r#"{{"Layers":[{}],"Bindings":["x","y"]}}"#, layers.join(","));
        let header = b"ftrt\0\0\0\0................\x0a\x03\0\x1a";
        let names = BTreeMap::from([("a_b".to_owned(), "a,b".to_owned())]);
        let facts = Facts::of_layers(json.as_bytes(), Header::read(header), &names);
        let node = |name: &str, op: &str, of| NodeAssignment {
            name: name.into(),
            op: op.into(),
            inside: Vec::new(),
            of: Some(of),
            accumulate: None,
            parts: 0,
            layer: None,
            by: Decider::Default,
        };
        let nodes = vec![node("a,b", "ReduceSum", FloatType::Fp32), node("c", "Relu", FloatType::Fp16)];
        let assignment = Assignment { base: FloatType::Fp16, nodes, rules: Vec::new(), opset: None };
        let pin = prove(&facts, &assignment).pins.remove(0);
        (pin.verdict, pin.why)
    }

    #[test]
    fn both_spellings_of_types_prove_and_disprove() {
        for (wide, narrow) in [("Row major linear FP32", "Row major linear FP16 format"), ("Float", "Half")] {
            let one = |of| verdict(&[layer("a_b", "[ONNX Layer: a_b]", of)]).0;
            assert_eq!(one(wide), Verdict::Honoured, "{wide}");
            assert_eq!(one(narrow), Verdict::Demoted, "{narrow}");
        }
    }

    #[test]
    fn a_layer_of_several_nodes_proves_nothing() {
        for of in ["Half", "Float"] {
            let fused = layer("f", "[ONNX Layer: a_b]\\u001e[ONNX Layer: c]", of);
            assert_eq!(verdict(&[fused]).0, Verdict::Unknown, "{of}");
        }
    }

    #[test]
    fn a_type_that_cannot_be_read_proves_nothing() {
        let told = layer("a_b", "[ONNX Layer: a_b]", "Float");
        let odd = told.replace("\"Inputs\":[", "\"Inputs\":[{\"Name\":\"z\",\"Format/Datatype\":\"Odd\"},");
        assert_eq!((verdict(&[told]).0, verdict(&[odd]).0), (Verdict::Honoured, Verdict::Unknown));
    }

    #[test]
    fn what_is_not_named_is_unknown() {
        assert_eq!(verdict(&[layer("c", "[ONNX Layer: c]", "Float")]).0, Verdict::Unknown);
        assert_eq!(verdict(&["\"a_b\"".to_owned()]).0, Verdict::Unknown);
        assert_eq!(verdict(&[layer("{ForeignNode[a_b...c]}", "", "Half")]).0, Verdict::Unknown);
        // Without metadata, names are told by the layer's own.
        assert_eq!(verdict(&[layer("PWN(a_b)", "", "Float")]).0, Verdict::Honoured);
    }
}
