//! An engine in the runtime of TensorRT-RTX, on a GPU.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::Path;
use std::pin::Pin;

use trtx_sys::nvinfer1::{ICudaEngine, IExecutionContext, IRuntime};
use trtx_sys::{Dims64, EngineInvalidityDiagnostics};

use super::device::Device;
use super::port::{Port, ports, size};
use super::refusal;
use crate::engine::Header;
use crate::verify::{Array, MeasureSpec, Sample};
use crate::worker::cuda::{Answer, out_of_memory};
use crate::worker::protocol::{LogLine, Refusal};
use crate::worker::tensorrt::{Libraries, Log, header_version};

/// Words of its log that mean that memory is out.
const OUT_OF_MEMORY: [&str; 3] = ["out of memory", "OutOfMemory", "FAILED_ALLOCATION"];

/// An engine that can be run.
///
/// Invariant: the pointers are not null, and what they point to is never destroyed.
pub(super) struct Engine {
    log: &'static Log,
    context: *mut IExecutionContext,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// The profile that it is set to.
    profile: usize,
}

impl Engine {
    /// Loads an engine.
    pub(super) fn load(
        libraries: &Libraries,
        log: &'static Log,
        device: &Device,
        bytes: &[u8],
    ) -> Answer<Engine> {
        let header = check(bytes, &libraries.version.to_string())?;
        let mut runtime = Runtime::new(libraries, log)?;
        let refused = |said: EngineInvalidityDiagnostics| why(said, &header, log, device);
        runtime.validity(bytes).map_err(refused)?;
        let engine =
            runtime.deserialize(bytes).ok_or_else(|| refused(EngineInvalidityDiagnostics::empty()))?;
        let context = create_context(engine)
            .ok_or_else(|| failed(log, "TensorRT-RTX made no execution context for the engine"))?;
        let (inputs, outputs) = ports(engine)?;
        Ok(Engine { log, context, inputs, outputs, profile: 0 })
    }

    /// Its outputs of these names.
    pub(super) fn run(
        &mut self,
        device: &Device,
        spec: &MeasureSpec,
        sample: &Sample,
        names: &[String],
    ) -> Answer<Vec<Array>> {
        self.set_profile(device, spec.profile_of(sample).unwrap_or(0))?;
        let mut inputs = std::mem::take(&mut self.inputs);
        let given = inputs.iter_mut().try_for_each(|port| self.give(device, port, sample));
        self.inputs = inputs;
        given?;
        let mut outputs = std::mem::take(&mut self.outputs);
        let shapes: Answer<Vec<Vec<i64>>> =
            outputs.iter_mut().map(|port| self.make_room(device, port)).collect();
        self.outputs = outputs;
        let shapes = shapes?;
        if !self.enqueue(device.stream()) {
            return Err(self.failed(&format!("TensorRT-RTX does not run sample `{}`", sample.name)));
        }
        device.wait().map_err(|mut refusal| {
            refusal.message = format!("running sample `{}`: {}", sample.name, refusal.message);
            refusal
        })?;
        let mut found: BTreeMap<String, Array> = BTreeMap::new();
        for (port, shape) in self.outputs.iter().zip(shapes) {
            let bytes = port.read(device, size(port.element, &shape))?;
            let array = Array { element: port.element.to_owned(), shape, bytes };
            found.insert(port.name.to_string_lossy().into_owned(), array);
        }
        let missing = |name: &str| refusal("engine-refused", format!("the engine gives no output `{name}`"));
        names.iter().map(|name| found.remove(name).ok_or_else(|| missing(name))).collect()
    }

    fn set_profile(&mut self, device: &Device, profile: usize) -> Answer<()> {
        if profile == self.profile {
            return Ok(());
        }
        let index = i32::try_from(profile).unwrap_or(i32::MAX);
        #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
        let is_set = {
            // SAFETY: a stream of the current context.
            unsafe { self.context().setOptimizationProfileAsync(index, device.stream().cast()) }
        };
        if !is_set {
            return Err(self.failed(&format!("the engine does not take its profile {profile}")));
        }
        self.profile = profile;
        device.wait()
    }

    /// Hands an input over.
    fn give(&mut self, device: &Device, port: &mut Port, sample: &Sample) -> Answer<()> {
        let name = port.name.to_string_lossy().into_owned();
        let Some(array) = sample.arrays.get(&name) else {
            return Err(refusal(
                "engine-refused",
                format!("the sample holds no input `{name}` of the engine"),
            ));
        };
        let array = array.to(port.element);
        port.hold(device, array.bytes.len())?;
        port.write(device, &array.bytes)?;
        let dims = Dims64::from_slice(&array.shape);
        let address = port.address();
        let tensor = port.name.as_ptr();
        #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
        // SAFETY: the name is a C string that lives during the calls; the memory holds all of the input, and lives as
        // long as this engine.
        let is_taken = unsafe {
            self.context().setInputShape(tensor, &dims)
                && self.context().setTensorAddress(tensor, address.cast())
        };
        if is_taken {
            Ok(())
        } else {
            Err(self.failed(&format!("the engine does not take the input `{name}`")))
        }
    }

