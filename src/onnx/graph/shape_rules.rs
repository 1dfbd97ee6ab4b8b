//! What operators make of dimensions.

use super::super::tensor::MAX_RANK;
use super::shapes::{Dims, MAX_SHAPE_LEN, Shapes};
use super::view::{GraphView, NodeId};

/// The index of an axis that may count from the back.
pub(super) fn place(axis: i64, rank: usize) -> Option<usize> {
    let signed = i64::try_from(rank).ok()?;
    usize::try_from(if axis < 0 { axis.checked_add(signed)? } else { axis }).ok().filter(|i| *i < rank)
}

/// One node.
pub(super) struct Rule<'s, 'a> {
    pub(super) view: &'s GraphView<'a>,
    pub(super) shapes: &'s Shapes,
    pub(super) id: NodeId,
}

impl<'s> Rule<'s, '_> {
    pub(super) fn input(&self, i: usize) -> Option<&'s Dims> {
        self.shapes.dims[self.view.input(self.id, i)?.0].as_ref()
    }

    pub(super) fn values(&self, i: usize) -> Option<&'s Dims> {
        self.shapes.ints[self.view.input(self.id, i)?.0].as_ref()
    }

    /// Integers that older opsets have as an attribute, and newer ones as an input.
    pub(super) fn list(&self, attribute: &str, input: usize) -> Option<Vec<i64>> {
        match self.view.attribute(self.id, attribute) {
            Some(a) => Some(a.ints.clone()),
            None => self.values(input)?.iter().copied().collect(),
        }
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Option<i64> {
        self.view.int(self.id, name, default)
    }

    pub(super) fn dims(&self) -> Option<Dims> {
        let out = match self.view.op(self.id) {
            "Constant" => {
                let constant = self.view.constant(self.view.output(self.id, 0)?)?;
                constant.dims().into_iter().map(Some).collect()
            }
            "Shape" => vec![self.shape_of().and_then(|dims| i64::try_from(dims.len()).ok())],
            "Size" => Vec::new(),
            "Reshape" => self.reshape()?,
            "Expand" => {
                let target = self.target(1)?;
                broadcast(self.input(0)?, &target)?
            }
            "ConstantOfShape" => self.target(0)?,
            "Unsqueeze" => self.unsqueeze()?,
            "Squeeze" => self.squeeze()?,
            "Transpose" => {
                let dims = self.input(0)?;
                match self.view.attribute(self.id, "perm") {
                    Some(perm) => {
                        perm.ints.iter().map(|i| Some(dims[place(*i, dims.len())?])).collect::<Option<_>>()?
                    }
                    None => dims.iter().rev().copied().collect(),
                }
            }
            "Flatten" => self.flatten(),
            "Gemm" => {
                let axis = 1 - usize::from(self.int("transB", 0)? != 0);
                vec![None, self.input(1).and_then(|dims| *dims.get(axis)?)]
            }
            "MatMul" => self.matmul()?,
            "Concat" => self.concat()?,
            "Gather" => {
                let (data, indices) = (self.input(0)?, self.input(1)?);
                let axis = place(self.int("axis", 0)?, data.len())?;
                [&data[..axis], &indices[..], &data[axis + 1..]].concat()
            }
            "Slice" => self.slice()?,
            "Split" | "Pad" | "Tile" | "Resize" | "Upsample" => vec![None; self.input(0)?.len()],
            "Conv" | "ConvTranspose" => {
                let weights = self.input(1)?;
                let axis = usize::from(self.view.op(self.id) == "ConvTranspose");
                let mut dims = vec![None; weights.len()];
                *dims.get_mut(1)? = weights.get(axis).copied().flatten().filter(|_| axis == 0);
                *dims.get_mut(0)? = self.input(0).and_then(|x| *x.first()?);
                dims
            }
            "MaxPool" | "AveragePool" | "LpPool" => {
                let x = self.input(0)?;
                x.iter().enumerate().map(|(i, dim)| dim.filter(|_| i < 2)).collect()
            }
            "GlobalMaxPool" | "GlobalAveragePool" => {
                let x = self.input(0)?;
                x.iter().enumerate().map(|(i, dim)| if i < 2 { *dim } else { Some(1) }).collect()
            }
            "Where" => broadcast(&broadcast(self.input(0)?, self.input(1)?)?, self.input(2)?)?,
            "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "PRelu" | "Equal" | "Less" | "Greater"
            | "And" | "Or" => broadcast(self.input(0)?, self.input(1)?)?,
            "Max" | "Min" | "Sum" | "Mean" => {
                let count = self.view.node(self.id).inputs.len();
                (1..count).try_fold(self.input(0)?.clone(), |dims, i| broadcast(&dims, self.input(i)?))?
            }
            op if op.starts_with("Reduce") => self.reduce()?,
            op if keeps_shape(op) => self.input(0)?.clone(),
            _ => return None,
        };
        Some(out)
    }

    /// What a Shape gives: from opset 15 on it may be asked for some axes only.
    pub(super) fn shape_of(&self) -> Option<Dims> {
        let dims = self.input(0)?;
        let len = i64::try_from(dims.len()).ok()?;
        let clamp =
            |at: i64| usize::try_from(if at < 0 { at.saturating_add(len) } else { at }.clamp(0, len)).ok();
        let (start, end) = (clamp(self.int("start", 0)?)?, clamp(self.int("end", len)?)?);
        Some(dims.get(start..end).unwrap_or_default().to_vec())
    }

    /// The dimensions that a shape input asks for; only their number, if its elements are not known.
    fn target(&self, i: usize) -> Option<Dims> {
        let known = self.values(i).map(|dims| dims.iter().map(|dim| dim.filter(|d| *d >= 0)).collect());
        known.or_else(|| {
            let len = self.input(i)?.first().copied().flatten().filter(|len| *len <= MAX_SHAPE_LEN)?;
            Some(vec![None; usize::try_from(len).ok()?])
        })
    }

    fn reshape(&self) -> Option<Dims> {
        if let Some(shape) = self.view.attribute(self.id, "shape") {
            return Some(shape.ints.iter().map(|dim| Some(*dim).filter(|d| *d > 0)).collect());
        }
        // A zero takes the dimension of the input at the same place, unless it is to mean zero.
        let target = self.target(1)?;
        let data = self.input(0).filter(|_| self.int("allowzero", 0) == Some(0));
        let same = |i: usize| data.and_then(|data| *data.get(i)?);
        Some(target.iter().enumerate().map(|(i, dim)| if *dim == Some(0) { same(i) } else { *dim }).collect())
    }

    /// Two dimensions, whatever the input has.
    fn flatten(&self) -> Dims {
        let product =
            |dims: &[Option<i64>]| dims.iter().try_fold(1i64, |product, dim| product.checked_mul((*dim)?));
        let split = self.input(0).zip(self.int("axis", 1)).and_then(|(dims, axis)| {
            // All dimensions may come before the axis.
            let at =
                place(axis, dims.len()).or((axis == i64::try_from(dims.len()).ok()?).then_some(dims.len()))?;
            Some(dims.split_at(at))
        });
        split.map_or(vec![None, None], |(before, behind)| vec![product(before), product(behind)])
    }

    fn unsqueeze(&self) -> Option<Dims> {
        let (dims, axes) = (self.input(0)?, self.list("axes", 1)?);
        // Each axis is looked for among all others.
        let rank = Some(dims.len() + axes.len()).filter(|rank| *rank <= MAX_RANK)?;
        let axes = axes.iter().map(|axis| place(*axis, rank)).collect::<Option<Vec<_>>>()?;
        let mut rest = dims.iter();
        (0..rank).map(|i| if axes.contains(&i) { Some(Some(1)) } else { rest.next().copied() }).collect()
    }

    fn squeeze(&self) -> Option<Dims> {
        let (dims, axes) = (self.input(0)?, self.list("axes", 1)?);
        let axes = axes.iter().map(|axis| place(*axis, dims.len())).collect::<Option<Vec<_>>>()?;
        Some(dims.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, dim)| *dim).collect())
    }

    fn matmul(&self) -> Option<Dims> {
        let (a, b) = (self.input(0)?, self.input(1)?);
        if a.len() < 2 || b.len() < 2 {
            return None;
        }
        let (a, row) = a.split_at(a.len() - 2);
        let (b, column) = b.split_at(b.len() - 2);
        let mut dims = broadcast(a, b)?;
        dims.extend([row[0], column[1]]);
        Some(dims)
    }

    fn concat(&self) -> Option<Dims> {
        let count = self.view.node(self.id).inputs.len();
        let mut dims = self.input(0)?.clone();
        let axis = place(self.int("axis", 1)?, dims.len())?;
        for i in 1..count {
            let more = self.input(i).filter(|more| more.len() == dims.len());
            dims[axis] = match (dims[axis], more.and_then(|more| more[axis])) {
                (Some(a), Some(b)) => a.checked_add(b),
                _ => None,
            };
        }
        Some(dims)
    }

    fn slice(&self) -> Option<Dims> {
        let mut dims = self.input(0)?.clone();
        let starts = self.list("starts", 1);
        let ends = self.list("ends", 2);
        let axes = self.list("axes", 3);
        let whole = axes.is_none() && self.view.input(self.id, 3).is_none();
        let (Some(starts), Some(ends)) = (starts, ends) else { return Some(vec![None; dims.len()]) };
        let axes = match axes {
            Some(axes) => axes,
            None if whole => (0..i64::try_from(starts.len()).ok()?).collect(),
            None => return Some(vec![None; dims.len()]),
        };
        let stepped = self.view.input(self.id, 4).is_some()
            && self.values(4).is_none_or(|steps| steps.iter().any(|step| *step != Some(1)));
        for ((axis, start), end) in axes.iter().zip(&starts).zip(&ends) {
            let i = place(*axis, dims.len())?;
            dims[i] = dims[i].filter(|_| !stepped).map(|len| {
                let clamp = |at: i64| if at < 0 { at.saturating_add(len) } else { at }.clamp(0, len);
                (clamp(*end) - clamp(*start)).max(0)
            });
        }
        Some(dims)
    }

    fn reduce(&self) -> Option<Dims> {
        let dims = self.input(0)?;
        let keep = self.int("keepdims", 1)? != 0;
        let given = self.view.attribute(self.id, "axes").is_some() || self.view.input(self.id, 1).is_some();
        let axes = if given { self.list("axes", 1) } else { Some(Vec::new()) };
        let place = |axis: &i64| place(*axis, dims.len());
        let axes: Option<Vec<usize>> = match axes {
            Some(axes) if axes.is_empty() => {
                if self.int("noop_with_empty_axes", 0)? != 0 {
                    return Some(dims.clone());
                }
                Some((0..dims.len()).collect())
            }
            axes => axes.and_then(|axes| axes.iter().map(place).collect()),
        };
        let Some(axes) = axes else { return keep.then(|| vec![None; dims.len()]) };
        let dim = |(i, dim): (usize, &Option<i64>)| match axes.contains(&i) {
            true => keep.then_some(Some(1)),
            false => Some(*dim),
        };
        Some(dims.iter().enumerate().filter_map(dim).collect())
    }
}

