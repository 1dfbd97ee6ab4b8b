//! Multiplications and additions of matrix products, from the shapes that values had.

use std::collections::BTreeMap;

use crate::onnx::Model;
use crate::onnx::graph::{GraphView, NodeId};

/// The matrix products of a model's main graph, by the names of their nodes.
pub(super) struct Products(BTreeMap<String, Product>);

/// One product: elements of a value times what each of them costs.
struct Product {
    /// The value whose elements are counted.
    of: String,
    /// What an element costs, if the weight says it.
    each: Option<i64>,
    /// Else the value whose axis says it, the axis counted from the back.
    length: Option<(String, usize)>,
}

impl Products {
    pub(super) fn of(model: &Model) -> Products {
        let view = GraphView::new(model.proto());
        let named = |(id, node): (NodeId, &crate::onnx::graph::Node<'_>)| {
            let product = Product::new(&view, id).filter(|_| node.scope == 0)?;
            Some((crate::onnx::node_name(node.proto), product))
        };
        Products(view.nodes().filter_map(named).collect())
    }

    /// What a node computes, given the shapes of all values; 0 if it is no product.
    pub(super) fn macs(&self, node: &str, shapes: &BTreeMap<String, Vec<i64>>) -> u64 {
        let macs = || -> Option<u64> {
            let product = self.0.get(node)?;
            let elements: i64 = shapes.get(&product.of)?.iter().product();
            let each = match (&product.each, &product.length) {
                (Some(each), _) => *each,
                (None, Some((value, from_back))) => {
                    let shape = shapes.get(value)?;
                    *shape.get(shape.len().checked_sub(*from_back)?)?
                }
                (None, None) => return None,
            };
            u64::try_from(elements.checked_mul(each)?).ok()
        };
        macs().unwrap_or(0)
    }
}

impl Product {
    fn new(view: &GraphView<'_>, id: NodeId) -> Option<Product> {
        let name = |i: usize| Some(view.value(view.input(id, i)?).name.to_owned());
        let weight = || -> Option<Vec<i64>> {
            let value = view.input(id, 1)?;
            let tensor = view.value(value).initializer.map(|tensor| tensor.dims.clone());
            tensor.or_else(|| Some(view.constant(value)?.dims()))
        };
        let output = view.value(view.output(id, 0)?).name.to_owned();
        let per_row =
            || weight().and_then(|dims| Some(dims.iter().product::<i64>() / (*dims.first()?).max(1)));
        let product = |of: String, each: Option<i64>| Product { of, each, length: None };
        Some(match view.op(id) {
            "MatMul" => {
                let each = weight().and_then(|dims| dims.get(dims.len().checked_sub(2)?).copied());
                Product { length: Some((name(0)?, 1)), ..product(output, each) }
            }
            "Gemm" => {
                let axis = usize::from(view.int(id, "transB", 0)? == 1);
                product(output, weight().and_then(|dims| dims.get(axis).copied()))
            }
            "Conv" => product(output, per_row()),
            "ConvTranspose" => product(name(0)?, per_row()),
            _ => return None,
        })
    }
}
