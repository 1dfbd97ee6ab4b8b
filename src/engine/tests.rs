//! Engines made by hand in the notation of real ones, and their proofs.

use proptest::prelude::*;

use super::{Counts, Facts, Header, PlanKind, Verdict, prove};
use crate::precision::{Assignment, Decider, FloatType, NodeAssignment};

/// An engine file with these graphs and sources.
fn plan(graphs: &[&str], sources: &str) -> Vec<u8> {
    let mut code = Vec::new();
    for graph in graphs {
        let text = format!("header {{\n  version = 5\n  tf32=0\n{graph}\nshape_main {{\n");
        code.extend(b"NLYM\xa1\xda\x1e\0");
        code.extend((text.len() as u64).to_le_bytes());
        code.extend(text.as_bytes());
    }
    code.push(0);
    code.extend(sources.as_bytes());
    code.push(0);
    let mut file = vec![0; 0x70];
    file[..4].copy_from_slice(b"vtrt");
    file[0x18..0x1c].copy_from_slice(&[1, 7, 1, 116]);
    file[0x20] = 0x4 | 0x8;
    file[0x38] = 9;
    file[0x40..0x44].copy_from_slice(b"NGNE");
    file[0x48] = 0x70;
    file[0x50..0x58].copy_from_slice(&(code.len() as u64).to_le_bytes());
    file.extend(code);
    let size = file.len() as u64 + 9;
    file[0x10..0x18].copy_from_slice(&size.to_le_bytes());
    file.extend(b"\0weights\0");
    file
}

fn tensor(name: &str, of: &str) -> String {
    format!("  tensor={{ alignment=128 dims={{ 64 64 }} name=\"{name}\" region=\"\" type={of} }}\n")
}

fn layers(names: &[&str]) -> String {
    names.iter().map(|name| format!("[ONNX Layer: {name}]")).collect::<Vec<_>>().join("\u{1f}")
}

/// A product of `x` and the constant `w`, of this type.
fn product(of: &str, accumulation: u32, names: &[&str]) -> String {
    let weights = format!(
        "  tensor={{ const_payload_size=8 dims={{ 2 2 }} name=\"w\" region=__mye1-consts type={of} }}\n  \
         tensor={{ const_payload_size=4 dims={{ 1 }} name=\"al\" type=float }}\n"
    );
    format!(
        "{}{}{weights}main {{\n  fully_connected={{ name=\"__mye86\" output={{\"y\" }} input={{\"x\" \"w\" \"al\" \"al\" }} \
         stream=0 accumulation_type={accumulation} layers=\"{}\" }}\n",
        tensor("x", of),
        tensor("y", of),
        layers(names)
    )
}

/// A generated kernel `k` from half to half, and its source.
fn generated(names: &[&str], steps: &[&str]) -> (String, String) {
    let graph = format!(
        "{}{}{}main {{\n  function={{ name=__myl_K fqn=__myl_K_0x1 args={{ \"x\" \"n\" \"y\" }} input_args={{ \"x\" \"n\" }} \
         output_args={{ \"y\" }} grid = {{ 2 1 1 }} layers=\"{}\" swap_ab=false }}\n",
        tensor("x", "half"),
        tensor("n", "int64"),
        tensor("y", "half"),
        layers(names)
    );
    let steps: String = steps.iter().map(|step| format!("    __v1 = {step}(__v2 , __v3);\n")).collect();
    (graph, format!("#define X\nextern \"C\" __global__ void __myl_K_0x1(\n{{\n{steps}}}\n"))
}

fn node(name: &str, op: &str, of: FloatType) -> NodeAssignment {
    NodeAssignment {
        name: name.to_owned(),
        op: op.to_owned(),
        inside: Vec::new(),
        of: Some(of),
        by: Decider::Default,
        parts: 0,
        accumulate: None,
        layer: None,
    }
}

