//! Is an engine's interface the one that its model declares? TensorRT says nothing where it reads an operator otherwise
//! than ONNX does, and an output of another shape is often all that shows it.
//!
//! A function of what is recorded, so that an engine from the cache is held against it too.

use std::path::Path;

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::manifest::Engine;
use crate::onnx::{Dim, Summary, Tensor};
use crate::plan::show_dims;
use crate::worker::protocol::Binding;

/// What differs: inputs and outputs that are missing, and those of another type, rank or size. What is dynamic on one
/// side is no difference.
pub(super) fn differences(engine: &Engine, model: &Summary, info: &Value, file: &Path) -> Vec<Diagnostic> {
    let recorded = info.get("bindings").cloned().unwrap_or_default();
    // Nothing is said of what was not recorded: every engine has an output.
    let bindings = serde_json::from_value::<Vec<Binding>>(recorded).unwrap_or_default();
    if bindings.is_empty() {
        return Vec::new();
    }
    let inputs = model.inputs.iter().map(|tensor| (tensor, "input"));
    let outputs = model.outputs.iter().map(|tensor| (tensor, "output"));
    let differs = |(tensor, kind): (&Tensor, &str)| {
        let name = &tensor.name;
        let Some(binding) = bindings.iter().find(|b| b.name == *name && b.kind == kind) else {
            let message = format!("`{}` has no {kind} `{name}`, which the model declares", engine.name);
            return Some(Diagnostic::error("engine-interface", message).in_file(file));
        };
        let wanted = element(engine, tensor).unwrap_or(&binding.element);
        if wanted == binding.element && same_dims(tensor, &binding.dims) {
            return None;
        }
        let declared = show_dims(&Tensor { element: wanted.to_owned(), ..tensor.clone() });
        let found = show_dims(&Tensor {
            element: binding.element.clone(),
            dims: Some(
                binding
                    .dims
                    .iter()
                    .map(|dim| if *dim < 0 { Dim::Unknown } else { Dim::Fixed(*dim) })
                    .collect(),
            ),
            ..tensor.clone()
        });
        let message =
            format!("{kind} `{name}` of `{}` is {found}, and the model declares {declared}", engine.name);
        let note =
            "the declaration is stale, or TensorRT reads an operator before it otherwise than ONNX says";
        let help = "run the model in ONNX Runtime: if the output has the shape that TensorRT gives, mend the declaration \
                    (export again, or `onnx.shape_inference`); else replace the operator that TensorRT misreads";
        Some(Diagnostic::error("engine-interface", message).in_file(file).note(note).help(help))
    };
    inputs.chain(outputs).filter_map(differs).collect()
}

/// The type that is wanted of an input or output, in TensorRT's words; none if it is not known.
fn element<'a>(engine: &'a Engine, tensor: &'a Tensor) -> Option<&'a str> {
    let word = engine.io.get(&tensor.name).map_or(tensor.element.as_str(), |of| of.name());
    Some(match word {
        // TensorRT has no doubles, which is told elsewhere.
        "fp32" | "float" | "double" => "float",
        "fp16" | "float16" => "half",
        "bf16" | "bfloat16" => "bf16",
        "int8" | "uint8" | "int32" | "int64" | "bool" => word,
        _ => return None,
    })
}

fn same_dims(declared: &Tensor, found: &[i64]) -> bool {
    // Exporters that do not know a shape leave it out, or write one without dimensions.
    let Some(dims) = declared.dims.as_ref().filter(|dims| !dims.is_empty()) else { return true };
    let same = |(declared, found): (&Dim, &i64)| match declared {
        Dim::Fixed(size) => *found < 0 || size == found,
        Dim::Param(_) | Dim::Unknown => true,
    };
    dims.len() == found.len() && dims.iter().zip(found).all(same)
}
