//! The command line of trtexec that does what a manifest says.

use crate::toolchain::trtexec::{self, Asked, Paths, Unavailable, quoted};

/// The command, a word after another, as a shell reads it.
///
/// # Errors
/// What the version does not have.
pub fn command(asked: &Asked, paths: &Paths) -> Result<String, Vec<Unavailable>> {
    let words = trtexec::arguments(asked, paths)?;
    let words = std::iter::once("trtexec".to_owned()).chain(words);
    Ok(words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" "))
}