fn assignment(nodes: &[(&str, &str, FloatType)]) -> Assignment {
    let mut nodes: Vec<_> = nodes.iter().map(|(name, op, of)| node(name, op, *of)).collect();
    nodes.push(node("a node in half", "Relu", FloatType::Fp16));
    Assignment { base: FloatType::Fp16, nodes, rules: Vec::new(), opset: None }
}

/// The verdict on a node that was declared FP32, beside others.
fn verdict(engine: &[u8], pin: (&str, &str), others: &[(&str, &str, FloatType)]) -> (Verdict, String) {
    let nodes = [&[(pin.0, pin.1, FloatType::Fp32)], others].concat();
    let proof = prove(&Facts::read(engine), &assignment(&nodes));
    let pin = proof.pins.into_iter().find(|p| p.node == pin.0).unwrap();
    (pin.verdict, pin.why)
}

const MUL_FLOAT: &str = "__myln_mul___myln_float___myln_float";
const MUL_HALF: &str = "__myln_mul___myln_half___myln_half";

#[test]
fn a_plan_says_what_it_is_for() {
    let plan = plan(&[], "");
    let header = Header::read(&plan).unwrap();
    assert_eq!((header.kind, header.version.as_str()), (PlanKind::TensorrtRtx, "1.7.1.116"));
    assert_eq!((header.sms, header.weights), (vec![86, 89], Some(9)));
    assert_eq!(header.size, Some(plan.len() as u64));
    let full = [&b"ftrt\0\0\0\0"[..], &[0; 16], &[10, 3, 0, 26]].concat();
    let header = Header::read(&full).unwrap();
    assert_eq!((header.kind, header.version.as_str()), (PlanKind::Tensorrt, "10.3.0.26"));
    assert_eq!(Header::read(b"vtrt"), None);
    assert_eq!(Header::read(b"something else entirely, of some length"), None);
}

#[test]
fn a_product_with_half_weights_is_demoted_and_one_with_float_weights_honoured() {
    let pin = ("pinned", "MatMul");
    let (found, why) = verdict(&plan(&[&product("half", 2, &["c1", "pinned"])], ""), pin, &[]);
    assert_eq!(
        (found, why.as_str()),
        (Verdict::Demoted, "its operands are half and half, accumulated in FP32")
    );
    let (found, why) = verdict(&plan(&[&product("float", 0, &["pinned"])], ""), pin, &[]);
    assert_eq!((found, why.as_str()), (Verdict::Honoured, "its operands are float, the constant ones too"));
    // One profile is enough to be demoted.
    let two = plan(&[&product("float", 0, &["pinned"]), &product("half", 2, &["pinned"])], "");
    assert_eq!(verdict(&two, pin, &[]).0, Verdict::Demoted);
    assert_eq!(verdict(&two, ("other", "MatMul"), &[]).0, Verdict::Unknown);
}

#[test]
fn accumulators_that_were_asked_for_are_pins() {
    let asked = NodeAssignment { accumulate: Some(FloatType::Fp32), ..node("mm", "MatMul", FloatType::Fp16) };
    let told = |engine: &[u8]| {
        let assignment =
            Assignment { base: FloatType::Fp16, nodes: vec![asked.clone()], rules: Vec::new(), opset: None };
        let proof = prove(&Facts::read(engine), &assignment);
        let [pin] = proof.pins.as_slice() else { panic!("{proof:?}") };
        assert!(pin.accumulates);
        (pin.verdict, pin.why.clone())
    };
    let of = |of: &str, accumulation| told(&plan(&[&product(of, accumulation, &["mm"])], ""));
    assert_eq!(of("half", 2), (Verdict::Honoured, "it adds up in FP32".to_owned()));
    assert_eq!(of("half", 0), (Verdict::Unknown, "the library chooses what it adds up in".to_owned()));
    assert_eq!(of("half", 1).0, Verdict::Demoted);
    assert_eq!(of("float", 0).0, Verdict::Honoured);
    // One profile is enough not to know.
    let two = [product("half", 2, &["mm"]), product("half", 0, &["mm"])];
    assert_eq!(told(&plan(&[&two[0], &two[1]], "")).0, Verdict::Unknown);
}

