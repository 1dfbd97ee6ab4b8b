//! The command line as written.

mod help;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use super::schema::Document;
use crate::digest::Digest;
use crate::manifest::Precision;

/// Infrastructure as code for NVIDIA TensorRT engines: manifests in, engines out
#[derive(Debug, Parser)]
#[command(name = "enginewright", version, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The command line as the program takes it and explains itself.
pub(super) fn program() -> clap::Command {
    help::grouped(Args::command())
}

/// What a command line says.
pub(super) fn parse(argv: &[OsString]) -> Result<Args, clap::Error> {
    let mut program = program();
    let mut matches = program.try_get_matches_from_mut(argv)?;
    Args::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut program))
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Run as if started in DIR [default: where `manifests/` is]
    #[arg(short = 'C', global = true, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// The cache [default: `cache/` in the project]
    #[arg(long, global = true, value_name = "DIR", env = "ENGINEWRIGHT_CACHE", hide_env_values = true)]
    pub(super) cache_dir: Option<PathBuf>,
    /// How to print data; `html` and `md` are for `report`
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(super) format: FormatArg,
    /// When to use colours; NO_COLOR is respected
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(super) color: ColorArg,
    /// Print errors and data only
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Tell every step, with the time since the start
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(super) verbose: bool,
    /// Write every step, and all messages, to FILE as well
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatArg {
    Text,
    Json,
    Html,
    Md,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorArg {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write manifests for models: targets, profiles, rules, comments
    #[command(after_help = "Example: enginewright init models/encoder.onnx --target 'RTX 3090'")]
    Init(InitArgs),
    /// Find what is wrong with manifests, models and their numbers
    #[command(
        after_help = "Builds nothing. Exits with 1 if there is an error. Levels of hazards are set in manifests: \
                            `[model.encoder.hazards]`.\n\nExample: enginewright check --fix-hints"
    )]
    Check(CheckArgs),
    /// Show what would be done, and why
    #[command(after_help = "Example: enginewright plan 'magika@*' --detailed-exitcode")]
    Plan(PlanArgs),
    /// Build what changed, and publish it below `engines/`
    #[command(
        after_help = "`apply PLAN` does what a file of `plan --out` says, or nothing if that is no longer what \
                            would be done. It can be run again after it was interrupted.\n\n\
                            Example: enginewright apply -j 2 encoder@rtx-3090"
    )]
    Apply(ApplyArgs),
    /// Show what is published, and if it is current
    #[command(after_help = "Example: enginewright status --format json")]
    Status(EngineArgs),
    /// Show what an engine is made of, and what differs from before
    #[command(after_help = "Example: enginewright why encoder@rtx-3090 --since lock")]
    Why {
        /// The engine: MODEL[.VARIANT]@TARGET
        engine: String,
        /// Tell what differs from this run (its name or the start of it, as in `runs/` of the cache), or from the
        /// lock file: `lock`
        #[arg(long, value_name = "RUN|lock")]
        since: Option<String>,
    },
    /// Measure accuracy beside ONNX Runtime, against the tolerances
    #[command(after_help = "Example: enginewright verify 'magika@*'")]
    Verify(VerifyArgs),
    /// Find a smallest set of FP32 nodes that passes the tolerances
    #[command(after_help = "Example: enginewright tune magika --write")]
    Tune(TuneArgs),
    /// Show the type of every node, and the rule that decided it
    #[command(after_help = "Example: enginewright rules encoder")]
    Rules {
        /// MODEL, MODEL.VARIANT, MODEL@TARGET or globs of them
        model: String,
    },
    /// Show the log of an engine's build, or of its last failure
    #[command(after_help = "Example: enginewright log encoder@rtx-3090")]
    Log {
        /// The engine: MODEL[.VARIANT]@TARGET
        engine: String,
        /// Show the last failure, even if there is a build
        #[arg(long)]
        failure: bool,
    },
    /// List or fetch toolchains
    #[command(subcommand, after_help = "Example: enginewright toolchain fetch rtx")]
    Toolchain(ToolchainCommand),
    /// Show the GPUs of this machine, and what serves them
    #[command(after_help = "Example: enginewright gpu --format json")]
    Gpu,
    /// Build engines again, and hold the bytes against the record
    #[command(after_help = "Example: enginewright rebuild --check --times 3 'magika@*'")]
    Rebuild(RebuildArgs),
    /// Show, verify or collect the cache
    #[command(subcommand, after_help = "Example: enginewright cache gc --max-size 50GiB --dry-run")]
    Cache(CacheCommand),
    /// Write the lock file from what is here, without a build
    #[command(
        after_help = "`--upgrade` takes the files that the package index has now, of the versions that the manifests name, and \
                            locks their hashes.\n`--force` writes a lock file that cannot be read (merge markers, damage, another \
                            format) anew.\n\nExample: enginewright lock --upgrade rtx"
    )]
    Lock(LockArgs),
    /// Repeat a build from the cache alone, and compare the bytes
    #[command(after_help = "`why ENGINE` shows the digest. Exits with 1 if the bytes differ.\n\
                            Of TensorRT-RTX alone: a build by trtexec needs plugins, other files and a GPU, which no cache holds;\n\
                            `rebuild --check ENGINE` repeats one in its project.\n\n\
                            Example: enginewright build-action 0b6c…e1 --out again.engine")]
    BuildAction(BuildActionArgs),
    /// Make a manifest of what another program was told
    #[command(
        subcommand,
        after_help = "Example: enginewright import trtexec 'trtexec --onnx=bert.onnx --fp16'"
    )]
    Import(ImportCommand),
    /// Tell other programs what is known of an engine
    #[command(subcommand, after_help = "Example: enginewright export provenance encoder@rtx-3090")]
    Export(ExportCommand),
    /// Show the project on one page: engines, runs, types, accuracy
    #[command(after_help = "Reads what is recorded, builds nothing and needs no network.\n\n\
                            Example: enginewright report --out report.html")]
    Report(ReportArgs),
    /// Look into a file, a model or an engine, without TensorRT
    #[command(after_help = "Exits with 1 if the engine does not load on a GPU named by --on.\n\n\
                            Example: enginewright inspect engines/encoder/desktop.engine --on 'RTX 4090'")]
    Inspect(InspectArgs),
    /// Explain a message by its code, or list all codes
    #[command(after_help = "Example: enginewright explain mask-overflow-fp16")]
    Explain {
        /// What stands in brackets after `error` or `warning`; or `environment`, or `exit-codes`
        code: Option<String>,
    },
    /// Print the JSON Schema of a document
    #[command(after_help = "Example: enginewright schema manifest > enginewright.schema.json\n\n\
                            Editors find it by the first line of a manifest: #:schema ../enginewright.schema.json")]
    Schema {
        /// What it is of: `manifests/*.toml`, what `plan` and `report` print with `--format json`, `enginewright.lock`
        #[arg(value_name = "DOCUMENT", default_value = "manifest")]
        document: Document,
    },
    /// Print completions for a shell
    #[command(after_help = "Example: enginewright completions bash > /etc/bash_completion.d/enginewright")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a folder, for packages
    #[command(hide = true, after_help = "Example: enginewright man target/man")]
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// Run the request of a failed build again
    #[command(after_help = "Example: enginewright replay cache/v1/failures/ID")]
    Replay {
        /// A folder below `failures/` of the cache
        bundle: PathBuf,
        /// Wall-clock limit in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
        timeout: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// From a command line of `trtexec`, a script or a log of it
    #[command(
        after_help = "Several words are taken as they are after `--`.\n\nExample: enginewright import trtexec -- trtexec --onnx=bert.onnx --fp16"
    )]
    Trtexec(ImportTrtexecArgs),
}

