//! `[model.X.build]` and `[model.X.io.NAME]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::super::fields::Item;
use super::super::model::{BuildOptions, IoType, Profiling, Tiling, WORKSPACE_MAX};
use super::super::text;
use super::super::trtexec::{HardwareCompatibility, Typing};

const KEYS: &[&str] = &[
    "workspace",
    "optimization-level",
    "profiling",
    "weight-streaming",
    "strict-nans",
    "sparse-weights",
    "distributive-independence",
    "max-aux-streams",
    "tiling",
    "epoch",
    "timeout",
    "memory-limit",
    "typing",
    "hardware-compatibility",
    "version-compatible",
    "strip-weights",
    "refit",
    "tactic-sources",
    "dla-core",
    "dla-gpu-fallback",
    "plugins",
    "input-formats",
    "output-formats",
    "extra-args",
];

/// The options given at one place, by key.
pub(in crate::manifest) type BuildLayer = BTreeMap<&'static str, BuildOption>;

/// One option.
#[derive(Clone, Debug)]
pub(in crate::manifest) enum BuildOption {
    Workspace(u64),
    OptimizationLevel(u32),
    Profiling(Profiling),
    WeightStreaming(bool),
    StrictNans(bool),
    SparseWeights(bool),
    DistributiveIndependence(bool),
    MaxAuxStreams(u32),
    Tiling(Tiling),
    Epoch(u32),
    Timeout(Duration),
    MemoryLimit(u64),
    Typing(Typing),
    HardwareCompatibility(HardwareCompatibility),
    VersionCompatible(bool),
    StripWeights(bool),
    Refit(bool),
    TacticSources(Vec<String>),
    DlaCore(u32),
    DlaGpuFallback(bool),
    Plugins(Vec<PathBuf>),
    InputFormats(Vec<String>),
    OutputFormats(Vec<String>),
    ExtraArgs(Vec<String>),
}

impl BuildOption {
    pub(in crate::manifest) fn apply(&self, options: &mut BuildOptions) {
        let trtexec = &mut options.trtexec;
        match self.clone() {
            BuildOption::Workspace(bytes) => options.workspace = bytes,
            BuildOption::OptimizationLevel(level) => options.optimization_level = level,
            BuildOption::Profiling(profiling) => options.profiling = profiling,
            BuildOption::WeightStreaming(on) => options.weight_streaming = on,
            BuildOption::StrictNans(on) => options.strict_nans = on,
            BuildOption::SparseWeights(on) => options.sparse_weights = on,
            BuildOption::DistributiveIndependence(on) => options.distributive_independence = on,
            BuildOption::MaxAuxStreams(streams) => options.max_aux_streams = Some(streams),
            BuildOption::Tiling(tiling) => options.tiling = tiling,
            BuildOption::Epoch(epoch) => options.epoch = epoch,
            BuildOption::Timeout(timeout) => options.timeout = timeout,
            BuildOption::MemoryLimit(bytes) => options.memory_limit = Some(bytes),
            BuildOption::Typing(typing) => trtexec.typing = typing,
            BuildOption::HardwareCompatibility(level) => trtexec.hardware_compatibility = level,
            BuildOption::VersionCompatible(on) => trtexec.version_compatible = on,
            BuildOption::StripWeights(on) => trtexec.strip_weights = on,
            BuildOption::Refit(on) => trtexec.refit = on,
            BuildOption::TacticSources(sources) => trtexec.tactic_sources = sources,
            BuildOption::DlaCore(core) => trtexec.dla_core = Some(core),
            BuildOption::DlaGpuFallback(on) => trtexec.dla_gpu_fallback = on,
            BuildOption::Plugins(files) => trtexec.plugins = files,
            BuildOption::InputFormats(formats) => trtexec.input_formats = formats,
            BuildOption::OutputFormats(formats) => trtexec.output_formats = formats,
            BuildOption::ExtraArgs(args) => trtexec.extra_args = args,
        }
    }
}

pub(super) fn decode(item: &Item<'_>) -> Option<BuildLayer> {
    let fields = item.table(&[KEYS])?;
    let options = KEYS.iter().filter_map(|key| Some((*key, option(key, &fields.get(key)?)?)));
    Some(options.collect())
}

