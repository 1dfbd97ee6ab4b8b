//! What the source of a generated kernel shows of a node. Its steps are told by their kind and type, not by their node:
//! each conclusion says who else might have made them.

use std::collections::BTreeMap;

use super::facts::Kernel;
use super::operators::{Class, FEW, MANY, MUL, brings, brings_one, class, may_bring};
use super::proof::{Shown, Verdict, is_narrow, is_wide, types};
use super::source::Arithmetic;
use crate::precision::{FloatType, NodeAssignment};

/// A generated kernel, and a node that it names.
pub(super) struct Generated<'k> {
    pub(super) kernel: &'k Kernel,
    pub(super) arithmetic: &'k Arithmetic,
    pub(super) node: &'k NodeAssignment,
    /// The other nodes that it names.
    pub(super) others: Vec<&'k NodeAssignment>,
}

/// How many steps there are in each kind of type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Count {
    wide: u32,
    narrow: u32,
}

impl Count {
    /// Are there some in 16 bits, and none in float?
    fn is_narrow(self) -> bool {
        self.narrow > 0 && self.wide == 0
    }
}

impl Generated<'_> {
    /// What it shows of a node that was declared FP32.
    pub(super) fn shown(&self) -> Shown {
        let class = class(&self.node.op);
        let all = self.count(None);
        match (all.wide, all.narrow) {
            (0, 0) if class == Class::Moves && types(self.kernel).next().is_some() => {
                return if types(self.kernel).all(is_wide) {
                    Shown::Wide("it moves nothing but float".to_owned())
                } else {
                    Shown::Nothing
                };
            }
            (0, 0) => return Shown::Nothing,
            (_, 0) if class != Class::Product => {
                return Shown::Wide("all its arithmetic is float".to_owned());
            }
            _ => {}
        }
        match class {
            Class::Product => self.of_product(all),
            Class::Moves => Shown::Unclear("it computes in both float and 16 bits".to_owned()),
            Class::Other => Shown::Unclear("its arithmetic is not float throughout".to_owned()),
            Class::Exact(steps) | Class::Steps(steps) => self.of_steps(class, steps),
        }
    }

    /// A matrix product of which one side is a vector is made of `mul` and of `reduce-add`, or of few `add`.
    fn of_product(&self, all: Count) -> Shown {
        let [mul, sum, add] = [MUL, MANY, FEW].map(|step| self.count(Some(&[step])));
        let list = format!("its steps are {}", list(self.arithmetic, &[MUL, MANY, FEW]));
        let is_wide = if all.narrow == 0 {
            true // Whatever it holds of the product is float.
        } else if mul == Count::default() {
            // The product was computed elsewhere, and its bias may be added here.
            return if sum.narrow + add.narrow > 0 { Shown::Unclear(list) } else { Shown::Nothing };
        } else if mul.is_narrow() && !self.is_of_others(MUL)
            || mul.narrow == 0 && sum.is_narrow() && !self.is_of_others(MANY)
        {
            return Shown::Narrow(list);
        } else {
            let few = sum == Count::default() && add.narrow > 0;
            mul.narrow + sum.narrow == 0 && !few && self.is_computed_here(sum)
        };
        if !is_wide {
            return Shown::Unclear(format!("{list}, which may be of other nodes"));
        }
        if self.kernel.inputs.iter().any(|operand| operand.constant && is_narrow(&operand.of)) {
            return Shown::Unclear("it reads a constant of 16 bits".to_owned());
        }
        Shown::Wide(if all.narrow == 0 { "all its arithmetic is float".to_owned() } else { list })
    }

    /// By the steps that an operator can be told by.
    fn of_steps(&self, class: Class, steps: &'static [&'static str]) -> Shown {
        // Nodes are told by `of`, the steps that they have in common with this one.
        let (steps, of) = match self.count(Some(steps)) {
            found if found == Count::default() && steps == [MANY] => (&[FEW][..], &[FEW, MANY][..]),
            _ => (steps, steps),
        };
        let found = self.count(Some(steps));
        let shares =
            |node: &&&NodeAssignment| self::class(&node.op).steps().iter().any(|step| of.contains(step));
        let (pinned, narrow) = self.nodes(shares);
        let list = format!("its steps are {}", list(self.arithmetic, steps));
        let is_counted = |node: &&NodeAssignment| {
            steps.iter().all(|step| !may_bring(&node.op, step) || brings_one(&node.op, step))
        };
        match (found.wide, found.narrow) {
            // It does something else for this node, such as padding.
            (0, 0) => Shown::Nothing,
            (_, 0) => Shown::Wide(list),
            (0, n)
                if n > size(&narrow)
                    && narrow.iter().all(is_counted)
                    && !matches!(class, Class::Exact(_)) =>
            {
                Shown::Narrow(list)
            }
            (0, _) => Shown::Unclear(format!("{list}, which may be of other nodes")),
            _ if self.has_own(class, steps)
                && found.wide >= size(&pinned)
                && steps.iter().all(|step| self.is_accounted_for(step)) =>
            {
                Shown::Wide(format!("{list}; the float ones suffice for {} in FP32", pinned.len()))
            }
            _ => Shown::Unclear(list),
        }
    }

    /// Is there a float step that can be this node's? The first of those that an operator is told by is the one that it
    /// cannot go without. Sums over many elements are float in 16-bit nodes too, and tell nothing beside other steps.
    fn has_own(&self, class: Class, steps: &[&str]) -> bool {
        let but_sums: Vec<&str> = steps.iter().copied().filter(|step| *step != MANY).collect();
        matches!(class, Class::Exact(_))
            || !(self.count(Some(&steps[..1])).is_narrow() || self.count(Some(&but_sums)).is_narrow())
    }

    /// Where there are steps of this kind in 16 bits: were others meant to make them, so that none is left for this node?
    fn is_accounted_for(&self, step: &str) -> bool {
        let found = self.count(Some(&[step]));
        if found.narrow == 0 {
            return true;
        }
        // What is not known may have made those in float, and a product may be computed in another kernel.
        let is = |node: &NodeAssignment, what| class(&node.op) == what && may_bring(&node.op, step);
        let (pinned, _) = self.nodes(|node| brings(&node.op, step) || is(node, Class::Other));
        let (_, narrow) = self.nodes(|node| brings(&node.op, step));
        if narrow.is_empty()
            && !self.others.iter().any(|node| is_narrow_node(node) && is(node, Class::Product))
        {
            return false;
        }
        // A step for each of the others; or nobody else in FP32, who could have made those in float.
        if found.narrow <= size(&narrow) || pinned.len() <= 1 {
            return true;
        }
        // A step for each in FP32, if none makes several. An unrolled loop makes each several times.
        pinned.iter().all(|node| brings_one(&node.op, step)) && found.wide / self.unrolled() >= size(&pinned)
    }

    /// How often the kernel has each of its steps, if a loop of it was unrolled.
    fn unrolled(&self) -> u32 {
        fn gcd(a: u32, b: u32) -> u32 {
            if b == 0 { a } else { gcd(b, a % b) }
        }
        let counts = self.arithmetic.steps.values().flat_map(BTreeMap::values);
        counts.copied().reduce(gcd).unwrap_or(1).max(1)
    }

    /// What it adds up in, for a 16-bit product that was asked to add up in FP32; none if it computes no sums.
    pub(super) fn sums(&self) -> Option<(Verdict, String)> {
        let [mul, sum, add] = [MUL, MANY, FEW].map(|step| self.count(Some(&[step])));
        let is_long = sum != Count::default();
        // A sum of few has one `add` less than it has products; with a bias, it looks like one product.
        if mul == Count::default() || !(is_long || mul.narrow > add.narrow && add.narrow > 0) {
            return None;
        }
        let list = list(self.arithmetic, &[MUL, MANY, FEW]);
        let is_rounded = |step, found: Count| found.is_narrow() && !self.is_of_others(step);
        Some(if is_rounded(MUL, mul) || is_rounded(MANY, sum) {
            (Verdict::Demoted, format!("its products or sums are rounded to 16 bits: {list}"))
        } else if mul.narrow + sum.narrow == 0 && is_long && self.is_computed_here(sum) {
            (Verdict::Honoured, format!("its products and sums are float: {list}"))
        } else {
            (Verdict::Unknown, format!("its steps are {list}, which may be of other nodes"))
        })
    }

    /// Can steps of this kind in 16 bits be those of another node? One without a type, such as a QuantizeLinear, computes in
    /// that of what it reads.
    fn is_of_others(&self, step: &str) -> bool {
        self.others.iter().any(|node| node.of != Some(FloatType::Fp32) && may_bring(&node.op, step))
    }

    /// Are these float products this node's, since no other multiplies, or no other adds up?
    fn is_computed_here(&self, sum: Count) -> bool {
        let nobody_else = |step: &str| !self.others.iter().any(|node| may_bring(&node.op, step));
        nobody_else(MUL) || (sum.wide > 0 && nobody_else(MANY))
    }

    /// The nodes in FP32 and those in 16 bits of which this holds, this one among them.
    fn nodes(
        &self,
        holds: impl Fn(&&&NodeAssignment) -> bool,
    ) -> (Vec<&NodeAssignment>, Vec<&NodeAssignment>) {
        let all = self
            .others
            .iter()
            .chain([&self.node])
            .filter(|node| node.of.is_some())
            .filter(|node| holds(node));
        all.partition(|node| !is_narrow_node(node))
    }

    /// Steps of these kinds, or all of them.
    fn count(&self, steps: Option<&[&str]>) -> Count {
        let mut count = Count::default();
        for (step, by) in &self.arithmetic.steps {
            if steps.is_some_and(|steps| !steps.contains(&step.as_str())) {
                continue;
            }
            for (of, n) in by {
                count.wide += if is_wide(of) { *n } else { 0 };
                count.narrow += if is_narrow(of) { *n } else { 0 };
            }
        }
        count
    }
}

fn is_narrow_node(node: &NodeAssignment) -> bool {
    node.of.is_some_and(|of| of != FloatType::Fp32)
}

fn size(nodes: &[&NodeAssignment]) -> u32 {
    u32::try_from(nodes.len()).unwrap_or(u32::MAX)
}

/// Steps with how many of them are in which type: `add float 2, mul float 1, mul half 3`.
fn list(arithmetic: &Arithmetic, steps: &[&str]) -> String {
    let all = arithmetic.steps.iter().filter(|(step, _)| steps.contains(&step.as_str()));
    let all = all.flat_map(|(step, by)| by.iter().map(move |(of, n)| format!("{step} {of} {n}")));
    all.collect::<Vec<_>>().join(", ")
}
