//! Any model: refused, or typed with `std-fp16` so that every check of the result holds; fused before, if the first
//! byte is odd.
#![no_main]

mod files;

use std::collections::BTreeSet;

use enginewright::manifest::Fuse;
use enginewright::precision::{Capabilities, FloatType, Spec, prepare, std_fp16};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(model) = files::canonical(data) else { return };
    // The first field of most files is the version of the format: it says nothing of the graph.
    let odd = data.get(1).is_some_and(|version| version % 2 == 1);
    let fuse = if odd { BTreeSet::from([Fuse::LayerNorm]) } else { BTreeSet::new() };
    let capabilities = Capabilities { demotes_lone_gemm: true, without: Vec::new(), max_opset: None };
    let spec = Spec { fuse, ..Spec::new(FloatType::Fp16, std_fp16::rules(), capabilities) };
    let problems = match prepare(&model, &spec) {
        Ok(prepared) => prepared.problems,
        Err(problems) => problems,
    };
    let broken = problems.iter().find(|problem| problem.code == "precision-internal");
    assert!(broken.is_none(), "{broken:#?}");
});
