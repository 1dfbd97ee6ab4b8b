//! Tests of the stage as a whole: a file in, canonical files or diagnostics out.

use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::proto::tensor_proto::DataType;
use super::proto::{
    FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorAnnotation, TensorProto, TrainingInfoProto,
};
use super::testing::{
    WithAttribute, branches, conv, external, floats, ints, mlp, model, node, raw, save, save_external, value,
};
use super::*;
use crate::digest::Digest;
use crate::fs;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The three canonical files.
type Files = (Vec<u8>, Option<Vec<u8>>, Vec<u8>);

fn canonical_of_file(path: &Path) -> Result<(Files, Canonical), Error> {
    let out = folder();
    let canonical = canonicalize(path, out.path())?;
    let read = |name: &str| fs::read(&out.path().join(name)).ok();
    assert_eq!(canonical.has_weights, fs::exists(&out.path().join(WEIGHTS_FILE)));
    Ok(((read(MODEL_FILE).unwrap(), read(WEIGHTS_FILE), read(TENSORS_FILE).unwrap()), canonical))
}

fn canonical_of(model: &ModelProto) -> Result<(Files, Canonical), Error> {
    let source = folder();
    let path = source.path().join("m.onnx");
    save(model, &path).unwrap();
    canonical_of_file(&path)
}

fn files_of(model: &ModelProto) -> Files {
    canonical_of(model).unwrap().0
}

fn codes(result: Result<(Files, Canonical), Error>) -> Vec<String> {
    match result {
        Err(Error::Invalid(diagnostics)) => diagnostics.iter().map(|d| d.code.to_string()).collect(),
        Err(Error::Fs(_)) => vec!["fs".to_owned()],
        Ok(_) => vec![],
    }
}