fn option(key: &str, item: &Item<'_>) -> Option<BuildOption> {
    Some(match key {
        "workspace" => BuildOption::Workspace(workspace(item)?),
        "optimization-level" => BuildOption::OptimizationLevel(item.integer(0..=5)?),
        "profiling" => {
            let all = [Profiling::None, Profiling::LayerNames, Profiling::Detailed];
            BuildOption::Profiling(item.word(&all.map(|p| (p.name(), p)))?)
        }
        "weight-streaming" => BuildOption::WeightStreaming(item.boolean()?),
        "strict-nans" => BuildOption::StrictNans(item.boolean()?),
        "sparse-weights" => BuildOption::SparseWeights(item.boolean()?),
        "distributive-independence" => BuildOption::DistributiveIndependence(item.boolean()?),
        "max-aux-streams" => BuildOption::MaxAuxStreams(item.integer(0..=i64::from(i32::MAX))?),
        "tiling" => {
            let all = [Tiling::None, Tiling::Fast, Tiling::Moderate, Tiling::Full];
            BuildOption::Tiling(item.word(&all.map(|t| (t.name(), t)))?)
        }
        "epoch" => BuildOption::Epoch(item.integer(0..=i64::from(u32::MAX))?),
        "timeout" => BuildOption::Timeout(item.parsed(text::duration)?),
        "memory-limit" => BuildOption::MemoryLimit(bytes(item)?),
        "typing" => BuildOption::Typing(item.word(Typing::WORDS)?),
        "hardware-compatibility" => {
            BuildOption::HardwareCompatibility(item.word(HardwareCompatibility::WORDS)?)
        }
        "version-compatible" => BuildOption::VersionCompatible(item.boolean()?),
        "strip-weights" => BuildOption::StripWeights(item.boolean()?),
        "refit" => BuildOption::Refit(item.boolean()?),
        "tactic-sources" => BuildOption::TacticSources(texts(item)?),
        "dla-core" => BuildOption::DlaCore(item.integer(0..=15)?),
        "dla-gpu-fallback" => BuildOption::DlaGpuFallback(item.boolean()?),
        "plugins" => {
            BuildOption::Plugins(item.list()?.iter().map(Item::file_path).collect::<Option<Vec<_>>>()?)
        }
        "input-formats" => BuildOption::InputFormats(texts(item)?),
        "output-formats" => BuildOption::OutputFormats(texts(item)?),
        "extra-args" => BuildOption::ExtraArgs(texts(item)?),
        _ => return None,
    })
}

fn texts(item: &Item<'_>) -> Option<Vec<String>> {
    item.list()?.iter().map(Item::text).collect()
}

fn workspace(item: &Item<'_>) -> Option<u64> {
    if item.is_integer() {
        return item.integer(1..=i64::MAX);
    }
    item.parsed(|text| if text == "max" { Ok(WORKSPACE_MAX) } else { text::size(text) })
}

fn bytes(item: &Item<'_>) -> Option<u64> {
    if item.is_integer() { item.integer(1..=i64::MAX) } else { item.parsed(text::size) }
}

/// `operators."DOMAIN::OP" = [TYPE…]`: the types of the outputs of custom operators.
pub(super) fn decode_operators(item: &Item<'_>) -> Option<BTreeMap<String, Vec<IoType>>> {
    let words = IoType::ALL.map(|of| (of.name(), of));
    let mut operators = BTreeMap::new();
    for (name, entry) in item.entries()? {
        let types = entry.list()?.iter().map(|item| item.word(&words)).collect::<Option<Vec<_>>>();
        operators.extend(types.map(|types| (name, types)));
    }
    Some(operators)
}

/// `io.NAME.type` by NAME.
pub(super) fn decode_io(item: &Item<'_>) -> Option<BTreeMap<String, IoType>> {
    let words = IoType::ALL.map(|of| (of.name(), of));
    let mut types = BTreeMap::new();
    for (name, entry) in item.entries()? {
        let Some(fields) = entry.table(&[&["type"]]) else { continue };
        let declared = fields.required("type", "type = \"fp32\"").and_then(|item| item.word(&words));
        types.extend(declared.map(|declared| (name, declared)));
    }
    Some(types)
}