#[test]
fn generated_kernels_are_judged_by_their_source() {
    let judge = |steps: &[&str], pin: (&str, &str), others: &[(&str, &str, FloatType)]| {
        let (graph, source) = generated(&["a", "b"], steps);
        verdict(&plan(&[&graph], &source), pin, others).0
    };
    let a = ("a", "Mul");
    assert_eq!(judge(&[MUL_FLOAT], a, &[]), Verdict::Honoured);
    assert_eq!(judge(&[MUL_HALF], a, &[]), Verdict::Demoted);
    // Whose the half step is cannot be told; with a float step for the pinned one it can.
    let b = [("b", "Mul", FloatType::Fp16)];
    assert_eq!(judge(&[MUL_HALF], a, &b), Verdict::Unknown);
    assert_eq!(judge(&[MUL_HALF, MUL_FLOAT], a, &b), Verdict::Honoured);
    assert_eq!(judge(&[MUL_HALF, MUL_FLOAT], a, &[("b", "Mul", FloatType::Fp32)]), Verdict::Unknown);
    // Other steps do not matter.
    let tanh = ["__myln_tanh___myln_half___myln_half", MUL_FLOAT];
    assert_eq!(judge(&tanh, a, &[]), Verdict::Honoured);
    assert_eq!(judge(&tanh, ("a", "Tanh"), &[]), Verdict::Demoted);
    // An operator that nothing is known of, and one whose result rounding does not change.
    assert_eq!(judge(&tanh, ("a", "Unheard"), &[]), Verdict::Unknown);
    assert_eq!(judge(&["__myln_max___myln_half___myln_half"], ("a", "Relu"), &[]), Verdict::Unknown);
    // Who has several steps might have made all the float ones: then there must be none in 16 bits that nobody explains.
    let norm = [("b", "LayerNormalization", FloatType::Fp32), ("c", "Mul", FloatType::Fp16)];
    let of_three = |steps: &[&str]| {
        let (graph, source) = generated(&["a", "b", "c"], steps);
        verdict(&plan(&[&graph], &source), a, &norm).0
    };
    assert_eq!(of_three(&[MUL_HALF, MUL_HALF, MUL_FLOAT, MUL_FLOAT]), Verdict::Unknown);
    assert_eq!(of_three(&[MUL_HALF, MUL_FLOAT, MUL_FLOAT]), Verdict::Honoured);
    // Sums are float in any norm.
    let (graph, source) = generated(&["a", "b"], &[MUL_HALF, MUL_HALF, SUM_FLOAT, SUM_FLOAT]);
    let two = [("b", "LayerNormalization", FloatType::Fp16)];
    assert_eq!(verdict(&plan(&[&graph], &source), ("a", two[0].1), &two).0, Verdict::Unknown);
    // Nor does an unrolled loop make more of one.
    let unrolled = [[MUL_HALF; 8], [MUL_FLOAT; 4].repeat(2).try_into().unwrap()].concat();
    let two = [("b", "Mul", FloatType::Fp32), ("c", "Mul", FloatType::Fp16)];
    let (graph, source) = generated(&["a", "b", "c"], &unrolled);
    assert_eq!(verdict(&plan(&[&graph], &source), a, &two).0, Verdict::Unknown);
    // No step at all, and no source at all.
    assert_eq!(judge(&[], a, &[]), Verdict::Unknown);
    let (graph, _) = generated(&["a"], &[]);
    assert_eq!(verdict(&plan(&[&graph], ""), a, &[]).0, Verdict::Unknown);
}

