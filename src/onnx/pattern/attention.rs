//! `attention`: `MatMul(Softmax(MatMul(Q, Kᵀ) * scale + mask), V)`.
//!
//! | spelling | written by |
//! |---|---|
//! | Attention | opset 23 |
//! | Attention, MultiHeadAttention, GroupQueryAttention, … (com.microsoft) | ONNX Runtime's optimizer |
//! | Transpose, MatMul, Div by √d, Add mask, Softmax, MatMul | PyTorch: BERT, GPT-2 |
//! | Q and K both times `d^-¼`, or Q alone times `d^-½`, before the product | PyTorch's `scaled_dot_product_attention`, BART; PaddlePaddle |
//! | scores or query `* c + 0.0`, or times 1 | PaddlePaddle; PyTorch, of a model that scales by itself |
//! | times a learnt number of each head | Swin v2, XCiT, Restormer |
//! | a product of the query with constant positions beside that with the keys, in any order | Shaw's relative positions, BoTNet, SAM |
//! | mask by Where instead of Add; several masks; position bias added | GPT-2, DistilBERT, T5, Swin |
//! | Max behind the mask, Where around IsNaN behind the Softmax | OPT; PyTorch from 2.5 |
//! | Tanh between two scales | Gemma 2 |
//! | Reshape to three dimensions around the products, and back for the mask | BART, OPT |
//! | Cast around the Softmax; Dropout behind it | mixed-precision exports; exports in training mode |
//! | Einsum for the products | Flax, hand-written modules |
//! | a decomposed Softmax (see `softmax`) | JAX |
//!
//! The search starts at each Softmax over the last axis. Keys and values must not be constant: a classifier
//! whose Softmax feeds a MatMul with weights is no attention. Scaling of Q or K belongs to the scores
//! where nothing else reads it.

use std::collections::BTreeSet;

use super::super::graph::{NodeId, ValueId};
use super::explicit::{name, operator, single};
use super::graph::Graph;
use super::look::{Look, MAX_CHAIN};
use super::matched::{Attention, Kind, Match, Part};
use super::readers::Reader;
use super::softmax;
use super::trail::{Trail, describe};

/// How many operators may stand between the product and the Softmax.
const MAX_DEPTH: usize = 7;

/// How many products may lead to one Softmax.
const MAX_PRODUCTS: usize = 8;

pub(super) fn find(graph: &Graph) -> Vec<Match> {
    let decomposed = softmax::find(graph).into_iter().filter_map(|softmax| around(graph, &softmax));
    let explicit = graph.view.nodes().filter_map(|(id, _)| explicit(graph, id));
    decomposed.chain(explicit).collect()
}

fn explicit(graph: &Graph, id: NodeId) -> Option<Match> {
    // Where key, value and mask are among the inputs.
    let inputs = match operator(graph, id)?.as_str() {
        "Attention" => [Some(1), Some(2), Some(3)],
        "ms::MultiHeadAttention" => [Some(1), Some(2), Some(4)],
        "ms::GroupQueryAttention" => [Some(1), Some(2), None],
        "ms::Attention" | "ms::QAttention" => [None, None, Some(3)],
        "ms::PackedAttention" | "ms::PackedMultiHeadAttention" | "ms::DecoderMaskedMultiHeadAttention" => {
            [None; 3]
        }
        _ => return None,
    };
    let found = single(graph, id, Kind::Attention)?;
    let [key, value, mask] = inputs.map(|i| i.and_then(|i| name(graph, id, i)));
    let mut parts: [Vec<_>; 4] = std::array::from_fn(|_| found.nodes.clone());
    if mask.is_none() {
        parts[Part::Mask as usize].clear();
    }
    let attention = Attention { parts, key, value, masks: mask.into_iter().collect() };
    Some(Match { attention: Some(attention), ..found })
}

/// The nodes of each part, while they are collected.
#[derive(Clone, Debug, Default)]
struct Parts {
    nodes: [Vec<NodeId>; 4],
    masks: Vec<ValueId>,
}

