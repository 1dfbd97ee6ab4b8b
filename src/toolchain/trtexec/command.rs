//! What is asked of trtexec -> its arguments, in the words of one version.
//!
//! Pure: paths and names go in, words come out; no shell reads them. A word that the version does not take is never
//! written: [`Unavailable`] says so instead.

use std::collections::BTreeMap;

use super::flags;
use super::version::Version;

/// How the types of nodes reach TensorRT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Types {
    /// They are in the ONNX.
    Strong,
    /// They are asked of layers.
    Weak {
        /// May layers run in FP16?
        fp16: bool,
        /// May they run in BF16?
        bf16: bool,
        /// Names of layers, exact, and the type that each must have.
        layers: Vec<(String, &'static str)>,
        /// Those of them whose outputs are not all floats, and are not asked of.
        untyped_outputs: Vec<String>,
    },
}

/// The smallest, the likeliest and the largest of one input.
pub type Range = [Vec<i64>; 3];

/// Everything that decides a command line but its paths.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The version of TensorRT.
    pub version: Version,
    /// How the types of nodes reach it.
    pub types: Types,
    /// Bytes; none for all that the GPU has.
    pub workspace: Option<u64>,
    /// 0 to 5.
    pub optimization_level: u32,
    /// Is the engine to tell all about its layers? None: nothing.
    pub tells_layers: bool,
    /// May FP32 products be computed in TF32?
    pub tf32: bool,
    /// Structured sparsity.
    pub sparse_weights: bool,
    /// Weights that are streamed from the host.
    pub weight_streaming: bool,
    /// The same result whatever the batch split.
    pub distributive_independence: bool,
    /// Auxiliary streams.
    pub max_aux_streams: Option<u32>,
    /// 0 to 3; none leaves it out.
    pub tiling: Option<u32>,
    /// The word of `--hardwareCompatibilityLevel`.
    pub hardware_compatibility: Option<&'static str>,
    /// Runs on newer TensorRT too.
    pub version_compatible: bool,
    /// Weights are put in later.
    pub strip_weights: bool,
    /// Weights can be changed later.
    pub refit: bool,
    /// `+NAME` or `-NAME`.
    pub tactic_sources: Vec<String>,
    /// The DLA core, and may what it does not do run on the GPU?
    pub dla: Option<(u32, bool)>,
    /// Types and memory formats of all inputs in order; none leaves it to trtexec.
    pub inputs: Vec<(String, String)>,
    /// Those of all outputs.
    pub outputs: Vec<(String, String)>,
    /// Profiles in order: by input, shapes, or the values of shape tensors.
    pub profiles: Vec<BTreeMap<String, Range>>,
    /// Given as they are.
    pub extra_args: Vec<String>,
}

/// Where things lie.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paths {
    /// The ONNX file.
    pub onnx: String,
    /// The engine.
    pub engine: String,
    /// What the layers of the engine are, as JSON.
    pub layers: String,
    /// The timing cache, if there is one.
    pub timing_cache: Option<String>,
    /// Is what it does not hold an error, where the version can do that?
    pub times_nothing: bool,
    /// Plugin libraries.
    pub plugins: Vec<String>,
    /// Files that extra arguments name, and where they lie instead.
    pub files: BTreeMap<String, String>,
}

/// A version does not have what is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// What, such as `distributive-independence` or `two optimization profiles`.
    pub what: String,
    /// Why not, or since when it is there.
    pub why: String,
}

/// The arguments that make trtexec build what is asked.
///
/// # Errors
/// Everything that the version does not have.
pub fn arguments(asked: &Asked, paths: &Paths) -> Result<Vec<String>, Vec<Unavailable>> {
    let mut line = Line { version: asked.version, words: Vec::new(), missing: Vec::new() };
    line.value("--onnx", &paths.onnx);
    line.value("--saveEngine", &paths.engine);
    line.flag("--skipInference");
    types(asked, &mut line);
    if !asked.tf32 {
        line.flag("--noTF32");
    }
    if let Some(workspace) = asked.workspace {
        line.value("--memPoolSize", &format!("workspace:{}", mebibytes(workspace)));
    }
    line.value("--builderOptimizationLevel", &asked.optimization_level.to_string());
    profiles(asked, &mut line);
    formats("--inputIOFormats", &asked.inputs, &mut line);
    formats("--outputIOFormats", &asked.outputs, &mut line);
    options(asked, &mut line);
    for plugin in &paths.plugins {
        line.value("--staticPlugins", plugin);
    }
    if let Some(cache) = &paths.timing_cache {
        line.value("--timingCacheFile", cache);
        const NO_MISS: &str = "--errorOnTimingCacheMiss";
        let has_it = flags::find(NO_MISS).is_some_and(|flag| flag.exists(asked.version));
        if paths.times_nothing && has_it && !asked.extra_args.iter().any(|word| word == NO_MISS) {
            line.flag(NO_MISS);
        }
    }
    let verbosity = if asked.tells_layers { "detailed" } else { "none" };
    line.value("--profilingVerbosity", verbosity);
    if asked.tells_layers {
        line.value("--exportLayerInfo", &paths.layers);
    }
    line.words.extend(asked.extra_args.iter().map(|word| moved(word, paths)));
    if line.missing.is_empty() { Ok(line.words) } else { Err(line.missing) }
}

