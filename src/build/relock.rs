//! `lock`: the lock file from what is here, without a build; and what the package index gives now.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::carry_out::Results;
use super::context::Context;
use super::gather::gather;
use super::lock_file;
use super::publish;
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::fs;
use crate::manifest::{Engine, Source};
use crate::plan::{Action, Lock, LockedToolchain, Planned, lock_changes, source_id};
use crate::source::pip;
use crate::toolchain;

/// What is to be fetched again, whatever hash the lock file has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    /// Everything that comes from a package.
    All,
    /// What this model, package or toolchain comes from.
    Named(String),
}

impl Upgrade {
    fn is_of(&self, names: &[&str]) -> bool {
        match self {
            Upgrade::All => true,
            Upgrade::Named(name) => names.contains(&name.as_str()),
        }
    }
}

/// What became of the lock file.
#[derive(Debug, Clone, Default)]
pub struct Relocked {
    /// What differs from before, a line each.
    pub changes: Vec<String>,
    /// Engines that are not published as the manifests say, and so are not locked anew.
    pub open: Vec<String>,
    /// Worth knowing.
    pub warnings: Vec<Diagnostic>,
    /// Why nothing was written.
    pub errors: Vec<Diagnostic>,
}

/// Writes what is used, and what is published, into the lock file; with `force`, keeping nothing of it.
///
/// # Errors
/// The cache cannot be used at all.
pub fn relock(
    ctx: &mut Context<'_>,
    engines: &[&Engine],
    upgrade: Option<&Upgrade>,
    force: bool,
) -> Result<Relocked, cache::Error> {
    let before = ctx.lock.clone();
    if force {
        ctx.lock = Lock::new();
    }
    if let Some(upgrade) = upgrade
        && let Err(error) = forget(ctx, engines, upgrade)
    {
        return Ok(Relocked { errors: vec![error], ..Relocked::default() });
    }
    let gathered = gather(ctx, engines)?;
    let mut done = Relocked { warnings: gathered.warnings.clone(), ..Relocked::default() };
    done.errors.extend(gathered.planned.iter().flat_map(|planned| planned.errors.iter().cloned()));
    if !done.errors.is_empty() {
        return Ok(done);
    }
    let written = publish::lock(&ctx.manifest.root).map_err(file_failed).and_then(|_held| {
        lock_file::write(ctx, &|lock| {
            if force {
                *lock = Lock::new();
            }
            lock_file::update(ctx, &gathered, &Results::new(), lock);
        })
    });
    match written {
        Ok(after) => done.changes = lock_changes(&before, &after),
        Err(error) => done.errors.push(error),
    }
    let is_open = |planned: &&Planned| planned.action != Action::UpToDate;
    done.open = gathered.planned.iter().filter(is_open).map(|planned| planned.name.to_string()).collect();
    ctx.cache.flush();
    Ok(done)
}

fn file_failed(error: fs::Error) -> Diagnostic {
    Diagnostic::error("file", error.to_string())
}

/// Takes the hashes of packages out of the lock file, and out of the cache what the index gives otherwise now.
fn forget(ctx: &mut Context<'_>, engines: &[&Engine], upgrade: &Upgrade) -> Result<(), Diagnostic> {
    let mut found = false;
    for engine in engines {
        let Source::Package { name, version, .. } = &engine.source else { continue };
        if !upgrade.is_of(&[&engine.name.model, name]) {
            continue;
        }
        found = true;
        let id = source_id(&engine.source, &ctx.manifest.root);
        let Some(packages) = ctx.lock.unpin_source(&id) else { continue };
        let folder = ctx.cache.folder("packages").join(format!("{name}-{version}"));
        refresh(ctx, name, version, &packages, Some(folder))?;
    }
    for declared in ctx.manifest.toolchains.values() {
        let product = toolchain::product(declared.kind).filter(|_| declared.root.is_none());
        let (Some(product), Some(version)) = (product, &declared.version) else { continue };
        if !upgrade.is_of(&[&declared.name, product.package]) {
            continue;
        }
        found = true;
        let Some(packages) = ctx.lock.unpin_toolchain(declared.kind.name(), version) else { continue };
        let folder = toolchain::fetched(&ctx.cache, product, version).map(|located| located.folder);
        refresh(ctx, product.package, version, &packages, folder)?;
    }
    match upgrade {
        Upgrade::Named(name) if !found => {
            let message =
                format!("no model, package or toolchain that comes from a package is named `{name}`");
            Err(Diagnostic::error("upgrade", message)
                .help("versions stand in manifests; `lock --upgrade` takes the files that the index has of them now"))
        }
        _ => Ok(()),
    }
}

/// Asks the index for a package: if it is another file than before, what was fetched goes away.
fn refresh(
    ctx: &Context<'_>,
    package: &str,
    version: &str,
    before: &BTreeMap<String, String>,
    fetched: Option<PathBuf>,
) -> Result<(), Diagnostic> {
    let job = ctx.cache.job_dir().map_err(|e| Diagnostic::from(&e))?;
    let wheel = pip::download(package, version, job.path(), &ctx.source).map_err(|e| Diagnostic::from(&e))?;
    if before.get(&wheel.file_name) == Some(&wheel.sha256) {
        return Ok(());
    }
    if let Some(folder) = fetched.filter(|folder| fs::exists(folder)) {
        ctx.cache.quarantine(&folder, "the package index has another file of it now");
    }
    Ok(())
}

/// Lines for `.gitattributes`, of what `apply` writes. The lock file is text that is merged by lines: blocks are sorted,
/// so that two people who build different engines touch different lines. Engines, where they are checked in, are no text.
pub const GIT_ATTRIBUTES: [&str; 2] = ["enginewright.lock text eol=lf linguist-generated", "*.engine binary"];

/// Those of [`GIT_ATTRIBUTES`] that are not there yet, if the project is in a Git work tree.
#[must_use]
pub fn git_attributes(root: &std::path::Path) -> Vec<String> {
    let Some(top) = root.ancestors().find(|folder| fs::exists(&folder.join(".git"))) else {
        return Vec::new();
    };
    let folders = root.ancestors().take_while(|folder| folder.starts_with(top));
    let written: String = folders
        .filter_map(|folder| fs::read_to_string(&folder.join(".gitattributes")).ok())
        .collect::<Vec<_>>()
        .join("\n");
    let is_missing = |line: &&&str| line.split(' ').next().is_some_and(|what| !written.contains(what));
    GIT_ATTRIBUTES.iter().filter(is_missing).map(|line| (*line).to_owned()).collect()
}

impl Lock {
    /// Drops the hashes of a source's packages, and gives them.
    fn unpin_source(&mut self, id: &str) -> Option<BTreeMap<String, String>> {
        let mut block = self.source(id)?.clone();
        let packages = std::mem::take(&mut block.packages);
        self.set_source(block);
        (!packages.is_empty()).then_some(packages)
    }

    /// Drops the hashes of a toolchain's packages, on all platforms, and gives them.
    fn unpin_toolchain(&mut self, kind: &str, version: &str) -> Option<BTreeMap<String, String>> {
        let is_it = |block: &&LockedToolchain| block.kind == kind && block.version == version;
        let blocks: Vec<_> = self.toolchains().filter(is_it).cloned().collect();
        let mut all = BTreeMap::new();
        for mut block in blocks {
            all.append(&mut block.packages);
            self.set_toolchain(block);
        }
        (!all.is_empty()).then_some(all)
    }
}