#[test]
fn fused_attention_is_judged_by_its_traits() {
    let judge = |scores: &str, op: &str| {
        let (graph, _) = generated(&["a"], &[]);
        let traits = format!("\tfmha::Ampere_hmma_{scores}_traits,\n\tfmha::Ampere_hmma_fp16_traits,\n");
        let source = format!("struct s {{\n{traits}}};\nextern \"C\" __global__ void __myl_K_0x1(\n");
        verdict(&plan(&[&graph], &source), ("a", op), &[]).0
    };
    assert_eq!(judge("fp32", "Softmax"), Verdict::Honoured);
    assert_eq!(judge("fp16", "Softmax"), Verdict::Demoted);
    assert_eq!(judge("bf16", "Softmax"), Verdict::Honoured);
    assert_eq!(judge("tf32", "Softmax"), Verdict::Unknown);
    assert_eq!(judge("fp32", "MatMul"), Verdict::Demoted);
}

#[test]
fn control_flow_is_no_pin() {
    let (graph, source) = generated(&["a"], &[]);
    let both = assignment(&[("a", "If", FloatType::Fp32), ("b", "Tanh", FloatType::Fp16)]);
    assert_eq!(prove(&Facts::read(&plan(&[&graph], &source)), &both).pins, []);
}

#[test]
fn what_cannot_be_read_is_unknown_and_a_model_in_one_type_has_no_pins() {
    let pinned = assignment(&[("pinned", "MatMul", FloatType::Fp32)]);
    let whole = plan(&[&product("float", 0, &["pinned"])], "");
    for engine in [&b"garbage"[..], b"", &whole[..0x60]] {
        let counts = prove(&Facts::read(engine), &pinned).counts();
        assert_eq!(counts, Counts { honoured: 0, demoted: 0, unknown: 1 });
    }
    // Two nodes of one name, in two types.
    let twice = assignment(&[("pinned", "MatMul", FloatType::Fp32), ("pinned", "MatMul", FloatType::Fp16)]);
    assert_eq!(prove(&Facts::read(&whole), &twice).counts().unknown, 1);
    let one = Assignment { nodes: vec![node("pinned", "MatMul", FloatType::Fp32)], ..pinned.clone() };
    assert!(prove(&Facts::read(&whole), &one).pins.is_empty());
    // What only moves elements and is gone is no pin.
    let moved = assignment(&[("gone", "Reshape", FloatType::Fp32)]);
    assert!(prove(&Facts::read(&whole), &moved).pins.is_empty());
    assert_eq!(prove(&Facts::read(b"garbage"), &moved).counts().unknown, 1);
}

#[test]
fn facts_pass_through_json_and_hold_no_shapes() {
    let (graph, source) = generated(&["a b;c", "d"], &[MUL_FLOAT]);
    let facts = Facts::read(&plan(&[&graph, &graph], &source));
    assert_eq!(facts.kernels.len(), 1, "the same kernel of two profiles");
    let json = serde_json::to_value(&facts.kernels[0]).unwrap();
    let expected = serde_json::json!({
        "kind": "function", "name": "__myl_K", "layers": ["a b;c", "d"],
        "inputs": [{ "type": "half" }], "outputs": ["half"],
        "arithmetic": { "steps": { "mul": { "float": 1 } } },
    });
    assert_eq!(json, expected);
    let text = serde_json::to_vec(&facts).unwrap();
    assert_eq!(serde_json::from_slice::<Facts>(&text).unwrap(), facts);
}

const SUM_FLOAT: &str = "block_reduction::block_reduce_ds<AddOp<__myln_float>, x>";
const SUM_HALF: &str = "block_reduction::block_reduce_ds<AddOp<__myln_half>, x>";

/// A product with a vector: a generated kernel that reads a constant of this type.
fn vector(constant: &str, steps: &[&str]) -> Vec<u8> {
    let (graph, source) = generated(&["mm", "other"], steps);
    let weights = format!("  tensor={{ const_payload_size=8 dims={{ 2 }} name=\"w\" type={constant} }}\n");
    let graph = graph.replace("main {", &format!("{weights}main {{"));
    plan(&[&graph.replace("input_args={ ", "input_args={ \"w\" ")], &source)
}

