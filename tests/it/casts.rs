//! Casts stand where a value crosses to another type, and nowhere else.

use std::path::Path;

use enginewright::onnx::testing::save;

use crate::crossing::{casts, crossings, transformer, typed};
use crate::support::{Project, models::REAL, shared_cache};

/// Casts of the model typed with `std-fp16`, and how many values cross.
fn counted(path: &Path) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (model, prepared) = typed(path, folder.path());
    let typed = prepared.model.unwrap_or_else(|| panic!("{:#?}", prepared.problems));
    (casts(&typed), crossings(&model, &prepared.assignment))
}

#[test]
fn there_are_no_more_casts_than_values_that_cross() {
    let project = Project::new(&format!("[defaults]\ntargets = [\"a\"]\n{REAL}"));
    project.share("packages");
    project.run(&["plan", "--fetch"]).expect(0);
    let packages = shared_cache().join("v1/packages");
    let file = |package: &str, file: &str| {
        let folder = std::fs::read_dir(packages.join(package)).unwrap().next().unwrap().unwrap().path();
        folder.join(file)
    };
    let mut found = vec![
        ("magika", counted(&file("magika-1.0.3", "magika/models/standard_v3_3/model.onnx"))),
        (
            "PP-OCRv4 rec",
            counted(&file(
                "rapidocr-onnxruntime-1.4.4",
                "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
            )),
        ),
    ];
    let path = project.path("transformer.onnx");
    save(&transformer(12, 64), &path).unwrap();
    found.push(("transformer", counted(&path)));
    eprintln!("Casts, and values that cross: {found:?}");
    assert!(found.iter().all(|(_, (casts, crossing))| casts <= crossing && *casts > 0), "{found:?}");
    // Two norms, a Softmax and the borders of each of 12 layers.
    assert!(found[2].1.0 < 12 * 7, "{found:?}");
}
