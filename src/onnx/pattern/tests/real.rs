use super::super::*;
use std::path::Path;
#[test]
#[expect(clippy::disallowed_methods, clippy::print_stdout, reason="scratch")]
fn real_models() {
    let list = std::fs::read_to_string("/tmp/pattern/list").unwrap();
    let verbose = Path::new("/tmp/pattern/verbose").exists();
    for line in list.lines() {
        let source = match crate::onnx::read(Path::new(line)) { Ok(s) => s, Err(e) => { println!("{line}: {e}"); continue } };
        let at = std::time::Instant::now();
        let view = crate::onnx::graph::GraphView::new(source.model.proto());
        let t1 = at.elapsed();
        let found = find_in(&view);
        let t = at.elapsed();
        println!("{line}: {} nodes view {t1:?} all {t:?}", view.nodes().count());
        for kind in Kind::ALL { let n = found.iter().filter(|m| m.kind==kind).count(); if n>0 { println!("   {kind} {n}"); } }
        if verbose { for m in &found {
            println!("  {} {} nodes={} in={} out={} axes={:?} rank={:?} eps={:?} scale={:?} bias={:?} esc={:?} exact={}", m.kind, m.instance, m.nodes.len(), m.input, m.output, m.axes, m.rank, m.epsilon, m.scale, m.bias, m.escapes, m.exact);
            if let Some(a) = &m.attention { let p: Vec<Vec<String>> = a.parts.iter().map(|p| p.iter().map(|r| view.node(view.at(*r).unwrap()).proto.op_type().to_owned()).collect()).collect(); println!("      {p:?} k={:?} v={:?} masks={:?}", a.key, a.value, a.masks); }
        } }
    }
}
