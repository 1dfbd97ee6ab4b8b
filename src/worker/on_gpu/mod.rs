//! Measuring on a GPU: the model as it was exported in ONNX Runtime on a CPU, and the engine itself in TensorRT-RTX.
//!
//! Running an engine was not exercised on hardware: no GPU that TensorRT-RTX supports was at hand. What was: driver,
//! context, memory, copies, the runtime, and its refusal of an engine for other GPUs.

mod device;
mod engine;
mod port;

use std::path::Path;

use self::device::Device;
use self::engine::Engine;
use super::cuda::Answer;
use super::protocol::{ENGINE_FILE, OnGpuRequest, Refusal};
use super::reference;
use super::tensorrt::{Libraries, Log};

/// Runs the model and the engine [`ENGINE_FILE`], both in `folder`; writes [`super::protocol::MEASURED_FILE`].
pub(super) fn run(request: &OnGpuRequest, folder: &Path) -> Answer<()> {
    // What is most likely wrong is found first.
    let device = Device::open(&request.gpu)?;
    let libraries = Libraries::open(&request.runtime)?;
    let bytes = engine::read(&folder.join(ENGINE_FILE))?;
    let mut engine = Engine::load(&libraries, Log::start(), &device, &bytes)?;
    let spec = &request.measure.spec;
    reference::measure_beside(&request.measure, folder, |sample, outputs| {
        engine.run(&device, spec, sample, outputs)
    })
}

fn refusal(code: &str, message: impl Into<String>) -> Box<Refusal> {
    Box::new(Refusal::new("run", code, message))
}
