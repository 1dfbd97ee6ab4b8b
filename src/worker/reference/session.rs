//! A model in ONNX Runtime.

use std::path::Path;

use ort::environment::Environment;
use ort::memory::Allocator;
use ort::session::SessionInputValue;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{DynTensor, DynTensorValueType, DynValue, Shape, TensorElementType, ValueType};

use super::{Refusal, Result, refusal, refused};
use crate::fs;
use crate::onnx::{self, MODEL_FILE, Model};
use crate::verify::{Array, Sample};

/// Element types, in ONNX's words and in the library's.
const TYPES: [(&str, TensorElementType); 13] = [
    ("float", TensorElementType::Float32),
    ("double", TensorElementType::Float64),
    ("float16", TensorElementType::Float16),
    ("bfloat16", TensorElementType::Bfloat16),
    ("int8", TensorElementType::Int8),
    ("int16", TensorElementType::Int16),
    ("int32", TensorElementType::Int32),
    ("int64", TensorElementType::Int64),
    ("uint8", TensorElementType::Uint8),
    ("uint16", TensorElementType::Uint16),
    ("uint32", TensorElementType::Uint32),
    ("uint64", TensorElementType::Uint64),
    ("bool", TensorElementType::Bool),
];

/// A model that can be run.
pub(super) struct Session {
    session: ort::session::Session,
}

/// The IR version of what ONNX Runtime is given, at most. Exporters write the newest as soon as it is there, and ONNX Runtime
/// refuses a newer one than its own whatever the model holds; operators and types it knows or refuses by themselves.
const IR_VERSION: i64 = 10;

impl Session {
    /// Writes a model into a folder, and opens it.
    pub(super) fn open(
        environment: &Environment,
        model: Model,
        folder: &Path,
        what: &str,
    ) -> Result<Session> {
        write(model, folder)?;
        Session::load(environment, &folder.join(MODEL_FILE), what)
    }

    /// Opens a file of ours.
    pub(super) fn load(environment: &Environment, file: &Path, what: &str) -> Result<Session> {
        let opened = || -> std::result::Result<ort::session::Session, String> {
            let text = |e: ort::Error<ort::session::builder::SessionBuilder>| e.to_string();
            let builder = ort::session::Session::builder(environment).map_err(|e| e.to_string())?;
            builder
                .with_optimization_level(GraphOptimizationLevel::Disable)
                .and_then(|b| b.with_intra_threads(1))
                .and_then(|b| b.with_inter_threads(1))
                .and_then(|b| b.with_deterministic_compute(true))
                // Inputs change their shape from sample to sample.
                .and_then(|b| b.with_memory_pattern(false))
                .map_err(text)?
                .commit_from_file(file)
                .map_err(|e| e.to_string())
        };
        Ok(Session { session: opened().map_err(|e| cannot_run(what, "load", &e))? })
    }

    /// The outputs of these names.
    pub(super) fn run(&mut self, sample: &Sample, outputs: &[String], what: &str) -> Result<Vec<Array>> {
        let mut inputs: Vec<(String, SessionInputValue<'static>)> = Vec::new();
        for outlet in self.session.inputs() {
            let Some(array) = sample.arrays.get(outlet.name()) else { continue };
            // The oracle's inputs may be declared in other types than the model's: it is given what they hold.
            let element = match outlet.dtype() {
                ValueType::Tensor { ty, .. } => TYPES.iter().find(|(_, of)| of == ty).map(|(name, _)| *name),
                _ => None,
            };
            let value = to_value(&array.to(element.unwrap_or(&array.element)))
                .map_err(|e| cannot_run(what, "run", &e))?;
            inputs.push((outlet.name().to_owned(), value.into()));
        }
        let failed = |e: &str| {
            let mut refusal = cannot_run(what, "run", e);
            refusal.message = format!("{} (sample `{}`)", refusal.message, sample.name);
            refusal
        };
        let mut found = self.session.run(inputs).map_err(|e| failed(&e.to_string()))?;
        let array = |name: &String| {
            let value = found.remove(name).ok_or_else(|| failed(&format!("it gives no output `{name}`")))?;
            to_array(value).map_err(|e| failed(&format!("output `{name}`: {e}")))
        };
        outputs.iter().map(array).collect()
    }
}

/// Writes a model into a folder, for ONNX Runtime, which refuses two nodes of one name where TensorRT does not.
pub(super) fn write(model: Model, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| refused(&e.into()))?;
    let model = model.of_ir_version(IR_VERSION).with_unique_names();
    onnx::write_canonical(model, folder).map(drop).map_err(|e| refused(&e))
}

