//! What a toolchain is: the digests of its files.

use std::path::Path;

use super::product::Product;
use crate::digest::{Blob, Digest, Preimage, Value};

/// The files of a toolchain, and one digest of all of them, which goes into keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Digest of names, digests and sizes.
    pub digest: Digest,
    /// The files by name, in order of their names.
    pub files: Vec<(String, Blob)>,
}

impl Identity {
    /// From the files, in any order.
    #[must_use]
    pub fn of(mut files: Vec<(String, Blob)>) -> Identity {
        files.sort_by(|a, b| a.0.cmp(&b.0));
        // A file is named by its name and content alone: not by its folder, and not by a SHA-256
        // that may or may not have been computed.
        let list = files
            .iter()
            .map(|(name, blob)| {
                let size = i64::try_from(blob.size).unwrap_or(i64::MAX);
                Value::List(vec![
                    Value::Text(name.clone()),
                    Value::Text(blob.b3.to_string()),
                    Value::Int(size),
                ])
            })
            .collect();
        let preimage = Preimage::new("toolchain").with("files", Value::List(list));
        Identity { digest: preimage.key(), files }
    }
}

/// Identifies the libraries of a product in a folder. `digest_file` reads a file, or knows already
/// what is in it.
///
/// # Errors
/// The first that `digest_file` gives.
pub fn identify<E>(
    product: &Product,
    folder: &Path,
    digest_file: &mut dyn FnMut(&Path) -> Result<Blob, E>,
) -> Result<Identity, E> {
    let mut files = Vec::new();
    for name in product.libraries {
        // A library that is not there is for `digest_file` to complain of.
        let path = product.library(folder, name).unwrap_or_else(|| folder.join(name));
        files.push(((*name).to_owned(), digest_file(&path)?));
    }
    Ok(Identity::of(files))
}

#[cfg(test)]
mod tests {
    use super::super::product::product;
    use super::*;
    use crate::manifest::ToolchainKind;

    fn blob(content: &str) -> Blob {
        Blob { b3: Digest::of(content.as_bytes()), size: content.len() as u64, sha256: None }
    }

    fn identity(files: &[(&str, &str)]) -> Digest {
        Identity::of(files.iter().map(|(name, text)| ((*name).to_owned(), blob(text))).collect()).digest
    }

    #[test]
    fn order_and_sha256_mean_nothing() {
        let one = identity(&[("a", "1"), ("b", "2")]);
        assert_eq!(one, identity(&[("b", "2"), ("a", "1")]));
        let with_sha = Blob { sha256: Some("0".repeat(64)), ..blob("1") };
        assert_eq!(one, Identity::of(vec![("a".into(), with_sha), ("b".into(), blob("2"))]).digest);
    }

    #[test]
    fn names_and_contents_mean_everything() {
        let one = identity(&[("a", "1"), ("b", "2")]);
        assert_ne!(one, identity(&[("a", "2"), ("b", "1")]));
        assert_ne!(one, identity(&[("a", "1"), ("c", "2")]));
        assert_ne!(one, identity(&[("a", "1")]));
    }

    #[test]
    fn the_folder_is_no_part_of_it() {
        let digest = |folder: &str| {
            let rtx = product(ToolchainKind::TensorrtRtx).unwrap();
            identify(rtx, Path::new(folder), &mut |path| {
                Ok::<Blob, ()>(blob(path.file_name().and_then(|name| name.to_str()).unwrap_or("")))
            })
            .unwrap()
            .digest
        };
        assert_eq!(digest("/a"), digest("/b/c"));
    }
}
