//! Inputs and outputs of the parsed network.

use trtx_sys::DataType;
use trtx_sys::nvinfer1::ITensor;

use super::super::protocol::Binding;
use super::builder::Builder;
use super::{Result, refuse, text};

/// What goes in and what comes out.
pub(super) struct Ports {
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
}

/// An input or output.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) element: &'static str,
    /// Dimensions; -1 is dynamic.
    pub(super) dims: Vec<i64>,
    /// Are its values needed to know other shapes?
    pub(super) is_shape: bool,
}

impl Port {
    /// Has it a dynamic dimension?
    pub(super) fn is_dynamic(&self) -> bool {
        self.dims.contains(&-1)
    }

    fn binding(&self, kind: &str) -> Binding {
        Binding {
            name: self.name.clone(),
            kind: kind.to_owned(),
            element: self.element.to_owned(),
            dims: self.dims.clone(),
        }
    }
}

impl Ports {
    /// As they are told to the outside.
    pub(super) fn bindings(&self) -> Vec<Binding> {
        let inputs = self.inputs.iter().map(|port| port.binding("input"));
        inputs.chain(self.outputs.iter().map(|port| port.binding("output"))).collect()
    }
}

/// Reads them from the network. A network without outputs, as an empty file gives, would be noticed
/// in the build only.
#[expect(unsafe_code, reason = "tensors are bare pointers")]
pub(super) fn ports(builder: &mut Builder) -> Result<Ports> {
    let inputs = builder.network().getNbInputs();
    let outputs = builder.network().getNbOutputs();
    if outputs < 1 {
        return refuse("parse", "no-outputs", "the model has no outputs");
    }
    // SAFETY: indices are below the count; tensors belong to the network, which lives for ever.
    unsafe {
        Ok(Ports {
            inputs: (0..inputs).map(|i| port(builder.network().getInput(i))).collect::<Result<_>>()?,
            outputs: (0..outputs).map(|i| port(builder.network().getOutput(i))).collect::<Result<_>>()?,
        })
    }
}

/// # Safety
/// `tensor` is null or a live tensor.
#[expect(unsafe_code, reason = "tensors are bare pointers")]
unsafe fn port(tensor: *const ITensor) -> Result<Port> {
    // SAFETY: as the caller promises.
    let Some(tensor) = (unsafe { tensor.as_ref() }) else {
        return refuse("parse", "parse-failed", "the network lacks one of its inputs or outputs");
    };
    let dims = tensor.getDimensions();
    // -1 dimensions: the rank is unknown.
    let rank = usize::try_from(dims.nbDims).unwrap_or(0).min(dims.d.len());
    // SAFETY: the name is a C string that the tensor owns.
    let name = unsafe { text(tensor.getName()) };
    Ok(Port {
        name,
        element: element(tensor.getType().into()),
        dims: dims.d[..rank].to_vec(),
        is_shape: tensor.isShapeTensor(),
    })
}

/// TensorRT's own words.
fn element(data_type: DataType) -> &'static str {
    match data_type {
        DataType::kFLOAT => "float",
        DataType::kHALF => "half",
        DataType::kINT8 => "int8",
        DataType::kINT32 => "int32",
        DataType::kBOOL => "bool",
        DataType::kUINT8 => "uint8",
        DataType::kFP8 => "fp8",
        DataType::kBF16 => "bf16",
        DataType::kINT64 => "int64",
        DataType::kINT4 => "int4",
        DataType::kFP4 => "fp4",
        DataType::kE8M0 => "e8m0",
    }
}
