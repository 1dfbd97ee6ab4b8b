//! Which GPUs are here: asked of the NVIDIA driver, in a worker, since a driver that is half installed can hang or
//! crash whoever asks.

use std::path::Path;
use std::time::Duration;

use super::client::{CancelToken, Client, Limits};
use super::cuda::{Answer, Driver};
use super::error::WorkerError;
use super::protocol::{Refusal, Request, Response};
use crate::diagnostic::Diagnostic;
use crate::gpu::LocalGpu;

/// Variables that decide which GPUs the driver shows, and where it is.
const PASSED_ON: [&str; 3] = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LD_LIBRARY_PATH"];

/// A driver that starts its daemon takes seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why no GPU is known.
#[derive(Debug, thiserror::Error)]
pub enum NoGpus {
    /// There is no driver (`no-driver`), it shows no GPU (`no-gpu`), or it fails (`driver-failed`).
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The driver crashed, or hung.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

impl From<NoGpus> for Diagnostic {
    fn from(error: NoGpus) -> Diagnostic {
        match error {
            NoGpus::Refused(refusal) => {
                Diagnostic { help: refusal.help, ..Diagnostic::error(refusal.code, refusal.message) }
            }
            NoGpus::Worker(error) => {
                let diagnostic =
                    Diagnostic::error(error.code(), format!("asking the NVIDIA driver: {error}"));
                diagnostic.help("`nvidia-smi` shows if the driver works at all")
            }
        }
    }
}

/// The GPUs of this machine, in the driver's order; at least one. `env` is the environment of the user, of which the
/// variables that the driver looks at are passed on.
pub fn local_gpus(
    client: &Client,
    env: &[(String, String)],
    cancel: &CancelToken,
) -> Result<Vec<LocalGpu>, NoGpus> {
    let env = env.iter().filter(|(name, _)| PASSED_ON.contains(&name.as_str())).cloned().collect();
    let limits = Limits { timeout: TIMEOUT, memory: None, env };
    // It reads and writes no files, so any folder will do.
    match client.run(Path::new("/"), &Request::Gpus, &limits, cancel)?.response {
        Response::Gpus(gpus) => Ok(gpus),
        Response::Refused(refusal) => Err(NoGpus::Refused(refusal)),
        other => {
            let what = format!("another answer than was asked for: {other:?}");
            Err(NoGpus::Worker(WorkerError::Garbage { what, stderr: String::new() }))
        }
    }
}

/// The variables with which a worker sees one GPU alone: the one at this place in the driver's order.
#[must_use]
pub fn only_gpu(env: &[(String, String)], place: usize, gpu: &LocalGpu) -> Vec<(String, String)> {
    const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";
    let passed = |name: &'static str| env.iter().filter(move |(n, _)| n == name).cloned();
    // As the user names it: parts of a divided GPU have names that the driver does not tell.
    let named = passed(VISIBLE).find_map(|(_, all)| Some(all.split(',').nth(place)?.trim().to_owned()));
    let one = named.filter(|name| !name.is_empty()).unwrap_or_else(|| gpu.uuid.clone());
    let others = PASSED_ON.into_iter().filter(|name| *name != VISIBLE).flat_map(passed);
    others.chain([(VISIBLE.to_owned(), one)]).collect()
}

/// What the driver says. No context is made, so that no memory of a GPU is taken.
pub(super) fn ask_driver() -> Answer<Vec<LocalGpu>> {
    Driver::start()?.gpus()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Sm;

    #[test]
    fn one_gpu_is_shown_by_the_name_that_the_user_gave_it() {
        let gpu = LocalGpu {
            name: "NVIDIA GeForce RTX 3090".to_owned(),
            sm: Sm(86),
            memory: 24 << 30,
            uuid: "GPU-1".to_owned(),
            driver: None,
            cuda: "12.8".to_owned(),
        };
        let shown = |env: &[(&str, &str)], place| {
            let env: Vec<_> = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let env = only_gpu(&env, place, &gpu);
            env.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&[], 1), "CUDA_VISIBLE_DEVICES=GPU-1");
        assert_eq!(
            shown(&[("CUDA_VISIBLE_DEVICES", "3, MIG-7"), ("HOME", "/")], 1),
            "CUDA_VISIBLE_DEVICES=MIG-7"
        );
        let ordered = [("CUDA_DEVICE_ORDER", "PCI_BUS_ID"), ("CUDA_VISIBLE_DEVICES", "")];
        assert_eq!(shown(&ordered, 0), "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=GPU-1");
    }
}