/// An extra argument, with its file where that lies.
fn moved(word: &str, paths: &Paths) -> String {
    let moved = word.split_once('=').and_then(|(name, file)| Some((name, paths.files.get(file)?)));
    moved.map_or_else(|| word.to_owned(), |(name, file)| format!("{name}={file}"))
}

fn types(asked: &Asked, line: &mut Line) {
    match &asked.types {
        Types::Strong if asked.version < Version(11, 0, 0) => {
            line.asked("--stronglyTyped", None, "`typing = \"strong\"`");
        }
        Types::Strong => {}
        Types::Weak { .. } if asked.version >= Version(11, 0, 0) => line.missing.push(Unavailable {
            what: "`typing = \"weak\"`".to_owned(),
            why: "types are in the ONNX, and nowhere else, from 11.0".to_owned(),
        }),
        Types::Weak { fp16, bf16, layers, untyped_outputs } => {
            if *fp16 {
                line.flag("--fp16");
            }
            if *bf16 {
                line.asked("--bf16", None, "BF16");
            }
            if !layers.is_empty() {
                line.value("--precisionConstraints", "obey");
                let written = |(name, of): &(String, &str)| format!("{name}:{of}");
                let all: Vec<String> = layers.iter().map(written).collect();
                line.value("--layerPrecisions", &all.join(","));
                let floats = layers.iter().filter(|(name, _)| !untyped_outputs.contains(name));
                let floats: Vec<String> = floats.map(written).collect();
                if !floats.is_empty() {
                    line.value("--layerOutputTypes", &floats.join(","));
                }
            }
            // Its lines tell which layers a node became.
            line.flag("--verbose");
        }
    }
}

fn profiles(asked: &Asked, line: &mut Line) {
    let several = asked.profiles.len() > 1;
    for (index, profile) in asked.profiles.iter().enumerate() {
        if profile.is_empty() {
            continue;
        }
        if several {
            line.asked("--profile", Some(&index.to_string()), "more than one optimization profile");
        }
        for (flag, at) in [("--minShapes", 0), ("--optShapes", 1), ("--maxShapes", 2)] {
            let shapes: Vec<String> = profile
                .iter()
                .map(|(name, range)| {
                    let dims: Vec<String> = range[at].iter().map(ToString::to_string).collect();
                    format!("{name}:{}", dims.join("x"))
                })
                .collect();
            line.value(flag, &shapes.join(","));
        }
        for name in profile.keys().filter(|name| !is_writable(name)) {
            line.missing.push(Unavailable {
                what: format!("a profile for input `{name}`"),
                why: "trtexec reads lists at each `,` and `'`, and `*` as any name; give the input another name"
                    .to_owned(),
            });
        }
    }
}

/// Can trtexec read this name in a list, as itself?
#[must_use]
pub fn is_writable(name: &str) -> bool {
    !name.is_empty() && !name.contains([',', '\'', '*'])
}

fn formats(flag: &'static str, tensors: &[(String, String)], line: &mut Line) {
    if tensors.is_empty() {
        return;
    }
    let known = flags::words("formats", line.version);
    let types = flags::words("types", line.version);
    let mut list = Vec::new();
    for (of, format) in tensors {
        for word in format.split('+').filter(|word| !known.contains(word)) {
            line.missing.push(Unavailable { what: format!("format `{word}`"), why: since("formats", word) });
        }
        if line.version >= Version(11, 0, 0) {
            list.push(format.clone());
        } else if types.contains(&of.as_str()) {
            list.push(format!("{of}:{format}"));
        } else {
            let what = format!("an input or output of type {of} with a format");
            line.missing.push(Unavailable { what, why: since("types", of) });
        }
    }
    line.value(flag, &list.join(","));
}

