//! A folder in memory for the files that a target reads and writes.

use std::path::{Path, PathBuf};

use enginewright::onnx::{self, Model};

/// Where files cost nothing, if there is such a place.
fn room() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// The canonical form of a model, if that file is one; read back, and the same when it is made again.
pub(crate) fn canonical(data: &[u8]) -> Option<Model> {
    let folder = tempfile::Builder::new().prefix("enginewright-fuzz").tempdir_in(room()).unwrap();
    let path = folder.path().join("source.onnx");
    std::fs::write(&path, data).unwrap();
    let first = folder.path().join("first");
    std::fs::create_dir(&first).unwrap();
    let done = onnx::canonicalize(&path, &first).ok()?;
    let read = |folder: &Path, has_weights: bool| {
        let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap();
        (bytes(onnx::MODEL_FILE), has_weights.then(|| bytes(onnx::WEIGHTS_FILE)))
    };
    let (graph, weights) = read(&first, done.has_weights);
    let model = onnx::read_canonical(graph.clone().into(), weights.clone().map(Into::into)).unwrap();
    let second = folder.path().join("second");
    std::fs::create_dir(&second).unwrap();
    let again = onnx::canonicalize(&first.join(onnx::MODEL_FILE), &second).unwrap();
    assert!(read(&second, again.has_weights) == (graph, weights), "its canonical form has another one");
    // What is digested is what was written.
    let third = folder.path().join("third");
    std::fs::create_dir(&third).unwrap();
    let told = onnx::digest(&path, &third, 1).unwrap();
    assert!(read(&third, false).0 == read(&first, false).0, "the graph is another one");
    let digest = |bytes: &[u8]| enginewright::digest::Digest::of(bytes);
    let written = done.has_weights.then(|| digest(&std::fs::read(first.join(onnx::WEIGHTS_FILE)).unwrap()));
    assert!(told.digested.map(|weights| weights.b3) == written, "the weights are others");
    Some(model)
}