#[test]
fn a_product_with_a_vector_is_judged_by_its_steps() {
    let tanh = "__myln_tanh___myln_half___myln_half";
    let add = "__myln_add___myln_half___myln_half";
    let pin = ("mm", "MatMul");
    let judge = |constant, steps: &[&str], other| {
        verdict(&vector(constant, &[steps, &[tanh]].concat()), pin, &[("other", other, FloatType::Fp16)]).0
    };
    assert_eq!(judge("half", &[MUL_HALF, SUM_FLOAT], "Tanh"), Verdict::Demoted);
    assert_eq!(judge("half", &[MUL_HALF], "Tanh"), Verdict::Demoted);
    assert_eq!(judge("float", &[MUL_FLOAT, SUM_HALF], "Tanh"), Verdict::Demoted);
    assert_eq!(judge("float", &[MUL_FLOAT, SUM_FLOAT], "Tanh"), Verdict::Honoured);
    assert_eq!(judge("float", &[MUL_FLOAT], "Tanh"), Verdict::Honoured);
    // Steps in 16 bits that another node may have made, and float ones too.
    for other in ["Mul", "MatMul", "ReduceMean", "Unheard"] {
        assert_eq!(judge("half", &[MUL_HALF, SUM_FLOAT], other), Verdict::Unknown, "{other}");
    }
    assert_eq!(judge("float", &[MUL_FLOAT, MUL_HALF, SUM_FLOAT], "Tanh"), Verdict::Unknown);
    assert_eq!(judge("float", &[MUL_FLOAT, SUM_FLOAT], "MatMul"), Verdict::Unknown);
    assert_eq!(judge("float", &[MUL_FLOAT, add], "Tanh"), Verdict::Unknown);
    // One without a type computes in that of what it reads.
    let mut other = assignment(&[("mm", "MatMul", FloatType::Fp32)]);
    other.nodes.push(NodeAssignment { of: None, ..node("other", "QuantizeLinear", FloatType::Fp16) });
    let proof = prove(&Facts::read(&vector("half", &[MUL_HALF, SUM_FLOAT])), &other);
    assert_eq!(proof.counts().unknown, 1, "{proof:?}");
    // What is added to it in 16 bits was meant to be.
    assert_eq!(judge("float", &[MUL_FLOAT, SUM_FLOAT, add], "Add"), Verdict::Honoured);
    // Weights that were rounded are not mended by float steps.
    assert_eq!(judge("half", &[MUL_FLOAT, SUM_FLOAT], "Tanh"), Verdict::Unknown);
    assert_eq!(verdict(&vector("half", &[MUL_FLOAT]), pin, &[]).0, Verdict::Unknown);
    assert_eq!(verdict(&vector("float", &[MUL_FLOAT]), pin, &[]).0, Verdict::Honoured);
    // It only passes through.
    assert_eq!(judge("half", &[], "Tanh"), Verdict::Unknown);
}

#[test]
fn sums_of_a_product_with_a_vector_are_judged_by_its_steps() {
    let asked = NodeAssignment { accumulate: Some(FloatType::Fp32), ..node("mm", "Gemm", FloatType::Fp16) };
    let judge = |steps: &[&str], other: &str| {
        let nodes = vec![asked.clone(), node("other", other, FloatType::Fp16)];
        let assignment = Assignment { base: FloatType::Fp16, nodes, rules: Vec::new(), opset: None };
        let proof = prove(&Facts::read(&vector("half", steps)), &assignment);
        (proof.pins[0].verdict, proof.pins[0].why.clone())
    };
    let (found, why) = judge(&[MUL_HALF, SUM_FLOAT], "Sigmoid");
    assert_eq!(
        (found, why.as_str()),
        (Verdict::Demoted, "its products or sums are rounded to 16 bits: mul half 1, reduce-add float 1")
    );
    assert_eq!(judge(&[MUL_FLOAT, SUM_HALF], "Sigmoid").0, Verdict::Demoted);
    assert_eq!(judge(&[MUL_FLOAT, SUM_FLOAT], "Sigmoid").0, Verdict::Honoured);
    assert_eq!(judge(&[MUL_HALF, SUM_FLOAT], "Mul").0, Verdict::Unknown);
    // One product is no sum.
    assert_eq!(judge(&[MUL_HALF], "Sigmoid").0, Verdict::Unknown);
}

