//! `enginewright gpu`

use serde_json::json;

use super::super::exit::{self, Failed};
use super::super::output;
use super::super::render;
use super::super::settings::{Format, Project, Settings};
use crate::diagnostic::Diagnostic;
use crate::gpu::{self, LocalGpu, Sm};
use crate::toolchain::{self, tensorrt_rtx};

pub(super) fn run(settings: &Settings) -> Result<u8, Failed> {
    // What is wrong with the manifests is no reason to keep the GPUs back.
    let project = settings.root.as_ref().map(|_| settings.project()).transpose();
    let gpus = settings.local_gpus().map_err(|e| Failed::new(exit::CANNOT_START, e.into()))?;
    let (project, broken) = match project {
        Ok(project) => (project, None),
        Err(failed) => (None, Some(failed)),
    };
    let served: Vec<Served> = gpus.iter().map(|gpu| Served::of(gpu.sm, project.as_ref())).collect();
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "gpus": gpus.iter().zip(&served).map(|(gpu, served)| json!({
                "name": gpu.name, "sm": gpu.sm, "memory": gpu.memory, "uuid": gpu.uuid,
                "driver": gpu.driver, "cuda": gpu.cuda,
                "targets": served.targets, "toolchains": served.toolchains, "instead": served.instead,
            })).collect::<Vec<_>>(),
            "diagnostics": broken.iter().flat_map(|b| &b.diagnostics).map(render::json).collect::<Vec<_>>(),
        })),
        Format::Text => {
            output::stdout(&text(&gpus, &served, project.is_some()));
            render::print(settings, &broken.map(|b| b.diagnostics).unwrap_or_default());
        }
    }
    Ok(exit::DONE)
}

/// What serves a GPU.
struct Served {
    /// Targets of the project whose engines load on it.
    targets: Vec<String>,
    /// Toolchains that build for it: of the project, or the built-in one.
    toolchains: Vec<String>,
    /// What to use where TensorRT-RTX does not build for it.
    instead: Option<&'static str>,
}

impl Served {
    fn of(sm: Sm, project: Option<&Project>) -> Served {
        let builds = |kind| toolchain::sms(kind).is_none_or(|sms| sms.contains(&sm));
        let manifest = project.map(|project| &project.manifest);
        let targets = manifest.iter().flat_map(|m| m.targets.values()).filter(|t| t.sms.contains(&sm));
        let toolchains = manifest.iter().flat_map(|m| m.toolchains.values());
        let toolchains = toolchains
            .filter(|t| t.kind != crate::manifest::ToolchainKind::Onnxruntime && builds(t.kind))
            .map(|t| t.name.clone());
        let mut toolchains: Vec<String> = toolchains.collect();
        let by_rtx = tensorrt_rtx::SMS.contains(&sm.0);
        if manifest.is_none() && by_rtx {
            toolchains.push(crate::manifest::BUILT_IN_TOOLCHAIN.to_owned());
        }
        let instead = tensorrt_rtx::instead(sm)
            .or_else(|| (!by_rtx).then_some("TensorRT-RTX builds for sm_75 and newer GPUs only"));
        Served { targets: targets.map(|t| t.name.clone()).collect(), toolchains, instead }
    }
}

fn text(gpus: &[LocalGpu], served: &[Served], in_project: bool) -> String {
    let list = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let rows: Vec<Vec<String>> = gpus
        .iter()
        .zip(served)
        .enumerate()
        .map(|(number, (gpu, served))| {
            vec![
                number.to_string(),
                gpu.name.clone(),
                gpu.sm.to_string(),
                format!("{} MiB", gpu.memory >> 20),
                gpu.driver.clone().unwrap_or_else(|| "?".to_owned()),
                gpu.cuda.clone(),
                list(&served.targets),
                list(&served.toolchains),
                gpu.uuid.clone(),
            ]
        })
        .collect();
    let headers = ["GPU", "NAME", "SM", "MEMORY", "DRIVER", "CUDA", "TARGETS", "TOOLCHAINS", "UUID"];
    let mut text = output::table(&headers, &rows);
    let mut told = Vec::new();
    for (gpu, served) in gpus.iter().zip(served) {
        if told.contains(&gpu.sm) {
            continue;
        }
        told.push(gpu.sm);
        if !served.targets.is_empty() {
            continue;
        }
        if let Some(instead) = served.instead {
            text += &format!("\n{} has no engines of TensorRT-RTX: {instead}\n", gpu.sm);
        } else if in_project {
            text += &format!("\nno target of this project is for {}: add one\n\n", gpu.sm);
            text += &target(gpu).1;
        }
    }
    text
}

/// A target for this GPU, and its name: by that of the GPU if the table knows it, else by its capability.
pub(super) fn target(local: &LocalGpu) -> (String, String) {
    let (gpu, key) = match gpu::find(&local.name).filter(|known| known.sm == local.sm) {
        Some(known) => {
            let model = gpu::model(&local.name).unwrap_or_else(|| known.name.to_owned());
            let key = format!("gpu = \"{model}\"");
            (model, key)
        }
        None => (local.name.clone(), format!("sm = \"{}\"", local.sm)),
    };
    let name = target_name(&gpu);
    let toml = format!("[target.{name}]\n{key}\n");
    (name, toml)
}

/// The name of a GPU as a name of a target: `rtx-3090`.
pub(super) fn target_name(gpu: &str) -> String {
    let words = gpu.to_lowercase();
    let words = words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    if name.is_empty() { "gpu".to_owned() } else { name.chars().take(64).collect() }
}

/// That nothing has this name, such as `no GPU`, and what may have been meant.
pub(super) fn unknown_gpu(name: &str, nothing: &str) -> Failed {
    let error = Diagnostic::error("unknown-gpu", format!("{nothing} is named `{name}`"));
    let near: Vec<String> = gpu::nearest_names(name).iter().map(|n| format!("`{n}`")).collect();
    let help = match near.as_slice() {
        [] => "name a GPU such as `RTX 3090`, or a compute capability such as `sm_86`".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    Failed::new(exit::USAGE, error.help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(name: &str, sm: u32) -> LocalGpu {
        LocalGpu {
            name: name.to_owned(),
            sm: Sm(sm),
            memory: 24 << 30,
            uuid: String::new(),
            driver: None,
            cuda: "12.8".to_owned(),
        }
    }

    #[test]
    fn what_to_use_is_said_of_a_gpu_that_no_target_serves() {
        let gpus = [local("NVIDIA H100 80GB HBM3", 90)];
        let mut served = [Served::of(Sm(90), None)];
        assert!(text(&gpus, &served, true).contains("sm_90 has no engines of TensorRT-RTX: "));
        served[0].targets.push("h100".to_owned());
        assert!(!text(&gpus, &served, true).contains("TensorRT-RTX"));
    }

    #[test]
    fn a_gpu_of_the_table_is_named_as_there() {
        let mut gpu = local("NVIDIA GeForce RTX 3090", 86);
        assert_eq!(target(&gpu).1, "[target.rtx-3090]\ngpu = \"RTX 3090\"\n");
        gpu.name = "NVIDIA PG506-230".to_owned();
        assert_eq!(target(&gpu).1, "[target.nvidia-pg506-230]\nsm = \"sm_86\"\n");
    }
}