fn message(result: Result<(Files, Canonical), Error>) -> String {
    result.map(drop).unwrap_err().to_string()
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn changed(base: &ModelProto, edit: impl FnOnce(&mut ModelProto)) -> ModelProto {
    let mut model = base.clone();
    edit(&mut model);
    model
}

#[test]
fn the_canonical_form_of_a_canonical_form_is_itself() {
    // Its only operator is of a domain without an opset, which is read; the opset that it does name is of another.
    let undeclared = changed(&mlp(), |m| {
        let node = NodeProto { domain: Some("mine".into()), ..node("own", "Own", &["x"], &["y"]) };
        let graph = graph(m);
        graph.output[0].name = Some("y".into());
        graph.node = vec![node];
        m.opset_import = vec![OperatorSetIdProto { domain: Some("other".into()), version: Some(1) }];
    });
    for model in [mlp(), conv(), branches(), undeclared] {
        let out = folder();
        canonicalize_into(&model, out.path());
        let again = canonical_of_file(&out.path().join(MODEL_FILE)).unwrap().0;
        let read = |name: &str| fs::read(&out.path().join(name)).ok();
        assert_eq!(again, (read(MODEL_FILE).unwrap(), read(WEIGHTS_FILE), read(TENSORS_FILE).unwrap()));
    }
}

fn canonicalize_into(model: &ModelProto, out: &Path) {
    let source = folder();
    let path = source.path().join("m.onnx");
    save(model, &path).unwrap();
    canonicalize(&path, out).unwrap();
}

#[test]
fn inline_and_external_weights_give_equal_bytes() {
    let source = folder();
    let path = source.path().join("m.onnx");
    save_external(&mlp(), &path, "odd name %20.data").unwrap();
    let (files, canonical) = canonical_of_file(&path).unwrap();
    assert_eq!(files, files_of(&mlp()));
    let read: Vec<_> =
        canonical.files.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(read, ["m.onnx", "odd name %20.data"]);
    assert_eq!(canonical.files[1].1.size, (16 * 32 + 32 + 32 * 4 + 4) * 4);
}

#[test]
fn every_byte_of_external_data_is_in_its_weights_or_its_rest() {
    let source = folder();
    let (path, data) = (source.path().join("m.onnx"), source.path().join("m.data"));
    save_external(&mlp(), &path, "m.data").unwrap();
    let all = [&fs::read(&data).unwrap()[..], b"no tensor"].concat();
    let digests = |bytes: &[u8]| {
        fs::write_atomic(&data, bytes).unwrap();
        let out = folder();
        let Canonical { rests, digested, .. } = digest(&path, out.path(), 1).unwrap();
        (rests, digested.unwrap().b3)
    };
    let before = digests(&all);
    for i in (0..all.len()).step_by(41).chain([all.len() - 9, all.len() - 1]) {
        let mut changed = all.clone();
        changed[i] ^= 1;
        let after = digests(&changed);
        assert!(after.0 != before.0 || after.1 != before.1, "byte {i}");
        // Small tensors are in the graph.
        assert_eq!(after.0 == before.0, i < 16 * 32 * 4 && after.1 != before.1, "byte {i}");
    }
}

#[test]
fn what_is_digested_is_what_would_be_written() {
    let source = folder();
    let path = source.path().join("m.onnx");
    for is_external in [true, false] {
        if is_external {
            save_external(&mlp(), &path, "m.data").unwrap();
        } else {
            save(&mlp(), &path).unwrap();
        }
        let (written, out) = (files_of(&mlp()), folder());
        let Canonical { rests, has_weights, digested, .. } = digest(&path, out.path(), 1).unwrap();
        let digested = digested.unwrap();
        assert!(!has_weights && !fs::exists(&out.path().join(WEIGHTS_FILE)));
        assert_eq!(fs::read(&out.path().join(MODEL_FILE)).unwrap(), written.0);
        let weights = written.1.unwrap();
        assert_eq!((digested.b3, digested.size), (Digest::of(&weights), weights.len() as u64));
        assert_eq!(rests.len(), usize::from(is_external));
    }
    // Small ones are written.
    let out = folder();
    let done = digest(&path, out.path(), 1 << 20).unwrap();
    assert!(done.has_weights && done.digested.is_none() && fs::exists(&out.path().join(TENSORS_FILE)));
}

#[test]
fn symlinks_of_model_and_weights_are_followed() {
    let source = folder();
    let store = source.path().join("store");
    fs::create_dir_all(&store).unwrap();
    save_external(&mlp(), &store.join("blob1"), "w.bin").unwrap();
    fs::rename(&store.join("w.bin"), &store.join("blob2")).unwrap();
    fs::symlink(&store.join("blob1"), &source.path().join("m.onnx")).unwrap();
    fs::symlink(&store.join("blob2"), &source.path().join("w.bin")).unwrap();
    assert_eq!(canonical_of_file(&source.path().join("m.onnx")).unwrap().0, files_of(&mlp()));
}

#[test]
fn a_canonical_model_reads_back_with_its_weights() {
    let (model, weights, tensors) = files_of(&mlp());
    let back = read_canonical(model.into(), weights.clone().map(Bytes::from)).unwrap();
    let names: Vec<_> = back.graph().initializer.iter().map(|t| t.name()).collect();
    assert_eq!(names, ["b1", "b2", "w1", "w2"]);
    assert_eq!(back.graph().initializer[2].raw_data.as_ref().unwrap().len(), 2048);
    assert_eq!(weights.unwrap().len(), 2048);
    let digests: Vec<TensorDigest> = serde_json::from_slice(&tensors).unwrap();
    assert_eq!(digests.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), names);
}

#[test]
fn decoding_copies_no_weights() {
    let bytes = Bytes::from(mlp().encode_to_vec());
    let range = bytes.as_ptr_range();
    let back = read_canonical(bytes.clone(), None).unwrap();
    for tensor in &back.graph().initializer {
        assert!(range.contains(&tensor.raw_data.as_ref().unwrap().as_ptr()));
    }
}

#[test]
fn the_summary_says_what_the_model_is() {
    let (_, canonical) = canonical_of(&branches()).unwrap();
    let summary = canonical.summary;
    assert_eq!((summary.ir_version, summary.opset(), summary.weight_bytes), (8, Some(17), 8));
    assert_eq!(summary.inputs[0].element, "bool");
    assert_eq!(summary.inputs[1].dims, Some(vec![Dim::Param("n".to_owned())]));
    let operators: Vec<_> = summary.operators.iter().map(|(op, n)| (op.as_str(), *n)).collect();
    assert_eq!(operators, [("Add", 1), ("If", 1), ("Mul", 1), ("Sub", 1)]);
}