#[test]
fn nodes_in_branches_are_proved() {
    let inside =
        |name: &str, of| NodeAssignment { inside: vec!["if".to_owned()], ..node(name, "MatMul", of) };
    let told = |of: &str, inner: FloatType, outer: FloatType| {
        let branch = product(of, 0, &["mm | graph (then_branch) | if (If)", "if"]);
        let nodes = vec![node("if", "If", FloatType::Fp16), inside("mm", inner), node("mm", "MatMul", outer)];
        let assignment = Assignment { base: FloatType::Fp16, nodes, rules: Vec::new(), opset: None };
        let engine = plan(&[&branch, &product("half", 2, &["mm"])], "");
        let proof = prove(&Facts::read(&engine), &assignment);
        assert_eq!(proof.narrow_named, 2);
        proof.pins[0].verdict
    };
    assert_eq!(told("half", FloatType::Fp32, FloatType::Fp16), Verdict::Demoted);
    assert_eq!(told("float", FloatType::Fp32, FloatType::Fp16), Verdict::Honoured);
    // The one outside is another node.
    assert_eq!(told("float", FloatType::Fp16, FloatType::Fp32), Verdict::Demoted);
}

#[test]
fn every_fusion_must_be_float() {
    let fusion = |of: &str| {
        format!(
            "{}main {{\n  runtime_fusion={{ name=__myl_F input_args={{ \"x\" }} output_args={{ \"x\" }} \
             layers=\"[ONNX Layer: a]\" }}\n",
            tensor("x", of)
        )
    };
    let (float, half) = (fusion("float"), fusion("half"));
    let judge = |graphs: &[&str]| verdict(&plan(graphs, ""), ("a", "Mul"), &[]).0;
    assert_eq!(judge(&[&float]), Verdict::Honoured);
    assert_eq!(judge(&[&float, &half]), Verdict::Unknown);
    assert_eq!(judge(&[&half, &float]), Verdict::Unknown);
}

#[test]
fn tensors_that_are_not_known_prove_nothing() {
    let judge = |graph: &str, op| verdict(&plan(&[graph], ""), ("a", op), &[]).0;
    let fusion = |args: &str| {
        format!("main {{\n  runtime_fusion={{ name=__myl_F {args} layers=\"[ONNX Layer: a]\" }}\n")
    };
    for args in ["", "input_args={ \"nobody\" } output_args={ \"knows\" }"] {
        assert_eq!(judge(&fusion(args), "Mul"), Verdict::Unknown, "{args}");
    }
    let product = |known: &str| {
        format!(
            "{}main {{\n  fully_connected={{ name=\"p\" output={{\"y\" }} input={{\"x\" \"w\" \"al\" \"al\" \"b\" }} \
             layers=\"[ONNX Layer: a]\" }}\n",
            tensor(known, "float")
        )
    };
    for known in ["b", "x", "w"] {
        assert_eq!(judge(&product(known), "MatMul"), Verdict::Unknown, "{known}");
    }
    let (moves, source) = generated(&["a"], &[]);
    let moves = moves.replace("\"x\"", "\"q\"").replace("\"y\"", "\"z\"").replace("name=\"q\"", "name=\"x\"");
    assert_eq!(verdict(&plan(&[&moves], &source), ("a", "Reshape"), &[]).0, Verdict::Unknown);
}