/// Numpy's rule.
fn broadcast(a: &[Option<i64>], b: &[Option<i64>]) -> Option<Dims> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Option<i64>], i: usize| match (i + dims.len()).checked_sub(rank) {
        Some(i) => dims[i],
        None => Some(1),
    };
    let dim = |i: usize| match (at(a, i), at(b, i)) {
        (Some(1), other) | (other, Some(1)) => Some(other),
        (Some(a), Some(b)) if a != b => None,
        (Some(known), _) | (_, Some(known)) => Some(Some(known)),
        (None, None) => Some(None),
    };
    (0..rank).map(dim).collect()
}

/// Does the first output have the shape of the first input?
fn keeps_shape(op: &str) -> bool {
    const OPS: &[&str] = &[
        "Abs",
        "BatchNormalization",
        "Bernoulli",
        "Cast",
        "CastLike",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "CumSum",
        "DequantizeLinear",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "GroupNormalization",
        "HardSigmoid",
        "HardSwish",
        "Hardmax",
        "Identity",
        "InstanceNormalization",
        "IsInf",
        "IsNaN",
        "LayerNormalization",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "LpNormalization",
        "Mish",
        "Neg",
        "Not",
        "QuantizeLinear",
        "RMSNormalization",
        "Reciprocal",
        "Relu",
        "RotaryEmbedding",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "SimplifiedLayerNormalization",
        "Sin",
        "Softmax",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
        "Trilu",
    ];
    OPS.binary_search(&op).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_sorted_for_the_search() {
        assert!(keeps_shape("Abs") && keeps_shape("Trilu") && keeps_shape("InstanceNormalization"));
        assert!(!keeps_shape("Reshape"));
    }
}