#[test]
fn initializers_listed_as_inputs_are_constants() {
    let old = changed(&mlp(), |m| {
        m.ir_version = Some(3);
        let listed = value("w1", DataType::Float, &[16.into(), 32.into()]);
        graph(m).input.push(listed);
    });
    let new = changed(&mlp(), |m| m.ir_version = Some(4));
    assert_eq!(files_of(&old), files_of(&new));
    let summary = canonical_of(&old).unwrap().1.summary;
    assert_eq!((summary.ir_version, summary.inputs.len()), (3, 1));
}

#[test]
fn what_subgraphs_capture_stays() {
    let with_dead = changed(&branches(), |m| {
        graph(m).node.insert(0, node("/dead", "Neg", &["offset"], &["unread"]));
        // A dead node inside a branch is the only reader of an initializer outside.
        graph(m).initializer.push(floats("only-for-dead", &[1], &[9.0]));
        let branch = graph(m).node[2].attribute[0].g.as_mut().unwrap();
        branch.node.push(node("/dead2", "Neg", &["only-for-dead"], &["unread2"]));
    });
    assert_eq!(files_of(&with_dead), files_of(&branches()));
}

#[test]
fn functions_stand_in_the_place_of_their_calls_and_unused_imports_go() {
    let import = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    let function = |name: &str, calls: &str| FunctionProto {
        name: Some(name.to_owned()),
        domain: Some("local".to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: vec![NodeProto { domain: Some("local".to_owned()), ..node("n", calls, &["a"], &["b"]) }],
        ..FunctionProto::default()
    };
    let with_call = changed(&mlp(), |m| {
        graph(m).node[2] = NodeProto { domain: Some("local".to_owned()), ..node("f", "F", &["h2"], &["h3"]) };
        m.functions = vec![function("G", "Other"), function("Unused", "G"), function("F", "G")];
        m.opset_import.extend([import("unused", 1), import("local", 1), import("ai.onnx.ml", 1)]);
    });
    let (model, weights, _) = files_of(&with_call);
    let back = read_canonical(model.into(), weights.map(Bytes::from)).unwrap();
    assert_eq!(back.proto().functions, []);
    assert_eq!((back.graph().node[2].name(), back.graph().node[2].op_type()), ("f/n/n", "Other"));
    let domains: Vec<_> = back.proto().opset_import.iter().map(|o| o.domain()).collect();
    assert_eq!(domains, ["", "local"]);

    // One that means another version of its operators cannot.
    let of_old = |op: &str| {
        changed(&with_call, |m| {
            m.functions[0].node[0] = node("n", op, &["a"], &["b"]);
            m.functions[0].opset_import = vec![import("", 11)];
        })
    };
    assert_eq!(codes(canonical_of(&of_old("Softmax"))), ["function-not-inlined"]);
    assert_eq!(codes(canonical_of(&of_old("Not"))), [""; 0]);
    let unknown = changed(&of_old("Not"), |m| m.functions[0].opset_import = vec![import("", 99)]);
    assert_eq!(codes(canonical_of(&unknown)), ["opset-version"]);
}

#[test]
fn an_output_declared_with_a_wrong_type_is_refused() {
    let wrong = changed(&mlp(), |m| graph(m).output[0] = value("y", DataType::Float16, &[]));
    assert_eq!(codes(canonical_of(&wrong)), ["output-type-mismatch"]);
    assert_eq!(
        message(canonical_of(&wrong)),
        "output `y` is declared as float16, but node `/fc2/Add` makes it float"
    );
    // Only what is built counts: value_info does not, nor other contradictions.
    let odd = changed(&mlp(), |m| {
        graph(m).value_info.push(value("h1", DataType::Float16, &[]));
        graph(m).node[2].op_type = Some("BitwiseNot".to_owned());
    });
    assert_eq!(codes(canonical_of(&odd)), [""; 0]);
}

#[test]
fn doubles_are_noted() {
    let double = changed(&mlp(), |m| {
        graph(m).initializer.push(raw("d", DataType::Double, &[1], vec![0; 8]));
        graph(m).node.push(node("", "Exp", &["d"], &["z"]));
        graph(m).output.push(value("z", DataType::Double, &[1.into()]));
    });
    let (_, canonical) = canonical_of(&double).unwrap();
    let notes: Vec<&str> = canonical.notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(notes, ["`z`, `d` are of type double, which TensorRT narrows to float"]);
}

#[test]
fn unsorted_nodes_are_sorted_with_a_note() {
    let unsorted = changed(&mlp(), |m| graph(m).node.swap(1, 3));
    let (files, canonical) = canonical_of(&unsorted).unwrap();
    assert_eq!(canonical.notes[0].code, "model-note");
    assert_eq!(canonical.notes[0].text, "nodes were not in topological order, and are sorted");
    assert_eq!(files, files_of(&mlp()));
}

#[test]
fn chains_of_ten_thousand_nodes_are_read() {
    let mut nodes: Vec<NodeProto> =
        (0..10_000).map(|i| node("", "Relu", &[&format!("v{i}")], &[&format!("v{}", i + 1)])).collect();
    nodes.reverse();
    let long = model(
        17,
        GraphProto {
            input: vec![value("v0", DataType::Float, &[4.into()])],
            output: vec![value("v10000", DataType::Float, &[4.into()])],
            node: nodes,
            ..GraphProto::default()
        },
    );
    assert_eq!(canonical_of(&long).unwrap().1.summary.operators["Relu"], 10_000);
}

#[test]
fn an_output_of_a_subgraph_without_a_name_is_refused() {
    let unnamed = changed(&branches(), |m| {
        let node = m.graph.as_mut().unwrap().node.iter_mut().find(|n| n.op_type() == "If").unwrap();
        node.attribute[0].g.as_mut().unwrap().output[0].name = None;
    });
    let Err(Error::Invalid(problems)) = canonical_of(&unnamed) else { panic!("it was read") };
    assert_eq!(problems[0].code, "unnamed-value");
}

#[test]
fn a_subgraph_that_gives_too_little_is_refused() {
    let short = changed(&branches(), |m| {
        let node = m.graph.as_mut().unwrap().node.iter_mut().find(|n| n.op_type() == "If").unwrap();
        node.attribute[0].g.as_mut().unwrap().output.clear();
    });
    let Err(Error::Invalid(problems)) = canonical_of(&short) else { panic!("it was read") };
    assert_eq!(problems[0].code, "subgraph-outputs");
    assert_eq!(problems[0].message, "`then_branch` of node `/If` gives 0 values, and must give 1");
}

#[test]
fn integers_that_tensorrt_would_cut_are_refused() {
    let with = |axis: i64| {
        changed(&mlp(), |m| {
            let node = &mut m.graph.as_mut().unwrap().node[0];
            *node = node.clone().int("odd", axis);
        })
    };
    assert!(canonical_of(&with(i64::from(i32::MIN))).is_ok());
    let Err(Error::Invalid(problems)) = canonical_of(&with(1 << 32)) else { panic!("it was read") };
    assert_eq!(problems[0].code, "attribute-too-large");
    assert!(problems[0].message.ends_with("is 4294967296, beyond 32 bits"), "{}", problems[0].message);
}

#[test]
fn a_model_may_hold_the_bytes_that_other_formats_begin_with() {
    let at_tar = |pad: usize| {
        let named = changed(&mlp(), |m| {
            m.graph.as_mut().unwrap().node[0].name = Some(format!("{}ustar", "n".repeat(pad)));
        });
        named.encode_to_vec().get(257..262).is_some_and(|bytes| bytes == b"ustar").then_some(named)
    };
    let model = (0..300).find_map(at_tar).expect("the name begins before byte 257");
    assert!(canonical_of(&model).is_ok());
}

#[test]
fn a_constant_without_a_value_is_refused() {
    let without =
        changed(&mlp(), |m| m.graph.as_mut().unwrap().node.insert(0, node("odd", "Constant", &[], &["c"])));
    let Err(Error::Invalid(problems)) = canonical_of(&without) else { panic!("it was read") };
    assert_eq!(problems[0].code, "constant-without-value");
}

#[test]
fn broken_graphs_are_told_by_name() {
    let edit = |edit: &dyn Fn(&mut ModelProto)| canonical_of(&changed(&mlp(), edit));
    type Edit = dyn Fn(&mut ModelProto);
    let cases: &[(&str, &str, &Edit)] = &[
        ("cycle", "cycle: `/fc1/Add` -> `/act/Relu` -> `/fc1/Add`", &|m| {
            graph(m).node[1].input[1] = "h3".to_owned()
        }),
        ("undefined-value", "node `/act/Relu` reads the value `nope`", &|m| {
            graph(m).node[2].input[0] = "nope".to_owned()
        }),
        ("undefined-value", "output `z`", &|m| graph(m).output[0].name = Some("z".to_owned())),
        ("duplicate-value", "`/fc1/MatMul` and by node `/act/Relu`", &|m| {
            graph(m).node[2].output.push("h1".to_owned());
        }),
        ("duplicate-value", "value `x` is an input", &|m| graph(m).node[2].output.push("x".to_owned())),
        ("duplicate-initializer", "`b1`", &|m| graph(m).initializer.push(floats("b1", &[], &[0.0]))),
        ("duplicate-attribute", "`axis`", &|m| {
            let relu = graph(m).node[2].clone().int("axis", 1).int("axis", 2);
            graph(m).node[2] = relu;
        }),
        ("bad-tensor", "initializer `b1` has 128 bytes", &|m| graph(m).initializer[1].dims = vec![33]),
        ("bad-tensor", "negative dimension -32 at axis 0", &|m| graph(m).initializer[1].dims = vec![-32]),
        ("bad-tensor", "dimension 1099511627776 at axis 0, beyond 32 bits", &|m| {
            graph(m).initializer[1].dims = vec![1 << 40];
        }),
        ("bad-tensor", "element type 99", &|m| graph(m).initializer[1].data_type = Some(99)),
        ("bad-dims", "input `x` has dimension 1099511627776 at axis 0", &|m| {
            graph(m).input[0] = value("x", DataType::Float, &[(1 << 40).into()]);
        }),
        ("bad-dims", "negative dimension -7", &|m| {
            graph(m).input[0] = value("x", DataType::Float, &[(-7).into()])
        }),
        ("untyped-input", "input `x`", &|m| graph(m).input[0].r#type = None),
        ("no-outputs", "no outputs", &|m| graph(m).output.clear()),
        ("no-graph", "no graph", &|m| m.graph = None),
        ("opset-missing", "which opset", &|m| m.opset_import.clear()),
        ("opset-version", "opset 27", &|m| m.opset_import[0].version = Some(27)),
        ("opset-version", "both opset", &|m| {
            m.opset_import.push(OperatorSetIdProto { domain: Some("ai.onnx".to_owned()), version: Some(12) });
        }),
        ("ir-version", "IR version 15", &|m| m.ir_version = Some(15)),
        ("ir-version", "no IR version", &|m| m.ir_version = None),
        ("no-operator", "`/act/Relu`", &|m| graph(m).node[2].op_type = None),
    ];
    for (code, text, how) in cases {
        let result = edit(how);
        let message = result.as_ref().map(drop).unwrap_err().to_string();
        assert!(message.contains(text), "{code}: {message}");
        assert_eq!(codes(result)[0], *code, "{message}");
    }
    // A model without a node has nothing to build.
    let empty = changed(&mlp(), |m| {
        graph(m).node.clear();
        graph(m).output[0].name = Some("x".to_owned());
    });
    assert_eq!(codes(canonical_of(&empty)), ["no-nodes"]);
}

#[test]
fn several_errors_are_told_at_once_and_capped() {
    let many = changed(&mlp(), |m| {
        graph(m).node.extend((0..30).map(|i| node(&format!("n{i}"), "Relu", &["nope"], &[&format!("o{i}")])));
    });
    let Err(Error::Invalid(diagnostics)) = canonical_of(&many) else { panic!("it is not valid") };
    assert_eq!(diagnostics.len(), 20);
    assert_eq!(diagnostics[19].notes, ["10 more errors are not shown"]);
}

#[test]
fn a_source_that_changes_meanwhile_is_noticed() {
    let source = folder();
    let path = source.path().join("m.onnx");
    save_external(&mlp(), &path, "w").unwrap();
    let files = read(&path).unwrap().files;
    super::read::unchanged(&files).unwrap();
    let weights = source.path().join("w");
    fs::write_atomic(&weights, &fs::read(&weights).unwrap()).unwrap();
    let error = super::read::unchanged(&files).unwrap_err();
    assert!(error.to_string().ends_with("w` changed while it was read"), "{error}");
    fs::remove_file(&path).unwrap();
    assert!(super::read::unchanged(&files).is_err());
}

#[test]
fn an_output_folder_that_cannot_be_written_is_an_error_of_the_file_system() {
    let source = folder();
    let path = source.path().join("m.onnx");
    save(&mlp(), &path).unwrap();
    let error = canonicalize(&path, &source.path().join("gone")).unwrap_err();
    assert!(matches!(&error, Error::Fs(e) if e.is_missing()), "{error}");
}

#[test]
fn annotations_keep_the_initializers_they_name() {
    let annotation = |of: &str, scale: &str| TensorAnnotation {
        tensor_name: Some(of.to_owned()),
        quant_parameter_tensor_names: vec![entry("SCALE_TENSOR", scale)],
    };
    let annotated = changed(&mlp(), |m| {
        graph(m).quantization_annotation =
            vec![annotation("h1", "h1_scale"), annotation("gone", "gone_scale")];
        graph(m).initializer.extend([floats("h1_scale", &[], &[1.0]), floats("gone_scale", &[], &[1.0])]);
    });
    let (model, weights, _) = files_of(&annotated);
    let back = read_canonical(model.into(), weights.map(Bytes::from)).unwrap();
    let names: Vec<_> = back.graph().initializer.iter().map(|t| t.name()).collect();
    assert_eq!(names, ["b1", "b2", "h1_scale", "w1", "w2"]);
    assert_eq!(back.graph().quantization_annotation, [annotation("h1", "h1_scale")]);
}

#[test]
fn sparse_initializers_are_checked_and_kept() {
    let sparse = |nnz: i64| SparseTensorProto {
        values: Some(floats("b1", &[1], &[0.5])),
        indices: Some(ints("", &[nnz], &vec![0; usize::try_from(nnz).unwrap()])),
        dims: vec![32],
    };
    let with = |nnz| {
        canonical_of(&changed(&mlp(), |m| {
            graph(m).initializer.remove(1);
            graph(m).sparse_initializer.push(sparse(nnz));
        }))
    };
    let (model, weights, _) = with(1).unwrap().0;
    let back = read_canonical(model.into(), weights.map(Bytes::from)).unwrap();
    assert_eq!(back.graph().sparse_initializer.len(), 1);
    assert_eq!(codes(with(2)), ["bad-tensor"]);
}

#[test]
fn external_data_is_never_trusted() {
    let source = folder();
    let path = source.path().join("m.onnx");
    fs::write_atomic(&source.path().join("w"), &[0; 2047]).unwrap();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    fs::write_atomic(&source.path().join("lfs"), pointer).unwrap();
    let with = |entries: &[(&str, &str)]| {
        let model = changed(&mlp(), |m| external(&mut graph(m).initializer[0], entries));
        save(&model, &path).unwrap();
        canonical_of_file(&path)
    };
    assert_eq!(codes(with(&[("location", "/etc/passwd")])), ["external-data-location"]);
    assert_eq!(codes(with(&[("location", "../w")])), ["external-data-location"]);
    assert_eq!(codes(with(&[])), ["external-data-location"]);
    assert_eq!(codes(with(&[("location", "gone")])), ["external-data-missing"]);
    assert_eq!(codes(with(&[("location", ".")])), ["external-data-unreadable"]);
    assert_eq!(codes(with(&[("location", "w")])), ["external-data-too-short"]);
    assert_eq!(codes(with(&[("location", "w"), ("length", "5")])), ["external-data-range"]);
    assert_eq!(codes(with(&[("location", "w"), ("offset", "-4")])), ["external-data-range"]);
    assert!(message(with(&[("location", "w")])).starts_with("initializer `w1` wants 2048 bytes at offset 0"));
    let Err(Error::Invalid(lfs)) = with(&[("location", "lfs")]) else { panic!("it is a pointer") };
    assert_eq!(lfs[0].help, ["run `git lfs pull`"]);
    fs::write_atomic(&source.path().join("w"), &[0; 2049]).unwrap();
    let (_, canonical) = with(&[("location", "./w"), ("offset", "1")]).unwrap();
    assert_eq!(canonical.notes.len(), 1, "{:?}", canonical.notes);
}

#[test]
fn files_that_are_no_models_are_named() {
    let source = folder();
    let path = source.path().join("m.onnx");
    assert_eq!(codes(canonical_of_file(&path)), ["missing-file"]);
    assert_eq!(codes(canonical_of_file(source.path())), ["is-a-folder"]);
    let whole = mlp().encode_to_vec();
    let cases: &[(&[u8], &str)] = &[
        (b"", "empty-file"),
        (b"ir_version: 8\n", "text-file"),
        (b"<html>", "html-page"),
        (&whole[..whole.len() / 2], "truncated"),
        (&whole[..1], "not-onnx"),
        (&[0x08, 0x08], "no-graph"),
        (&[0xfe; 100], "not-onnx"),
        (&[0x08, 0x08, 0x12, 0x02, 0xff, 0xff], "not-utf8"),
        (&[0x08, 0x08, 0x38, 0x02], "not-onnx"),
    ];
    for (bytes, code) in cases {
        fs::write_atomic(&path, bytes).unwrap();
        assert_eq!(codes(canonical_of_file(&path)), [*code], "{bytes:?}");
    }
    // Every cut of a model is an error.
    let whole = Bytes::from(whole);
    for cut in 0..whole.len() {
        assert!(read_canonical(whole.slice(..cut), None).is_err(), "cut at {cut}");
    }
}

#[test]
fn types_are_guessed_where_they_matter() {
    let (model, weights, _) = files_of(&mlp());
    let back = read_canonical(model.into(), weights.map(Bytes::from)).unwrap();
    let names: Vec<_> = gemm_nodes(&back).into_iter().map(|n| n.name).collect();
    assert_eq!(names, ["/fc1/MatMul", "/fc2/MatMul"]);
    assert!(bf16_nodes(&back).is_empty() && double_values(&back).is_empty());
    let half = changed(&mlp(), |m| {
        graph(m).input[0] = value("x", DataType::Double, &[1.into(), 16.into()]);
        let cast = node("", "Cast", &["x"], &["cast"]).int("to", DataType::Bfloat16 as i64);
        graph(m).node.insert(0, cast);
        graph(m).node[1].input[0] = "cast".to_owned();
        graph(m).initializer[0] = raw("w1", DataType::Bfloat16, &[16, 32], vec![0; 1024]);
    });
    let (model, weights, _) = files_of(&half);
    let back = read_canonical(model.into(), weights.map(Bytes::from)).unwrap();
    assert_eq!(bf16_nodes(&back)[0].name, "node_of_cast");
    assert_eq!(bf16_nodes(&back)[1].name, "/fc1/MatMul");
    assert_eq!(double_values(&back), ["x"]);
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) }
}

