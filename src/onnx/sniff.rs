//! What a file is that is not ONNX: a pointer left by a tool, a page of an error, another format.

use std::path::Path;

use crate::diagnostic::Diagnostic;

/// Formats known by their first bytes: offset, magic, code, what it is, what to do.
const MAGIC: &[(usize, &[u8], &str, &str, &str)] = &[
    (
        0,
        b"version https://git-lfs.github.com/",
        "git-lfs-pointer",
        "a Git LFS pointer, not the model itself",
        "run `git lfs pull`",
    ),
    (
        0,
        b"/annex/objects/",
        "git-annex-pointer",
        "a git-annex pointer, not the model itself",
        "run `git annex get` on it",
    ),
    (
        0,
        b"PK\x03\x04",
        "not-onnx",
        "a zip archive (PyTorch checkpoints and Keras models are such archives)",
        "export the model to ONNX, or name the ONNX file inside the archive",
    ),
    (0, b"\x1f\x8b", "not-onnx", "gzip-compressed", "decompress it with `gunzip`"),
    (0, b"\x28\xb5\x2f\xfd", "not-onnx", "zstd-compressed", "decompress it with `unzstd`"),
    (0, b"\xfd7zXZ\x00", "not-onnx", "xz-compressed", "decompress it with `unxz`"),
    (0, b"BZh", "not-onnx", "bzip2-compressed", "decompress it with `bunzip2`"),
    (257, b"ustar", "not-onnx", "a tar archive", "unpack it and name the ONNX file"),
    (
        0,
        b"ftrt",
        "not-onnx",
        "a TensorRT engine, which is already built",
        "name the ONNX file it was built from",
    ),
    (
        0,
        b"vtrt",
        "not-onnx",
        "a TensorRT-RTX engine, which is already built",
        "name the ONNX file it was built from",
    ),
    (4, b"TFL3", "not-onnx", "a TensorFlow Lite model", "convert it with `tf2onnx --tflite`"),
    (4, b"ORTM", "not-onnx", "a model in ONNX Runtime's own format", "name the ONNX file it was made from"),
    (0, b"\x89HDF", "not-onnx", "an HDF5 file (a Keras model)", "convert it with `tf2onnx`"),
    (0, b"GGUF", "not-onnx", "a GGUF file", "export the model to ONNX"),
    (
        0,
        b"\x80\x02",
        "not-onnx",
        "a Python pickle (an old PyTorch checkpoint)",
        "export the model with `torch.onnx.export`",
    ),
    (0, b"\x93NUMPY", "not-onnx", "a NumPy array", "name the ONNX file"),
    (0, b"\x7fELF", "not-onnx", "an executable or a library", "name the ONNX file"),
];

/// How many bytes from the start decide.
const PREFIX: usize = 4096;

/// Names what the file is, if it is surely not ONNX.
pub(super) fn not_onnx(bytes: &[u8], file: &Path) -> Option<Diagnostic> {
    let name = file.display();
    if bytes.is_empty() {
        return Some(Diagnostic::error("empty-file", format!("`{name}` is empty")).in_file(file));
    }
    if let Some((code, what, help)) = known_format(bytes) {
        let error = Diagnostic::error(code, format!("`{name}` is {what}"));
        return Some(error.help(help).in_file(file));
    }
    let text = text_of(&bytes[..bytes.len().min(PREFIX)])?;
    let start = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).to_ascii_lowercase();
    let error = if start.starts_with("<!doctype html") || start.starts_with("<html") {
        Diagnostic::error("html-page", format!("`{name}` is an HTML page, not a model"))
            .help("the download gave a login or error page: fetch the file again")
    } else if start.starts_with("<?xml") {
        Diagnostic::error("not-onnx", format!("`{name}` is an XML file, not a model"))
    } else {
        let line: String = text.lines().next().unwrap_or("").chars().take(60).collect();
        Diagnostic::error("text-file", format!("`{name}` is a text file, not a model"))
            .note(format!("it begins with `{line}`"))
            .help("ONNX models are binary files; the text form is not read")
    };
    Some(error.in_file(file))
}

/// Code, description and advice, for formats with a magic number.
pub(super) fn known_format(bytes: &[u8]) -> Option<(&'static str, &'static str, &'static str)> {
    MAGIC
        .iter()
        .find(|(offset, magic, ..)| bytes.get(*offset..).is_some_and(|rest| rest.starts_with(magic)))
        .map(|(_, _, code, what, help)| (*code, *what, *help))
        .or_else(|| {
            // An annex link that lost its nature (copied as text) is a path into `.git/annex`.
            let start = &bytes[..bytes.len().min(PREFIX)];
            let annex = start.windows(11).any(|window| window == b".git/annex/");
            (annex && text_of(start).is_some()).then_some((
                "git-annex-pointer",
                "a git-annex pointer, not the model itself",
                "run `git annex get` on it",
            ))
        })
}

/// The bytes as text, if people could have written them. A cut character at the end is fine.
fn text_of(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&bytes[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    // ONNX begins with the bytes 8 and a small number, which are control characters.
    let printable = |c: char| !c.is_control() || matches!(c, '\t' | '\r' | '\n');
    (!text.is_empty() && text.chars().all(printable)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(bytes: &[u8]) -> Option<String> {
        not_onnx(bytes, Path::new("m.onnx")).map(|d| d.code.into_owned())
    }

    #[test]
    fn files_are_named_for_what_they_are() {
        assert_eq!(code(b"").as_deref(), Some("empty-file"));
        assert_eq!(code(b"hello\n").as_deref(), Some("text-file"));
        assert_eq!(code("h\u{e9}llo".as_bytes()).as_deref(), Some("text-file"));
        assert_eq!(code(b"\n <!DOCTYPE html><html>").as_deref(), Some("html-page"));
        assert_eq!(
            code(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n").as_deref(),
            Some("git-lfs-pointer")
        );
        assert_eq!(code(b"/annex/objects/SHA256E-s1--0.onnx\n").as_deref(), Some("git-annex-pointer"));
        assert_eq!(code(b"../.git/annex/objects/a/b").as_deref(), Some("git-annex-pointer"));
        for bytes in [&b"PK\x03\x04rest"[..], b"\x1f\x8b\x08", b"ftrt\0\0", b"vtrt\0\0", b"\x1c\0\0\0TFL3"] {
            assert_eq!(code(bytes).as_deref(), Some("not-onnx"), "{bytes:?}");
        }
        assert_eq!(code(b"\x08\x07\x12\x07pytorch"), None);
        assert_eq!(code(b"\xff\xfe\x00"), None);
    }
}
