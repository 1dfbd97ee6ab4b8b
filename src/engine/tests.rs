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
    assert_eq!(judge("tf32", "Softmax"), Verdict::Unknown);
    assert_eq!(judge("fp32", "MatMul"), Verdict::Demoted);
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
