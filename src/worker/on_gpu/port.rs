//! Inputs and outputs of an engine, and the memory that they lie in.

use std::ffi::{CStr, CString, c_void};

use trtx_sys::nvinfer1::ICudaEngine;
use trtx_sys::{DataType, TensorIOMode, TensorLocation};

use super::device::{Device, Memory};
use super::refusal;
use crate::verify::width;
use crate::worker::cuda::Answer;

/// An input or output, and where it is.
pub(super) struct Port {
    pub(super) name: CString,
    /// In ONNX's words.
    pub(super) element: &'static str,
    place: Place,
}

enum Place {
    Gpu(Memory),
    /// Of values that decide shapes.
    Host(Vec<u64>),
}

impl Port {
    pub(super) fn hold(&mut self, device: &Device, size: usize) -> Answer<()> {
        match &mut self.place {
            Place::Gpu(memory) => memory.hold(device, size),
            Place::Host(words) => {
                hold(words, size);
                Ok(())
            }
        }
    }

    pub(super) fn address(&mut self) -> *mut c_void {
        match &mut self.place {
            Place::Gpu(memory) => memory.address(),
            Place::Host(words) => words.as_mut_ptr().cast(),
        }
    }

    pub(super) fn write(&mut self, device: &Device, bytes: &[u8]) -> Answer<()> {
        match &mut self.place {
            Place::Gpu(memory) => memory.write(device, bytes),
            Place::Host(words) => {
                fill(words, bytes);
                Ok(())
            }
        }
    }

    pub(super) fn clear(&mut self, device: &Device, size: usize) -> Answer<()> {
        match &mut self.place {
            Place::Gpu(memory) => memory.clear(device, size),
            Place::Host(words) => {
                words.fill(u64::MAX);
                Ok(())
            }
        }
    }

    pub(super) fn read(&self, device: &Device, size: usize) -> Answer<Vec<u8>> {
        match &self.place {
            Place::Gpu(memory) => memory.read(device, size),
            Place::Host(words) => Ok(taken(words, size)),
        }
    }
}

/// Makes room for bytes, in words, as memory for 64-bit values must begin where words do.
fn hold(words: &mut Vec<u64>, size: usize) {
    words.resize(words.len().max(size.div_ceil(8)).max(1), 0);
}

fn fill(words: &mut [u64], bytes: &[u8]) {
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(eight);
    }
}

fn taken(words: &[u64], size: usize) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).take(size).collect()
}

/// Bytes of a tensor.
pub(super) fn size(element: &str, shape: &[i64]) -> usize {
    let elements = shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).product::<usize>();
    elements * width(element).unwrap_or(0)
}

/// Inputs and outputs of an engine.
#[expect(unsafe_code, reason = "C++ objects are called through pointers")]
pub(super) fn ports(engine: *mut ICudaEngine) -> Answer<(Vec<Port>, Vec<Port>)> {
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    // SAFETY: a live engine, which is never destroyed and is not changed while it is asked.
    let engine = unsafe { &*engine };
    for index in 0..engine.getNbIOTensors() {
        // SAFETY: an index below the count gives a name that the engine owns, which names a tensor.
        let (name, mode, element, location) = unsafe {
            let name = engine.getIOTensorName(index);
            if name.is_null() {
                return Err(refusal("engine-refused", "the engine lacks a name of its inputs and outputs"));
            }
            let mode = TensorIOMode::from(engine.getTensorIOMode(name));
            let element = DataType::from(engine.getTensorDataType(name));
            let location = TensorLocation::from(engine.getTensorLocation(name));
            (CStr::from_ptr(name).to_owned(), mode, element, location)
        };
        let element = onnx_name(element).ok_or_else(|| {
            let message = format!(
                "`{}` of the engine is {element:?}, which is not supported yet",
                name.to_string_lossy()
            );
            refusal("not-yet", message)
        })?;
        let place = match location {
            TensorLocation::kDEVICE => Place::Gpu(Memory::default()),
            TensorLocation::kHOST => Place::Host(Vec::new()),
        };
        let port = Port { name, element, place };
        if mode == TensorIOMode::kINPUT { inputs.push(port) } else { outputs.push(port) }
    }
    Ok((inputs, outputs))
}

/// TensorRT's type in ONNX's words.
fn onnx_name(element: DataType) -> Option<&'static str> {
    Some(match element {
        DataType::kFLOAT => "float",
        DataType::kHALF => "float16",
        DataType::kBF16 => "bfloat16",
        DataType::kINT8 => "int8",
        DataType::kUINT8 => "uint8",
        DataType::kINT32 => "int32",
        DataType::kINT64 => "int64",
        DataType::kBOOL => "bool",
        DataType::kFP8 | DataType::kINT4 | DataType::kFP4 | DataType::kE8M0 => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_on_the_host_are_kept_bit_for_bit() {
        assert_eq!(size("float16", &[2, 3]), 12);
        assert_eq!(size("int64", &[]), 8);
        assert_eq!(size("float", &[0, 7]), 0);
        let bytes = [1u8, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let mut words = Vec::new();
        hold(&mut words, bytes.len());
        fill(&mut words, &bytes);
        assert_eq!(words.len(), 2);
        assert_eq!(taken(&words, 12), bytes);
    }
}
