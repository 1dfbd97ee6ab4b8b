//! What operators make of shapes that are values: small integer vectors.

use super::super::proto::tensor_proto::DataType;
use super::shape_rules::{Rule, place};
use super::shapes::{Dims, MAX_SHAPE_LEN};

impl Rule<'_, '_> {
    /// The elements of a small integer vector that is computed from shapes.
    pub(super) fn ints(&self) -> Option<Dims> {
        const FLOAT: i64 = DataType::Float as i64;
        const INT32: i64 = DataType::Int32 as i64;
        const INT64: i64 = DataType::Int64 as i64;
        const DOUBLE: i64 = DataType::Double as i64;
        match self.view.op(self.id) {
            "Constant" => {
                let constant = self.view.constant(self.view.output(self.id, 0)?)?;
                let ints = constant.ints()?;
                (constant.dims().len() <= 1 && ints.len() <= 16).then(|| ints.into_iter().map(Some).collect())
            }
            "Shape" => self.shape_of(),
            // As booleans or bytes they would be others.
            "Cast" if !matches!(self.int("to", 0), Some(FLOAT | INT32 | INT64 | DOUBLE)) => None,
            "Cast" | "Identity" | "Unsqueeze" | "Squeeze" => self.values(0).cloned(),
            "Reshape" => self.values(0).filter(|values| values.len() == 1).cloned(),
            "Size" => {
                let size = self.input(0)?.iter().try_fold(1i64, |product, dim| product.checked_mul((*dim)?));
                size.map(|size| vec![Some(size)])
            }
            "Add" => self.elements(i64::checked_add),
            "Sub" => self.elements(i64::checked_sub),
            "Mul" => self.elements(i64::checked_mul),
            // Axes are counted from a rank; what is counted from constants is data, such as positions.
            "Range" if !self.view.is_constant(self.view.output(self.id, 0)?) => {
                let one = |i: usize| match self.values(i)?[..] {
                    [one] => one,
                    _ => None,
                };
                let (start, end) = (one(0)?, one(1)?);
                let fits = one(2) == Some(1) && (0..=MAX_SHAPE_LEN).contains(&end.checked_sub(start)?);
                fits.then(|| (start..end).map(Some).collect())
            }
            "ReduceProd" => {
                let all = self.values(0)?.iter().try_fold(1i64, |product, dim| product.checked_mul((*dim)?));
                // Of a vector, there is one axis to be had.
                let reduces = self.dims()?.iter().all(|dim| *dim == Some(1));
                all.filter(|_| reduces).map(|all| vec![Some(all)])
            }
            "Gather" => {
                let data = self.values(0)?;
                self.values(1)?.iter().map(|i| Some(data[place((*i)?, data.len())?])).collect()
            }
            "Slice" => {
                let data = self.values(0)?;
                let (starts, ends) = (self.list("starts", 1)?, self.list("ends", 2)?);
                let ([start], [end], None) = (&starts[..], &ends[..], self.view.input(self.id, 4)) else {
                    return None;
                };
                let len = i64::try_from(data.len()).ok()?;
                let clamp = |at: i64| if at < 0 { at.saturating_add(len) } else { at }.clamp(0, len);
                let (start, end) = (usize::try_from(clamp(*start)).ok()?, usize::try_from(clamp(*end)).ok()?);
                data.get(start..end).map(<[_]>::to_vec)
            }
            "Concat" => {
                let mut all = Vec::new();
                for i in 0..self.view.node(self.id).inputs.len() {
                    match (self.values(i), self.input(i).map(Vec::as_slice)) {
                        (Some(values), _) => all.extend_from_slice(values),
                        (None, Some([Some(len)])) if *len <= MAX_SHAPE_LEN => {
                            all.resize(all.len() + usize::try_from(*len).ok()?, None);
                        }
                        _ => return None,
                    }
                }
                (all.len() <= 16).then_some(all)
            }
            _ => None,
        }
    }

    /// Of two vectors of one length, or of which one is a number.
    fn elements(&self, f: fn(i64, i64) -> Option<i64>) -> Option<Dims> {
        let (a, b) = (self.values(0)?, self.values(1)?);
        let of = |a: &Option<i64>, b: &Option<i64>| f((*a)?, (*b)?);
        match (&a[..], &b[..]) {
            (all, [b]) => Some(all.iter().map(|a| of(a, b)).collect()),
            ([a], all) => Some(all.iter().map(|b| of(a, b)).collect()),
            (a, b) if a.len() == b.len() => Some(a.iter().zip(b).map(|(a, b)| of(a, b)).collect()),
            _ => None,
        }
    }
}