fn options(asked: &Asked, line: &mut Line) {
    if asked.sparse_weights {
        line.value("--sparsity", "enable");
    }
    if asked.weight_streaming {
        line.asked("--allowWeightStreaming", None, "`weight-streaming`");
        if asked.types != Types::Strong && asked.version >= Version(10, 0, 0) {
            let why = "trtexec takes it only with `typing = \"strong\"`".to_owned();
            line.missing.push(Unavailable { what: "`weight-streaming`".to_owned(), why });
        }
    }
    if asked.distributive_independence {
        line.asked("--distributiveIndependence", None, "`distributive-independence`");
    }
    if let Some(streams) = asked.max_aux_streams {
        line.value("--maxAuxStreams", &streams.to_string());
    }
    if let Some(level) = asked.tiling {
        line.asked("--tilingOptimizationLevel", Some(&level.to_string()), "`tiling`");
    }
    if let Some(level) = asked.hardware_compatibility {
        line.word("--hardwareCompatibilityLevel", level);
    }
    if asked.version_compatible {
        line.flag("--versionCompatible");
    }
    if asked.strip_weights {
        line.asked("--stripWeights", None, "`strip-weights`");
    }
    if asked.refit {
        line.flag("--refit");
    }
    if !asked.tactic_sources.is_empty() {
        for source in &asked.tactic_sources {
            let word = source.trim_start_matches(['+', '-']).to_uppercase();
            if !flags::words("--tacticSources", line.version).contains(&word.as_str())
                || word.len() == source.len()
            {
                let why = match flags::word_versions("--tacticSources", &word) {
                    _ if word.len() == source.len() => "write `+` or `-` before it".to_owned(),
                    _ => since("--tacticSources", &word),
                };
                line.missing.push(Unavailable { what: format!("the tactic source `{source}`"), why });
            }
        }
        line.value("--tacticSources", &asked.tactic_sources.join(","));
    }
    if let Some((core, fallback)) = asked.dla {
        line.value("--useDLACore", &core.to_string());
        if fallback {
            line.flag("--allowGPUFallback");
        }
    }
}

/// A bare number, which is MiB on every version; with a suffix, the unit differs by version.
fn mebibytes(bytes: u64) -> String {
    let whole = bytes >> 20;
    match bytes & ((1 << 20) - 1) {
        0 => whole.to_string(),
        #[expect(clippy::cast_precision_loss, reason = "less than 2^20 is exact")]
        rest => {
            let fraction = rest as f64 / f64::from(1 << 20);
            format!("{whole}{}", fraction.to_string().trim_start_matches('0'))
        }
    }
}

fn since(of: &str, word: &str) -> String {
    match flags::word_versions(of, word) {
        None => "no version has it".to_owned(),
        Some((from, until)) => spoken(from, until),
    }
}

fn spoken(from: Version, until: Option<Version>) -> String {
    match until {
        Some(until) => format!("it is there from {}.{}, and gone in {}.{}", from.0, from.1, until.0, until.1),
        None => format!("it is there from {}.{}", from.0, from.1),
    }
}

/// A command line in the making.
struct Line {
    version: Version,
    words: Vec<String>,
    missing: Vec<Unavailable>,
}

impl Line {
    /// A switch that every version has that can get here.
    fn flag(&mut self, name: &'static str) {
        self.asked(name, None, name);
    }

    fn value(&mut self, name: &'static str, value: &str) {
        self.asked(name, Some(value), name);
    }

    /// One word of those that the version takes.
    fn word(&mut self, name: &'static str, word: &str) {
        if flags::words(name, self.version).contains(&word) {
            self.value(name, word);
        } else {
            let what = format!("`{name}={word}`");
            self.missing.push(Unavailable { what, why: since(name, word) });
        }
    }

    fn asked(&mut self, name: &'static str, value: Option<&str>, what: &str) {
        match flags::find(name) {
            Some(flag) if flag.exists(self.version) => self.words.push(match value {
                Some(value) => format!("{name}={value}"),
                None => name.to_owned(),
            }),
            found => {
                let why = found.map(|flag| spoken(flag.since(), flag.until()));
                let why = why.unwrap_or_else(|| "no version has it".to_owned());
                self.missing.push(Unavailable { what: what.to_owned(), why });
            }
        }
    }
}

/// A word as a shell reads it back: as it is if that is plain, else in quotes.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