#[test]
fn an_engine_that_was_read_in_part_honours_nothing() {
    let (float, half) = (product("float", 0, &["pinned"]), product("half", 2, &["pinned"]));
    let pin = ("pinned", "MatMul");
    let whole = plan(&[&float, &float.replace("\"x\"", "\"x2\"")], "");
    assert_eq!(verdict(&whole, pin, &[]).0, Verdict::Honoured);
    let (found, why) = verdict(&whole[..whole.len() - 60], pin, &[]);
    assert_eq!(found, Verdict::Unknown);
    assert!(why.ends_with("as far as the engine could be read"), "{why}");
    let odd = format!("{float}  fully_connected={{ name=\"q\" = }} layers=\"[ONNX Layer: pinned]\" }}\n");
    assert_eq!(verdict(&plan(&[&odd], ""), pin, &[]).0, Verdict::Unknown);
    // What is shown to be demoted is demoted.
    let odd = odd.replace(&float, &half);
    assert_eq!(verdict(&plan(&[&odd], ""), pin, &[]).0, Verdict::Demoted);
    // A graph that says that it is longer than the file.
    let mut cut = plan(&[&float], "");
    let length = cut.windows(4).position(|w| w == b"NLYM").unwrap() + 8;
    cut[length + 2] = 1;
    assert_eq!(verdict(&cut, pin, &[]).0, Verdict::Unknown);
}

#[test]
fn a_name_may_hold_what_stands_before_names() {
    let names = ["x [ONNX Layer: y", "a]", "end\u{1f}", "y"];
    let facts = Facts::read(&plan(&[&product("float", 0, &names)], ""));
    assert_eq!(facts.kernels[0].layers, ["a]", "end\u{1f}", "x [ONNX Layer: y", "y"]);
}

#[test]
fn what_an_earlier_version_read_is_read_again() {
    let engine = plan(&[&product("float", 0, &["pinned"])], "");
    let facts = Facts::read(&engine);
    let mut old = serde_json::to_value(&facts).unwrap();
    old.as_object_mut().unwrap().remove("version");
    old["kernels"] = serde_json::json!([]);
    let old: Facts = serde_json::from_value(old).unwrap();
    let read = |engine: Option<Vec<u8>>| move || Ok::<_, ()>(engine.map(Into::into));
    assert_eq!(old.clone().renewed(read(Some(engine))).unwrap(), facts);
    assert!(!old.renewed(read(None)).unwrap().is_whole);
    // Those of this version are not.
    assert_eq!(facts.clone().renewed(|| Err(())).unwrap(), facts);
}

proptest! {
    #[test]
    fn damaged_plans_are_read_without_a_panic(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..4u8), 1..24),
        cut in any::<proptest::sample::Index>(),
    ) {
        let (graph, source) = generated(&["a", "b"], &[MUL_FLOAT, MUL_HALF]);
        let mut plan = plan(&[&graph, &product("half", 2, &["pinned"])], &source);
        for (at, byte, how) in edits {
            let at = at.index(plan.len());
            match how {
                0 => plan[at] = byte,
                1 => plan.insert(at, byte),
                2 => plan[at] = b"{}\"=\\ \n"[usize::from(byte) % 7],
                _ => drop(plan.remove(at)),
            }
        }
        let facts = Facts::read(&plan);
        let _ = prove(&facts, &assignment(&[("a", "Mul", FloatType::Fp32), ("pinned", "MatMul", FloatType::Fp32)]));
        let _ = Facts::read(&plan[..cut.index(plan.len())]);
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "(  [a-z]{1,6}=\\{|[\\{\\}\"=\\\\ \n]|name=|layers=\"|\\[ONNX Layer: |é|[a-z]){0,80}") {
        let _ = Facts::read(&plan(&[&text], &text));
    }
}