    /// Makes room for an output; gives its shape, which follows from those of the inputs.
    fn make_room(&mut self, device: &Device, port: &mut Port) -> Answer<Vec<i64>> {
        let name = port.name.to_string_lossy().into_owned();
        let tensor = port.name.as_ptr();
        #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
        let dims = {
            // SAFETY: the name is a C string that lives during the call.
            unsafe { self.context().getTensorShape(tensor) }
        };
        let rank = usize::try_from(dims.nbDims)
            .map_err(|_| self.failed(&format!("output `{name}` has no shape")))?;
        let shape = dims.d[..rank.min(dims.d.len())].to_vec();
        if shape.iter().any(|dim| *dim < 0) {
            let message = format!(
                "the shape of output `{name}` is known only when the engine has run, which is not supported yet"
            );
            return Err(Box::new(
                Refusal::new("run", "not-yet", message)
                    .help("it comes of NonZero, NonMaxSuppression or the like; leave them to the program around the engine"),
            ));
        }
        let bytes = size(port.element, &shape);
        port.hold(device, bytes)?;
        port.clear(device, bytes)?;
        let address = port.address();
        #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
        let is_taken = {
            // SAFETY: as for inputs; the memory has room for all of the output.
            unsafe { self.context().setTensorAddress(tensor, address.cast()) }
        };
        if is_taken {
            Ok(shape)
        } else {
            Err(self.failed(&format!("the engine does not take memory for `{name}`")))
        }
    }

    fn enqueue(&mut self, stream: *mut c_void) -> bool {
        #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
        // SAFETY: a stream of the current context; every input and output has its memory.
        unsafe {
            self.context().enqueueV3(stream.cast())
        }
    }

    #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
    fn context(&mut self) -> Pin<&mut IExecutionContext> {
        // SAFETY: see the invariant. C++ objects do not move, one thread calls them, and each of these references lives
        // for one call.
        unsafe { Pin::new_unchecked(&mut *self.context) }
    }

    fn failed(&self, what: &str) -> Box<Refusal> {
        failed(self.log, what)
    }
}

/// What can be told from the engine's first bytes.
fn check(bytes: &[u8], library: &str) -> Answer<Header> {
    let damaged =
        |what: String| {
            let refusal = Refusal::new("run", "engine-damaged", format!("the engine is damaged: {what}"));
            Box::new(refusal.help(
                "`enginewright cache verify` finds what is damaged in the cache; `apply` builds it anew",
            ))
        };
    let header =
        Header::read(bytes).ok_or_else(|| damaged("its first bytes are not those of an engine".into()))?;
    if let Some(said) = header.size.filter(|said| *said != bytes.len() as u64) {
        return Err(damaged(format!("it says that it has {said} bytes, and has {}", bytes.len())));
    }
    if header.version != library {
        let message = format!(
            "the engine is for the runtime of TensorRT-RTX {}, and the library here is {library}",
            header.version
        );
        return Err(Box::new(
            Refusal::new("run", "runtime-version", message)
                .help("an engine runs in the version that built it: name that in `version` of the toolchain"),
        ));
    }
    Ok(header)
}

/// Why the runtime does not take an engine.
fn why(said: EngineInvalidityDiagnostics, header: &Header, log: &Log, device: &Device) -> Box<Refusal> {
    use EngineInvalidityDiagnostics as Said;
    let gpu = &device.gpu;
    let serves: Vec<String> = header.sms.iter().map(|sm| format!("sm_{sm}")).collect();
    let serves = serves.join(", ");
    let mut refusal = match () {
        () if said.contains(Said::UNSUPPORTED_CC) || !header.sms.contains(&gpu.sm.0) => refusal(
            "gpu-unsupported",
            format!("the engine serves {serves}; this GPU, {}, is {}", gpu.name, gpu.sm),
        )
        .help(format!(
            "run it on a GPU of {serves}, or build an engine for {}: `enginewright gpu` says what serves it",
            gpu.sm
        )),
        () if said.contains(Said::INSUFFICIENT_GPU_MEMORY) => *out_of_memory("its weights do not fit"),
        () if said.intersects(Said::OLD_CUDA_DRIVER | Said::OLD_CUDA_RUNTIME) => {
            let driver = gpu.driver.as_deref().unwrap_or("of an unknown version");
            let message =
                format!("the NVIDIA driver {driver}, for CUDA {}, is too old for the engine", gpu.cuda);
            refusal("driver-failed", message).help("install a newer driver")
        }
        () if said.contains(Said::MALFORMED_ENGINE) => {
            *refusal("engine-damaged", "the engine is damaged: TensorRT-RTX does not know its form")
        }
        () if said.contains(Said::CUDA_ERROR) => {
            refusal("driver-failed", "TensorRT-RTX cannot use the NVIDIA driver")
                .help("`nvidia-smi` shows if the driver works at all")
        }
        () => *failed(log, "TensorRT-RTX does not load the engine"),
    };
    refusal.log.extend(log.take());
    if !said.is_empty() {
        refusal.log.push(LogLine {
            level: "error".to_owned(),
            text: {
                let names: Vec<&str> = said.iter_names().map(|(name, _)| name).collect();
                format!("the engine is invalid here: {}", names.join(", "))
            },
        });
    }
    Box::new(refusal)
}

