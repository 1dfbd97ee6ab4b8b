//! Builder options, to `[model.X.build]`.

use toml_edit::{Array, Value};

use super::map::Mapping;
use super::notes::listed;
use super::options::Given;
use super::precision::Typing;
use super::{Version, codes, values};
use crate::diagnostic::{Diagnostic, nearest};
use crate::toolchain::trtexec::flags;

type Build = Vec<(&'static str, Value)>;

/// Options that are on or off, and their keys.
const SWITCHES: &[(&str, &str)] = &[
    ("--allowWeightStreaming", "weight-streaming"),
    ("--distributiveIndependence", "distributive-independence"),
    ("--versionCompatible", "version-compatible"),
    ("--stripWeights", "strip-weights"),
    ("--weightless", "strip-weights"),
    ("--refit", "refit"),
    ("--allowGPUFallback", "dla-gpu-fallback"),
];

/// The words of an option, and those of its key; an empty one is the default.
type Words = &'static [(&'static str, &'static str)];

/// Options that take a word, and their keys.
const WORDS: &[(&str, &str, Words)] = &[
    (
        "--profilingVerbosity",
        "profiling",
        &[
            ("layer_names_only", ""),
            ("default", ""),
            ("none", "none"),
            ("detailed", "detailed"),
            ("verbose", "detailed"),
        ],
    ),
    (
        "--hardwareCompatibilityLevel",
        "hardware-compatibility",
        &[("none", ""), ("ampere+", "ampere-plus"), ("samecomputecapability", "same-compute-capability")],
    ),
    ("--tilingOptimizationLevel", "tiling", &[("0", ""), ("1", "fast"), ("2", "moderate"), ("3", "full")]),
];

/// Options that this step is about.
pub(super) const OPTIONS: &[&str] = &[
    "--workspace",
    "--memPoolSize",
    "--allowWeightStreaming",
    "--distributiveIndependence",
    "--versionCompatible",
    "--stripWeights",
    "--weightless",
    "--stripAllWeights",
    "--refit",
    "--allowGPUFallback",
    "--profilingVerbosity",
    "--hardwareCompatibilityLevel",
    "--tilingOptimizationLevel",
    "--builderOptimizationLevel",
    "--maxAuxStreams",
    "--sparsity",
    "--tacticSources",
    "--useDLACore",
    "--staticPlugins",
    "--plugins",
    "--timingCacheFile",
    "--noBuilderCache",
    "--errorOnTimingCacheMiss",
];

const MIB: f64 = (1u64 << 20) as f64;

impl Mapping<'_> {
    pub(super) fn build(&mut self, typing: &Typing) -> Build {
        let mut build = Build::new();
        // From 10.0 on, a network is strongly typed by default here; before, it never is.
        let by_default = self.version >= Version(10, 0, 0) && !self.options.has("--useDLACore");
        if typing.is_strong != by_default {
            build.push(("typing", if typing.is_strong { "strong" } else { "weak" }.into()));
        }
        self.memory(&mut build);
        self.switches(&mut build);
        self.numbers(&mut build);
        self.words(&mut build);
        self.files(&mut build);
        self.timeout(&mut build);
        build
    }

    /// `--workspace` and `--memPoolSize`.
    fn memory(&mut self, build: &mut Build) {
        let mut workspace: Option<f64> = None;
        if let Some(given) = self.options.get("--workspace") {
            workspace = given.value.parse::<f64>().ok().map(|mib| mib * MIB);
        }
        if let Some(given) = self.options.get("--memPoolSize").cloned() {
            let pools = values::list(&given.value, self.version).unwrap_or_else(|why| {
                self.notes.error(given.error(codes::VALUE, format!("`--memPoolSize`: {why}")));
                Vec::new()
            });
            for pool in pools {
                if let Some((name, bytes)) = self.pool(pool, &given) {
                    match name.as_str() {
                        "workspace" => workspace = Some(bytes),
                        other => self.notes.lossy(
                            &given,
                            format!("the limit of the memory pool `{other}` cannot be given in a manifest"),
                        ),
                    }
                }
            }
        }
        match workspace {
            Some(bytes) if bytes < 1.0 => {
                let given = self.options.get("--memPoolSize").or_else(|| self.options.get("--workspace"));
                if let Some(given) = given.cloned() {
                    self.notes.error(given.error(codes::VALUE, "a workspace of nothing builds no engine"));
                }
            }
            Some(bytes) if bytes >= HUGE => build.push(("workspace", "max".into())),
            Some(bytes) => build.push(("workspace", size(bytes).into())),
            None => build.push(("workspace", "max".into())),
        }
    }

    /// `NAME:SIZE`, in bytes.
    fn pool(&mut self, pool: &str, given: &Given) -> Option<(String, f64)> {
        let sized = values::pair(pool)
            .and_then(|(name, size)| Ok((name, size, values::pool_size(size, self.version)?)));
        let (name, size, (bytes, is_odd)) = match sized {
            Ok(sized) => sized,
            Err(why) => {
                let error = given.error(codes::VALUE, format!("`--memPoolSize`: {why}"));
                self.notes
                    .error(error.help("write `--memPoolSize=workspace:4096`, which is MiB on every version"));
                return None;
            }
        };
        let known = flags::words("pools", self.version);
        if !known.contains(&name.as_str()) {
            let error =
                given.error(codes::VALUE, format!("TensorRT {} has no memory pool `{name}`", self.version));
            self.notes.error(error.note(format!("its pools are {}", listed(known))));
            return None;
        }
        if is_odd {
            let message = format!(
                "`{size}` of `--memPoolSize` is {} in TensorRT {}, which is not what it looks like",
                show(bytes),
                self.version
            );
            self.notes
                .warning(given.error(codes::IGNORED, message).help("a bare number is MiB on every version"));
        }
        Some((name, bytes))
    }

    fn switches(&mut self, build: &mut Build) {
        for (option, key) in SWITCHES {
            if self.options.has(option) && !build.iter().any(|(written, _)| written == key) {
                build.push((key, true.into()));
            }
        }
        if self.options.has("--stripAllWeights") {
            build.retain(|(key, _)| !["strip-weights", "refit"].contains(key));
            build.extend([("strip-weights", true.into()), ("refit", true.into())]);
        }
        if let Some(given) =
            self.options.get("--allowGPUFallback").filter(|_| !self.options.has("--useDLACore"))
        {
            let message = "`--allowGPUFallback` is ignored without `--useDLACore`";
            self.notes.warning(given.error(codes::IGNORED, message));
            build.retain(|(key, _)| *key != "dla-gpu-fallback");
        }
    }

    fn numbers(&mut self, build: &mut Build) {
        let cases = [
            ("--builderOptimizationLevel", "optimization-level", 0..=5),
            ("--maxAuxStreams", "max-aux-streams", 0..=i64::from(i32::MAX)),
            ("--useDLACore", "dla-core", 0..=15),
        ];
        for (option, key, range) in cases {
            let Some(given) = self.options.get(option).cloned() else { continue };
            match given.value.parse::<i64>() {
                Ok(number) if range.contains(&number) => build.push((key, number.into())),
                // What TensorRT has by default.
                Ok(-1) => {}
                _ => self.notes.error(given.error(
                    codes::VALUE,
                    format!("`{option}` is {} to {}, not {}", range.start(), range.end(), given.value),
                )),
            }
        }
    }

    fn words(&mut self, build: &mut Build) {
        for (option, key, words) in WORDS {
            let Some(given) = self.options.get(option).cloned() else { continue };
            let value = given.value.to_lowercase();
            let known = flags::words(option, self.version);
            let found = words.iter().find(|(word, _)| *word == value);
            let exists = known.is_empty() || known.iter().any(|word| word.to_lowercase() == value);
            match found.filter(|_| exists) {
                Some((_, "")) => {}
                Some((_, word)) => build.push((key, (*word).into())),
                None => self.unknown_word(&given),
            }
        }
        if let Some(given) = self.options.get("--sparsity").cloned() {
            match given.value.as_str() {
                "disable" => {}
                "enable" => build.push(("sparse-weights", true.into())),
                "force" => self.notes.lossy(
                    &given,
                    "`--sparsity=force` writes other weights into the model, which is for timing alone",
                ),
                _ => self.unknown_word(&given),
            }
        }
        if let Some(given) = self.options.get("--tacticSources").cloned() {
            self.tactic_sources(&given, build);
        }
    }

    fn unknown_word(&mut self, given: &Given) {
        let name = given.flag.name();
        let known = flags::words(name, self.version);
        let mut error = given.error(
            codes::VALUE,
            format!("`{name}` has no value `{}` in TensorRT {}", given.value, self.version),
        );
        if !known.is_empty() {
            error = error.note(format!("its values are {}", listed(known.iter().copied())));
        }
        if let Some((since, until)) = flags::word_versions(name, &given.value) {
            let until = until.map_or(String::new(), |until| format!(" to before {until}"));
            error = error.note(format!("`{}` exists from {since}{until}", given.value));
        } else if let Some(near) = nearest(&given.value, known) {
            error = error.help(format!("did you mean `{near}`?"));
        }
        self.notes.error(error);
    }

    fn tactic_sources(&mut self, given: &Given, build: &mut Build) {
        let known = flags::words("--tacticSources", self.version);
        let mut sources: Vec<String> = Vec::new();
        for source in given.value.split(',') {
            let (sign, name) = source.split_at(usize::from(source.starts_with(['+', '-'])));
            let name = name.to_uppercase();
            if sign.is_empty() {
                let error = given.error(
                    codes::VALUE,
                    format!("`{source}` of `--tacticSources` has no `+` or `-` before it"),
                );
                return self.notes.error(error);
            }
            if !known.contains(&name.as_str()) {
                return self.unknown_word(&Given { value: name, ..given.clone() });
            }
            let other = format!("{}{name}", if sign == "+" { "-" } else { "+" });
            if sources.contains(&other) {
                let message = format!("the tactic source {name} is turned on and off");
                return self.notes.error(given.error(codes::CONFLICT, message).help("keep one of them"));
            }
            sources.push(format!("{sign}{name}"));
        }
        build.push(("tactic-sources", Value::from(sources.into_iter().collect::<Array>())));
    }

    /// Options that name files: plugins, timing caches.
    fn files(&mut self, build: &mut Build) {
        let plugins: Vec<Given> =
            self.options.all("--plugins").chain(self.options.all("--staticPlugins")).cloned().collect();
        let mut paths = Array::new();
        for given in &plugins {
            match self.run.host_path(&given.value) {
                Some(path) => paths.push(path.display().to_string()),
                None => self.notes.lossy(
                    given,
                    format!(
                        "the plugin `{}` lies in the container, where its digest cannot be taken",
                        given.value
                    ),
                ),
            }
        }
        if !paths.is_empty() {
            build.push(("plugins", Value::from(paths)));
        }
        let caches = ["--timingCacheFile", "--noBuilderCache", "--errorOnTimingCacheMiss"];
        let caches: Vec<Given> = caches.iter().filter_map(|name| self.options.get(name).cloned()).collect();
        if let Some(first) = caches.first() {
            let names = listed(caches.iter().map(|g| g.flag.name()));
            let message = format!(
                "{names} has no meaning here: enginewright keeps a timing cache for each TensorRT and GPU"
            );
            self.notes.note(first.error(codes::NO_MEANING, message));
        }
    }

    /// What `timeout` was given.
    fn timeout(&mut self, build: &mut Build) {
        let Some(word) = &self.run.timeout else { return };
        let digits = word.text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let seconds = digits.parse::<f64>().ok().and_then(|n| {
            Some(
                n * match &word.text[digits.len()..] {
                    "" | "s" => 1.0,
                    "m" => 60.0,
                    "h" => 3600.0,
                    "d" => 86400.0,
                    _ => return None,
                },
            )
        });
        match seconds.filter(|s| (1.0..=30.0 * 86400.0).contains(s)) {
            Some(seconds) => build.push(("timeout", format!("{}s", seconds.ceil()).into())),
            None => {
                let message = format!("`{}` is no limit of time that a manifest takes", word.text);
                self.notes.error(Diagnostic::error(codes::VALUE, message).at(&word.origin, ""));
            }
        }
    }
}

/// More than any GPU has.
const HUGE: f64 = (1u64 << 45) as f64;

/// `4GiB`, `512MiB`, `100000B`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number below 2^45")]
fn size(bytes: f64) -> String {
    let bytes = bytes as u64;
    match bytes {
        b if b % (1 << 30) == 0 => format!("{}GiB", b >> 30),
        b if b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{}KiB", b >> 10),
        b => format!("{b}B"),
    }
}

fn show(bytes: f64) -> String {
    match bytes {
        b if b < 1024.0 => format!("{b} bytes"),
        b if b < MIB => format!("{} KiB", b / 1024.0),
        b if b < HUGE => format!("{} MiB", b / MIB),
        _ => "more than any GPU has".to_owned(),
    }
}
