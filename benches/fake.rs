//! The program with a worker that builds no engine: for benchmarks and fault tests of everything around TensorRT.
//!
//! Models are read by the real reader. An "engine" is bytes made from the request and the model, one for each 4 KiB of
//! `workspace`: the same action gives the same bytes, and another one others.
#![expect(clippy::disallowed_methods, reason = "a benchmark is a program of its own")]

use std::io::{Read, Write};
use std::path::Path;

use enginewright::engine::Facts;
use enginewright::onnx;
use enginewright::worker::protocol::{
    Answer, BuildRequest, Built, Hello, KERNELS_FILE, MAGIC, Refusal, Request, Response, VERSION,
};
use serde::Serialize;

fn main() -> std::process::ExitCode {
    if enginewright::worker::is_worker(std::env::args_os()) {
        work().expect("the pipes hold");
        return std::process::ExitCode::SUCCESS;
    }
    enginewright::cli::main()
}

fn work() -> std::io::Result<()> {
    send(&Hello {
        magic: MAGIC.to_owned(),
        protocol: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    let mut length = [0; 4];
    if std::io::stdin().read_exact(&mut length).is_err() {
        return Ok(()); // The parent died.
    }
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    std::io::stdin().read_exact(&mut frame)?;
    let response = match serde_json::from_slice(&frame)? {
        Request::Canonicalize { source, .. } => canonicalize(&source),
        Request::Build(request) => build(&request).unwrap_or_else(|error| {
            let code = if error.kind() == std::io::ErrorKind::StorageFull {
                "disk-full"
            } else {
                "engine-unwritable"
            };
            Response::Refused(Box::new(Refusal::new("write", code, error.to_string())))
        }),
        Request::Probe { .. } => Response::Probed { version: "1.7.1.116".to_owned() },
        _ => Response::Refused(Box::new(Refusal::new("build", "fake", "the fake worker only builds"))),
    };
    send(&Answer { response, peak_rss: 1 << 20 })
}

fn send(message: &impl Serialize) -> std::io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).expect("a short message");
    let mut out = std::io::stdout().lock();
    out.write_all(&[&length.to_le_bytes()[..], &body].concat())?;
    out.flush()
}

fn canonicalize(source: &Path) -> Response {
    match onnx::canonicalize(source, Path::new(".")) {
        Ok(done) => Response::Canonicalized(Box::new(done)),
        Err(error) => Response::Refused(Box::new(Refusal::new("read", "model-invalid", error.to_string()))),
    }
}

fn build(request: &BuildRequest) -> std::io::Result<Response> {
    let mut hasher = blake3::Hasher::new();
    // Where the toolchain lies is in no key.
    let request = BuildRequest { libraries: "".into(), ..request.clone() };
    hasher.update(&serde_json::to_vec(&request)?);
    hasher.update(&std::fs::read(onnx::MODEL_FILE)?);
    let mut file = std::fs::File::create_new("engine.plan")?;
    let mut bytes = hasher.finalize_xof();
    let mut chunk = vec![0; 1 << 20];
    let mut left = request.options.workspace / 4096;
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        bytes.fill(&mut chunk[..n]);
        file.write_all(&chunk[..n])?;
        left -= n as u64;
    }
    std::fs::write(KERNELS_FILE, serde_json::to_vec(&Facts::read(b""))?)?;
    Ok(Response::Built(Box::new(Built {
        bindings: Vec::new(),
        log: Vec::new(),
        version: "1.7.1.116".to_owned(),
        hermetic: request.hermetic,
        gpu: None,
    })))
}