/// Edits that mean nothing; `words` is arbitrary text.
fn meaningless(model: &mut ModelProto, which: usize, words: &str) {
    let text = || Some(words.to_owned());
    match which {
        0 => model.doc_string = text(),
        1 => model.producer_name = text(),
        2 => model.producer_version = text(),
        3 => model.domain = text(),
        4 => model.model_version = Some(words.len() as i64),
        5 => model.metadata_props.push(entry(words, words)),
        6 => graph(model).name = text(),
        7 => graph(model).doc_string = text(),
        8 => graph(model).value_info.push(value("h1", DataType::Float, &["batch".into(), 32.into()])),
        9 => graph(model).node.iter_mut().for_each(|n| n.doc_string = text()),
        10 => graph(model).node.iter_mut().for_each(|n| n.metadata_props.push(entry("k", words))),
        11 => graph(model).initializer.reverse(),
        12 => graph(model).initializer.iter_mut().for_each(|t| t.doc_string = text()),
        13 => graph(model).node.iter_mut().for_each(|n| n.attribute.reverse()),
        14 => graph(model).initializer.push(floats("never used", &[1], &[words.len() as f32])),
        15 => graph(model).node.push(node(words, "Neg", &[], &["never read"])),
        16 => graph(model).initializer.iter_mut().for_each(as_float_data),
        17 => graph(model).input.iter_mut().for_each(|v| v.doc_string = text()),
        18 => model
            .opset_import
            .push(OperatorSetIdProto { domain: Some("never.used".to_owned()), version: Some(2) }),
        19 => model.training_info.push(TrainingInfoProto::default()),
        20 => model.opset_import[0].domain = Some("ai.onnx".to_owned()),
        21 => graph(model).node.iter_mut().for_each(|n| n.domain = Some(String::new())),
        _ => graph(model).node.iter_mut().flat_map(|n| &mut n.attribute).for_each(|a| a.doc_string = text()),
    }
}