impl Parts {
    fn add(&mut self, part: Part, nodes: &[NodeId]) {
        self.nodes[part as usize].extend(nodes);
    }
}

fn around(graph: &Graph, softmax: &Match) -> Option<Match> {
    // Where the rank is unknown, an axis of 2 or more is the last one of a batch of matrices.
    let last = matches!(softmax.axes[..], [-1])
        || softmax.rank.is_none() && matches!(softmax.axes[..], [axis] if axis >= 2);
    if !last {
        return None;
    }
    let view = graph.view;
    let nodes: Vec<NodeId> = softmax.nodes.iter().filter_map(|at| view.at(*at)).collect();
    let find = |name: &str| view.find(softmax.scope(), name);
    let (scores, weights) = (find(&softmax.input)?, find(&softmax.output)?);
    let mut t = Trail::at(graph, *nodes.first()?);
    t.nodes.clear();

    let constant = |t: &Trail, v: ValueId| view.is_constant(t.root_of(v, Look::Layout));
    // A product with weights is a position bias, beside that of query and key. Of several others, in whatever order
    // they are added, the nearest one is taken, then the first one in the file: SAM's biases of rows and columns are
    // added to each other first.
    let mut products = Vec::new();
    t.products_before(scores, MAX_DEPTH, &mut products);
    products.sort_by_key(|(product, parts)| (parts.nodes.iter().map(Vec::len).sum::<usize>(), *product));
    let (mut parts, [query, key]) = products.into_iter().find_map(|(product, mut parts)| {
        parts.add(Part::Softmax, &nodes);
        let [query, key] = t.operands(product, &mut parts)?;
        (!constant(&t, key)).then_some((parts, [query, key]))
    })?;
    let (context, value) = t.context(weights, &mut parts).filter(|(_, value)| !constant(&t, *value))?;

    let output = view.output(context, 0)?;
    let all: BTreeSet<NodeId> = parts.nodes.iter().flatten().copied().collect();
    let name = |v: ValueId| view.value(v).name.to_owned();
    let refs = |nodes: &Vec<NodeId>| {
        let sorted: BTreeSet<NodeId> = nodes.iter().copied().collect();
        sorted.into_iter().map(|node| view.node_ref(node)).collect()
    };
    let attention = Attention {
        parts: [&parts.nodes[0], &parts.nodes[1], &parts.nodes[2], &parts.nodes[3]].map(refs),
        key: Some(name(key)),
        value: Some(name(value)),
        masks: parts.masks.iter().map(|v| name(*v)).collect(),
    };
    let found = describe(view, Kind::Attention, &all, query, output);
    let (axes, rank) = (softmax.axes.clone(), softmax.rank);
    Some(Match { attention: Some(attention), axes, rank, ..found })
}

