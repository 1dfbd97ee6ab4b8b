//! Types a model with `std-fp16`, for comparison with other converters: `bench-typed IN.onnx FOLDER`, or
//! `bench-typed transformer:LAYERS:WIDTH FOLDER`. Writes `FOLDER/source.onnx`, if it made that, and
//! `FOLDER/model.onnx`, and prints how many nodes, Casts and crossings there are.
#![expect(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]
#![expect(clippy::print_stdout, reason = "this is what it is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark has files of its own")]

mod crossing;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crossing::{casts, crossings, transformer, typed};
use enginewright::onnx::{self, testing};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (source, folder) = (arguments.next().unwrap(), PathBuf::from(arguments.next().unwrap()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = match source.strip_prefix("transformer:") {
        Some(size) => {
            let (layers, width) = size.split_once(':').unwrap();
            let model = transformer(layers.parse().unwrap(), width.parse().unwrap());
            let path = folder.join("source.onnx");
            testing::save(&model, &path).unwrap();
            path
        }
        None => Path::new(&source).to_owned(),
    };
    let started = Instant::now();
    let (model, prepared) = typed(&path, &folder.join("canonical"));
    let typed = prepared.model.unwrap();
    let (made, crossing) = (casts(&typed), crossings(&model, &prepared.assignment));
    let nodes = typed.graph().node.len();
    onnx::write_canonical(typed, &folder).unwrap();
    let ms = started.elapsed().as_millis();
    println!(r#"{{"nodes": {nodes}, "casts": {made}, "crossing": {crossing}, "ms": {ms}}}"#);
}