/// What TensorRT says of a failure stands in its log alone.
fn failed(log: &Log, what: &str) -> Box<Refusal> {
    let lines = log.take();
    let errors = || lines.iter().filter(|line| ["error", "fatal"].contains(&line.level.as_str()));
    let is_memory = errors().any(|line| OUT_OF_MEMORY.iter().any(|word| line.text.contains(word)));
    let mut refusal = match errors().next() {
        Some(first) if is_memory => out_of_memory(&first.text),
        Some(first) => refusal("engine-refused", format!("{what}: {}", first.text)),
        None => refusal("engine-refused", what),
    };
    refusal.log = lines;
    refusal
}

/// The runtime.
///
/// Invariant: the pointer is not null, and what it points to is never destroyed.
struct Runtime(*mut IRuntime);

impl Runtime {
    #[expect(unsafe_code, reason = "TensorRT's entry point is a C function")]
    fn new(libraries: &Libraries, log: &'static Log) -> Answer<Runtime> {
        type Create = unsafe extern "C" fn(*mut c_void, i32) -> *mut IRuntime;
        let logger = log.interface();
        if logger.is_null() {
            return Err(refusal("out-of-memory", "no memory for the logger"));
        }
        // SAFETY: the function's type in the headers of the binding; the version is theirs, and a library that does
        // not serve it returns null.
        let runtime = unsafe {
            let create = libraries.builder_function::<Create>("createInferRuntime_INTERNAL")?;
            create(logger, header_version(trtx_sys::get_tensorrt_version()))
        };
        if runtime.is_null() {
            Err(failed(log, "TensorRT-RTX made no runtime"))
        } else {
            Ok(Runtime(runtime))
        }
    }

    /// What it finds wrong with an engine by its first bytes.
    #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
    fn validity(&mut self, bytes: &[u8]) -> Result<(), EngineInvalidityDiagnostics> {
        let mut said = 0;
        let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        // SAFETY: see the invariant; the bytes and the number live during the calls.
        let validity = unsafe {
            let runtime = &*self.0;
            if length < runtime.getEngineHeaderSize() {
                return Err(EngineInvalidityDiagnostics::MALFORMED_ENGINE);
            }
            runtime.getEngineValidity(bytes.as_ptr().cast(), length, &raw mut said)
        };
        match validity.into() {
            trtx_sys::EngineValidity::kVALID | trtx_sys::EngineValidity::kSUBOPTIMAL => Ok(()),
            trtx_sys::EngineValidity::kINVALID => Err(EngineInvalidityDiagnostics::from_bits_retain(said)),
        }
    }

    #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
    fn deserialize(&mut self, bytes: &[u8]) -> Option<*mut ICudaEngine> {
        // SAFETY: see the invariant; the bytes live during the call, and the engine keeps none of them.
        let engine = unsafe {
            Pin::new_unchecked(&mut *self.0).deserializeCudaEngine(bytes.as_ptr().cast(), bytes.len())
        };
        (!engine.is_null()).then_some(engine)
    }
}

#[expect(unsafe_code, reason = "C++ objects are called through pointers")]
fn create_context(engine: *mut ICudaEngine) -> Option<*mut IExecutionContext> {
    let strategy = trtx_sys::ExecutionContextAllocationStrategy::kSTATIC;
    // SAFETY: a live engine, which is never destroyed and does not move.
    let context = unsafe { Pin::new_unchecked(&mut *engine).createExecutionContext(strategy.into()) };
    (!context.is_null()).then_some(context)
}

/// The engine's file in the job folder.
pub(super) fn read(path: &Path) -> Answer<bytes::Bytes> {
    crate::fs::map(path).map_err(|e| refusal("engine-unreadable", e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of an engine of 1.7.1.116 for sm_86.
    fn engine(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        bytes[..4].copy_from_slice(b"vtrt");
        bytes[0x10..0x18].copy_from_slice(&(length as u64).to_le_bytes());
        bytes[0x18..0x1c].copy_from_slice(&[1, 7, 1, 116]);
        bytes[0x20] = 4;
        bytes
    }

    #[test]
    fn an_engine_must_be_whole_and_of_this_version() {
        assert_eq!(check(&engine(256), "1.7.1.116").unwrap().sms, [86]);
        let refused = |bytes: &[u8], library: &str| {
            let refusal = check(bytes, library).unwrap_err();
            (refusal.code, refusal.message)
        };
        let (code, message) = refused(&engine(256)[..200], "1.7.1.116");
        assert_eq!(code, "engine-damaged");
        assert_eq!(message, "the engine is damaged: it says that it has 256 bytes, and has 200");
        assert_eq!(refused(b"text", "1.7.1.116").0, "engine-damaged");
        let (code, message) = refused(&engine(256), "1.6.1.120");
        assert_eq!(code, "runtime-version");
        assert!(message.ends_with("TensorRT-RTX 1.7.1.116, and the library here is 1.6.1.120"), "{message}");
    }
}