/// ONNX Runtime's words name the node; they can be long.
fn cannot_run(what: &str, verb: &str, error: &str) -> Box<Refusal> {
    let mut text: String = error.trim().chars().take(2000).collect();
    if text.len() < error.trim().len() {
        text.push('…');
    }
    let mut refusal =
        refusal("reference", "reference-failed", format!("ONNX Runtime cannot {verb} {what}: {text}"));
    // What ONNX Runtime says of a Gather: in made-up inputs, a position or a number that a table is too short for.
    let help = if error.contains("out of data bounds") {
        "a profile has larger sizes than the model (a table of positions ends), or the inputs have larger numbers: \
         correct `profile`, or give the numbers' range in `ranges` of `verify.inputs`"
    } else if what == super::ORACLE {
        "the model as exported runs there, and the oracle does not, which is that model in the types of the engine: if it is \
         a number of 16 bits that makes a shape another one, keep the nodes that compute it FP32 by a rule, and report it else"
    } else {
        "accuracy is measured on a CPU: a model that ONNX Runtime does not run there as it was exported cannot be verified"
    };
    refusal.help.push(help.to_owned());
    refusal
}

#[expect(unsafe_code, reason = "bytes of any element type")]
fn to_value(array: &Array) -> std::result::Result<DynValue, String> {
    let Some((_, element)) = TYPES.iter().find(|(name, _)| *name == array.element) else {
        return Err(format!("inputs of {} cannot be given", array.element));
    };
    let shape = Shape::new(array.shape.iter().copied());
    let mut tensor =
        DynTensor::new(&Allocator::default(), *element, shape.clone()).map_err(|e| e.to_string())?;
    let size = element.byte_size(shape.num_elements()).unwrap_or(0);
    if size != array.bytes.len() {
        return Err(format!("{} bytes are no {:?} of {}", array.bytes.len(), array.shape, array.element));
    }
    let to = tensor.data_ptr_mut().cast::<u8>();
    if size > 0 && !to.is_null() {
        // SAFETY: the tensor is of this type and shape, and so has `size` bytes; it is on the CPU and nobody else's.
        unsafe { std::ptr::copy_nonoverlapping(array.bytes.as_ptr(), to, size) };
    }
    Ok(tensor.into_dyn())
}

#[expect(unsafe_code, reason = "bytes of any element type")]
fn to_array(value: DynValue) -> std::result::Result<Array, String> {
    let tensor = value.downcast::<DynTensorValueType>().map_err(|_| "it is not a tensor".to_owned())?;
    let ValueType::Tensor { ty, shape, .. } = tensor.dtype() else {
        return Err("it is not a tensor".to_owned());
    };
    let Some((element, _)) = TYPES.iter().find(|(_, of)| of == ty) else {
        return Err(format!("tensors of {ty:?} cannot be compared"));
    };
    let size = ty.byte_size(shape.num_elements()).unwrap_or(0);
    let mut bytes = vec![0; size];
    let from = tensor.data_ptr().cast::<u8>();
    if size > 0 {
        if from.is_null() {
            return Err("it has no data".to_owned());
        }
        // SAFETY: a tensor of this type and shape has `size` bytes; outputs are on the CPU.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), size) };
    }
    Ok(Array { element: (*element).to_owned(), shape: shape.to_vec(), bytes })
}

#[cfg(test)]
mod tests {
    use super::super::{ORACLE, SOURCE};
    use super::cannot_run;

    #[test]
    fn which_of_the_two_cannot_be_run_is_said() {
        let source = cannot_run(SOURCE, "load", "NonZero is not implemented");
        assert!(source.help[0].contains("does not run there as it was exported"), "{source:?}");
        let oracle = cannot_run(ORACLE, "run", "4095 by 4096");
        assert!(
            oracle.help[0].starts_with("the model as exported runs there, and the oracle does not"),
            "{oracle:?}"
        );
        assert!(cannot_run(ORACLE, "run", "idx is out of data bounds").help[0].contains("correct `profile`"));
    }
}