#[derive(Debug, ClapArgs)]
pub(super) struct ImportTrtexecArgs {
    /// The command line in quotes, or a file that holds it, or a log of `trtexec`, or `-` for the standard input
    #[arg(required = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
    /// Write the manifest to FILE [default: print it]
    #[arg(short, long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Overwrite FILE
    #[arg(long, requires = "out")]
    pub(super) force: bool,
    /// The version of TensorRT that the command is for, such as 10.3 [default: what log, image or path tell]
    #[arg(long = "version", value_name = "VERSION")]
    pub(super) tensorrt: Option<String>,
    /// The GPU that it is for, such as 'RTX 3090' or sm_86 [default: what the log tells]
    #[arg(long, value_name = "GPU")]
    pub(super) gpu: Option<String>,
    /// Name of the model [default: that of its file]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Take `$VARIABLES` that the command line does not set from the environment
    #[arg(long)]
    pub(super) env: bool,
    /// Leave out what a manifest cannot say, and tell it
    #[arg(long)]
    pub(super) lossy: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct EngineArgs {
    /// MODEL, MODEL@TARGET or globs of them [default: all]
    #[arg(value_name = "ENGINE")]
    pub(super) engines: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct InitArgs {
    /// ONNX files; without any, a project is begun
    #[arg(value_name = "MODEL.onnx")]
    pub(super) models: Vec<PathBuf>,
    /// What to build for: a GPU, a compute capability, or a target of the project [default: what is found]
    #[arg(long = "target", value_name = "GPU")]
    pub(super) targets: Vec<String>,
    /// The types to compute in [default: fp16 where that is possible, else as-is]
    #[arg(long, value_name = "TYPE")]
    pub(super) precision: Option<PrecisionArg>,
    /// Name of the model, and of its manifest [default: the name of the file]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(super) name: Option<String>,
    /// Overwrite manifests that are there already
    #[arg(long)]
    pub(super) force: bool,
}

impl InitArgs {
    pub(super) fn precision(&self) -> Option<Precision> {
        Some(match self.precision? {
            PrecisionArg::Fp16 => Precision::Fp16,
            PrecisionArg::Bf16 => Precision::Bf16,
            PrecisionArg::Fp32 => Precision::Fp32,
            PrecisionArg::AsIs => Precision::AsIs,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PrecisionArg {
    Fp16,
    Bf16,
    Fp32,
    AsIs,
}

/// A name as manifests take it.
fn name(text: &str) -> Result<String, String> {
    crate::manifest::check_name(text).map(|()| text.to_owned())
}

#[derive(Debug, ClapArgs)]
pub(super) struct InspectArgs {
    /// An ONNX model, or an engine of any TensorRT
    pub(super) file: PathBuf,
    /// Will the engine load on this GPU? A name, or a compute capability
    #[arg(long, value_name = "GPU")]
    pub(super) on: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) engines: EngineArgs,
    /// Print the rules that mend what was found, to be pasted into a manifest
    #[arg(long)]
    pub(super) fix_hints: bool,
    /// Fetch models that are not here yet
    #[arg(long)]
    pub(super) fetch: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) engines: EngineArgs,
    /// Exit with 2 if there is work to do
    #[arg(long)]
    pub(super) detailed_exitcode: bool,
    /// Write the plan into a file, for `apply FILE`
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Show the plan in a file, whatever has changed since
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub(super) show: Option<PathBuf>,
    /// Fetch sources and toolchains that are not here yet
    #[arg(long)]
    pub(super) fetch: bool,
    /// Fail if anything differs from the lock file
    #[arg(long)]
    pub(super) locked: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ApplyArgs {
    /// MODEL, MODEL@TARGET or globs of them [default: all]; or a file that `plan --out` wrote (`*.json`)
    #[arg(value_name = "ENGINE|PLAN")]
    pub(super) engines: Vec<String>,
    /// How many builds at once [default: one per core, as memory allows]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: Option<u16>,
    /// Remove published engines that no manifest declares any more
    #[arg(long)]
    pub(super) prune: bool,
    /// Use no network: fail where something must be fetched
    #[arg(long)]
    pub(super) offline: bool,
    /// Do nothing if anything differs from the lock file, and leave that as it is
    #[arg(long)]
    pub(super) locked: bool,
    /// Measure nothing: engines get the verdict `skipped`
    #[arg(long)]
    pub(super) no_verify: bool,
    /// Leave out what this machine cannot build, for want of a TensorRT or a GPU
    #[arg(long)]
    pub(super) skip_unbuildable: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) engines: EngineArgs,
    /// How many measurements at once [default: one per core, as memory allows]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: Option<u16>,
    /// Use no network: fail where something must be fetched
    #[arg(long)]
    pub(super) offline: bool,
    /// Run the engines themselves on a GPU of this machine
    #[arg(long, value_name = "WHERE", conflicts_with = "layers")]
    pub(super) on: Option<On>,
    /// With `--on gpu`: which, as `enginewright gpu` shows them [default: the first that is served]
    #[arg(long, value_name = "N|UUID", requires = "on")]
    pub(super) gpu: Option<String>,
    /// Show every value beside its reference: which node breaks first, and where the error grows
    #[arg(long)]
    pub(super) layers: bool,
    /// With `--layers`: the error, as a share of a value, above which it counts as broken
    #[arg(long, value_name = "SHARE", requires = "layers", default_value_t = crate::verify::DRIFT_LIMIT)]
    pub(super) drift: f64,
}

/// Where engines are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum On {
    // A comment of documentation would spread the help of the command over two screens.
    Gpu,
}

#[derive(Debug, ClapArgs)]
pub(super) struct TuneArgs {
    /// The model: MODEL or MODEL.VARIANT, or one of its engines
    pub(super) model: String,
    /// Write the rules into the manifest
    #[arg(long)]
    pub(super) write: bool,
    /// How many sets may be tried
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) budget: u16,
    /// Use no network: fail where something must be fetched
    #[arg(long)]
    pub(super) offline: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    pub(super) engines: EngineArgs,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct LockArgs {
    /// Fetch packages again, whatever hashes the lock file has of them: of this model, package or toolchain, or of all
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub(super) upgrade: Option<String>,
    /// Keep nothing of the lock file that is there, and mind no damage in it
    #[arg(long)]
    pub(super) force: bool,
    /// Use no network: fail where something must be fetched
    #[arg(long, conflicts_with = "upgrade")]
    pub(super) offline: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct BuildActionArgs {
    /// The build's key: 64 hex digits
    #[arg(value_name = "DIGEST")]
    pub(super) key: Digest,
    /// Where the toolchain is, if it is not one that the cache holds
    #[arg(long, value_name = "DIR")]
    pub(super) toolchain: Option<PathBuf>,
    /// Write the engine into a file
    #[arg(short, long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Wall-clock limit in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub(super) timeout: u64,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    pub(super) engines: EngineArgs,
    /// Compare, and publish nothing: what this command is for
    #[arg(long, required = true)]
    pub(super) check: bool,
    /// How often each engine is built
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) times: u32,
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Show what the cache holds
    #[command(after_help = "Example: enginewright cache stat --format json")]
    Stat,
    /// Hash what the cache holds, and move what is damaged to `quarantine/`
    #[command(after_help = "Example: enginewright cache verify --sample 5")]
    Verify {
        /// Hash this part of the blobs only
        #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
        sample: u8,
    },
    /// Write engines with their results into a file, for another cache
    #[command(after_help = "Example: enginewright cache export 'encoder@*' --output encoder.tar")]
    Export {
        /// MODEL, MODEL@TARGET or globs of them
        #[arg(value_name = "ENGINE", required = true)]
        engines: Vec<String>,
        /// The file, which must not exist
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Take over what `cache export` wrote on another machine
    #[command(after_help = "Every byte is verified; whose engines they are is for you to know.\n\n\
                            Example: enginewright cache import encoder.tar")]
    Import {
        /// The file
        file: PathBuf,
    },
    /// Remove what no lock file and no published engine of any project needs
    #[command(after_help = "Example: enginewright cache gc --max-size 50GiB --dry-run")]
    Gc {
        /// Only what was used longer ago than this
        #[arg(long, value_name = "DAYS", default_value_t = 14)]
        max_age: u32,
        /// Only until the blobs take no more than this, the cheapest to make again first
        #[arg(long, value_name = "SIZE", value_parser = crate::manifest::parse_size)]
        max_size: Option<u64>,
        /// Also what was used in the last 14 days
        #[arg(long)]
        force: bool,
        /// Remove nothing, show what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ExportCommand {
    /// What a published engine was made from, as an in-toto statement with SLSA provenance
    #[command(after_help = "Example: enginewright export provenance encoder@rtx-3090 > encoder.intoto.json")]
    Provenance {
        /// The engine: MODEL[.VARIANT]@TARGET
        engine: String,
        /// A URI that names who built it, such as that of the CI job [default: urn:enginewright:local]
        #[arg(long, value_name = "URI")]
        builder_id: Option<String>,
    },
    /// The command line of trtexec that builds an engine
    #[command(after_help = "Example: enginewright export trtexec encoder@orin --for 10.3 --out build/")]
    Trtexec {
        /// The engine: MODEL[.VARIANT]@TARGET
        engine: String,
        /// For this version of TensorRT, 8.6 to 11 [default: that of the engine's toolchain]
        #[arg(long = "for", value_name = "VERSION")]
        version: Option<String>,
        /// Write the ONNX that the command reads into this folder
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ToolchainCommand {
    /// List the toolchains that the manifests declare
    #[command(after_help = "Example: enginewright toolchain list")]
    List,
    /// Fetch toolchains into the cache
    #[command(after_help = "Example: enginewright toolchain fetch rtx")]
    Fetch {
        /// Names of toolchains [default: all that engines use]
        names: Vec<String>,
    },
}

#[cfg(test)]
mod tests;
