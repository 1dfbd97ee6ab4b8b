//! Masks that are FP32 and read in 16 bits: raised to the lowest number of the type right before the Cast, which would
//! make minus infinity of them.

use std::collections::BTreeMap;

use super::float::FloatType;
use super::made::lowest_of;
use super::mask::{self, BOUNDS, Mask};
use super::names::Names;
use super::plan::{Form, Plan};
use super::problem::Problem;
use super::view::Key;
use super::weights::largest;
use crate::onnx::make;
use crate::onnx::proto::{NodeProto, TensorProto};

/// Clip has its bounds as inputs from here on.
const BOUNDS_AS_INPUTS: i64 = 11;

/// The node that raises a mask.
pub(super) struct Clip {
    pub(super) node: NodeProto,
    /// The bound, if it is an initializer.
    pub(super) lowest: Option<TensorProto>,
}

/// A value that is to be raised.
struct Wanted<'p> {
    /// What it carries.
    mask: Mask<'p>,
    /// The nodes that read it in 16 bits, with their operators.
    readers: Vec<(&'p str, &'p str)>,
}

/// What is to be raised, and what was.
pub(super) struct Saturation<'p> {
    wanted: BTreeMap<Key<'p>, Wanted<'p>>,
    opset: i64,
    problems: Vec<Problem>,
}

impl<'p> Saturation<'p> {
    pub(super) fn new(plan: &'p Plan<'p>) -> Saturation<'p> {
        let view = plan.view;
        let carried = mask::carried(view);
        let opset = view.opset();
        let mut wanted: BTreeMap<Key<'p>, Wanted<'p>> = BTreeMap::new();
        if carried.is_empty() {
            return Saturation { wanted, opset, problems: Vec::new() };
        }
        let mut want = |source: Key<'p>, of: FloatType, reader: Option<(&'p str, &'p str)>| {
            let is_made_wide =
                plan.values.get(&source).is_some_and(|v| v.made == FloatType::Fp32 && !v.is_constant);
            if let Some(mask) = carried.get(&source).filter(|mask| is_made_wide && mask.value < -largest(of))
            {
                let wanted = wanted.entry(source).or_insert(Wanted { mask: *mask, readers: Vec::new() });
                wanted.readers.extend(reader);
            }
        };
        for (id, node) in view.nodes.iter().enumerate() {
            let op = node.proto.op_type();
            for (name, form) in node.proto.input.iter().zip(&plan.inputs[id]) {
                let Some(Form::Plain(of) | Form::Rounded(of)) = form.filter(|_| !BOUNDS.contains(&op)) else {
                    continue;
                };
                if let Some((source, _)) = plan.source(node.scope, name) {
                    want(source, of, Some((node.name.as_str(), op)));
                }
            }
        }
        for (output, of) in &plan.outputs {
            if let Some((source, _)) = plan.source(output.0, output.1) {
                want(source, *of, None);
            }
        }
        Saturation { wanted, opset, problems: Vec::new() }
    }

    /// What raises a value that is to be cast to this type, if it carries a mask.
    pub(super) fn clip(
        &mut self,
        source: Key<'p>,
        from: &str,
        of: FloatType,
        names: &mut Names,
    ) -> Option<Clip> {
        if of == FloatType::Fp32 {
            return None;
        }
        let Wanted { mask, readers } = self.wanted.get(&source)?;
        self.problems.push(mask::raised(*mask, of, readers));
        let name = names.fresh(&format!("{from}/saturated"));
        if self.opset < BOUNDS_AS_INPUTS {
            let mut node = make::node(&name, "Clip", &[from], &[&name]);
            node.attribute.push(make::float("min", -largest(of)));
            return Some(Clip { node, lowest: None });
        }
        let bound = names.fresh(&format!("{name}/lowest"));
        let node = make::node(&name, "Clip", &[from, &bound], &[&name]);
        Some(Clip { node, lowest: Some(TensorProto { name: Some(bound), ..lowest_of(of) }) })
    }

    /// What was done.
    pub(super) fn finish(self) -> Vec<Problem> {
        self.problems
    }
}
