//! Where the system's loader finds libraries that no variable leads it to: `/etc/ld.so.cache`, as `ldconfig` writes it.

use std::path::{Path, PathBuf};

use crate::fs;

const FILE: &str = "/etc/ld.so.cache";

/// What the format begins with; an older one may stand before it.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";

/// Bytes before the entries, and of an entry.
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// The libraries that the loader knows, in its order; none where there is no such file, or it cannot be read.
pub(super) fn libraries() -> Vec<PathBuf> {
    fs::read(Path::new(FILE)).ok().and_then(|bytes| read(&bytes)).unwrap_or_default()
}

fn read(bytes: &[u8]) -> Option<Vec<PathBuf>> {
    let start = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let bytes = &bytes[start..];
    let number = |at: usize| -> Option<usize> {
        let field = bytes.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(field.try_into().ok()?)).ok()
    };
    let path = |entry: usize| -> Option<PathBuf> {
        // Flags, the name, the path, …: offsets from the start.
        let text = bytes.get(number(HEADER + entry * ENTRY + 8)?..)?;
        let end = text.iter().position(|byte| *byte == 0)?;
        Some(PathBuf::from(std::str::from_utf8(&text[..end]).ok()?))
    };
    let count = number(MAGIC.len())?;
    (0..count.min(bytes.len() / ENTRY)).map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(paths: &[&str]) -> Vec<u8> {
        let mut bytes = b"ld.so-1.7.0\0older".to_vec();
        let start = bytes.len();
        bytes.extend(MAGIC);
        bytes.extend(u32::try_from(paths.len()).unwrap().to_le_bytes());
        bytes.resize(start + HEADER, 0);
        let mut at = HEADER + paths.len() * ENTRY;
        for path in paths {
            bytes.extend([3, 3, 0, 0, 0, 0, 0, 0]);
            bytes.extend(u32::try_from(at).unwrap().to_le_bytes());
            bytes.extend([0; 12]);
            at += path.len() + 1;
        }
        for path in paths {
            bytes.extend(path.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn paths_are_read_in_order_and_damage_is_nothing() {
        let bytes = written(&["/opt/cudnn/libcudnn.so.8", "/usr/lib/libc.so.6"]);
        let expected = ["/opt/cudnn/libcudnn.so.8", "/usr/lib/libc.so.6"].map(PathBuf::from);
        assert_eq!(read(&bytes).unwrap(), expected);
        for end in 0..bytes.len() {
            let _ = read(&bytes[..end]);
        }
        assert_eq!(read(b"something else"), None);
    }

    #[test]
    fn that_of_this_machine_is_read() {
        let found = libraries();
        if fs::is_file(Path::new(FILE)) {
            assert!(found.iter().any(|path| path.to_string_lossy().contains("libc.so")), "{found:?}");
        }
    }
}