fn as_float_data(tensor: &mut TensorProto) {
    let raw = tensor.raw_data.take().unwrap();
    tensor.float_data = raw.chunks(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
}

/// Edits that mean something.
fn meaningful(model: &mut ModelProto, which: usize, by: u8) {
    let graph = model.graph.as_mut().unwrap();
    match which {
        0 => {
            let tensor = &mut graph.initializer[0];
            let mut data = tensor.raw_data.take().unwrap().to_vec();
            let at = usize::from(by) % data.len();
            data[at] ^= 1;
            tensor.raw_data = Some(data.into());
        }
        1 => graph.node[0] = graph.node[0].clone().int("extra", i64::from(by)),
        2 => graph.node[0].name = Some(format!("renamed {by}")),
        3 => graph.input[0] = value(graph.input[0].name(), DataType::Float, &["other".into()]),
        4 => graph.output[0] = value(graph.output[0].name(), DataType::Float, &["other".into()]),
        5 => model.opset_import[0].version = Some(16),
        6 => graph.node[0].op_type = Some("Other".to_owned()),
        7 => graph.initializer[0].dims.push(1),
        8 => graph.input.push(value("more", DataType::Float, &[])),
        9 => graph.output.push(value(&graph.node[0].output[0].clone(), DataType::Float, &[])),
        10 => model.ir_version = Some(9),
        _ => graph.node[0].overload = Some("special".to_owned()),
    }
}

/// By number, since a model is long when a failure prints it.
fn base(number: usize) -> ModelProto {
    [mlp, conv, branches][number]()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn meaningless_edits_change_no_byte(number in 0usize..3, edits in prop::collection::btree_set(0usize..23, 1..6), words in "\\PC{0,12}") {
        let base = base(number);
        let mut edited = base.clone();
        edits.iter().for_each(|which| meaningless(&mut edited, *which, &words));
        prop_assert_eq!(files_of(&edited), files_of(&base));
    }

    #[test]
    fn every_other_edit_changes_the_bytes(number in 0usize..3, which in 0usize..12, by in any::<u8>()) {
        let base = base(number);
        let mut edited = base.clone();
        meaningful(&mut edited, which, by);
        let (model, weights, _) = files_of(&edited);
        let before = files_of(&base);
        prop_assert_ne!((model, weights), (before.0, before.1));
    }

    #[test]
    fn removing_an_output_changes_the_bytes(number in 0usize..3) {
        let base = base(number);
        let two = changed(&base, |m| meaningful(m, 9, 0));
        prop_assert_ne!(files_of(&two), files_of(&base));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_never_panic(
        number in 0usize..3,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut bytes = base(number).encode_to_vec();
        for (at, byte) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(mut model) = read_canonical(bytes.into(), None) {
            let _ = (gemm_nodes(&model), bf16_nodes(&model), double_values(&model));
            let types = element_types(&model);
            let _ = type_errors(&model, &types);
            if canonical::canonical(&mut model, &types).is_ok() {
                // What was accepted once is accepted again, and does not change any more.
                let once = model.proto.encode_to_vec();
                let mut again = read_canonical(once.clone().into(), None).map_err(|e| TestCaseError::fail(e.to_string()))?;
                let types = element_types(&again);
                canonical::canonical(&mut again, &types).map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(again.proto.encode_to_vec(), once);
            }
        }
    }
}
