//! TensorRT-RTX through its C++ interfaces, below the safe binding: that one shows the first parser
//! error only and gives the parser no path, without which external data resolves wrongly.
//!
//! Objects are plain pointers and never destroyed. The process does one thing and ends; destroying
//! a network of some hundred megabytes only takes time, and destructors can crash.

mod builder;
mod config;
mod explain;
mod library;
mod log;
mod network;
mod nodes;
mod parse;
mod profile;

use std::ffi::{CStr, c_char};
use std::io::Write;
use std::path::{Path, PathBuf};

pub use library::{BUILDER_LIBRARY, LibraryVersion, NEWEST_LIBRARY, OLDEST_LIBRARY, PARSER_LIBRARY};

use self::builder::Builder;
pub(super) use self::builder::header_version;
pub(super) use self::library::Libraries;
pub(super) use self::log::Log;
use self::nodes::Nodes;
use super::det;
use super::protocol::{Binding, BuildRequest, Built, ENGINE_FILE, Hermetic, KERNELS_FILE, Refusal};
use crate::engine::Facts;
use crate::onnx::{self, MODEL_FILE, WEIGHTS_FILE};

/// Compute capabilities that the library builds for: 86 is sm_86.
pub const SUPPORTED_SMS: [u32; 6] = [75, 80, 86, 89, 120, 121];

/// [`MODEL_FILE`] in the job folder. Named without its folder: where the folder lies must not reach the
/// engine. `weights.bin` is found beside it.
const MODEL: &CStr = c"model.onnx";

/// A refusal in the making. Boxed, as it is large and rare.
type Result<T> = std::result::Result<T, Box<Refusal>>;

fn refuse<T>(stage: &str, code: &str, message: impl Into<String>) -> Result<T> {
    Err(Box::new(Refusal::new(stage, code, message)))
}

/// Loads the library and reads its version.
pub(super) fn probe(folder: &Path) -> Result<LibraryVersion> {
    Ok(Libraries::open(folder)?.version)
}

/// Builds `model.onnx` into `engine.plan`, both in the current folder.
pub(super) fn build(request: &BuildRequest) -> Result<Built> {
    let log = Log::start();
    let is_det = request.hermetic == Hermetic::Det && det::begin();
    let result = attempt(request, log);
    det::end();
    let lines = log.take();
    let hermetic = if is_det { Hermetic::Det } else { Hermetic::Plain };
    // Nothing that is read of the engine can reach the engine any more.
    let result = result.and_then(|(bindings, version, engine)| {
        let kernels = serde_json::to_vec(&Facts::read(engine)).unwrap_or_default();
        write(KERNELS_FILE, &kernels).map(|()| (bindings, version))
    });
    match result {
        Ok((bindings, version)) => {
            Ok(Built { bindings, log: lines, version: version.to_string(), hermetic, gpu: None })
        }
        Err(mut refusal) => {
            if refusal.stage == "build" && refusal.code.is_empty() {
                let model = crate::fs::map(Path::new(MODEL_FILE)).unwrap_or_default();
                let nodes = Nodes::of(&model);
                explain::explain(&mut refusal, &lines, &nodes, &request.sms, request.options.workspace);
            }
            refusal.log = lines;
            Err(refusal)
        }
    }
}

/// Why the parser refuses a model with text in it: it says something else of that, or names no tensor.
fn strings(model: &bytes::Bytes) -> Option<Refusal> {
    let weights = crate::fs::map(Path::new(WEIGHTS_FILE)).ok();
    let model = onnx::read_canonical(model.clone(), weights).ok()?;
    let values = onnx::string_values(&model);
    let (value, node, op) = values.first()?;
    let more = match values.len() - 1 {
        0 => String::new(),
        n => format!(", and so are {n} more values"),
    };
    let message = format!(
        "`{value}`, at the node `{node}` ({op}), is of type string, which TensorRT does not have{more}"
    );
    let mut refusal = Refusal::new("parse", "type-not-in-tensorrt", message);
    refusal.help.push(
        "export the model without what handles it: strings are for the program around the engine".to_owned(),
    );
    Some(refusal)
}

/// An engine that was built and written.
type Attempt = (Vec<Binding>, LibraryVersion, &'static [u8]);

fn attempt(request: &BuildRequest, log: &'static Log) -> Result<Attempt> {
    // Everything that can be said without the library is said first.
    let sms = config::compute_capabilities(&request.sms)?;
    let settings = config::Settings::of(&request.options)?;
    let model = crate::fs::map(Path::new(MODEL_FILE))
        .map_err(|e| Box::new(Refusal::new("read", "model-unreadable", e.to_string())))?;
    if model.is_empty() {
        return refuse("read", "model-empty", format!("`{MODEL_FILE}` is empty"));
    }

    let folder = fixed_name(&request.libraries);
    let libraries = Libraries::open(&folder).map_err(|mut refusal| {
        let (fixed, given) = (folder.display().to_string(), request.libraries.display().to_string());
        refusal.message = refusal.message.replace(&fixed, &given);
        refusal
    })?;
    let mut builder = Builder::new(&libraries, log)?;
    parse::parse(&mut builder, &libraries, log, &model)
        .map_err(|refusal| strings(&model).map_or(refusal, Box::new))?;
    let network = network::ports(&mut builder)?;
    config::apply(&mut builder, &sms, &settings)?;
    profile::apply(&mut builder, &network.inputs, &request.profiles)?;
    let engine = builder.build()?;
    write(ENGINE_FILE, engine)?;
    Ok((network.bindings(), libraries.version, engine))
}

/// A name for the libraries' folder that is the same in every job, of the same length above all: the loader keeps
/// names on the heap. The folder itself where that cannot be.
fn fixed_name(libraries: &Path) -> PathBuf {
    const LINK: &str = "libraries";
    let fixed = Path::new("/proc/self/cwd").join(LINK);
    let _ = crate::fs::symlink(libraries, Path::new(LINK));
    if crate::fs::is_dir(&fixed) { fixed } else { libraries.to_owned() }
}

/// Writes a file of the result. It is flushed to the disk by whoever keeps it.
fn write(name: &str, bytes: &[u8]) -> Result<()> {
    let path = Path::new(name);
    crate::fs::create_new(path)
        .and_then(|mut file| file.write_all(bytes).map_err(|e| crate::fs::error("write", path, e)))
        .or_else(|error| {
            let code = if error.is_full() { "disk-full" } else { "engine-unwritable" };
            refuse(
                "write",
                code,
                format!(
                    "the engine was built, but `{name}` of {} bytes cannot be written: {error}",
                    bytes.len()
                ),
            )
        })
}

/// Text of the library.
///
/// # Safety
/// `text` is null or a C string that lives during the call.
#[expect(unsafe_code, reason = "C strings come as bare pointers")]
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller promises the rest.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_model_has_one_name() {
        assert_eq!(super::MODEL.to_bytes(), super::MODEL_FILE.as_bytes());
    }
}