impl Trail<'_, '_, '_> {
    /// Is it a product of two matrices of activations?
    fn is_product(&self, node: NodeId) -> bool {
        match operator(self.graph, node).as_deref() {
            Some("MatMul" | "ms::FusedMatMul" | "ms::TransposeMatMul") => true,
            Some("Einsum") => {
                self.view().attribute(node, "equation").and_then(|a| a.s.as_deref()).is_some_and(is_matmul)
            }
            _ => false,
        }
    }

    /// The products that a value was made of by scaling and masking; the nodes from it to each.
    fn products_before(&mut self, v: ValueId, depth: usize, found: &mut Vec<(NodeId, Parts)>) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let mark = self.nodes.len();
        let v = self.strip(v, Look::Shapes);
        let view = self.view();
        let arithmetic = |node: &NodeId| matches!(self.graph.op(*node), "Add" | "Sub" | "Mul" | "Div");
        // `* 1.0` and `+ 0.0` belong to the scaling they were meant for.
        let between = self.nodes.split_off(mark);
        let (scaling, between): (Vec<NodeId>, Vec<NodeId>) = between.into_iter().partition(arithmetic);
        let node = self.producer(v)?;
        // What stands directly behind belongs to the next operator, or to the Softmax.
        let behind = |parts: &mut Parts| {
            parts.add(Part::Softmax, &between);
            parts.add(Part::Scores, &scaling);
        };
        if self.is_product(node) {
            let mut parts = Parts::default();
            behind(&mut parts);
            parts.add(Part::Scores, &[node]);
            found.push((node, parts));
            return Some(());
        }
        for (way, masks, part) in self.ways(node)? {
            if view.is_constant(way) || found.len() >= MAX_PRODUCTS {
                continue;
            }
            let first = found.len();
            self.products_before(way, depth, found);
            for (_, parts) in &mut found[first..] {
                // Casts that were thought to stand before the Softmax stand before this node.
                let before = std::mem::take(&mut parts.nodes[Part::Softmax as usize]);
                parts.add(part, &before);
                parts.add(part, &[node]);
                behind(parts);
                parts.masks.extend(&masks);
            }
        }
        Some(())
    }

    /// The operands of a node that may lead to the product; for each, what stands beside it, and what part that makes
    /// the node.
    fn ways(&self, node: NodeId) -> Option<Vec<(ValueId, Vec<ValueId>, Part)>> {
        let view = self.view();
        let (a, b, c) = (view.input(node, 0)?, view.input(node, 1), view.input(node, 2));
        Some(match self.graph.op(node) {
            "Add" | "Max" | "Min" => {
                let masks = |other: ValueId| if self.is_number(other) { vec![] } else { vec![other] };
                vec![(a, masks(b?), Part::Mask), (b?, masks(a), Part::Mask)]
            }
            "Mul" => {
                let beside = |other: ValueId| match self.is_scale(other) {
                    true => (vec![], Part::Scores),
                    false => (vec![other], Part::Mask),
                };
                let way = |v: ValueId, (masks, part): (Vec<ValueId>, Part)| (v, masks, part);
                vec![way(a, beside(b?)), way(b?, beside(a))]
            }
            "Sub" => vec![(a, vec![b?], Part::Mask)],
            "Div" if self.is_scale(b?) => vec![(a, vec![], Part::Scores)],
            "Where" => vec![(b?, vec![a], Part::Mask), (c?, vec![a], Part::Mask)],
            "Clip" => vec![(a, vec![], Part::Mask)],
            "Tanh" => vec![(a, vec![], Part::Scores)],
            _ => return None,
        })
    }

    /// Is it one number, known or not? `√d` is often computed from a shape.
    fn is_number(&self, v: ValueId) -> bool {
        self.graph.is_constant(v) && self.graph.scalar(v).is_some()
            || self.graph.shapes.dims(v).is_some_and(|dims| dims.iter().all(|dim| *dim == Some(1)))
    }

    /// One number, or a learnt one for each head.
    fn is_scale(&self, v: ValueId) -> bool {
        let of_head = |dims: &[Option<i64>]| matches!(dims, [.., Some(1), Some(1)]);
        self.is_number(v) || self.graph.is_constant(v) && self.graph.shapes.dims(v).is_some_and(of_head)
    }

    /// Query and key of the product, before they are scaled.
    fn operands(&mut self, product: NodeId, parts: &mut Parts) -> Option<[ValueId; 2]> {
        let view = self.view();
        let (query, key) = (view.input(product, 0)?, view.input(product, 1)?);
        Some([query, key].map(|v| match self.scaled(v) {
            Some((before, nodes)) => {
                parts.add(Part::Scores, &nodes);
                before
            }
            None => v,
        }))
    }

    /// What a value was before it was scaled for this product alone, and the nodes since.
    fn scaled(&self, v: ValueId) -> Option<(ValueId, Vec<NodeId>)> {
        let view = self.view();
        let (mut at, mut nodes, mut found) = (v, Vec::new(), None);
        for _ in 0..MAX_CHAIN {
            let alone = view.value(at).consumers.len() == 1 && !view.value(at).is_output;
            let Some(node) = self.producer(at).filter(|_| alone) else { break };
            nodes.push(node);
            let handed_on = self.graph.handed_on(node, Look::Layout);
            let scales = |v: &ValueId| self.is_scale(*v);
            let before = match (view.op(node), self.graph.operands(node)) {
                ("Mul", Some([a, b])) if scales(&b) => Some(a),
                ("Mul", Some([a, b])) if scales(&a) => Some(b),
                ("Div", Some([a, b])) if scales(&b) => Some(a),
                _ => None,
            };
            if let Some(before) = before {
                found = Some((before, nodes.clone()));
            }
            // Behind a scaling by 1, which PyTorch writes for one that a model does by itself, may stand that one.
            let Some(next) = handed_on else { break };
            at = next;
        }
        found
    }

    /// The product with the values.
    fn context(&mut self, weights: ValueId, parts: &mut Parts) -> Option<(NodeId, ValueId)> {
        let direct = self.product_after(weights, parts);
        direct.or_else(|| {
            // Rows that are masked as a whole are set to zero.
            let view = self.view();
            self.readers(weights, Look::Layout).into_iter().find_map(|reader| {
                let branches = [view.input(reader.node, 1)?, view.input(reader.node, 2)?];
                let zero = |v: &ValueId| self.graph.scalar(*v) == Some(0.0);
                let guard = view.op(reader.node) == "Where"
                    && branches.contains(&reader.via)
                    && branches.iter().any(zero);
                let out = view.output(reader.node, 0).filter(|_| guard)?;
                let mut with = parts.clone();
                with.add(Part::Softmax, &reader.path);
                with.add(Part::Softmax, &[reader.node]);
                let condition = view.input(reader.node, 0)?;
                let asks = self.producer(condition).filter(|node| view.op(*node) == "IsNaN");
                with.add(Part::Softmax, asks.as_slice());
                let found = self.product_after(out, &mut with)?;
                *parts = with;
                Some(found)
            })
        })
    }

    fn product_after(&self, weights: ValueId, parts: &mut Parts) -> Option<(NodeId, ValueId)> {
        let is_context = |reader: &Reader| self.is_product(reader.node) && self.beside(reader).is_some();
        let readers = self.readers(weights, Look::Layout).into_iter();
        let reader = readers.filter(is_context).min_by_key(|reader| reader.node)?;
        let value = self.beside(&reader)?;
        parts.add(Part::Context, &reader.path);
        parts.add(Part::Context, &[reader.node]);
        Some((reader.node, value))
    }
}

/// Two operands with an index that is summed away, and one of their own each: `bhqd,bhkd->bhqk`.
fn is_matmul(equation: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(equation) else { return false };
    let Some((inputs, output)) = text.split_once("->") else { return false };
    let operands: Vec<&str> = inputs.split(',').map(str::trim).collect();
    let [a, b] = operands[..] else { return false };
    let letters = |text: &str| text.chars().filter(char::is_ascii_alphabetic).collect::<BTreeSet<char>>();
    let (a, b, output) = (letters(a), letters(b), letters(output));
    let summed = a.intersection(&b).any(|letter| !output.contains(letter));
    let own = |x: &BTreeSet<char>, y: &BTreeSet<char>| x.difference(y).any(|letter| output.contains(letter));
    summed && own(&a, &b) && own(&b, &a)
}

#[cfg(test)]
mod tests {
    use super::is_matmul;

    #[test]
    fn einsum_products() {
        assert!(is_matmul(b"bhqd,bhkd->bhqk"));
        assert!(is_matmul(b"bqhd, bkhd -> bhqk"));
        assert!(is_matmul(b"...qk,...kd->...qd"));
        assert!(!is_matmul(b"bij,bij->bij"));
        assert!(!is_matmul(b"bij,bij"));
        assert!(!is_matmul(b"bij->bji"));
    }
}
